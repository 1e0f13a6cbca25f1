"""What must fit between `[medium]` and the tables it works with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic_core import InitErrorDetails

from p2pl_async.air import Contended, LoRa, Medium, SensedMedium, Serial, SharedMedium
from p2pl_async.settings import line


def medium_mistakes(tables: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
    """Yield what doesn't fit between the medium, links and radios; absent tables are not looked at."""
    medium: Medium | None = tables.get("medium")
    if not isinstance(medium, SharedMedium):
        return
    if "radio" in tables and tables["radio"] is None:
        if isinstance(medium, SensedMedium) and medium.sense is not None:
            yield line(["medium", "sense"], "needs received powers; add a [radio] table, or leave it out")
        if isinstance(medium, Contended) and medium.collision != "overlap":
            text = 'needs received powers; add a [radio] table, or write collision = "overlap"'
            yield line(["medium", "collision"], text, medium.collision)
    link = tables.get("link")
    if link is None:
        return
    if link.queue is not None:
        yield line(
            ["link", "queue"],
            f'on a medium of kind "{medium.kind}" a device has one queue for all its links; write [medium] queue = ...',
        )
    if link.duplicate:
        yield line(
            ["link", "duplicate"],
            f'is for dedicated links; on a medium of kind "{medium.kind}" leave it out (lost ACKs make repetitions)',
            link.duplicate,
        )
    silent = isinstance(medium.airtime, Serial) and medium.airtime.preamble == 0
    if link.rate is None and silent and not isinstance(medium.airtime, LoRa):
        yield line(["link", "rate"], 'is needed to share the air, for without one frames take no time; add "1 Mbit/s"')
