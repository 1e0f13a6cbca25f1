"""What is on the air: transmissions, who notices them, and whether a device finds the channel busy.

    a transmission begins -> `begin`: it meets the others         access looks: `is_busy`, `heard`, `hears`
    a transmission ends   -> `meet_outside`: interferers, too

Instants are sums of slots and air times: two that are the same differ by rounding (`timeline.rounding`). What
ends as something else begins doesn't meet it, whichever of the two sums is the larger.
"""

from __future__ import annotations

from collections.abc import Sequence

from p2pl_async.air.hearing import Audience, Hearing
from p2pl_async.air.interference import Interference
from p2pl_async.air.reception import Reception
from p2pl_async.air.transmission import NOBODY, Sender, Transmission
from p2pl_async.air.tuning import Tuning
from p2pl_async.basics.timeline import rounding
from p2pl_async.clock import VirtualClock
from p2pl_async.messages import DeviceId


class OnAir:
    """The transmissions of a medium, from their beginning until they no longer matter.

    Args:
        clock: of the run.
        hearing: who hears whom.
        reception: who receives what.
        outside: what interferers send; None: there are none.
        tuning: the channels of radios; None: all are on one.
        senders: of all devices.

    Attributes:
        memory: how long after its end a transmission still matters, in seconds.
    """

    def __init__(
        self,
        clock: VirtualClock,
        hearing: Hearing,
        reception: Reception,
        outside: Interference | None,
        tuning: Tuning | None,
        senders: Sequence[Sender],
    ) -> None:
        self.memory = 0.0
        self._clock = clock
        self._hearing = hearing
        self._reception = reception
        self._outside = outside
        self._tuning = tuning
        self._senders = senders
        self._transmissions: list[Transmission] = []

    def audience(self, src: DeviceId, at: float, receivers: Sequence[DeviceId], channel: int) -> Audience:
        """Return the devices that notice that one transmits to `receivers` from the instant `at` on, on a channel."""
        return self._hearing.audience(src, at, receivers, channel)

    def begin(self, transmission: Transmission) -> None:
        """Add a transmission that begins now, or soon."""
        now = self._clock.now
        horizon, left = now - self.memory, []
        for other in self._transmissions:
            if other.end > horizon:
                left.append(other)
            elif other.end < now and other.is_settled:
                other.overlaps.clear()  # two that met would hold each other, until Python looks for such circles
        self._reception.begin(transmission, left)
        left.append(transmission)
        self._transmissions = left

    def reserve(self, heard: Transmission, until: float) -> Transmission:
        """Keep the channel busy for all who heard a transmission, from now until an instant; return what does so."""
        silence = Transmission(NOBODY, self._clock.now, until, None, 0, 1, heard.audience, channel=heard.channel)
        self._transmissions.append(silence)
        return silence

    def meet_outside(self, transmission: Transmission) -> None:
        """Add what interferers sent during a transmission, which ends now, to what overlaps it."""
        if self._outside is not None:
            transmission.overlaps += self._outside.during(transmission.start, transmission.end, transmission.channel)

    def by(self, device: DeviceId) -> list[Transmission]:
        """Return what a device has on the air that is not over."""
        now = self._clock.now
        after = now + rounding(now)
        return [one for one in self._transmissions if one.src == device and one.end > after]

    def hears(self, listener: DeviceId, speaker: DeviceId) -> bool:
        """Tell whether a device would notice a transmission of another that began now."""
        now, tuning, channel = self._clock.now, self._tuning, 0
        if tuning is not None:
            channel = tuning.to_send(self._senders[speaker], now)
            if tuning.to_send(self._senders[listener], now) != channel:
                return False
        return listener in self._hearing.audience(speaker, now, (), channel).ids

    def is_busy(self, device: DeviceId) -> bool:
        """Tell whether a device transmits or hears a transmission now."""
        now = self._clock.now
        return self._meets(device, now, now)

    def was_busy(self, device: DeviceId, since: float) -> bool:
        """Tell whether a device transmitted or heard a transmission between the instant `since` and now.

        One that ended as the time began doesn't count, nor one that begins now.
        """
        now = self._clock.now
        slack = rounding(now)
        return self._meets(device, since + slack, now - slack)

    def _meets(self, device: DeviceId, since: float, until: float) -> bool:
        for other in self._transmissions:
            if (
                other.end > since
                and other.start <= until
                and (other.src == device or device in other.audience.ids)
                and self.watches(device, other)
            ):
                return True
        if self._outside is None:
            return False
        channel = 0 if self._tuning is None else self._tuning.to_send(self._senders[device], until)
        return self._outside.is_noticed(device, since, until, channel)

    def watches(self, device: DeviceId, transmission: Transmission) -> bool:
        """Tell whether a device that looks whether it may send looks at the channel of a transmission, or sends it."""
        if self._tuning is None or transmission.src == device:
            return True
        return self._tuning.to_send(self._senders[device], self._clock.now) == transmission.channel

    def is_off(self, sender: Sender) -> bool:
        """Tell whether the sender's next frame goes out on another channel than its radio's own."""
        return self._tuning is not None and sender.waiting[0].channel != self._tuning.own[sender.device]

    def heard(self, device: DeviceId, since: float) -> list[Transmission]:
        """Return the transmissions that a device sent or heard and that end after the instant `since`."""
        lately = [other for other in self._transmissions if other.end > since]
        noticed = [other for other in lately if other.src == device or device in other.audience.ids]
        return [other for other in noticed if self.watches(device, other)]

    def is_garbled(self, device: DeviceId, transmission: Transmission) -> bool:
        """Tell whether a device hears a transmission and can't decode it, since others meet it there."""
        return self._reception.is_garbled(device, transmission)
