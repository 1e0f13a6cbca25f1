"""Training on Ray: the same digests as here, though an actor is lost; and what is refused."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from helpers.random_data import DATA
from helpers.small_worlds import small

from p2pl_async import run
from p2pl_async.errors import ScenarioError
from p2pl_async.learning.models import Mlp
from p2pl_async.learning.settings import TrainSettings
from p2pl_async.learning.trainer import Trainer
from p2pl_async.learning.work import Work


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_a_run_on_a_real_ray_has_the_digests_of_one_here_though_an_actor_is_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ray = pytest.importorskip("ray", reason="needs the extra `ray`")
    from p2pl_async.learning.actors import RayActors

    works = 0
    start, submit = RayActors.start, RayActors.submit

    def start_all(self: RayActors, *given: Any) -> int:
        size = start(self, *given)
        while self._begun:
            self.collect(wait=True)
        return size

    def submitted(self: RayActors, work: Work) -> int | None:
        nonlocal works
        number = submit(self, work)
        works += number is not None
        if works == 3:
            ray.kill(self._actors[0])
        return number

    monkeypatch.setattr(RayActors, "start", start_all)
    monkeypatch.setattr(RayActors, "submit", submitted)
    changes: dict[str, Any] = {"devices": {"count": 16}, "stop": {"rounds": 3}}
    alone = run(small(**changes)).summary
    with pytest.warns(
        RuntimeWarning, match="a Ray actor ended, its trainings are computed again, and another takes its place"
    ):
        beside = run(small(**changes, train={"workers": 2, "on": "ray"})).summary
    assert works > 4
    assert not ray.is_initialized()
    for key in ("trace_digest", "params_digest", "training"):
        assert beside[key] == alone[key]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_another_actor_takes_the_place_of_a_lost_one_until_that_happens_too_often() -> None:
    ray = pytest.importorskip("ray", reason="needs the extra `ray`")
    from p2pl_async.learning.actors import RayActors

    def trainer(workers: RayActors | None) -> Trainer:
        parts = np.split(np.arange(40), 8)
        return Trainer(DATA, parts, Mlp(hidden=(6,)), TrainSettings(batch_size=4), 7, workers=workers)

    def results(trainer: Trainer) -> list[Any]:
        jobs = [trainer.job(device, trainer.initial_params(0), steps=2) for device in range(8)]
        trainer.compute(jobs)
        return [job.result for job in jobs]

    alone, actors = trainer(None), RayActors(1, None)
    try:
        beside = trainer(actors)
        for left in (*["another takes its place"] * 3, "training goes on in this process"):
            while not actors.ready:
                list(actors.collect(wait=True))
            before = actors._number
            np.testing.assert_array_equal(results(beside), results(alone))
            assert actors._number == before + 2  # works that the actor of now has computed
            (actor,) = actors._actors
            reference = actor.compute.remote(None)
            actors._has[reference] = 0, actor
            ray.kill(actor)
            with pytest.warns(RuntimeWarning, match=f"a Ray actor ended, .*, and {left}"):
                list(actors.collect(wait=True))
        assert not actors.ready
        np.testing.assert_array_equal(results(beside), results(alone))
    finally:
        actors.close()


def test_a_missing_ray_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ScenarioError, match=r"train.on\n *needs the package ray: pip install 'p2pl-async\[ray\]'"):
        run(small(train={"workers": 1, "on": "ray"}))


@pytest.mark.parametrize(
    ("train", "text"),
    [
        ({"on": "slurm", "workers": 2}, 'must be "local", "ray" or "ray://host:port"'),
        ({"on": "ray"}, "needs a number of workers; write workers = 4"),
        ({"on": "ray://a:1", "workers": "auto"}, "needs a number of workers; write workers = 4"),
    ],
)
def test_places_that_make_no_sense_are_refused(train: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        TrainSettings(**train)
