"""Where the devices of a scenario are: by their mobility, by their groups, by [radio] positions, or by the topology."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from p2pl_async.errors import Problem, ScenarioError
from p2pl_async.radio import Area, Mobility, Motion, Track
from p2pl_async.scenario.airs import AirsOfDevices, has_radio
from p2pl_async.scenario.scenario import Scenario

if TYPE_CHECKING:
    import networkx as nx


def place_devices(scenario: Scenario, graph: nx.DiGraph[int]) -> Motion:
    """Return the path of every device.

    Args:
        scenario: a valid one, with a `[radio]`.
        graph: its topology, with the attribute "pos" of devices that have a place there.

    Raises:
        ScenarioError: if a device has no place, or a trace can't be used.
    """
    devices, seed = scenario.devices, scenario.seed
    places, airs = _places(scenario, graph), AirsOfDevices(devices, scenario.air)
    known: dict[int, tuple[str, Mapping[int, Track]]] = {}  # id of a table -> its name, and the tracks by it
    tracks: list[Track] = []
    for k, ((group, mobility), place) in enumerate(
        zip(devices.of_each("mobility", scenario.mobility), devices.places(), strict=True)
    ):
        if id(mobility) not in known:
            table = f"devices.group.{group}.mobility" if group else "mobility"
            known[id(mobility)] = table, _moving(scenario, mobility, table)
        moving = known[id(mobility)][1]
        if isinstance(place, Area) and (mobility.roams or k not in moving):
            tracks.append(place.track(mobility, k, seed))
        elif k in moving:
            tracks.append(moving[k])
        elif place is not None and not isinstance(place, Area):
            tracks.append(Track.still(place))
        elif k in places:
            tracks.append(Track.still(places[k]))
        elif not has_radio(scenario.air, airs.of_device[k]):
            tracks.append(Track.nowhere())
        else:
            text = f"device {k} has no place: give [radio] positions, or a topology with places and an area"
            raise ScenarioError(scenario.name, [Problem(known[id(mobility)][0], text)])
    return Motion(tracks)


def _places(scenario: Scenario, graph: nx.DiGraph[int]) -> Mapping[int, Any]:
    """Return where devices are that don't move, and that no group places."""
    radio = scenario.radio
    assert radio is not None
    if radio.positions is not None:
        return dict(enumerate(radio.positions))
    if radio.sides is None:
        return {}
    width, height = radio.sides
    return {k: (width * pos[0], height * pos[1]) for k, pos in graph.nodes("pos") if pos is not None}


def _moving(scenario: Scenario, mobility: Mobility, table: str) -> Mapping[int, Track]:
    """Return the tracks of the devices that a mobility moves through the area of all, or by a record."""
    assert scenario.radio is not None
    if mobility.roams and scenario.radio.sides is None:
        return {}
    try:
        return mobility.tracks(scenario.devices.count, scenario.radio.sides, scenario.seed)
    except ValueError as error:
        raise ScenarioError(scenario.name, [Problem(f"{table}.path", str(error))]) from error
