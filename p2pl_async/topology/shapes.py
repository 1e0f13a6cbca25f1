"""Fixed shapes: rings, stars, lattices and the like."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from p2pl_async.basics.settings import kind_of

if TYPE_CHECKING:
    import networkx as nx  # slow to import; `p2pl check` does without
    import numpy as np
from p2pl_async.topology.base import Count, TopologySettings, graph_of


class Complete(TopologySettings):
    """Every device hears every other."""

    kind: Literal["complete"] = "complete"

    def make(self, n: int, random: np.random.Generator) -> nx.Graph[int]:
        import networkx as nx

        return nx.complete_graph(n)


class Ring(TopologySettings):
    """A closed chain: device k has the neighbors k - 1 and k + 1."""

    kind: Literal["ring"] = "ring"

    def make(self, n: int, random: np.random.Generator) -> nx.Graph[int]:
        import networkx as nx

        return nx.cycle_graph(n)


class DirectedRing(TopologySettings):
    """A closed chain in one direction: k is heard by k + 1 only."""

    kind: Literal["directed-ring"] = "directed-ring"

    def make(self, n: int, random: np.random.Generator) -> nx.Graph[int]:
        import networkx as nx

        return nx.cycle_graph(n, create_using=nx.DiGraph)


class PathGraph(TopologySettings):
    """A chain with two ends."""

    kind: Literal["path"] = "path"

    def make(self, n: int, random: np.random.Generator) -> nx.Graph[int]:
        import networkx as nx

        return nx.path_graph(n)


class Star(TopologySettings):
    """Device 0 is the hub; the others hear only it."""

    kind: Literal["star"] = "star"

    def make(self, n: int, random: np.random.Generator) -> nx.Graph[int]:
        import networkx as nx

        return nx.star_graph(n - 1)


class _Lattice(TopologySettings):
    rows: Count | None = Field(default=None, description="number of rows")
    columns: Count | None = Field(default=None, description="number of columns")

    placed = True
    _least: ClassVar[int]  # fewest rows, and fewest columns
    _wraps: ClassVar[bool]

    def check(self, n: int) -> list[str]:
        if self._shape(n):
            return []
        kind = kind_of(type(self))
        if min(self.rows or self._least, self.columns or self._least) < self._least:
            return [f"a {kind} needs at least {self._least} rows and {self._least} columns"]
        if self.rows and self.columns:
            counts = [self.rows * self.columns]
        else:  # the nearest ones: a multiple of `_least` rows, or of those given, is never far
            below = (m for m in range(n - 1, 0, -1) if self._shape(m))
            above = (m for m in itertools.count(n + 1) if self._shape(m))
            counts = [*itertools.islice(below, 1), *itertools.islice(above, 1)]
        fitting = " or ".join(f"{m} ({' x '.join(map(str, self._shape(m) or ()))})" for m in counts)
        return [f"a {kind} has rows x columns devices, not {n}; use {fitting}"]

    def _shape(self, n: int) -> tuple[int, int] | None:
        """Return (rows, columns) for `n` devices, as square as can be, or None if nothing fits."""
        if self.rows:
            choices: Iterable[int] = [self.rows]
        elif self.columns:
            choices = [n // self.columns]
        else:
            choices = range(math.isqrt(n), self._least - 1, -1)
        for rows in choices:
            columns = self.columns or n // rows
            if rows * columns == n and min(rows, columns) >= self._least:
                return rows, columns
        return None

    def make(self, n: int, random: np.random.Generator) -> nx.Graph[int]:
        import networkx as nx

        rows, columns = self._shape(n) or (0, 0)
        graph = nx.convert_node_labels_to_integers(nx.grid_2d_graph(rows, columns, periodic=self._wraps))
        for k in range(n):
            graph.nodes[k]["pos"] = ((k % columns + 0.5) / columns, (k // columns + 0.5) / rows)
        return graph


class Grid(_Lattice):
    """Rows and columns with up to four neighbors each; by default as square as the count allows."""

    kind: Literal["grid"] = "grid"

    _least = 2
    _wraps = False


class Torus(_Lattice):
    """A grid whose borders are joined: every device has four neighbors."""

    kind: Literal["torus"] = "torus"

    _least = 3  # with two rows, up and down would be the same neighbor
    _wraps = True


class Hypercube(TopologySettings):
    """Neighbors differ in one bit of their id; the count is a power of two."""

    kind: Literal["hypercube"] = "hypercube"

    def check(self, n: int) -> list[str]:
        if n & (n - 1) == 0:
            return []
        above = 1 << n.bit_length()
        return [f"a hypercube has a power of two of devices, not {n}; use {above // 2} or {above}"]

    def make(self, n: int, random: np.random.Generator) -> nx.Graph[int]:
        return graph_of(n, [(k, k ^ 1 << bit) for k in range(n) for bit in range(n.bit_length() - 1)])


class Exponential(TopologySettings):
    """Directed: k is heard by k + 1, k + 2, k + 4, ...; few links, and few hops between any two devices.

    Source: M. Assran et al., "Stochastic gradient push for distributed deep learning", ICML 2019.
    """

    kind: Literal["exponential"] = "exponential"

    def make(self, n: int, random: np.random.Generator) -> nx.Graph[int]:
        return graph_of(n, [(k, (k + hop) % n) for k in range(n) for hop in powers_below(n)], directed=True)


def powers_below(n: int) -> list[int]:
    """Return the powers of two below n, ascending."""
    return [1 << power for power in range((n - 1).bit_length())]
