"""The one door for settings of links that a shared medium can't follow: whoever sets them, they pass here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from p2pl_async.air.airtime import LoRa, Serial
from p2pl_async.air.settings import BleAdvertising, BleConnections, Medium, SharedMedium, Tsch
from p2pl_async.air.sidelink_settings import NrMode2
from p2pl_async.link import LinkSettings
from p2pl_async.link.rate_over_time import Mahimahi


class Refusal(NamedTuple):
    """A setting of links that has no effect on a medium."""

    keys: tuple[str, ...]  # below [link]
    text: str  # what to do instead
    value: object  # None: not shown


def refusals(medium: Medium, link: LinkSettings) -> Iterator[Refusal]:
    """Yield the settings of links that only links with a transmitter of their own can have."""
    if not isinstance(medium, SharedMedium):
        return
    where = f'on a medium of kind "{medium.kind}"'
    if link.queue is not None:
        text = f"{where} a device has one queue for all its links; write [medium] queue = ..."
        yield Refusal(("queue",), text, None)
    if link.duplicate:
        text = f"is for dedicated links; {where} leave it out, for lost ACKs make repetitions"
        yield Refusal(("duplicate",), text, link.duplicate)
    if link.deliver_corrupted:
        yield Refusal(("deliver_corrupted",), f"must be false {where}", True)
    if medium.rates is not None:
        if link.rate is not None:
            text = 'is chosen by [medium] rates; write "unlimited" to leave it to them'
            yield Refusal(("rate",), text, None)
    elif link.rate is None:
        if isinstance(medium.airtime, Serial) and medium.airtime.preamble == 0:
            text = 'is required on a shared medium: without it frames would take no time; add "1 Mbit/s"'
            yield Refusal(("rate",), text, None)
    elif isinstance(link.rate, Mahimahi):
        text = f'has moments at which 1500 bytes leave, as only dedicated links do; {where} write a kind = "schedule"'
        yield Refusal(("rate",), text, None)
    if link.arq is not None and isinstance(medium, BleAdvertising):
        yield Refusal(("arq",), f'has no effect {where}, where nothing is acknowledged; write arq = "none"', None)
    elif link.arq is not None:
        text = f"is for dedicated links; {where} each packet waits for its ACK, a frame: write [medium] ack = ..."
        for key in ("window", "ack_loss"):
            if getattr(link.arq, key):
                yield Refusal(("arq", key), text, None)
        if link.arq.turnaround and medium.ack is not None:
            text = f"has no effect {where} with an ack, which takes its own time; change [medium] ack, or leave it out"
            yield Refusal(("arq", "turnaround"), text, None)
        text = f"has no effect {where}, which says itself when a packet is repeated; leave it out"
        if link.arq.backoff and isinstance(medium, BleConnections | Tsch | NrMode2):
            yield Refusal(("arq", "backoff"), text, None)
        if link.arq.turnaround and isinstance(medium, NrMode2):
            yield Refusal(("arq", "turnaround"), text, None)


def refused(medium: Medium, link: LinkSettings, before: LinkSettings) -> Iterator[Refusal]:
    """Yield the settings that a medium can't follow, or takes no notice of, where links change from `before`."""
    yield from refusals(medium, link)
    if isinstance(medium, SharedMedium) and isinstance(medium.airtime, LoRa) and link.rate != before.rate:
        yield Refusal(("rate",), "has no effect, as LoRa's air time follows from [medium] airtime.sf", None)
