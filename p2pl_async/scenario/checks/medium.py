"""Checks of `[medium]`, and of the media of further airs, with the tables they work with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic_core import InitErrorDetails

from p2pl_async.air import (
    BleAdvertising,
    BleConnections,
    Channels,
    Contended,
    LoRa,
    Medium,
    NrMode2,
    SensedMedium,
    SharedMedium,
)
from p2pl_async.air.refusals import refusals
from p2pl_async.basics.settings import kind_of, line
from p2pl_async.radio.phy import Lora

Keys = tuple[str, ...]


def check_medium(tables: Mapping[str, Any], above: Keys = ()) -> Iterator[InitErrorDetails]:
    """Yield where the medium, links and radios don't fit together; absent tables are not looked at.

    Args:
        tables: "medium", "link" and "radio" of one air.
        above: the keys of the table that holds them; none of a scenario itself.
    """
    medium: Medium | None = tables.get("medium")
    radio = tables.get("radio")
    apart = None if radio is None else getattr(radio.fading, "coherent_channels", None)
    if medium is not None and apart is not None and getattr(medium, "channels", None) is None:
        text = 'has no effect, as the medium has one channel; write "all", or give [medium] channels'
        yield line([*above, "radio", "fading", "coherent_channels"], text, apart)
    if not isinstance(medium, SharedMedium):
        return
    if "radio" in tables and tables["radio"] is None:
        if isinstance(medium, SensedMedium) and medium.sense is not None:
            yield line([*above, "medium", "sense"], "needs received powers; add a [radio] table, or leave it out")
        if isinstance(medium, Contended) and medium.collision != "overlap":
            text = 'needs received powers; add a [radio] table, or write collision = "overlap"'
            yield line([*above, "medium", "collision"], text, medium.collision)
    if medium.rates is not None:
        yield from _check_rates(medium, tables, above)
    link = tables.get("link")
    if link is None:
        return
    for refusal in refusals(medium, link):
        yield line([*above, "link", *refusal.keys], refusal.text, refusal.value)


def check_channel(medium: Medium, channel: int, keys: Sequence[str], above: Keys = ()) -> Iterator[InitErrorDetails]:
    """Yield why the devices of a group can't listen on a channel of a medium.

    Args:
        medium: the medium.
        channel: the channel.
        keys: of what says so.
        above: the keys of the table that holds the medium.
    """
    channels: Channels | None = getattr(medium, "channels", None)
    table = ".".join([*above, "medium"])
    if isinstance(medium, BleConnections | BleAdvertising | NrMode2):
        text = f'has no effect, as a medium of kind "{medium.kind}" says itself which channel a radio is on'
        yield line(keys, text, channel)
    elif channels is None:
        text = f"has no effect, as there is one channel; write [{table}] channels = 16, on a kind that has them"
        yield line(keys, text, channel)
    elif channel >= channels.count:
        yield line(keys, f"must be below {table}.channels.count, {channels.count}", channel)


def _check_rates(medium: SharedMedium, tables: Mapping[str, Any], above: Keys) -> Iterator[InitErrorDetails]:
    """Yield why rates can't adapt to radios."""
    if "radio" not in tables:
        return
    radio = tables["radio"]
    if radio is None:
        yield line([*above, "medium", "rates"], 'needs received powers; add a [radio] table, or write "none"')
    elif len(radio.phy.modes) < 2:
        text = f'needs a phy with several rates, and "{radio.phy.kind}" has one; write [radio] phy = "wifi"'
        yield line([*above, "medium", "rates"], text)
    elif isinstance(medium.airtime, LoRa) != isinstance(radio.phy, Lora):
        text = f'must be of the kind of [radio] phy, "{radio.phy.kind}", for its rates to count'
        yield line([*above, "medium", "airtime"], text, kind_of(type(medium.airtime)))
