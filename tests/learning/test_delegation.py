"""Jobs that others compute: when they set out, what they start from, and who computes them in the end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, cast

import numpy as np
import pytest
from torch import nn

from p2pl_async.basics import machine
from p2pl_async.learning.data import Dataset
from p2pl_async.learning.models import Cnn, Lstm, Mlp, Model
from p2pl_async.learning.processes import WorkerProcesses
from p2pl_async.learning.settings import TrainSettings
from p2pl_async.learning.stacked import Engine, Trained
from p2pl_async.learning.trainer import Trainer
from p2pl_async.learning.work import Recipe, Work, jobs_in_work
from p2pl_async.scenario.building import event_warnings

RANDOM = np.random.default_rng(3)
DATA = Dataset(
    "random",
    RANDOM.random((60, 4, 4), np.float32), RANDOM.integers(3, size=60),
    RANDOM.random((10, 4, 4), np.float32), RANDOM.integers(3, size=10), 3,
)  # fmt: skip
DEVICES = 10


class Dropping(Model):
    """A model that draws random numbers, has a buffer that stays on the device, and one at a time is computed."""

    kind: Literal["dropping"] = "dropping"
    buffers: Literal["average", "local"] = "local"

    def build(self, shape: tuple[int, ...], n_classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16), nn.Dropout(0.3), nn.Linear(16, n_classes))


MODELS = [Mlp(hidden=(6,)), Dropping(), Cnn(channels=(2,), norm="batch"), Lstm(hidden=5)]


class Others:
    """Workers in this process: they compute when asked for results, the last work first, some of them in vain.

    Their engines compute up to `group` jobs at once, where a work has up to 8.
    """

    def __init__(self, vain: Callable[[int], bool] = lambda number: False, most: int = 2, group: int = 128) -> None:
        self.given: list[Work] = []
        self.ready = True
        self._waiting: list[tuple[int, Work]] = []
        self._vain, self._most, self._group = vain, most, group

    def due(self, seconds: float) -> bool:
        return True

    def start(self, recipe: Recipe, dataset: Dataset, engine: Engine, devices: int) -> int:
        self._engine = recipe.engine(dataset)
        self._engine.group = min(self._engine.group, self._group)
        return 1 if engine.alone else 8

    def submit(self, work: Work) -> int | None:
        if len(self._waiting) == self._most:
            return None
        self.given.append(work)
        self._waiting.append((len(self.given), work))
        return len(self.given)

    def collect(self, *, wait: bool) -> Iterable[tuple[int, Trained | None]]:
        if wait:
            number, work = self._waiting.pop()
            yield number, None if self._vain(number) else work.compute(self._engine)


SIZES = [3, 8, 6, 6, 8, 4, 7, 6, 10, 2]


def made(model: Model, workers: Others | None, **settings: Any) -> Trainer:
    parts = np.split(np.arange(60), np.cumsum(SIZES)[:-1])
    return Trainer(DATA, parts, model, TrainSettings(batch_size=4, **settings), 7, workers=workers)


def ends(trainer: Trainer) -> list[np.ndarray]:
    """Return all results of three rounds, in which one device gives up, one crashes, and one trains twice at a time."""
    w = [trainer.initial_params(device) for device in range(DEVICES)]
    found = []
    for number in range(3):
        jobs = [trainer.job(device, w[device], steps=1 + device % 3) for device in range(DEVICES)]
        jobs.append(trainer.job(2, w[3], steps=2, drift=w[4] - w[3]))
        if number == 1:
            jobs = [job for job in jobs if job.device not in (4, 5)]
            trainer.forget(5)
            jobs.append(trainer.job(5, w[5], steps=2))
        trainer.compute(jobs)
        for job in reversed(jobs):  # not in their order: whoever needs a result waits for it
            trainer.land(job)
            assert job.result is not None
            w[job.device] = job.result
            found.append(job.result)
    found.extend(np.concatenate([v.ravel() for v in tensors.values()]) for _, tensors in trainer.tensors(enumerate(w)))
    return found


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.kind)
@pytest.mark.parametrize("across", ["keep", "reset"])
def test_results_are_the_same_bits_whoever_computes_them(model: Model, across: Any) -> None:
    how = {"momentum": 0.9, "momentum_across_rounds": across}
    expected = ends(made(model, None, **how))
    for workers in (Others(), Others(vain=lambda number: number % 2 == 0), Others(most=100, group=3)):
        found = ends(made(model, workers, **how))
        assert workers.given
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_job_sets_out_before_anyone_asks_for_it_once_there_are_enough_of_its_kind() -> None:
    workers = Others()
    trainer = made(Mlp(hidden=(6,)), workers)
    w = trainer.initial_params(0)
    jobs = [trainer.job(device, w, steps=1) for device in range(7)]
    assert workers.given == []
    gradient = trainer.gradient_job(9, w)
    jobs.append(trainer.job(7, w, steps=3))
    assert [len(work.params) for work in workers.given] == [8]
    assert len(workers.given[0].batches[0]) == 3  # those with more steps come first
    trainer.compute([*jobs, gradient])
    assert [work.gradient for work in workers.given] == [False, True]


def test_gradients_are_the_same_bits_where_a_worker_computes_them_in_parts() -> None:
    found = []
    for workers in (None, Others(group=3)):
        trainer = made(Mlp(hidden=(6,)), workers)
        jobs = [trainer.gradient_job(device, trainer.initial_params(device)) for device in range(8)]
        trainer.compute(jobs)
        found.append([job.result for job in jobs])
        assert workers is None or [len(work.params) for work in workers.given] == [8]
    np.testing.assert_array_equal(found[0], found[1])


@pytest.mark.parametrize(
    ("engine", "devices", "workers", "jobs"),
    [
        ({"group": 128, "n_params": 50_000}, 100, 2, 8),
        ({"group": 2, "n_params": 200_000}, 100, 2, 8),  # whatever is computed at once
        ({"group": 1, "n_params": 700_000}, 100, 2, 2),  # so that trays stay small
        ({"group": 1, "n_params": 3_000_000}, 100, 2, 1),
        ({"group": 4, "n_params": 3_000_000}, 100, 2, 4),
        ({"group": 1, "n_params": 50_000, "alone": True}, 100, 2, 1),
        ({"group": 128, "n_params": 50_000}, 10, 2, 3),  # so that each worker has some
        ({"group": 128, "n_params": 50_000}, 10, 8, 2),
    ],
)
def test_a_work_has_eight_jobs_or_fewer_where_models_are_large_or_devices_few(
    engine: dict[str, Any], devices: int, workers: int, jobs: int
) -> None:
    made = cast("Engine", SimpleNamespace(**{"alone": False, **engine}))
    assert jobs_in_work(made, devices, workers) == jobs


def test_a_job_that_is_not_computed_yet_has_no_result_though_a_worker_has_it() -> None:
    workers = Others()
    trainer = made(Mlp(hidden=(6,)), workers)
    w = trainer.initial_params(0)
    jobs = [trainer.job(device, w, steps=1) for device in range(8)]
    assert workers.given
    assert [job.result for job in jobs] == [None] * 8
    trainer.compute(jobs)
    assert all(job.result is not None for job in jobs)


def test_what_no_worker_has_begun_is_computed_here_while_others_are_waited_for() -> None:
    workers = Others(most=1)
    trainer = made(Mlp(hidden=(6,)), workers)
    jobs = [trainer.job(device % DEVICES, trainer.initial_params(0), steps=1) for device in range(32)]
    trainer.compute(jobs)
    assert jobs[0].result is not None
    assert len(workers.given) < 4
    assert all(job.result is not None for job in jobs)


def test_workers_that_are_gone_leave_all_to_this_process() -> None:
    workers = Others()
    trainer = made(Mlp(hidden=(6,)), workers)
    workers.ready = False
    job = trainer.job(0, trainer.initial_params(0), steps=1)
    trainer.compute([job])
    assert job.result is not None
    assert workers.given == []


def test_a_device_that_is_alone_has_no_workers() -> None:
    workers = Others()
    trainer = Trainer(DATA, [np.arange(60)], Mlp(hidden=(6,)), TrainSettings(), 7, workers=workers)
    job = trainer.job(0, trainer.initial_params(0), steps=1)
    trainer.compute([job])
    assert job.result is not None
    assert workers.given == []


def test_a_baseline_takes_over_workers_that_still_have_works_of_the_run_before() -> None:
    workers = Others(most=100)
    first, second = (made(Mlp(hidden=(6,)), workers) for _ in range(2))
    for device in range(8):
        first.job(device, first.initial_params(0), steps=1)
    assert len(workers.given) == 1
    jobs = [second.job(device, second.initial_params(0), steps=1) for device in range(8)]
    second.compute(jobs)
    assert all(job.result is not None for job in reversed(jobs))
    assert len(workers.given) == 2


def test_auto_waits_for_ten_seconds_of_training_and_for_idle_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    auto = WorkerProcesses("auto")
    monkeypatch.setattr(machine.IdleCores, "count", lambda _: 3)
    assert not auto.due(9.0)
    assert auto.due(11.0)
    monkeypatch.setattr(machine.IdleCores, "count", lambda _: 0)
    assert not auto.due(11.0)
    assert WorkerProcesses(1).due(0.0)


@pytest.mark.parametrize(
    ("cores", "others", "idle"),
    [
        (8, 0.0, 7),
        (8, 0.1, 7),
        (8, 0.5, 6),
        (8, 3.1, 4),
        (8, 7.0, 0),
        (8, 9.0, 0),
        (1, 0.0, 0),
        (2, 0.0, 1),
        (2, 1.0, 0),
    ],
)
def test_cores_are_idle_that_others_left_so(
    cores: int, others: float, idle: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = machine._Used(wall=100.0, own=3.0, all=900.0)
    monkeypatch.setattr(machine, "cores", lambda: cores)
    monkeypatch.setattr(machine, "_used", lambda: used)
    found = machine.IdleCores()
    used = machine._Used(wall=104.0, own=7.0, all=904.0)
    assert found.count() == 0  # not known so soon
    used = machine._Used(wall=110.0, own=18.0, all=915.0 + 10 * others)  # 1.5 cores were used by this process
    assert found.count() == idle
    used = machine._Used(wall=120.0, own=18.0, all=915.0 + 10 * others + 10 * cores)  # then others took all of them
    assert found.count() == 0


def test_nothing_is_idle_where_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_WINDOW", 0.0)
    monkeypatch.setattr(machine, "_busy_seconds", lambda: math.inf)
    monkeypatch.setattr(machine, "cores", lambda: 8)
    assert machine.IdleCores().count() == 0


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="Linux says what its cores have done")
def test_the_system_counts_what_this_process_uses() -> None:
    before = machine._used()
    while time.process_time() < before.own + 0.2:
        pass
    after = machine._used()
    assert after.all - before.all > 0.1
    assert after.all - before.all < (after.wall - before.wall + 0.1) * machine.cores()


def test_more_workers_than_cores_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_warnings, "cores", lambda: 4)
    assert [event_warnings.warn_of_workers(count) for count in (0, 4, "auto")] == [[], [], []]
    assert event_warnings.warn_of_workers(5) == [
        "train.workers = 5 is more than the 4 cores here, which makes training slower, not faster"
    ]


@pytest.mark.parametrize("count", [1, "auto"])
def test_workers_and_a_gpu_exclude_each_other(count: Any) -> None:
    with pytest.raises(ValueError, match="compute on CPU cores; write accelerator"):
        TrainSettings(workers=count, accelerator="cuda")


def test_recipes_are_read_as_they_were_written() -> None:
    recipe = Recipe(Cnn(channels=(3, 2)), 5, TrainSettings(clip=2.0, loss="squared"), 4, lone=False, one_rate=True)
    assert Recipe.read(recipe.written()) == recipe
