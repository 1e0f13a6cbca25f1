"""The air that devices share: one sender per device, and transmissions that meet.

    send -> queue of the device -> access -> on the air -> end: who received it? -> ACK, retry -> next frame
                                   (access.py)              half duplex, collision,
                                                            noise, loss, outage

The fate of a frame is decided at its end, when everything that overlapped it is known. A message arrives
when a receiver has it, whatever the sender still does because it doesn't know. Each
step is an event of the calendar, ordered by device, so the order in which tasks run doesn't matter.
A frame of a message is one transmission, to one device or to many; if no other device can take the
channel between two frames, the whole message is one transmission.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from p2pl_async.air.access import Access, AlohaAccess, CsmaCaAccess, DcfAccess, IdealAccess
from p2pl_async.air.airtime_budget import AirtimeBudget
from p2pl_async.air.hearing import Hearing, Waves, error_in_interference, most_interference
from p2pl_async.air.outgoing import Decided, Outgoing, Reached
from p2pl_async.air.settings import Aloha, Contended, CsmaCa, Dcf, Ideal, SharedMedium
from p2pl_async.air.transmission import Sender, Transmission
from p2pl_async.clock import VirtualClock
from p2pl_async.errors import InvariantError
from p2pl_async.link import Link, Verdict
from p2pl_async.messages import DeviceId

_TOUCH = 1e-9  # s; a shorter overlap is rounding: instants are sums of slots


class Air:
    """A shared medium.

    Args:
        settings: how devices share it.
        clock: its calendar takes every event.
        n: number of devices.
        hearing: who hears whom.
        seed: the run's seed.
        propagation: powers and error rates; required for `capture` and `sinr`.
        back: (src, dst) -> the link that an acknowledgment takes.
        on_transmit: called with (device, start, end) of each transmission.
        on_receive: called with (device, start, end) of each frame that a device listens to.
        is_down: tells whether a device is down at an instant; None: never.
    """

    def __init__(
        self,
        settings: SharedMedium,
        clock: VirtualClock,
        n: int,
        hearing: Hearing,
        seed: int,
        *,
        back: Callable[[DeviceId, DeviceId], Link],
        propagation: Waves | None = None,
        on_transmit: Callable[[DeviceId, float, float], object] | None = None,
        on_receive: Callable[[DeviceId, float, float], object] | None = None,
        is_down: Callable[[DeviceId, float], bool] | None = None,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.senders = [Sender(device) for device in range(n)]
        self.undecided = 0  # messages of which at least one receiver's fate is open, counted per receiver
        self._numbers = itertools.count()
        self._hearing = hearing
        self._propagation = propagation
        self._back = back
        self._on_transmit = on_transmit
        self._on_receive = on_receive
        self._is_down = is_down
        self._on_air: list[Transmission] = []
        self._decoding_until = np.zeros(n)  # for each receiver, the end of the frame it is busy with
        self._decoding_power = np.full(n, -np.inf)  # and its power in dBm
        self._sending_until = np.zeros(n)  # as `Sender.until`
        self._collision = settings.collision if isinstance(settings, Contended) else None
        self._capture = settings.capture if isinstance(settings, Contended) else 0.0
        self._access = _access(settings, self, seed)
        self._follows = isinstance(self._access, DcfAccess)  # looks at every beginning and end
        self._lifetime = None if settings.queue is None else settings.queue.lifetime
        limit = settings.duty_cycle
        self._duty = None if limit is None else [AirtimeBudget(limit.share, limit.mode, limit.window) for _ in range(n)]

    # Sending

    def send(
        self,
        source: DeviceId,
        links: Sequence[Link],
        size: int,
        decided: Decided,
        token: Any,
        needed: int | None = None,
        reached: Reached | None = None,
    ) -> None:
        """Accept a message for the devices at the ends of `links`.

        `decided(token, k, verdict)` is called once for each link k, now or later; `reached(token, k, verdict)`
        before, when the message reaches its receiver. `needed`: number of bytes at the start without which
        a part of the message is useless; None if only the whole is useful.
        """
        now = self.clock.now
        if self.settings.broadcast == "once":
            self._accept(source, Outgoing(links, size, decided, token, now, 0, needed, reached))
        else:
            for k, link in enumerate(links):
                self._accept(source, Outgoing([link], size, decided, token, now, k, needed, reached))

    def _accept(self, source: DeviceId, message: Outgoing) -> None:
        sender = self.senders[source]
        self.undecided += len(message.links)
        if not self._has_room(sender, message):
            self._decide(message, "queue")
            return
        sender.waiting.append(message)
        sender.held += message.bytes
        sender.held_frames += message.frames
        if sender.idle:
            sender.idle = False
            # Tasks that run at one instant do so in random order; the calendar puts their devices in order.
            self.schedule(self.clock.now, sender, self._next, sender)

    def is_sending(self, source: DeviceId, target: DeviceId) -> bool:
        """Tell whether a message for `target` waits for the source's sender, or is on the air."""
        return any(link.dst == target for message in self.senders[source].waiting for link in message.links)

    def crash(self, device: DeviceId, cause: str) -> None:
        """Lose the messages waiting in a device's memory, and cut off what it transmits."""
        sender = self.senders[device]
        while len(sender.waiting) > 1:
            message = sender.waiting.pop()
            sender.held -= message.bytes
            sender.held_frames -= message.frames
            self._decide(message, cause)
        if sender.waiting:
            sender.waiting[0].cut = cause
        for transmission in self._on_air:
            if transmission.src == device and transmission.end > self.clock.now:
                self._cut_off(sender, transmission)

    def abandon(self, verdict: Verdict) -> None:
        """Give this verdict to every message that is not finished, as a run ends."""
        for sender in self.senders:
            for message in sender.waiting:
                for k in range(len(message.links)):
                    self.undecided -= 1
                    message.abandon(k, verdict, self.clock.now)
            sender.waiting.clear()

    def schedule(self, at: float, sender: Sender | None, call: Callable[[Any], object], argument: Any) -> None:
        """Run `call(argument)` at an instant; events of one instant run in order of device, those of none last."""
        device, numbers = (len(self.senders), self._numbers) if sender is None else (sender.device, sender.numbers)
        self.clock.schedule(at, device, -2, next(numbers), call, argument)

    def _has_room(self, sender: Sender, message: Outgoing) -> bool:
        queue = self.settings.queue
        if queue is None:
            return True
        return (
            (queue.messages is None or len(sender.waiting) < queue.messages)
            and (queue.packets is None or sender.held_frames + message.frames <= queue.packets)
            and (queue.size is None or sender.held + message.bytes <= queue.size)
        )

    def _next(self, sender: Sender) -> None:
        """Ask for the channel for the sender's next frame."""
        if not sender.waiting:
            sender.idle = True
            self._access.rest(sender)
            return
        message = sender.waiting[0]
        if message.cut:
            self._finish(sender, message.cut, acknowledged=False)
            return
        if self._lifetime is not None and not message.done and self.clock.now - message.sent > self._lifetime:
            self._finish(sender, "expired", acknowledged=False)
            return
        at = max(self.clock.now, sender.ready)
        if self._duty is not None:
            at = self._duty[sender.device].earliest(at, self._duration(message, message.done, self._count(message)))
        if at > self.clock.now:
            self.schedule(at, sender, self._access.request, sender)
        else:
            self._access.request(sender)

    def _count(self, message: Outgoing) -> int:
        """Return the fragments of one transmission: one if another device could cut in or must acknowledge it."""
        return 1 if self._collision is not None or message.arq is not None else message.frames

    def _duration(self, message: Outgoing, first: int, count: int) -> float:
        airtime = self.settings.airtime
        rate = message.rate
        if len(message.links) > 1 and self.settings.broadcast_rate is not None:
            rate = self.settings.broadcast_rate
        if first <= message.short < first + count:
            return (count - 1) * airtime.seconds(message.full, rate) + airtime.seconds(
                message.frame(message.short), rate
            )
        return count * airtime.seconds(message.full, rate)

    # On the air

    def transmit(self, sender: Sender, start: float | None = None) -> None:
        """Put the sender's next frame on the air, at the instant `start` (now by default)."""
        start = self.clock.now if start is None else start
        message = sender.waiting[0]
        if message.cut:  # its device has crashed since it asked for the channel
            self._finish(sender, message.cut, acknowledged=False)
            return
        count = self._count(message)
        start = max(start, sender.until)  # an acknowledgment of its own may be in the way
        end = start + self._duration(message, message.done, count)
        receivers = [link.dst for link in message.links]
        audience = self._hearing.audience(sender.device, start, receivers)
        transmission = Transmission(sender.device, start, end, message, message.done, count, audience, receivers)
        if self._duty is not None:
            self._duty[sender.device].add(start, transmission.end - start)
        self._begin(sender, transmission)
        self.schedule(transmission.end, sender, self._end, transmission)

    def give_up(self, sender: Sender, cause: str) -> None:
        """Drop the sender's next frame, which never got the channel."""
        message = sender.waiting[0]
        if message.arq is not None:
            self._finish(sender, cause, acknowledged=False)
            return
        for k in range(len(message.links)):
            message.missed(k, message.done, cause)
        self._frames_over(sender, message, 1)

    def hears(self, listener: DeviceId, speaker: DeviceId) -> bool:
        """Tell whether a device would notice a transmission of another that began now."""
        return listener in self._hearing.audience(speaker, self.clock.now).ids

    def is_busy(self, device: DeviceId, since: float, until: float) -> bool:
        """Tell whether a device transmitted or heard a transmission at any moment from `since` to `until`."""
        for other in self._on_air:
            if other.end > since and other.start <= until and (other.src == device or device in other.audience.ids):
                return True
        return False

    def heard(self, device: DeviceId, since: float) -> list[Transmission]:
        """Return the transmissions that a device sent or heard and that end after the instant `since`."""
        return [
            other
            for other in self._on_air
            if other.end > since and (other.src == device or device in other.audience.ids)
        ]

    def is_garbled(self, device: DeviceId, transmission: Transmission) -> bool:
        """Tell whether a device hears a transmission and can't decode it, since others meet it there."""
        if device not in transmission.audience.ids or self._collision is None:
            return False
        if any(other.src == device for other in transmission.overlaps):
            return False  # it transmits itself, and doesn't try
        met = [other for other in transmission.overlaps if self._interferes(other, device)]
        if not met or self._collision == "overlap":
            return bool(met)
        interference = [(other.start, other.end, float(other.powers[device])) for other in met]
        most = most_interference((transmission.start, transmission.end), interference)
        held = bool(transmission.decoders[device])
        return not held or float(transmission.powers[device]) < most + self._capture

    def _cut_off(self, sender: Sender, transmission: Transmission) -> None:
        """End a transmission of a device that has crashed; no device receives it."""
        now = max(self.clock.now, transmission.start)
        sender.seconds -= transmission.end - now
        sender.until = self._sending_until[sender.device] = min(sender.until, now)
        transmission.end, transmission.cut = now, True
        self._access.ended(transmission)
        message = transmission.message
        if message is not None:
            self._listen(transmission)
            self._count_in(message, transmission)
            for k in range(len(message.links)):
                message.unheard(k, transmission.count)
            self._finish(sender, message.cut, acknowledged=False)

    def _begin(self, sender: Sender, transmission: Transmission) -> None:
        now, start, end = self.clock.now, transmission.start, transmission.end
        if start < sender.until:
            raise InvariantError(
                f"device {sender.device} starts to transmit at {start} s and is on the air until {sender.until} s"
            )
        sender.until = end
        sender.seconds += end - start
        if self._propagation is not None:
            transmission.powers = self._propagation.powers(transmission.src, start)
        if self._collision in ("capture", "sinr"):
            self._lock(transmission)
        horizon = now - self._access.memory
        self._on_air = [other for other in self._on_air if other.end > horizon]
        for other in self._on_air:
            if other.end > start + _TOUCH and other.start < end - _TOUCH:
                other.overlaps.append(transmission)
                transmission.overlaps.append(other)
        self._on_air.append(transmission)
        if self._on_transmit is not None:
            self._on_transmit(sender.device, start, end)
        if self._follows:
            if start > now:
                self.schedule(start, sender, self._access.started, transmission)
            else:
                self._access.started(transmission)

    def _lock(self, transmission: Transmission) -> None:
        """Find the receivers that start to decode a transmission: a receiver holds one frame at a time.

        They notice it, or it is for them, and they are free, or busy with a frame so much weaker that this one
        captures them: then they lose the other.
        """
        start, powers = transmission.start, transmission.powers
        noticed = transmission.audience.mask
        if not transmission.audience.ids.issuperset(transmission.receivers):
            noticed = noticed.copy()
            noticed[transmission.receivers] = True
        free = self._decoding_until <= start
        noticed = noticed & (self._sending_until <= start)
        turned = noticed & (free | (powers >= self._decoding_power + self._capture))
        if self._is_down is not None:
            turned[[device for device in np.flatnonzero(turned).tolist() if self._is_down(device, start)]] = False
        for other in self._on_air:
            if other.end > start and other.decoders is not None:
                other.decoders[turned] = False
        # Who begins to transmit drops what it was busy with.
        self._decoding_until[transmission.src], self._sending_until[transmission.src] = 0.0, transmission.end
        self._decoding_until[turned] = transmission.end
        self._decoding_power[turned] = powers[turned]
        transmission.decoders = turned

    def _end(self, transmission: Transmission) -> None:
        """Decide which devices received a transmission that ends now."""
        sender, message = self.senders[transmission.src], transmission.message
        assert message is not None
        if transmission.cut:
            return
        self._listen(transmission)
        self._count_in(message, transmission)
        lost = 0
        for k, link in enumerate(message.links):
            lost = self._receive(transmission, message, k, link)
        self._access.ended(transmission)
        if message.arq is None:
            self._frames_over(sender, message, transmission.count)
        else:
            self._await_ack(sender, message, heard=not lost)

    @staticmethod
    def _count_in(message: Outgoing, transmission: Transmission) -> None:
        """Add a transmission to what its message has cost."""
        message.air_seconds += transmission.end - transmission.start
        message.packets += transmission.count
        message.air_bytes += message.full if transmission.count == 1 else message.bytes
        if transmission.count == 1 and transmission.first == message.short:
            message.air_bytes += message.frame(message.short) - message.full

    def _listen(self, transmission: Transmission) -> None:
        if self._on_receive is not None:
            for device in sorted(transmission.audience.ids):
                if device != transmission.src:
                    self._on_receive(device, transmission.start, transmission.end)

    def _frames_over(self, sender: Sender, message: Outgoing, count: int) -> None:
        sender.ready = self.clock.now + self.settings.spacing
        message.done += count
        message.heard = False
        sender.failures = 0
        if message.done == message.frames:
            self._finish(sender, "", acknowledged=False)
        else:
            self._next(sender)

    def _finish(self, sender: Sender, cause: str, acknowledged: bool) -> None:
        """Finish a message, and start the next."""
        message = sender.waiting.popleft()
        sender.held -= message.bytes
        sender.held_frames -= message.frames
        sender.failures = 0
        self._decide(message, cause, acknowledged)
        self._next(sender)

    def _decide(self, message: Outgoing, cause: str, acknowledged: bool = False) -> None:
        for k in range(len(message.links)):
            self.undecided -= 1
            message.decide(k, cause, self.clock.now, acknowledged)

    # Receiving

    def _receive(self, transmission: Transmission, message: Outgoing, k: int, link: Link) -> int:
        """Record the frames of a transmission that a receiver misses, and return their number."""
        if transmission.count == 1:
            cause = self._fate(transmission, link, message.frame(transmission.first))
            lost = {transmission.first: cause} if cause else {}
        else:
            lost = self._fates(transmission, message, link)
        message.unheard(k, len(lost))
        if message.sends_on and not lost and transmission.count == 1:
            message.received(k, transmission.first, transmission.end)
        if message.arq is None:
            for frame, cause in sorted(lost.items()):
                message.missed(k, frame, cause)
        return len(lost)

    def _fates(self, transmission: Transmission, message: Outgoing, link: Link) -> dict[int, str]:
        """Return the frames that a receiver misses of a message sent in one transmission: frame -> cause."""
        steps = np.full(message.frames, self._duration(message, 0, 1) if message.short else 0.0)
        steps[message.short] = 0.0
        steps[message.short] = transmission.end - transmission.start - steps.sum()
        ends = transmission.start + np.cumsum(steps)
        starts = ends - steps
        lost = link.hear_all(message.full, starts, ends)
        for other in transmission.overlaps:
            if other.src == link.dst:
                for frame in np.flatnonzero((starts < other.end) & (ends > other.start)).tolist():
                    lost[frame] = "half-duplex"
        return lost

    def _fate(self, transmission: Transmission, link: Link, size: int) -> str:
        """Return why a device didn't receive a frame that has just ended, or ""."""
        dst, error = link.dst, None
        interferers = [
            other
            for other in transmission.overlaps
            if (other.src == dst or self._interferes(other, dst)) and not self._ended_before(other, transmission)
        ]
        disturbed = ""
        if interferers:
            if any(other.src == dst for other in interferers):
                disturbed = "half-duplex"
            elif self._collision == "overlap":
                disturbed = "collision"
            elif self._collision is not None:
                disturbed, error = self._disturbed(transmission, interferers, link, size)
        # Draws even if the frame is lost already, so that the link's later draws don't depend on other traffic.
        cause = link.hear(size, transmission.start, transmission.end, error)
        return disturbed or ("collision" if cause == "noise" and error is not None else cause)

    @staticmethod
    def _ended_before(other: Transmission, transmission: Transmission) -> bool:
        """Tell whether another transmission, cut off by a crash, ended before this one began."""
        return other.cut and other.end <= transmission.start + _TOUCH

    def _interferes(self, other: Transmission, dst: DeviceId) -> bool:
        if self._collision is None:
            return False
        return self._collision == "sinr" or dst in other.audience.ids

    def _disturbed(
        self, transmission: Transmission, interferers: Sequence[Transmission], link: Link, size: int
    ) -> tuple[str, float | None]:
        """Return ("collision", None) if others certainly destroy a frame, else "" and the probability of losing it."""
        dst, signal = link.dst, float(transmission.powers[link.dst])
        if not transmission.decoders[dst]:  # busy with another frame when this one began, or captured by another
            return "collision", None
        assert self._propagation is not None
        interference = [(other.start, other.end, float(other.powers[dst])) for other in interferers]
        span = (transmission.start, transmission.end)
        stronger = self._capture if self._collision == "capture" else self._propagation.rejection
        if stronger is not None:
            return ("" if signal >= most_interference(span, interference) + stronger else "collision"), None
        return "", error_in_interference(self._propagation, transmission.src, dst, size, span, signal, interference)

    # Acknowledgments

    def _await_ack(self, sender: Sender, message: Outgoing, *, heard: bool) -> None:
        assert message.arq is not None
        message.heard = message.heard or heard
        now, settings = self.clock.now, self.settings
        if settings.ack is None:
            self.schedule(now + message.arq.turnaround, sender, self._ack_over, (sender, heard, None))
            return
        start = now + settings.ack.delay
        end = start + settings.ack.airtime
        receiver = self.senders[message.links[0].dst]
        ack = None
        if heard and receiver.until <= start:
            audience = self._hearing.audience(receiver.device, start, [sender.device])
            ack = Transmission(receiver.device, start, end, None, 0, 1, audience, [sender.device])
            self._begin(receiver, ack)
        self.schedule(end, sender, self._ack_over, (sender, heard, ack))

    def _ack_over(self, what: tuple[Sender, bool, Transmission | None]) -> None:
        """Continue with the next fragment, or repeat this one."""
        sender, acknowledged, ack = what
        sender.ready = self.clock.now + self.settings.spacing
        message = sender.waiting[0]
        assert message.arq is not None
        if self.settings.ack is not None:
            acknowledged = False
            if ack is not None and not ack.cut:
                self._listen(ack)
                back = self._back(ack.src, sender.device)
                acknowledged = not self._fate(ack, back, self.settings.ack.size)
                self._access.ended(ack)
        if message.cut:
            self._finish(sender, message.cut, acknowledged=False)
            return
        if acknowledged:
            message.done += 1
            message.heard = False
            sender.failures = 0
            if message.done == message.frames:
                self._finish(sender, "", acknowledged=message.known)
                return
        else:
            sender.failures += 1
            if sender.failures >= message.arq.most_tries:
                self._give_up_frame(sender, message)
                return
        self._next(sender)

    def _give_up_frame(self, sender: Sender, message: Outgoing) -> None:
        """Stop repeating a frame; the receiver may have it nevertheless, if only acknowledgments were lost."""
        if not message.heard:
            message.missed(0, message.done, "retries")
        message.known = False
        if message.useful_in_part or (message.heard and message.done == message.frames - 1):
            self._frames_over(sender, message, 1)
        else:
            self._finish(sender, "retries", acknowledged=False)


def _access(settings: SharedMedium, air: Air, seed: int) -> Access:
    if isinstance(settings, Ideal):
        return IdealAccess(air)
    if isinstance(settings, CsmaCa):
        return CsmaCaAccess(air, settings, seed)
    if isinstance(settings, Dcf):
        return DcfAccess(air, settings, seed)
    if isinstance(settings, Aloha):
        return AlohaAccess(air, settings, seed)
    return Access(air)
