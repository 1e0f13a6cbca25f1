"""Exchanges: two devices move by opposite amounts, at any speeds.

Both ends of a link mix public copies h, each when its round ends. If each took its own rounds as the measure,
the fast one would move more often than the other, and the mean of both would drift. So the copies that
mix are those of certain messages: the k-th exchange of a link is the k-th message of either end that is
marked as one and applied by the other, and both ends add the opposite

    x_i <- x_i + f_k      x_j <- x_j - f_k      f_k = gamma w (h_j - h_i), as the two messages told them

once they know both. A device marks a message if no more than a few of its own still wait for their
counterpart, so a fast one exchanges at the pace of the slow one. Where messages may be lost, the receiver's
confirmations say which marks it has applied; the others are marked again.

Without a counterpart, an exchange is a transfer: the sender subtracts gamma p h_i for each receiver when it sends,
the receiver adds it when it applies the message, and what was not applied returns to the sender. With a push
weight that moves alike, that is right at any speeds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from p2pl_async.messages import Vector
from p2pl_async.protocols.repairing import Confirmation

WAITING = 2
"""Marks of one end that may wait for a confirmation or a counterpart, on links that lose messages."""

TRANSFERS = 8
"""Transfers over one link that may wait for a confirmation, on links that lose messages."""

BITS = 62
"""Exchanges before the last one that a confirmation tells."""


class Told(NamedTuple):
    """A copy as a message told it."""

    x: Vector
    u: float
    degree: int


class Marks:
    """The sender's marks on one link.

    Attributes:
        count: marks so far.
        waiting: mark -> number of the message, and what it told; until its fate is known.
    """

    def __init__(self) -> None:
        self.count = 0
        self.waiting: dict[int, tuple[int, Told]] = {}

    def mark(self, number: int, told: Told) -> int:
        """Mark a message; return which exchange it is."""
        self.count += 1
        self.waiting[self.count] = number, told
        return self.count

    def confirm(self, confirmation: Confirmation) -> Iterator[tuple[Told, bool]]:
        """Yield what was told by marks whose fate is now known, in order, and whether they were applied."""
        for mark, (number, told) in sorted(self.waiting.items()):
            if number <= confirmation.number:
                del self.waiting[mark]
                bit = confirmation.exchange - mark
                yield told, 0 <= bit <= BITS and bool(confirmation.exchanges >> bit & 1)


class AppliedMarks:
    """The receiver's end: which marks it has applied."""

    def __init__(self) -> None:
        self.last = 0
        self.bits = 0

    def apply(self, mark: int) -> None:
        """Note that a marked message was applied; marks only grow."""
        self.bits = (self.bits << min(mark - self.last, BITS + 1) | 1) & ((1 << (BITS + 1)) - 1)
        self.last = mark


class Pairs:
    """The exchanges of one link that wait for their counterpart."""

    def __init__(self) -> None:
        self.ours: deque[Told] = deque()
        self.theirs: deque[Told] = deque()

    def complete(self) -> Iterator[tuple[Told, Told]]:
        """Yield the exchanges of which both messages are known: (theirs, ours)."""
        while self.ours and self.theirs:
            yield self.theirs.popleft(), self.ours.popleft()
