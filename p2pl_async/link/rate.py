"""How fast a transmitter sends, also where that changes while a packet is on the air.

A packet of b bits that starts at t0 ends at the least t1 at which the integral of the rate
from t0 to t1 is b. Packets of one message follow each other, so their ends are those of
longer and longer packets that start together: one call for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


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


class SteppedRate:
    """A rate that changes at given instants.

    Args:
        instants: when a new rate begins, ascending, shape (n,); the first also holds before.
        rates: bits per second, 0 for a pause, math.inf or None for packets that take no time, shape (n,).
    """

    __slots__ = ("_instants", "_rates")

    def __init__(self, instants: Sequence[float], rates: Sequence[float | None]) -> None:
        self._instants = np.array(instants, np.float64)
        self._rates = np.array([math.inf if rate is None else rate for rate in rates], np.float64)

    def end(self, start: float, bits: float) -> float:
        return float(self.ends(start, np.array([bits], np.float64))[0])

    def ends(self, start: float, bits: Floats) -> Floats:
        first = max(int(np.searchsorted(self._instants, start, side="right")) - 1, 0)
        count = 4
        while True:
            began = self._instants[first : first + count].copy()
            began[0] = start
            rates = self._rates[first : first + count]
            sent = np.concatenate(([0.0], np.cumsum(np.diff(began) * rates[:-1])))  # up to the start of each piece
            if sent[-1] >= bits[-1] or first + count >= len(self._instants):
                break
            count *= 4
        piece = np.maximum(np.searchsorted(sent, bits, side="left") - 1, 0)
        left = bits - sent[piece]
        with np.errstate(divide="ignore", invalid="ignore"):
            ends: Floats = began[piece] + np.where(left == 0, 0.0, left / rates[piece])
        return ends

    def steady(self, at: float) -> tuple[float, float]:
        now = int(np.searchsorted(self._instants, at, side="right"))
        until = math.inf if now == len(self._instants) else float(self._instants[now])
        rate = float(self._rates[max(now - 1, 0)])
        return (1.0 / rate if rate else math.inf), until
