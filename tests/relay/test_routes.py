"""The ways of relayed messages, against networkx."""

from __future__ import annotations

import math

import networkx as nx
from hypothesis import given
from hypothesis import strategies as st

from p2pl_async.relay import Flood, ShortestPaths


@st.composite
def graphs(draw: st.DrawFn) -> list[list[int]]:
    n = draw(st.integers(2, 8))
    pairs = [(a, b) for a in range(n) for b in range(n) if a != b]
    chosen = draw(st.lists(st.sampled_from(pairs), unique=True))
    return [sorted(b for a, b in chosen if a == k) for k in range(n)]


@given(graphs(), st.integers(1, 8))
def test_each_way_has_the_fewest_hops_or_strands_where_they_are_too_many(out: list[list[int]], most: int) -> None:
    graph = nx.DiGraph([(a, b) for a, reached in enumerate(out) for b in reached])
    graph.add_nodes_from(range(len(out)))
    fewest = dict(nx.all_pairs_shortest_path_length(graph))
    routes = ShortestPaths(out, most)
    for src in range(len(out)):
        targets = [dst for dst in range(len(out)) if dst != src]
        arrived, stranded = {}, set()
        fronts: list[tuple[tuple[int, ...], tuple[int, ...]]] = [((src,), tuple(targets))]
        while fronts:
            way, left = fronts.pop()
            onward = routes.onward(way, left, 0.0)
            stranded |= set(onward.stranded)
            for hop, duty in onward.hops.items():
                assert hop in out[way[-1]]
                if hop in duty:
                    arrived[hop] = len(way)
                fronts.append(((*way, hop), tuple(dst for dst in duty if dst != hop)))
        assert arrived == {dst: fewest[src][dst] for dst in targets if fewest[src].get(dst, math.inf) <= most}
        assert stranded == set(targets) - set(arrived)


def test_of_several_ways_a_message_takes_that_over_the_smallest_ids() -> None:
    diamond = ShortestPaths([[1, 2], [3], [3], []], 16)
    assert diamond.onward((0,), (3,), 0.0).hops == {1: (3,)}


def test_a_flood_goes_everywhere_but_back_and_ends_after_its_hops() -> None:
    flood = Flood([[1], [0, 2], [1]], 1, None)
    assert flood.onward((0,), (2,), 0.0).hops == {1: (2,)}
    assert flood.onward((0, 1), (2,), 0.0).hops == {}
    assert Flood([[1], [0, 2], [1]], 2, None).onward((0, 1), (2,), 0.0).hops == {2: (2,)}


def test_a_flood_goes_to_those_in_reach_at_the_instant() -> None:
    flood = Flood([[1, 2], [], []], 3, lambda device, at: [1] if at < 5 else [2])
    assert list(flood.onward((0,), (2,), 4.9).hops) == [1]
    assert list(flood.onward((0,), (2,), 5.0).hops) == [2]
