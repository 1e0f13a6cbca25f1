"""Outside interference at work: which interferers send when, and with what power devices receive them.

Nothing of it is an event: it is asked for where a device assesses the channel, and where a frame ends.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from p2pl_async.air.hearing import Audience
from p2pl_async.air.interferers import Interferer
from p2pl_async.air.transmission import OUTSIDE, Transmission
from p2pl_async.basics.arrays import Floats
from p2pl_async.basics.timeline import Timeline
from p2pl_async.messages import DeviceId

_KEPT = 100_000  # bursts of one interferer in memory
_NOBODY = Audience(frozenset(), np.zeros(0, np.bool_), ())


class Places(Protocol):
    """The part of `radio.Propagation` that interferers use."""

    def powers_from(self, place: Sequence[float], power: float, at: float) -> Floats:
        """Return the power that each device receives from a sender at a place, in dBm, shape (n,)."""


class Interference:
    """All interferers of a medium.

    Args:
        interferers: their settings.
        waves: powers at the devices.
        sense: power in dBm from which a device notices them; None: none does.
        seed: of the run; streams "interference".
    """

    def __init__(self, interferers: Sequence[Interferer], waves: Places, sense: float | None, seed: int) -> None:
        self._waves = waves
        self._sense = math.inf if sense is None else sense
        self._sources = interferers
        self._bursts = [_Bursts(one.activity.silent(seed, number)) for number, one in enumerate(interferers)]

    def during(self, start: float, end: float, channel: int) -> Iterator[Transmission]:
        """Yield what interferers send on a channel between two instants, as frames that no device can decode."""
        for source, bursts in zip(self._sources, self._bursts, strict=True):
            if source.channels is not None and channel not in source.channels:
                continue
            powers: Floats | None = None
            for begin, over in bursts.between(start, end):
                if powers is None:
                    powers = self._waves.powers_from(source.position, source.power, start)
                frame = Transmission(OUTSIDE, begin, over, None, 0, 1, _NOBODY, channel=channel)
                frame.powers = powers
                yield frame

    def is_noticed(self, device: DeviceId, since: float, until: float, channel: int) -> bool:
        """Tell whether a device notices an interferer on a channel at any moment from `since` to `until`."""
        return any(
            float(self._waves.powers_from(source.position, source.power, until)[device]) >= self._sense
            for source, bursts in zip(self._sources, self._bursts, strict=True)
            if (source.channels is None or channel in source.channels) and bursts.between(since, until)
        )


class _Bursts:
    """The times at which one interferer sends, made as far ahead as needed.

    Args:
        silent: 1 while it is silent.
    """

    def __init__(self, silent: Timeline[int]) -> None:
        self._silent = silent
        self._made = 0.0  # s: known up to here
        self._starts: list[float] = []
        self._ends: list[float] = []

    def between(self, start: float, end: float) -> list[tuple[float, float]]:
        """Return the bursts that meet an interval, in order."""
        while self._made <= end:
            state, until = self._silent.at(self._made)
            if not state:
                self._starts.append(self._made)
                self._ends.append(until)
            self._made = until
        if len(self._starts) > 2 * _KEPT:
            del self._starts[:_KEPT], self._ends[:_KEPT]
        first, last = bisect_right(self._ends, start), bisect_right(self._starts, end)
        return list(zip(self._starts[first:last], self._ends[first:last], strict=True))
