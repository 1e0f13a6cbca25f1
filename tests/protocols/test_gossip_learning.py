"""Gossip learning: merges by hand, hulls and ages under any link, and waiting for nobody."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.small_worlds import params_of, run_watched, small
from helpers.strategies import lossy_links, strongly_connected
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pl_async.link import LinkSettings
from p2pl_async.protocols.gossip_learning import GossipLearning
from p2pl_async.testing import FixedLearner, complete, emulate, ring
from p2pl_async.trace import Record

VARIANTS = ["merge-update", "update-merge", "update"]


@settings(max_examples=40)
@given(
    strongly_connected(),
    lossy_links(),
    st.sampled_from(VARIANTS),
    st.sampled_from(["age", "mean"]),
    st.integers(0, 999),
    st.data(),
)
def test_models_stay_in_the_hull_and_ages_never_fall_on_any_link(graph, link, variant, merging, seed, data) -> None:
    n = len(graph)
    x = np.random.default_rng(seed).normal(size=(n, 3))
    speeds = data.draw(st.lists(st.floats(0.1, 2), min_size=n, max_size=n))
    ages: list[list[int]] = []
    for until in (4.0, 8.0):
        emulation = emulate(
            GossipLearning(sync="none", variant=variant, merging=merging),
            graph,
            link=link,
            learner=FixedLearner(list(x), seconds=speeds),
            seed=seed,
            until=until,
        )
        w = np.stack([device.state.w for device in emulation.devices])
        assert (w >= x.min(axis=0) - 1e-12).all()
        assert (w <= x.max(axis=0) + 1e-12).all()
        ages.append([device.state.age for device in emulation.devices])
    if variant != "update":  # there the model that came is taken, however young
        assert all(later >= earlier for earlier, later in zip(*ages, strict=True))


def one_message(variant: str, merging: str, ages: tuple[int, int] | None = None) -> GossipLearning:
    return GossipLearning(sync="none", variant=variant, merging=merging, period="10 s", steps=2)


@pytest.mark.parametrize(
    ("variant", "merging", "first", "second"),
    [
        # Training adds 1 however many steps; 0 and 8, both of age 0, then of ages 2 and 0, and so on.
        ("merge-update", "mean", 5.0, 7.5),
        ("merge-update", "age", 5.0, 6.0),
        ("update", "mean", 9.0, 10.0),
        ("update-merge", "mean", 5.0, 7.5),
        ("update-merge", "age", 5.0, 7.0),
    ],
)
def test_a_merge_by_hand(variant, merging, first, second) -> None:
    """Device 1 (model 8) is heard first by device 0 (model 0); then device 0's new model by device 1."""
    seed = next(s for s in range(50) if order_of(s) == (1, 0))
    states = []
    for until in times(seed):
        emulation = emulate(
            one_message(variant, merging),
            ring(2),
            learner=FixedLearner([np.zeros(1), np.full(1, 8.0)], step=lambda k, w: w + 1, seconds=0.0),
            seed=seed,
            until=until,
        )
        states.append([device.state for device in emulation.devices])
    assert states[0][0].w[0] == first
    assert states[1][1].w[0] == second


def times(seed: int) -> tuple[float, float]:
    """Return an instant after device 1's first message and one after device 0's."""
    first = [emulated_random(seed, k) * 10 for k in range(2)]
    return (sum(first) / 2, max(first) + 0.01)


def order_of(seed: int) -> tuple[int, ...]:
    first = [emulated_random(seed, k) for k in range(2)]
    return tuple(int(k) for k in np.argsort(first))


def emulated_random(seed: int, device: int) -> float:
    from p2pl_async.basics.randomness import stream

    return float(stream(seed, "protocol", device).random())


