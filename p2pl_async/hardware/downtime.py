"""When a device is down: crashed, not there yet, or gone; known ahead, whatever the traffic.

    churn, drawn      ----[####]--------[##]---- ...
    scripted          ------[####]--------------
    join, leave       [##]------------------[###########
                      ---------------------------------->  virtual time
    down              [##]--[####]------[##]-[##########

Every link of a device, its energy meter and the emulation ask the same object, each at instants
of its own: stays are drawn as far as somebody has looked, and kept. A device that crashes for a
reason that follows from the run itself, an empty battery, is `end`ed.
"""

from __future__ import annotations

import functools
import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from heapq import merge
from typing import NamedTuple

import numpy as np

from p2pl_async.basics.arrays import Bools, Floats

CRASHED = "crashed"
ABSENT = "absent"  # not there yet, or gone
BATTERY = "battery"


class Stay(NamedTuple):
    """One time that a device is down: `start <= t < end`."""

    start: float  # s, virtual
    end: float  # s; math.inf: for good
    cause: str


class Downtime:
    """All stays of one device, in order.

    Args:
        sources: cause -> [start, end) in order of their start, for ever if need be; where some
            overlap, the one that began first decides the cause until it ends.
        mortal: whether the device may be `end`ed, by its battery.
    """

    def __init__(self, sources: Mapping[str, Iterable[tuple[float, float]]], *, mortal: bool = False) -> None:
        self.causes = (*sources, *([BATTERY] if mortal else []))
        self.ended: float | None = None  # when its battery was empty
        self._few = {cause: times for cause, times in sources.items() if isinstance(times, Sequence)}
        self._coming: Iterator[Stay] = merge(*(_stays(times, cause) for cause, times in sources.items()))
        self._stays: list[Stay] = []
        self._starts: list[float] = []
        self._known = -math.inf  # stays that begin up to here are in the list

    def stay(self, now: float) -> Stay | None:
        """Return the stay that holds at the instant `now`; None if the device is up."""
        self._look(now)
        index = bisect_right(self._starts, now) - 1
        return self._stays[index] if index >= 0 and now < self._stays[index].end else None

    def cause(self, now: float) -> str:
        """Return why the device is down at the instant `now`; "" if it is up."""
        stay = self.stay(now)
        return "" if stay is None else stay.cause

    def next(self, now: float) -> Stay | None:
        """Return the first stay that ends after the instant `now`; None if there is none any more."""
        index = max(bisect_right(self._starts, now) - 1, 0)
        while True:
            while index >= len(self._stays):
                if not self._draw():
                    return None
            if self._stays[index].end > now:
                return self._stays[index]
            index += 1

    def between(self, start: float, end: float) -> Floats:
        """Return the parts of stays that lie in `[start, end)`, shape (n, 2)."""
        self._look(end)
        first = max(bisect_right(self._starts, start) - 1, 0)
        found = [
            (max(stay.start, start), min(stay.end, end))
            for stay in self._stays[first : bisect_right(self._starts, end)]
            if stay.end > start and stay.start < end
        ]
        return np.array(found, np.float64).reshape(-1, 2)

    def end(self, now: float) -> None:
        """Take the device down for good: its battery is empty from the instant `now` on."""
        self._look(now)
        kept = [stay for stay in self._stays if stay.start < now]
        if kept and kept[-1].end > now:
            kept[-1] = kept[-1]._replace(end=now)
        self._stays = [*kept, Stay(now, math.inf, BATTERY)]
        self._starts = [stay.start for stay in self._stays]
        self._coming = iter(())
        self._known = math.inf
        self.ended = now

    def of(self, cause: str) -> Watch | BatteryWatch:
        """Return what tells a link when the device is down for one cause."""
        if cause == BATTERY:
            return BatteryWatch(self)
        # Apart from all others: to look for the next of a few among stays that come for ever would take as long.
        return Watch(Downtime({cause: self._few[cause]}) if cause in self._few else self, cause)

    def _look(self, until: float) -> None:
        """Draw the stays that begin up to the instant `until`."""
        while self._known < until and self._draw():
            pass

    def _draw(self) -> bool:
        """Draw one more stay; tell whether there was one."""
        stay = next(self._coming, None)
        if stay is None:
            self._known = math.inf
            return False
        self._known = max(self._known, math.nextafter(stay.start, -math.inf))
        last_end = self._stays[-1].end if self._stays else -math.inf
        start = max(stay.start, last_end)
        if start < stay.end:
            self._stays.append(stay._replace(start=start))
            self._starts.append(start)
        return True


def watches(*ends: Downtime) -> list[tuple[str, Callable[[], Watch | BatteryWatch]]]:
    """Return what takes a link between these devices down, as (cause, maker): what a `Link` is told."""
    return [(cause, functools.partial(downtime.of, cause)) for downtime in ends for cause in downtime.causes]


def _stays(times: Iterable[tuple[float, float]], cause: str) -> Iterator[Stay]:
    return (Stay(start, end, cause) for start, end in times)


class Watch:
    """Answers when a device is down for one cause, at instants that don't decrease: what a link asks."""

    def __init__(self, downtime: Downtime, cause: str) -> None:
        self._downtime = downtime
        self._cause = cause
        self._state = 0
        self.until = 0.0

    def at(self, now: float) -> int:
        """Return 1 if the device is down at the instant `now`, else 0; that holds until `until`."""
        if now < self.until:
            return self._state
        stay = self._downtime.next(now)
        while stay is not None and stay.cause != self._cause:
            stay = self._downtime.next(stay.end)
        self._state = int(stay is not None and stay.start <= now)
        self.until = math.inf if stay is None else stay.end if self._state else stay.start
        return self._state

    def touched(self, starts: Floats, ends: Floats) -> Bools:
        """Return whether the device is down at any moment of each interval; shapes (n,), both ascending."""
        if self.at(float(starts[0])) == 0 and ends[-1] < self.until:
            return np.zeros(starts.shape, np.bool_)
        found: Bools = np.zeros(starts.shape, np.bool_)
        stay = self._downtime.next(float(starts[0]))
        while stay is not None and stay.start <= ends[-1]:
            if stay.cause == self._cause:
                # Those that begin before the stay ends, and end after it has begun.
                found |= (starts < stay.end) & ((ends > stay.start) | (starts >= stay.start))
            stay = self._downtime.next(stay.end)
        return found


class BatteryWatch:
    """Answers whether a device's battery is empty."""

    def __init__(self, downtime: Downtime) -> None:
        self._downtime = downtime
        self.until = math.inf  # nobody sees an empty battery coming

    def at(self, now: float) -> int:
        """Return 1 if the battery is empty at the instant `now`, else 0."""
        return int(self._downtime.ended is not None and now >= self._downtime.ended)

    def touched(self, starts: Floats, ends: Floats) -> Bools:
        """Return whether it is empty at any moment of each interval; shapes (n,)."""
        empty = math.inf if self._downtime.ended is None else self._downtime.ended
        found: Bools = (ends > empty) | (starts >= empty)
        return found
