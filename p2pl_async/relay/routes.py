"""Which devices pass a message on to which: shortest paths, and flooding."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, Protocol

Now = Callable[[int, float], Sequence[int]]
"""(device, instant) -> the devices that it reaches directly then."""


class Onward(NamedTuple):
    """What a device does with a message."""

    hops: dict[int, tuple[int, ...]]  # next device -> whom it passes the message on to, itself among them
    stranded: tuple[int, ...]  # devices that the message can't get to from here


class Routes(Protocol):
    """The ways of messages."""

    floods: bool  # a device takes the first copy of a message, and no other

    def onward(self, way: Sequence[int], targets: Collection[int], now: float) -> Onward:
        """Return what the last device of a way does with a message for some devices."""


class ShortestPaths:
    """Ways of the fewest hops.

    Args:
        out_neighbors: for each device, those that it reaches directly, ascending.
        most: hops of a message.
    """

    floods = False

    def __init__(self, out_neighbors: Sequence[Sequence[int]], most: int) -> None:
        self._out = out_neighbors
        self._into: list[list[int]] = [[] for _ in out_neighbors]
        for device, reached in enumerate(out_neighbors):
            for other in reached:
                self._into[other].append(device)
        self._most = most
        self._distances: dict[int, list[float]] = {}  # target -> hops to it from each device

    def distance(self, device: int, target: int) -> float:
        """Return the hops from one device to another; math.inf if no way leads there."""
        found = self._distances.get(target)
        if found is None:
            found = self._distances[target] = [math.inf] * len(self._out)
            front, hops = [target], 0
            while front:
                for one in front:
                    found[one] = hops
                hops += 1
                near = {other for one in front for other in self._into[one]}
                front = [other for other in near if found[other] == math.inf]
        return found[device]

    def onward(self, way: Sequence[int], targets: Collection[int], now: float) -> Onward:
        here, left = way[-1], self._most - len(way) + 1
        hops: dict[int, list[int]] = {}
        stranded = []
        for target in sorted(targets):
            distance = self.distance(here, target)
            if distance > left:
                stranded.append(target)
                continue
            following = next(other for other in self._out[here] if self.distance(other, target) == distance - 1)
            hops.setdefault(following, []).append(target)
        return Onward({device: tuple(hops[device]) for device in sorted(hops)}, tuple(stranded))


class Flood:
    """Every way that there is.

    Args:
        out_neighbors: for each device, those that it can ever reach directly, ascending.
        most: hops of a message.
        now: those that it reaches at an instant, where that changes; None: always the same.
    """

    floods = True

    def __init__(self, out_neighbors: Sequence[Sequence[int]], most: int, now: Now | None) -> None:
        self._out = out_neighbors
        self._most = most
        self._now = now

    def onward(self, way: Sequence[int], targets: Collection[int], now: float) -> Onward:
        if len(way) > self._most:
            return Onward({}, ())
        here = way[-1]
        reached = self._out[here] if self._now is None else self._now(here, now)
        everyone = tuple(sorted(targets))
        return Onward({device: everyone for device in sorted(reached) if device not in way[-2:-1]}, ())
