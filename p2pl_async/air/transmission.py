"""One frame on the air, and the sender that transmits it."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence
from typing import Any

from p2pl_async.air.hearing import Audience
from p2pl_async.air.outgoing import Outgoing
from p2pl_async.messages import DeviceId


class Sender:
    """One device's messages to transmit, and the state of its radio."""

    def __init__(self, device: DeviceId) -> None:
        self.device = device
        self.waiting: deque[Outgoing] = deque()
        self.held = 0  # bytes of the waiting messages
        self.held_frames = 0
        self.failures = 0  # of the current frame
        self.idle = True  # it isn't trying to get the channel
        self.until = 0.0  # end of its latest transmission, ACKs included
        self.ready = 0.0  # earliest start of its next frame
        self.seconds = 0.0  # air time so far
        self.numbers = itertools.count()


class Transmission:
    """One uninterrupted transmission."""

    __slots__ = (
        "audience", "count", "cut", "decoders", "end", "first", "message", "overlaps", "powers", "receivers", "src",
        "start",
    )  # fmt: skip

    def __init__(
        self,
        src: DeviceId,
        start: float,
        end: float,
        message: Outgoing | None,
        first: int,
        count: int,
        audience: Audience,
        receivers: Sequence[DeviceId] = (),
    ) -> None:
        self.src = src
        self.start = start
        self.end = end
        self.message = message  # None: an acknowledgment
        self.first = first  # the first of its frames
        self.count = count  # number of its frames
        self.audience = audience  # who noticed it when it began
        self.receivers = receivers  # the devices that it is for
        self.cut = False  # its sender has crashed meanwhile: no device receives it
        self.overlaps: list[Transmission] = []
        self.powers: Any = None  # dBm at each device, if the air has a propagation model
        self.decoders: Any = None  # which devices hold it and no other frame, if the air has a propagation model
