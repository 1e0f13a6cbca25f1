"""Connections of Bluetooth LE: pairs of devices meet every interval, and hop from channel to channel.

    anchor, of the n-th event                      the event goes on while either has more, and time is left
    |central's packet| IFS |peripheral's packet| IFS |central's| IFS |peripheral's|
     data or empty          data or empty, acknowledges the one before

An event is on one channel. Who has nothing to send answers with an empty packet. A packet that isn't received ends
the event; what it carried is repeated in the next, until the supervision timeout. An event in which neither has
anything to send is left out: its energy is counted (`idle_shares`), but it disturbs no other.

Source: Bluetooth Core Specification 5.4, volume 6, part B, 4.5.
"""

from __future__ import annotations

import math
from typing import Protocol

from p2pl_async.air.access import Access, AirView
from p2pl_async.air.listening import Listening
from p2pl_async.air.outgoing import Outgoing
from p2pl_async.air.settings import BLE_CHANNELS, BleConnections
from p2pl_async.air.transmission import Sender, Transmission
from p2pl_async.air.tuning import TunedByAccess
from p2pl_async.basics.randomness import stream
from p2pl_async.basics.timeline import rounding
from p2pl_async.hardware.energy import Doze
from p2pl_async.messages import DeviceId

_HOPS = (5, 16)  # least and most hop of channel selection algorithm 1


class PacedAir(AirView, Protocol):
    """What media that say when frames are sent need of the air."""

    listening: Listening

    def promote(self, sender: Sender, message: Outgoing) -> None:
        """Put a message before the others of its sender, and choose how its frame is sent."""

    def short_frame(
        self, src: DeviceId, dst: DeviceId, start: float, end: float, heard: Transmission | None = None
    ) -> Transmission:
        """Put a frame without content on the air, from one device to another."""

    def arrived(self, frame: Transmission, size: int, *, awaited: bool = True) -> bool:
        """Tell whether a short frame, which ends now, was received."""

    def drop(self, sender: Sender, message: Outgoing, cause: str) -> None:
        """Give up a message that waits."""

    def frames_over(self, sender: Sender, message: Outgoing, count: int) -> None:
        """Continue after so many frames that are finished."""

    def await_ack(self, sender: Sender, message: Outgoing, *, heard: bool) -> None:
        """Have the receiver acknowledge a frame that ends now, if it has heard it."""

    def settle(self, sender: Sender, *, acknowledged: bool) -> None:
        """Go on after the sender's frame has been acknowledged or not."""


class Connection:
    """The connection of two devices.

    Args:
        pair: the devices, in ascending order.
        settings: of the medium.
        seed: of the run; what is drawn belongs to the pair.
    """

    __slots__ = ("central", "first", "hop", "next", "pending", "peripheral", "silent", "skipped", "start")

    def __init__(self, pair: tuple[DeviceId, DeviceId], settings: BleConnections, seed: int) -> None:
        random = stream(seed, "connection", *pair)
        swapped, anchor, start = random.random(3).tolist()
        self.central, self.peripheral = pair if swapped < 0.5 else pair[::-1]
        self.first = anchor * settings.interval  # s; anchor of event 0
        self.start = int(start * settings.data_channels)  # channel of event 0
        self.hop = int(random.integers(_HOPS[0], _HOPS[1] + 1))
        self.next: int | None = None  # number of the event that is due; None: neither has anything to send
        self.pending: dict[DeviceId, Outgoing] = {}  # end -> message of which it doesn't know whether a frame arrived
        self.silent: dict[DeviceId, float] = {}  # end -> its first event since it heard the other
        self.skipped = 0  # events that had to be left out since the last that took place


