"""Max-norm synchronization: the laws of its join, agreement over any links, and what each setting does."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import trio
from helpers.strategies import lossy_links, strongly_connected, undirected
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from p2pl_async.basics.randomness import stream
from p2pl_async.device import Device
from p2pl_async.experiment.emulation import Emulation
from p2pl_async.hardware.downtime import CRASHED, Downtime
from p2pl_async.hardware.hardware import Hardware
from p2pl_async.link import LinkSettings
from p2pl_async.protocols.base import Protocol
from p2pl_async.protocols.max_norm import MaxNormSync, Participant
from p2pl_async.protocols.norm_keys import Candidate, Key, NormKey, NormModel
from p2pl_async.protocols.p2pl import P2PL
from p2pl_async.testing import FixedLearner, complete, emulate, ring
from p2pl_async.topology.base import neighbors
from p2pl_async.topology.contacts import Change, Contacts
from p2pl_async.topology.kinds import AnyTopology
from p2pl_async.trace import Record

WHOLE = [slice(0, 4)]
LAYERS = [slice(0, 1), slice(1, 3), slice(3, 4)]


class Sync(Protocol):
    """Only the synchronization; devices then answer for `serve_s`, as those that train do."""

    kind: str = "sync"
    sync: MaxNormSync = MaxNormSync()
    serve_s: float = 0.0

    async def run(self, device: Device) -> None:
        device.finish_round(await self.sync.run(device, device.initial_params()))
        await device.sleep(self.serve_s)


def models(n: int, size: int = 6, seed: int = 0) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).normal(size=(n, size)).astype(np.float32))


def norm(w: np.ndarray) -> float:
    return math.sqrt(float(np.sum(w.astype(np.float64) ** 2)))


def largest(x: Sequence[np.ndarray]) -> int:
    return max(range(len(x)), key=lambda k: (norm(x[k]), k))


def held(emulation: Emulation) -> list[np.ndarray]:
    return [device.params for device in emulation.devices if device.params is not None]


# The join


@st.composite
def candidates(draw: st.DrawFn, count: int = 3) -> tuple[list[Candidate], list[slice]]:
    """Candidates of different devices; few values, so that norms tie and layers disagree."""
    segments = draw(st.sampled_from([WHOLE, LAYERS]))
    values = st.lists(st.sampled_from([-2.0, -1.0, 0.0, 1.0, 2.0]), min_size=4, max_size=4)
    origins = draw(st.permutations(range(count)))
    return [Candidate(np.array(draw(values), np.float32), origin, segments) for origin in origins], segments


def join(*parts: Candidate) -> tuple[Key, list[float]]:
    """Return what the first holds after it has merged the others, in order; none of them changes."""
    first = Candidate(parts[0].w, 0, parts[0].segments)
    first.key = parts[0].key
    for other in parts[1:]:
        first.merge(other.key, other.w)
    return first.key, first.w.tolist()


def merged(a: Candidate, b: Candidate) -> Candidate:
    result = Candidate(a.w, 0, a.segments)
    result.key, w = join(a, b)
    result.w = np.array(w, np.float32)
    return result


@given(candidates())
def test_merging_is_idempotent_commutative_and_associative(drawn) -> None:
    (a, b, c), _ = drawn
    assert join(a, a) == join(a)
    assert join(a, b) == join(b, a)
    assert join(merged(a, b), c) == join(a, merged(b, c)) == join(c, a, b, a, c)


@given(candidates(count=4), st.permutations(range(4)))
def test_each_segment_comes_from_its_largest_norm_and_ties_go_to_the_larger_id(drawn, order) -> None:
    parts, segments = drawn
    key, w = join(*(parts[i] for i in order))
    for index, segment in enumerate(segments):
        winner = max(parts, key=lambda part: part.key[index])
        assert key[index] == winner.key[index]
        assert w[segment] == winner.w[segment].tolist()


@given(candidates())
def test_merge_tells_whether_anything_changed_and_leaves_the_given_models_alone(drawn) -> None:
    (a, b, _), _ = drawn
    before = a.w.copy(), b.w.copy()
    key = a.key
    changed = Candidate(a.w, 0, a.segments)
    changed.key = key
    assert changed.merge(b.key, b.w) == (changed.key != key)
    assert all(new >= old for new, old in zip(changed.key, key, strict=True))
    np.testing.assert_array_equal(a.w, before[0])
    np.testing.assert_array_equal(b.w, before[1])


def test_the_norm_is_computed_in_float64() -> None:
    w = np.full(4, 3e19, np.float32)  # its squares overflow float32
    assert Candidate(w, 0, WHOLE).key == ((pytest.approx(6e19), 0),)


# Agreement


@contextlib.contextmanager
def watched_merges() -> Iterator[list[tuple[float, Candidate, Key, Key]]]:
    """Collect (now, candidate, key before, key after) of every merge."""
    seen: list[tuple[float, Candidate, Key, Key]] = []
    merge = Candidate.merge

    def watched(self: Candidate, key: Key, w: np.ndarray) -> bool:
        before = self.key
        changed = merge(self, key, w)
        seen.append((trio.current_time(), self, before, self.key))
        return changed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Candidate, "merge", watched)
        yield seen


def recorded(metrics: dict[str, dict[int, float]]) -> Callable[[int, str, float], None]:
    """Return what notes each device's latest value of each metric."""
    return lambda device, metric, value: metrics.setdefault(metric, {}).__setitem__(device, value)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[list[int]], dict[str, object], list[float], float]:
    """Strongly connected graphs, links that lose, delay, repeat and reorder, and devices that start late."""
    graph = draw(st.one_of(strongly_connected(max_size=5), undirected(max_size=5)))
    mean = draw(st.sampled_from([0.0, 0.02, 0.5, 3.0, 10.0]))
    latency = {"kind": "lognormal", "mean": f"{mean} s", "sd": f"{mean / 2} s"} if mean else "0 s"
    link = {
        "latency": latency,
        "loss": draw(st.sampled_from([0.0, 0.2, 0.5, 0.8])),
        "duplicate": draw(st.sampled_from([0.0, 0.3])),
        "order": draw(st.sampled_from(["fifo", "free"])),
        "rate": draw(st.sampled_from([None, "8 kbit/s", "1 kbit/s"])),
    }
    spread = draw(st.sampled_from([0.0, 5.0, 40.0]))
    starts = draw(st.lists(st.floats(0, 1), min_size=len(graph), max_size=len(graph)))
    return graph, {key: value for key, value in link.items() if value is not None}, [spread * s for s in starts], mean


