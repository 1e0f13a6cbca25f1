"""Sparse-Push: an exact recursion, SGP as its limit, and mass that no link can take away."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from helpers import models
from helpers.models import model_of, top_half, values
from helpers.strategies import lossy_links, strongly_connected
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from p2pl_async.basics.randomness import stream
from p2pl_async.compression import Identity, Int8, Qsgd, RandomK, Sign, TopK, decode
from p2pl_async.experiment.emulation import Emulation
from p2pl_async.hardware.downtime import CRASHED, Downtime
from p2pl_async.hardware.hardware import Hardware
from p2pl_async.link import Link, LinkSettings
from p2pl_async.protocols.compressing import MassPush
from p2pl_async.protocols.sgp import SGP
from p2pl_async.protocols.sparse_push import SparsePush
from p2pl_async.testing import FixedLearner, emulate, ring
from p2pl_async.topology.kinds import AnyTopology
from p2pl_async.transport.wire import decode as decode_frame

pytestmark = pytest.mark.usefixtures("inboxes_stay_open")

DIRECTED_RING = [[(k + 1) % 8] for k in range(8)]


start = functools.partial(models.start, size=8)


# Exact oracles


@settings(max_examples=25)
@given(strongly_connected(), st.integers(0, 99), st.data())
def test_without_loss_or_latency_the_barrier_is_the_papers_recursion(neighbors, seed, data) -> None:
    n, eta, rate = len(neighbors), 0.1, 0.3
    x0 = start(n, seed=seed)
    speeds = data.draw(st.lists(st.floats(0.1, 3), min_size=n, max_size=n))
    emulation = emulate(
        SparsePush(sync="none", compressor=TopK(sparsity=0.5), averaging_rate=rate),
        neighbors,
        learner=FixedLearner(x0, seconds=speeds, step=lambda k, w: w - eta * (w - k)),
        rounds=6,
    )
    p = np.eye(n)
    for j, targets in enumerate(neighbors):
        p[targets, j] = 1
    p /= p.sum(axis=0)
    x, u, e, ids = np.stack(x0), np.ones((n, 1)), np.zeros((n, 8)), np.arange(n)[:, None]
    for _ in range(6):
        x = x - eta * (x / u - ids)
        q = np.stack([top_half(v) for v in x + e])
        e = x + e - q
        x, u = x + rate * (p @ q - q), u + rate * (p @ u - u)
    np.testing.assert_allclose(values(emulation), x / u, atol=1e-11)
    np.testing.assert_allclose(np.stack([device.state[2].e for device in emulation.devices]), e, atol=1e-11)


@pytest.mark.parametrize("kind", ["rotating-rings", "one-peer-exponential", "random-matchings"])
@pytest.mark.parametrize("delivery", ["exactly_once", "raw", "repaired"])
def test_on_a_graph_that_changes_each_round_it_is_the_recursion_with_that_rounds_matrix(kind, delivery) -> None:
    n, eta, rate, rounds = 8, 0.1, 0.3, 12
    topology = TypeAdapter(AnyTopology).validate_python(kind)
    graph = topology.build(n, stream(5, "topology"))
    neighborhood = topology.neighborhood(n, stream(5, "topology"))
    x0 = start(n)
    emulation = Emulation(
        [sorted(graph.succ[k]) for k in range(n)],
        lambda src, dst: Link(src, dst, LinkSettings(), 0),
        0,
        learner=FixedLearner(x0, step=lambda k, w: w - eta * (w - k)),
        rounds=rounds,
        neighborhood=neighborhood,
    )
    emulation.run(SparsePush(sync="none", compressor=TopK(sparsity=0.5), averaging_rate=rate, delivery=delivery))
    x, u, e, ids = np.stack(x0), np.ones((n, 1)), np.zeros((n, 8)), np.arange(n)[:, None]
    for round in range(rounds):
        p = np.eye(n)
        for j in range(n):
            assert neighborhood is not None
            p[list(neighborhood.outgoing(j, 0.0, round)), j] = 1
        p /= p.sum(axis=0)
        x = x - eta * (x / u - ids)
        q = np.stack([top_half(v) for v in x + e])
        e = x + e - q
        x, u = x + rate * (p @ q - q), u + rate * (p @ u - u)
    np.testing.assert_allclose(values(emulation), x / u, atol=1e-10)


@settings(max_examples=15)
@given(strongly_connected(), st.integers(0, 99), st.sampled_from(["exactly_once", "raw", "repaired"]))
def test_without_compression_it_is_sgp(neighbors, seed, delivery) -> None:
    x0 = start(len(neighbors), seed=seed)

    def run(protocol):
        learner = FixedLearner(x0, step=lambda k, w: w - 0.1 * (w - k))
        return values(emulate(protocol, neighbors, link={"latency": "30 ms"}, learner=learner, rounds=6))

    np.testing.assert_allclose(
        run(SparsePush(sync="none", compressor=Identity(), delivery=delivery)), run(SGP(sync="none")), atol=1e-12
    )


# Mass


FORMS = st.builds(
    SparsePush,
    sync=st.just("none"),
    compressor=st.sampled_from([TopK(sparsity=0.7), Identity(), Int8(), RandomK(sparsity=0.5)]),
    averaging_rate=st.sampled_from([None, 0.2]),
    mode=st.sampled_from(["fresh", {"kind": "fresh", "wait": "200 ms"}, {"kind": "barrier", "timeout": "300 ms"}]),
)


def held(emulation) -> tuple[np.ndarray, float]:
    """Return the sums of x and u over devices."""
    states = [device.state[0] for device in emulation.devices if device.state is not None]
    return sum(mass.x for mass in states), sum(mass.u for mass in states)


def owed(emulation, size: int) -> tuple[np.ndarray, float]:
    """Return the sums of what was pushed on each link and not applied at its other end: C[top] - C[applied]."""
    x, u = np.zeros(size), 0.0
    links = {device.id: device.state[1] for device in emulation.devices if device.state is not None}
    for source, ends in links.items():
        for target, owing in ends.owed.items():
            if (outstanding := owing.outstanding()) is not None:
                x, u = x + outstanding.q.dense(), u + outstanding.u
            if target in links and source in links[target].applied:
                for number, share in links[target].applied[source]._since:
                    if number > owing.base:
                        x, u = x - share.q.dense(), u - share.u
    return x, u


def learner_and_log(n: int, seed: int):
    learned: list[np.ndarray] = []

    def step(k: int, w: np.ndarray) -> np.ndarray:
        change = 0.05 * (k - w)
        learned.append(change)
        return w + change

    speeds = np.random.default_rng(seed).uniform(0.3, 3, n).tolist()
    return FixedLearner(start(n, seed=seed), seconds=speeds, step=step), learned


@settings(max_examples=40)
@given(strongly_connected(), lossy_links(), FORMS, st.integers(0, 99), st.floats(1, 25))
def test_repaired_mass_is_conserved_whatever_links_do(neighbors, link, form, seed, until) -> None:
    """What devices hold and what they still owe each other add up, however much was lost, repeated and reordered."""
    n = len(neighbors)
    learner, learned = learner_and_log(n, seed)
    protocol = form.model_copy(update={"delivery": "repaired"})
    emulation = emulate(protocol, neighbors, link=link, learner=learner, until=until, seed=seed)
    x, u = held(emulation)
    x_owed, u_owed = owed(emulation, 8)
    np.testing.assert_allclose(x + x_owed, sum(start(n, seed=seed)) + sum(learned), atol=1e-9)
    assert u + u_owed == pytest.approx(n, abs=1e-10)
    assert all(device.state[0].u > 0 for device in emulation.devices if device.state is not None)


@settings(max_examples=25)
@given(strongly_connected(), st.data(), FORMS, st.integers(0, 99), st.floats(1, 25))
def test_exactly_once_conserves_mass_however_late_repeated_and_disordered(neighbors, data, form, seed, until) -> None:
    n = len(neighbors)
    link = {**data.draw(lossy_links()), "loss": "none"}
    learner, learned = learner_and_log(n, seed)
    emulation = emulate(form, neighbors, link=link, learner=learner, until=until, seed=seed)
    x, u = held(emulation)
    # In flight, unread, or waiting for their round; those whose first copy counted add nothing.
    waiting = {(k, m.sender, m.number): m for k, m in under_way(emulation)}
    for (k, sender, number), message in waiting.items():
        if number not in emulation.devices[k].state[1]._seen.get(sender, set()):
            x = x + decode(message.q, 8, (slice(0, 4), slice(4, 8)), np.float64).dense()
            u += message.u
    np.testing.assert_allclose(x, sum(start(n, seed=seed)) + sum(learned), atol=1e-9)
    assert u == pytest.approx(n, abs=1e-10)


def under_way(emulation) -> list[tuple[int, MassPush]]:
    found = [
        (k, message)
        for k, device in enumerate(emulation.devices)
        if device.state is not None
        for message in device.state[1].received.pending
    ]
    arrivals = [(entry[1], entry[5][1]) for entry in emulation.clock.calendar if "arrive" in entry[4].__name__]
    found += [(k, decode_frame(frame.data)) for k, frame in arrivals]
    for k, device in enumerate(emulation.devices):
        while (message := emulation.transport.inbox(device.id).take_nowait(MassPush)) is not None:
            found.append((k, message))
    return found


def test_raw_loses_mass_on_lossy_links_and_doubles_it_where_they_repeat() -> None:
    def total(link, delivery: str) -> float:
        protocol = SparsePush(sync="none", delivery=delivery, mode="fresh", averaging_rate=0.5)
        return held(emulate(protocol, DIRECTED_RING, link=link, learner=FixedLearner(start(8)), rounds=60))[1]

    lossy, repeating = {"loss": "20 %"}, {"duplicate": 0.3}
    assert total(lossy, "raw") < 4
    assert total(repeating, "raw") > 12
    assert total(lossy, "exactly_once") < 4  # that nothing is lost is up to the links
    assert 6 < total(repeating, "exactly_once") <= 8 + 1e-9  # the last pushes are on their way
    assert 6 < total(lossy, "repaired") <= 8 + 1e-9


@pytest.mark.parametrize("loss", ["0 %", "30 %"])
def test_repaired_finds_the_mean_over_lossy_one_way_links(loss) -> None:
    """Confirmations go around the ring; without gradients the models agree on the mean of all."""
    protocol = SparsePush(
        sync="none", compressor=TopK(sparsity=0.5), averaging_rate=0.2, delivery="repaired", mode="fresh"
    )
    x0 = start(8)
    link = {"latency": {"kind": "uniform", "low": "10 ms", "high": "900 ms"}, "loss": loss, "order": "free"}
    emulation = emulate(protocol, DIRECTED_RING, link=link, learner=FixedLearner(x0), rounds=300)
    away = values(emulation) - np.mean(x0, axis=0)
    assert np.linalg.norm(away) < 0.05 * np.linalg.norm(np.stack(x0) - np.mean(x0, axis=0))


def test_without_repair_lossy_links_lead_elsewhere() -> None:
    x0 = start(8)

    def off(delivery: str) -> float:
        protocol = SparsePush(sync="none", compressor=Identity(), delivery=delivery, mode="fresh")
        emulation = emulate(protocol, DIRECTED_RING, link={"loss": "30 %"}, learner=FixedLearner(x0), rounds=150)
        return float(np.linalg.norm(values(emulation).mean(axis=0) - np.mean(x0, axis=0)))

    assert off("repaired") < 0.02
    assert off("raw") > 0.1


# What it does with settings


def rounds_of(protocol: SparsePush, rounds: int, **how):
    trained: list[int] = []

    def step(k: int, w: np.ndarray) -> np.ndarray:
        trained.append(k)
        return w

    learner = FixedLearner(start(8), step=step)
    return emulate(protocol, DIRECTED_RING, learner=learner, rounds=rounds, **how), trained


def test_skew_compensation_brings_models_together_without_training() -> None:
    rough = {"sync": "none", "compressor": TopK(sparsity=0.75), "averaging_rate": 0.1}
    before, _ = rounds_of(SparsePush(**rough), 20)
    emulation, trained = rounds_of(SparsePush(**rough, compensation={"after": 20, "pause": "1 s"}), 70)
    assert len(trained) == 8 * 20
    assert emulation.clock.now >= 20 + 50
    spread = [np.linalg.norm(values(run) - values(run).mean(axis=0)) for run in (before, emulation)]
    assert spread[1] < 0.1 * spread[0]  # cos(pi/8)^50 = 0.02, and what was still in flight
    np.testing.assert_allclose(held(emulation)[1], 8)


def test_the_averaging_rate_is_the_share_that_is_kept_by_default() -> None:
    x0 = start(8, size=100)
    for compressor, rate in [(TopK(sparsity=0.9), 0.1), (Identity(), 1.0), (RandomK(sparsity=0.75), 0.12)]:
        runs = [
            values(emulate(protocol, DIRECTED_RING, learner=FixedLearner(x0), rounds=3))
            for protocol in (
                SparsePush(sync="none", compressor=compressor),
                SparsePush(sync="none", compressor=compressor, averaging_rate=rate),
            )
        ]
        np.testing.assert_array_equal(runs[0], runs[1])


@pytest.mark.parametrize(
    "compressor", [Identity(), TopK(sparsity=0.9), RandomK(sparsity=0.9), Int8(), Sign(), Qsgd(levels=16)], ids=str
)
def test_every_compressor_agrees_more_than_before_with_its_default_rate(compressor) -> None:
    x0 = start(8, size=100)
    protocol = SparsePush(sync="none", compressor=compressor)
    emulation = emulate(protocol, DIRECTED_RING, learner=FixedLearner(x0), rounds=150)
    spread = [np.linalg.norm(w - np.mean(w, axis=0)) for w in (np.stack(x0), values(emulation))]
    assert spread[1] < 0.5 * spread[0]


def test_a_compressor_that_is_no_contraction_is_refused() -> None:
    with pytest.raises(ValidationError, match="unbiased = true is no contraction"):
        SparsePush(compressor=RandomK(unbiased=True))


def test_steps_are_asked_of_the_learner() -> None:
    gradients: list[int] = []

    def gradient(k: int, w: np.ndarray) -> np.ndarray:
        gradients.append(k)
        return np.zeros_like(w)

    learner = FixedLearner(start(8), gradient=gradient)
    emulate(SparsePush(sync="none", steps=3), DIRECTED_RING, learner=learner, rounds=2)
    assert len(gradients) == 8 * 2 * 3


def test_bytes_are_recorded_as_sent() -> None:
    totals: dict[str, float] = {}
    sizes: list[int] = []

    def record(device: int, metric: str, value: float) -> None:
        totals[metric] = totals.get(metric, 0) + value

    x0 = start(8, size=1000)
    protocol = SparsePush(sync="none", compressor=TopK(sparsity=0.99))
    emulate(
        protocol,
        DIRECTED_RING,
        learner=FixedLearner(x0),
        rounds=5,
        record=record,
        sink=lambda sent: sizes.append(sent.size),
    )
    assert totals["bytes_dense"] == 40 * 4 * 1001
    assert totals["bytes_paper"] == 40 * 4 * (2 * 10 + 1)  # five entries of each of two tensors
    header = 50  # of a message: its tag, numbers, and what describes the array
    assert 0 < sum(sizes) - totals["bytes_encoded"] < 40 * header
    assert totals["bytes_encoded"] < 40 * (4 + 10 * (8 + 2))


class Liar(SparsePush):
    """Device 0 sends what can't be added."""

    async def run(self, device) -> None:
        if device.id != 0:
            await super().run(device)
            return
        good = np.frombuffer(b"\0" + bytes(8 * 8), np.uint8)
        rows = np.zeros((0, 3), np.int64)
        for u, q, base, top, confirmed in [
            (1.0, np.zeros(0, np.uint8), 0, 1, rows),
            (1.0, np.full(9, 200, np.uint8), 0, 1, rows),
            (float("nan"), good, 0, 1, rows),
            (-1.0, good, 0, 1, rows),
            (1.0, good, 7, 9, rows),
            (1.0, good, 3, 2, rows),
            (1.0, good, 0, 1, None),
            (1.0, good, 0, 1, np.zeros(3, np.int64)),
            (1.0, good, 0, 1, np.array([[3, 0, 1, -4, 0, 0]])),
        ]:
            device.broadcast(MassPush(0, base, u, 1, q, top=top, confirmed=confirmed))
            await device.sleep(1)


