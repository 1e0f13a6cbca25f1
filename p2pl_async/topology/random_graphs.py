"""Graphs that are drawn: regular, Erdős-Rényi, small worlds, geometric."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, StrictBool

from p2pl_async.basics.units import PositiveBytes, Probability, SpreadDecibels

if TYPE_CHECKING:
    import networkx as nx  # slow to import; `p2pl check` does without
    import numpy as np
from p2pl_async.topology.base import Count, TopologySettings

_FEW = 1000  # devices, up to which all pairs are looked at: a tree needs scipy, half a second to import
_DRAWS = 100  # random graphs that `connected` tries before it gives up


class RandomRegular(TopologySettings):
    """Random, with the same number of neighbors for every device."""

    kind: Literal["random-regular"] = "random-regular"
    degree: Count = Field(description="neighbors of each device")

    def check(self, n: int) -> list[str]:
        if self.degree >= n:
            return [f"degree={self.degree} must be below the number of devices, {n}"]
        if n * self.degree % 2:
            even = self.degree + 1  # still below n, which is odd too
            return [f"degree={self.degree} with {n} devices gives half a link; use degree={even}, or {n + 1} devices"]
        return []

    def make(self, n: int, random: np.random.Generator) -> nx.Graph[int]:
        import networkx as nx

        return nx.random_regular_graph(self.degree, n, seed=seed_of(random))


class ErdosRenyi(TopologySettings):
    """Random: each link exists with probability p; with `directed`, each direction on its own."""

    kind: Literal["erdos-renyi"] = "erdos-renyi"
    p: Probability = Field(description="probability of each link")
    directed: StrictBool = Field(default=False, description="the two directions of a link exist independently")

    def make(self, n: int, random: np.random.Generator) -> nx.Graph[int]:
        import networkx as nx

        return nx.fast_gnp_random_graph(n, self.p, seed=seed_of(random), directed=self.directed)


class WattsStrogatz(TopologySettings):
    """Small world: a ring with some near neighbors and a share of its links rewired at random."""

    kind: Literal["watts-strogatz"] = "watts-strogatz"
    neighbors: Count = Field(description="neighbors of each device before rewiring; even")
    rewire: Probability = Field(description="share of links that are rewired")

    def check(self, n: int) -> list[str]:
        if self.neighbors % 2:
            return [f"neighbors={self.neighbors} must be even, half of them on each side; use {self.neighbors + 1}"]
        if self.neighbors >= n:
            return [f"neighbors={self.neighbors} must be below the number of devices, {n}"]
        return []

    def make(self, n: int, random: np.random.Generator) -> nx.Graph[int]:
        import networkx as nx

        return nx.watts_strogatz_graph(n, self.neighbors, self.rewire, seed=seed_of(random))


class BarabasiAlbert(TopologySettings):
    """A few hubs and many leaves: each new device attaches to some others, more likely to well-linked ones."""

    kind: Literal["barabasi-albert"] = "barabasi-albert"
    attach: Count = Field(description="links that each new device makes")

    def check(self, n: int) -> list[str]:
        return [f"attach={self.attach} must be below the number of devices, {n}"] if self.attach >= n else []

    def make(self, n: int, random: np.random.Generator) -> nx.Graph[int]:
        import networkx as nx

        return nx.barabasi_albert_graph(n, self.attach, seed=seed_of(random))


class RandomGeometric(TopologySettings):
    """Random places in the unit square; devices within `radius` are neighbors.

    With `connected`, places are drawn again until every device reaches every other.
    """

    kind: Literal["random-geometric"] = "random-geometric"
    radius: Annotated[float, Field(gt=0)] = Field(description="longest link; the square has side 1")
    connected: StrictBool = Field(default=True, description="draw again until no device is cut off")

    placed = True

    def make(self, n: int, random: np.random.Generator) -> nx.Graph[int]:
        import networkx as nx

        for _ in range(_DRAWS):
            graph: nx.Graph[int] = nx.Graph()
            graph.add_nodes_from((k, {"pos": tuple(place)}) for k, place in enumerate(random.random((n, 2)).tolist()))
            graph.add_edges_from(_near(graph, self.radius))
            if not self.connected or nx.is_connected(graph):
                return graph
        radius = self.radius
        while not nx.is_connected(graph):
            radius *= 1.05
            graph.add_edges_from(_near(graph, radius))
        raise ValueError(
            f"radius={self.radius:g} left some of {n} devices cut off in each of {_DRAWS} draws; "
            f"use about {math.ceil(100 * radius) / 100:g}, or connected = false"
        )


class InRange(TopologySettings):
    """By radio: a device that loses few enough of another's packets to noise is its out-neighbor.

    Places are random, unless `[radio]` or `[mobility]` gives them. With movement, links come and
    go. `make` gives the places alone: links follow from the radios, and the world adds them.
    """

    kind: Literal["in-range"] = "in-range"
    loss: Probability = Field(default=0.1, description="most packets that a neighbor may lose to noise")
    size: PositiveBytes = Field(default=100, description="length of those packets on the air")
    hysteresis: SpreadDecibels = Field(
        default=3.0, description="how much weaker a link may become before it ends; with movement"
    )

    placed = True

    def make(self, n: int, random: np.random.Generator) -> nx.Graph[int]:
        import networkx as nx

        graph: nx.Graph[int] = nx.Graph()
        graph.add_nodes_from((k, {"pos": tuple(place)}) for k, place in enumerate(random.random((n, 2)).tolist()))
        return graph


def _near(graph: nx.Graph[int], radius: float) -> list[tuple[int, int]]:
    """Return the pairs of placed devices that are at most so far apart, ascending."""
    import numpy as np

    if len(graph) > _FEW:
        import networkx as nx

        return list(nx.geometric_edges(graph, radius))
    x, y = np.array([place for _, place in graph.nodes(data="pos")]).T
    near = np.hypot(x[:, None] - x, y[:, None] - y) <= radius
    return [(int(j), int(k)) for j, k in zip(*np.triu(near, 1).nonzero(), strict=True)]


def seed_of(random: np.random.Generator) -> int:
    """Return a seed for networkx's own generator."""
    return int(random.integers(2**32))
