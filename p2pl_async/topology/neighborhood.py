"""Neighbors that change as a run goes on."""

from __future__ import annotations

from typing import Protocol

from p2pl_async.messages import DeviceId


class Neighborhood(Protocol):
    """Neighbors that change: with virtual time, or with a device's own rounds."""

    roams: bool  # whether links come and go with time; else they are always there, and take turns

    def outgoing(self, device: DeviceId, now: float, round: int) -> tuple[DeviceId, ...]:
        """Return the devices that can hear `device`, in order of id."""

    def incoming(self, device: DeviceId, now: float, round: int) -> tuple[DeviceId, ...]:
        """Return the devices that `device` can hear, in order of id."""
