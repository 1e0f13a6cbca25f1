"""ASY-SONATA: its recursion, what its trackers add up to on any links, and the exact minimum."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers.bowls import DIRECTED, BowlLearner
from helpers.mass_world import TrackerWorld
from helpers.matrices import push_matrix
from helpers.models import model_of, start, values
from helpers.strategies import lossy_links, strongly_connected, undirected
from helpers.sums import tracked_total
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pl_async.protocols.asy_sonata import AsySonata
from p2pl_async.protocols.tracking import Flow, Tracked, Tracker
from p2pl_async.testing import FixedLearner, emulate, ring

pytestmark = pytest.mark.usefixtures("inboxes_stay_open")

PATIENT = {"kind": "cache", "wait": "300 ms"}


@settings(max_examples=20)
@given(strongly_connected(), st.integers(0, 99))
def test_in_lockstep_it_is_the_matrix_recursion(neighbors, seed) -> None:
    n, eta = len(neighbors), 0.02
    x0 = start(n, seed=seed)
    emulation = emulate(
        AsySonata(sync="none", mode=PATIENT), neighbors, learner=BowlLearner(x0, learning_rate=eta), rounds=6
    )
    p, ids = push_matrix(neighbors), np.arange(n)[:, None]
    w = (p > 0) / (p > 0).sum(axis=1, keepdims=True)
    x = np.stack(x0)
    g = y = (1 + ids) * (x - ids)
    mixed = y  # nothing was promised yet
    for _ in range(6):
        x = w @ (x - eta * y)
        new = (1 + ids) * (x - ids)
        y, g = mixed + new - g, new
        mixed = p @ y
    np.testing.assert_allclose(values(emulation), x, atol=1e-10)


@settings(max_examples=30)
@given(
    strongly_connected(),
    lossy_links(max_loss=0.9),
    st.sampled_from([AsySonata(sync="none"), AsySonata(sync="none", mode=PATIENT)]),
    st.integers(0, 99),
    st.integers(2, 20),
)
def test_trackers_with_what_is_owed_add_up_to_the_latest_gradients(neighbors, link, form, seed, until) -> None:
    n = len(neighbors)
    learner = BowlLearner(start(n, seed=seed), seconds=[0.3 + 0.1 * k for k in range(n)], learning_rate=0.005)
    emulation = emulate(form, neighbors, link=link, learner=learner, seed=seed, until=until)
    trackers = {device.id: device.state[0] for device in emulation.devices}
    np.testing.assert_allclose(tracked_total(trackers), sum(learner.latest.values()), atol=1e-8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@settings(max_examples=15, deadline=None)
@given(undirected(max_size=5), st.integers(0, 10**6))
def test_trackers_add_up_to_the_gradients_of_those_present_through_crashes_and_partitions(
    dtype, neighbors, seed
) -> None:
    """At every instant, to 1e-9 in single precision too; and once all is quiet, all hold the same, but for degrees."""
    random = np.random.default_rng(seed)
    world = TrackerWorld(neighbors, random, dtype)
    loss, repeat, wait = random.choice([0, 0.3, 0.6]), random.choice([0, 0.3]), random.choice([0, 0.5, 0.9])
    for _ in range(100):
        world.storm()
        world.deliver(loss, repeat, wait)
        world.check()
    world.calm()
    for _ in range(200):
        world.now += 1
        for k in range(len(neighbors)):
            world.round(k, step=0)
        world.deliver(0, 0, 0)
        share = np.stack([world.up[k].direction / (1 + len(neighbors[k])) for k in range(len(neighbors))])
        if np.ptp(share, axis=0).max() < (1e-9 if dtype is np.float64 else 1e-4):
            break
    world.check()
    assert all(flow.open for tracker in world.up.values() for flow in tracker.flows.values())
    np.testing.assert_allclose(share, np.broadcast_to(share.mean(axis=0), share.shape), atol=1e-4)


def test_the_minimum_is_exact_though_links_are_one_way_and_lose_a_third() -> None:
    learner = BowlLearner([np.zeros(1)] * 4, seconds=[1.0, 1.3, 0.8, 1.1], learning_rate=0.03)
    emulation = emulate(
        AsySonata(sync="none"),
        DIRECTED,
        link={"latency": "200 ms", "loss": "33 %", "duplicate": 0.2},
        learner=learner,
        until=800,
    )
    np.testing.assert_allclose(values(emulation), np.average(range(4), weights=[1, 2, 3, 4]), atol=1e-8)


def test_in_single_precision_it_ends_within_a_few_roundings_of_the_minimum() -> None:
    centers, slopes = (
        np.random.default_rng(1).normal(size=(4, 20)).astype(np.float32),
        np.arange(1, 5, dtype=np.float32),
    )
    learner = FixedLearner(
        [np.zeros(20, np.float32)] * 4,
        seconds=[1.0, 1.3, 0.8, 1.1],
        learning_rate=0.03,
        gradient=lambda k, w: slopes[k] * (w - centers[k]),
    )
    link = {"latency": "200 ms", "loss": "33 %", "duplicate": 0.2}
    found = values(emulate(AsySonata(sync="none"), DIRECTED, link=link, learner=learner, until=1500))
    minimum = np.average(centers, axis=0, weights=slopes)
    np.testing.assert_allclose(found, np.tile(minimum, (4, 1)), atol=1e-6)


def test_the_pass_that_adds_up_gives_what_the_plain_formula_gives() -> None:
    """Over several blocks, with two groups of links, one of which has left: y = g + taken - promised, (y / 3) more."""
    n = 70_000
    random = np.random.default_rng(2)
    g, *sums = random.normal(size=(5, n)) * np.array([[1], *[[1e4]] * 4])
    g = g.astype(np.float32)
    sent: list[tuple[Any, Tracked]] = []
    device: Any = SimpleNamespace(
        id=0, boots=0, round=0, now=0.0, all_in_neighbors=(1, 2, 3), all_out_neighbors=(1, 2, 3), in_neighbors=(1, 2),
        out_neighbors=(1, 2), used=lambda messages: None, send=lambda *what: sent.append(what),
    )  # fmt: skip
    silence: Any = SimpleNamespace(has=lambda j: False, is_over=lambda j, since: False)
    tracker = Tracker(device, g, silence)
    for j in (1, 2, 3):
        tracker.flows[j] = Flow(is_open=True)
        tracker.flows[j].taken, tracker.flows[j].promised = sums[j - 1], sums[0] if j == 3 else sums[3]
    tracker.take_and_push([], g)
    exact = sums
    y = g + exact[0] + exact[1] + exact[2] - exact[0] - 2 * exact[3]
    np.testing.assert_allclose(tracker.direction, y, rtol=1e-7, atol=1e-10)
    assert not tracker.flows[3].apart
    ((targets, message),) = sent
    assert targets == [1, 2]
    np.testing.assert_allclose(message.y, exact[3] + y / 3, atol=1e-10)  # sums grow with time: float64
    np.testing.assert_allclose(tracker.y, y - 2 * (message.y - exact[3]), atol=1e-10)


def test_it_waits_for_nobody_and_agrees_on_one_initial_model() -> None:
    x0 = start(4)
    for mode, seconds in (("cache", 11.0), (PATIENT, 14.0)):  # a gradient to begin with, and one a round
        form = AsySonata(sync="none", mode=mode)
        found = emulate(form, ring(4), link={"latency": "2 s"}, learner=FixedLearner(x0), rounds=10)
        assert found.clock.now == pytest.approx(seconds)
    emulation = emulate(AsySonata(), ring(4), learner=FixedLearner(x0), rounds=1)
    np.testing.assert_allclose(values(emulation), np.tile(max(x0, key=np.linalg.norm), (4, 1)), atol=1e-12)


def test_copies_that_are_too_old_are_left_out() -> None:
    """Its neighbor spoke once, long ago: whoever mixes old copies is held back by it."""
    found = {}
    for max_age in (0, None):
        mode = {"kind": "cache"} | ({} if max_age is None else {"max_age": max_age})
        emulation = emulate(
            AsySonata(sync="none", mode=mode, patience="200 s"),
            ring(2),
            learner=FixedLearner([np.zeros(1), np.full(1, 8.0)], seconds=[1.0, 50.0]),
            link={"latency": "60 s"},
            until=120.5,
        )
        found[max_age] = float(model_of(emulation.devices[0])[0])
    assert found[0] == 4.0
    assert found[None] == pytest.approx(8.0, abs=0.1)


@given(
    st.lists(st.lists(st.sampled_from([0.0, 1.0, -2e38, 3e38, -3.3e38, np.inf, np.nan]), min_size=3, max_size=3),
             min_size=1, max_size=4)
)  # fmt: skip
def test_sums_are_taken_as_long_as_the_tracker_is_finite_in_single_precision(sums: list[list[float]]) -> None:
    refused: list[str] = []
    device: Any = SimpleNamespace(
        id=0, boots=0, all_in_neighbors=range(1, 5), all_out_neighbors=(), in_neighbors=range(1, 5), out_neighbors=(),
        now=0.0, used=lambda messages: None,
        record=lambda metric, value: refused.append(metric),
    )  # fmt: skip
    silence: Any = SimpleNamespace(has=lambda j: False, is_over=lambda j, since: False)
    tracker = Tracker(device, np.ones(3, np.float32), silence)
    expected, bad = np.ones(3), 0
    with np.errstate(over="ignore", invalid="ignore"):
        together = np.ones(3)
        for y in sums:
            together = together + np.array(y)
        all_of_them = bool(np.isfinite(together.astype(np.float32)).all())
    messages = []
    for j, y in enumerate(sums, 1):
        message = Tracked(0, 0, np.array(y), np.array([[0, 0, 0, 0]]))
        object.__setattr__(message, "_origin", (j, 0, 0.0))
        messages.append(message)
        with np.errstate(over="ignore", invalid="ignore"):
            after = expected + np.array(y)
            taken = all_of_them or np.isfinite(after.astype(np.float32)).all()
        expected, bad = (after, bad) if taken else (expected, bad + 1)
    tracker.take_and_push(messages, np.ones(3, np.float32))
    np.testing.assert_array_equal(tracker.y, expected)
    assert refused == ["refused"] * bad
