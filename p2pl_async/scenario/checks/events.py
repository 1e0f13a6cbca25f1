"""Checks of scripted events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic_core import InitErrorDetails

from p2pl_async.basics.settings import line
from p2pl_async.scenario.events import Move, Ramp, Set
from p2pl_async.scenario.events_in_order import EventError, EventsInOrder
from p2pl_async.scenario.link_matches import LinkMatches
from p2pl_async.topology.from_file import RecordedLinks


def check_events(tables: Mapping[str, Any], matches: LinkMatches) -> Iterator[InitErrorDetails]:
    """Yield the problems of a scenario's events; absent tables are not looked at.

    Args:
        tables: the valid tables of a scenario by name; "devices" is one of them.
        matches: the overrides that each link matches.
    """
    devices, events = tables["devices"], tables.get("event")
    if not events:
        return
    if "radio" in tables and tables["radio"] is None:
        for index, event in enumerate(events):
            if isinstance(event, Move):
                yield line(["event", index], "needs [radio], whose losses follow the places; add one with positions")
    if isinstance(tables.get("topology"), RecordedLinks):
        for index, event in enumerate(events):
            if isinstance(event, Set | Ramp):
                yield line(["event", index], "must be left out: write it into the topology's file")
    try:
        found = list(EventsInOrder(devices, matches, events).check())
    except EventError as error:
        found = [error]
    for mistaken in found:
        yield line(["event", mistaken.index, *([mistaken.key] if mistaken.key else [])], str(mistaken))
