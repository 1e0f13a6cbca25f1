"""The hardware of one device besides its radio: processor, clock, battery, and the times at which it is down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from p2pl_async.hardware.compute import ONE_SECOND, Compute
from p2pl_async.hardware.downtime import Downtime
from p2pl_async.hardware.energy import Between, Doze, Energy
from p2pl_async.hardware.local_clock import IDEAL, LocalClock


@dataclass(frozen=True, slots=True)
class Hardware:
    """One device of one run, without its radio and its data.

    Attributes:
        compute: virtual time of its trainings.
        start: the virtual second at which its protocol begins.
        clock: its own clock.
        downtime: when it is down; None: never. It belongs to one run; a device with a battery needs one.
        keeps_state: whether its parameters survive a crash.
        energy: current and power that it draws; None: not measured.
        asleep: when its radio sleeps; None: never.
        doze: what its radio does while there is nothing to send or receive; None: it listens.
    """

    compute: Compute = ONE_SECOND
    start: float = 0.0
    clock: LocalClock = IDEAL
    downtime: Downtime | None = None
    keeps_state: bool = False
    energy: Energy | None = None
    asleep: Between | None = None
    doze: Doze | None = None


def downtimes_of(hardware: Sequence[Hardware]) -> list[Downtime] | None:
    """Return when each device is down; None if no device ever is."""
    if all(one.downtime is None for one in hardware):
        return None
    return [Downtime({}) if one.downtime is None else one.downtime for one in hardware]