class ConnectionAccess(Access):
    """The connections of all pairs of devices, made when the first message needs them.

    A device is in one event at a time. Of two that overlap, the one that had to be left out more often before takes
    place, else the first. A later one ends an event only between two pairs of packets.

    Args:
        air: the medium.
        settings: of the medium.
        seed: of the run.
        tuning: the channels of all radios.
    """

    paced = continues = True

    def __init__(self, air: PacedAir, settings: BleConnections, seed: int, tuning: TunedByAccess) -> None:
        super().__init__(air)
        self._on: PacedAir = air
        self._settings = settings
        self._seed = seed
        self._tuning = tuning
        assert settings.ack is not None
        self._ifs, self._empty, self._bytes = settings.ack.delay, settings.ack.airtime, settings.ack.size
        self._known: dict[tuple[DeviceId, DeviceId], Connection] = {}
        self._due: list[list[Connection]] = [[] for _ in air.senders]  # of each device, those with an event to come
        self._event: list[_Event | None] = [None] * len(air.senders)  # that it takes part in

    def accepted(self, sender: Sender, message: Outgoing) -> None:
        self._plan(self._between(sender.device, message.links[0].dst))

    def ended(self, transmission: Transmission) -> None:
        event = self._event[transmission.src]
        if transmission.cut and event is not None:  # its sender has crashed
            self._close(event)

    def frame_over(self, sender: Sender, *, heard: bool) -> None:
        event, message = self._event[sender.device], sender.waiting[0]
        assert event is not None
        if message.arq is None:
            self._on.frames_over(sender, message, 1)
        self._packet_over(event, heard=heard)

    def _between(self, one: DeviceId, other: DeviceId) -> Connection:
        pair = (one, other) if one < other else (other, one)
        found = self._known.get(pair)
        if found is None:
            found = self._known[pair] = Connection(pair, self._settings, self._seed)
        return found

    # When events take place

    def _plan(self, connection: Connection, after: int = -1) -> None:
        """Schedule the next event in which either end has something to send, the first after that number."""
        now, settings = self.air.clock.now, self._settings
        ready = {end: self._ready(connection, end) for end in (connection.central, connection.peripheral)}
        numbers = []
        for end, at in ready.items():
            if at == math.inf:
                continue
            number = max(after + 1, math.ceil((max(at, now) - connection.first - rounding(now)) / settings.interval))
            if end == connection.central:  # the peripheral, with nothing to send, listens now and then
                number += -number % (settings.latency + 1)
            numbers.append(number)
        ends = (self._due[connection.central], self._due[connection.peripheral])
        if not numbers:
            connection.next = None
            connection.silent.clear()
            for due in ends:
                if connection in due:
                    due.remove(connection)
            return
        if connection.next is None:
            for due in ends:
                due.append(connection)
        number = min(numbers)
        if connection.next is None or connection.next <= after or number < connection.next:
            connection.next = number
            at = max(now, self._anchor(connection))
            self.air.schedule(at, self.air.senders[connection.central], self._begin, (connection, number))

    def _anchor(self, connection: Connection) -> float:
        assert connection.next is not None
        anchor: float = connection.first + connection.next * self._settings.interval
        return anchor

    def _ready(self, connection: Connection, end: DeviceId) -> float:
        """Return the first instant at which a device has something to send to its peer; math.inf if it hasn't."""
        peer = connection.peripheral if end == connection.central else connection.central
        now = self.air.clock.now
        return min((message.ready(now) for message in self._waiting(end, peer)), default=math.inf)

    def _waiting(self, src: DeviceId, dst: DeviceId) -> list[Outgoing]:
        return [message for message in self.air.senders[src].waiting if message.links[0].dst == dst]

    def _begin(self, what: tuple[Connection, int]) -> None:
        """Begin an event, unless one of the two is in another, or has to yield."""
        connection, number = what
        if connection.next != number:
            return
        ends = (connection.central, connection.peripheral)
        if all(self._next_message(*way) is None for way in (ends, ends[::-1])):
            self._plan(connection, number)
            return
        if any(self._event[end] is not None for end in ends) or self._yields(connection):
            connection.skipped += 1
            self._plan(connection, number)
            return
        connection.skipped = 0
        event = _Event(connection, number, self.air.clock.now, self._limit(connection))
        settings = self._settings
        hopped = (connection.start + number * connection.hop) % BLE_CHANNELS
        channel = hopped if hopped < settings.data_channels else hopped % settings.data_channels
        for end in ends:
            connection.silent.setdefault(end, self.air.clock.now)
            self._event[end] = event
            self._tuning.tune(end, channel)
        self._send(event)

    def _others(self, connection: Connection) -> list[Connection]:
        """Return the other connections of both ends that have an event to come."""
        ends = (connection.central, connection.peripheral)
        return [other for end in ends for other in self._due[end] if other is not connection]

    def _yields(self, connection: Connection) -> bool:
        """Tell whether a connection that was left out more often has an event before two packets could be over."""
        soon = self.air.clock.now + 2 * self._ifs + self._longest(connection)
        return any(
            other.skipped > connection.skipped and self._anchor(other) < soon for other in self._others(connection)
        )

    def _longest(self, connection: Connection) -> float:
        ends = (connection.central, connection.peripheral)
        return sum(self._needs(end, peer) for end, peer in (ends, ends[::-1]))

    def _limit(self, connection: Connection) -> float:
        """Return when an event must be over: before the next one of either end."""
        soonest = [self._anchor(other) for other in self._others(connection)]
        return min([*soonest, self._anchor(connection) + self._settings.interval]) - self._ifs

    # What happens in an event

    def _send(self, event: _Event) -> None:
        """Send the next packet of an event, now."""
        src, dst = event.way
        sender, now = self.air.senders[src], self.air.clock.now
        message = self._next_message(src, dst)
        event.message = message
        if message is not None:
            self._on.promote(sender, message)
            sender.idle = False
            self.air.transmit(sender)
            return
        end = now + self._empty
        event.empty = self._on.short_frame(src, dst, now, end)
        self.air.schedule(end, sender, self._empty_over, event)

    def _next_message(self, src: DeviceId, dst: DeviceId) -> Outgoing | None:
        """Return the message of which a device sends a frame to its peer now; drop those that are too old."""
        sender, now, queue = self.air.senders[src], self.air.clock.now, self._settings.queue
        for message in self._waiting(src, dst):
            old = queue is not None and queue.lifetime is not None and message.is_older(queue.lifetime, now)
            if message.cut:
                self._on.drop(sender, message, message.cut)
            elif old and not message.done and not message.failures:
                self._on.drop(sender, message, "expired")
            elif message.ready(now) <= now:
                return message
        return None

    def _needs(self, src: DeviceId, dst: DeviceId) -> float:
        """Return how long a device's next packet to its peer takes."""
        message = self._next_message(src, dst)
        if message is None:
            return self._empty
        sender = self.air.senders[src]
        self._on.promote(sender, message)
        return message.seconds(message.done, 1)

    def _empty_over(self, event: _Event) -> None:
        frame = event.empty
        assert frame is not None
        event.empty = None
        if event.closed:
            return
        self._packet_over(event, heard=self._on.arrived(frame, self._bytes))

    def _packet_over(self, event: _Event, *, heard: bool) -> None:
        """Go on after a packet: with the peer's, which acknowledges it, or with the end of the event."""
        src, dst = event.way
        if event.closed:
            return
        sent, event.message = event.message, None
        if sent is not None and sent.arq is not None:
            sent.heard = sent.heard or heard
            event.connection.pending[src] = sent
        if not heard:
            self._close(event)
            return
        event.connection.silent.pop(dst, None)
        self._learn(event.connection, dst)
        event.turn()
        now = self.air.clock.now
        if event.way[0] == event.connection.central and not self._goes_on(event, now + self._ifs):
            self._close(event)
            return
        self.air.schedule(now + self._ifs, self.air.senders[event.way[0]], self._go_on, event)

    def _goes_on(self, event: _Event, start: float) -> bool:
        """Tell whether two more packets follow: something is left to send or acknowledge, and there is time."""
        ends = event.way
        if not event.connection.pending and all(self._next_message(*way) is None for way in (ends, ends[::-1])):
            return False
        return start + self._longest(event.connection) + self._ifs <= event.limit + rounding(start)

    def _go_on(self, event: _Event) -> None:
        if not event.closed:
            self._send(event)

    def _close(self, event: _Event) -> None:
        """End an event. The central sends a frame without an answer again; the peripheral awaits its next packet."""
        event.closed = True
        connection = event.connection
        for end in (connection.central, connection.peripheral):
            self._on.listening.listened(end, event.start, self.air.clock.now)
            self._event[end] = None
            self._tuning.tune(end, None)
            self.air.senders[end].idle = True
        self._settle(connection, connection.central, acknowledged=False)
        now = self.air.clock.now
        if any(now - since >= self._settings.supervision for since in connection.silent.values()):
            self._lose(connection)
        self._plan(connection, event.number)

    def _lose(self, connection: Connection) -> None:
        """Drop all that waits for a connection that is lost."""
        ends = (connection.central, connection.peripheral)
        for src, dst in (ends, ends[::-1]):
            for message in self._waiting(src, dst):
                if not message.cut:  # else its sender has just crashed, which is its cause
                    self._on.drop(self.air.senders[src], message, "supervision")
        connection.silent.clear()
        connection.pending.clear()

    def _learn(self, connection: Connection, end: DeviceId) -> None:
        """Tell a device whether its frame arrived: it has received a packet of the other."""
        self.air.senders[end].idle = True
        message = connection.pending.get(end)
        if message is not None:
            self._settle(connection, end, acknowledged=message.heard)

    def _settle(self, connection: Connection, end: DeviceId, *, acknowledged: bool) -> None:
        """Go on after a device's frame, unless it is none of its business any more."""
        sender, message = self.air.senders[end], connection.pending.pop(end, None)
        if message is not None and message in sender.waiting:
            self._on.promote(sender, message)
            self._on.settle(sender, acknowledged=acknowledged)