@settings(max_examples=int(os.environ.get("P2PL_WORLDS", "40")))
@given(worlds(), st.integers(0, 1000))
def test_it_ends_in_one_model_bitwise_the_largest_in_random_worlds(world, seed) -> None:
    """Loss to 80 %, delays to 10 s, duplicates, reordering, slow links, late starts: they cost time, nothing else.

    `P2PL_WORLDS=1000` takes about five minutes.
    """
    graph, link, starts, delay = world
    x = models(len(graph), size=64, seed=seed)
    # Fewer beacons where they say little save events, not virtual time.
    beacon = max(1.0, delay) * (3 if link["loss"] == 0.8 else 1)
    sync = MaxNormSync.model_validate({"beacon": f"{beacon} s", "patience": "1 h"})
    seen: dict[str, dict[int, float]] = {}
    emulation = emulate(
        Sync(sync=sync, serve_s=120.0),
        graph,
        link=link,
        learner=FixedLearner(x),
        seed=seed,
        hardware=[Hardware(start=at) for at in starts],
        until=20_000.0,
        record=recorded(seen),
    )
    best = x[largest(x)]
    assert [w.tobytes() == best.tobytes() for w in held(emulation)] == [True] * len(graph)
    assert len(seen["sync_s"]) == len(graph)
    assert set(seen["sync_left_out"].values()) == set(seen["sync_joined"].values()) == {0}


