"""Where the devices of a scenario are, and what their radios make of it.

[radio] positions, or [mobility], or the topology's places times [radio] area  ->  Motion
[radio], its overrides, Motion                                                 ->  Propagation
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic_core import InitErrorDetails

from p2pl_async.contacts import Contacts, meetings
from p2pl_async.device import Neighborhood
from p2pl_async.errors import Problem, ScenarioError
from p2pl_async.radio import InRange, Motion, Propagation, Static, Track, Transceivers
from p2pl_async.radio.settings import NoFading
from p2pl_async.randomness import stream
from p2pl_async.scenario.schema import Scenario
from p2pl_async.scenario.selector import select
from p2pl_async.scenario.timetable import Timetable
from p2pl_async.settings import line
from p2pl_async.topology import InRange as InRangeTopology

if TYPE_CHECKING:
    import networkx as nx


@dataclass(frozen=True)
class Layout:
    """Who can hear whom, and why.

    Attributes:
        graph: nodes 0 to n - 1, an edge j -> k where k can ever hear j.
        neighborhood: who can hear whom when; None where that never changes.
        propagation: what the radios make of the places; None without `[radio]`.
    """

    graph: nx.DiGraph[int]
    neighborhood: Neighborhood | None
    propagation: Propagation | None


def lay_out(scenario: Scenario) -> Layout:
    """Return the topology of a scenario, with its places and radios if it has any.

    Raises:
        ScenarioError: if the topology can't be made, a device has no place, or a trace can't be used.
    """
    topology, n, seed = scenario.topology, scenario.devices.count, scenario.seed
    try:
        graph = topology.build(n, stream(seed, "topology"))
    except ValueError as error:
        raise ScenarioError(scenario.name, [Problem("topology", str(error))]) from error
    propagation = make_propagation(scenario, graph)
    if propagation is None or not isinstance(topology, InRangeTopology):
        return Layout(graph, topology.neighborhood(n, stream(seed, "topology")), propagation)
    in_range = InRange(propagation, topology.loss, topology.size, topology.hysteresis, scenario.mobility.update)
    moves = propagation.motion.moves
    return Layout(_linked(graph, in_range, moves), in_range if moves else None, propagation)


def make_propagation(scenario: Scenario, graph: nx.DiGraph[int]) -> Propagation | None:
    """Return what the radios of a scenario make of its places; None if it has no `[radio]`.

    Args:
        scenario: a valid one.
        graph: its topology, with the attribute "pos" of devices that have a place there.

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
    if scenario.event:
        motion = Timetable(scenario.devices, scenario.link, scenario.event).moved(motion)
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


def _linked(graph: nx.DiGraph[int], in_range: InRange, moves: bool) -> nx.DiGraph[int]:
    """Return the devices of `graph` with a link wherever one is in range; where they move, with every link."""
    import networkx as nx

    n = len(graph)
    table = ~np.eye(n, dtype=np.bool_) if moves else in_range.table(0.0)
    result: nx.DiGraph[int] = nx.DiGraph()
    result.add_nodes_from(graph.nodes(data=True))
    result.add_edges_from(np.argwhere(table).tolist())
    return result


def explain_radio(propagation: Propagation, src: int, dst: int, size: int) -> list[tuple[str, str]]:
    """Return (what, value) of a link's radio budget at the beginning of a run.

    Args:
        propagation: of the scenario.
        src: the device that sends.
        dst: the device that hears it.
        size: bytes on the air of the packet whose loss is shown.
    """
    snr = propagation.mean_snr(src, dst, 0.0)
    fades = "" if isinstance(propagation.settings.fading, NoFading) else ", mean over fading"
    return [
        ("distance", f"{propagation.distance(src, dst, 0.0):.4g} m"),
        ("received power", f"{snr + propagation.noise(dst):.1f} dBm"),
        ("noise", f"{propagation.noise(dst):.1f} dBm"),
        ("mean SNR", f"{snr:.1f} dB"),
        (f"loss of {size} B", f"{100 * propagation.mean_error(snr, size):.3g} %{fades}"),
    ]


_LONGEST_LOOK = 600.0  # s of virtual time that `describe_meetings` looks ahead, unless the run is shorter


def describe_meetings(scenario: Scenario, layout: Layout) -> list[str]:
    """Return sentences about links that come and go with time; none if links stay, or follow rounds."""
    if not isinstance(layout.neighborhood, InRange | Contacts):
        return []
    end = min(scenario.stop.virtual_time or _LONGEST_LOOK, _LONGEST_LOOK)
    return meetings(layout.neighborhood.snapshots(end), end)


def radio_warnings(scenario: Scenario) -> list[str]:
    """Return what the author of a scenario with radios should know before trusting it."""
    if scenario.radio is None or scenario.link.mtu is not None or not scenario.radio.phy.by_length:
        return []
    return [
        "without [link] mtu each message is one packet, however long, and noise spoils long packets first; "
        'give mtu = "127 B", or that of your radio'
    ]


def place_mistakes(tables: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
    """Yield what doesn't fit between `[radio]`, `[mobility]`, `[topology]` and `[devices]`."""
    radio, mobility, topology, devices = (tables.get(name) for name in ("radio", "mobility", "topology", "devices"))
    moving = mobility is not None and not isinstance(mobility, Static)
    if "radio" in tables and radio is None:
        if moving:
            yield line(["mobility"], 'needs [radio], whose losses follow the movement; add [radio] with area = "100 m"')
        if isinstance(topology, InRangeTopology):
            yield line(["topology"], 'needs [radio], which says who is in range; add [radio] with area = "100 m"')
    if radio is None:
        return
    link = tables.get("link")
    if link is not None and link.latency.distance != 0:
        yield line(["link", "latency", "distance"], "must be left out: with [radio], the places say how far it is")
    if devices is not None:
        for index, override in enumerate(radio.override):
            try:
                select(override.devices, devices.count, devices.groups())
            except ValueError as error:
                yield line(["radio", "override", index, "devices"], str(error), override.devices)
        if radio.positions is not None and len(radio.positions) != devices.count:
            text = f"has {len(radio.positions)} places, and there are {devices.count} devices"
            yield line(["radio", "positions"], text)
    if mobility is None or topology is None:
        return
    if mobility.roams:
        if radio.positions is not None:
            text = f'must be left out, as [mobility] kind "{mobility.kind}" places the devices itself'
            yield line(["radio", "positions"], text)
        if radio.sides is None:
            yield line(["radio", "area"], 'is missing: devices roam through it; write area = "100 m"')
    elif radio.positions is None and not moving:
        if not topology.placed:
            text = (
                f'needs positions, which topology "{topology.kind}" has not; give [radio] positions, or a topology '
                'with places: "grid", "torus", "random-geometric", "in-range"'
            )
            yield line(["radio"], text)
        elif radio.sides is None:
            text = f'is missing: it makes meters of the places of topology "{topology.kind}"; write area = "100 m"'
            yield line(["radio", "area"], text)
