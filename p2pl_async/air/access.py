"""Channel access: when a device that has a frame may put it on the air.

Each class decides for all devices of one medium. The air asks (`request`) once per
transmission; the answer is a call of `air.transmit`, at once or from a later event, or of
`air.give_up`. The air itself knows which devices hear each other (`air.is_busy`).
`AirView` is all that these classes see of the air.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from p2pl_async.air.outgoing import Outgoing
from p2pl_async.air.settings import Aloha, CsmaCa, Dcf, Tdma
from p2pl_async.air.transmission import Sender, Transmission
from p2pl_async.basics.randomness import draws, stream
from p2pl_async.basics.units import show_seconds
from p2pl_async.clock import VirtualClock
from p2pl_async.errors import ProtocolError
from p2pl_async.messages import DeviceId

_EPSILON = 1e-9  # s; slots counted from different instants coincide up to rounding


class AirView(Protocol):
    """What channel access needs of the air."""

    clock: VirtualClock

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

    def hears(self, listener: DeviceId, speaker: DeviceId) -> bool:
        """Tell whether a device would notice a transmission of another that began now."""

    def is_off(self, sender: Sender) -> bool:
        """Tell whether the sender's next frame goes out on another channel than its radio's own."""

    def heard(self, device: DeviceId, since: float) -> list[Transmission]:
        """Return the transmissions that a device sent or heard and that end after the instant `since`."""

    def watches(self, device: DeviceId, transmission: Transmission) -> bool:
        """Tell whether a device that looks whether it may send looks at the channel of a transmission, or sends it."""

    def is_garbled(self, device: DeviceId, transmission: Transmission) -> bool:
        """Tell whether a device hears a transmission and can't decode it, since others meet it there."""

    def is_busy(self, device: DeviceId, since: float, until: float) -> bool:
        """Tell whether a device transmitted or heard a transmission at any moment from `since` to `until`."""


class Access:
    """Base: transmit at once, whatever others do."""

    memory = 0.0  # s: how long after its end a transmission still matters
    paced = False  # it says when frames are sent, and isn't asked
    continues = False  # it says what follows a frame

    def __init__(self, air: AirView) -> None:
        self.air = air

    def request(self, sender: Sender) -> None:
        """Called when a device has something to transmit."""
        self.air.transmit(sender)

    def rest(self, sender: Sender) -> None:
        """Called when a device has nothing more to transmit."""

    def accepted(self, sender: Sender, message: Outgoing) -> None:
        """Called when a device has a new message; only where the medium is `paced`."""

    def frame_over(self, sender: Sender, *, heard: bool) -> None:
        """Called when a device's frame ends; `heard`: by its last receiver. Only where it `continues` by itself."""

    def started(self, transmission: Transmission) -> None:
        """Called when a transmission begins."""

    def ended(self, transmission: Transmission) -> None:
        """Called when a transmission ends."""


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
        now = self.air.clock.now
        waiting, self._waiting = sorted(self._waiting), []
        blocked: list[tuple[float, int]] = []
        for since, device in waiting:
            held_up = self.air.is_busy(device, now, now) or any(
                self.air.hears(device, earlier) or self.air.hears(earlier, device) for _, earlier in blocked
            )
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
        if not self.air.is_busy(sender.device, now - self._settings.cca_time, now):
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
            if self.air.is_off(sender):
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
        now = self.air.clock.now
        if self._expiry[device] != math.inf:
            self._freeze(device)
        if not self.air.is_busy(device, now, now):
            self._count(device)

    def started(self, transmission: Transmission) -> None:
        if transmission.cut:
            return
        now = self.air.clock.now
        for device, expiry in self._expiry.items():
            noticed = device in transmission.audience.ids or device == transmission.src
            # A device whose countdown ends at this very instant transmits too: it can't have noticed in time.
            if expiry != math.inf and expiry > now + _EPSILON and noticed and self.air.watches(device, transmission):
                self._freeze(device)

    def _freeze(self, device: int) -> None:
        """Stop counting down, and keep the slots that are left."""
        idle = self.air.clock.now - self._idle_since[device] - self._wait[device]
        counted = max(0, math.floor((idle + _EPSILON) / self._settings.slot))
        self._slots[device] -= min(counted, self._slots[device])
        self._expiry[device] = math.inf

    def ended(self, transmission: Transmission) -> None:
        now = self.air.clock.now
        for device, expiry in self._expiry.items():
            if expiry == math.inf and not self.air.is_busy(device, now, now):
                self._count(device)

    def _look(self, _: None) -> None:
        """Let the devices that asked at this instant send, where each is alone and the medium idle for long enough."""
        eager, self._eager = sorted(self._eager), []
        for device in eager:
            alone = not any(self.air.hears(device, other) or self.air.hears(other, device) for other in eager)
            if alone and self._missing(device) <= _EPSILON:
                self._free.discard(device)
                self.air.transmit(self.air.senders[device])
            else:
                self._sends.add(device)
                self._back_off(self.air.senders[device])

    def _back_off(self, sender: Sender) -> None:
        settings, device, now = self._settings, sender.device, self.air.clock.now
        window = min((settings.min_window + 1) * 2 ** min(sender.failures, 32) - 1, settings.max_window)
        self._slots[device] = int(next(self._uniforms[device]) * (window + 1))
        self._expiry[device] = math.inf
        if not self.air.is_busy(device, now, now):
            self._count(device)

    def _missing(self, device: int) -> float:
        """Return for how long the medium must still be idle before the device may send."""
        now, difs = self.air.clock.now, self._settings.difs
        ready = [
            other.end + (self._eifs if self.air.is_garbled(device, other) else difs)
            for other in self.air.heard(device, now - self.memory)
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
            at = math.ceil(at / self._settings.slot - _EPSILON) * self._settings.slot
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
        if needed > self._slot + _EPSILON:
            raise ProtocolError(
                f"a frame of {show_seconds(needed)}, its acknowledgment included, can never be sent: a slot lasts "
                f"{show_seconds(self._slot)}; send it in fragments (mtu)"
            )
        frame = math.floor((now + _EPSILON) / (self._slot * self._slots))
        begin = (frame * self._slots + own) * self._slot
        if now > begin + self._slot - needed + _EPSILON:
            begin += self._slots * self._slot
        if begin <= now:
            self.air.transmit(sender)
        else:
            self.air.schedule(begin, sender, self.air.transmit, sender)
