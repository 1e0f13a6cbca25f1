"""Graphs that change with each round, or with time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from p2pl_async.basics.randomness import stream
from p2pl_async.basics.settings import word
from p2pl_async.basics.units import PositiveSeconds
from p2pl_async.topology.one_peer import OnePeer, Order, hop_order, matching_order, ring_order

if TYPE_CHECKING:
    import networkx as nx  # slow to import; `p2pl check` does without
    import numpy as np
from p2pl_async.topology.base import Count, TopologySettings, graph_of
from p2pl_async.topology.random_graphs import seed_of
from p2pl_async.topology.shapes import powers_below


class _Changing(TopologySettings):
    """Base of topologies in which every device sends to one other at a time."""

    every: Annotated[PositiveSeconds | None, *word("round")] = Field(
        default=None, description='virtual time between two changes, or "round": with each round of a device'
    )


class OnePeerExponential(_Changing):
    """Changing: k sends to k + 1, then to k + 2, k + 4, ... and again; to one device at a time.

    With n a power of two, n devices have the exact average after log2(n) steps.

    Source: M. Assran et al., "Stochastic gradient push for distributed deep learning", ICML 2019.
    """

    kind: Literal["one-peer-exponential"] = "one-peer-exponential"

    def make(self, n: int, random: np.random.Generator) -> nx.Graph[int]:
        return graph_of(n, [(k, (k + hop) % n) for k in range(n) for hop in powers_below(n)], directed=True)

    def neighborhood(self, n: int, random: np.random.Generator) -> OnePeer:
        hops = powers_below(n) or [0]
        return OnePeer(lambda step: hop_order(n, hops[step % len(hops)]), self.every)


class RotatingRings(_Changing):
    """Changing: a few random directed rings through all devices, one after another; one out-neighbor at a time.

    Source: S. A. Aketi, A. Singh, J. Rabaey, arXiv:2102.05715, which rotates through six permutations.
    """

    kind: Literal["rotating-rings"] = "rotating-rings"
    count: Count = Field(default=6, description="rings that take turns")

    def make(self, n: int, random: np.random.Generator) -> nx.Graph[int]:
        orders = self._orders(n, random)
        return graph_of(n, [(k, int(order[k])) for order in orders for k in range(n)], directed=True)

    def neighborhood(self, n: int, random: np.random.Generator) -> OnePeer:
        orders = self._orders(n, random)
        return OnePeer(lambda step: orders[step % len(orders)], self.every)

    def _orders(self, n: int, random: np.random.Generator) -> list[Order]:
        return [ring_order(n, random) for _ in range(self.count)]


class RandomMatchings(_Changing):
    """Changing: random pairs that hear each other, drawn anew at each step; with an odd count one is left out."""

    kind: Literal["random-matchings"] = "random-matchings"

    def make(self, n: int, random: np.random.Generator) -> nx.Graph[int]:
        import networkx as nx

        return nx.complete_graph(n)

    def neighborhood(self, n: int, random: np.random.Generator) -> OnePeer:
        seed = seed_of(random)
        return OnePeer(lambda step: matching_order(n, stream(seed, "matching", step)), self.every)
