"""The places of a scenario's devices, its topology, and the radios between the places.

[radio] positions, or [mobility], or the topology's places times [radio] area  ->  Motion
[radio], its overrides, Motion                                                 ->  Propagation
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from p2pl_async.basics.randomness import stream
from p2pl_async.device import Neighborhood
from p2pl_async.errors import Problem, ScenarioError
from p2pl_async.radio import Motion, Propagation, RadioNeighbors, Track, Transceivers
from p2pl_async.scenario.events_in_order import EventsInOrder
from p2pl_async.scenario.scenario import Scenario
from p2pl_async.scenario.selector import select
from p2pl_async.topology.base import TopologySettings, neighbors
from p2pl_async.topology.random_graphs import InRange

if TYPE_CHECKING:
    import networkx as nx


@dataclass(frozen=True)
class Layout:
    """The neighbors of every device, and the radios that decide them.

    Attributes:
        graph: nodes 0 to n - 1, an edge j -> k where k can ever hear j.
        neighborhood: the neighbors at each instant; None where they never change.
        propagation: powers and error rates between the places; None without `[radio]`.
        direct: the links that messages go over.
    """

    graph: nx.DiGraph[int]
    neighborhood: Neighborhood | None
    propagation: Propagation | None
    direct: Direct


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
        propagation = make_propagation(scenario, graph, events)
        direct = _direct(scenario, scenario.topology, "topology", graph, propagation)
        return Layout(direct.graph, direct.neighborhood, propagation, direct)
    links = _build(scenario, relay.over, "relay-links")
    propagation = make_propagation(scenario, links if relay.over.placed else graph, events)
    direct = _direct(scenario, relay.over, "relay-links", links, propagation)
    neighborhood = scenario.topology.neighborhood(scenario.devices.count, stream(scenario.seed, "topology"))
    return Layout(graph, neighborhood, propagation, direct)


def _build(scenario: Scenario, topology: TopologySettings, purpose: str) -> nx.DiGraph[int]:
    """Return the graph of a topology, drawn from the stream of a purpose."""
    try:
        return topology.build(scenario.devices.count, stream(scenario.seed, purpose))
    except ValueError as error:
        where = "topology" if purpose == "topology" else "relay.over"
        raise ScenarioError(scenario.name, [Problem(where, str(error))]) from error


def _direct(
    scenario: Scenario,
    topology: TopologySettings,
    purpose: str,
    graph: nx.DiGraph[int],
    propagation: Propagation | None,
) -> Direct:
    """Return the links of a topology; those in range follow from the radios."""
    neighborhood: Neighborhood | None
    if propagation is None or not isinstance(topology, InRange):
        neighborhood = topology.neighborhood(scenario.devices.count, stream(scenario.seed, purpose))
    else:
        in_range = RadioNeighbors(
            propagation, topology.loss, topology.size, topology.hysteresis, scenario.mobility.update
        )
        moves = propagation.motion.moves
        graph, neighborhood = _linked(graph, in_range, moves), in_range if moves else None
    return Direct(topology, graph, neighbors(graph).outgoing, neighborhood)


def make_propagation(
    scenario: Scenario, graph: nx.DiGraph[int], events: EventsInOrder | None = None
) -> Propagation | None:
    """Return powers and error rates between the places of a scenario; None if it has no `[radio]`.

    Args:
        scenario: a valid one.
        graph: its topology, with the attribute "pos" of devices that have a place there.
        events: those that move devices; None: no event moves any.

    Raises:
        ScenarioError: if a device has no place, or a trace can't be used.
    """
    radio, n = scenario.radio, scenario.devices.count
    if radio is None:
        return None
    try:
        tracks = scenario.mobility.tracks(n, radio.sides, scenario.seed)
    except ValueError as error:
        raise ScenarioError(scenario.name, [Problem("mobility.path", str(error))]) from error
    if radio.positions is not None:
        places: Mapping[int, Any] = dict(enumerate(radio.positions))
    elif radio.sides is not None:
        width, height = radio.sides
        places = {k: (width * pos[0], height * pos[1]) for k, pos in graph.nodes("pos") if pos is not None}
    else:
        places = {}
    lost = [k for k in range(n) if k not in tracks and k not in places]
    if lost:
        text = f"device {lost[0]} has no place: give [radio] positions, or a topology with places and an area"
        raise ScenarioError(scenario.name, [Problem("mobility", text)])
    motion = Motion([tracks[k] if k in tracks else Track.still(places[k]) for k in range(n)])
    if events is not None and events.events:
        motion = events.moved(motion)
    return Propagation(radio, motion, scenario.seed, transceivers(scenario))


def transceivers(scenario: Scenario) -> Transceivers:
    """Return the power, noise figure and antenna gain of each device, overrides applied."""
    radio, n = scenario.radio, scenario.devices.count
    assert radio is not None
    result = Transceivers.alike(radio, n)
    groups = scenario.devices.groups()
    for override in radio.override:
        ids = sorted(select(override.devices, n, groups))
        for name in ("power", "noise_figure", "antenna_gain"):
            value = getattr(override, name)
            if value is not None:
                getattr(result, name)[ids] = value
    return result


def _linked(graph: nx.DiGraph[int], in_range: RadioNeighbors, moves: bool) -> nx.DiGraph[int]:
    """Return the devices of `graph` with a link wherever one is in range; where they move, with every link."""
    import networkx as nx

    n = len(graph)
    table = ~np.eye(n, dtype=np.bool_) if moves else in_range.table(0.0)
    result: nx.DiGraph[int] = nx.DiGraph()
    result.add_nodes_from(graph.nodes(data=True))
    result.add_edges_from(np.argwhere(table).tolist())
    return result
