"""P2PL: exact oracles, invariants under any link, and what each of its settings does."""

from __future__ import annotations

import math
import weakref
from typing import Any

import networkx as nx
import numpy as np
import pytest
import trio
from helpers.matrices import mixing_matrix, neighbors_of
from helpers.models import model_of, start, values
from helpers.strategies import lossy_links, strongly_connected, undirected
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pl_async.errors import Deadlock
from p2pl_async.hardware.downtime import CRASHED, Downtime
from p2pl_async.hardware.hardware import Hardware
from p2pl_async.link import LinkSettings
from p2pl_async.protocols.p2pl import P2PL
from p2pl_async.testing import FixedLearner, complete, emulate, ring

BARRIER = {"kind": "barrier"}


# Exact oracles


@settings(max_examples=40)
@given(
    undirected(),
    st.sampled_from(["size", "uniform", "metropolis", "metropolis-size", "relative-size"]),
    st.integers(1, 3),
    st.data(),
)
def test_without_loss_or_latency_the_barrier_is_the_matrix_recursion(neighbors, rule, consensus_steps, data) -> None:
    n = len(neighbors)
    sizes = data.draw(st.lists(st.integers(1, 100), min_size=n, max_size=n))
    x = start(n, seed=data.draw(st.integers(0, 99)))
    speeds = data.draw(st.lists(st.floats(0.1, 3), min_size=n, max_size=n))
    rounds = 4
    emulation = emulate(
        P2PL(sync="none", mode=BARRIER, weights=rule, consensus_steps=consensus_steps),
        neighbors,
        learner=FixedLearner(x, n_samples=sizes, seconds=speeds),
        rounds=rounds,
    )
    a = mixing_matrix(rule, neighbors, sizes)
    if rule == "metropolis":
        # Degrees travel with the messages: a device knows its neighbors' from the first mix on.
        np.testing.assert_allclose(values(emulation).sum(axis=0), np.sum(x, axis=0), atol=1e-12)
    np.testing.assert_allclose(
        values(emulation), np.linalg.matrix_power(a, rounds * consensus_steps) @ np.stack(x), atol=1e-12
    )


@settings(max_examples=30)
@given(undirected(), st.data())
def test_mixing_first_is_combine_then_adapt(neighbors, data) -> None:
    n = len(neighbors)
    x = start(n)
    slope = 0.1
    for mix_first in (False, True):
        emulation = emulate(
            P2PL(sync="none", mode=BARRIER, mix_first=mix_first),
            neighbors,
            learner=FixedLearner(x, step=lambda k, w: w - slope * (w - k)),
            rounds=3,
        )
        a, w = mixing_matrix("size", neighbors), np.stack(x)
        ids = np.arange(n)[:, None]
        for _ in range(3):
            if mix_first:
                w = a @ w
                w = w - slope * (w - ids)
            else:
                w = a @ (w - slope * (w - ids))
        np.testing.assert_allclose(values(emulation), w, atol=1e-12)


@pytest.mark.parametrize(
    ("graph", "slem"),
    [
        (nx.cycle_graph(8), 1 / 3 + 2 / 3 * math.cos(2 * math.pi / 8)),
        (nx.path_graph(6), 1 - 2 / 3 * (1 - math.cos(math.pi / 6))),
        (nx.star_graph(5), 1 - 1 / 6),
        (nx.grid_2d_graph(4, 4, periodic=True), (3 + 2 * math.cos(2 * math.pi / 4)) / 5),
    ],
    ids=["ring", "path", "star", "torus"],
)
def test_measured_contraction_is_the_closed_form_within_one_percent(graph, slem) -> None:
    neighbors = neighbors_of(graph)
    x = start(len(neighbors), size=3, seed=5)
    distances = []
    for rounds in (40, 41):
        emulation = emulate(
            P2PL(sync="none", mode=BARRIER, weights="metropolis"),
            neighbors,
            learner=FixedLearner(x),
            rounds=rounds,
        )
        away = values(emulation) - values(emulation).mean(axis=0)
        distances.append(np.linalg.norm(away))
    assert distances[1] / distances[0] == pytest.approx(slem, rel=0.01)


# Invariants under any link


