"""The topology of a scenario, and the radios between the places of its devices.

[mobility], groups, [radio] positions, or the topology's places times [radio] area  ->  Motion (places.py)
[radio], its overrides, Motion                                                      ->  Propagation
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from p2pl_async.basics.arrays import Bools
from p2pl_async.basics.randomness import stream
from p2pl_async.errors import Problem, ScenarioError
from p2pl_async.radio import Propagation, RadioNeighbors, Static
from p2pl_async.scenario.building.airs import Airs, make_airs
from p2pl_async.scenario.events_in_order import EventsInOrder
from p2pl_async.scenario.scenario import Scenario
from p2pl_async.topology.base import TopologySettings, neighbors
from p2pl_async.topology.neighborhood import Neighborhood
from p2pl_async.topology.random_graphs import InRange

if TYPE_CHECKING:
    import networkx as nx


@dataclass(frozen=True)
class Layout:
    """The neighbors of every device, and the radios that decide them.

    Attributes:
        graph: nodes 0 to n - 1, an edge j -> k where k can ever hear j.
        neighborhood: the neighbors at each instant; None where they never change.
        airs: what links go over, "main" first.
        direct: the links that messages go over.
    """

    graph: nx.DiGraph[int]
    neighborhood: Neighborhood | None
    airs: Airs
    direct: Direct

    @property
    def propagation(self) -> Propagation | None:
        """Powers and error rates of `[radio]`; None without."""
        return self.airs.built[0].propagation


@dataclass(frozen=True)
class Direct:
    """The links that messages go over: those to neighbors, or with `[relay]` those that lead there.

    Attributes:
        topology: of these links.
        graph: an edge j -> k where there is ever a link.
        out_neighbors: for each device, those that it can ever reach, in order of id.
        neighborhood: those of each instant; None where they never change.
    """

    topology: TopologySettings
    graph: nx.DiGraph[int]
    out_neighbors: list[list[int]]
    neighborhood: Neighborhood | None

    def now(self, round_of: Callable[[int], int]) -> Callable[[int, float], Sequence[int]] | None:
        """Return (device, instant) -> those that it reaches then; None where they never change."""
        neighborhood = self.neighborhood
        if neighborhood is None:
            return None
        return lambda device, at: neighborhood.outgoing(device, at, round_of(device))


def lay_out(scenario: Scenario, events: EventsInOrder | None = None) -> Layout:
    """Return the topology of a scenario, with its places and radios if it has any.

    Args:
        scenario: a valid scenario.
        events: those that move devices; None: no event moves any.

    Raises:
        ScenarioError: if the topology can't be made, a device has no place, or a trace can't be used.
    """
    relay = scenario.relay
    graph = _build(scenario, scenario.topology, "topology")
    if relay is None:
        airs = make_airs(scenario, graph, events)
        direct = _direct(scenario, scenario.topology, "topology", graph, airs)
        return Layout(direct.graph, direct.neighborhood, airs, direct)
    links = _build(scenario, relay.over, "relay-links")
    airs = make_airs(scenario, links if relay.over.placed else graph, events)
    direct = _direct(scenario, relay.over, "relay-links", links, airs)
    neighborhood = scenario.topology.neighborhood(scenario.devices.count, stream(scenario.seed, "topology"))
    return Layout(graph, neighborhood, airs, direct)


def _build(scenario: Scenario, topology: TopologySettings, purpose: str) -> nx.DiGraph[int]:
    """Return the graph of a topology, drawn from the stream of a purpose."""
    try:
        return topology.build(scenario.devices.count, stream(scenario.seed, purpose))
    except ValueError as error:
        where = "topology" if purpose == "topology" else "relay.over"
        raise ScenarioError(scenario.name, [Problem(where, str(error))]) from error


def _direct(scenario: Scenario, topology: TopologySettings, purpose: str, graph: nx.DiGraph[int], airs: Airs) -> Direct:
    """Return the links of a topology; those in range follow from the radios.

    Raises:
        ScenarioError: if links come and go between devices that have no air in common.
    """
    neighborhood: Neighborhood | None
    main = airs.built[0].propagation
    if main is None or not isinstance(topology, InRange):
        neighborhood = topology.neighborhood(scenario.devices.count, stream(scenario.seed, purpose))
        linked = airs.linked(graph)
        if neighborhood is not None and linked.number_of_edges() < graph.number_of_edges():
            src, dst = next(edge for edge in graph.edges if not linked.has_edge(*edge))
            text = f"links devices {src} and {dst} in turn, which have no air in common; take one whose links stay"
            raise ScenarioError(scenario.name, [Problem("topology", text)])
        graph = linked
    else:
        moving = [one for one in scenario.devices.mobilities(scenario.mobility) if not isinstance(one, Static)]
        update = min((one.update for one in moving), default=scenario.mobility.update)
        in_range = RadioNeighbors(main, topology.loss, topology.size, topology.hysteresis, update, _other_radios(airs))
        moves = main.motion.moves
        graph, neighborhood = airs.linked(_linked(graph, in_range, moves)), in_range if moves else None
    return Direct(topology, graph, neighbors(graph).outgoing, neighborhood)


def _other_radios(airs: Airs) -> list[tuple[Bools, Propagation | bool]]:
    """Return the pairs of devices whose links are not on "main", and the radio of each air; see `RadioNeighbors`."""
    if not airs.of_devices.several:
        return []
    table = airs.of_devices.table
    radios = [(table == air.number, air.propagation or True) for air in airs.built[1:]]
    return [(table == -1, False), *radios]


def _linked(graph: nx.DiGraph[int], in_range: RadioNeighbors, moves: bool) -> nx.DiGraph[int]:
    """Return the devices of `graph` with a link wherever one is in range; where they move, with every link."""
    import networkx as nx

    n = len(graph)
    table = ~np.eye(n, dtype=np.bool_) if moves else in_range.table(0.0)
    result: nx.DiGraph[int] = nx.DiGraph()
    result.add_nodes_from(graph.nodes(data=True))
    result.add_edges_from(np.argwhere(table).tolist())
    return result
