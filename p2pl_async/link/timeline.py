"""A process with two states in virtual time: good and bad, or up and down.

It is drawn from a stream of its own, block by block, and never looks at the traffic: the
same seed gives the same weather to every protocol, however often it sends. Stays in a state
are exponential (a Markov process in continuous time), or whole slots (each slot an
independent coin). Both are memoryless, so a stationary start only draws the first state.

    state 1       ______              ____
          0 ______|    |______________|
                  ^    ^              ^
                  switches, ascending; those already passed are dropped
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_LARGEST_BLOCK = 512  # switches drawn at once; even, so that a block starts in the state the last one did


class Timeline:
    """Two states, 0 and 1, that alternate for ever; answers which one holds when.

    Instants asked for never decrease from call to call (a vector counts by its first
    instant), so what lies before is forgotten and memory stays bounded.

    Args:
        generator: the stream of this process; nothing else may draw from it.
        scales: the stay in state s is `scales[s]` times a standard exponential variable;
            without slots that is its mean, in seconds. `math.inf`: never left.
        share: probability of state 1 at the start.
        slot: if given, stays are rounded up to whole slots of this many seconds, which
            makes them geometric.
    """

    __slots__ = ("_block", "_drawn", "_first", "_generator", "_scales", "_slot", "_state", "_switches", "until")

    until: float  # instant at which the state that `at` found last ends

    def __init__(
        self, generator: np.random.Generator, scales: tuple[float, float], share: float, slot: float | None = None
    ) -> None:
        self._generator = generator
        self._slot = slot
        self._first = self._state = int(generator.random() < share)  # _first: state before _switches[0]
        self._scales = np.array([scales[self._first], scales[1 - self._first]])
        self._drawn = 0.0  # last switch drawn; in slots if there are any, to keep slot limits free of rounding
        self._switches: Floats = np.empty(0)
        self._block = 8
        self.until = 0.0

    def at(self, now: float) -> int:
        """Return the state at one instant."""
        if now >= self.until:
            self._cover(now, now)
            self._state = self._first
            self.until = float(self._switches[0])
        return self._state

    def states(self, times: Floats) -> Bools:
        """Return whether state 1 holds at each of `times`, shape (n,), ascending."""
        if times[-1] < self.until:
            return np.full(times.shape, bool(self._state))
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
        if self.at(float(starts[0])) == 0 and ends[-1] <= self.until:
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

    def _draw(self) -> Floats:
        """Return the next block of switches."""
        stays = self._generator.standard_exponential(self._block) * np.tile(self._scales, self._block // 2)
        if self._slot is not None:
            stays = np.maximum(np.ceil(stays), 1.0)  # a state that is surely left is left after one slot
        switches = self._drawn + np.cumsum(stays)
        self._drawn = float(switches[-1])
        self._block = min(2 * self._block, _LARGEST_BLOCK)
        return switches if self._slot is None else switches * self._slot


def geometric_scale(share: float) -> float:
    """Return the scale of geometric stays that end in each slot with probability `share`."""
    return math.inf if share == 0 else 0.0 if share == 1 else -1.0 / math.log1p(-share)