# A sum that begins above all that was applied is what a device says that has crashed.
@pytest.mark.parametrize(("delivery", "refused"), [("raw", 4), ("exactly_once", 4), ("repaired", 9)])
def test_what_peers_send_is_refused_not_fatal(delivery, refused) -> None:
    counts: dict[str, float] = {}
    emulation = emulate(
        Liar(sync="none", delivery=delivery, mode="fresh"),
        [[1], [2], [0]],
        learner=FixedLearner(start(3)),
        rounds=15,
        record=lambda device, metric, value: counts.update({metric: counts.get(metric, 0) + value}),
    )
    assert counts["refused"] == refused
    assert all(np.isfinite(model_of(device)).all() for device in emulation.devices[1:])


def test_one_device_that_nobody_hears_keeps_its_model() -> None:
    x0 = start(1)
    emulation = emulate(SparsePush(sync="none"), [[]], learner=FixedLearner(x0), rounds=5)
    np.testing.assert_array_equal(emulation.devices[0].params, x0[0])
    assert not emulation.devices[0].state[2].e.any()


@pytest.mark.parametrize(("rate", "warned"), [(None, False), (0.05, False), (0.051, True)])
def test_a_large_averaging_rate_is_warned_of(rate, warned) -> None:
    assert bool(SparsePush(compressor=TopK(sparsity=0.99), averaging_rate=rate).warnings) == warned
    assert not SparsePush(compressor=Identity(), averaging_rate=1.0).warnings


