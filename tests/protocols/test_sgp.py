"""Push-sum and the protocols on it: mass is conserved or its loss is shown, and exact oracles."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from helpers.matrices import push_matrix
from helpers.models import model_of, start, values
from helpers.strategies import lossy_links, strongly_connected
from helpers.sums import totals
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pl_async.errors import DeviceFailed
from p2pl_async.hardware.downtime import CRASHED, Downtime
from p2pl_async.hardware.hardware import Hardware
from p2pl_async.link import LinkSettings
from p2pl_async.protocols.osgp import OSGP
from p2pl_async.protocols.pushing import Mass, Push
from p2pl_async.protocols.sgp import SGP
from p2pl_async.testing import FixedLearner, complete, emulate, ring

pytestmark = pytest.mark.usefixtures("inboxes_stay_open")

FORMS = [
    SGP(sync="none"),
    SGP(sync="none", mode={"kind": "barrier", "timeout": "300 ms"}),
    SGP(sync="none", mode="fresh"),
    SGP(sync="none", mode={"kind": "fresh", "wait": "200 ms"}),
    OSGP(sync="none", overlap=2),
    OSGP(sync="none", timeout="300 ms"),
]


# Exact oracles


@settings(max_examples=30)
@given(strongly_connected(), st.data())
def test_without_loss_or_latency_the_barrier_is_the_matrix_recursion(neighbors, data) -> None:
    n, eta = len(neighbors), 0.1
    x0 = start(n, seed=data.draw(st.integers(0, 99)))
    speeds = data.draw(st.lists(st.floats(0.1, 3), min_size=n, max_size=n))
    emulation = emulate(
        SGP(sync="none"),
        neighbors,
        learner=FixedLearner(x0, seconds=speeds, step=lambda k, w: w - eta * (w - k)),
        rounds=5,
    )
    p, x, u, ids = push_matrix(neighbors), np.stack(x0), np.ones((n, 1)), np.arange(n)[:, None]
    for _ in range(5):
        x = p @ (x - eta * (x / u - ids))
        u = p @ u
    np.testing.assert_allclose(values(emulation), x / u, atol=1e-12)
    np.testing.assert_allclose([device.state[0].u for device in emulation.devices], u[:, 0], atol=1e-12)


@settings(max_examples=10)
@given(st.sampled_from([ring(5), complete(4), [[1], [2], [0]]]), st.integers(0, 99))
def test_on_regular_graphs_the_push_weight_stays_one_and_sgp_is_d_psgd(neighbors, seed) -> None:
    n, eta = len(neighbors), 0.1
    x0 = start(n, seed=seed)
    emulation = emulate(
        SGP(sync="none"), neighbors, learner=FixedLearner(x0, step=lambda k, w: w - eta * (w - k)), rounds=6
    )
    w, p = np.stack(x0), push_matrix(neighbors)
    for _ in range(6):
        w = p @ (w - eta * (w - np.arange(n)[:, None]))
    np.testing.assert_allclose(values(emulation), w, atol=1e-12)
    assert all(device.state[0].u == pytest.approx(1, abs=1e-15) for device in emulation.devices)


@settings(max_examples=10)
@given(strongly_connected(min_size=3, max_size=5), st.integers(0, 99))
def test_the_mean_is_exact_on_any_directed_graph(neighbors, seed) -> None:
    x0 = start(len(neighbors), seed=seed)
    emulation = emulate(SGP(sync="none"), neighbors, learner=FixedLearner(x0), rounds=200)
    np.testing.assert_allclose(values(emulation), np.tile(np.mean(x0, axis=0), (len(x0), 1)), atol=1e-9)


# Invariants


@settings(max_examples=40)
@given(strongly_connected(), lossy_links(duplicate=False), st.sampled_from(FORMS), st.integers(0, 99), st.floats(1, 30))
def test_mass_is_conserved_however_late_and_disordered_the_pushes(neighbors, link, form, seed, until) -> None:
    """What devices hold, what is in flight and what nobody has read add up, less what was learned."""
    n, learned = len(neighbors), []

    def step(k, w):
        learned.append(0.1 * (k - w))
        return w + learned[-1]

    emulation = emulate(
        form,
        neighbors,
        link=link | {"loss": 0.0},
        learner=FixedLearner(start(n, seed=seed), step=step, seconds=[0.3 + 0.2 * k for k in range(n)]),
        seed=seed,
        until=until,
    )
    x, u = totals(emulation)
    np.testing.assert_allclose(x, np.sum(start(n, seed=seed), axis=0) + sum(learned), atol=1e-10)
    assert u == pytest.approx(n, abs=1e-10)


@settings(max_examples=40)
@given(strongly_connected(), lossy_links(), st.sampled_from(FORMS), st.integers(0, 99))
def test_without_gradients_models_stay_in_the_hull_whatever_is_lost_or_doubled(neighbors, link, form, seed) -> None:
    if getattr(form, "timeout", 1) is None or getattr(getattr(form, "mode", None), "timeout", 1) is None:
        link |= {"loss": 0.0}
    x0 = start(len(neighbors), seed=seed)
    emulation = emulate(form, neighbors, link=link, learner=FixedLearner(x0), seed=seed, until=20)
    z = values(emulation)
    assert (z >= np.min(x0, axis=0) - 1e-12).all()
    assert (z <= np.max(x0, axis=0) + 1e-12).all()
    assert all(device.state[0].u > 0 for device in emulation.devices)


def test_loss_takes_mass_away_and_duplicates_add_some() -> None:
    """Devices still agree, on another value than the mean."""
    x0 = start(5)
    found = {}
    links: dict[str, dict[str, Any]] = {"lost": {"loss": "10 %"}, "doubled": {"duplicate": 0.1}}
    for name, link in links.items():
        emulation = emulate(
            SGP(sync="none", mode={"kind": "barrier", "timeout": "100 ms"}),
            ring(5),
            link=link,
            learner=FixedLearner(x0),
            rounds=60,
        )
        found[name] = totals(emulation)[1]
        z = values(emulation)
        assert np.ptp(z, axis=0).max() < 1e-3
        assert np.abs(z.mean(axis=0) - np.mean(x0, axis=0)).max() > 0.01
    assert found["lost"] < 1
    assert found["doubled"] > 25


# Settings


def test_a_barrier_waits_and_overlap_hides_the_latency() -> None:
    def seconds(form) -> float:
        return emulate(form, ring(4), link={"latency": "2 s"}, learner=FixedLearner(start(4)), rounds=10).clock.now

    assert seconds(SGP(sync="none")) == pytest.approx(10 * (1 + 2))
    assert seconds(OSGP(sync="none", overlap=1)) == pytest.approx(15)  # two rounds every 1 + 2 s
    assert seconds(OSGP(sync="none", overlap=2)) == pytest.approx(10)
    assert seconds(SGP(sync="none", mode="fresh")) == pytest.approx(10)


def test_without_a_timeout_a_lost_push_costs_the_patience() -> None:
    """Nothing arrives: each device waits for the others until the patience is over, and then goes on alone."""
    for form in (SGP(sync="none", patience="7 s"), OSGP(sync="none", patience="7 s")):
        emulation = emulate(form, ring(4), link={"loss": "100 %"}, learner=FixedLearner(start(4)), until=27.5)
        rounds = 21 if form.kind == "sgp" else 22  # the first one that waits does so until 7 s have passed
        assert {device.round for device in emulation.devices} == {rounds}


def test_nothing_is_pushed_to_a_neighbor_that_is_gone() -> None:
    """Device 2 crashes for good: what it had is lost, and what was pushed to it then returns."""
    emulation = emulate(
        SGP(sync="none", mode="fresh", patience="3 s"),
        complete(3),
        learner=FixedLearner(start(3)),
        hardware=[Hardware(), Hardware(), Hardware(downtime=Downtime({CRASHED: [(10.5, math.inf)]}))],
        until=60,
    )
    left = sum(device.state[0].u for device in emulation.devices[:2])
    assert left == pytest.approx(2, abs=0.5)
    assert np.ptp([model_of(device) for device in emulation.devices[:2]], axis=0).max() < 1e-9


def test_a_push_that_comes_after_the_timeout_still_counts() -> None:
    late = lambda src, dst: LinkSettings.model_validate({"latency": "1.5 s" if src == 0 else "0 s"})  # noqa: E731
    emulation = emulate(
        SGP(sync="none", mode={"kind": "barrier", "timeout": "100 ms"}),
        ring(2),
        link=late,
        learner=FixedLearner([np.zeros(1), np.ones(1)]),
        rounds=3,
    )
    assert totals(emulation)[1] == pytest.approx(2, abs=1e-12)


def test_steps_of_local_training() -> None:
    asked: list[tuple[int | None, int | None]] = []

    class Spy(FixedLearner):
        async def train(self, device, w, epochs, steps, drift=None):
            asked.append((epochs, steps))
            return await super().train(device, w, epochs, steps, drift)

    for form in (SGP, OSGP):
        for how in ({}, {"steps": 3}):
            emulate(form(sync="none", **how), complete(2), learner=Spy(start(2)), rounds=1)
        assert asked == [(None, 1)] * 2 + [(None, 3)] * 2
        asked.clear()


def test_devices_agree_on_one_initial_model_first() -> None:
    x0 = start(4)
    largest = max(x0, key=np.linalg.norm)
    for form in (SGP, OSGP):
        emulation = emulate(form(), [[1], [2], [3], [0]], learner=FixedLearner(x0), rounds=1)
        np.testing.assert_allclose(values(emulation), np.tile(largest, (4, 1)), atol=1e-12)


def test_a_push_that_cannot_be_added_is_refused_and_counted() -> None:
    x0 = [np.zeros(4), np.full(4, np.nan), np.zeros(5), np.zeros(4, np.float32), np.ones(4)]
    refused: list[int] = []
    emulation = emulate(
        SGP(sync="none", mode={"kind": "barrier", "timeout": "100 ms"}),
        [[1], [0], [0], [0], [0]],
        learner=FixedLearner(x0),
        rounds=1,
        record=lambda k, metric, value: refused.append(k) if metric == "refused" else None,
    )
    np.testing.assert_allclose(model_of(emulation.devices[0]), 0.5)  # halves: own zeros, and the ones of device 4
    assert refused.count(0) == 3


def test_a_push_weight_of_no_weight_can_not_be_added() -> None:
    mass, heard = Mass(np.zeros(2), 1.0), np.zeros((1, 3), np.int64)
    assert mass.fits(Push(0, 0.5, np.ones(2), 1.0, heard))
    assert mass.fits(Push(0, 0.0, np.ones(0), 0.0, heard))
    assert not mass.fits(Push(0, 0.5, np.ones(2), 1.0, heard[0]))
    for u in (0.0, -1.0, math.nan, math.inf):
        assert not mass.fits(Push(0, u, np.ones(2), 1.0, heard))
        assert not mass.fits(Push(0, 1.0, np.ones(2), u, heard))


def test_a_device_without_mass_says_what_happened() -> None:
    """Everything it pushes is lost, and nothing can come in."""
    with pytest.raises(DeviceFailed, match=r'push weight fell to u=.*protocol "rasgp"'):
        emulate(
            SGP(sync="none", mode="fresh"),
            [[1], []],
            learner=FixedLearner(start(2)),
            rounds=200,
        )


@pytest.mark.parametrize("cls", [SGP, OSGP])
def test_steps_scaled_by_the_weight_stay_steps_where_little_weight_is_left(cls: type[SGP | OSGP]) -> None:
    """Device 0 gives away half of its weight in each round and gets none back; it wants 5."""

    def end(grad_scale: str) -> float:
        how = {"mode": "fresh"} if cls is SGP else {"timeout": "100 ms"}
        emulation = emulate(
            cls.model_validate({"sync": "none", "grad_scale": grad_scale, **how}),
            [[1], []],
            learner=FixedLearner([np.zeros(1)] * 2, gradient=lambda k, w: w - 5, learning_rate=0.3),
            rounds=25,
        )
        return float(values(emulation)[0][0])

    assert end("u") == pytest.approx(5.0, abs=1e-3)
    assert abs(end("one") - 5) > 100
