"""Checks of `[radio]`, `[mobility]`, `[topology]` and `[devices]` with each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic_core import InitErrorDetails

from p2pl_async.basics.settings import line
from p2pl_async.radio import Area, RadioSettings, Static
from p2pl_async.scenario.airs import AirSettings, AirsOfDevices, has_radio
from p2pl_async.scenario.selector import select
from p2pl_async.scenario.tables import DeviceSettings
from p2pl_async.topology.random_graphs import InRange


def check_places(tables: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
    """Yield where these tables don't fit together; absent tables are not looked at."""
    radio, mobility, topology, devices = (tables.get(name) for name in ("radio", "mobility", "topology", "devices"))
    relay, keys = tables.get("relay"), ["topology"]
    if relay is not None and relay.over.placed:
        topology, keys = relay.over, ["relay", "over"]
    moving = mobility is not None and not isinstance(mobility, Static)
    if "radio" in tables and radio is None:
        for name, group in devices.group.items() if devices is not None else ():
            for key in ("positions", "area", "mobility"):
                if getattr(group, key) is not None:
                    text = "needs [radio], whose losses follow the places; add [radio], or leave it out"
                    yield line(["devices", "group", name, key], text)
        if moving:
            yield line(["mobility"], 'needs [radio], whose losses follow the movement; add [radio] with area = "100 m"')
        if isinstance(topology, InRange):
            yield line(keys, 'needs [radio], which says who is in range; add [radio] with area = "100 m"')
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
    if mobility is not None and topology is not None and devices is not None:
        yield from _check_sources(devices, mobility, topology, radio, tables.get("air") or {})


def _check_sources(
    devices: DeviceSettings, mobility: Any, topology: Any, radio: RadioSettings, airs: Mapping[str, AirSettings]
) -> Iterator[InitErrorDetails]:
    """Yield devices that have no place, or two, and what places no device."""
    mobilities: list[Any] = [*devices.mobilities(mobility)]
    places = devices.places()
    for name, ids in devices.groups().items():
        roaming = [mobilities[k] for k in sorted(ids) if mobilities[k].roams]
        if devices.group[name].positions is not None and roaming:
            text = f'must be left out, as mobility of kind "{roaming[0].kind}" places the devices itself'
            yield line(["devices", "group", name, "positions"], text)
    roams = any(one.roams and not isinstance(place, Area) for one, place in zip(mobilities, places, strict=True))
    # Devices that neither roam nor have a group that places them; a record may.
    rest = [
        one
        for one, place, numbers in zip(mobilities, places, AirsOfDevices(devices, airs).of_device, strict=True)
        if not one.roams and place is None and has_radio(airs, numbers)
    ]
    if roams and radio.sides is None:
        yield line(["radio", "area"], 'is missing: devices roam through it; write area = "100 m"')
    if radio.positions is not None and not rest:
        who = f'[mobility] kind "{mobility.kind}" places the devices itself' if roams else "groups place all devices"
        yield line(["radio", "positions"], f"must be left out, as {who}")
    elif radio.positions is not None and radio.sides is not None and not roams:
        text = 'has no effect beside positions, which are in meters, as no device roams; leave it out, or write "none"'
        yield line(["radio", "area"], text)
    elif radio.positions is None and any(isinstance(one, Static) for one in rest):
        if not topology.placed:
            text = (
                f'needs positions, which topology "{topology.kind}" has not; give [radio] positions, or a topology '
                'with places: "grid", "torus", "random-geometric", "in-range"'
            )
            yield line(["radio"], text)
        elif radio.sides is None:
            text = f'is missing: it makes meters of the places of topology "{topology.kind}"; write area = "100 m"'
            yield line(["radio", "area"], text)
    elif radio.positions is None and not rest and not roams and radio.sides is not None:
        yield line(["radio", "area"], 'has no effect, as groups place all devices; leave it out, or write "none"')