def test_nobody_waits_for_anybody() -> None:
    deaf = {"loss": "100 %"}
    emulation = emulate(
        GossipLearning(sync="none", period="2 s"),
        ring(4),
        link=deaf,
        learner=FixedLearner([np.zeros(1)] * 4),
        rounds=10,
    )
    assert all(device.round == 10 for device in emulation.devices)
    assert 14 <= emulation.clock.now <= 26
    assert all(device.state.age == 0 for device in emulation.devices)  # nothing came, so nothing was learned


def test_a_message_to_one_neighbor_each_period() -> None:
    emulation = emulate(GossipLearning(sync="none"), complete(6), learner=FixedLearner([np.zeros(2)] * 6), rounds=20)
    assert emulation.trace.sent == 6 * 20
    to = {(path.src, path.dst) for path in emulation.transport.paths()}
    assert len(to) > 20  # of 30 links


def test_nothing_is_sent_twice_at_one_instant_though_training_outlasts_the_period() -> None:
    records: list[Record] = []
    learner = FixedLearner([np.zeros(2)] * 4, seconds=2.5)
    emulate(GossipLearning(sync="none"), complete(4), learner=learner, rounds=40, sink=records.append)
    sent = [(record.src, record.sent) for record in records]
    assert len(set(sent)) == len(sent) == 4 * 40


def test_pauses_vary_around_the_period() -> None:
    records: list[Record] = []
    protocol = GossipLearning.model_validate({"sync": "none", "period": "2 s"})
    emulate(protocol, [[1], []], learner=FixedLearner([np.zeros(2)] * 2), rounds=200, sink=records.append)
    pauses = np.diff([record.sent for record in records])
    assert pauses.mean() == pytest.approx(2.0, rel=0.05)
    assert 1.0 <= pauses.min() < 1.2 < 2.8 < pauses.max() <= 3.0


def test_duplicates_and_overtaken_messages_are_merged_once_or_never() -> None:
    trained = []
    for duplicate in (0.0, 1.0):
        count: list[int] = []

        def step(k: int, w: np.ndarray, count: list[int] = count) -> np.ndarray:
            count.append(k)
            return w

        emulate(
            GossipLearning(sync="none"),
            ring(2),
            link={"latency": "1 ms", "duplicate": duplicate},
            learner=FixedLearner([np.zeros(1)] * 2, step=step, seconds=0.1),
            rounds=10,
        )
        trained.append(len(count))
    assert trained[0] == trained[1]


def test_a_slow_device_merges_what_came_meanwhile_at_once() -> None:
    """Five neighbors speak every second to the hub of a star that trains for ten."""
    heard: list[float] = []
    star = [[1, 2, 3, 4, 5], *[[0]] * 5]
    emulate(
        GossipLearning(sync="none"),
        star,
        learner=FixedLearner([np.zeros(1)] * 6, seconds=[10.0, *[0.1] * 5]),
        until=60,
        record=lambda k, metric, value: heard.append(value) if (k, metric) == (0, "neighbors_mixed") else None,
    )
    assert heard[0] == 1
    assert heard[1:] == [5.0] * len(heard[1:])
    assert 4 <= len(heard) <= 6


def test_models_of_an_unreachable_device_do_not_matter() -> None:
    """A link that only loses: what lies behind it never enters the hull."""
    lost = LinkSettings.model_validate({"loss": "100 %"})
    emulation = emulate(
        GossipLearning(sync="none"),
        complete(3),
        link=lambda src, dst: lost if src == 2 else LinkSettings(),
        learner=FixedLearner([np.zeros(1), np.ones(1), np.full(1, 100.0)], seconds=0.1),
        rounds=30,
    )
    assert params_of(emulation.devices)[:2].max() <= 1


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_learns(variant) -> None:
    scenario = small(
        protocol={"kind": "gossip-learning", "variant": variant, "steps": 5},
        train={"momentum": 0.0, "learning_rate": 0.3},
        stop={"rounds": 60},
        evaluate={"every": "1 h"},
    )
    assert run_watched(scenario)[0].summary["accuracy"]["mean"] > 0.75
