"""Values over time: every one of them answers what holds at an instant, and until when.

    timeline.at(now) -> Stretch(value, until)

    shape                                      value                      where
    Steps           given values, each         any                        here
                    from an instant on
    Switching       two states that alternate  1 or 0                     link/switching
    Either          several of those           1 while any has 1          link/switching
    During          one of those, within       1 or 0                     link/changes
                    two instants
    Downtime        stays of a device          cause, "" while it is up   hardware/downtime
    Watch           one cause of those         1 or 0                     hardware/downtime
    LossProcess     losses of a link           `Odds`, None if packets    link/loss
                                               depend on each other
    Channel         all that loses packets     `Chance`, likewise         link/channel
    RateProfile     how fast a link sends      seconds per bit            link/rate

Instants asked for never decrease where values are drawn as time goes on.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from p2pl_async.basics.arrays import Floats, Indices

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_NANOSECOND = 1e-9


def rounding(at: float) -> float:
    """Return how many seconds two instants near `at` may be apart and be the same: they are sums, which round.

    1 ns, shorter than anything that a radio does; from six days on, 16 times what an instant resolves.
    """
    return _NANOSECOND if at < 5e5 else 16 * math.ulp(at)


class Stretch(NamedTuple, Generic[T_co]):
    """A value that holds until an instant."""

    value: T_co
    until: float  # s; math.inf if it holds from now on


class Timeline(Protocol[T_co]):
    """A value over time."""

    def at(self, now: float) -> Stretch[T_co]:
        """Return the value at the instant `now`, and an instant up to which it surely holds."""


class Steps(Generic[T]):
    """A step function of time.

    Args:
        times: instants at which steps begin, ascending, the first 0 or before; shape (n,).
        values: from those instants on, n of them.
        period: after which the steps begin again; None: the last one holds from its instant on.
    """

    __slots__ = ("_times", "period", "times", "values")

    def __init__(self, times: Floats, values: Sequence[T], period: float | None) -> None:
        self.times = times
        self.values = values
        self.period = period
        self._times: list[float] = times.tolist()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Steps) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[object, ...]:
        return tuple(self._times), tuple(self.values), self.period

    def index(self, now: float) -> int:
        """Return the number of the step that holds at an instant."""
        return bisect_right(self._times, now if self.period is None else now % self.period) - 1

    def indices(self, instants: Floats) -> Indices:
        """Return the numbers of the steps that hold at some instants, shape (n,)."""
        in_period = instants if self.period is None else instants % self.period
        return np.searchsorted(self.times, in_period, side="right") - 1

    def value(self, now: float) -> T:
        """Return the value at an instant."""
        return self.values[self.index(now)]

    def at(self, now: float) -> Stretch[T]:
        """Return the value at an instant, and the instant at which its step ends, above `now`."""
        index = self.index(now)
        value, after = self.values[index], index + 1
        if self.period is None:
            return Stretch(value, self._times[after] if after < len(self._times) else math.inf)
        begun = now - now % self.period
        end = begun + (self._times[after] if after < len(self._times) else self.period)
        return Stretch(value, end if end > now else math.nextafter(now, math.inf))  # rounding must not stop time
