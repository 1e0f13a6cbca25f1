"""How fast a transmitter sends, also where that changes while a packet is on the air.

A packet of b bits that starts at t0 ends at the least t1 at which the integral of the rate
from t0 to t1 is b. Packets of one message follow each other, so their ends are those of
longer and longer packets that start together: one call for all of them.
"""

from __future__ import annotations

import math
from typing import Protocol

from p2pl_async.basics.arrays import Floats
from p2pl_async.basics.timeline import Stretch, Timeline


class RateProfile(Timeline[float], Protocol):
    """The rate of a transmitter over time."""

    def end(self, start: float, bits: float) -> float:
        """Return when a packet ends that starts at the instant `start`; math.inf if never."""

    def ends(self, start: float, bits: Floats) -> Floats:
        """Return when packets of so many bits would end that all start at `start`; bits ascend, shapes (n,)."""

    def at(self, now: float) -> Stretch[float]:
        """Return the seconds per bit at the instant `now`, and until when they hold; until `now` if they don't."""


class SteadyRate:
    """Always the same rate.

    Args:
        rate: bits per second; None if packets take no time.
    """

    __slots__ = ("_seconds_per_bit", "_stretch")

    def __init__(self, rate: float | None) -> None:
        self._seconds_per_bit = 0.0 if rate is None else 1.0 / rate
        self._stretch = Stretch(self._seconds_per_bit, math.inf)

    def end(self, start: float, bits: float) -> float:
        return start + bits * self._seconds_per_bit

    def ends(self, start: float, bits: Floats) -> Floats:
        ends: Floats = start + bits * self._seconds_per_bit
        return ends

    def at(self, now: float) -> Stretch[float]:
        return self._stretch
