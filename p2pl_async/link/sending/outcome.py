"""How a message is cut into packets, and the outcome of sending them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from p2pl_async.basics.arrays import Indices
from p2pl_async.link.loss.base import CAUSES

_OUTAGE = CAUSES.index("outage")


class Cut(NamedTuple):
    """How a message is cut into packets: all alike but for the last."""

    packets: int
    full: int  # bytes of each but the last, with header
    last: int  # bytes of the last


@dataclass(slots=True)
class Sent:
    """The outcome of sending a message."""

    packets: int = 0
    packets_lost: int = 0
    air_bytes: int = 0
    air_seconds: float = 0.0
    end: float = 0.0  # instant at which the transmitter may send the next message
    over: float = 0.0  # end of the last packet
    heard: float = math.inf  # end of the packet that completes it at the receiver
    acknowledged: bool = False
    code: int = 0  # why it is lost: of the first packet that is
    gave_up: bool = False  # ARQ gave a packet up
    missing: Indices | None = None  # packets that don't arrive, ascending; None if nothing asks for them

    def all_sent(self, cut: Cut, start: float, end: float) -> Sent:
        """End a message whose packets were sent once each, the last of them from `start` to `end`."""
        self.air_seconds += end - start
        self.packets = cut.packets
        self.air_bytes = (cut.packets - 1) * cut.full + cut.last
        self.end = self.over = end
        if not self.packets_lost:
            self.heard = end
        return self

    def stuck(self) -> Sent:
        """End a message that never leaves: the link stays down, or its rate stays 0."""
        self.end = self.heard = math.inf
        self.code = self.code or _OUTAGE
        self.missing = None
        return self

    def given_up(self, now: float) -> Sent:
        """End a message, a packet of which used up its tries."""
        self.gave_up = True
        self.end = now
        return self

    def add_in_vain(self, size: int, packets: int, seconds: float) -> None:
        """Count packets of so many bytes sent behind a lost one: go-back-n sends them again even if they arrive."""
        self.packets += packets
        self.air_bytes += packets * size
        self.air_seconds += packets * seconds
