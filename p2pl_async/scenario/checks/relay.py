"""Checks of `[relay]` with the tables it works with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic_core import InitErrorDetails

from p2pl_async.basics.settings import line
from p2pl_async.relay import ShortestPath
from p2pl_async.scenario.checks.sizes import check_links
from p2pl_async.topology.changing import OnePeerExponential, RandomMatchings, RotatingRings
from p2pl_async.topology.from_file import RecordedLinks
from p2pl_async.topology.random_graphs import InRange


def check_relay(tables: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
    """Yield why messages can't be passed on; absent tables are not looked at."""
    relay, devices, topology = (tables.get(name) for name in ("relay", "devices", "topology"))
    if relay is None:
        return
    if isinstance(topology, InRange | RecordedLinks):
        text = f'is for direct links: write [relay] over = "{topology.kind}", and here who learns from whom, as "ring"'
        yield line(["topology", "kind"], text, topology.kind)
    if isinstance(relay.over, OnePeerExponential | RotatingRings | RandomMatchings):
        text = f'can\'t be "{relay.over.kind}", whose links follow the rounds of devices; write it as [topology] kind'
        yield line(["relay", "over"], text)
    if devices is not None:
        yield from check_links(relay.over, devices.count, ("relay", "over"))
        for text in relay.over.check(devices.count):
            yield line(["relay", "over"], text)
    moving = devices is not None and tables.get("mobility") is not None and devices.move(tables["mobility"])
    moves = any(event.kind == "move" for event in tables.get("event") or ())
    change = isinstance(relay.over, RecordedLinks) or (isinstance(relay.over, InRange) and (moving or moves))
    if change and isinstance(relay, ShortestPath):
        text = 'needs direct links that stay, and these come and go; write kind = "flooding"'
        yield line(["relay", "kind"], text, relay.kind)
