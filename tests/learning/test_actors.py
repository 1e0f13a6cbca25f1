"""Training on Ray: the same digests as here, though an actor is lost; and what is refused."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from helpers.small_worlds import small

from p2pl_async import run
from p2pl_async.errors import ScenarioError
from p2pl_async.learning.settings import TrainSettings
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
    with pytest.warns(RuntimeWarning, match="a Ray actor ended, its trainings are computed again, and 1 are ready"):
        beside = run(small(**changes, train={"workers": 2, "on": "ray"})).summary
    assert works > 4
    assert not ray.is_initialized()
    for key in ("trace_digest", "params_digest", "training"):
        assert beside[key] == alone[key]


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
