"""Topologies: who can hear whom, as directed graphs on the devices 0..n-1.

An edge j -> i says that j can send to i. Undirected kinds have both directions of every
link. Graphs come from networkx, are drawn from the run's "topology" stream, and list
neighbors in ascending order, whatever order they were made in.

Some kinds change while a run goes. Their graph has every link that there is at some time, and
`neighborhood` says which of them there are when.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple

from pydantic import Field, StrictBool

from p2pl_async.contacts import Contacts, read_changes
from p2pl_async.one_peer import OnePeer, Order, hop_order, matching_order, ring_order
from p2pl_async.randomness import stream
from p2pl_async.settings import OneOf, Settings, kind_of, word
from p2pl_async.units import PositiveBytes, PositiveSeconds, Probability, SpreadDecibels

if TYPE_CHECKING:
    import networkx as nx  # slow to import; `p2pl check` does without
    import numpy as np

Count = Annotated[int, Field(strict=True, ge=1)]

_DRAWS = 100  # random graphs that `connected` tries before it gives up


class TopologySettings(Settings):
    """Base of every topology. A kind defines `make`, and `check` if it can't have any count."""

    placed: ClassVar[bool] = False  # in the plane: nodes have the attribute "pos"

    def check(self, n: int) -> list[str]:
        """Return why `n` devices can't have this topology and what to do; nothing if they can."""
        return []

    def build(self, n: int, random: np.random.Generator) -> nx.DiGraph[int]:
        """Return the graph of `n` devices.

        Args:
            n: number of devices, at least 1.
            random: the stream that random kinds draw from.

        Returns:
            A graph with nodes 0..n-1 in order, neighbors in ascending order, no loops; kinds
            laid out in the plane have the node attribute "pos", (x, y) in the unit square.

        Raises:
            ValueError: if `n` devices can't have this topology; the text says what to do.
        """
        import networkx as nx

        wrong = self.check(n)
        if wrong:
            raise ValueError("; ".join(wrong))
        made = self.make(n, random)
        graph: nx.DiGraph[int] = nx.DiGraph()
        graph.add_nodes_from((k, dict(made.nodes[k])) for k in range(n))
        for j in range(n):
            graph.add_edges_from((j, i) for i in sorted(made.adj[j]) if i != j)
        return graph

    def make(self, n: int, random: np.random.Generator) -> nx.Graph[int]:
        """Return a graph on 0..n-1, directed or not; `build` puts it in order."""
        raise NotImplementedError

    def neighborhood(self, n: int, random: np.random.Generator) -> OnePeer | Contacts | None:
        """Return who can hear whom at what time, or None where that never changes.

        Args:
            n: number of devices.
            random: a new stream, the same as `build` was given.
        """
        return None


class Complete(TopologySettings):
    """Everyone hears everyone."""

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
    _least: ClassVar[int]  # fewest rows, and fewest columns, of a lattice that deserves its name
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
    """Rows and columns with up to four neighbors each; without them, as square as the count allows."""

    kind: Literal["grid"] = "grid"

    _least = 2
    _wraps = False


class Torus(_Lattice):
    """A grid whose borders are joined: everyone has four neighbors."""

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
        return _graph(n, [(k, k ^ 1 << bit) for k in range(n) for bit in range(n.bit_length() - 1)])


class Exponential(TopologySettings):
    """Directed: k is heard by k + 1, k + 2, k + 4, ...; few links, and short ways to everyone.

    Source: M. Assran et al., "Stochastic gradient push for distributed deep learning", ICML 2019.
    """

    kind: Literal["exponential"] = "exponential"

    def make(self, n: int, random: np.random.Generator) -> nx.Graph[int]:
        return _graph(n, [(k, (k + hop) % n) for k in range(n) for hop in _hops(n)], directed=True)


class RandomRegular(TopologySettings):
    """Random, with the same number of neighbors for everyone."""

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

        return nx.random_regular_graph(self.degree, n, seed=_seed(random))


