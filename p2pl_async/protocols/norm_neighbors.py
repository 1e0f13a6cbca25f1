"""What a device knows of its neighbors during the max-norm synchronization: keys, levels, and who is silent.

A neighbor that is silent for longer than the patience is left out. How long that is depends on what has been seen of
the links, so that slow ones, and radios that sleep, cost time and nothing else. It is the longest of

    the setting
    six times the longest pause between two messages of one neighbor     radios that sleep, heavy loss
    six times the longest time that the own radio was busy               slow links, limited air time
    four times the longest delay of a message                            distant devices

A neighbor that was asked for its model may have a radio that is busy with it: it is given what the model takes if each
of its bytes takes as long as those of the slowest beacon, up to ten times the patience.

A neighbor that claims a larger key, and in ten times the patience answers none of 64 beacons that ask it for the
model, is not believed: it lies, or doesn't hear; it is left out as a silent one is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2pl_async.messages import DeviceId
from p2pl_async.protocols.norm_keys import Key, NormKey, Sent

if TYPE_CHECKING:
    from p2pl_async.device import Device

_PAUSES = 6.0  # of the longest seen, of a neighbor or the own radio, that a neighbor may be silent
_DELAYS = 4.0  # of the longest seen
_BEACON = 50.0  # bytes of a beacon, about, on the safe side
_ASKS = 64  # in vain, each given time for a message both ways, after which a neighbor's key is not believed
_PATIENCES = 10.0  # that those take at least


@dataclass(slots=True)
class Neighbor:
    """The newest that a device knows of an in-neighbor."""

    key: Key
    level: int
    done: bool
    number: int  # of the sender's messages, the newest heard
    at: float  # virtual second at which the latest arrived


class NormNeighbors:
    """The newest of each in-neighbor, and which of them a device counts on.

    Args:
        device: the device that hears them.
        beacon: mean time between two beacons, in seconds.
        patience: how long a neighbor may be silent at least, in seconds.
        size: bytes of a model.

    Attributes:
        heard: in-neighbor -> the newest known of it.
        barred: neighbors whose models can't be used, or don't come.
        delay: the longest that a message has taken to get here, in seconds.
        gap: the longest pause between two messages of one neighbor, in seconds.
        busy: the longest that the own radio has been busy with one message, in seconds.
    """

    def __init__(self, device: Device, beacon: float, patience: float, size: int) -> None:
        self.heard: dict[DeviceId, Neighbor] = {}
        self.barred: set[DeviceId] = set()
        self.delay = self.gap = self.busy = 0.0
        self._device = device
        self._beacon = beacon
        self._least = patience
        self._beacons = size / _BEACON  # that are as large as a model
        self._started = device.now
        self._targets = frozenset(device.all_out_neighbors)
        self._asked: dict[DeviceId, tuple[int, float]] = {}  # how often since its latest model, and since when

    def note(self, message: Sent, key: Key) -> None:
        """Remember what a neighbor holds now; an older message that comes late changes nothing."""
        now = self._device.now
        self.delay = max(self.delay, now - message.sent)
        level = message.level if isinstance(message, NormKey) else 0
        known = self.heard.get(message.sender)
        if known is not None:
            self.gap = max(self.gap, now - known.at)
        if known is None or message.number > known.number:
            self.heard[message.sender] = Neighbor(key, level, message.done, message.number, now)
        else:
            known.at = now

    # Silence

    @property
    def patience(self) -> float:
        """How long a neighbor may be silent, in seconds, by what has been seen so far."""
        return max(self._least, _PAUSES * max(self.gap, self.busy), _DELAYS * self.delay)

    @property
    def asleep(self) -> float:
        """How long neighbors seem to sleep at a stretch, in seconds; 0 if pauses are no longer than losses explain."""
        return self.gap if self.gap > _PAUSES * self._beacon else 0.0

    def counted(self) -> list[DeviceId]:
        """Return the in-neighbors that a level depends on: where links come and go, those heard of late."""
        known = sorted(self.heard) if self._device.roams else self._device.all_in_neighbors
        silent = self._silent(known)
        return [j for j in known if j not in silent] if silent else list(known)

    def left_out(self) -> int:
        """Return how many in-neighbors are silent or barred."""
        return len(self._silent(self._device.all_in_neighbors))

    def _silent(self, those: Sequence[DeviceId]) -> set[DeviceId]:
        now, patience, heard = self._device.now, self.patience, self.heard
        longest = max(patience, min(_PATIENCES * patience, self._beacons * self.delay))
        last = [(j, heard[j].at if j in heard else self._started) for j in those]
        return {j for j, at in last if now - at >= (longest if j in self._asked else patience) or j in self.barred}

    # Models

    def asked(self, j: DeviceId) -> None:
        """Note that a neighbor is asked for its model."""
        count, since = self._asked.get(j, (0, self._device.now))
        self._asked[j] = count + 1, since

    def answered(self, j: DeviceId) -> None:
        """Note that a neighbor's model has come."""
        self._asked.pop(j, None)

    def is_in_vain(self, j: DeviceId) -> bool:
        """Tell whether a neighbor was asked often enough, and for long enough, to have sent its model."""
        count, since = self._asked.get(j, (0, math.inf))
        long = max(_PATIENCES * self.patience, _ASKS * 2 * (self.delay + self._beacon))
        return count >= _ASKS and self._device.now - since > long

    def finished(self, counted: Sequence[DeviceId]) -> list[DeviceId]:
        """Return those that are done and can be asked."""
        return [j for j in counted if j in self.heard and j in self._targets and self.heard[j].done]

    def larger(self, counted: Sequence[DeviceId], mine: Key) -> list[DeviceId]:
        """Return those that hold something larger than `mine`, in order of id."""
        near = [(j, self.heard[j].key) for j in counted if j in self.heard]
        return [
            j for j, key in near if key != mine and any(theirs > own for theirs, own in zip(key, mine, strict=True))
        ]

    def largest(self, counted: Sequence[DeviceId], mine: Key) -> list[DeviceId]:
        """Return those with the largest key, if it is larger than `mine`, that can be asked."""
        larger = [j for j in self.larger(counted, mine) if j in self._targets]
        most = max((self.heard[j].key for j in larger), default=None)
        return [j for j in larger if self.heard[j].key == most]
