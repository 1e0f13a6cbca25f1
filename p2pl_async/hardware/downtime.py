"""The times at which a device is down: crashed, not there yet, or gone; they don't depend on the traffic.

    churn, drawn      ----[####]--------[##]---- ...
    scripted          ------[####]--------------
    join, leave       [##]------------------[###########
                      ---------------------------------->  virtual time
    down              [##]--[####]------[##]-[##########

Every link of a device, its energy meter and the emulation ask the same object, each at instants
of its own: stays are drawn up to the latest instant asked for, and kept. An empty battery follows
from the run itself and `end`s a device.
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
from p2pl_async.basics.timeline import Stretch

CRASHED = "crashed"
ABSENT = "absent"  # not there yet, or gone
BATTERY = "battery"


_UP = Stretch("", math.inf)
_CHARGED, _EMPTY = Stretch(0, math.inf), Stretch(1, math.inf)
_NEVER: Floats = np.empty((0, 2))


class Stay(NamedTuple):
    """A time at which a device is down: `start <= t < end`."""

    start: float  # s, virtual
    end: float  # s; math.inf: until the end of the run
    cause: str


class Downtime:
    """All stays of one device, in order.

    Args:
        sources: cause -> [start, end) in order of their start, possibly without end; where some
            overlap, the one that begins first decides the cause until it ends.
        mortal: whether the device may be `end`ed, by its battery.
    """

    def __init__(self, sources: Mapping[str, Iterable[tuple[float, float]]], *, mortal: bool = False) -> None:
        self.causes = (*sources, *([BATTERY] if mortal else []))
        self.ended: float | None = None  # when its battery was empty
        self._battery = BatteryWatch(self)  # the same for all links
        self._few = {cause: times for cause, times in sources.items() if isinstance(times, Sequence)}
        self._coming: Iterator[Stay] = merge(*(_stays(times, cause) for cause, times in sources.items()))
        self._stays: list[Stay] = []
        self._starts: list[float] = []
        self._known = -math.inf  # stays that begin up to here are in the list
        self.on_end: list[Callable[[], object]] = []  # called when the device is ended

    def at(self, now: float) -> Stretch[str]:
        """Return why the device is down at the instant `now`, "" if it is up, and until when."""
        if not self._stays and self._known == math.inf:
            return _UP
        stay = self.next(now)
        if stay is None:
            return Stretch("", math.inf)
        return Stretch("", stay.start) if now < stay.start else Stretch(stay.cause, stay.end)

    def next(self, now: float) -> Stay | None:
        """Return the first stay that ends after the instant `now`; None if there are no more."""
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
        if not self._stays:
            return _NEVER
        first = max(bisect_right(self._starts, start) - 1, 0)
        found = [
            (max(stay.start, start), min(stay.end, end))
            for stay in self._stays[first : bisect_right(self._starts, end)]
            if stay.end > start and stay.start < end
        ]
        return np.array(found, np.float64).reshape(-1, 2)

    def end(self, now: float) -> None:
        """Take the device down until the end of the run: its battery is empty from the instant `now` on."""
        self._look(now)
        kept = [stay for stay in self._stays if stay.start < now]
        if kept and kept[-1].end > now:
            kept[-1] = kept[-1]._replace(end=now)
        self._stays = [*kept, Stay(now, math.inf, BATTERY)]
        self._starts = [stay.start for stay in self._stays]
        self._coming = iter(())
        self._known = math.inf
        self.ended = now
        for call in self.on_end:
            call()

    def of(self, cause: str) -> Watch | BatteryWatch:
        """Return when the device is down for one cause, for a link to ask."""
        if cause == BATTERY:
            return self._battery
        # A few stays are watched apart: looking for them among endlessly drawn ones would draw those, too.
        return Watch(Downtime({cause: self._few[cause]}) if cause in self._few else self, cause)

    def _look(self, until: float) -> None:
        """Draw the stays that begin up to the instant `until`."""
        while self._known < until and self._draw():
            pass

    def _draw(self) -> bool:
        """Draw one more stay; return whether there is one."""
        forever = bool(self._stays) and self._stays[-1].end == math.inf  # churn goes on drawing, and nothing follows
        stay = None if forever else next(self._coming, None)
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
    """Return (cause, maker) of the outages of a link between these devices, as `Link` takes them."""
    return [(cause, functools.partial(downtime.of, cause)) for downtime in ends for cause in downtime.causes]


class Presence:
    """Which of all devices are up.

    Args:
        downtimes: of each device, by id.
    """

    def __init__(self, downtimes: Sequence[Downtime]) -> None:
        self._downtimes = downtimes
        self._mask: Bools | None = None  # from one instant to another
        self._from = self._until = math.inf
        for downtime in downtimes:
            downtime.on_end.append(self._forget)

    def at(self, now: float) -> Bools | None:
        """Return which devices are up at the instant `now`, shape (n,); None if all are. Don't change it."""
        if not self._from <= now < self._until:
            stretches = [downtime.at(now) for downtime in self._downtimes]
            up = np.array([stretch.value == "" for stretch in stretches], np.bool_)
            self._mask = None if up.all() else up
            self._from, self._until = now, min(stretch.until for stretch in stretches)
        return self._mask

    def _forget(self) -> None:
        self._from = self._until = math.inf


def _stays(times: Iterable[tuple[float, float]], cause: str) -> Iterator[Stay]:
    return (Stay(start, end, cause) for start, end in times)


class Watch:
    """When a device is down for one cause, as a link asks: at instants that never decrease."""

    def __init__(self, downtime: Downtime, cause: str) -> None:
        self._downtime = downtime
        self._cause = cause
        self._stretch = Stretch(0, 0.0)  # the one found last

    def at(self, now: float) -> Stretch[int]:
        """Return 1 if the device is down at the instant `now`, else 0."""
        if now < self._stretch.until:
            return self._stretch
        stay = self._downtime.next(now)
        while stay is not None and stay.cause != self._cause:
            stay = self._downtime.next(stay.end)
        if stay is None:
            self._stretch = Stretch(0, math.inf)
        else:
            self._stretch = Stretch(1, stay.end) if stay.start <= now else Stretch(0, stay.start)
        return self._stretch

    def touched(self, starts: Floats, ends: Floats) -> Bools:
        """Return whether the device is down at any moment of each interval; shapes (n,), both ascending."""
        state, until = self.at(float(starts[0]))
        if state == 0 and ends[-1] < until:
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
    """When a device's battery is empty."""

    def __init__(self, downtime: Downtime) -> None:
        self._downtime = downtime

    def at(self, now: float) -> Stretch[int]:
        """Return 1 if the battery is empty at the instant `now`, else 0: no link can foresee when it will be."""
        return _EMPTY if self._downtime.ended is not None and now >= self._downtime.ended else _CHARGED

    def touched(self, starts: Floats, ends: Floats) -> Bools:
        """Return whether it is empty at any moment of each interval; shapes (n,)."""
        empty = math.inf if self._downtime.ended is None else self._downtime.ended
        found: Bools = (ends > empty) | (starts >= empty)
        return found