class ErdosRenyi(TopologySettings):
    """Random: each link exists with probability p; with `directed`, each direction on its own."""

    kind: Literal["erdos-renyi"] = "erdos-renyi"
    p: Probability = Field(description="probability of each link")
    directed: StrictBool = Field(default=False, description="the two directions exist independently")

    def make(self, n: int, random: np.random.Generator) -> nx.Graph[int]:
        import networkx as nx

        return nx.fast_gnp_random_graph(n, self.p, seed=_seed(random), directed=self.directed)


class WattsStrogatz(TopologySettings):
    """Small world: a ring with some near neighbors, of whose links a share is rewired at random."""

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

        return nx.watts_strogatz_graph(n, self.neighbors, self.rewire, seed=_seed(random))


class BarabasiAlbert(TopologySettings):
    """A few hubs and many leaves: each new device attaches to some, to well-linked ones more likely."""

    kind: Literal["barabasi-albert"] = "barabasi-albert"
    attach: Count = Field(description="links that each new device makes")

    def check(self, n: int) -> list[str]:
        return [f"attach={self.attach} must be below the number of devices, {n}"] if self.attach >= n else []

    def make(self, n: int, random: np.random.Generator) -> nx.Graph[int]:
        import networkx as nx

        return nx.barabasi_albert_graph(n, self.attach, seed=_seed(random))


class RandomGeometric(TopologySettings):
    """Random places in the unit square; whoever is within `radius` is a neighbor.

    With `connected`, places are drawn again until there is a way from everyone to everyone.
    """

    kind: Literal["random-geometric"] = "random-geometric"
    radius: Annotated[float, Field(gt=0)] = Field(description="longest link; the square has side 1")
    connected: StrictBool = Field(default=True, description="draw again until nobody is cut off")

    placed = True

    def make(self, n: int, random: np.random.Generator) -> nx.Graph[int]:
        import networkx as nx

        for _ in range(_DRAWS):
            graph: nx.Graph[int] = nx.Graph()
            graph.add_nodes_from((k, {"pos": tuple(place)}) for k, place in enumerate(random.random((n, 2)).tolist()))
            graph.add_edges_from(nx.geometric_edges(graph, self.radius))
            if not self.connected or nx.is_connected(graph):
                return graph
        radius = self.radius
        while not nx.is_connected(graph):
            radius *= 1.05
            graph.add_edges_from(nx.geometric_edges(graph, radius))
        raise ValueError(
            f"radius={self.radius:g} left some of {n} devices cut off in each of {_DRAWS} draws; "
            f"use about {math.ceil(100 * radius) / 100:g}, or connected = false"
        )


