"""Which devices hear a transmission at all: neighbors in a graph, or those that receive enough power."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

import numpy as np

from p2pl_async.basics.arrays import Bools, Floats
from p2pl_async.messages import DeviceId


class Waves(Protocol):
    """The part of `radio.Propagation` that the air uses."""

    def powers(self, src: DeviceId, at: float) -> Floats:
        """Return the power that each device receives from `src`, in dBm, shape (n,)."""

    def noise(self, dst: DeviceId) -> float:
        """Return the noise of a receiver, in dBm."""

    def error(self, src: DeviceId, dst: DeviceId, size: int, sinr: float) -> float:
        """Return the probability that a frame of `size` bytes is lost at a ratio of `sinr` dB."""


class Hearing(Protocol):
    """Which device hears which."""

    def hears(self, listener: DeviceId, speaker: DeviceId, at: float) -> bool:
        """Tell whether `listener` notices that `speaker` transmits at the instant `at`."""

    def listeners(self, speaker: DeviceId, at: float) -> Bools:
        """Return which devices notice that `speaker` transmits at the instant `at`, shape (n,)."""


class GraphHearing:
    """A device hears the devices that have a link to it."""

    def __init__(self, out_neighbors: Sequence[Sequence[DeviceId]]) -> None:
        self._reached = [frozenset(neighbors) for neighbors in out_neighbors]
        self._n = len(out_neighbors)

    def hears(self, listener: DeviceId, speaker: DeviceId, at: float) -> bool:
        return listener in self._reached[speaker]

    def listeners(self, speaker: DeviceId, at: float) -> Bools:
        found = np.zeros(self._n, np.bool_)
        found[list(self._reached[speaker])] = True
        return found


class PowerHearing:
    """A device hears those it receives with at least a threshold power, so hidden terminals follow from positions."""

    def __init__(self, propagation: Waves, threshold: float) -> None:
        self._propagation = propagation
        self._threshold = threshold

    def hears(self, listener: DeviceId, speaker: DeviceId, at: float) -> bool:
        return bool(self._propagation.powers(speaker, at)[listener] >= self._threshold)

    def listeners(self, speaker: DeviceId, at: float) -> Bools:
        found: Bools = self._propagation.powers(speaker, at) >= self._threshold
        return found


def error_in_interference(
    propagation: Waves,
    src: DeviceId,
    dst: DeviceId,
    size: int,
    span: tuple[float, float],
    signal: float,
    interference: Sequence[tuple[float, float, float]],
) -> float:
    """Return the probability that a frame is lost while others transmit during parts of it.

    The frame is cut where an interferer begins or ends; each part counts with its share of the bits.

    Args:
        propagation: noise and error rates.
        src: the sender.
        dst: the receiver.
        size: bytes of the frame.
        span: its begin and end, in seconds.
        signal: its power at the receiver, in dBm.
        interference: (begin, end, power in dBm) of each interferer at the receiver.
    """
    start, end = span
    limits = {start, end}
    limits.update(limit for begin, over, _ in interference for limit in (begin, over) if start < limit < end)
    cuts = sorted(limits)
    noise = 10 ** (propagation.noise(dst) / 10)
    log_success = 0.0
    for left, right in pairwise(cuts):
        others = sum(10 ** (power / 10) for begin, over, power in interference if begin < right and over > left)
        error = propagation.error(src, dst, size, signal - 10 * math.log10(noise + others))
        if error >= 1:
            return 1.0
        log_success += (right - left) / (end - start) * math.log1p(-error)
    return -math.expm1(log_success)
