"""Worker processes: results are the same bits with any number of them, and none outlives its run."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.random_data import DATA
from helpers.small_worlds import small

from p2pl_async import run
from p2pl_async.learning.job import Job
from p2pl_async.learning.models import Mlp
from p2pl_async.learning.processes import WorkerProcesses
from p2pl_async.learning.settings import TrainSettings
from p2pl_async.learning.trainer import Trainer
from p2pl_async.learning.work import Work

MIXED = """
import torch
from torch import nn
from p2pl_async import Model
from width import WIDTH

class Net(nn.Module):
    def __init__(self, n_classes):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, WIDTH, 3), nn.BatchNorm2d(WIDTH)
        self.lstm, self.last = nn.LSTM(WIDTH * 6, 5), nn.Linear(5, n_classes)

    def forward(self, x):
        h = self.norm(self.conv(x.unsqueeze(1))).relu()
        steps, _ = self.lstm(h.permute(2, 0, 1, 3).flatten(2))
        return self.last(nn.functional.dropout(steps[-1], 0.2, self.training))

class Mixed(Model):
    def build(self, shape, n_classes):
        return Net(n_classes)
"""


class Seen:
    """What becomes of the workers of a run, which waits until all are ready."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.works = 0
        self.pids: list[int] = []
        self.on_work: Callable[[WorkerProcesses], object] = lambda workers: None
        start, submit, seen = WorkerProcesses.start, WorkerProcesses.submit, self

        def start_all(self: WorkerProcesses, *given: Any) -> int:
            size = start(self, *given)
            while not all(worker.ready for worker in self._workers):
                list(self.collect(wait=True))
            seen.pids = [worker.process.pid for worker in self._workers]
            return size

        def submitted(self: WorkerProcesses, work: Work) -> int | None:
            number = submit(self, work)
            if number is not None:
                seen.works += 1
                seen.on_work(self)
            return number

        monkeypatch.setattr(WorkerProcesses, "start", start_all)
        monkeypatch.setattr(WorkerProcesses, "submit", submitted)


def gone(pid: int) -> bool:
    """Tell whether a process has ended, within a moment, which may be long where others compute."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (OSError, IndexError):
            return True
        time.sleep(0.02)
    return False


@pytest.mark.slow
def test_a_run_with_two_workers_has_the_digests_of_one_without_though_one_is_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changes: dict[str, Any] = {"devices": {"count": 16}, "stop": {"rounds": 3}, "baselines": {"local": True}}
    alone = run(small(**changes)).summary
    seen = Seen(monkeypatch)

    def kill(workers: WorkerProcesses) -> None:
        if seen.works == 4:
            os.kill(workers._workers[0].process.pid, signal.SIGKILL)

    seen.on_work = kill
    with pytest.warns(RuntimeWarning, match="SIGKILL; its trainings are computed again, and another takes its place"):
        beside = run(small(**changes, train={"workers": 2})).summary
    assert seen.works > 6
    assert all(map(gone, seen.pids))
    for key in ("trace_digest", "params_digest", "accuracy", "training"):
        assert beside[key] == alone[key]
    assert beside["baselines"]["local"]["accuracy"] == alone["baselines"]["local"]["accuracy"]


@pytest.mark.slow
def test_another_worker_takes_the_place_of_a_dead_one_until_that_happens_too_often() -> None:
    def trainer(workers: WorkerProcesses | None) -> Trainer:
        parts = np.split(np.arange(40), 8)
        return Trainer(DATA, parts, Mlp(hidden=(6,)), TrainSettings(batch_size=4), 7, workers=workers)

    def registered(trainer: Trainer) -> list[Job]:
        return [trainer.job(device, trainer.initial_params(0), steps=2) for device in range(8)]

    def results(trainer: Trainer, jobs: list[Job]) -> list[Any]:
        trainer.compute(jobs)
        return [job.result for job in jobs]

    alone, workers = trainer(None), WorkerProcesses(1)
    beside = trainer(workers)
    pids = [workers._workers[0].process.pid]

    def kill() -> None:
        os.kill(pids[-1], signal.SIGKILL)
        with pytest.warns(RuntimeWarning, match="SIGKILL; .*, and another takes its place"):
            list(workers.collect(wait=True))
        pids.append(workers._workers[0].process.pid)

    try:
        kill()
        kill()
        while not workers.ready:
            list(workers.collect(wait=True))
        jobs = registered(beside)
        np.testing.assert_array_equal(results(beside, jobs), results(alone, registered(alone)))
        assert workers._number == 2  # works that the third one has computed
        os.kill(pids[-1], signal.SIGSTOP)  # so that it computes no more of them
        jobs = registered(beside)
        assert len(workers._workers[0].has) == 2
        os.kill(pids[-1], signal.SIGKILL)
        with pytest.warns(RuntimeWarning, match="its trainings are computed again, and another takes its place"):
            np.testing.assert_array_equal(results(beside, jobs), results(alone, registered(alone)))
        pids.append(workers._workers[0].process.pid)
        os.kill(pids[-1], signal.SIGKILL)
        with pytest.warns(RuntimeWarning, match="SIGKILL; .*, and training goes on in this process"):
            list(workers.collect(wait=True))
        assert not workers.ready
        np.testing.assert_array_equal(results(beside, registered(beside)), results(alone, registered(alone)))
    finally:
        workers.close()
    assert len(set(pids)) == 4
    assert all(map(gone, pids))


def test_training_goes_on_here_where_the_system_starts_no_other_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = WorkerProcesses(1)
    Trainer(DATA, np.split(np.arange(40), 8), Mlp(hidden=(6,)), TrainSettings(batch_size=4), 7, workers=workers)

    def full(*_: object, **__: object) -> None:
        raise BlockingIOError("Resource temporarily unavailable")

    try:
        monkeypatch.setattr("p2pl_async.learning.processes.subprocess.Popen", full)
        os.kill(workers._workers[0].process.pid, signal.SIGKILL)
        with pytest.warns(RuntimeWarning, match="SIGKILL; .*, and training goes on in this process"):
            list(workers.collect(wait=True))
        assert not workers.ready
    finally:
        workers.close()


@pytest.mark.slow
def test_a_model_of_ones_own_that_does_not_batch_has_the_same_digests_beside_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mixed.py").write_text(MIXED)
    (tmp_path / "width.py").write_text("WIDTH = 3\n")
    model = {"kind": f"{tmp_path / 'mixed.py'}:Mixed", "buffers": "local"}
    train: dict[str, Any] = {"momentum": 0.5, "momentum_across_rounds": "keep"}
    alone = run(small(model=model, train=train)).summary
    seen = Seen(monkeypatch)
    beside = run(small(model=model, train={**train, "workers": 1})).summary
    assert seen.works >= 15
    assert [beside[key] for key in ("trace_digest", "params_digest")] == [
        alone[key] for key in ("trace_digest", "params_digest")
    ]


PARENT = """
import os, signal, sys
from types import SimpleNamespace
import numpy as np
from p2pl_async.learning.processes import WorkerProcesses

