"""The `[relay]` table: neighbors that are not in reach of each other's radios."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from p2pl_async.basics.settings import OneOf, Settings
from p2pl_async.basics.units import Bytes
from p2pl_async.relay.routes import Flood, Now, Routes, ShortestPaths
from p2pl_async.topology.kinds import AnyTopology

Hops = Annotated[int, Field(strict=True, ge=1, le=255)]


class Relay(Settings):
    """Base of every relay: devices pass messages on, so that a neighbor may be several hops away.

    `[topology]` says who is whose neighbor, `over` which devices reach each other directly; `[link]`, events and the
    medium are about those direct links. A device passes a message on as long as it is up, also once its protocol has
    ended. Messages are passed on whole: one of which a part is lost on the way is lost.
    """

    kind: str
    over: AnyTopology = Field(description="the direct links, which messages go over; any topology")
    hops: Hops = Field(default=16, description="most hops of a message")
    header: Bytes = Field(
        default=5, description="added to each message: final address, origin and hops left (mesh header of 6LoWPAN)"
    )

    def routes(self, out_neighbors: Sequence[Sequence[int]], now: Now | None) -> Routes:
        """Return the ways of messages, given the direct links that there ever are, and those of an instant."""
        raise NotImplementedError


class ShortestPath(Relay):
    """Each message takes a way of the fewest hops; of several, that through the devices with the smallest ids.

    A message to several devices goes together as far as their ways do. Ways are found once, over links that stay: a
    device or link that is down loses what would have gone over it.

    Source of the header: RFC 4944, section 5.2.
    """

    kind: Literal["shortest-path"] = "shortest-path"

    def routes(self, out_neighbors: Sequence[Sequence[int]], now: Now | None) -> Routes:
        return ShortestPaths(out_neighbors, self.hops)


class Flooding(Relay):
    """Each device sends a message on to all whom it reaches, the first time that it gets it, until it has made `hops`.

    It needs no routes, and finds new ways as devices move, at the cost of a transmission of every device in reach. On
    shared air a device sends it on once for all of its neighbors, without acknowledgments.
    """

    kind: Literal["flooding"] = "flooding"

    def routes(self, out_neighbors: Sequence[Sequence[int]], now: Now | None) -> Routes:
        return Flood(out_neighbors, self.hops, now)


AnyRelay = Annotated[Relay, OneOf("relay", ShortestPath, Flooding)]
