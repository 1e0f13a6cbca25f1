"""Channel access: when a device that has a frame may put it on the air.

Each class decides for all devices of one medium. The air asks (`request`) once per
transmission; the answer is a call of `air.transmit`, at once or from a later event, or of
`air.give_up`. What devices can hear of each other is the air's business (`air.is_busy`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from p2pl_async.randomness import draws, stream

if TYPE_CHECKING:
    from p2pl_async.air.air import Air, Radio, Transmission
    from p2pl_async.air.settings import Aloha, CsmaCa, Dcf

_EPSILON = 1e-9  # s; slots counted from different instants meet to within rounding


class Access:
    """Base: transmit at once, whatever others do."""

    memory = 0.0  # s: how long after its end a transmission still matters

    def __init__(self, air: Air) -> None:
        self.air = air

    def request(self, radio: Radio) -> None:
        """Take note that a device has something to transmit."""
        self.air.transmit(radio)

    def started(self, transmission: Transmission) -> None:
        """Take note that a transmission has begun."""

    def ended(self, transmission: Transmission) -> None:
        """Take note that a transmission is over."""


class InTurn(Access):
    """Ideal: who asked first transmits first, never two within range of each other."""

    def __init__(self, air: Air) -> None:
        super().__init__(air)
        self._waiting: list[tuple[float, int]] = []  # (instant of the request, device)
        self._asked = -1.0  # instant for which a look is already scheduled

    def request(self, radio: Radio) -> None:
        self._waiting.append((self.air.clock.now, radio.device))
        self._look_soon()

    def ended(self, transmission: Transmission) -> None:
        self._look_soon()

    def _look_soon(self) -> None:
        """Decide once all that happens at this instant has: the order of requests must not count."""
        if self._asked != self.air.clock.now:
            self._asked = self.air.clock.now
            self.air.schedule(self.air.clock.now, None, self._look, None)

    def _look(self, _: None) -> None:
        self._asked = -1.0
        now = self.air.clock.now
        self._waiting.sort()
        blocked: list[tuple[float, int]] = []
        for since, device in self._waiting:
            held_up = self.air.is_busy(device, now, now) or any(
                self.air.hears(device, earlier) or self.air.hears(earlier, device) for _, earlier in blocked
            )
            if held_up:
                blocked.append((since, device))
            else:
                self.air.transmit(self.air.radios[device])
        self._waiting = blocked


class Unslotted(Access):
    """802.15.4 unslotted CSMA/CA: back off, look once, transmit or back off longer.

    Source: IEEE 802.15.4-2020, 6.2.5.1.
    """

    def __init__(self, air: Air, settings: CsmaCa, seed: int) -> None:
        super().__init__(air)
        self.memory = settings.cca_time
        self._settings = settings
        self._uniforms: list[Iterator[float]] = [draws(stream(seed, "backoff", radio.device)) for radio in air.radios]
        self._tries = [0] * len(air.radios)

    def request(self, radio: Radio) -> None:
        self._tries[radio.device] = 0
        self._back_off(radio)

    def _back_off(self, radio: Radio) -> None:
        settings, device = self._settings, radio.device
        exponent = min(settings.min_exponent + self._tries[device], settings.max_exponent)
        slots = int(next(self._uniforms[device]) * 2**exponent)
        end = self.air.clock.now + slots * settings.slot + settings.cca_time
        self.air.schedule(end, radio, self._assess, radio)

    def _assess(self, radio: Radio) -> None:
        """Look back on the assessment that ends now."""
        now = self.air.clock.now
        if not self.air.is_busy(radio.device, now - self._settings.cca_time, now):
            self.air.transmit(radio, now + self._settings.turnaround)
        elif self._tries[radio.device] == self._settings.max_backoffs:
            self.air.give_up(radio, "access")
        else:
            self._tries[radio.device] += 1
            self._back_off(radio)


class Distributed(Access):
    """802.11 DCF: wait for an idle DIFS, count slots down while it stays idle, freeze while it doesn't.

    Source: IEEE 802.11-2020, 10.3; G. Bianchi, IEEE JSAC 18(3), 2000.
    """

    def __init__(self, air: Air, settings: Dcf, seed: int) -> None:
        super().__init__(air)
        self._settings = settings
        self._uniforms: list[Iterator[float]] = [draws(stream(seed, "backoff", radio.device)) for radio in air.radios]
        self._slots = [0] * len(air.radios)  # left to count down
        self._idle_since = [0.0] * len(air.radios)
        self._expiry: dict[int, float] = {}  # of those who count; inf while frozen

    def request(self, radio: Radio) -> None:
        settings, device, now = self._settings, radio.device, self.air.clock.now
        window = min((settings.min_window + 1) * 2 ** min(radio.failures, 32) - 1, settings.max_window)
        self._slots[device] = int(next(self._uniforms[device]) * (window + 1))
        self._expiry[device] = math.inf
        if not self.air.is_busy(device, now, now):
            self._count(device)

    def started(self, transmission: Transmission) -> None:
        settings, now = self._settings, self.air.clock.now
        for device, expiry in self._expiry.items():
            # Whose countdown ends at this very instant transmits as well: it can't have heard.
            if expiry != math.inf and expiry > now + _EPSILON and self.air.hears(device, transmission.src):
                idle = now - self._idle_since[device] - settings.difs
                counted = max(0, math.floor((idle + _EPSILON) / settings.slot))
                self._slots[device] -= min(counted, self._slots[device])
                self._expiry[device] = math.inf

    def ended(self, transmission: Transmission) -> None:
        now = self.air.clock.now
        for device, expiry in self._expiry.items():
            if expiry == math.inf and not self.air.is_busy(device, now, now):
                self._count(device)

    def _count(self, device: int) -> None:
        now = self.air.clock.now
        self._idle_since[device] = now
        expiry = now + self._settings.difs + self._slots[device] * self._settings.slot
        self._expiry[device] = expiry
        self.air.schedule(expiry, self.air.radios[device], self._expire, device)

    def _expire(self, device: int) -> None:
        if self._expiry.get(device) == self.air.clock.now:  # not frozen since
            del self._expiry[device]
            self.air.transmit(self.air.radios[device])


class Unasked(Access):
    """ALOHA: transmit at once, or at the next slot; after a failure wait a random time first.

    Source: N. Abramson, 1970; L. Roberts, 1975 (slotted).
    """

    def __init__(self, air: Air, settings: Aloha, seed: int) -> None:
        super().__init__(air)
        self._settings = settings
        self._uniforms: list[Iterator[float]] = [draws(stream(seed, "backoff", radio.device)) for radio in air.radios]

    def request(self, radio: Radio) -> None:
        now = at = self.air.clock.now
        if radio.failures:
            at -= self._settings.backoff * math.log1p(-next(self._uniforms[radio.device]))
        if self._settings.slot is not None:
            at = math.ceil(at / self._settings.slot - _EPSILON) * self._settings.slot
        if at <= now:
            self.air.transmit(radio)
        else:
            self.air.schedule(at, radio, self.air.transmit, radio)
