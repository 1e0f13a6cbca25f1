"""Neighbors over time where every device sends to one other at a time, at each step to another.

A step is an order: a permutation of the devices, in which k sends to `order[k]`; a device mapped to
itself sends to no device. Steps follow virtual time, the same for all devices, or each device's own rounds.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from p2pl_async.basics.units import show_seconds

Order = NDArray[np.int64]
"""The receiver of each device, shape (n,): a permutation."""

_KEPT = 256  # orders remembered: devices are at different rounds
_ROUNDING = 1e-9  # of a step: 0.3 s / 0.1 s is the third step, not almost the third


class OnePeer:
    """The neighbors of each device, where each has one out-neighbor at a time.

    Args:
        order: returns the order of a step, counted from 0.
        every: virtual seconds of a step; None for a step per round of the device that asks.
    """

    roams = False  # its links are always there; it is who sends when that changes

    def __init__(self, order: Callable[[int], Order], every: float | None) -> None:
        self._every = every
        self._order = functools.lru_cache(_KEPT)(lambda step: _both(order(step)))

    def __str__(self) -> str:
        when = "each round of its own" if self._every is None else f"every {show_seconds(self._every)}"
        return f"everyone sends to at most one device at a time, to another with {when}"

    def outgoing(self, device: int, now: float, round: int) -> tuple[int, ...]:
        """Return the device that can hear `device`, if any."""
        return _others(self._order(self._step(now, round))[0][device], device)

    def incoming(self, device: int, now: float, round: int) -> tuple[int, ...]:
        """Return the device that `device` can hear, if any."""
        return _others(self._order(self._step(now, round))[1][device], device)

    def _step(self, now: float, round: int) -> int:
        return round if self._every is None else math.floor(now / self._every + _ROUNDING)


def hop_order(n: int, distance: int) -> Order:
    """Return the order in which each device sends to the one with an id higher by `distance`, modulo n."""
    return (np.arange(n) + distance) % n


def ring_order(n: int, random: np.random.Generator) -> Order:
    """Return a random closed chain through all devices."""
    chain = random.permutation(n)
    order = np.empty(n, np.int64)
    order[chain] = np.roll(chain, -1)
    return order


def matching_order(n: int, random: np.random.Generator) -> Order:
    """Return a random matching: pairs that hear each other; of an odd number one is left alone."""
    pairs = random.permutation(n)[: n - n % 2].reshape(-1, 2)
    order = np.arange(n)
    order[pairs[:, 0]], order[pairs[:, 1]] = pairs[:, 1], pairs[:, 0]
    return order


def _both(order: Order) -> tuple[list[int], list[int]]:
    """Return the receiver and the sender of each device."""
    return order.tolist(), np.argsort(order).tolist()


def _others(peer: int, device: int) -> tuple[int, ...]:
    return () if peer == device else (peer,)
