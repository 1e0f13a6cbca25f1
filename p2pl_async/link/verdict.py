"""The fate of a message on one link: a `Verdict`, and which parts of the message are missing."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from p2pl_async.basics.arrays import Indices

Ranges = tuple[tuple[int, int], ...]
"""Parts of a message, as [start, end) in bytes, ascending."""


class Signal(NamedTuple):
    """The last frame of a message at its receiver, which may have missed it; nan where unknown."""

    rssi: float = math.nan  # received power, dBm
    sinr: float = math.nan  # over noise and the most interference, dB
    distance: float = math.nan  # m
    rate: float = math.nan  # bit/s
    tries: int = 0  # most transmissions of one of its packets; 0 if unknown
    phy: Any = None  # its modulation, where the sender chose it
    channel: int = -1  # -1 where it never got on shared air


class Verdict(NamedTuple):
    """The fate of one message on one link; by default lost, without a trace on the air."""

    arrival: float = math.inf  # instant it reaches the receiver; math.inf if lost
    cause: str = ""  # "" if it arrives; "partial" if a part does; else a packet's cause, "queue", "expired", ...
    packets: int = 0  # transmissions on the air, retries included; 0 if the queue refuses it
    packets_lost: int = 0  # of those, lost
    air_bytes: int = 0  # bytes on the air: packets with their headers, retries included
    air_seconds: float = 0.0  # how long those transmissions take together; 0 where the rate is unlimited
    acknowledged: bool = False  # the sender knows that all of it arrives; never without ARQ
    copy: float = math.inf  # instant a second copy reaches the receiver; math.inf if there is none
    missing: Ranges = ()  # of a partial message: what doesn't arrive
    corrupted: bool = False  # it arrives spoiled, and the receiver knows
    signal: Signal | None = None  # only on shared air and of radios
    path: tuple[int, ...] = ()  # devices that it went over, both ends among them, the last where it was lost; of relays


REFUSED = Verdict(cause="queue")
EXPIRED = Verdict(cause="expired")
UNDER_WAY = Verdict()
"""Of a message that is still under way when a run ends."""

_make = tuple.__new__


def on_air(arrival: float, cause: str, missing: Ranges, signal: Signal | None) -> Verdict:
    """Return the verdict on a message over shared air, without what its transmissions cost."""
    return _make(Verdict, (arrival, cause, 0, 0, 0, 0.0, False, math.inf, missing, False, signal, ()))


def charged(verdict: Verdict, packets: int, packets_lost: int, air_bytes: int, air_seconds: float) -> Verdict:
    """Return a verdict on a message over shared air with what its transmissions cost."""
    arrival, cause, _, _, _, _, *rest = verdict
    return _make(Verdict, (arrival, cause, packets, packets_lost, air_bytes, air_seconds, *rest))


def missing_ranges(lost: Indices, packets: int, payload: float, size: int, needed: int | None) -> Ranges:
    """Return the missing parts of a message; () if the part that arrives is of no use.

    Args:
        lost: the packets that don't arrive, ascending, shape (m,).
        packets: how many there are.
        payload: bytes of the message in each but the last.
        size: bytes of the message.
        needed: bytes at its start without which no part is of use; None if only all of it is.

    Returns:
        [start, end) of each missing part, in bytes of the message.
    """
    if needed is None or not 0 < len(lost) < packets or lost[0] * payload < needed:
        return ()
    first = np.flatnonzero(np.diff(lost, prepend=-2) > 1)  # of those that follow each other
    last = np.append(first[1:], len(lost)) - 1
    starts, ends = lost[first] * payload, np.minimum((lost[last] + 1) * payload, size)
    return tuple(zip(starts.astype(int).tolist(), ends.astype(int).tolist(), strict=True))
