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
import math
from collections.abc import Callable, Sequence
from typing import Any

from p2pl_async.air.access import DcfAccess
from p2pl_async.air.aggregation import Burst
from p2pl_async.air.airtime_budget import AirtimeBudget
from p2pl_async.air.framing import Recipients, recipients
from p2pl_async.air.handshake import Handshake
from p2pl_async.air.hearing import Hearing, Waves
from p2pl_async.air.kinds import access_of, interference_of, tuning_of
from p2pl_async.air.listening import Listening, OnReceive
from p2pl_async.air.on_air import OnAir
from p2pl_async.air.outgoing import Decided, Outgoing, Reached
from p2pl_async.air.rates import Rates
from p2pl_async.air.reception import Reception
from p2pl_async.air.retries import Retries
from p2pl_async.air.settings import Dcf, SharedMedium
from p2pl_async.air.transmission import Sender, Transmission
from p2pl_async.clock import VirtualClock
from p2pl_async.errors import InvariantError
from p2pl_async.hardware.downtime import Presence
from p2pl_async.link import Link, Verdict
from p2pl_async.messages import DeviceId

_EVENTS = 1 << 48  # more than a medium ever has


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
        on_receive: called with (devices, start, end) of each frame: those that listen to it.
        presence: tells which devices are up at an instant; None: all.
        own_channels: the channel of each device; None: as the settings say.
        number: of several media side by side, which one: its events come after those of the ones before.
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
        on_receive: OnReceive | None = None,
        presence: Presence | None = None,
        own_channels: Sequence[int] | None = None,
        number: int = 0,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.senders = [Sender(device, number * _EVENTS) for device in range(n)]
        self._numbers = itertools.count(number * _EVENTS)
        self._back = back
        self._latest: list[tuple[Sequence[Link], list[Recipients]] | None] = [None] * n  # what each device sent to last
        self._on_transmit = on_transmit
        self._tuning = tuning_of(settings, self.senders, seed, own_channels)
        self.listening = Listening(on_receive, self._tuning)
        self._reception = Reception(settings, propagation, presence, self._tuning)
        self._rates = Rates(settings, propagation, seed)
        outside = interference_of(settings, propagation, seed)
        self.on_air = OnAir(clock, hearing, self._reception, outside, self._tuning, self.senders)
        self._access = access_of(settings, self, seed, self._tuning)
        self._where: list[tuple[int, int]] | None = None  # devices listen: their channel, and what else sets them apart
        if self._tuning is not None:
            self._where = [(own, self._access.apart(device)) for device, own in enumerate(self._tuning.own)]
        self.on_air.memory = self._access.memory
        self._aggregate = settings.aggregate if isinstance(settings, Dcf) else None
        rts = settings.rts if isinstance(settings, Dcf) else None
        self._handshake = None if rts is None else Handshake(rts, self)
        self._retries = Retries(settings, self, self._rates)
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

        `decided(token, places, verdicts)` is called now or later, once for each of the links, of which `places` are
        the indices; `reached` of the same form before, when the message reaches their receivers. `needed`: number of
        bytes at the start without which a part of the message is useless; None if only the whole is useful. A neighbor
        whose link waits for it to wake up gets a copy of its own, and so do those that listen on one of several
        channels. `links` may be kept, and must not change.
        """
        latest = self._latest[source]
        if latest is None or latest[0] is not links:
            self._latest[source] = latest = links, recipients(links, self.settings.broadcast == "once", self._where)
        now, measure = self.clock.now, self._reception.signals
        for group in latest[1]:
            message = Outgoing(group, size, decided, token, now, measure, needed, reached)
            if self._access.copies:
                message.send_copies()
            if self._tuning is not None:
                message.channel = self._tuning.own[group.receivers[0]]
            if self._aggregate is not None and message.arq is not None:
                message.burst = Burst(self._aggregate, message.frames, message.frame)
            self._accept(source, message)

    def _accept(self, source: DeviceId, message: Outgoing) -> None:
        sender = self.senders[source]
        queue = self.settings.queue
        while not sender.has_room(queue, message):
            oldest = sender.oldest() if queue is not None and queue.drops_head else None
            self._decide(message if oldest is None else sender.remove(oldest), "queue")
            if oldest is None:
                return
        sender.add(message)
        if self._access.paced:
            self._access.accepted(sender, message)
        elif sender.idle:
            sender.idle = False
            # Tasks that run at one instant do so in random order; the calendar puts their devices in order.
            self.schedule(self.clock.now, sender, self.next_frame, sender)

    @property
    def undecided(self) -> int:
        """Messages that their senders haven't finished, counted once for each receiver."""
        return sum(len(message.links) for sender in self.senders for message in sender.waiting)

    def is_sending(self, source: DeviceId, target: DeviceId) -> bool:
        """Tell whether a message for `target` waits for the source's sender, or is on the air."""
        return any(link.dst == target for message in self.senders[source].waiting for link in message.links)

    def crash(self, device: DeviceId, cause: str) -> None:
        """Lose the messages waiting in a device's memory, and cut off what it transmits."""
        sender = self.senders[device]
        while len(sender.waiting) > (0 if sender.idle else 1):
            self._decide(sender.remove(len(sender.waiting) - 1), cause)
        if sender.waiting:
            sender.waiting[0].cut = cause
        for transmission in self.on_air.by(device):
            self._cut_off(sender, transmission)

    def abandon(self, verdict: Verdict) -> None:
        """Give this verdict to every message that is not finished, as a run ends."""
        for sender in self.senders:
            for message in sender.waiting:
                message.abandon(verdict)
            sender.waiting.clear()

    def schedule(self, at: float, sender: Sender | None, call: Callable[[Any], object], argument: Any) -> None:
        """Run `call(argument)` at an instant; events of one instant run in order of device, those of none last."""
        device, numbers = (len(self.senders), self._numbers) if sender is None else (sender.device, sender.numbers)
        self.clock.schedule(at, device, -2, next(numbers), call, argument)

    def next_frame(self, sender: Sender) -> None:
        """Ask for the channel for the sender's next frame, unless the medium says when it comes."""
        if self._access.paced:
            self._access.go_on(sender)
            return
        ready = sender.put_first(self.clock.now)
        if ready > self.clock.now:
            sender.idle = True
            self._access.rest(sender)
            if ready < math.inf:
                self.schedule(ready, sender, self._wake, sender)
            return
        message = sender.waiting[0]
        if message.cut:
            self.finish(sender, message.cut, acknowledged=False)
            return
        if self._lifetime is not None and message.is_older(self._lifetime, self.clock.now):
            self.finish(sender, "expired", acknowledged=False)
            return
        at = max(self.clock.now, sender.ready)
        self._choose_mode(sender, message)
        if message.burst is not None:
            message.burst.choose(message.mode)
        if self._duty is not None:
            at = self._duty[sender.device].earliest(at, message.seconds(message.done, self._count(message)))
        if at > self.clock.now:
            call = self.next_frame if message.group.waits else self._access.request  # its link may be down by then
            self.schedule(at, sender, call, sender)
        else:
            self._access.request(sender)

    def promote(self, sender: Sender, message: Outgoing) -> None:
        """Put a message before the others of its sender, and choose how its frame is sent."""
        sender.promote(message)
        self._choose_mode(sender, message)

    def drop(self, sender: Sender, message: Outgoing, cause: str) -> None:
        """Give up a message that waits."""
        self._decide(sender.remove(sender.waiting.index(message)), cause)

    def await_ack(self, sender: Sender, message: Outgoing, *, heard: bool) -> None:
        """Have the receiver acknowledge a frame that ends now, if it has heard it."""
        self._retries.wait(sender, message, heard=heard)

    def settle(self, sender: Sender, *, acknowledged: bool) -> None:
        """Go on after the sender's frame has been acknowledged or not."""
        self._retries.settle(sender, acknowledged=acknowledged)

    def _wake(self, sender: Sender) -> None:
        """Look at the messages that waited for their links, unless the sender is busy with others."""
        if sender.idle and sender.waiting:
            sender.idle = False
            self.next_frame(sender)

    def _choose_mode(self, sender: Sender, message: Outgoing) -> None:
        """Choose the rate of the frame for which a sender asks for the channel."""
        group, now = message.group, self.clock.now
        if message.mode is None or group.varies or self._rates.adapts:
            size, tries, acknowledged = message.frame(message.done), sender.failures, message.arq is not None
            rate, channel = group.rate_at(now), 0 if self._tuning is None else self._tuning.to_send(sender, now)
            message.mode = self._rates.pick(
                sender.device, group.receivers, size, now, tries, acknowledged, rate, channel
            )

    def _count(self, message: Outgoing) -> int:
        """Return the fragments of one transmission: one if another device could cut in or must acknowledge it."""
        if message.burst is not None:
            return len(message.burst.sent)
        alone = self._reception.collides or self._rates.adapts or message.group.waits or message.arq is not None
        return 1 if alone else message.frames

    # On the air

    def transmit(self, sender: Sender, start: float | None = None) -> None:
        """Put the sender's next frame on the air, at the instant `start` (now by default)."""
        start, message = self.clock.now if start is None else start, sender.waiting[0]
        if message.cut:  # its device has crashed since it asked for the channel
            self.finish(sender, message.cut, acknowledged=False)
            return
        count = self._count(message)
        start = max(start, sender.until)  # an acknowledgment of its own may be in the way
        end = start + message.seconds(message.done, count)
        if not sender.failures and not message.asked:
            message.began = start
        message.asked = False
        size = message.frame(message.done) if message.burst is None else message.burst.bytes
        if self._handshake is not None and self._handshake.is_due(sender, message, size):
            message.asked = True
            self._handshake.ask(sender, start)
            return
        receivers, src = message.group.receivers, sender.device
        channel = 0 if self._tuning is None else self._tuning.to_send(sender, start)
        audience = self.on_air.audience(src, start, receivers, channel)
        transmission = Transmission(src, start, end, message, message.done, count, audience, receivers, channel)
        assert message.mode is not None
        transmission.rate, transmission.phy = message.mode.airtime.rate(message.mode.rate), message.mode.phy
        if self._duty is not None:
            self._duty[sender.device].add(start, transmission.end - start)
        self._begin(sender, transmission)
        self.schedule(transmission.end, sender, self._end, transmission)

    def needs(self, sender: Sender) -> float:
        """Return how long the sender's next frame takes, its acknowledgment included."""
        message, ack = sender.waiting[0], self.settings.ack
        seconds = message.seconds(message.done, self._count(message))
        return seconds if ack is None or message.arq is None else seconds + ack.delay + ack.airtime

    def give_up(self, sender: Sender, cause: str) -> None:
        """Drop the sender's next frame, which never got the channel."""
        message = sender.waiting[0]
        if message.arq is not None:
            self.finish(sender, cause, acknowledged=False)
            return
        for k in range(len(message.links)):
            message.missed(k, message.done, cause)
        self.frames_over(sender, message, 1)

    def _cut_off(self, sender: Sender, transmission: Transmission) -> None:
        """End a transmission of a device that has crashed; no device receives it."""
        now = max(self.clock.now, transmission.start)
        sender.seconds -= transmission.end - now
        sender.until = min(sender.until, now)
        transmission.end, transmission.cut = now, True
        self._access.ended(transmission)
        message = transmission.message
        if message is not None:
            self.listening.over(transmission)
            message.count(transmission, sender.failures + 1)
            message.unheard(0, transmission.count)
            self.finish(sender, message.cut, acknowledged=False)

    def _begin(self, sender: Sender, transmission: Transmission) -> None:
        now, start, end = self.clock.now, transmission.start, transmission.end
        if start < sender.until:
            raise InvariantError(
                f"device {sender.device} starts to transmit at {start} s and is on the air until {sender.until} s"
            )
        sender.until = end
        sender.seconds += end - start
        self.on_air.begin(transmission)
        if self._on_transmit is not None:
            self._on_transmit(sender.device, start, end)
        if self._follows:
            if start > now:
                self.schedule(start, sender, self._access.started, transmission)
            else:
                self._access.started(transmission)

    def _end(self, transmission: Transmission) -> None:
        """Decide which devices received a transmission that ends now."""
        sender, message = self.senders[transmission.src], transmission.message
        assert message is not None
        if transmission.cut:
            return
        self.listening.over(transmission)
        self.on_air.meet_outside(transmission)
        message.count(transmission, sender.failures + 1)
        lost = self._reception.receive(transmission, message)
        self._access.ended(transmission)
        if self._access.continues:
            self._access.frame_over(sender, heard=lost < transmission.count)
        elif message.arq is None:
            self.frames_over(sender, message, transmission.count)
        else:
            self._retries.wait(sender, message, heard=lost < transmission.count)

    def frames_over(self, sender: Sender, message: Outgoing, count: int) -> None:
        """Continue after so many frames that are finished."""
        sender.ready = self.clock.now + self.settings.spacing
        message.done += count
        message.heard = False
        sender.failures = 0
        if message.done == message.frames:
            self.finish(sender, "", acknowledged=False)
        else:
            self.next_frame(sender)

    def finish(self, sender: Sender, cause: str, acknowledged: bool) -> None:
        """Finish a message, and start the next."""
        message = sender.remove(0)
        self._decide(message, cause, acknowledged)
        self.next_frame(sender)

    def _decide(self, message: Outgoing, cause: str, acknowledged: bool = False) -> None:
        message.decide(cause, self.clock.now, acknowledged)

    def short_frame(
        self, src: DeviceId, dst: DeviceId, start: float, end: float, heard: Transmission | None = None
    ) -> Transmission:
        """Put a frame without content on the air, from one device to another, on the channel of what it answers."""
        channel = 0
        if self._tuning is not None:
            channel = self._tuning.to_send(self.senders[src], start) if heard is None else heard.channel
        audience = self.on_air.audience(src, start, [dst], channel)
        frame = Transmission(src, start, end, None, 0, 1, audience, [dst], channel)
        frame.phy = None if self._rates.slowest is None else self._rates.slowest.phy
        self._begin(self.senders[src], frame)
        return frame

    def arrived(self, frame: Transmission, size: int, *, awaited: bool = True) -> bool:
        """Tell whether a short frame, which ends now, was received; a radio stays awake for one that it awaits."""
        if frame.cut:
            return False
        self.listening.over(frame)
        self.on_air.meet_outside(frame)
        (target,) = frame.receivers
        lost = self._reception.fate(frame, self._back(frame.src, target), size, awaited=awaited)
        self._access.ended(frame)
        return not lost

    def reserve(self, heard: Transmission, until: float) -> None:
        """Keep the channel busy for all who heard a transmission, from now until an instant."""
        silence = self.on_air.reserve(heard, until)
        self._access.started(silence)
        self.schedule(until, None, self._access.ended, silence)

    def failed(self, sender: Sender) -> None:
        """Repeat the sender's frame later, or give it up."""
        self._retries.over((sender, False, None))
