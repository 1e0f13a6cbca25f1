"""Neighbors by range: they follow from the radios, and change as devices move."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from p2pl_async.basics.arrays import Bools
from p2pl_async.basics.units import show_seconds
from p2pl_async.radio.propagation import Propagation


class RadioNeighbors:
    """Neighbors by signal: a device's out-neighbors are those that receive it well enough, without fading.

    They are updated every `update` seconds, from 0 on. A link begins when its SNR reaches the one at
    which `most_loss` of the packets are lost, and ends when it has fallen `hysteresis` below that, so
    links at the border don't come and go with every update.

    Args:
        propagation: powers and noise.
        most_loss: packet error rate that a neighbor may have, averaged over fading.
        size: bytes on the air of such packets.
        hysteresis: dB.
        update: seconds between two updates.
        others: pairs of devices whose links are over other radios, as (which, shape (n, n); the powers and noise of
            those radios, or True where they reach any distance, False where there are none).
    """

    roams = True

    def __init__(
        self,
        propagation: Propagation,
        most_loss: float,
        size: int,
        hysteresis: float = 0.0,
        update: float = 1.0,
        others: Sequence[tuple[Bools, Propagation | bool]] = (),
    ) -> None:
        self.least_snr = least_snr(propagation, most_loss, size)
        self._others = [
            (pairs, radio, math.nan if isinstance(radio, bool) else least_snr(radio, most_loss, size))
            for pairs, radio in others
        ]
        self._propagation = propagation
        self._hysteresis = hysteresis
        self._update = update
        self._look = -1  # number of the last update
        none = _Links(np.zeros((propagation.n, propagation.n), np.bool_))
        self._nothing = none
        self._latest = none
        self._before = none  # the update before the latest: radio and protocols ask at instants slightly apart

    def __str__(self) -> str:
        links = np.count_nonzero(self.table(0.0))
        return f"devices in range, updated every {show_seconds(self._update)}; {links} links at the beginning"

    def outgoing(self, device: int, now: float, round: int) -> tuple[int, ...]:
        """Return the devices that can hear `device`, in order of id."""
        links = self._at(now)
        if device not in links.outgoing:
            links.outgoing[device] = tuple(np.flatnonzero(links.table[device]).tolist())
        return links.outgoing[device]

    def incoming(self, device: int, now: float, round: int) -> tuple[int, ...]:
        """Return the devices that `device` can hear, in order of id."""
        links = self._at(now)
        if device not in links.incoming:
            links.incoming[device] = tuple(np.flatnonzero(links.table[:, device]).tolist())
        return links.incoming[device]

    def table(self, now: float) -> Bools:
        """Return the links, shape (n, n): whether src (row) is heard by dst (column)."""
        return self._at(now).table

    def snapshots(self, end: float) -> Iterator[tuple[float, Bools]]:
        """Yield (instant, links from then on) of each update before `end`."""
        for look in range(math.ceil(end / self._update)):
            yield look * self._update, self.table(look * self._update)

    def _at(self, now: float) -> _Links:
        """Return the links at an instant; makes the updates in turn, since with hysteresis each depends on the last."""
        due = math.floor(now / self._update) if self._propagation.motion.moves else 0
        if due == self._look - 1:
            return self._before
        if due < self._look:  # another run of the same world begins
            self._look, self._latest = -1, self._nothing
        while self._look < due:
            self._look += 1
            at = self._look * self._update
            table = self._reached(self._propagation, self.least_snr, at)
            for pairs, radio, least in self._others:
                table = np.where(pairs, radio if isinstance(radio, bool) else self._reached(radio, least, at), table)
            self._before, self._latest = self._latest, _Links(table)
        return self._latest

    def _reached(self, radio: Propagation, least_snr: float, at: float) -> Bools:
        """Return which links a radio has at an instant, given those of the last update, shape (n, n)."""
        least = np.where(self._latest.table, least_snr - self._hysteresis, least_snr)
        return np.asarray(radio.mean_snr_table(at) >= least)


class _Links:
    """The links of one update, and the neighbors of each device that was asked for."""

    __slots__ = ("incoming", "outgoing", "table")

    def __init__(self, table: Bools) -> None:
        self.table = table  # row src, column dst, shape (n, n)
        self.outgoing: dict[int, tuple[int, ...]] = {}
        self.incoming: dict[int, tuple[int, ...]] = {}


def least_snr(propagation: Propagation, most_loss: float, size: int) -> float:
    """Return the mean SNR in dB at which a packet error rate, averaged over fading, is reached."""
    low, high = -100.0, 200.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        if propagation.mean_error(middle, size) <= most_loss:
            high = middle
        else:
            low = middle
    return high
