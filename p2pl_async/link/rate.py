"""How fast a transmitter sends, also where that changes while a packet is on the air.

A packet of b bits that starts at t0 ends at the least t1 at which the integral of the rate
from t0 to t1 is b. Packets of one message follow each other, so their ends are those of
longer and longer packets that start together: one call for all of them.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from p2pl_async.basics.arrays import Floats


class RateProfile(Protocol):
    """The rate of a transmitter over time."""

    def end(self, start: float, bits: float) -> float:
        """Return when a packet ends that starts at the instant `start`; math.inf if never."""

    def ends(self, start: float, bits: Floats) -> Floats:
        """Return when packets of so many bits would end that all start at `start`; bits ascend, shapes (n,)."""

    def steady(self, at: float) -> tuple[float, float]:
        """Return the seconds per bit that hold at the instant `at`, and until when; that is `at` if they don't."""


class SteadyRate:
    """Always the same rate.

    Args:
        rate: bits per second; None if packets take no time.
    """

    __slots__ = ("_seconds_per_bit",)

    def __init__(self, rate: float | None) -> None:
        self._seconds_per_bit = 0.0 if rate is None else 1.0 / rate

    def end(self, start: float, bits: float) -> float:
        return start + bits * self._seconds_per_bit

    def ends(self, start: float, bits: Floats) -> Floats:
        ends: Floats = start + bits * self._seconds_per_bit
        return ends

    def steady(self, at: float) -> tuple[float, float]:
        return self._seconds_per_bit, math.inf


class RatesInTurn:
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

    def steady(self, at: float) -> tuple[float, float]:
        index = bisect_right(self._instants, at)
        seconds_per_bit, until = self._profiles[index].steady(at)
        return seconds_per_bit, until if index == len(self._instants) else min(until, self._instants[index])


def _sent(profile: RateProfile, start: float, end: float, most: float) -> float:
    """Return how many bits leave from `start` to `end`, known to be fewer than `most`."""
    seconds_per_bit, until = profile.steady(start)
    if until >= end:
        return (end - start) / seconds_per_bit
    least = 0.0
    for _ in range(80):  # halve the doubt until none is left
        middle = (least + most) / 2
        if profile.end(start, middle) <= end:
            least = middle
        else:
            most = middle
    return least