x, y = np.zeros((4, 2), np.float32), np.zeros(4, np.int64)
data = SimpleNamespace(x_train=x, y_train=y, x_test=x, y_test=y, name="zeros", n_classes=2)
class Here:
    "Another process can't know this class."

recipe = SimpleNamespace(written=lambda: {"model": Here()}, settings=SimpleNamespace(precision="float32"))
workers = WorkerProcesses(2)
workers.start(recipe, data, SimpleNamespace(group=4, n_params=3, alone=False), 8)
print(*(worker.process.pid for worker in workers._workers), flush=True)
if sys.argv[1] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
while sys.argv[1] == "unfit" and workers._workers:
    list(workers.collect(wait=True))
workers.close()
"""


def parent(how: str) -> tuple[list[int], str]:
    """Start workers from a process of their own, which ends; return their ids and what was said."""
    command = [sys.executable, "-c", PARENT, how]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    return [int(pid) for pid in done.stdout.split()], done.stderr


@pytest.mark.parametrize("how", ["killed", "ended"])
def test_workers_end_with_the_process_that_started_them_even_if_it_is_killed(how: str) -> None:
    pids, said = parent(how)
    assert len(pids) == 2
    assert all(map(gone, pids))
    assert said == ""


def test_workers_that_cannot_make_the_model_are_told_of_and_leave_the_training_to_the_run() -> None:
    pids, said = parent("unfit")
    assert all(map(gone, pids))
    assert "a worker process can't make the model: AttributeError: Can't get attribute 'Here'" in said
    assert "training goes on in this process" in said


WAITING = """
import time
from pathlib import Path
from p2pl_async.protocols.p2pl import P2PL

class Waiting(P2PL):
    kind: str = "waiting"

    async def run(self, device):
        await device.train(device.initial_params())
        if device.id == 0:
            Path("here").touch()
            time.sleep(600)
"""
LONG = """
devices.count = 12
topology.kind = "ring"
data = { dataset = "digits" }
model = { kind = "mlp", hidden = [12] }
train.workers = 1
protocol.kind = "waiting.py:Waiting"
stop.rounds = 1000000
"""


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_ends_a_run_and_its_workers_in_order(tmp_path: Path) -> None:
    (tmp_path / "waiting.py").write_text(WAITING)
    (tmp_path / "s.toml").write_text(LONG)
    code = "import sys; from p2pl_async.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "run", "s.toml", "--out", "out", "--no-plots"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not (tmp_path / "here").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    workers = list(workers_of(process.pid))
    os.killpg(process.pid, signal.SIGINT)  # a terminal signals all processes of its group
    _, said = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "interrupted" in said
    assert "Traceback" not in said
    assert "Warning" not in said
    assert workers
    assert all(map(gone, workers))


def workers_of(pid: int) -> Iterator[int]:
    """Yield the workers that a process has started."""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with contextlib.suppress(OSError):
            if b"learning.worker" in Path(f"/proc/{child}/cmdline").read_bytes():
                yield int(child)
