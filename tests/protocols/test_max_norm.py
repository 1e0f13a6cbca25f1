"""Max-norm synchronization: the laws of its join, agreement over any links, and what each setting does."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import networkx as nx
import numpy as np
import pytest
import trio
from helpers.models import model_of
from helpers.strategies import lossy_links, strongly_connected
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pl_async.device import Device
from p2pl_async.experiment.emulation import Emulation
from p2pl_async.hardware.hardware import Hardware
from p2pl_async.link import LinkSettings
from p2pl_async.protocols.base import Protocol
from p2pl_async.protocols.max_norm import Candidate, Key, MaxNormSync, NormKey, NormModel, Synchronized
from p2pl_async.protocols.p2pl import P2PL
from p2pl_async.testing import FixedLearner, complete, emulate, ring
from p2pl_async.trace import Record

WHOLE = [slice(0, 4)]
LAYERS = [slice(0, 1), slice(1, 3), slice(3, 4)]


class Sync(Protocol):
    """Only the synchronization; with `serve_s`, devices then answer for that long, as those that train do."""

    kind: str = "sync"
    sync: MaxNormSync = MaxNormSync()
    serve_s: float = 0.0

    async def run(self, device: Device) -> None:
        done = await self.sync.run(device, device.initial_params())
        device.finish_round(done.w)
        until = device.now + self.serve_s
        while device.now < until:
            await trio.sleep(0.5)
            done.serve()
        device.record("late", done.late)


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


PATIENT = MaxNormSync.model_validate({"anti_entropy": "1 s", "quiet": 40, "timeout": "150 s"})


@settings(max_examples=25)
@given(strongly_connected(max_size=6), lossy_links(max_loss=0.5), st.integers(0, 1000))
def test_everybody_ends_with_the_same_bits_and_the_largest_key(graph, link, seed) -> None:
    x = models(len(graph), seed=seed)
    with watched_merges() as merges:
        emulation = emulate(Sync(sync=PATIENT), graph, link=link, learner=FixedLearner(x), seed=seed)
    best = x[largest(x)]
    assert all(w.tobytes() == best.tobytes() for w in held(emulation))
    assert all(after >= before for _, _, before, after in merges)
    ((top, origin),) = max(after for *_, after in merges)
    assert origin == largest(x)
    assert top == pytest.approx(norm(best), rel=1e-14)


@settings(max_examples=8)
@given(strongly_connected(max_size=5), st.lists(lossy_links(max_loss=0.4), min_size=2, max_size=2), st.integers(0, 99))
def test_layers_agree_one_by_one(graph, links, seed) -> None:
    x = models(len(graph), seed=seed)
    halves = [slice(0, 3), slice(3, 6)]
    expected = np.concatenate([max((w[half] for w in x), key=norm) for half in halves])
    sync = PATIENT.model_copy(update={"scope": "layer"})
    for link in links:  # whatever the links and their draws
        emulation = emulate(Sync(sync=sync), graph, link=link, learner=FixedLearner(x), seed=seed)
        assert all(w.tobytes() == expected.tobytes() for w in held(emulation))
        seed += 1


@pytest.mark.parametrize(
    "graph",
    [nx.path_graph(6), nx.cycle_graph(7), nx.star_graph(5), nx.grid_2d_graph(3, 3), nx.cycle_graph(6, nx.DiGraph)],
    ids=["path", "ring", "star", "grid", "directed ring"],
)
@pytest.mark.parametrize("winner", [0, 3])
def test_without_loss_the_largest_is_everywhere_after_eccentricity_plus_one_hops(graph, winner) -> None:
    """Keys take one hop; then the model goes one hop further in each."""
    graph = nx.convert_node_labels_to_integers(graph)
    neighbors = [sorted(graph[k]) for k in range(len(graph))]
    x = models(len(graph))
    x[winner] = x[winner] * np.float32(100)
    with watched_merges() as merges:
        emulate(Sync(), neighbors, link={"latency": "10 ms"}, learner=FixedLearner(x))
    hops = nx.single_source_shortest_path_length(graph, winner)
    adopted = sorted(now for now, _, before, after in merges if before != after and after[0][1] == winner)
    assert len(adopted) == len(graph) - 1
    assert adopted[-1] <= (max(hops.values()) + 1) * 0.010 + 1e-12
    assert all(at <= (d + 1) * 0.010 + 1e-12 for at, d in zip(adopted, sorted(hops.values())[1:], strict=True))


def test_a_single_device_agrees_with_itself() -> None:
    emulation = emulate(Sync(), [[]], learner=FixedLearner(models(1)))
    assert emulation.clock.now == 3.0


# Settings


def ended(sync: dict[str, object], **how: Any) -> list[float]:
    """Return when each device left the synchronization."""
    at: dict[int, float] = {}
    emulate(
        Sync(sync=MaxNormSync.model_validate(sync)),
        ring(4),
        learner=FixedLearner(models(4)),
        record=lambda k, metric, value: at.__setitem__(k, value) if metric == "sync_s" else None,
        **how,
    )
    return [at[k] for k in sorted(at)]


def test_quiet_is_how_long_nothing_may_have_changed() -> None:
    link = {"latency": "10 ms"}
    for quiet in (1, 3, 10):
        at = ended({"quiet": quiet, "anti_entropy": "2 s"}, link=link)
        assert all(2 * quiet < t < 2 * quiet + 2.1 for t in at)


def test_anti_entropy_is_the_time_between_two_broadcasts() -> None:
    for seconds in (0.5, 2):
        records: list[Record] = []
        ended({"anti_entropy": f"{seconds} s", "quiet": 3}, sink=records.append)
        told = sorted({r.sent for r in records if r.kind == "norm-key" and r.src == 0 and r.dst == 1})
        assert told[:3] == pytest.approx([0, seconds, 2 * seconds])


def test_the_timeout_ends_it_agreed_or_not() -> None:
    assert ended({"timeout": "7 s"}, link={"loss": "100 %"}) == [7.0] * 4
    assert max(ended({"timeout": "7 s"})) < 7


def test_scope_decides_whether_layers_come_from_different_devices() -> None:
    x = [np.array([9, 0, 1, 0], np.float32), np.array([0, 1, 0, 5], np.float32)]
    whole = emulate(Sync(), ring(2), learner=FixedLearner(x))
    layer = emulate(Sync(sync={"scope": "layer"}), ring(2), learner=FixedLearner(x))
    assert [w.tolist() for w in held(whole)] == [[9, 0, 1, 0]] * 2
    assert [w.tolist() for w in held(layer)] == [[9, 0, 0, 5]] * 2


# Late devices


def test_a_late_maximum_is_ignored_and_counted() -> None:
    """Device 2 has the largest norm and comes when the others train."""
    x = [np.full(2, v, np.float32) for v in (2.0, 1.0, 5.0)]
    counted: list[int] = []
    emulation = emulate(
        P2PL(sync={"kind": "max-norm", "timeout": "10 s"}),
        complete(3),
        learner=FixedLearner(x, step=lambda _, w: w),
        hardware=[Hardware(start=one) for one in [0, 0, 20]],
        link={"loss": {"kind": "bernoulli", "p": 0.0}},
        rounds=15,
        record=lambda k, metric, value: counted.append(k) if metric == "maxnorm_late" else None,
    )
    assert set(counted) == {0, 1}
    assert emulation.devices[0].round == 15

    early = emulate(
        P2PL(), complete(3), learner=FixedLearner(x), hardware=[Hardware(start=one) for one in [0, 0, 2]], rounds=1
    )
    assert all(model_of(device).tolist() == [5, 5] for device in early.devices)


def test_a_straggler_still_gets_the_model_from_neighbors_that_train() -> None:
    x = [np.full(2, v, np.float32) for v in (2.0, 1.0, 0.5)]
    first: dict[int, list[float]] = {}

    def train(k: int, w: np.ndarray) -> np.ndarray:
        first.setdefault(k, w.tolist())
        return w

    done: dict[int, float] = {}
    emulate(
        P2PL(),
        ring(3),
        link={"latency": "20 ms"},
        learner=FixedLearner(x, step=train),
        hardware=[Hardware(start=one) for one in [0, 0, 100]],
        until=150,
        record=lambda k, metric, value: done.__setitem__(k, value) if metric == "sync_s" else None,
    )
    assert first == {0: [2, 2], 1: [2, 2], 2: [2, 2]}
    assert done[0] == 60  # it waited for the straggler as long as it may
    assert done[2] < 100 + 10  # agreed, long before its timeout


def test_those_who_left_need_no_answer() -> None:
    """Two devices that both train have nothing more to say to each other about the synchronization."""
    records: list[Record] = []
    emulate(Sync(serve_s=50), ring(3), link={"latency": "20 ms"}, learner=FixedLearner(models(3)), sink=records.append)
    assert max(r.sent for r in records) < 10


# One-way and slow links


def test_a_neighbor_that_cannot_ask_gets_the_model_pushed() -> None:
    one_way = [[1], []]
    x = [np.full(3, 2, np.float32), np.ones(3, np.float32)]
    for link in ({}, {"rate": "10 kbit/s"}):
        emulation = emulate(Sync(), one_way, link=link, learner=FixedLearner(x))
        assert model_of(emulation.devices[1]).tolist() == [2, 2, 2]
    both = emulate(Sync(), ring(2), learner=FixedLearner(x))
    assert model_of(both.devices[1]).tolist() == [2, 2, 2]


@pytest.mark.parametrize("graph", [[[1], []], [[1], [0]]], ids=["one way", "both ways"])
def test_a_slow_link_is_not_flooded_with_models(graph) -> None:
    """A model of 4 kB takes 8 s on the air: while one is under way no other is queued."""
    slow = LinkSettings.model_validate({"rate": "4 kbit/s"})
    fast = LinkSettings()
    x = [np.full(1000, 2, np.float32), np.ones(1000, np.float32)]
    records: list[Record] = []
    emulation = emulate(
        Sync(sync={"quiet": 30, "timeout": "60 s"}),
        graph,
        link=lambda src, dst: slow if src == 0 else fast,
        learner=FixedLearner(x),
        sink=records.append,
    )
    sent = [(r.sent, r.verdict.arrival) for r in records if r.kind == "norm-model" and r.src == 0]
    assert model_of(emulation.devices[1])[0] == 2
    assert all(earlier[1] <= later[0] for earlier, later in itertools.pairwise(sent))
    assert len(sent) <= 8


# Hostile peers


NAN = float("nan")


@pytest.mark.parametrize(
    "message",
    [
        NormModel(np.array([99.0]), np.array([1], np.int32), np.full(3, 1, np.float32)),
        NormModel(np.array([99.0]), np.array([1], np.int32), np.full(4, 1, np.float64)),
        NormModel(np.array([99.0]), np.array([1], np.int32), np.array([1, 2, NAN, 3], np.float32)),
        NormModel(np.array([NAN]), np.array([1], np.int32), np.ones(4, np.float32)),
        NormModel(np.array([np.inf]), np.array([1], np.int32), np.ones(4, np.float32)),
        NormModel(np.array([99.0, 99.0]), np.array([1, 1], np.int32), np.ones(4, np.float32)),
        NormModel(np.array([99.0]), np.array([], np.int32), np.ones(4, np.float32)),
        NormModel(np.array([[99.0]]), np.array([[1]], np.int32), np.ones(4, np.float32)),
        NormKey(np.array([NAN]), np.array([1], np.int32), False),
        NormKey(np.array([]), np.array([], np.int32), False),
    ],
    ids=["size", "dtype", "nan", "nan norm", "inf norm", "segments", "origins", "dimensions", "nan key", "empty key"],
)
def test_what_does_not_fit_is_refused_and_counted(message) -> None:
    class Ad(Protocol):
        kind: str = "ad"

        async def run(self, device: Device) -> None:
            if device.id == 1:
                device.send(0, message)
                return
            sync = await MaxNormSync.model_validate({"timeout": "5 s"}).run(device, device.initial_params())
            device.finish_round(sync.w)

    refused: list[int] = []
    emulation = emulate(
        Ad(),
        ring(2),
        learner=FixedLearner([np.full(4, 0.5, np.float32)] * 2),
        record=lambda k, metric, value: refused.append(k) if metric == "refused" else None,
    )
    assert refused == [0]
    assert model_of(emulation.devices[0]).tolist() == [0.5] * 4


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


def test_synchronized_holds_what_the_candidate_holds() -> None:
    class Ad(Protocol):
        kind: str = "ad"

        async def run(self, device: Device) -> None:
            w = device.initial_params()
            sync = Synchronized(device, Candidate(w, device.id, [slice(0, w.size)]))
            assert sync.w is w
            assert not sync.agreed(1.0)
            await trio.sleep(2)
            assert not sync.agreed(1.0)  # nobody was heard

    emulate(Ad(), ring(2), learner=FixedLearner(models(2)))
