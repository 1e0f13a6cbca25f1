"""How long neighbors have been silent, and which of them are counted out for it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from p2pl_async.messages import DeviceId

if TYPE_CHECKING:
    from p2pl_async.device import Device

PATIENCE = (
    "How long a neighbor may be silent before nothing more is pushed to it; "
    "three times its pause between two rounds, if that is longer"
)
"""Description of the setting."""


class Silence:
    """How long neighbors have been silent, and how long they may be.

    A neighbor that takes its time between two rounds is given three times that pause. One that can't be heard, since
    there is no link back, is never silent.

    Args:
        device: the device that hears.
        patience: how long any neighbor may be silent, in seconds.
    """

    def __init__(self, device: Device, patience: float) -> None:
        self._device = device
        self._patience = patience
        self._begun = device.now
        self._heard: dict[DeviceId, float] = {}  # instants
        self._rounds: dict[DeviceId, int] = {}  # the latest heard
        self._pauses: dict[DeviceId, float] = {}  # between two rounds of late, in seconds

    def hear(self, j: DeviceId, round: int) -> None:
        """Note that a message of a round has come; only the first of each counts."""
        if round > self._rounds.get(j, -1):
            now = self._device.now
            self._rounds[j] = round
            self._pauses[j] = max(now - self._heard.get(j, self._begun), self._pauses.get(j, 0.0) / 2)
            self._heard[j] = now

    def is_over(self, j: DeviceId | None, since: float) -> bool:
        """Tell whether a silence that began at an instant has lasted longer than neighbor j may be silent."""
        return self._device.now - since > self._limit(j)

    def has(self, j: DeviceId) -> bool:
        """Tell whether a neighbor is silent."""
        return self.left(j) <= 0

    def left(self, j: DeviceId) -> float:
        """Return for how much longer a neighbor may be silent, in seconds."""
        return self._heard.get(j, self._begun) + self._limit(j) - self._device.now

    def _limit(self, j: DeviceId | None) -> float:
        if j is None:
            return self._patience
        if j not in self._device.all_in_neighbors:
            return math.inf  # it can't be heard
        return max(self._patience, 3 * self._pauses.get(j, 0.0))
