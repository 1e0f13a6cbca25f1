"""Acknowledgments and retries: what a sender does after a frame that its receiver should acknowledge.

    frame ends -> `wait` -> acknowledgment, or none -> `over` -> next frame, or the same again, or give it up

Of frames that are sent together (`aggregation`), a block acknowledgment tells which arrived.
"""

from __future__ import annotations

from typing import Any, Protocol

from p2pl_async.air.outgoing import Outgoing
from p2pl_async.air.rates import Rates
from p2pl_async.air.settings import SharedMedium
from p2pl_async.air.transmission import Sender, Transmission
from p2pl_async.basics.timeline import rounding
from p2pl_async.clock import VirtualClock
from p2pl_async.messages import DeviceId


class Repeating(Protocol):
    """What retries need of the air."""

    clock: VirtualClock

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

    def next_frame(self, sender: Sender) -> None:
        """Ask for the channel for the sender's next frame."""

    def frames_over(self, sender: Sender, message: Outgoing, count: int) -> None:
        """Continue after so many frames that are finished."""

    def finish(self, sender: Sender, cause: str, acknowledged: bool) -> None:
        """Finish a message, and start the next."""


class Retries:
    """The acknowledgments of a medium, and the retries of its senders.

    Args:
        settings: of the medium.
        air: where frames go.
        rates: learn from acknowledgments.
    """

    def __init__(self, settings: SharedMedium, air: Repeating, rates: Rates) -> None:
        self._settings = settings
        self._air = air
        self._rates = rates

    def wait(self, sender: Sender, message: Outgoing, *, heard: bool) -> None:
        """Have the receiver acknowledge a frame that ends now, if it has heard it."""
        assert message.arq is not None
        message.heard = message.heard or heard
        now, settings = self._air.clock.now, self._settings
        if settings.ack is None:
            self._air.schedule(now + message.arq.turnaround, sender, self.over, (sender, heard, None))
            return
        start = now + settings.ack.delay
        end = start + settings.ack.airtime
        receiver = self._air.senders[message.links[0].dst]
        ack = None
        if heard and receiver.until <= start + rounding(start):
            begin = max(start, receiver.until)
            ack = self._air.short_frame(receiver.device, sender.device, begin, end, message.latest)
        self._air.schedule(end, sender, self.over, (sender, heard, ack))

    def over(self, what: tuple[Sender, bool, Transmission | None]) -> None:
        """Continue with the next fragment, or repeat this one."""
        sender, acknowledged, ack = what
        if self._settings.ack is not None:
            acknowledged = ack is not None and self._air.arrived(ack, self._settings.ack.size)
        self.settle(sender, acknowledged=acknowledged)

    def settle(self, sender: Sender, *, acknowledged: bool) -> None:
        """Continue, as the sender knows whether its frame is acknowledged."""
        sender.ready = self._air.clock.now + self._settings.spacing
        message = sender.waiting[0]
        assert message.arq is not None
        assert message.mode is not None
        if message.cut:
            self._air.finish(sender, message.cut, acknowledged=False)
            return
        if message.asked:  # and got no answer: no fault of its rate
            message.asked = False
        else:
            self._rates.report(sender.device, message.links[0].dst, message.mode, acknowledged)
        if message.burst is not None:
            self._burst_over(sender, message, acknowledged)
            return
        if acknowledged:
            message.done += 1
            message.heard = False
            sender.failures = 0
            if message.done == message.frames:
                self._air.finish(sender, "", acknowledged=message.known)
                return
        else:
            sender.failures += 1
            arq = message.arq
            if sender.failures >= arq.most_tries or self._is_late(sender, message):
                self._give_up_frame(sender, message)
                return
        self._air.next_frame(sender)

    @staticmethod
    def _is_late(sender: Sender, message: Outgoing) -> bool:
        """Add the backoff of a retry to when its sender is ready, and tell whether that is too late."""
        arq = message.arq
        assert arq is not None
        again = sender.ready + arq.backoff * arq.growth ** (sender.failures - 1)
        if arq.timeout is not None and again > message.began + arq.timeout + rounding(again):
            return True
        sender.ready = again
        return False

    def _burst_over(self, sender: Sender, message: Outgoing, acknowledged: bool) -> None:
        """Continue after frames that were sent together: with those that are left, and new ones."""
        arq, burst = message.arq, message.burst
        assert arq is not None
        sender.failures = 0 if acknowledged else sender.failures + 1
        late = not acknowledged and self._is_late(sender, message)
        given_up = burst.over(acknowledged, 0 if late else arq.most_tries)
        missed = [frame for frame in given_up if frame not in burst.heard]
        for frame in missed:
            message.missed(0, frame, "retries")
        message.done = burst.first
        message.known = message.known and not given_up
        if missed and not message.useful_in_part:
            self._air.finish(sender, "retries", acknowledged=False)
        elif message.done == message.frames:
            self._air.finish(sender, "", acknowledged=message.known)
        else:
            sender.failures = 0 if given_up else sender.failures
            self._air.next_frame(sender)

    def _give_up_frame(self, sender: Sender, message: Outgoing) -> None:
        """Stop repeating a frame; the receiver may have it nevertheless, if only acknowledgments were lost."""
        if not message.heard:
            message.missed(0, message.done, "retries")
        message.known = False
        if message.useful_in_part or (message.heard and message.done == message.frames - 1):
            self._air.frames_over(sender, message, 1)
        else:
            self._air.finish(sender, "retries", acknowledged=False)
