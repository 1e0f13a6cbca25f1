"""The ways of relayed messages, told before a run."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from p2pl_async.relay import ShortestPaths
from p2pl_async.scenario.building.layout import Direct
from p2pl_async.scenario.scenario import Scenario

if TYPE_CHECKING:
    import networkx as nx

_NAMED = 5  # pairs


def way(direct: Direct, src: int, dst: int) -> list[int] | None:
    """Return a way of the fewest hops over links that there ever are, both ends included; None if there is none."""
    paths = ShortestPaths(direct.out_neighbors, len(direct.out_neighbors))
    found = [src]
    while found[-1] != dst:
        onward = paths.onward(found, (dst,), 0.0)
        if not onward.hops:
            return None
        found.append(next(iter(onward.hops)))
    return found


def warn_of_ways(scenario: Scenario, graph: nx.DiGraph[int], direct: Direct) -> list[str]:
    """Return a warning that names the neighbors to which no way leads, or none short enough."""
    relay = scenario.relay
    if relay is None:
        return []
    paths = ShortestPaths(direct.out_neighbors, relay.hops)
    apart = [(src, dst) for src, dst in sorted(graph.edges) if paths.distance(src, dst) > relay.hops]
    if not apart:
        return []
    named = ", ".join(f"{src} to {dst}" for src, dst in apart[:_NAMED]) + (", ..." if len(apart) > _NAMED else "")
    none = all(paths.distance(src, dst) == math.inf for src, dst in apart)
    limit = "over no number of hops" if none else f"not within {relay.hops} hops (relay.hops)"
    return [f"messages of {len(apart)} of {graph.number_of_edges()} links can't arrive, {limit}: from {named}"]
