"""Both ends of a link over which running sums are pushed: what is promised, what was taken, and how they settle.

The sender numbers its sums and keeps those that the receiver hasn't confirmed. It may close the link and
take back what isn't confirmed; the next sums then belong to a new incarnation of the link, and begin at 0:

    sender     incarnation c: sums 1, 2, 3 promised, 1 confirmed, then silence
               takes back  sums 3 - sums 1;  incarnation c + 1 begins, and nothing is pushed yet
    receiver   has taken sums 2 of c; hears of c + 1: sums 2 is final, later messages of c are void
               reports  (incarnation c + 1, number 0, final number 2)
    sender     pays  sums 2 - sums 1,  and pushes again

So what both ends hold, with what the sender still has to settle, never changes, whatever is lost, repeated or
overtaken: a partition counts what was in flight twice for a while, and no longer than that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from p2pl_async.messages import DeviceId

WINDOW = 8
"""Sums of one link that may wait for confirmation; then the last ones are repeated, and nothing more is pushed."""


class Promised(NamedTuple):
    """Sums of what was pushed over a link in its present incarnation."""

    u: float
    born: float
    x: NDArray[np.float64]


class Header(NamedTuple):
    """What a message says about the link to one receiver, and reports about the link back."""

    receiver: DeviceId
    boot: int  # of the receiver, as the sender knows it
    incarnation: int
    number: int  # of the sums in the message
    reported_incarnation: int
    reported_number: int  # number of the newest sums taken from the receiver
    reported_final: int  # number of the last sums taken in the incarnation before


class Promises:
    """The sender's end of a link.

    Attributes:
        incarnation: of the link.
        count: number of the newest sums.
        confirmed: number of the newest sums that the receiver has confirmed.
        sums: number -> sums, from the confirmed ones to the newest.
        open: whether the receiver is known to know of this incarnation; nothing is pushed to it before.
        since: the instant since which no sums were confirmed although some wait for it; inf if none wait.
    """

    __slots__ = ("_closed", "_nothing", "confirmed", "count", "incarnation", "open", "since", "sums")

    def __init__(self, nothing: Promised) -> None:
        self.incarnation = self.count = self.confirmed = 0
        self._nothing = nothing
        self.sums = {0: nothing}
        self.open = True
        self.since = math.inf
        self._closed: tuple[int, dict[int, Promised]] | None = None  # the confirmed number and sums before

    @property
    def newest(self) -> Promised:
        """The newest sums."""
        return self.sums[self.count]

    @property
    def settled(self) -> bool:
        """Whether the receiver is known to have the newest sums."""
        return self.count == self.confirmed

    @property
    def has_room(self) -> bool:
        """Whether more may be pushed."""
        return self.open and (self.since == math.inf or self.count - self.confirmed < WINDOW)

    def push(self, sums: Promised, now: float, *, confirmed_back: bool) -> None:
        """Promise new sums; without a link back nobody will confirm them, and no others are kept."""
        if confirmed_back and self.settled:
            self.since = now
        self.count += 1
        if confirmed_back:
            self.sums[self.count] = sums
        else:
            self.sums = {self.count: sums}

    def confirm(self, header: Header, now: float) -> None:
        """Forget the sums before those that the receiver has taken; open the link if it knows this incarnation."""
        if header.reported_incarnation != self.incarnation:
            return
        self.open = True
        if header.reported_number > self.confirmed and header.reported_number in self.sums:
            self.confirmed = header.reported_number
            self.sums = {count: sums for count, sums in self.sums.items() if count >= self.confirmed}
            self.since = math.inf if self.settled else now

    def close(self) -> tuple[Promised, Promised]:
        """Begin a new incarnation; return the newest sums and those confirmed, to take back the difference."""
        newest, confirmed = self.newest, self.sums[self.confirmed]
        self._closed = self.confirmed, self.sums
        self.incarnation += 1
        self.count = self.confirmed = 0
        self.sums = {0: self._nothing}
        self.open, self.since = False, math.inf
        return newest, confirmed

    def settle(self, header: Header) -> Iterator[tuple[Promised, float]]:
        """Yield sums, with their signs, that make up what the receiver had taken beyond what was confirmed: once."""
        if self._closed is None or header.reported_incarnation != self.incarnation:
            return
        (confirmed, sums), self._closed = self._closed, None
        if header.reported_final in sums:
            yield sums[header.reported_final], 1.0
            yield sums[confirmed], -1.0

    def unsettled(self, final: int) -> Iterator[tuple[Promised, float]]:
        """Yield what `settle` would if the receiver reported this final number; nothing once it has."""
        if self._closed is not None:
            confirmed, sums = self._closed
            yield sums[final], 1.0
            yield sums[confirmed], -1.0


class Credit:
    """The receiver's end of a link.

    Attributes:
        incarnation: of the link.
        count: number of the sums taken, 0 if none.
        final: number of the last sums taken in the incarnation before.
        sums: the sums taken.
    """

    __slots__ = ("_nothing", "count", "final", "incarnation", "sums")

    def __init__(self, nothing: Promised) -> None:
        self.incarnation = self.count = self.final = 0
        self.sums = self._nothing = nothing

    def begin(self, incarnation: int) -> None:
        """Begin a later incarnation: what was taken is final."""
        self.final = self.count if incarnation == self.incarnation + 1 else 0
        self.incarnation, self.count, self.sums = incarnation, 0, self._nothing

    def take(self, count: int, sums: Promised) -> None:
        """Note the sums that were taken."""
        self.count, self.sums = count, sums


def headers(
    group: Sequence[DeviceId],
    boots: Mapping[DeviceId, int],
    promised: Mapping[DeviceId, Promises],
    credited: Mapping[DeviceId, Credit],
) -> NDArray[np.int64]:
    """Return the headers for receivers, (len(group), 7)."""
    rows = []
    for j in group:
        promises, credit = promised[j], credited.get(j)
        report = (0, 0, 0) if credit is None else (credit.incarnation, credit.count, credit.final)
        rows.append(Header(j, boots.get(j, 0), promises.incarnation, promises.count, *report))
    found = np.array(rows, np.int64)
    found.flags.writeable = False  # so that sending it, and the sums beside it, needs no copy
    return found


def read_header(links: NDArray[np.int64], device: DeviceId) -> Header | None:
    """Return the header for a receiver, or None if there is none that makes sense."""
    if links.ndim != 2 or links.shape[1] != len(Header._fields):
        return None
    rows = links[links[:, 0] == device]
    return Header(*rows[0].tolist()) if len(rows) == 1 and bool((rows >= 0).all()) else None
