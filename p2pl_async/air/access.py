"""Channel access: when a device that has a frame may put it on the air.

Each class decides for all devices of one medium. The air asks (`request`) once per
transmission; the answer is a call of `air.transmit`, at once or from a later event, or of
`air.give_up`. `air.on_air` knows what is on the air, and which devices hear each other.
`AirView` is all that these classes see of the air.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from p2pl_async.air.on_air import OnAir
from p2pl_async.air.outgoing import Outgoing
from p2pl_async.air.settings import Aloha, CsmaCa, Dcf, Tdma
from p2pl_async.air.transmission import Sender, Transmission
from p2pl_async.basics.randomness import draws, stream
from p2pl_async.basics.timeline import rounding
from p2pl_async.basics.units import show_seconds
from p2pl_async.clock import VirtualClock
from p2pl_async.errors import ProtocolError
from p2pl_async.messages import DeviceId


class AirView(Protocol):
    """What channel access needs of the air."""

    clock: VirtualClock
    on_air: OnAir

    @property
    def senders(self) -> Sequence[Sender]:
        """The sender of each device, by id."""

    def schedule(self, at: float, sender: Sender | None, call: Callable[[Any], object], argument: Any) -> None:
        """Run `call(argument)` at an instant."""

    def transmit(self, sender: Sender, start: float | None = None) -> None:
        """Put the sender's next frame on the air, now or at the instant `start`."""

    def needs(self, sender: Sender) -> float:
        """Return how long the sender's next frame takes, its acknowledgment included."""

    def give_up(self, sender: Sender, cause: str) -> None:
        """Stop trying to send the sender's next frame."""


class Access:
    """Base: transmit at once, whatever others do."""

    memory = 0.0  # s: how long after its end a transmission still matters
    paced = False  # it says when frames are sent, and isn't asked
    continues = False  # it says what follows a frame
    copies = False  # each frame is sent several times, and one of its copies is enough

    def __init__(self, air: AirView) -> None:
        self.air = air

    def request(self, sender: Sender) -> None:
        """Called when a device has something to transmit."""
        self.air.transmit(sender)

    def rest(self, sender: Sender) -> None:
        """Called when a device has nothing more to transmit."""

    def accepted(self, sender: Sender, message: Outgoing) -> None:
        """Called when a device has a new message; only where the medium is `paced`."""

    def go_on(self, sender: Sender) -> None:
        """Called when a device's frame is over, with its acknowledgment; only where the medium is `paced`."""

    def apart(self, dst: DeviceId) -> int:
        """Return what receivers of one transmission have in common, besides their channel."""
        return 0

    def frame_over(self, sender: Sender, *, heard: bool) -> None:
        """Called when a device's frame ends; `heard`: by its last receiver. Only where it `continues` by itself."""

    def started(self, transmission: Transmission) -> None:
        """Called when a transmission begins."""

    def ended(self, transmission: Transmission) -> None:
        """Called when a transmission ends."""

    def _meet(self, one: int, other: int) -> bool:
        """Tell whether one of two devices would notice the other."""
        return self.air.on_air.hears(one, other) or self.air.on_air.hears(other, one)


class IdealAccess(Access):
    """Ideal: devices transmit in the order of their requests, never two within range of each other."""

    def __init__(self, air: AirView) -> None:
        super().__init__(air)
        self._waiting: list[tuple[float, int]] = []  # (instant of the request, device)
        self._asked = -1.0  # instant for which a look is already scheduled

    def request(self, sender: Sender) -> None:
        self._waiting.append((self.air.clock.now, sender.device))
        self._look_soon()

    def ended(self, transmission: Transmission) -> None:
        self._look_soon()

    def _look_soon(self) -> None:
        """Decide once every event of this instant has run, so that the order of simultaneous requests doesn't count."""
        if self._asked != self.air.clock.now:
            self._asked = self.air.clock.now
            self.air.schedule(self.air.clock.now, None, self._look, None)

    def _look(self, _: None) -> None:
        self._asked = -1.0
        waiting, self._waiting = sorted(self._waiting), []
        blocked: list[tuple[float, int]] = []
        for since, device in waiting:
            held_up = self.air.on_air.is_busy(device) or any(self._meet(device, earlier) for _, earlier in blocked)
            if held_up:
                blocked.append((since, device))
            else:
                self.air.transmit(self.air.senders[device])
        self._waiting += blocked


