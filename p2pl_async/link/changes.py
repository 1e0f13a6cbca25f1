"""What a link goes through when its settings change: one loss after another, one outage after another."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from p2pl_async.basics.arrays import Bools, Floats
from p2pl_async.link.channel import Down
from p2pl_async.link.loss.base import Codes, LossProcess, Segment


class LossesInTurn:
    """One loss process after another.

    Args:
        instants: when each but the first begins, ascending, shape (n - 1,).
        processes: n of them; None loses nothing.
    """

    __slots__ = ("_instants", "_looked", "_processes", "_vector")

    def __init__(self, instants: Sequence[float], processes: Sequence[LossProcess | None]) -> None:
        self._instants = list(instants)
        self._vector = np.array(instants, np.float64)
        self._processes = processes
        self._looked: NDArray[np.intp] = np.empty(0, np.intp)  # where the packets of each process begin

    def fate(self, uniform: float, at: float) -> str:
        process = self._processes[bisect_right(self._instants, at)]
        return "" if process is None else process.fate(uniform, at)

    def fates(self, uniforms: Floats, at: Floats) -> Codes:
        self._looked = np.searchsorted(at, self._vector)
        fates = np.zeros(at.shape, np.int8)
        for process, here in zip(self._processes, self._parts(len(at)), strict=True):
            if process is not None and here.start < here.stop:
                fates[here] = process.fates(uniforms[here], at[here])
        return fates

    def passed(self, packets: int) -> None:
        for process, here in zip(self._processes, self._parts(packets), strict=True):
            if process is not None and here.start < here.stop:
                process.passed(here.stop - here.start)

    def segment(self, at: float) -> Segment | None:
        index = bisect_right(self._instants, at)
        process = self._processes[index]
        segment = Segment(0.0, "", math.inf) if process is None else process.segment(at)
        if segment is None or index == len(self._instants):
            return segment
        return segment._replace(until=min(segment.until, self._instants[index]))

    def _parts(self, packets: int) -> list[slice]:
        """Return which of the packets looked at each process has, if there are so many of them."""
        limits = [0, *np.minimum(self._looked, packets).tolist(), packets]
        return [slice(start, stop) for start, stop in pairwise(limits)]


class During:
    """Something that can be down from one instant to another, and is up at all others.

    Args:
        down: when it would be down.
        start: first instant that counts.
        end: first that doesn't any more.
    """

    __slots__ = ("_down", "_end", "_start", "until")

    def __init__(self, down: Down, start: float, end: float) -> None:
        self._down = down
        self._start = start
        self._end = end
        self.until = 0.0

    def at(self, now: float) -> int:
        if now < self._start or now >= self._end:
            self.until = self._start if now < self._start else math.inf
            if self.until == self._start and self._down.at(self._start) == 0:
                self.until = min(self._down.until, self._end)
            return 0
        state = self._down.at(now)
        self.until = self._down.until if self._down.until < self._end else (self._end if state else math.inf)
        return state

    def touched(self, starts: Floats, ends: Floats) -> Bools:
        touched = np.zeros(starts.shape, np.bool_)
        inside = (starts < self._end) & ((ends > self._start) | (starts >= self._start))
        if inside.any():
            clipped = np.maximum(starts[inside], self._start)
            touched[inside] = self._down.touched(clipped, np.minimum(np.maximum(ends[inside], clipped), self._end))
        return touched
