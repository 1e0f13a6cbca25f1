"""A link as the transport sees it, and what is carried over it."""

from __future__ import annotations

import math

from p2pl_async.link import Link, Signal
from p2pl_async.messages import AsReceived, DeviceId, Message
from p2pl_async.transport.inbox import Inbox
from p2pl_async.transport.line import Line
from p2pl_async.transport.wire import SharedBytes, decode

_make = tuple.__new__  # takes a third of the time of naming fields


class Encoded:
    """The bytes of one broadcast, and the message in them once a receiver has read it."""

    __slots__ = ("data", "kind", "message", "needed", "number", "sent", "size")

    def __init__(
        self,
        data: bytes | SharedBytes,
        sent: float,
        number: int,
        kind: str,
        needed: int | None = None,
        message: Message | None = None,
    ) -> None:
        self.data = data
        self.size = len(data)
        self.sent = sent
        self.number = number  # the sender's count of its messages
        self.kind = kind  # the message's tag
        self.needed = needed  # bytes at the start without which a part is useless; None if only the whole is useful
        self.message = message

    def start(self, count: int) -> bytes:
        """Return the first bytes, at most `count`."""
        return self.data[:count] if isinstance(self.data, bytes) else self.data.start(count)

    def read(self) -> Message:
        """Return the message; RemoteError if the bytes aren't one."""
        self.message = decode(self.data, self.sent)
        return self.message


class Path:
    """One link as the transport sees it: its ends, and counters of its messages."""

    __slots__ = (
        "acknowledged", "air_seconds", "causes", "delay", "delivered", "dst", "first", "inbox", "last", "line", "link",
        "lost", "partial", "sent", "src",
    )  # fmt: skip

    def __init__(self, src: DeviceId, dst: DeviceId, link: Link, inbox: Inbox) -> None:
        self.src = src
        self.dst = dst
        self.link = link
        self.inbox = inbox
        self.line: Line | None = None  # only for a link whose queue drops the oldest
        self.sent = 0
        self.delivered = 0
        self.partial = 0
        self.lost = 0
        self.causes: dict[str, int] | None = None  # cause -> messages lost to it; of 10,000 links few lose any
        self.acknowledged = 0
        self.air_seconds = 0.0
        self.delay = 0.0  # s, summed over the delivered
        self.first = self.last = math.nan  # virtual seconds of the first and the latest delivery

    def as_heard(self, message: Message, signal: Signal, encoded: Encoded) -> Message:
        """Return a message as its receiver hears it, who can tell of its way if that is by radio."""
        if math.isnan(signal.rssi):
            return message
        return message.as_heard(_make(AsReceived, (signal, encoded.size, self.link)))

    def lose(self, cause: str) -> None:
        """Count a lost message."""
        self.lost += 1
        if self.causes is None:
            self.causes = {}
        self.causes[cause] = self.causes.get(cause, 0) + 1