class InRange(TopologySettings):
    """By radio: whoever receives a device with less than some loss is its out-neighbor, and hears it.

    Places are random, unless `[radio]` or `[mobility]` gives them. With movement, links come and
    go. `make` gives the places alone, for links need the radios; the world adds them.
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


class _Changing(TopologySettings):
    """Base of topologies in which everyone sends to one device at a time."""

    every: Annotated[PositiveSeconds | None, *word("round")] = Field(
        default=None, description='virtual time between two changes, or "round": with each round of a device'
    )


class OnePeerExponential(_Changing):
    """Changing: k sends to k + 1, then to k + 2, k + 4, ... and again; one device at a time.

    A power of two of devices has the exact average after as many steps as there are bits in its ids.

    Source: M. Assran et al., "Stochastic gradient push for distributed deep learning", ICML 2019.
    """

    kind: Literal["one-peer-exponential"] = "one-peer-exponential"

    def make(self, n: int, random: np.random.Generator) -> nx.Graph[int]:
        return _graph(n, [(k, (k + hop) % n) for k in range(n) for hop in _hops(n)], directed=True)

    def neighborhood(self, n: int, random: np.random.Generator) -> OnePeer:
        hops = _hops(n) or [0]
        return OnePeer(lambda step: hop_order(n, hops[step % len(hops)]), self.every)


class RotatingRings(_Changing):
    """Changing: a few random directed rings through all devices, in turn; one out-neighbor at a time.

    Source: S. A. Aketi, A. Singh, J. Rabaey, arXiv:2102.05715, which rotates through six permutations.
    """

    kind: Literal["rotating-rings"] = "rotating-rings"
    count: Count = Field(default=6, description="rings that take turns")

    def make(self, n: int, random: np.random.Generator) -> nx.Graph[int]:
        orders = self._orders(n, random)
        return _graph(n, [(k, int(order[k])) for order in orders for k in range(n)], directed=True)

    def neighborhood(self, n: int, random: np.random.Generator) -> OnePeer:
        orders = self._orders(n, random)
        return OnePeer(lambda step: orders[step % len(orders)], self.every)

    def _orders(self, n: int, random: np.random.Generator) -> list[Order]:
        return [ring_order(n, random) for _ in range(self.count)]


class RandomMatchings(_Changing):
    """Changing: random pairs that hear each other, drawn anew at each step; with an odd count one rests."""

    kind: Literal["random-matchings"] = "random-matchings"

    def make(self, n: int, random: np.random.Generator) -> nx.Graph[int]:
        import networkx as nx

        return nx.complete_graph(n)

    def neighborhood(self, n: int, random: np.random.Generator) -> OnePeer:
        seed = _seed(random)
        return OnePeer(lambda step: matching_order(n, stream(seed, "matching", step)), self.every)


class FromFile(TopologySettings):
    """Links from a file: GraphML (by its ending .graphml), else one link per line, such as "0 1".

    Ids are 0 to count - 1. In a list of links, blank lines and what follows a "#" don't count, and
    `directed` makes each line one direction only. GraphML says itself whether it is directed.
    """

    kind: Literal["file"] = "file"
    path: Path = Field(description="the file")
    directed: StrictBool | None = Field(default=None, description="each line of a list is one direction only")

    def check(self, n: int) -> list[str]:
        try:
            self._read(n)
        except OSError as error:
            return [f"can't read {self.path}: {error.strerror or error}"]
        except ValueError as error:
            return [str(error)]
        return []

    def make(self, n: int, random: np.random.Generator) -> nx.Graph[int]:
        edges, directed = self._read(n)
        return _graph(n, edges, directed=directed)

    def _read(self, n: int) -> tuple[list[tuple[int, int]], bool]:
        """Return the links and whether they are one way; ValueError says what is wrong where."""
        if self.path.suffix.lower() == ".graphml":
            return self._read_graphml(n)
        edges = []
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f'{self.path} is no text; it must have lines such as "0 1"') from error
        for number, line in enumerate(lines, start=1):
            words = line.partition("#")[0].replace(",", " ").split()
            if words:
                where = f"{self.path}, line {number}:"
                if len(words) != 2:
                    raise ValueError(f'{where} must be two device ids, such as "0 1", not "{line.strip()[:40]}"')
                edges.append(_link(where, words[0], words[1], n))
        return edges, bool(self.directed)

    def _read_graphml(self, n: int) -> tuple[list[tuple[int, int]], bool]:
        from xml.etree.ElementTree import ParseError

        import networkx as nx

        with self.path.open("rb") as file:
            try:
                graph = nx.read_graphml(file)
            except (ParseError, nx.NetworkXError, ValueError, KeyError) as error:
                raise ValueError(f"{self.path} is no GraphML that can be read: {error}") from error
        if self.directed is not None and self.directed != graph.is_directed():
            said = "directed" if graph.is_directed() else "undirected"
            raise ValueError(f"directed={str(self.directed).lower()} contradicts {self.path}, which is {said}")
        edges = [_link(f"{self.path}:", j.removeprefix("n"), i.removeprefix("n"), n) for j, i in graph.edges()]
        return edges, graph.is_directed()


class LinkTrace(TopologySettings):
    """Links that come and go as a file says: CSV lines t,src,dst,change below that header.

    A change is `up`, `down`, or a key of `[link]` with a value that holds from then on, such as
    `rate=1 Mbit/s` or `loss.p=5 %`. Before its first `up` a link is down; what is sent
    while it is down is lost.
    """

    kind: Literal["trace"] = "trace"
    path: Path = Field(description="the file")
    directed: StrictBool = Field(default=False, description="each line is about one direction only")

    def check(self, n: int) -> list[str]:
        try:
            read_changes(self.path, n, self.directed)
        except ValueError as error:
            return [str(error)]
        return []

    def make(self, n: int, random: np.random.Generator) -> nx.Graph[int]:
        return _graph(n, self.neighborhood(n, random).links, directed=True)

    def neighborhood(self, n: int, random: np.random.Generator) -> Contacts:
        return Contacts(n, read_changes(self.path, n, self.directed))


AnyTopology = Annotated[
    TopologySettings,
    OneOf(
        "topology", Complete, Ring, DirectedRing, PathGraph, Star, Grid, Torus, Hypercube, Exponential, RandomRegular,
        ErdosRenyi, WattsStrogatz, BarabasiAlbert, RandomGeometric, InRange, OnePeerExponential, RotatingRings,
        RandomMatchings, FromFile, LinkTrace,
    ),
]  # fmt: skip


class Neighbors(NamedTuple):
    """Whom each device hears, and who hears it: ascending ids, by device."""

    incoming: list[list[int]]
    outgoing: list[list[int]]


def neighbors(graph: nx.DiGraph[int]) -> Neighbors:
    """Return the in-neighbors and out-neighbors of every device."""
    return Neighbors([sorted(graph.pred[k]) for k in graph], [sorted(graph.succ[k]) for k in graph])


def problems(graph: nx.DiGraph[int]) -> list[str]:
    """Return warnings about devices that are cut off; none if everyone can reach everyone.

    A graph that isn't strongly connected can't agree: measured against the largest group in
    which everyone reaches everyone, some devices never get what it says, or never get
    anything through to it, over however many hops.
    """
    import networkx as nx

    groups = list(nx.strongly_connected_components(graph))
    if len(groups) <= 1:
        return []
    core = max(groups, key=lambda group: (len(group), -min(group)))
    some = min(core)
    rest = f"the other {len(core)} devices" if len(core) > 1 else f"device {some}"
    hears = nx.descendants(graph, some) | core
    heard = nx.ancestors(graph, some) | core
    everyone = set(graph)
    found = [
        (everyone - hears - heard, "is", "are", f"cut off from {rest} in both directions"),
        (heard - hears, "hears", "hear", f"nothing from {rest}: no way leads there"),
        (hears - heard, "is", "are", f"not heard by {rest}: no way leads back"),
    ]
    return [f"{_name(who)} {one if len(who) == 1 else many} {what}" for who, one, many, what in found if who]


def _name(devices: Collection[int], most: int = 10) -> str:
    """Return `"devices 1, 2, 3"`, cut to a readable length."""
    shown = ", ".join(map(str, sorted(devices)[:most]))
    more = f" and {len(devices) - most} more" if len(devices) > most else ""
    return f"device{'s' * (len(devices) != 1)} {shown}{more}"


def _graph(n: int, edges: Iterable[tuple[int, int]], *, directed: bool = False) -> nx.Graph[int]:
    """Return a graph on 0..n-1 with these edges."""
    import networkx as nx

    graph: nx.Graph[int] = nx.DiGraph() if directed else nx.Graph()
    graph.add_nodes_from(range(n))
    graph.add_edges_from(edges)
    return graph


def _hops(n: int) -> list[int]:
    """Return the powers of two below n."""
    return [1 << power for power in range((n - 1).bit_length())]


def _link(where: str, src: str, dst: str, n: int) -> tuple[int, int]:
    """Return a link read from a file; ValueError if there can't be such a link."""
    for name in (src, dst):
        if not (name.isascii() and name.isdigit()):
            raise ValueError(f'{where} "{name[:40]}" is no device id; ids are 0 to {n - 1}')
        if int(name) >= n:
            raise ValueError(f"{where} there is no device {name}; ids are 0 to {n - 1}, or set devices.count")
    if int(src) == int(dst):
        raise ValueError(f"{where} device {src} can't have a link to itself")
    return int(src), int(dst)


def _seed(random: np.random.Generator) -> int:
    """Return a seed for networkx's own generator."""
    return int(random.integers(2**32))
