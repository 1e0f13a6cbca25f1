"""The places of a scenario's devices, its topology, and the radios between the places.

[radio] positions, or [mobility], or the topology's places times [radio] area  ->  Motion
[radio], its overrides, Motion                                                 ->  Propagation
"""

from __future__ import annotations

from collections.abc import Mapping
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
    """

    graph: nx.DiGraph[int]
    neighborhood: Neighborhood | None
    propagation: Propagation | None


def lay_out(scenario: Scenario, events: EventsInOrder | None = None) -> Layout:
    """Return the topology of a scenario, with its places and radios if it has any.

    Args:
        scenario: a valid scenario.
        events: those that move devices; None: no event moves any.

    Raises:
        ScenarioError: if the topology can't be made, a device has no place, or a trace can't be used.
    """
    topology, n, seed = scenario.topology, scenario.devices.count, scenario.seed
    try:
        graph = topology.build(n, stream(seed, "topology"))
    except ValueError as error:
        raise ScenarioError(scenario.name, [Problem("topology", str(error))]) from error
    propagation = make_propagation(scenario, graph, events)
    if propagation is None or not isinstance(topology, InRange):
        return Layout(graph, topology.neighborhood(n, stream(seed, "topology")), propagation)
    in_range = RadioNeighbors(propagation, topology.loss, topology.size, topology.hysteresis, scenario.mobility.update)
    moves = propagation.motion.moves
    return Layout(_linked(graph, in_range, moves), in_range if moves else None, propagation)


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
