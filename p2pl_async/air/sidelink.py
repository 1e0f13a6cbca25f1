"""NR sidelink, mode 2: each device reserves resources by itself, after it has heard what others reserve.

    select          resource of the frame        period later: the same     ... `counter` times, then keep or select
    |  2 slots |<---- selection window ---->|
    slot x subchannel, without those that others have reserved by what they sent one period before

A resource is one subchannel of one slot. Every frame says whether its sender will use the same resource again one
period later. Who sends in a slot hears nothing in it, so two devices that have chosen the same slot don't notice, and
collide again and again until one of them selects anew.

Sources: 3GPP TS 38.214, 8.1.4 (sensing, and selection); TS 38.321, 5.22.1.1 (counter, and probability to keep).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from p2pl_async.air.access import Access, AirView
from p2pl_async.air.sidelink_settings import NrMode2
from p2pl_async.air.transmission import Sender, Transmission
from p2pl_async.air.tuning import Tuning
from p2pl_async.basics.arrays import Bools
from p2pl_async.basics.randomness import draws, stream
from p2pl_async.basics.units import show_seconds
from p2pl_async.errors import ProtocolError
from p2pl_async.messages import DeviceId

_EPSILON = 1e-9  # s; slots counted from different instants coincide up to rounding
_AHEAD = 2  # slots from the choice to the first resource that may be chosen (T1)
_RAISE = 3.0  # dB; by so much the threshold is raised while too few resources are left
_STRONG = 0.0  # dBm, in place of a power where there is no radio


class Subchannels(Tuning):
    """Radios that hear all subchannels at once, and send on the one that the access chooses.

    Args:
        n: number of devices.
    """

    wide = True

    def __init__(self, n: int) -> None:
        self.own: Sequence[int] = [0] * n
        self.chosen = [0] * n  # by each device, for its next frame

    def to_send(self, sender: Sender, instant: float) -> int:
        return self.chosen[sender.device]

    def of(self, device: DeviceId, instant: float) -> int:
        return self.chosen[device]

    def listening(self, channel: int, instant: float) -> Bools:
        return np.ones(len(self.chosen), np.bool_)


@dataclass(slots=True)
class _Reservation:
    """A resource that a device uses once in each period."""

    slot: int  # the latest that it used, or the first
    channel: int
    left: int  # frames until it may be given up
    used: bool = False


class Mode2Access(Access):
    """Send in reserved resources, one frame in each; select new ones among those that nobody was heard to reserve."""

    def __init__(self, air: AirView, settings: NrMode2, seed: int, tuning: Subchannels) -> None:
        super().__init__(air)
        n = len(air.senders)
        self._settings = settings
        self._tuning = tuning
        self._period = settings.slots_of(settings.period)
        self._uniforms = [draws(stream(seed, "resources", device)) for device in range(n)]
        self._reserved: list[list[_Reservation]] = [[] for _ in range(n)]
        self._sent: list[dict[int, int]] = [{} for _ in range(n)]  # slot modulo the period -> the latest it sent in
        self._latest = [-1] * n  # slot in which it sent last
        self._goes_on = [False] * n  # whether its latest frame reserves the same resource again
        # (slot modulo the period, channel) -> the slot in which another reserved it anew, and its power in dBm.
        self._heard: list[dict[tuple[int, int], tuple[int, float]]] = [{} for _ in range(n)]

    def request(self, sender: Sender) -> None:
        device, slot, now = sender.device, self._settings.slot, self.air.clock.now
        needed = self.air.needs(sender)
        if needed > slot + _EPSILON:
            raise ProtocolError(
                f"a frame of {show_seconds(needed)} can never be sent: a slot lasts {show_seconds(slot)}; send it in "
                "fragments (mtu)"
            )
        first = math.ceil(now / slot - _EPSILON)
        mine = [one for one in self._reserved[device] if self._missed(one, first) < self._settings.unused]
        if len(mine) < self._settings.reservations:
            mine.append(self._select(device, math.floor(now / slot + _EPSILON), mine))
        self._reserved[device] = mine
        chosen = min(mine, key=lambda one: self._next(one, first))
        chosen_slot = self._next(chosen, first)
        self.air.schedule(chosen_slot * slot, sender, self._send, (sender, chosen, chosen_slot))

    def ended(self, transmission: Transmission) -> None:
        """Take note of the reservation in a frame, wherever it could be decoded."""
        src = transmission.src
        if not self._goes_on[src]:
            return
        slot, channel = self._latest[src], transmission.channel
        for device in transmission.audience.order:
            mute = device == src or self._sent[device].get(slot % self._period) == slot
            if not mute and not self.air.on_air.is_garbled(device, transmission):
                power = _STRONG if transmission.powers is None else float(transmission.powers[device])
                self._heard[device][slot % self._period, channel] = slot, power

    def _send(self, what: tuple[Sender, _Reservation, int]) -> None:
        sender, one, slot = what
        device, settings = sender.device, self._settings
        one.slot, one.used, one.left = slot, True, one.left - 1
        if one.left == 0:
            if next(self._uniforms[device]) < settings.keep:
                one.left = self._count(device)
            else:
                self._reserved[device] = [each for each in self._reserved[device] if each is not one]
        self._goes_on[device] = one.left > 0
        self._latest[device] = self._sent[device][slot % self._period] = slot
        self._tuning.chosen[device] = one.channel
        self.air.transmit(sender)

    def _next(self, one: _Reservation, first: int) -> int:
        """Return the slot of a reservation's next occasion, from the slot `first` on."""
        if not one.used and one.slot >= first:
            return one.slot
        return one.slot + self._period * max(1, -(-(first - one.slot) // self._period))

    def _missed(self, one: _Reservation, first: int) -> int:
        """Return the number of occasions before the slot `first` that went by without a frame."""
        return (self._next(one, first) - one.slot) // self._period - one.used

    def _count(self, device: DeviceId) -> int:
        low, high = self._settings.counts
        return low + int(next(self._uniforms[device]) * (high - low + 1))

    def _select(self, device: DeviceId, now: int, mine: Sequence[_Reservation]) -> _Reservation:
        """Select a resource in the window after the slot `now`, beside those that are the device's own already."""
        settings, period, count = self._settings, self._period, self._settings.subchannels
        taken = {one.slot % period for one in mine}
        slots = [slot for slot in range(now + _AHEAD, now + settings.window_slots + 1) if slot % period not in taken]
        all_of_them = [(slot, channel) for slot in slots for channel in range(count)]
        least = math.ceil(settings.least_free * len(all_of_them))
        sent, heard, threshold = self._sent[device], self._heard[device], settings.threshold
        # A slot in which it sent itself, one period before, is one in which it heard nothing.
        known = [one for one in all_of_them if sent.get(one[0] % period) != one[0] - period]
        candidates = known if len(known) >= least else all_of_them
        while True:
            free = []
            for slot, channel in candidates:
                when, power = heard.get((slot % period, channel), (-1, -math.inf))
                if when != slot - period or power < threshold:
                    free.append((slot, channel))
            if len(free) >= max(least, 1):
                break
            threshold += _RAISE
        slot, channel = free[int(next(self._uniforms[device]) * len(free))]
        return _Reservation(slot, channel, self._count(device))
