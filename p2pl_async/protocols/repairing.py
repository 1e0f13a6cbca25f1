"""Interval repair: mass pushed over links that lose, repeat and reorder counts exactly once.

The pushes of a device to one receiver are numbered 1, 2, 3, ... Let C[n] be the sum of the first n. The
sender knows a number `base` that the receiver has confirmed, and sends

    (base, top, C[top] - C[base])        all pushes since then, in one sum

The receiver knows what it has applied since `base`, and adds the difference: the lost pushes, or 0 if there
were none. It confirms `top`. So for each link

    applied by the receiver + still owed by the sender = pushed by the sender

whatever happens to messages and confirmations; a later message makes up for every lost one. Compressed
pushes have few entries in common, so a message grows in proportion to the number of pushes not yet
confirmed.

A neighbor that confirms nothing for longer than the patience is gone, or can't be heard: what it hasn't
confirmed is taken back, by pushing the opposite. Should it have applied some of it, it gives that back when it
is heard again, as the sum of all pushes is then 0; the sum of both masses never changes.

Confirmations travel in the receiver's own messages: straight back if there is a link, else from
device to device around the graph, which must then be strongly connected.

Source: running sums by C. Hadjicostis, N. Vaidya and A. Dominguez-Garcia, "Robust distributed average
consensus via exchange of running sums", IEEE TAC 2016; acknowledged ones by E. Makridis, T. Charalambous
and C. Hadjicostis, arXiv:2209.14699. The interval form is ours.
"""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from p2pl_async.compression import Payload, total
from p2pl_async.errors import RemoteError
from p2pl_async.messages import DeviceId

WINDOW = 128
"""Pushes of one link that are kept apart; an older confirmation comes too late to be used."""

Confirmations = NDArray[np.int64]
"""Rows (receiver, its restarts, sender, number, exchange, exchanges).

The receiver, in this life, has applied all that the sender pushed up to the number; the last exchange that came with
a message which it applied, and bits of those before it that did (bit 0 is the last one). See `exchanging`.
"""


class Confirmation(NamedTuple):
    """What a receiver has applied of one sender."""

    boot: int  # restarts of the receiver
    number: int
    exchange: int = 0
    exchanges: int = 0


class Share(NamedTuple):
    """One push: a part of a numerator, and of a push weight."""

    q: Payload
    u: float


class Owed:
    """The sender's end of one link: pushes not confirmed yet.

    Args:
        start: the number before the first; a device that restarts after a crash starts above all that it used.

    Attributes:
        base: number that the receiver has confirmed.
        top: number of the latest push.
        since: the instant since which nothing was confirmed although something waits for it; inf if nothing waits.
        open: False after pushes were taken back, until that is confirmed.
    """

    def __init__(self, start: int = 0) -> None:
        self.base = start
        self.top = start
        self.since = math.inf
        self.open = True
        self._taken_back = start
        self._old: Share | None = None  # pushes before the window, in one sum
        self._recent: deque[Share] = deque()  # the latest pushes, up to `top`

    def push(self, share: Share, now: float = 0.0) -> None:
        """Promise a share to the receiver."""
        if self.base == self.top:
            self.since = now
        self.top += 1
        self._recent.append(share)
        if len(self._recent) > WINDOW:
            first = self._recent.popleft()
            self._old = first if self._old is None else _sum([self._old, first])

    def take_back(self) -> Share | None:
        """Return what isn't confirmed, and push its opposite: once the receiver is heard again, both settle."""
        share = self.outstanding()
        if share is not None:
            self.push(Share(share.q.times(-1.0), -share.u))
            self.open, self.since, self._taken_back = False, math.inf, self.top
        return share

    def confirm(self, number: int, now: float = 0.0) -> None:
        """Note that the receiver has applied all pushes up to `number`; ignore old and impossible numbers."""
        if max(self.base, self.top - len(self._recent)) <= number <= self.top:
            while self.top - len(self._recent) < number:
                self._recent.popleft()
            self._old = None
            if number > self.base:
                self.since = math.inf if number == self.top or not self.open else now
            self.base = number
            self.open = self.open or number >= self._taken_back

    def outstanding(self) -> Share | None:
        """Return C[top] - C[base], or None if everything is confirmed."""
        shares = ([] if self._old is None else [self._old]) + list(self._recent)
        return _sum(shares) if shares else None


class Applied:
    """The receiver's end of one link: pushes already applied.

    Attributes:
        number: all pushes up to this number are applied.
    """

    def __init__(self) -> None:
        self.number = 0
        self._floor = 0  # the oldest share kept here begins after this number
        self._since: list[tuple[int, Share]] = []  # (number, share applied when it came)

    def receive(self, base: int, top: int, share: Share) -> Share | None:
        """Return the share to add now that the sum from `base` to `top` has come; None if it is old.

        A `base` above `number` shows that one of the two ends has crashed; its mass is lost, and both ends
        continue from `base`.

        Raises:
            RemoteError: if `base` was never confirmed.
        """
        if top <= self.number:
            return None
        if base > self.number:
            self.number = self._floor = base
            self._since = []
        if base != self._floor and base not in (number for number, _ in self._since):
            raise RemoteError(f"the sum of pushes begins after number {base}, which was never confirmed")
        self._since = [(number, applied) for number, applied in self._since if number > base]
        self._floor = base
        known = [applied for _, applied in self._since]
        if known:
            share = _sum([share, *(Share(applied.q.times(-1.0), -applied.u) for applied in known)])
        self._since.append((top, share))
        self.number = top
        while len(self._since) > 1 and self._since[1][0] < top - WINDOW:
            (_, first), (number, second) = self._since[:2]
            self._since[:2] = [(number, _sum([first, second]))]
        return share


class Confirmed:
    """Confirmations that a device knows: its own, and others' that it passes on."""

    def __init__(self, device: DeviceId, out_neighbors: frozenset[DeviceId]) -> None:
        self._device = device
        self._out = out_neighbors
        self._known: dict[tuple[DeviceId, DeviceId], Confirmation] = {}  # by receiver and sender

    def know(self, receiver: DeviceId, sender: DeviceId, confirmation: Confirmation) -> None:
        """Remember a confirmation, unless a newer one is known."""
        key = receiver, sender
        self._known[key] = max(confirmation, self._known.get(key, confirmation))

    def rows(self, target: DeviceId) -> Confirmations:
        """Return the confirmations to send to a neighbor: those it waits for, and those it is to pass on."""
        rows = [
            (receiver, known.boot, sender, *known[1:])
            for (receiver, sender), known in sorted(self._known.items())
            if sender == target or receiver != self._device or sender not in self._out
        ]
        return np.array(rows, np.int64).reshape(-1, 6)


def _sum(shares: list[Share]) -> Share:
    return Share(total([share.q for share in shares]), sum(share.u for share in shares))
