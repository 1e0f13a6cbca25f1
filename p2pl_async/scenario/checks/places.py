"""Checks of `[radio]`, `[mobility]`, `[topology]` and `[devices]` with each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic_core import InitErrorDetails

from p2pl_async.basics.settings import line
from p2pl_async.radio import Static
from p2pl_async.scenario.selector import select
from p2pl_async.topology.random_graphs import InRange


def check_places(tables: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
    """Yield where these tables don't fit together; absent tables are not looked at."""
    radio, mobility, topology, devices = (tables.get(name) for name in ("radio", "mobility", "topology", "devices"))
    relay, keys = tables.get("relay"), ["topology"]
    if relay is not None and relay.over.placed:
        topology, keys = relay.over, ["relay", "over"]
    moving = mobility is not None and not isinstance(mobility, Static)
    if "radio" in tables and radio is None:
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
    if mobility is None or topology is None:
        return
    if mobility.roams:
        if radio.positions is not None:
            text = f'must be left out, as [mobility] kind "{mobility.kind}" places the devices itself'
            yield line(["radio", "positions"], text)
        if radio.sides is None:
            yield line(["radio", "area"], 'is missing: devices roam through it; write area = "100 m"')
    elif radio.positions is not None:
        if radio.sides is not None:
            text = (
                'has no effect beside positions, which are in meters, as no device roams; leave it out, or write "none"'
            )
            yield line(["radio", "area"], text)
    elif not moving:
        if not topology.placed:
            text = (
                f'needs positions, which topology "{topology.kind}" has not; give [radio] positions, or a topology '
                'with places: "grid", "torus", "random-geometric", "in-range"'
            )
            yield line(["radio"], text)
        elif radio.sides is None:
            text = f'is missing: it makes meters of the places of topology "{topology.kind}"; write area = "100 m"'
            yield line(["radio", "area"], text)
