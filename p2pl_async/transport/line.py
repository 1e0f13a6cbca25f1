"""The line of messages waiting for a link whose queue drops the oldest when it is full.

The fate of a waiting message depends on messages sent after it, so it isn't decided at sending:
the line asks the link when its transmitter is free. A link whose queue refuses the newest needs no
line, as it decides at once.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from p2pl_async.clock import VirtualClock
from p2pl_async.link import Link, Verdict
from p2pl_async.link.verdict import EXPIRED, REFUSED

_LINE = -1  # the number of a line's events; messages count from 0


class _Waiting(NamedTuple):
    token: Any
    sent: float
    size: int  # of the message
    needed: int | None
    packets: int  # as the queue counts
    bytes: int


class Line:
    """Messages that wait for the transmitter of one link.

    Args:
        link: the link.
        clock: its calendar takes the event at which the transmitter is free.
        decided: called with (token, verdict) of each message once its fate is known.
    """

    def __init__(self, link: Link, clock: VirtualClock, decided: Callable[[Any, Verdict], object]) -> None:
        self._link = link
        self._clock = clock
        self._decided = decided
        self._waiting: deque[_Waiting] = deque()
        self._sending = (0, 0)  # packets and bytes of the message that has the transmitter
        self._called = False  # an event for the next message is in the calendar

    def add(self, token: Any, size: int, needed: int | None) -> None:
        """Add a message, and drop the oldest waiting ones until the rest fits."""
        now = self._clock.now
        self._waiting.append(_Waiting(token, now, size, needed, *self._link.load(size, now)))
        self._next()
        while self._waiting and not self._fits():
            self._decided(self._waiting.popleft().token, REFUSED)

    def abandon(self, verdict: Verdict) -> None:
        """Give this verdict to every message that still waits, as a run ends."""
        while self._waiting:
            self._decided(self._waiting.popleft().token, verdict)

    def _next(self) -> None:
        """Send the first message if the transmitter is free, and schedule the next."""
        now, link = self._clock.now, self._link
        queue = link.settings_at(now).queue
        lifetime = math.inf if queue is None or queue.lifetime is None else queue.lifetime
        while self._waiting and now - self._waiting[0].sent > lifetime:
            self._decided(self._waiting.popleft().token, EXPIRED)
        while self._waiting and link.sending_until <= now:
            first = self._waiting.popleft()
            self._sending = (first.packets, first.bytes)
            self._decided(first.token, link.judge(first.size, now, first.needed))
        if self._waiting and not self._called and link.sending_until < math.inf:
            self._called = True
            self._clock.schedule(link.sending_until, link.dst, link.src, _LINE, self._call, None)

    def _call(self, _: object) -> None:
        self._called = False
        self._next()

    def _fits(self) -> bool:
        """Tell whether the waiting messages and the one being sent are within the queue's limits."""
        queue = self._link.settings_at(self._clock.now).queue
        if queue is None:
            return True
        packets, size = self._sending
        messages = 1 + len(self._waiting)
        return (
            (queue.messages is None or messages <= queue.messages)
            and (queue.packets is None or packets + sum(each.packets for each in self._waiting) <= queue.packets)
            and (queue.size is None or size + sum(each.bytes for each in self._waiting) <= queue.size)
        )