class CsmaCaAccess(Access):
    """802.15.4 unslotted CSMA/CA: back off, look once, transmit or back off longer.

    Source: IEEE 802.15.4-2020, 6.2.5.1.
    """

    def __init__(self, air: AirView, settings: CsmaCa, seed: int) -> None:
        super().__init__(air)
        self.memory = settings.cca_time
        self._settings = settings
        self._uniforms: list[Iterator[float]] = [
            draws(stream(seed, "backoff", sender.device)) for sender in air.senders
        ]
        self._tries = [0] * len(air.senders)

    def request(self, sender: Sender) -> None:
        self._tries[sender.device] = 0
        self._back_off(sender)

    def _back_off(self, sender: Sender) -> None:
        settings, device = self._settings, sender.device
        exponent = min(settings.min_exponent + self._tries[device], settings.max_exponent)
        slots = int(next(self._uniforms[device]) * 2**exponent)
        end = self.air.clock.now + slots * settings.slot + settings.cca_time
        self.air.schedule(end, sender, self._assess, sender)

    def _assess(self, sender: Sender) -> None:
        """Transmit if the channel was clear during the assessment that ends now; else back off longer, or give up."""
        now = self.air.clock.now
        if not self.air.on_air.was_busy(sender.device, now - self._settings.cca_time):
            self.air.transmit(sender, now + self._settings.turnaround)
        elif self._tries[sender.device] == self._settings.max_backoffs:
            self.air.give_up(sender, "access")
        else:
            self._tries[sender.device] += 1
            self._back_off(sender)


class DcfAccess(Access):
    """802.11 DCF: wait for an idle DIFS, count slots down while it stays idle, freeze while it doesn't.

    A device that finds the medium idle for DIFS, and has counted down since it sent last, sends at once. Of
    several that do so at one instant, all count down: clocks are never that equal. After frames that collide
    at a device, it waits for EIFS instead of DIFS, so as not to disturb an acknowledgment.

    Source: IEEE 802.11-2020, 10.3; G. Bianchi, IEEE JSAC 18(3), 2000.
    """

    def __init__(self, air: AirView, settings: Dcf, seed: int) -> None:
        super().__init__(air)
        self._settings = settings
        after_ack = 0.0 if settings.ack is None else settings.ack.delay + settings.ack.airtime
        self._eifs = settings.difs + after_ack if settings.eifs is None else settings.eifs
        self.memory = max(settings.difs, self._eifs)
        self._uniforms: list[Iterator[float]] = [
            draws(stream(seed, "backoff", sender.device)) for sender in air.senders
        ]
        self._slots = [0] * len(air.senders)  # left to count down
        self._idle_since = [0.0] * len(air.senders)
        self._wait = [settings.difs] * len(air.senders)  # idle time before the countdown goes on
        self._expiry: dict[int, float] = {}  # of devices that count down; inf while frozen
        self._sends: set[int] = set()  # of these, those that transmit then
        self._free = {sender.device for sender in air.senders}  # they have counted down since they sent last
        self._eager: list[int] = []  # they may send at once, if no other does so now

    def request(self, sender: Sender) -> None:
        device = sender.device
        if device in self._expiry:
            self._sends.add(device)
            if self.air.on_air.is_off(sender):
                self._tune(device)
        elif device in self._free:
            if not self._eager:
                self.air.schedule(self.air.clock.now, None, self._look, None)
            self._eager.append(device)
        else:
            self._sends.add(device)
            self._back_off(sender)

    def rest(self, sender: Sender) -> None:
        if sender.device not in self._free and sender.device not in self._expiry:
            self._back_off(sender)

    def _tune(self, device: int) -> None:
        """Count on, on the channel of the device's new frame, after that has been idle for long enough."""
        if self._expiry[device] != math.inf:
            self._freeze(device)
        if not self.air.on_air.is_busy(device):
            self._count(device)

    def started(self, transmission: Transmission) -> None:
        if transmission.cut:
            return
        now, slack = self.air.clock.now, rounding(self.air.clock.now)
        for device, expiry in self._expiry.items():
            if expiry == math.inf or not (device in transmission.audience.ids or device == transmission.src):
                continue
            # A device whose countdown ends at this very instant transmits too: it can't have noticed in time.
            if expiry > now + slack and self.air.on_air.watches(device, transmission):
                self._freeze(device)

    def _freeze(self, device: int) -> None:
        """Stop counting down, and keep the slots that are left."""
        now = self.air.clock.now
        idle = now - self._idle_since[device] - self._wait[device]
        counted = max(0, math.floor((idle + rounding(now)) / self._settings.slot))
        self._slots[device] -= min(counted, self._slots[device])
        self._expiry[device] = math.inf

    def ended(self, transmission: Transmission) -> None:
        for device, expiry in self._expiry.items():
            if expiry == math.inf and not self.air.on_air.is_busy(device):
                self._count(device)

    def _look(self, _: None) -> None:
        """Let the devices that asked at this instant send, where each is alone and the medium idle for long enough."""
        eager, self._eager = sorted(self._eager), []
        for device in eager:
            alone = not any(self._meet(device, other) for other in eager)
            if alone and self._missing(device) <= rounding(self.air.clock.now):
                self._free.discard(device)
                self.air.transmit(self.air.senders[device])
            else:
                self._sends.add(device)
                self._back_off(self.air.senders[device])

    def _back_off(self, sender: Sender) -> None:
        settings, device = self._settings, sender.device
        window = min((settings.min_window + 1) * 2 ** min(sender.failures, 32) - 1, settings.max_window)
        self._slots[device] = int(next(self._uniforms[device]) * (window + 1))
        self._expiry[device] = math.inf
        if not self.air.on_air.is_busy(device):
            self._count(device)

    def _missing(self, device: int) -> float:
        """Return for how long the medium must still be idle before the device may send."""
        now, difs = self.air.clock.now, self._settings.difs
        ready = [
            other.end + (self._eifs if self.air.on_air.is_garbled(device, other) else difs)
            for other in self.air.on_air.heard(device, now - self.memory)
        ]
        return max(ready, default=now) - now

    def _count(self, device: int) -> None:
        now = self.air.clock.now
        self._idle_since[device] = now
        self._wait[device] = max(self._settings.difs, self._missing(device))
        expiry = now + self._wait[device] + self._slots[device] * self._settings.slot
        self._expiry[device] = expiry
        self.air.schedule(expiry, self.air.senders[device], self._expire, device)

    def _expire(self, device: int) -> None:
        if self._expiry.get(device) != self.air.clock.now:  # frozen since
            return
        del self._expiry[device]
        if device in self._sends:
            self._sends.discard(device)
            self._free.discard(device)
            self.air.transmit(self.air.senders[device])
        else:
            self._free.add(device)


