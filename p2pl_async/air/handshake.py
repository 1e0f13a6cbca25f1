"""RTS and CTS of 802.11: a sender asks before a long frame, and all who hear the answer keep silent.

    sender     RTS          SIFS  frame ...
    receiver        SIFS CTS                     SIFS ACK
    who hears       |reserved: neither sends until the end|

Without them, a sender that the receiver hears and the other sender doesn't spoils the frame (hidden terminals).
Neither is charged to a message. Source: IEEE 802.11-2020, 10.3.2.
"""

from __future__ import annotations

from typing import Any, Protocol

from p2pl_async.air.on_air import OnAir
from p2pl_async.air.outgoing import Outgoing
from p2pl_async.air.settings import Rts
from p2pl_async.air.transmission import Sender, Transmission
from p2pl_async.basics.timeline import rounding
from p2pl_async.clock import VirtualClock
from p2pl_async.messages import DeviceId


class Exchanging(Protocol):
    """What a handshake needs of the air."""

    clock: VirtualClock
    on_air: OnAir

    @property
    def senders(self) -> list[Sender]:
        """The sender of each device, by id."""

    def schedule(self, at: float, sender: Sender | None, call: Any, argument: Any) -> None:
        """Run `call(argument)` at an instant."""

    def short_frame(
        self, src: DeviceId, dst: DeviceId, start: float, end: float, heard: Transmission | None = None
    ) -> Transmission:
        """Put a frame without content on the air, from one device to another, on the channel of what it answers."""

    def arrived(self, frame: Transmission, size: int, *, awaited: bool = True) -> bool:
        """Tell whether a short frame, which ends now, was received; a radio stays awake for one that it awaits."""

    def reserve(self, heard: Transmission, until: float) -> None:
        """Keep the channel busy for all who heard a transmission, from now until an instant."""

    def needs(self, sender: Sender) -> float:
        """Return how long the sender's next frame takes, its acknowledgment included."""

    def transmit(self, sender: Sender, start: float | None = None) -> None:
        """Put the sender's next frame on the air."""

    def failed(self, sender: Sender) -> None:
        """Repeat the sender's frame later, or give it up."""


class Handshake:
    """The requests of all senders of a medium.

    Args:
        settings: of the medium.
        air: where frames go.
    """

    def __init__(self, settings: Rts, air: Exchanging) -> None:
        self._settings = settings
        self._air = air
        self._cleared: set[DeviceId] = set()  # senders that may transmit

    def is_due(self, sender: Sender, message: Outgoing, size: int) -> bool:
        """Tell whether a sender must ask before a transmission of `size` bytes."""
        if sender.device in self._cleared:
            self._cleared.discard(sender.device)
            return False
        return message.arq is not None and size >= self._settings.over

    def ask(self, sender: Sender, start: float) -> None:
        """Send a request at the instant `start`."""
        end = start + self._settings.airtime
        target = sender.waiting[0].links[0].dst
        request = self._air.short_frame(sender.device, target, start, end)
        self._air.schedule(end, sender, self._asked, (sender, request))

    def _asked(self, what: tuple[Sender, Transmission]) -> None:
        """Have the receiver answer, if it has heard the request and nobody else."""
        sender, request = what
        air, clearance, now = self._air, self._settings.clearance, self._air.clock.now
        (target,) = request.receivers
        heard = air.arrived(request, self._settings.size, awaited=False)
        start = now + clearance.delay
        end = start + clearance.airtime
        until = air.senders[target].until  # an acknowledgment of its own may end later
        free = not air.on_air.is_busy(target) and until <= start + rounding(start)
        air.reserve(request, end + clearance.delay)
        answer = None
        if heard and free:
            answer = air.short_frame(target, sender.device, max(start, until), end, request)
        air.schedule(end, sender, self._answered, (sender, answer))

    def _answered(self, what: tuple[Sender, Transmission | None]) -> None:
        """Send the frame, if the answer has come."""
        sender, answer = what
        air, clearance, now = self._air, self._settings.clearance, self._air.clock.now
        cleared = answer is not None and air.arrived(answer, clearance.size)
        if answer is not None and not answer.cut:
            air.reserve(answer, now + clearance.delay + air.needs(sender))
        if cleared:
            self._cleared.add(sender.device)
            air.transmit(sender, now + clearance.delay)
        else:
            air.failed(sender)
