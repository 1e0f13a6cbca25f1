"""Which devices notice a transmission: neighbors in a graph, or those that receive enough power.

Both change while a run goes: they are asked for at the instant at which a transmission begins.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple, Protocol

import numpy as np

from p2pl_async.basics.arrays import Bools, Floats
from p2pl_async.basics.timeline import rounding
from p2pl_async.messages import DeviceId
from p2pl_async.radio.phy import Phy


class Waves(Protocol):
    """The part of `radio.Propagation` that the air uses."""

    @property
    def phy(self) -> Phy:
        """The modulation, where no sender chooses another."""

    @property
    def is_constant(self) -> bool:
        """Whether powers never change."""

    @property
    def is_selective(self) -> bool:
        """Whether the channel makes a difference to powers."""

    def foreseen_snr(self, src: DeviceId, dst: DeviceId, at: float, channel: int = 0) -> tuple[float, Floats | None]:
        """Return the SNR in dB that a sender may know of a frame sent soon, and equally likely gains on top, if any."""

    def powers(self, src: DeviceId, at: float, channel: int = 0) -> Floats:
        """Return the power that each device receives from `src` on a channel, in dBm, shape (n,)."""

    def distance(self, src: DeviceId, dst: DeviceId, at: float) -> float:
        """Return the distance of two devices, in meters."""

    def noise(self, dst: DeviceId) -> float:
        """Return the noise of a receiver, in dBm."""


class Audience(NamedTuple):
    """The devices that notice one transmission."""

    ids: frozenset[DeviceId]
    mask: Bools  # the same, shape (n,); don't change it
    order: tuple[DeviceId, ...]  # the same, ascending


class Hearing(Protocol):
    """Which device hears which."""

    def audience(self, speaker: DeviceId, at: float, receivers: Iterable[DeviceId] = (), channel: int = 0) -> Audience:
        """Return the devices that notice that `speaker` transmits to `receivers` from `at` on, on a channel."""


class GraphHearing:
    """A device hears the devices that have a link to it at the instant, and those that transmit to it.

    Args:
        out_neighbors: for each device, those that can ever hear it.
        now: (device, instant) -> those that can hear it then, where that changes; None: `out_neighbors` always.
        is_cut: tells whether (src, dst) is cut at an instant, by an event; None: never.
    """

    def __init__(
        self,
        out_neighbors: Sequence[Sequence[DeviceId]],
        now: Callable[[DeviceId, float], Sequence[DeviceId]] | None = None,
        is_cut: Callable[[DeviceId, DeviceId, float], bool] | None = None,
    ) -> None:
        self._n = len(out_neighbors)
        self._out = out_neighbors
        self._now = now
        self._is_cut = is_cut
        self._latest: list[tuple[Sequence[DeviceId], Audience] | None] = [None] * self._n

    def audience(self, speaker: DeviceId, at: float, receivers: Iterable[DeviceId] = (), channel: int = 0) -> Audience:
        here = self._out[speaker] if self._now is None else self._now(speaker, at)
        if self._is_cut is not None:
            here = tuple(device for device in here if not self._is_cut(speaker, device, at))
        latest = self._latest[speaker]
        if latest is None or (latest[0] is not here and latest[0] != here):
            self._latest[speaker] = latest = here, _audience(here, self._n)
        found = latest[1]
        return found if found.ids.issuperset(receivers) else _audience(found.ids.union(receivers), self._n)


class PowerHearing:
    """A device hears those it receives with at least a threshold power, so hidden terminals follow from positions.

    Args:
        propagation: powers between all devices.
        threshold: in dBm.
        members: the devices that have such a radio; None: all.
    """

    def __init__(self, propagation: Waves, threshold: float, members: Collection[DeviceId] | None = None) -> None:
        self._propagation = propagation
        self._threshold = threshold
        self._members: Bools | None = None
        if members is not None:
            self._members = np.zeros(len(propagation.powers(0, 0.0)), np.bool_)
            self._members[sorted(members)] = True
        self._latest: dict[DeviceId, tuple[Floats, Audience]] = {}

    def audience(self, speaker: DeviceId, at: float, receivers: Iterable[DeviceId] = (), channel: int = 0) -> Audience:
        powers = self._propagation.powers(speaker, at, channel)
        latest = self._latest.get(speaker)
        if latest is None or latest[0] is not powers:
            mask: Bools = powers >= self._threshold
            if self._members is not None:
                mask &= self._members
            order = tuple(np.flatnonzero(mask).tolist())
            self._latest[speaker] = latest = powers, Audience(frozenset(order), mask, order)
        return latest[1]


def _audience(ids: Iterable[DeviceId], n: int) -> Audience:
    known = frozenset(ids)
    mask = np.zeros(n, np.bool_)
    mask[list(known)] = True
    return Audience(known, mask, tuple(sorted(known)))


def error_in_interference(
    phy: Phy,
    noise: float,
    size: int,
    span: tuple[float, float],
    signal: float,
    interference: Sequence[tuple[float, float, float]],
) -> float:
    """Return the probability that a frame is lost while others transmit during parts of it.

    The frame is cut where an interferer begins or ends; each part counts with its share of the bits.

    Args:
        phy: its modulation.
        noise: of the receiver, in dBm.
        size: bytes of the frame.
        span: its begin and end, in seconds.
        signal: its power at the receiver, in dBm.
        interference: (begin, end, power in dBm) of each interferer at the receiver.
    """
    start, end = span
    noise = 10 ** (noise / 10)
    log_success = 0.0
    for left, right, others in _parts(span, interference):
        error = float(phy.error(signal - 10 * math.log10(noise + others), size))
        if error >= 1:
            return 1.0
        log_success += (right - left) / (end - start) * math.log1p(-error)
    return -math.expm1(log_success)


def most_interference(span: tuple[float, float], interference: Sequence[tuple[float, float, float]]) -> float:
    """Return the largest sum of the powers of interferers at any instant of a frame, in dBm; see above."""
    return 10 * math.log10(max(others for _, _, others in _parts(span, interference)) or 1e-300)


def _parts(
    span: tuple[float, float], interference: Sequence[tuple[float, float, float]]
) -> Iterator[tuple[float, float, float]]:
    """Yield the parts of a frame between which an interferer begins or ends: begin, end, and their power in mW.

    Where one begins as another ends, no part is as short as the rounding of the two instants.
    """
    start, end = span
    slack = rounding(end)
    limits = [start]
    for limit in sorted(limit for begin, over, _ in interference for limit in (begin, over)):
        if limits[-1] + slack < limit < end - slack:
            limits.append(limit)
    for left, right in pairwise([*limits, end]):
        middle = (left + right) / 2
        others = sum(10 ** (power / 10) for begin, over, power in interference if begin < middle < over)
        yield left, right, others