SLOW: dict[str, dict[str, Any]] = {
    "distant": {"latency": {"kind": "lognormal", "mean": "10 s", "sd": "5 s"}, "loss": "40 %"},
    "slow": {"rate": "400 bit/s"},  # a model takes 82 s
    "asleep": {"outage": {"kind": "duty-cycle", "awake": "1 s", "period": "10 s"}, "latency": "20 ms"},
    "asleep, and messages wait": {
        "outage": {"kind": "duty-cycle", "awake": "1 s", "period": "10 s", "when_off": "hold"}, "rate": "64 kbit/s",
    },
}  # fmt: skip


@pytest.mark.parametrize("link", SLOW.values(), ids=SLOW)
@settings(max_examples=4)
@given(undirected(max_size=4), st.integers(0, 1000))
def test_slow_links_and_radios_that_sleep_cost_time_and_nothing_else(link, graph, seed) -> None:
    """With the usual beacons and patience, which fit links whose messages take less than a second."""
    x = models(len(graph), size=1000, seed=seed)
    seen: dict[str, dict[int, float]] = {}
    emulation = emulate(
        Sync(serve_s=2000.0),
        graph,
        link=link,
        learner=FixedLearner(x),
        seed=seed,
        until=20_000.0,
        record=recorded(seen),
    )
    assert {w.tobytes() for w in held(emulation)} == {x[largest(x)].tobytes()}
    assert seen["sync_left_out"] == dict.fromkeys(range(len(graph)), 0)


@settings(max_examples=25)
@given(strongly_connected(max_size=6), lossy_links(max_loss=0.5), st.integers(0, 1000))
def test_keys_only_grow(graph, link, seed) -> None:
    with watched_merges() as merges:
        emulate(Sync(serve_s=60.0), graph, link=link, learner=FixedLearner(models(len(graph), seed=seed)), seed=seed)
    assert all(after >= before for _, _, before, after in merges)


@settings(max_examples=8)
@given(strongly_connected(max_size=5), st.lists(lossy_links(max_loss=0.4), min_size=2, max_size=2), st.integers(0, 99))
def test_layers_agree_one_by_one(graph, links, seed) -> None:
    x = models(len(graph), seed=seed)
    halves = [slice(0, 3), slice(3, 6)]
    expected = np.concatenate([max((w[half] for w in x), key=norm) for half in halves])
    sync = MaxNormSync.model_validate({"scope": "layer"})
    for link in links:  # whatever the links and their draws
        emulation = emulate(Sync(sync=sync, serve_s=60.0), graph, link=link, learner=FixedLearner(x), seed=seed)
        assert all(w.tobytes() == expected.tobytes() for w in held(emulation))
        seed += 1


# An earlier rule took three quiet seconds for agreement: 11, 7, 7 of 20 devices and 2 of 10 began alike.
DIRECTED_RING = [[(k + 1) % 10] for k in range(10)]
PATH = [[j for j in (k - 1, k + 1) if 0 <= j < 24] for k in range(24)]


@pytest.mark.parametrize(
    ("graph", "link", "spread"),
    [
        (ring(20), {"latency": "2 s"}, 0.0),
        (ring(20), {"latency": "5 s"}, 0.0),
        (ring(20), {"latency": "50 ms", "loss": "50 %"}, 0.0),
        (ring(20), {"rate": "1250 bit/s"}, 0.0),  # a model takes 26 s
        (ring(20), {"latency": "50 ms"}, 30.0),
        (DIRECTED_RING, {"latency": "50 ms", "loss": "50 %"}, 0.0),
        (PATH, {"latency": "50 ms", "loss": "50 %"}, 0.0),
    ],
    ids=["2 s", "5 s", "lossy", "slow", "late starts", "directed", "path"],
)
def test_quiet_neighborhoods_are_not_taken_for_agreement(graph, link, spread) -> None:
    x = models(len(graph), size=1000)
    starts = np.random.default_rng(1).uniform(0, spread, len(graph)).tolist()
    emulation = emulate(
        Sync(serve_s=120.0), graph, link=link, learner=FixedLearner(x), hardware=[Hardware(start=at) for at in starts]
    )
    assert {w.tobytes() for w in held(emulation)} == {x[largest(x)].tobytes()}


