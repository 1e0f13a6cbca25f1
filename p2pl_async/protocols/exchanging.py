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
weight that moves alike, that is right at any speeds. From a neighbor that confirms nothing for longer than the patience
the sender takes back all of which it doesn't know the fate; what it hears later to have been applied, it owes.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from p2pl_async.messages import DeviceId, Vector
from p2pl_async.protocols.repairing import Confirmation, Confirmations

if TYPE_CHECKING:
    from p2pl_async.device import Device

WAITING = 2
"""Marks of one end that may wait for a confirmation or a counterpart, on links that lose messages."""

TRANSFERS = 8
"""Transfers over one link that may wait for a confirmation, on links that lose messages."""

BITS = 62
"""Exchanges before the last one that a confirmation tells."""


Fate = Literal["applied", "returned", "owed"]
"""Of an exchange: the receiver has applied it; it has not; or it has, and the sender had taken it back before."""


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
        taken_back: the same, of those taken back before it is known.
    """

    def __init__(self) -> None:
        self.count = 0
        self.waiting: dict[int, tuple[int, Told]] = {}
        self.taken_back: dict[int, tuple[int, Told]] = {}

    def mark(self, number: int, told: Told) -> int:
        """Mark a message; return which exchange it is."""
        self.count += 1
        self.waiting[self.count] = number, told
        return self.count

    def take_back(self) -> list[Told]:
        """Return what was told by marks of unknown fate, which then are not waited for any more."""
        told = [told for _, (_, told) in sorted(self.waiting.items())]
        self.taken_back |= self.waiting
        self.waiting = {}
        return told

    def confirm(self, confirmation: Confirmation) -> Iterator[tuple[Told, Fate]]:
        """Yield what was told by marks whose fate is now known, in order."""
        for marks in (self.taken_back, self.waiting):
            for mark, (number, told) in sorted(marks.items()):
                if number <= confirmation.number:
                    del marks[mark]
                    bit = confirmation.exchange - mark
                    applied = 0 <= bit <= BITS and bool(confirmation.exchanges >> bit & 1)
                    if marks is self.waiting:
                        yield told, "applied" if applied else "returned"
                    elif applied:
                        yield told, "owed"


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


class RoundsHeard:
    """Which neighbors hear a device, where messages replace each other and none needs to be confirmed.

    Each message says which round its sender has heard of each neighbor, as rows of `Confirmations`.

    Attributes:
        unheard: neighbor -> the instant since which it has not confirmed a round told to it; inf if it has the newest.
    """

    def __init__(self, device: Device) -> None:
        self.unheard: dict[DeviceId, float] = {}
        self._device = device
        self._told = 0  # 1 + the newest round told
        self._heard: dict[DeviceId, int] = {}  # 1 + the newest round heard
        self._confirmed: dict[DeviceId, int] = {}  # 1 + the newest round known to have been heard

    def tell(self, boots: Mapping[DeviceId, int]) -> Confirmations:
        """Return the rows for a message of this round, and wait for it to be confirmed.

        Args:
            boots: neighbor -> how often it has restarted, as far as known.
        """
        device = self._device
        self._told = device.round + 1
        for j in device.all_out_neighbors:
            if self.unheard.get(j, math.inf) == math.inf:
                self.unheard[j] = device.now
        rows = [(device.id, boots.get(j, 0), j, round, 0, 0) for j, round in sorted(self._heard.items())]
        return np.array(rows, np.int64).reshape(-1, 6)

    def hear(self, j: DeviceId, round: int, rows: Confirmations) -> None:
        """Note that a message of a round has come from a neighbor, and what it has heard of this device."""
        device = self._device
        self._heard[j] = max(self._heard.get(j, 0), round + 1)
        for boot, sender, heard in rows[:, 1:4].tolist():
            if sender == device.id and boot == device.boots and self._confirmed.get(j, 0) < heard <= self._told:
                self._confirmed[j] = heard
                self.unheard[j] = math.inf if heard == self._told else device.now
