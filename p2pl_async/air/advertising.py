"""Advertising of Bluetooth LE: packets sent on three channels, again and again, for scanners that are there by chance.

    advertising event             interval + 0 to 10 ms later
    |ch 0| |ch 1| |ch 2|          |ch 0| |ch 1| |ch 2|        ... `events` of them for each packet
              scanner:  window on ch 1 |      | window on ch 2 |      | window on ch 0

Nothing is acknowledged. A receiver has a packet once it has heard one of the copies.

Source: Bluetooth Core Specification 5.4, volume 6, part B, 4.4.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from p2pl_async.air.access import Access, AirView
from p2pl_async.air.outgoing import Outgoing
from p2pl_async.air.settings import BleAdvertising
from p2pl_async.air.transmission import Sender
from p2pl_async.air.tuning import Tuning
from p2pl_async.basics.arrays import Bools
from p2pl_async.basics.randomness import draws, stream
from p2pl_async.messages import DeviceId

DELAY = 10e-3  # s; advDelay, the most that is added to the interval


class AdvertisingAir(AirView, Protocol):
    """What advertising needs of the air."""

    def frames_over(self, sender: Sender, message: Outgoing, count: int) -> None:
        """Continue after so many frames that are finished."""


class Scanning(Tuning):
    """Radios that scan: on one channel in each window, and asleep in between, from a phase of their own on.

    Args:
        settings: of the medium.
        n: number of devices.
        seed: of the run.
    """

    def __init__(self, settings: BleAdvertising, n: int, seed: int) -> None:
        self.own = [0] * n
        self._sends_on = [0] * n
        self._window, self._interval = settings.scan_window, settings.scan_interval
        self._count = settings.advertising_channels
        self._phases = np.array([scan_phase(settings, seed, device) for device in range(n)])
        self._first = np.array([int(stream(seed, "scan", device).integers(self._count)) for device in range(n)])

    def send_on(self, device: DeviceId, channel: int) -> None:
        """Have the device's next packet sent on a channel."""
        self._sends_on[device] = channel

    def to_send(self, sender: Sender, instant: float) -> int:
        return self._sends_on[sender.device]

    def of(self, device: DeviceId, instant: float) -> int:
        windows, within = divmod(instant - float(self._phases[device]), self._interval)
        return int(windows + self._first[device]) % self._count if within < self._window else -1

    def listening(self, channel: int, instant: float) -> Bools:
        windows, within = np.divmod(instant - self._phases, self._interval)
        return np.asarray(((windows + self._first) % self._count == channel) & (within < self._window))


def scan_phase(settings: BleAdvertising, seed: int, device: DeviceId) -> float:
    """Return when a window of a device's scans begins, in [0, scan_interval)."""
    return float(stream(seed, "scan-phase", device).random()) * settings.scan_interval


class AdvertisingAccess(Access):
    """The advertising events of all devices.

    Args:
        air: the medium.
        settings: of the medium.
        seed: of the run; streams "advertising".
        scanning: the channels of all radios.
    """

    continues = copies = True

    def __init__(self, air: AdvertisingAir, settings: BleAdvertising, seed: int, scanning: Scanning) -> None:
        super().__init__(air)
        self._on: AdvertisingAir = air
        self._settings = settings
        self._scanning = scanning
        self._uniforms: list[Iterator[float]] = [
            draws(stream(seed, "advertising", sender.device)) for sender in air.senders
        ]
        self._latest = [-math.inf] * len(air.senders)  # beginning of each device's latest event
        self._left = [0] * len(air.senders)  # events of its packet that are left
        self._channel = [0] * len(air.senders)  # of its current packet

    def request(self, sender: Sender) -> None:
        self._left[sender.device] = self._settings.events
        self._next_event(sender)

    def _next_event(self, sender: Sender) -> None:
        device = sender.device
        begin = max(self.air.clock.now, self._latest[device] + self._settings.interval)
        begin += DELAY * next(self._uniforms[device])
        self._left[device] -= 1
        self.air.schedule(begin, sender, self._begin, (sender, sender.waiting[0]))

    def _begin(self, what: tuple[Sender, Outgoing]) -> None:
        sender, message = what
        if sender.waiting and sender.waiting[0] is message:  # else it was given up meanwhile
            self._latest[sender.device] = self.air.clock.now
            self._send(sender, 0)

    def _send(self, sender: Sender, channel: int) -> None:
        self._channel[sender.device] = channel
        self._scanning.send_on(sender.device, channel)
        self.air.transmit(sender)

    def _send_again(self, what: tuple[Sender, Outgoing, int]) -> None:
        sender, message, channel = what
        if sender.waiting and sender.waiting[0] is message:
            self._send(sender, channel)

    def frame_over(self, sender: Sender, *, heard: bool) -> None:
        message, channel = sender.waiting[0], self._channel[sender.device] + 1
        if channel < self._settings.advertising_channels:
            at = self.air.clock.now + self._settings.spacing
            self.air.schedule(at, sender, self._send_again, (sender, message, channel))
        elif self._left[sender.device]:
            self._next_event(sender)
        else:
            message.copies_over()
            self._on.frames_over(sender, message, 1)