@pytest.mark.parametrize("medium", [{"kind": "half-duplex"}, {"kind": "aloha"}, {"kind": "csma-ca"}])
def test_on_shared_air_beacons_do_not_drown_each_other(medium) -> None:
    seen: dict[str, dict[int, float]] = {}
    x = models(10)
    emulation = emulate(
        Sync(serve_s=60.0),
        ring(10),
        link={"rate": "250 kbit/s"},
        medium=medium,
        learner=FixedLearner(x),
        record=recorded(seen),
    )
    assert {w.tobytes() for w in held(emulation)} == {x[largest(x)].tobytes()}
    assert max(seen["sync_s"].values()) < 20


def test_each_device_gets_about_one_model_for_each_larger_key() -> None:
    records: list[Record] = []
    with watched_merges() as merges:
        emulate(Sync(), ring(12), link={"latency": "300 ms"}, learner=FixedLearner(models(12)), sink=records.append)
    changes = sum(before != after for _, _, before, after in merges)
    assert changes <= sum(record.kind == "norm-model" for record in records) <= 1.5 * changes
    assert sum(record.size for record in records if record.kind == "norm-key") / len(records) < 100


def test_a_single_device_agrees_with_itself() -> None:
    emulation = emulate(Sync(), [[]], learner=FixedLearner(models(1)))
    assert emulation.clock.now == 0.0


# Settings


def test_beacon_is_the_mean_time_between_two_broadcasts_none_of_them_alike() -> None:
    for seconds in (0.5, 2):
        records: list[Record] = []
        sync = {"beacon": f"{seconds} s", "patience": f"{60 * seconds} s"}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Participant, "_look", lambda self: None)  # nothing is ever proven
            emulate(
                Sync(sync=MaxNormSync.model_validate(sync)),
                ring(4),
                learner=FixedLearner(models(4)),
                sink=records.append,
                until=100 * seconds,
            )
        told = np.array([r.sent for r in records if r.kind == "norm-key" and r.src == 0 and r.dst == 1])
        pauses = np.diff(told)
        assert pauses.mean() == pytest.approx(seconds, rel=0.1)
        assert pauses.min() >= 0.5 * seconds
        assert pauses.max() <= 1.5 * seconds
        assert len(set(pauses.round(6))) == len(pauses)


def test_patience_is_how_long_a_silent_neighbor_is_waited_for() -> None:
    for seconds in (7, 20):
        seen: dict[str, dict[int, float]] = {}
        how: dict[str, Any] = {"link": {"loss": "100 %"}, "learner": FixedLearner(models(4)), "record": recorded(seen)}
        emulate(Sync(sync=MaxNormSync.model_validate({"patience": f"{seconds} s"})), ring(4), **how)
        assert all(seconds <= at <= seconds + 1.6 for at in seen["sync_s"].values())
        assert seen["sync_left_out"] == dict.fromkeys(range(4), 2)


def test_a_neighbor_that_never_starts_is_left_out_and_the_others_agree() -> None:
    seen: dict[str, dict[int, float]] = {}
    x = models(5)
    starts = [0.0, 0.0, 1e6, 0.0, 0.0]
    emulation = emulate(
        Sync(serve_s=60.0),
        ring(5),
        learner=FixedLearner(x),
        hardware=[Hardware(start=at) for at in starts],
        record=recorded(seen),
        until=1000,
    )
    others = [w for k, w in enumerate(x) if k != 2]
    assert {w.tobytes() for w in held(emulation)} == {others[largest(others)].tobytes()}
    assert {k for k, count in seen["sync_left_out"].items() if count} == {1, 3}
    assert 60 <= max(seen["sync_s"].values()) < 75


def test_scope_decides_whether_layers_come_from_different_devices() -> None:
    x = [np.array([9, 0, 1, 0], np.float32), np.array([0, 1, 0, 5], np.float32)]
    whole = emulate(Sync(), ring(2), learner=FixedLearner(x))
    layer = emulate(Sync(sync={"scope": "layer"}), ring(2), learner=FixedLearner(x))
    assert [w.tolist() for w in held(whole)] == [[9, 0, 1, 0]] * 2
    assert [w.tolist() for w in held(layer)] == [[9, 0, 0, 5]] * 2


# Late devices


