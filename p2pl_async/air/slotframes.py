"""TSCH, time-slotted channel hopping of 802.15.4: who may send in which slot of a slotframe, and backoff.

    slotframe of 3 slots   |0      1      2     |0      1      2     |
    ASN                     0      1      2      3      4      5         a slot: |offset| frame |delay| ACK |
    channel                 s[0]   s[1]   s[2]   s[3]   s[4]   s[5]      s: hopping sequence; plus the receiver's offset

A cell is a slot of the slotframe and carries one frame. Senders that share one back off after a failure, by cells.

Source: IEEE 802.15.4-2020, 6.2.5.3 and 6.2.6; RFC 8180 (minimal); S. Duquennoy et al., "Orchestra", SenSys 2015.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from p2pl_async.air.access import Access
from p2pl_async.air.connections import PacedAir
from p2pl_async.air.outgoing import Outgoing
from p2pl_async.air.settings import Tsch
from p2pl_async.air.transmission import Sender
from p2pl_async.air.tuning import ASLEEP, OwnChannels
from p2pl_async.basics.arrays import Bools
from p2pl_async.basics.randomness import draws, stream
from p2pl_async.basics.timeline import rounding
from p2pl_async.basics.units import show_seconds
from p2pl_async.errors import ProtocolError
from p2pl_async.messages import DeviceId


def listening_share(settings: Tsch, device: DeviceId, senders: Iterable[DeviceId]) -> float:
    """Return the share of time that a device listens in vain, if no frame comes in the cells where one may.

    Args:
        settings: of the medium.
        device: the device.
        senders: who may send to it.
    """
    owners = {"minimal": (0,), "sender-based": senders, "receiver-based": (device,)}[settings.cells]
    cells = {owner % settings.slotframe for owner in owners}
    return len(cells) * settings.rx_wait / (settings.slot * settings.slotframe)


class CellsOfReceivers(OwnChannels):
    """Radios that listen in their own cells only, and sleep in all others."""

    def __init__(self, settings: Tsch, own: Sequence[int], senders: Sequence[Sender]) -> None:
        super().__init__(settings.hops, own, senders, waits_there=False)
        self._slot, self._slotframe = settings.slot, settings.slotframe
        self._cells = np.arange(len(own)) % settings.slotframe

    def _cell(self, instant: float) -> int:
        return int((instant + rounding(instant)) // self._slot) % self._slotframe

    def of(self, device: DeviceId, instant: float) -> int:
        return super().of(device, instant) if device % self._slotframe == self._cell(instant) else ASLEEP

    def listening(self, channel: int, instant: float) -> Bools:
        return np.asarray(super().listening(channel, instant) & (self._cells == self._cell(instant)))


class TschAccess(Access):
    """The slotframes of all devices.

    Args:
        air: the medium.
        settings: of the medium.
        seed: of the run; streams "backoff".
    """

    paced = continues = True

    def __init__(self, air: PacedAir, settings: Tsch, seed: int) -> None:
        super().__init__(air)
        self._on: PacedAir = air
        self._settings = settings
        self._uniforms: list[Iterator[float]] = [
            draws(stream(seed, "backoff", sender.device)) for sender in air.senders
        ]
        self._latest = [0] * len(air.senders)  # slot in which each device has sent last
        self._current: list[Outgoing | None] = [None] * len(air.senders)  # of which that was a frame
        self._planned: list[int | None] = [None] * len(air.senders)  # slot in which each device sends next, or may
        self._free: list[dict[int, int]] = [{} for _ in air.senders]  # of each device: cell -> first slot after backoff

    def apart(self, dst: DeviceId) -> int:
        return dst % self._settings.slotframe if self._settings.cells == "receiver-based" else 0

    def accepted(self, sender: Sender, message: Outgoing) -> None:
        self._plan(sender)

    def go_on(self, sender: Sender) -> None:
        device, waiting = sender.device, sender.waiting
        if waiting and waiting[0] is self._current[device] and sender.failures:
            self._back_off(sender)
        else:
            self._free[device].pop(self._latest[device] % self._settings.slotframe, None)
        sender.idle = True
        self._plan(sender)

    def frame_over(self, sender: Sender, *, heard: bool) -> None:
        message = sender.waiting[0]
        if message.arq is None:
            self._on.frames_over(sender, message, 1)
        else:
            self._on.await_ack(sender, message, heard=heard)

    def _cell(self, src: DeviceId, message: Outgoing) -> int:
        """Return the slot of the slotframe in which a message may be sent."""
        return self._settings.cell(src, message.links[0].dst)

    def _back_off(self, sender: Sender) -> None:
        """Draw how many shared cells to let pass, after a frame that wasn't acknowledged."""
        settings, device = self._settings, sender.device
        if settings.cells == "sender-based":
            return
        exponent = min(settings.min_exponent + sender.failures - 1, settings.max_exponent)
        passed = int(next(self._uniforms[device]) * 2**exponent)
        latest = self._latest[device]
        self._free[device][latest % settings.slotframe] = latest + (1 + passed) * settings.slotframe

    def _plan(self, sender: Sender) -> None:
        """Schedule the next slot in which a device has something to send."""
        now, settings, device = self.air.clock.now, self._settings, sender.device
        if not sender.idle:
            return
        slots = []
        for message in sender.waiting:
            ready = message.ready(now)
            if ready < math.inf:
                cell = self._cell(device, message)
                first = max(math.ceil((ready - rounding(ready)) / settings.slot), self._free[device].get(cell, 0))
                slots.append(first + (cell - first) % settings.slotframe)
        planned = self._planned[device]
        if slots and (planned is None or min(slots) < planned):
            self._planned[device] = min(slots)
            at = min(slots) * settings.slot + settings.tx_offset
            self.air.schedule(max(now, at), sender, self._slot, (sender, min(slots)))

    def _slot(self, what: tuple[Sender, int]) -> None:
        """Send a frame in this slot, if the device still has one for it."""
        sender, slot = what
        device, settings = sender.device, self._settings
        if self._planned[device] != slot:
            return
        self._planned[device] = None
        message = self._message(sender, slot)
        if message is None:
            self._plan(sender)
            return
        self._on.promote(sender, message)
        now = self.air.clock.now
        needed = settings.tx_offset + self.air.needs(sender)
        if needed > settings.slot + rounding(now):
            raise ProtocolError(
                f"a frame of {show_seconds(needed)}, its offset and acknowledgment included, can never be sent: a slot "
                f"lasts {show_seconds(settings.slot)}; send it in fragments (mtu)"
            )
        sender.idle = False
        self._latest[device], self._current[device] = slot, message
        self.air.transmit(sender)

    def _message(self, sender: Sender, slot: int) -> Outgoing | None:
        """Return the message of which a device sends a frame in a slot; drop those that are too old."""
        now, queue, cell = self.air.clock.now, self._settings.queue, slot % self._settings.slotframe
        for message in list(sender.waiting):
            if self._cell(sender.device, message) != cell or self._free[sender.device].get(cell, 0) > slot:
                continue
            old = queue is not None and queue.lifetime is not None and message.is_older(queue.lifetime, now)
            if old and not message.done and not message.failures:
                self._on.drop(sender, message, "expired")
            elif message.ready(now) <= now:
                return message
        return None
