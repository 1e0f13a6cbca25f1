"""What can be wrong with scripted events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic_core import InitErrorDetails

from p2pl_async.basics.settings import line
from p2pl_async.scenario.events import (
    Move,
    Ramp,
    Set,
)
from p2pl_async.scenario.events_in_order import EventError, Timetable
from p2pl_async.topology.from_file import LinkTrace


def event_mistakes(tables: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
    """Yield what is wrong with the events of a scenario; absent tables are not looked at."""
    devices, link, events = (tables.get(name) for name in ("devices", "link", "event"))
    if devices is None or link is None or not events:
        return
    if "radio" in tables and tables["radio"] is None:
        for index, event in enumerate(events):
            if isinstance(event, Move):
                yield line(["event", index], "needs [radio], whose losses follow the places; add one with positions")
    if isinstance(tables.get("topology"), LinkTrace):
        for index, event in enumerate(events):
            if isinstance(event, Set | Ramp):
                yield line(["event", index], "must be left out: write it into the topology's file")
    try:
        found = list(Timetable(devices, link, events).mistakes(devices))
    except EventError as error:
        found = [error]
    for mistaken in found:
        yield line(["event", mistaken.index, *([mistaken.key] if mistaken.key else [])], str(mistaken))