def test_each_delivery_says_what_it_needs_of_links() -> None:
    timeout = {"kind": "barrier", "timeout": "1 s"}

    def broken(**settings) -> list[str]:
        return [fault for fault, _ in SparsePush(**settings).contract.broken_by()]

    assert broken(delivery="raw", mode=timeout) == ["loss", "duplication"]
    assert broken(delivery="exactly_once", mode=timeout) == ["loss"]
    assert broken(delivery="repaired", mode=timeout) == []
    assert broken(delivery="repaired") == ["loss"]  # it waits for what never comes


def test_a_device_that_crashed_and_came_back_is_heard_again() -> None:
    counts: dict[str, float] = {}
    protocol = SparsePush(sync="none", compressor=TopK(sparsity=0.5), delivery="repaired", mode="fresh")
    x0 = start(3)
    emulation = emulate(
        protocol,
        ring(3),
        link={"latency": "10 ms", "loss": "10 %"},
        learner=FixedLearner(x0),
        hardware=[Hardware(downtime=one) for one in [Downtime({CRASHED: [(20.0, 25.0)]}), Downtime({}), Downtime({})]],
        until=200,
        record=lambda device, metric, value: counts.update({metric: counts.get(metric, 0) + value}),
    )
    assert counts.get("refused", 0) == 0
    away = values(emulation) - values(emulation).mean(axis=0)
    assert np.abs(away).max() < 0.3
