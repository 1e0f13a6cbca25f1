"""What all topologies share: checked settings that build a directed graph on the devices 0..n-1.

An edge j -> i means that j can send to i. Undirected kinds have both directions of every
link. Graphs come from networkx, are drawn from the run's "topology" stream, and list
neighbors in ascending order, however they were made.

Some kinds change during a run. Their graph is the union over time of all links, and
`neighborhood` gives the links of an instant.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Annotated, ClassVar, NamedTuple

from pydantic import Field

from p2pl_async.basics.plugins import line_of_plugin
from p2pl_async.basics.settings import Settings
from p2pl_async.topology.contacts import Contacts
from p2pl_async.topology.one_peer import OnePeer

if TYPE_CHECKING:
    import networkx as nx  # slow to import; `p2pl check` does without
    import numpy as np


Count = Annotated[int, Field(strict=True, ge=1)]


class TopologySettings(Settings):
    """Base of every topology. A kind defines `make`, and `check` if it restricts the number of devices."""

    placed: ClassVar[bool] = False  # whether devices have places: nodes have the attribute "pos"

    def check(self, n: int) -> list[str]:
        """Return why `n` devices can't have this topology, and what to do; an empty list if they can."""
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
        try:
            made: object = self.make(n, random)
        except ValueError as error:  # of networkx, or in a user's file
            place = line_of_plugin(error)
            raise ValueError(f"{place}: {error}" if place else str(error)) from error
        if not isinstance(made, nx.Graph) or set(made) != set(range(n)):
            what = f"a graph of {len(made)} nodes" if isinstance(made, nx.Graph) else type(made).__name__
            where = getattr(self, "kind", type(self).__name__)
            raise ValueError(f"make(n, random) of {where} must return a networkx graph on 0..{n - 1}, returned {what}")
        graph: nx.DiGraph[int] = nx.DiGraph()
        graph.add_nodes_from((k, dict(made.nodes[k])) for k in range(n))
        for j in range(n):
            graph.add_edges_from((j, i) for i in sorted(made.adj[j]) if i != j)
        return graph

    @abstractmethod
    def make(self, n: int, random: np.random.Generator) -> nx.Graph[int]:
        """Return a graph on 0..n-1, directed or not; `build` puts its nodes and neighbors in order."""

    def neighborhood(self, n: int, random: np.random.Generator) -> OnePeer | Contacts | None:
        """Return the neighbors of each device over time, or None if they never change.

        Args:
            n: number of devices.
            random: a new stream, the same as `build` was given.
        """
        return None


class Neighbors(NamedTuple):
    """The devices that each device hears, and those that hear it: ascending ids, by device."""

    incoming: list[list[int]]
    outgoing: list[list[int]]


def neighbors(graph: nx.DiGraph[int]) -> Neighbors:
    """Return the in-neighbors and out-neighbors of every device."""
    return Neighbors([sorted(graph.pred[k]) for k in graph], [sorted(graph.succ[k]) for k in graph])


def warn_cut_off(graph: nx.DiGraph[int]) -> list[str]:
    """Return warnings about devices that are cut off; none if every device reaches every other.

    Devices of a graph that isn't strongly connected can't agree. The largest group in which every
    device reaches every other is the reference: some devices never receive its messages, or it
    never receives theirs, over any number of hops.
    """
    import networkx as nx

    groups = list(nx.strongly_connected_components(graph))
    if len(groups) <= 1:
        return []
    core = max(groups, key=lambda group: (len(group), -min(group)))
    some = min(core)
    rest = f"the other {len(core)} devices" if len(core) > 1 else f"device {some}"
    hearing = nx.descendants(graph, some) | core
    heard = nx.ancestors(graph, some) | core
    everyone = set(graph)
    found = [
        (everyone - hearing - heard, "is", "are", f"cut off from {rest} in both directions"),
        (heard - hearing, "hears", "hear", f"nothing from {rest}: no way leads there"),
        (hearing - heard, "is", "are", f"not heard by {rest}: no way leads back"),
    ]
    return [
        f"{_name(devices)} {one if len(devices) == 1 else many} {text}" for devices, one, many, text in found if devices
    ]


def _name(devices: Collection[int], most: int = 10) -> str:
    """Return `"devices 1, 2, 3"`, cut to a readable length."""
    shown = ", ".join(map(str, sorted(devices)[:most]))
    more = f" and {len(devices) - most} more" if len(devices) > most else ""
    return f"device{'s' * (len(devices) != 1)} {shown}{more}"


def graph_of(n: int, edges: Iterable[tuple[int, int]], *, directed: bool = False) -> nx.Graph[int]:
    """Return a graph on 0..n-1 with these edges."""
    import networkx as nx

    graph: nx.Graph[int] = nx.DiGraph() if directed else nx.Graph()
    graph.add_nodes_from(range(n))
    graph.add_edges_from(edges)
    return graph