class AlohaAccess(Access):
    """ALOHA: transmit at once, or at the next slot; after a failure wait a random time first.

    Source: N. Abramson, 1970; L. Roberts, 1975 (slotted).
    """

    def __init__(self, air: AirView, settings: Aloha, seed: int) -> None:
        super().__init__(air)
        self._settings = settings
        self._uniforms: list[Iterator[float]] = [
            draws(stream(seed, "backoff", sender.device)) for sender in air.senders
        ]

    def request(self, sender: Sender) -> None:
        now = at = self.air.clock.now
        if sender.failures:
            at -= self._settings.backoff * math.log1p(-next(self._uniforms[sender.device]))
        if self._settings.slot is not None:
            at = math.ceil((at - rounding(at)) / self._settings.slot) * self._settings.slot
        if at <= now:
            self.air.transmit(sender)
        else:
            self.air.schedule(at, sender, self.air.transmit, sender)


class TdmaAccess(Access):
    """TDMA: transmit in the device's own slot, as long as what is left of it suffices."""

    def __init__(self, air: AirView, settings: Tdma) -> None:
        super().__init__(air)
        self._slot = settings.slot
        self._slots = len(air.senders) if settings.slots is None else settings.slots

    def request(self, sender: Sender) -> None:
        now, needed, own = self.air.clock.now, self.air.needs(sender), sender.device % self._slots
        slack = rounding(now)
        if needed > self._slot + slack:
            raise ProtocolError(
                f"a frame of {show_seconds(needed)}, its acknowledgment included, can never be sent: a slot lasts "
                f"{show_seconds(self._slot)}; send it in fragments (mtu)"
            )
        frame = math.floor((now + slack) / (self._slot * self._slots))
        begin = (frame * self._slots + own) * self._slot
        if now > begin + self._slot - needed + slack:
            begin += self._slots * self._slot
        if begin <= now:
            self.air.transmit(sender)
        else:
            self.air.schedule(begin, sender, self.air.transmit, sender)