def late_world(
    norm_of_the_late: float, graph: list[list[int]], **how: Any
) -> tuple[Emulation, dict[str, dict[int, float]]]:
    """Devices 0 and 1 train from the start, and each step adds 1 to all; device 2 comes at 100 s."""
    x = [np.full(2, v, np.float32) for v in (2.0, 1.0, norm_of_the_late)]
    seen: dict[str, dict[int, float]] = {}
    emulation = emulate(
        P2PL(sync=MaxNormSync.model_validate({"patience": "10 s"})),
        graph,
        link={"latency": "20 ms"},
        learner=FixedLearner(x, step=lambda _, w: w + np.float32(1)),
        hardware=[Hardware(start=at) for at in (0.0, 0.0, 100.0)],
        until=150,
        record=recorded(seen),
        **how,
    )
    return emulation, seen


@pytest.mark.parametrize("norm_of_the_late", [0.5, 50.0], ids=["smaller", "larger"])
def test_a_late_device_takes_over_what_its_neighbors_train(norm_of_the_late) -> None:
    emulation, seen = late_world(norm_of_the_late, complete(3))
    assert seen["sync_joined"] == {0: 0, 1: 0, 2: 1}
    assert seen["sync_left_out"] == {0: 1, 1: 1, 2: 0}
    assert 100 < seen["sync_s"][2] < 102
    assert all(w[0] > 100 for w in held(emulation))  # 2 at the start, and about one step in each second


def test_neighbors_that_train_answer_at_once() -> None:
    """A training of 1,000 s is under way when the late device comes."""
    x = [np.full(2, v, np.float32) for v in (2.0, 1.0, 0.5)]
    seen: dict[str, dict[int, float]] = {}
    emulate(
        P2PL(sync=MaxNormSync.model_validate({"patience": "10 s"})),
        ring(3),
        learner=FixedLearner(x, seconds=1000.0),
        hardware=[Hardware(start=at) for at in (0.0, 0.0, 100.0)],
        until=1500,
        record=recorded(seen),
    )
    assert 100 <= seen["sync_s"][2] < 102


@pytest.mark.parametrize("others", [{}, {1: (20.0, 30.0), 2: (30.0, 40.0)}], ids=["alone", "after its neighbors"])
def test_a_device_that_restarts_from_nothing_takes_over_a_neighbors_model(others) -> None:
    """Whatever its neighbors' keys agree on, if they have restarted too."""
    x = [np.full(2, v, np.float32) for v in (3.0, 2.0, 1.0)]
    seen: dict[str, dict[int, float]] = {}
    emulation = emulate(
        P2PL(),
        ring(3),
        learner=FixedLearner(x, step=lambda _, w: w + np.float32(1)),
        hardware=[
            Hardware(downtime=Downtime({CRASHED: [at] if at else []}))
            for at in ((50.0, 60.0), others.get(1), others.get(2))
        ],
        until=100,
        record=recorded(seen),
    )
    assert seen["sync_joined"][0] == 1  # device 0 had the largest norm, and would win the race again
    assert 60 < seen["sync_s"][0] < 63
    assert np.ptp([w[0] for w in held(emulation)]) < 1  # it would be 20 or more behind


def test_those_who_left_need_no_answer() -> None:
    """Two devices that both train have nothing more to say to each other about the synchronization."""
    records: list[Record] = []
    emulate(Sync(serve_s=50), ring(3), link={"latency": "20 ms"}, learner=FixedLearner(models(3)), sink=records.append)
    assert max(r.sent for r in records) < 5


# One-way and slow links


def test_a_neighbor_that_cannot_ask_gets_the_model_pushed() -> None:
    one_way = [[1], []]
    x = [np.full(3, 2, np.float32), np.ones(3, np.float32)]
    for link in ({}, {"rate": "10 kbit/s"}, {"loss": "30 %"}):
        emulation = emulate(Sync(serve_s=60.0), one_way, link=link, learner=FixedLearner(x))
        assert held(emulation)[1].tolist() == [2, 2, 2]


