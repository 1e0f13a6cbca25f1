"""One frame on the air, and the sender that transmits it."""

from __future__ import annotations

import itertools
from collections import deque
from typing import Any

from p2pl_async.air.outgoing import Outgoing
from p2pl_async.messages import DeviceId


class Sender:
    """What one device has to transmit, and what its radio is doing."""

    def __init__(self, device: DeviceId) -> None:
        self.device = device
        self.waiting: deque[Outgoing] = deque()
        self.held = 0  # bytes of them
        self.held_frames = 0
        self.failures = 0  # of the current frame
        self.idle = True  # no access is under way
        self.until = 0.0  # end of its latest transmission, ACKs included
        self.ready = 0.0  # earliest start of its next frame
        self.seconds = 0.0  # on the air so far
        self.numbers = itertools.count()


class Transmission:
    """One uninterrupted stretch on the air."""

    __slots__ = ("count", "decoders", "end", "first", "message", "overlaps", "powers", "src", "start")

    def __init__(
        self, src: DeviceId, start: float, end: float, message: Outgoing | None, first: int, count: int
    ) -> None:
        self.src = src
        self.start = start
        self.end = end
        self.message = message  # None: an acknowledgment
        self.first = first  # fragments of the message: this one,
        self.count = count  # and so many in all
        self.overlaps: list[Transmission] = []
        self.powers: Any = None  # dBm at each device, if there is a propagation
        self.decoders: Any = None  # which devices' receivers are busy with this one, where that matters