@settings(max_examples=60)
@given(
    strongly_connected(),
    lossy_links(),
    st.sampled_from(
        [
            {"mode": "fresh"},
            {"mode": {"kind": "fresh", "wait": "300 ms"}, "consensus_steps": 2},
            {"mode": "cache"},
            {"mode": {"kind": "cache", "max_age": 1}, "on_missing": "self"},
            {"mode": {"kind": "barrier", "timeout": "700 ms"}},
            {"mode": {"kind": "barrier", "timeout": "700 ms"}, "on_missing": "cache"},
            {"mode": {"kind": "barrier", "timeout": "700 ms"}, "on_missing": "self", "consensus_steps": 2},
            {"mode": "fresh", "max_lead": 1, "lead_timeout": "2 s"},
        ]
    ),
    st.sampled_from(["size", "uniform", "metropolis", "metropolis-size", "relative-size"]),
    st.integers(0, 1000),
    st.data(),
)
def test_parameters_stay_in_the_hull_from_round_to_round(graph, link, how, weights, seed, data) -> None:
    n = len(graph)
    x = start(n, seed=seed)
    speeds = data.draw(st.lists(st.floats(0.2, 2), min_size=n, max_size=n))
    sizes = data.draw(st.lists(st.integers(1, 50), min_size=n, max_size=n))
    low, high = np.min(x, axis=0), np.max(x, axis=0)
    models = list(x)

    def step(k: int, w: np.ndarray) -> np.ndarray:
        models.append(w)
        return w

    emulation = emulate(
        P2PL(sync="none", weights=weights, **how),
        graph,
        link=link,
        learner=FixedLearner(x, seconds=speeds, n_samples=sizes, step=step),
        seed=seed,
        until=12.0,
    )
    # What is in flight or cached may still lie anywhere in the first hull, not outside of it.
    w = np.stack([*models, *values(emulation)])
    assert (w >= low - 1e-12).all()
    assert (w <= high + 1e-12).all()


@settings(max_examples=8)
@given(undirected(), lossy_links(max_loss=0.4), st.integers(0, 100))
def test_devices_agree_in_the_long_run_however_bad_the_links(graph, link, seed) -> None:
    x = start(len(graph), seed=seed)
    emulation = emulate(
        P2PL(sync="none", mode="fresh"), graph, link=link, learner=FixedLearner(x), seed=seed, until=300
    )
    w = values(emulation)
    assert np.ptp(w, axis=0).max() < 1e-6


# Settings


def test_fresh_never_waits_and_never_mixes_a_copy_twice() -> None:
    mixed: list[float] = []
    emulate(
        P2PL(sync="none", mode="fresh"),
        ring(2),
        link={"latency": "1 ms"},
        learner=FixedLearner(start(2), seconds=[1.0, 10.0]),
        until=35.5,
        record=lambda device, metric, value: (
            mixed.append(value) if (device, metric) == (0, "neighbors_mixed") else None
        ),
    )
    assert len(mixed) == 35
    assert sum(mixed) == 3  # the slow neighbor has spoken three times


@pytest.mark.parametrize("max_age", [0, 2, None])
def test_cache_mixes_old_copies_up_to_their_maximum_age(max_age) -> None:
    """Device 0 does a round a second, its neighbor speaks every ten: a copy serves max_age + 1 mixes."""
    mixed: list[float] = []
    emulate(
        P2PL(sync="none", mode={"kind": "cache", "max_age": max_age} if max_age is not None else "cache"),
        ring(2),
        link={"latency": "1 ms"},
        learner=FixedLearner(start(2), seconds=[1.0, 10.0]),
        until=30.5,
        record=lambda k, metric, value: mixed.append(value) if (k, metric) == (0, "neighbors_mixed") else None,
    )
    assert len(mixed) == 30
    # The copies sent at 10, 20 and 30 s are first mixed at 11, 21 and (too late) 31 s.
    first, until_the_next = mixed[:10], mixed[10:20]
    assert sum(first) == 0
    assert until_the_next == [1.0] * 10 if max_age is None else [1.0] * (max_age + 1) + [0.0] * (9 - max_age)


def test_barrier_waits_for_everybody_and_no_longer_than_its_timeout() -> None:
    patient = emulate(
        P2PL(sync="none", mode=BARRIER), ring(3), learner=FixedLearner(start(3), seconds=[1, 1, 5]), rounds=2
    )
    assert patient.clock.now == 10
    hasty = emulate(
        P2PL(sync="none", mode={"kind": "barrier", "timeout": "2 s"}),
        ring(3),
        learner=FixedLearner(start(3), seconds=[1, 1, 5]),
        rounds=2,
        until=6.5,
    )
    assert [device.round for device in hasty.devices] == [2, 2, 1]