@pytest.mark.parametrize("graph", [[[1], [2], [0]], [[1], [0]]], ids=["one way", "both ways"])
def test_a_slow_link_is_not_flooded_with_models(graph) -> None:
    """A model of 4 kB takes 8 s on the air: while one is under way no other is queued."""
    slow = LinkSettings.model_validate({"rate": "4 kbit/s"})
    fast = LinkSettings()
    x = [np.full(1000, 3 - k, np.float32) for k in range(len(graph))]
    records: list[Record] = []
    emulation = emulate(
        Sync(),
        graph,
        link=lambda src, dst: slow if src == 0 else fast,
        learner=FixedLearner(x),
        sink=records.append,
    )
    sent = [(r.sent, r.verdict.arrival) for r in records if r.kind == "norm-model" and r.src == 0]
    assert all(w[0] == 3 for w in held(emulation))
    assert all(earlier[1] <= later[0] for earlier, later in itertools.pairwise(sent))
    assert len(sent) <= 2


# Changing graphs


def test_devices_that_meet_now_and_then_agree() -> None:
    """A device goes to and fro between two others, which never meet."""
    changes = [Change(at=20.0 * k, line=k, src=1, dst=2 * (k % 2), what="up", value="") for k in range(40)]
    changes += [Change(at=20.0 * (k + 1), line=k, src=1, dst=2 * (k % 2), what="down", value="") for k in range(40)]
    changes += [change._replace(src=change.dst, dst=change.src) for change in changes]
    contacts = Contacts(3, sorted(changes, key=lambda change: change.at))
    x = models(3)
    emulation = emulate(
        Sync(serve_s=60.0),
        [[1], [0, 2], [1]],
        neighborhood=contacts,
        learner=FixedLearner(x),
        until=800,
    )
    assert {w.tobytes() for w in held(emulation)} == {x[largest(x)].tobytes()}


@pytest.mark.parametrize("kind", ["one-peer-exponential", "random-matchings", "rotating-rings"])
def test_where_links_take_turns_all_of_them_carry_beacons(kind) -> None:
    topology = TypeAdapter(AnyTopology).validate_python({"kind": kind})
    graph = neighbors(topology.build(8, stream(1, "topology"))).outgoing
    x = models(8)
    turns = topology.neighborhood(8, stream(1, "topology"))
    emulation = emulate(Sync(), graph, neighborhood=turns, link={"latency": "10 ms"}, learner=FixedLearner(x))
    assert {w.tobytes() for w in held(emulation)} == {x[largest(x)].tobytes()}


# Hostile peers


NAN = float("nan")
NOBODY = np.empty(0, np.uint8)


@pytest.mark.parametrize(
    "message",
    [
        NormModel(np.array([99.0]), np.array([1], np.int32), False, np.full(3, 1, np.float32)),
        NormModel(np.array([99.0]), np.array([1], np.int32), False, np.full(4, 1, np.float64)),
        NormModel(np.array([99.0]), np.array([1], np.int32), False, np.array([1, 2, NAN, 3], np.float32)),
        NormModel(np.array([NAN]), np.array([1], np.int32), False, np.ones(4, np.float32)),
        NormModel(np.array([np.inf]), np.array([1], np.int32), False, np.ones(4, np.float32)),
        NormModel(np.array([99.0, 99.0]), np.array([1, 1], np.int32), False, np.ones(4, np.float32)),
        NormModel(np.array([99.0]), np.array([], np.int32), False, np.ones(4, np.float32)),
        NormModel(np.array([[99.0]]), np.array([[1]], np.int32), False, np.ones(4, np.float32)),
        NormModel(np.array([99.0]), np.array([1], np.int32), False, np.ones(4, np.float32)),
        NormKey(np.array([NAN]), np.array([1], np.int32), 0, False, -1, NOBODY),
        NormKey(np.array([]), np.array([], np.int32), 0, False, -1, NOBODY),
    ],
    ids=[
        "size",
        "dtype",
        "nan",
        "nan norm",
        "inf norm",
        "segments",
        "origins",
        "dimensions",
        "a norm it has not",
        "nan key",
        "empty key",
    ],
)
def test_what_does_not_fit_is_refused_and_counted(message) -> None:
    class Ad(Protocol):
        kind: str = "ad"

        async def run(self, device: Device) -> None:
            if device.id == 1:
                device.send(0, message)
                return
            w = await MaxNormSync.model_validate({"patience": "5 s"}).run(device, device.initial_params())
            device.finish_round(w)

    refused: list[int] = []
    emulation = emulate(
        Ad(),
        ring(2),
        learner=FixedLearner([np.full(4, 0.5, np.float32)] * 2),
        record=lambda k, metric, value: refused.append(k) if metric == "refused" else None,
    )
    assert refused == [0]
    assert held(emulation)[0].tolist() == [0.5] * 4


