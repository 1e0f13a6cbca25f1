"""Outages and rates of a link whose settings change at known instants; of losses, see `ChangingLoss`."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

from p2pl_async.basics.arrays import Bools, Floats
from p2pl_async.basics.timeline import Stretch
from p2pl_async.link.channel import Down
from p2pl_async.link.rate import RateProfile


class During:
    """A timeline that can be down from one instant to another, and is up at all others.

    Args:
        down: when it would be down.
        start: first instant that counts.
        end: first instant that no longer counts.
    """

    __slots__ = ("_down", "_end", "_start")

    def __init__(self, down: Down, start: float, end: float) -> None:
        self._down = down
        self._start = start
        self._end = end

    def at(self, now: float) -> Stretch[int]:
        if now < self._start:
            state, until = self._down.at(self._start)
            return Stretch(0, self._start if state else min(until, self._end))
        if now >= self._end:
            return Stretch(0, math.inf)
        state, until = self._down.at(now)
        return Stretch(state, until if until < self._end else self._end if state else math.inf)

    def touched(self, starts: Floats, ends: Floats) -> Bools:
        touched = np.zeros(starts.shape, np.bool_)
        inside = (starts < self._end) & ((ends > self._start) | (starts >= self._start))
        if inside.any():
            clipped = np.maximum(starts[inside], self._start)
            touched[inside] = self._down.touched(clipped, np.minimum(np.maximum(ends[inside], clipped), self._end))
        return touched


class ChangingRate:
    """One rate after another.

    Args:
        instants: when each rate but the first begins, ascending, shape (n - 1,).
        profiles: the rates, n of them.
    """

    __slots__ = ("_instants", "_profiles")

    def __init__(self, instants: Sequence[float], profiles: Sequence[RateProfile]) -> None:
        self._instants = list(instants)
        self._profiles = profiles

    def end(self, start: float, bits: float) -> float:
        index = bisect_right(self._instants, start)
        while index < len(self._instants):
            end = self._profiles[index].end(start, bits)
            if end <= self._instants[index]:
                return end
            bits -= _sent(self._profiles[index], start, self._instants[index], bits)
            start = self._instants[index]
            index += 1
        return self._profiles[index].end(start, bits)

    def ends(self, start: float, bits: Floats) -> Floats:
        index = bisect_right(self._instants, start)
        ends = self._profiles[index].ends(start, bits)
        while index < len(self._instants):
            done = int(np.searchsorted(ends, self._instants[index], side="right"))
            if done == len(bits):
                break
            bits = bits - _sent(self._profiles[index], start, self._instants[index], float(bits[done]))
            start = self._instants[index]
            index += 1
            ends[done:] = self._profiles[index].ends(start, bits[done:])
        return ends

    def at(self, now: float) -> Stretch[float]:
        index = bisect_right(self._instants, now)
        stretch = self._profiles[index].at(now)
        if index == len(self._instants):
            return stretch
        return Stretch(stretch.value, min(stretch.until, self._instants[index]))


def _sent(profile: RateProfile, start: float, end: float, most: float) -> float:
    """Return how many bits leave from `start` to `end`, known to be fewer than `most`."""
    seconds_per_bit, until = profile.at(start)
    if until >= end:
        return (end - start) / seconds_per_bit
    least = 0.0
    for _ in range(80):  # halve the interval until it can't get smaller
        middle = (least + most) / 2
        if profile.end(start, middle) <= end:
            least = middle
        else:
            most = middle
    return least