def test_a_barrier_waits_three_times_for_a_neighbor_that_is_gone() -> None:
    """Device 2 crashes in its second round: three rounds of the others last their timeout too, all later ones 1 s."""
    ends: list[float] = []
    emulate(
        P2PL(sync="none", mode={"kind": "barrier", "timeout": "4 s"}),
        ring(3),
        learner=FixedLearner(start(3)),
        hardware=[Hardware(downtime=Downtime({CRASHED: [(1.5, math.inf)] if k == 2 else []})) for k in range(3)],
        rounds=8,
        record=lambda k, metric, value: ends.append(trio.current_time()) if (k, metric) == (0, "lead") else None,
    )
    assert np.diff([0.0, *ends]).tolist() == pytest.approx([1, 5, 5, 5, 1, 1, 1, 1])


def test_a_barrier_without_timeout_on_a_lossy_link_is_a_deadlock_that_says_so() -> None:
    with pytest.raises(Deadlock, match="waits for params"):
        emulate(P2PL(sync="none", mode=BARRIER), ring(4), link={"loss": "50 %"}, learner=FixedLearner(start(4)))


def test_missing_weight_to_self_or_to_all() -> None:
    """Three on a path, the middle one hears only one side: 1/3 each becomes 2/3 + 1/3, or 1/2 + 1/2."""
    path = [[1], [0, 2], [1]]
    x = [np.array([3.0]), np.array([0.0]), np.array([30.0])]

    def deaf(src: int, dst: int) -> LinkSettings:
        return LinkSettings.model_validate({"loss": "100 %"} if (src, dst) == (2, 1) else {})

    for on_missing, expected in (("renormalize", 1.5), ("self", 1.0), ("cache", 1.5)):
        emulation = emulate(
            P2PL(sync="none", mode={"kind": "barrier", "timeout": "1 s"}, on_missing=on_missing),
            path,
            link=deaf,
            learner=FixedLearner(x),
            rounds=1,
        )
        assert model_of(emulation.devices[1])[0] == pytest.approx(expected)


def test_a_cached_copy_stands_in_for_a_missing_neighbor() -> None:
    """The link 1 -> 0 is up in the first round only; device 0 trains back to 0 each round, 1 to 4."""
    outage = {"outage": {"kind": "on-off", "up": "2 s", "down": "2 s"}}
    results = {}
    for on_missing in ("renormalize", "self", "cache"):
        emulation = emulate(
            P2PL(sync="none", mode={"kind": "barrier", "timeout": "100 ms"}, on_missing=on_missing),
            ring(2),
            link=lambda src, dst: LinkSettings.model_validate({"loss": "100 %"} if src == 0 else outage),
            seed=next(s for s in range(100) if _up_then_down(s, outage)),
            learner=FixedLearner([np.zeros(1), np.full(1, 4.0)], step=lambda k, w: np.full(1, 4.0 * k)),
            rounds=3,
        )
        results[on_missing] = model_of(emulation.devices[0])[0]
    assert results == {"renormalize": 0.0, "self": 0.0, "cache": 2.0}


def _up_then_down(seed: int, table: dict[str, Any]) -> bool:
    """Tell whether with this seed the link 1 -> 0 is up when device 1 first sends, and down later."""
    from p2pl_async.link import Link

    link = Link(1, 0, LinkSettings.model_validate(table), seed)
    return [link.judge(10, at).cause for at in (1.0, 2.1, 3.2)] == ["", "outage", "outage"]


def test_max_lead_holds_a_fast_device_back() -> None:
    def lead(**how) -> float:
        leads: list[float] = []
        emulate(
            P2PL(sync="none", mode="fresh", **how),
            ring(2),
            learner=FixedLearner(start(2), seconds=[1.0, 5.0]),
            until=60,
            record=lambda k, metric, value: leads.append(value) if metric == "lead" else None,
        )
        return max(leads)

    assert lead() > 20
    assert lead(max_lead=2, lead_timeout="30 s") <= 4
    assert lead(max_lead=2, lead_timeout="1 ms") > 20


def test_several_consensus_steps_need_time_to_hear_the_others() -> None:
    with pytest.raises(ValueError, match='consensus_steps=2 with mode "fresh" needs time to listen'):
        P2PL(consensus_steps=2, mode="fresh")