@pytest.mark.parametrize("ill", ["liar", "deaf"])
def test_a_larger_key_without_a_model_is_believed_only_for_so_long(ill) -> None:
    """Device 1 boasts and never sends, or has the largest norm and hears nobody; the others agree without it."""

    class Boast(Sync):
        kind: str = "boast"

        async def run(self, device: Device) -> None:
            if device.id != 1 or ill == "deaf":
                await super().run(device)
                return
            while device.now < 300:
                device.broadcast(NormKey(np.array([1e9]), np.array([1], np.int32), 0, False, -1, NOBODY))
                await device.sleep(1.0)

    seen: dict[str, dict[int, float]] = {}
    x = models(4)
    x[1] *= 10
    emulation = emulate(
        Boast(sync=MaxNormSync.model_validate({"patience": "10 s"}), serve_s=200.0),
        ring(4),
        link=lambda src, dst: LinkSettings(loss="100 %" if ill == "deaf" and dst == 1 else "0 %"),
        learner=FixedLearner(x),
        record=recorded(seen),
        until=600,
    )
    others = [w for k, w in enumerate(x) if k != 1]
    agreed = {w.tobytes() for k, w in enumerate(held(emulation)) if k != 1}
    assert agreed == {others[largest(others)].tobytes()}
    # 64 asks, a second apart, each given as much for an answer; the deaf one begins to train alone, and is silent.
    assert all((120 if ill == "liar" else 10) < seen["sync_s"][k] < 240 for k in (0, 2, 3))
    assert seen["sync_left_out"][0] == seen["sync_left_out"][2] == 1


def test_recorded_are_the_time_and_the_norm_agreed_on() -> None:
    seen: dict[str, set[float]] = {"sync_s": set(), "sync_norm": set()}
    x = models(4)
    emulate(
        Sync(),
        ring(4),
        learner=FixedLearner(x),
        record=lambda k, metric, value: seen[metric].add(value) if metric in seen else None,
    )
    (agreed,) = seen["sync_norm"]
    assert agreed == pytest.approx(norm(x[largest(x)]), rel=1e-14)
    assert all(0 < at < 60 for at in seen["sync_s"])


def test_none_starts_from_the_own_model() -> None:
    x = models(3)
    first: dict[int, bytes] = {}

    def step(k: int, w: np.ndarray) -> np.ndarray:
        first.setdefault(k, w.tobytes())
        return w

    learner = FixedLearner(x, step=step)
    emulate(P2PL(sync="none"), ring(3), learner=learner, rounds=1)
    assert first == {k: w.tobytes() for k, w in enumerate(x)}


@pytest.mark.parametrize(
    ("n", "delay", "loss", "rate"),
    [(20, 0.1, 0.0, None), (20, 2.0, 0.0, None), (20, 0.05, 0.5, None), (12, 0.0, 0.0, 2000), (8, 1.0, 0.2, 8000)],
)
def test_its_length_is_foreseen_within_a_factor_of_two(n, delay, loss, rate) -> None:
    link = {"latency": f"{delay} s", "loss": loss, **({"rate": f"{rate} bit/s"} if rate else {})}
    seen: dict[str, dict[int, float]] = {}
    emulate(Sync(serve_s=300.0), ring(n), link=link, learner=FixedLearner(models(n, 1000)), record=recorded(seen))
    expected = MaxNormSync().expected_s(n // 2, delay, loss, 8 * 4100 / rate if rate else 0.0)
    assert expected / 2 < max(seen["sync_s"].values()) < expected * 2