def idle_shares(pair: tuple[DeviceId, DeviceId], settings: BleConnections, seed: int) -> dict[DeviceId, Doze]:
    """Return the shares of time that an idle connection costs each end: an empty packet each way in every event.

    The peripheral sleeps through as many events as it may.
    """
    assert settings.ack is not None
    one, empty = Connection(pair, settings, seed), settings.ack.airtime
    often = settings.interval, settings.interval * (settings.latency + 1)
    return {
        end: Doze(empty / every, (empty + settings.ack.delay) / every)
        for end, every in zip((one.central, one.peripheral), often, strict=True)
    }


class _Event:
    """A connection event that takes place.

    Args:
        connection: whose it is.
        number: of the event.
        start: its beginning.
        limit: when it must be over, from the second pair of packets on.
    """

    __slots__ = ("closed", "connection", "empty", "limit", "message", "number", "start", "way")

    def __init__(self, connection: Connection, number: int, start: float, limit: float) -> None:
        self.connection = connection
        self.number = number
        self.limit = limit
        self.start = start
        self.way = (connection.central, connection.peripheral)  # sender and receiver of the current packet
        self.message: Outgoing | None = None  # that the current packet carries a frame of
        self.empty: Transmission | None = None  # the current packet, if it is empty
        self.closed = False

    def turn(self) -> None:
        """Make the receiver the next sender."""
        self.way = self.way[::-1]
