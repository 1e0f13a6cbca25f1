"""The CHOCO family and DeepSqueeze: exact recursions, replicas that agree, and what repair is worth."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from helpers import models
from helpers.models import top_half, values
from helpers.strategies import lossy_links, strongly_connected, undirected
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from p2pl_async.compression import Identity, Int8, RandomK, TopK
from p2pl_async.errors import DeviceFailed
from p2pl_async.experiment.emulation import Emulation
from p2pl_async.link import Link, LinkSettings
from p2pl_async.protocols.choco import Choco
from p2pl_async.protocols.choco_sgp import ChocoSGP
from p2pl_async.protocols.deepsqueeze import DeepSqueeze
from p2pl_async.protocols.quantized_push_sum import QuantizedPushSum
from p2pl_async.protocols.sgp import SGP
from p2pl_async.protocols.sparse_push import SparsePush
from p2pl_async.testing import FixedLearner, emulate, ring

HALF = TopK(sparsity=0.5)


start = functools.partial(models.start, size=8)


def metropolis(neighbors: list[list[int]]) -> np.ndarray:
    n = len(neighbors)
    w = np.zeros((n, n))
    for i, others in enumerate(neighbors):
        for j in others:
            w[i, j] = 1 / (1 + max(len(others), len(neighbors[j])))
    return w + np.diag(1 - w.sum(axis=1))


def push_matrix(neighbors: list[list[int]]) -> np.ndarray:
    p = np.eye(len(neighbors))
    for j, targets in enumerate(neighbors):
        p[targets, j] = 1
    return p / p.sum(axis=0)


def learner(x0, eta: float = 0.1, speeds=1.0) -> FixedLearner:
    return FixedLearner(x0, seconds=speeds, step=lambda k, w: w - eta * (w - k))


# Exact oracles


@settings(max_examples=20)
@given(undirected(), st.integers(0, 99), st.data(), st.sampled_from(["exactly_once", "raw", "absolute"]))
def test_choco_is_the_papers_recursion(neighbors, seed, data, delivery) -> None:
    n, gamma = len(neighbors), 0.4
    x0 = start(n, seed=seed)
    speeds = data.draw(st.lists(st.floats(0.1, 3), min_size=n, max_size=n))
    protocol = Choco(sync="none", compressor=HALF, gamma=gamma, delivery=delivery)
    emulation = emulate(protocol, neighbors, learner=learner(x0, speeds=speeds), rounds=8)
    w, x, h, ids = metropolis(neighbors), np.stack(x0), np.zeros((n, 8)), np.arange(n)[:, None]
    for _ in range(8):
        x = x - 0.1 * (x - ids)
        h = h + np.stack([top_half(v) for v in x - h])
        x = x + gamma * (w @ h - h)
    np.testing.assert_allclose(values(emulation), x, atol=1e-10)


@settings(max_examples=20)
@given(strongly_connected(), st.integers(0, 99))
def test_choco_sgp_is_the_recursion_with_push_weights(neighbors, seed) -> None:
    n, gamma = len(neighbors), 0.4
    x0 = start(n, seed=seed)
    emulation = emulate(ChocoSGP(sync="none", compressor=HALF, gamma=gamma), neighbors, learner=learner(x0), rounds=8)
    p, x, u, h, ids = push_matrix(neighbors), np.stack(x0), np.ones((n, 1)), np.zeros((n, 8)), np.arange(n)[:, None]
    for _ in range(8):
        x = x - 0.1 * (x / u - ids)
        h = h + np.stack([top_half(v) for v in x - h])
        x, u = x + gamma * (p @ h - h), u + gamma * (p @ u - u)
    np.testing.assert_allclose(values(emulation), x / u, atol=1e-10)


@settings(max_examples=15)
@given(undirected(), st.integers(0, 99))
def test_without_compression_choco_averages_as_a_matrix_does(neighbors, seed) -> None:
    """gamma = 1: adapt, then combine."""
    n = len(neighbors)
    x0 = start(n, seed=seed)
    protocol = Choco(sync="none", compressor=Identity())
    x, w, ids = np.stack(x0), metropolis(neighbors), np.arange(n)[:, None]
    for _ in range(6):
        x = w @ (x - 0.1 * (x - ids))
    np.testing.assert_allclose(values(emulate(protocol, neighbors, learner=learner(x0), rounds=6)), x, atol=1e-10)


@settings(max_examples=15)
@given(strongly_connected(), st.integers(0, 99))
def test_without_compression_choco_sgp_and_quantized_push_sum_are_sgp(neighbors, seed) -> None:
    x0 = start(len(neighbors), seed=seed)
    sgp = values(emulate(SGP(sync="none"), neighbors, learner=learner(x0), rounds=6))
    for cls in (ChocoSGP, QuantizedPushSum):
        protocol = cls(sync="none", compressor=Identity())
        np.testing.assert_allclose(values(emulate(protocol, neighbors, learner=learner(x0), rounds=6)), sgp, atol=1e-10)


def test_quantized_push_sum_is_choco_sgp_with_int8_and_gamma_1() -> None:
    neighbors = [[1], [2], [0, 1]]
    x0 = start(3)
    assert isinstance(QuantizedPushSum().compressor, Int8)
    runs = [
        values(emulate(protocol, neighbors, learner=learner(x0), rounds=20))
        for protocol in (QuantizedPushSum(sync="none"), ChocoSGP(sync="none", compressor=Int8(), gamma=1))
    ]
    np.testing.assert_array_equal(runs[0], runs[1])
    sgp = values(emulate(SGP(sync="none"), neighbors, learner=learner(x0), rounds=20))
    assert 0 < np.abs(runs[0] - sgp).max() < 0.02


def test_on_a_regular_graph_deepsqueeze_is_sparse_push() -> None:
    x0 = start(6)
    runs = [
        values(emulate(cls(sync="none", compressor=HALF, averaging_rate=0.2), ring(6), learner=learner(x0), rounds=20))
        for cls in (SparsePush, DeepSqueeze)
    ]
    np.testing.assert_allclose(runs[0], runs[1], atol=1e-12)


@settings(max_examples=15)
@given(strongly_connected(), st.integers(0, 99))
def test_deepsqueeze_is_sparse_push_without_the_quotient(neighbors, seed) -> None:
    n = len(neighbors)
    x0 = start(n, seed=seed)
    emulation = emulate(
        DeepSqueeze(sync="none", compressor=HALF, averaging_rate=0.3), neighbors, learner=learner(x0), rounds=6
    )
    p, x, e, ids = push_matrix(neighbors), np.stack(x0), np.zeros((n, 8)), np.arange(n)[:, None]
    for _ in range(6):
        x = x - 0.1 * (x - ids)
        q = np.stack([top_half(v) for v in x + e])
        e = x + e - q
        x = x + 0.3 * (p @ q - q)
    np.testing.assert_allclose(values(emulation), x, atol=1e-10)


# Replicas


@settings(max_examples=20)
@given(undirected(max_size=5), lossy_links(), st.sampled_from([Choco, ChocoSGP]), st.integers(0, 99), st.booleans())
def test_repaired_replicas_lag_behind_but_never_drift(neighbors, link, cls, seed, barrier) -> None:
    """What a neighbor has of a copy, and what is outstanding for it, make up the copy: on any links."""
    mode = {"kind": "barrier", "timeout": "300 ms"} if barrier else {"kind": "fresh", "wait": "200 ms"}
    emulation = emulate(
        cls(sync="none", compressor=HALF, gamma=0.2, delivery="repaired", mode=mode),
        neighbors,
        link=link,
        learner=learner(start(len(neighbors), seed=seed)),
        until=15,
        seed=seed,
    )
    replicas = [device.state if cls is Choco else device.state[1] for device in emulation.devices]
    for i, mine in enumerate(replicas):
        for j in neighbors[i]:
            owed, applied = mine.links.owed[j], replicas[j].links.applied.get(i)
            copy = np.zeros(8) if i not in replicas[j].of else replicas[j].of[i].x.copy()
            if (outstanding := owed.outstanding()) is not None:
                copy += outstanding.q.dense()
            for number, share in [] if applied is None else applied._since:
                if number > owed.base:
                    copy -= share.q.dense()
            np.testing.assert_allclose(copy, mine.own.x, atol=1e-9)


def test_neighbors_that_heard_the_same_have_one_copy_in_memory() -> None:
    learner = FixedLearner(start(5))
    emulation = emulate(
        Choco(sync="none", compressor=HALF), ring(5), link={"latency": "50 ms"}, learner=learner, rounds=4
    )
    for i, device in enumerate(emulation.devices):
        for j in ring(5)[i]:
            assert emulation.devices[j].state.of[i].x is device.state.own.x


def drained(protocol, link):
    """Run until devices have nothing more to learn and everything has arrived; return devices."""
    return emulate(protocol, ring(5), link=link, learner=FixedLearner(start(5)), rounds=250, seed=3)


def test_repaired_replicas_are_equal_once_everything_has_arrived() -> None:
    link = {"latency": "50 ms", "loss": "20 %", "duplicate": 0.2}
    mode = {"kind": "fresh", "wait": "200 ms"}
    emulation = drained(Choco(sync="none", compressor=HALF, gamma=0.2, delivery="repaired", mode=mode), link)
    spread = np.linalg.norm(values(emulation) - values(emulation).mean(axis=0))
    assert spread < 1e-4
    for device in emulation.devices:
        for j in ring(5)[device.id]:
            np.testing.assert_allclose(device.state.of[j].x, emulation.devices[j].state.own.x, atol=1e-4)


def test_lost_increments_leave_replicas_wrong_for_good_and_repair_keeps_the_mean() -> None:
    x0 = start(5)
    mean = np.mean(x0, axis=0)
    mode = {"kind": "fresh", "wait": "200 ms"}

    def outcome(delivery: str) -> tuple[float, float]:
        protocol = Choco(sync="none", compressor=HALF, gamma=0.2, delivery=delivery, mode=mode)
        emulation = drained(protocol, {"latency": "50 ms", "loss": "5 %"})
        off = [
            float(np.linalg.norm(device.state.of[j].x - emulation.devices[j].state.own.x))
            for device in emulation.devices
            for j in ring(5)[device.id]
        ]
        return max(off), float(np.linalg.norm(values(emulation).mean(axis=0) - mean))

    (raw_off, raw_drift), (off, drift) = outcome("raw"), outcome("repaired")
    assert raw_off > 0.05
    assert off < 1e-4
    assert outcome("absolute")[0] < 0.01
    assert drift < 0.1 * raw_drift
    assert drift < 0.1 * np.linalg.norm(mean)


def test_repaired_over_lossless_two_way_links_keeps_the_mean_exactly() -> None:
    """Both ends of a link mix the same two copies, one round late."""
    x0 = start(5)
    protocol = Choco(sync="none", compressor=HALF, gamma=0.2, delivery="repaired")
    emulation = emulate(protocol, ring(5), link={"latency": "50 ms"}, learner=FixedLearner(x0), rounds=200)
    np.testing.assert_allclose(values(emulation), np.tile(np.mean(x0, axis=0), (5, 1)), atol=1e-6)


def test_absolute_values_of_a_lost_message_come_again_with_everything() -> None:
    """The first dozen messages hold each entry once, and half of them are lost."""

    def off(resync: int) -> float:
        x0 = start(2, size=64)
        protocol = Choco(
            sync="none", compressor=TopK(sparsity=0.9), gamma=1e-9, delivery="absolute", resync=resync, mode="fresh"
        )
        emulation = emulate(protocol, [[1], [0]], link={"loss": "50 %"}, learner=FixedLearner(x0), rounds=100)
        ours, theirs = emulation.devices[0].state.own.x, emulation.devices[1].state.of[0].x
        return float(np.linalg.norm(ours - theirs) / np.linalg.norm(ours))

    assert off(1000) > 0.01
    assert off(10) < 1e-6


def test_an_older_message_never_overwrites_a_newer_one() -> None:
    """Values come late and out of order, and the last messages arrive well before the run ends."""
    link = {"latency": {"kind": "uniform", "low": "10 ms", "high": "3 s"}, "order": "free", "duplicate": 0.3}
    protocol = Choco(
        sync="none",
        compressor=HALF,
        gamma=0.2,
        delivery="absolute",
        resync=10,
        mode={"kind": "fresh", "wait": "200 ms"},
    )
    emulation = drained(protocol, link)
    for device in emulation.devices:
        for j in ring(5)[device.id]:
            np.testing.assert_allclose(device.state.of[j].x, emulation.devices[j].state.own.x, atol=0.01)


def test_settings_of_absolute_deliveries_say_what_is_wrong() -> None:
    with pytest.raises(ValidationError, match='"int8" changes every entry'):
        Choco(delivery="absolute", compressor=Int8())
    with pytest.raises(ValidationError, match=r'resync=5 applies to delivery = "absolute" only'):
        ChocoSGP(resync=5)
    assert Choco(delivery="absolute", resync=5).models_per_message == 1


@pytest.mark.parametrize("cls", [Choco, ChocoSGP, QuantizedPushSum, DeepSqueeze])
def test_a_compressor_that_is_no_contraction_is_refused(cls) -> None:
    with pytest.raises(ValidationError, match="no contraction"):
        cls(compressor=RandomK(unbiased=True))


def test_uniform_weights_are_the_row_stochastic_ones() -> None:
    neighbors = [[1], [0, 2], [1]]
    x0 = start(3)
    protocol = Choco(sync="none", compressor=Identity(), weights="uniform")
    w = np.array([[1 / 2, 1 / 2, 0], [1 / 3, 1 / 3, 1 / 3], [0, 1 / 2, 1 / 2]])
    expected = w @ w @ np.stack(x0)
    np.testing.assert_allclose(
        values(emulate(protocol, neighbors, learner=FixedLearner(x0), rounds=2)), expected, atol=1e-12
    )


class Alternating:
    """Device 0 is heard by 1 and 2 in turn; those hear each other always."""

    roams = True

    def outgoing(self, device: int, now: float, round: int) -> tuple[int, ...]:
        return (1 + round % 2,) if device == 0 else ((0, 3 - device) if 1 + round % 2 == device else (3 - device,))

    incoming = outgoing


@pytest.mark.parametrize("cls", [Choco, ChocoSGP])
def test_neighbors_that_come_and_go_need_repair(cls) -> None:
    def run(delivery: str):
        emulation = Emulation(
            [[1, 2], [0, 2], [0, 1]],
            lambda src, dst: Link(src, dst, LinkSettings(), 0),
            0,
            learner=FixedLearner(start(3)),
            rounds=300,
            neighborhood=Alternating(),
        )
        emulation.run(cls(sync="none", compressor=HALF, gamma=0.1, delivery=delivery, mode="fresh"))
        return emulation

    with pytest.raises(DeviceFailed, match=r'would never receive this difference.*delivery = "repaired"'):
        run("exactly_once")
    away = values(run("repaired"))
    assert np.abs(away - away.mean(axis=0)).max() < 0.02


SPEEDS = [0.5, 1.1, 1.7, 2.3]
FRESH, PATIENT = "fresh", {"kind": "barrier", "timeout": "6 s"}


@pytest.mark.parametrize("cls", [Choco, ChocoSGP, QuantizedPushSum])
@pytest.mark.parametrize(
    ("delivery", "mode", "loss", "speeds", "until"),
    [
        ("repaired", FRESH, 0.0, [1.0] * 4, 160),
        ("repaired", PATIENT, 0.3, [1.0] * 4, 1000),  # a lost message costs 6 s
        ("repaired", FRESH, 0.3, SPEEDS, 400),
        ("exactly_once", FRESH, 0.0, SPEEDS, 300),
        ("exactly_once", FRESH, 0.0, [1.0] * 4, 160),
    ],
)
def test_the_mean_is_kept_at_any_speeds(cls, delivery, mode, loss, speeds, until) -> None:
    """Without training and compression, whatever the two ends of a link know of each other, and when."""
    x0 = start(4)
    protocol = cls(sync="none", compressor=Identity(), gamma=0.4, delivery=delivery, mode=mode)
    emulation = emulate(
        protocol,
        ring(4),
        link={"latency": "50 ms", "loss": loss},
        learner=FixedLearner(x0, seconds=speeds),
        until=until,
    )
    np.testing.assert_allclose(values(emulation), np.tile(np.mean(x0, axis=0), (4, 1)), atol=1e-9)


@pytest.mark.parametrize("speeds", [[1.0] * 4, SPEEDS])
def test_sparse_push_keeps_the_mean_at_any_speeds_and_deepsqueeze_says_that_it_does_not(speeds) -> None:
    x0 = start(4)
    emulation = emulate(
        SparsePush(sync="none", compressor=Identity(), averaging_rate=1.0, delivery="repaired", mode="fresh"),
        ring(4),
        link={"latency": "50 ms", "loss": "30 %"},
        learner=FixedLearner(x0, seconds=speeds),
        until=300,
    )
    np.testing.assert_allclose(values(emulation), np.tile(np.mean(x0, axis=0), (4, 1)), atol=1e-9)
    assert any("unequal speeds" in warning for warning in DeepSqueeze(mode="fresh").warnings)
    assert not DeepSqueeze().warnings


def test_absolute_values_say_that_the_mean_drifts() -> None:
    for cls in (Choco, ChocoSGP):
        assert any("drifts" in warning for warning in cls(delivery="absolute", mode="fresh").warnings)
        assert not cls(delivery="absolute").warnings


def test_links_that_choco_does_not_bear_are_told() -> None:
    def broken(protocol) -> list[str]:
        return [fault for fault, _ in protocol.contract.broken_by()]

    patient = {"kind": "barrier", "timeout": "1 s"}
    assert broken(Choco(mode=patient)) == ["loss", "one_way"]
    assert broken(Choco(mode=patient, delivery="raw")) == ["loss", "duplication", "one_way"]
    assert broken(ChocoSGP(mode=patient, delivery="repaired")) == []
    assert not QuantizedPushSum().warnings
    assert "use 0.2" in QuantizedPushSum(delivery="repaired").warnings[0]
