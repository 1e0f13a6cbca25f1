"""One frame on the air, and the sender that transmits it."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Sequence
from copy import copy
from typing import Any

from p2pl_async.air.hearing import Audience
from p2pl_async.air.outgoing import Outgoing
from p2pl_async.basics.timeline import rounding
from p2pl_async.link.queue import Queue
from p2pl_async.messages import DeviceId
from p2pl_async.radio.phy import Lora, Phy

NOBODY = -1  # sends what only keeps the channel busy
OUTSIDE = -2  # sends what is no frame: an interferer
_NOBODY: frozenset[DeviceId] = frozenset()


class Sender:
    """One device's messages to transmit, and the state of its radio; its events are numbered from `first` on."""

    def __init__(self, device: DeviceId, first: int = 0) -> None:
        self.device = device
        self.waiting: deque[Outgoing] = deque()
        self.held = 0  # bytes of the waiting messages
        self.held_frames = 0
        self.failures = 0  # of the current frame
        self.idle = True  # it isn't trying to get the channel
        self.until = 0.0  # end of its latest transmission, ACKs included
        self.ready = 0.0  # earliest start of its next frame
        self.seconds = 0.0  # air time so far
        self.numbers = itertools.count(first)

    def has_room(self, queue: Queue | None, message: Outgoing) -> bool:
        """Tell whether a message fits what may wait."""
        return queue is None or (
            (queue.messages is None or len(self.waiting) < queue.messages)
            and (queue.packets is None or self.held_frames + message.frames <= queue.packets)
            and (queue.size is None or self.held + message.bytes <= queue.size)
        )

    def add(self, message: Outgoing) -> None:
        """Put a message behind those that wait."""
        self.waiting.append(message)
        self.held += message.bytes
        self.held_frames += message.frames

    def remove(self, index: int) -> Outgoing:
        """Take a waiting message out."""
        message = self.waiting[index]
        del self.waiting[index]
        if not index:
            self.failures = self.waiting[0].failures if self.waiting else 0
        self.held -= message.bytes
        self.held_frames -= message.frames
        return message

    def promote(self, message: Outgoing) -> None:
        """Put a message before the others; each keeps its count of failures."""
        head = self.waiting[0]
        if head is not message:
            head.failures, self.failures = self.failures, message.failures
            self.waiting.remove(message)
            self.waiting.appendleft(message)

    def oldest(self) -> int | None:
        """Return the place of the oldest waiting message of which no frame was due yet; None if there is none."""
        waiting = range(0 if self.idle else 1, len(self.waiting))
        unsent = [index for index in waiting if self.waiting[index].mode is None]
        return min(unsent, key=lambda index: self.waiting[index].sent, default=None)

    def put_first(self, now: float) -> float:
        """Put the oldest message whose links are up before those that wait for theirs.

        A frame that is being repeated keeps its place.

        Returns:
            The instant, `now` if it is up, at which the first message is; math.inf if there is none.
        """
        earliest = math.inf
        for index, message in enumerate(self.waiting):
            ready = now if message.cut else message.ready(now)
            earliest = min(earliest, ready)
            if ready <= now:
                if index:
                    del self.waiting[index]
                    self.waiting.appendleft(message)
                return now
            if self.failures:
                break
        return earliest


class Transmission:
    """One uninterrupted transmission."""

    __slots__ = (
        "audience", "channel", "count", "cut", "deaf", "decoders", "end", "first", "message", "overlaps", "phy",
        "powers", "rate", "receivers", "src", "start",
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
        channel: int = 0,
    ) -> None:
        self.src = src
        self.start = start
        self.end = end
        self.message = message  # None: an acknowledgment
        self.first = first  # the first of its frames
        self.count = count  # number of its frames
        self.audience = audience  # who noticed it when it began
        self.receivers = receivers  # the devices that it is for
        self.channel = channel
        self.deaf: frozenset[DeviceId] = _NOBODY  # of its receivers, those whose radios are on another channel
        self.rate: float | None = None  # bit/s; None if it takes no time, or is an acknowledgment
        self.phy: Phy | None = None  # its modulation, if it was chosen; else that of `[radio]`
        self.cut = False  # its sender has crashed meanwhile: no device receives it
        self.overlaps: list[Transmission] = []
        self.powers: Any = None  # dBm at each device, if the air has a propagation model
        self.decoders: Any = None  # which devices hold it and no other frame, if the air has a propagation model

    def part(self, start: float, end: float, preamble: float) -> Transmission:
        """Return a part of this transmission; others that overlap it disturb it, or begin before `preamble` ends."""
        part = copy(self)
        part.start, part.end = start, end
        slack = rounding(end)
        preamble, begin, over = preamble - slack, start + slack, end - slack
        part.overlaps = [
            other for other in self.overlaps if other.start < preamble or (other.start < over and other.end > begin)
        ]
        return part

    @property
    def is_settled(self) -> bool:
        """Whether it is known who has received it, once it is over: its message is finished, or was sent again."""
        return self.message is None or self.message.latest is not self

    @property
    def code(self) -> int:
        """Its channel, and its spreading factor if that was chosen: a receiver keeps to those it decodes."""
        return 16 * self.channel + (self.phy.sf if isinstance(self.phy, Lora) else 0)
