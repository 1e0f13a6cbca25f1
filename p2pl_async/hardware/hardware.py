"""The hardware of one device besides its radio: processor, clock, battery, and the times at which it is down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from p2pl_async.hardware.compute import ONE_SECOND, Compute
from p2pl_async.hardware.downtime import Downtime
from p2pl_async.hardware.energy import Between, Currents, Doze, Energy
from p2pl_async.hardware.local_clock import IDEAL, LocalClock


@dataclass(frozen=True, slots=True)
class OwnRadio:
    """One of several radios of a device, whose energy is counted by itself.

    Attributes:
        air: number of the air that it is on.
        draws: its currents.
        asleep: when it sleeps; None: never.
        doze: what it does while there is nothing to send or receive; None: it listens.
    """

    air: int
    draws: Currents
    asleep: Between | None = None
    doze: Doze | None = None


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
        radios: its radios, if the energy of each is counted by itself; `asleep` and `doze` don't matter then.
    """

    compute: Compute = ONE_SECOND
    start: float = 0.0
    clock: LocalClock = IDEAL
    downtime: Downtime | None = None
    keeps_state: bool = False
    energy: Energy | None = None
    asleep: Between | None = None
    doze: Doze | None = None
    radios: tuple[OwnRadio, ...] = ()


def downtimes_of(hardware: Sequence[Hardware]) -> list[Downtime] | None:
    """Return when each device is down; None if no device ever is."""
    if all(one.downtime is None for one in hardware):
        return None
    return [Downtime({}) if one.downtime is None else one.downtime for one in hardware]
