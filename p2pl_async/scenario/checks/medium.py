"""Checks of `[medium]` with the tables it works with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic_core import InitErrorDetails

from p2pl_async.air import Contended, Medium, SensedMedium, Serial, SharedMedium
from p2pl_async.basics.settings import line
from p2pl_async.link import LinkSettings


def check_medium(tables: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
    """Yield where the medium, links and radios don't fit together; absent tables are not looked at."""
    medium: Medium | None = tables.get("medium")
    if not isinstance(medium, SharedMedium):
        return
    if "radio" in tables and tables["radio"] is None:
        if isinstance(medium, SensedMedium) and medium.sense is not None:
            yield line(["medium", "sense"], "needs received powers; add a [radio] table, or leave it out")
        if isinstance(medium, Contended) and medium.collision != "overlap":
            text = 'needs received powers; add a [radio] table, or write collision = "overlap"'
            yield line(["medium", "collision"], text, medium.collision)
    if medium.queue is not None and medium.queue.drops_head:
        yield line(["medium", "queue", "drop"], 'must be "tail"; dedicated links can drop the oldest', "head")
    link = tables.get("link")
    if link is None:
        return
    yield from _only_dedicated(medium, link, ["link"])
    for index, override in enumerate(link.override):
        for key in ("queue", "duplicate", "deliver_corrupted"):
            if override.table.get(key):
                yield line(["link", "override", index, key], _text(medium, key), override.table[key])
        if isinstance(override.table.get("rate"), Mapping):
            yield line(["link", "override", index, "rate"], _text(medium, "rate"))
    silent = isinstance(medium.airtime, Serial) and medium.airtime.preamble == 0
    if link.rate is None and silent:
        yield line(
            ["link", "rate"], 'is required on a shared medium: without it frames would take no time; add "1 Mbit/s"'
        )


def _only_dedicated(medium: Medium, link: LinkSettings, path: list[str]) -> Iterator[InitErrorDetails]:
    """Yield the settings of links that only links with a transmitter of their own can have."""
    if link.queue is not None:
        yield line([*path, "queue"], _text(medium, "queue"))
    if link.duplicate:
        yield line([*path, "duplicate"], _text(medium, "duplicate"), link.duplicate)
    if link.deliver_corrupted:
        yield line([*path, "deliver_corrupted"], _text(medium, "deliver_corrupted"), True)
    if link.rate is not None and not isinstance(link.rate, float):
        yield line([*path, "rate"], _text(medium, "rate"))
    if link.outage.holds:
        yield line([*path, "outage", "when_off"], f'must be "drop" on a medium of kind "{medium.kind}"', "hold")
    if link.arq is not None:
        for key in ("window", "ack_loss", "backoff", "timeout"):
            if getattr(link.arq, key):
                yield line([*path, "arq", key], _text(medium, "arq"))


def _text(medium: Medium, key: str) -> str:
    where = f'on a medium of kind "{medium.kind}"'
    return {
        "queue": f"{where} a device has one queue for all its links; write [medium] queue = ...",
        "duplicate": f"is for dedicated links; {where} leave it out, for lost ACKs make repetitions",
        "deliver_corrupted": f"must be false {where}",
        "rate": f'changes in time, as only dedicated links do; {where} write "250 kbit/s"',
        "arq": f"is for dedicated links; {where} each packet waits for its ACK, a frame: write [medium] ack = ...",
    }[key]
