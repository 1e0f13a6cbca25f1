"""Processes with two states in virtual time: good and bad, or up and down.

They are drawn from streams of their own, block by block, or known ahead, and don't depend on the
traffic: the same seed gives the same weather to every protocol, however often it sends.

    state 1       ______              ____
          0 ______|    |______________|
                  ^    ^              ^
                  switches, ascending; those already passed are dropped

    Memoryless    stays without memory: exponential (a Markov process in continuous time), or whole slots
    Renewal       stays of any distribution
    UpIntervals   stays that are known
    Either        several of them at once: state 1 while any of them is in it
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from p2pl_async.basics.arrays import Bools, Floats
from p2pl_async.basics.distributions import Distribution, mean_of, remaining
from p2pl_async.basics.timeline import Stretch

_EPOCH = 1 << 16  # mean pairs of stays after which a memoryless process has forgotten how it began: exp(-65536)
_LARGEST_BLOCK = 512  # switches drawn at once; even, so that a block starts in the state the last one did


class Switching:
    """Two states, 0 and 1, that alternate.

    Instants asked for never decrease from call to call (a vector counts by its first
    instant), so what lies before is forgotten and memory stays bounded.

    Args:
        first: the state before the first switch.
    """

    __slots__ = ("_first", "_stretch", "_switches")

    def __init__(self, first: int) -> None:
        self._first = first  # state before _switches[0]
        self._switches: Floats = np.empty(0)
        self._stretch = Stretch(first, 0.0)  # the one that `at` found last

    def _draw(self) -> Floats:
        """Return some of the next switches; math.inf if there are no more."""
        raise NotImplementedError

    def at(self, now: float) -> Stretch[int]:
        """Return the state at one instant, and when it ends."""
        if now >= self._stretch.until:
            self._cover(now, now)
            self._stretch = Stretch(self._first, float(self._switches[0]))
        return self._stretch

    def states(self, times: Floats) -> Bools:
        """Return whether state 1 holds at each of `times`, shape (n,), ascending."""
        if times[-1] < self._stretch.until:
            return np.full(times.shape, bool(self._stretch.value))
        self._cover(float(times[0]), float(times[-1]))
        bad: Bools = (np.searchsorted(self._switches, times, side="right") + self._first) % 2 == 1
        return bad

    def touched(self, starts: Floats, ends: Floats) -> Bools:
        """Return whether state 1 holds at any moment of each interval.

        Args:
            starts: first instants, shape (n,), ascending.
            ends: last instants, shape (n,), ascending, each at least its start; a switch
                right at the end no longer counts.
        """
        state, until = self.at(float(starts[0]))
        if state == 0 and ends[-1] <= until:
            return np.zeros(starts.shape, np.bool_)
        self._cover(float(starts[0]), float(ends[-1]))
        index = np.searchsorted(self._switches, starts, side="right")
        touched: Bools = ((index + self._first) % 2 == 1) | (self._switches[index] < ends)
        return touched

    def _cover(self, low: float, high: float) -> None:
        """Draw switches until one lies after `high`; drop those up to `low`."""
        while True:
            passed = int(np.searchsorted(self._switches, low, side="right"))
            self._switches = self._switches[passed:]
            self._first ^= passed & 1
            if len(self._switches) and self._switches[-1] > high:
                return
            self._switches = np.concatenate((self._switches, self._draw()))


class Memoryless(Switching):
    """Memoryless stays: a Markov process in continuous time, or in slots; it starts stationary.

    Time is cut into epochs, so long that no state is related to the one an epoch before: each begins
    with a stationary state and random numbers of its own. After a long silence, the process goes on in the
    epoch that it is asked about, as if it had gone through all of them.

    Args:
        generator: the stream of this process; nothing else may draw from it.
        scales: the stay in state s is `scales[s]` times a standard exponential variable;
            without slots that is its mean, in seconds. `math.inf`: never left.
        share: probability of state 1 at the start.
        slot: if given, stays are rounded up to whole slots of this many seconds, which
            makes them geometric.
    """

    __slots__ = ("_block", "_drawn", "_epoch", "_generator", "_length", "_scales", "_share", "_slot", "_state")

    def __init__(
        self, generator: np.random.Generator, scales: tuple[float, float], share: float, slot: float | None = None
    ) -> None:
        super().__init__(int(generator.random() < share))
        self._generator = generator
        self._slot = slot
        self._scales = np.array(scales)
        self._share = share
        self._state = self._first  # after the last switch drawn
        self._epoch = 0  # of that switch
        length = _EPOCH * (scales[0] + scales[1] + (0.0 if slot is None else 2.0))
        self._length = length if slot is None or length == math.inf else float(math.ceil(length))  # as `_drawn`
        self._drawn = 0.0  # last switch drawn; in slots if there are any, to keep slot limits free of rounding
        self._block = 8

    def _draw(self) -> Floats:
        """Return the next block of switches."""
        scales = self._scales if not self._state else self._scales[::-1]
        stays = self._generator.standard_exponential(self._block) * np.tile(scales, self._block // 2)
        if self._slot is not None:
            stays = np.maximum(np.ceil(stays), 1.0)  # a state that is surely left is left after one slot
        switches = self._drawn + np.cumsum(stays)
        self._drawn = float(switches[-1])
        self._block = min(2 * self._block, _LARGEST_BLOCK)
        end = (self._epoch + 1) * self._length
        if self._drawn >= end and end < math.inf:
            switches = switches[: int(np.searchsorted(switches, end))]
            before = self._state ^ (len(switches) & 1)
            self._begin(self._epoch + 1)
            if self._state != before:
                switches = np.append(switches, end)
        return switches if self._slot is None else switches * self._slot

    def _begin(self, epoch: int) -> None:
        """Begin an epoch: its random numbers are a piece of the stream, wherever the one before left off."""
        philox = self._generator.bit_generator
        place: Any = philox.state
        place["state"]["counter"][:] = (0, epoch, 0, 0)
        place["buffer_pos"], place["has_uint32"] = 4, 0
        philox.state = place
        self._epoch = epoch
        self._drawn = epoch * self._length
        self._state = int(self._generator.random() < self._share)

    def _cover(self, low: float, high: float) -> None:
        length = self._length * (1.0 if self._slot is None else self._slot)
        if low >= (self._epoch + 1) * length:
            self._begin(math.floor(low / length))
            self._first, self._switches = self._state, np.empty(0)
        super()._cover(low, high)


class Renewal(Switching):
    """Stays of any distribution, each drawn anew; it starts stationary, in the midst of a stay.

    Args:
        generator: the stream of this process; nothing else may draw from it.
        stays: of the stays in state 0 and in state 1.
    """

    __slots__ = ("_block", "_drawn", "_generator", "_stays")

    def __init__(self, generator: np.random.Generator, stays: tuple[Distribution, Distribution]) -> None:
        means = [mean_of(stay) for stay in stays]
        state, length, part = generator.random(3).tolist()
        super().__init__(int(state * sum(means) < means[1]))
        self._generator = generator
        self._stays = (stays[1 - self._first], stays[self._first])
        self._drawn = remaining(stays[self._first], length, part)
        self._switches = np.array([self._drawn])
        self._block = 8

    def _draw(self) -> Floats:
        shares = self._generator.random((self._block // 2, 2))
        stays = np.column_stack([stay.quantiles(shares[:, i]) for i, stay in enumerate(self._stays)])
        switches = self._drawn + np.cumsum(stays.ravel())
        self._drawn = float(switches[-1])
        self._block = min(2 * self._block, _LARGEST_BLOCK)
        return switches


class UpIntervals(Switching):
    """State 0 (up) in given intervals, and state 1 in between.

    Args:
        intervals: [start, end) of state 0, ascending, neither touching nor overlapping; with a
            period all in [0, period], and not all of it; shape (n, 2).
        period: after which they come again; None: state 1 after the last.
    """

    __slots__ = ("_period", "_round", "_starts")

    def __init__(self, intervals: Floats, period: float | None) -> None:
        super().__init__(1)
        self._period = period
        self._starts = intervals.ravel()
        self._round = -1.0 if period is not None else 0.0  # an interval of the round before may go on at 0 s
        if period is not None and intervals[0, 0] == 0 and intervals[-1, 1] == period:
            self._starts = np.append(self._starts[2:-1], self._starts[1] + period)  # two are one

    def _draw(self) -> Floats:
        if self._period is None:
            return np.append(self._starts, math.inf)
        rounds = self._round + np.arange(max(1, _LARGEST_BLOCK // len(self._starts)))
        self._round += len(rounds)
        return (rounds[:, None] * self._period + self._starts).ravel()


class Either:
    """Several processes at once: state 1 while any of them is in state 1.

    State 1 may go on after the stretch that `at` returns: ask again then.
    """

    __slots__ = ("_parts",)

    def __init__(self, parts: Sequence[Switching]) -> None:
        self._parts = parts

    def at(self, now: float) -> Stretch[int]:
        """Return the state at one instant, and up to when it surely holds."""
        stretches = [part.at(now) for part in self._parts]
        return Stretch(max(each.value for each in stretches), min(each.until for each in stretches))

    def states(self, times: Floats) -> Bools:
        """Return whether state 1 holds at each of `times`, shape (n,), ascending."""
        found: Bools = np.logical_or.reduce([part.states(times) for part in self._parts])
        return found

    def touched(self, starts: Floats, ends: Floats) -> Bools:
        """Return whether state 1 holds at any moment of each interval; see `Switching.touched`."""
        found: Bools = np.logical_or.reduce([part.touched(starts, ends) for part in self._parts])
        return found


def geometric_scale(share: float) -> float:
    """Return the scale of geometric stays that end in each slot with probability `share`."""
    return math.inf if share == 0 else 0.0 if share == 1 else -1.0 / math.log1p(-share)