def test_a_neighbor_that_sends_nonsense_is_refused_and_counted() -> None:
    x = [np.zeros(4), np.full(4, np.nan), np.zeros(5), np.zeros(4, np.float32), np.ones(4)]
    refused: list[int] = []
    emulation = emulate(
        P2PL(sync="none", mode=BARRIER | {"timeout": "100 ms"}),
        [[1], [0], [0], [0], [0]],
        learner=FixedLearner(x),
        rounds=1,
        record=lambda k, metric, value: refused.append(k) if metric == "refused" else None,
    )
    np.testing.assert_allclose(model_of(emulation.devices[0]), 0.5)  # own zeros and the ones of device 4
    assert refused.count(0) == 3


def test_staleness_is_what_a_hand_computation_gives() -> None:
    seen: dict[str, list[float]] = {"staleness_s": [], "staleness_rounds": []}
    emulate(
        P2PL(sync="none", mode="fresh"),
        ring(2),
        link={"latency": "250 ms"},
        learner=FixedLearner(start(2), seconds=1.0),
        rounds=3,
        record=lambda k, metric, value: seen[metric].append(value) if k == 0 and metric in seen else None,
    )
    assert seen["staleness_s"] == [1.0, 1.0]  # sent at the end of the round before, mixed at this one's
    assert seen["staleness_rounds"] == [1.0, 1.0]


def test_steps_take_the_place_of_epochs() -> None:
    asked: list[tuple[int | None, int | None]] = []

    class Spy(FixedLearner):
        async def train(self, device, w, epochs, steps, drift=None):
            asked.append((epochs, steps))
            return await super().train(device, w, epochs, steps)

    for how in ({"epochs": 3}, {"steps": 5}):
        emulate(P2PL(sync="none", **how), complete(2), learner=Spy(start(2)), rounds=1)
    assert asked == [(3, None)] * 2 + [(None, 5)] * 2


@pytest.mark.parametrize("kind", ["fresh", "cache"])
def test_listening_before_mixing_takes_its_time_and_hears_more(kind) -> None:
    """Both send at 1 s over 100 ms of latency: who mixes at once has heard nobody, who waits has."""
    for wait, expected in (("0 s", 0.0), ("150 ms", 0.5)):
        emulation = emulate(
            P2PL(sync="none", mode={"kind": kind, "wait": wait}),
            ring(2),
            link={"latency": "100 ms"},
            learner=FixedLearner([np.zeros(1), np.ones(1)]),
            rounds=1,
        )
        assert model_of(emulation.devices[0])[0] == expected
        assert emulation.clock.now == pytest.approx(1.0 if wait == "0 s" else 1.15)


def test_no_device_keeps_its_first_model_in_memory() -> None:
    first: list[weakref.ref[Any]] = []
    left: list[int] = []

    class Fresh(FixedLearner):
        def initial_params(self, device: int) -> Any:
            w = super().initial_params(device).copy()
            first.append(weakref.ref(w))
            return w

    def step(device: int, w: Any) -> Any:
        left.append(sum(ref() is not None for ref in first))
        return w + 1

    learner = Fresh([np.full(4, float(device)) for device in range(4)], step=step)
    emulate(P2PL(sync="none"), ring(4), learner=learner, rounds=4)
    assert left[0] == 4
    assert left[-1] == 0


@pytest.mark.parametrize(
    ("mode", "on_missing", "most"), [("fresh", "self", 8), ("cache", "self", 12), ("fresh", "cache", 12)]
)
def test_models_that_were_mixed_stay_in_memory_only_where_they_may_be_mixed_again(mode, on_missing, most) -> None:
    """At most 8 trained models of 5 devices: each one's own, and those that a neighbor has not mixed yet."""
    made: list[weakref.ref[Any]] = []
    alive: list[int] = []

    def step(k: int, w: Any) -> Any:
        new = w + np.float32(1)
        new.flags.writeable = False  # so that it is sent without a copy
        made.append(weakref.ref(new))
        alive.append(sum(ref() is not None for ref in made))
        return new

    learner = FixedLearner([np.zeros(8, np.float32)] * 5, step=step, seconds=[1.0, 1.1, 1.2, 1.3, 1.4])
    protocol = P2PL.model_validate({"sync": "none", "mode": mode, "on_missing": on_missing})
    emulate(protocol, complete(5), link={"latency": "10 ms"}, learner=learner, rounds=12)
    assert max(alive) == most
