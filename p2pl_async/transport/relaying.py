"""Messages that devices pass on, hop by hop, each hop over a link as any message.

    device.send -> Journey -> hop -> it arrives: for this device? -> inbox      <- you are here
                               ^         |
                               +---------+ and on, to whom it is for besides

A journey is over when no hop of it is under way. Then the fate of its message is recorded, once for each receiver; what
all its hops cost is charged to the first of them. Records of single hops count in the table of links alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from p2pl_async.air.airs import AnyAir
from p2pl_async.clock import VirtualClock
from p2pl_async.errors import InvariantError, RemoteError
from p2pl_async.hardware.downtime import BATTERY, Downtime
from p2pl_async.hardware.meter import Meter
from p2pl_async.link import Link, Signal, Verdict
from p2pl_async.link.verdict import UNDER_WAY
from p2pl_async.messages import DeviceId
from p2pl_async.relay.routes import Routes
from p2pl_async.trace import Record, Trace
from p2pl_async.transport.checks import no_link
from p2pl_async.transport.emulated import EmulatedTransport
from p2pl_async.transport.path import Encoded, Path
from p2pl_async.transport.wire import decode

NO_ROUTE = "no-route"  # of a message to a device to which no way leads, or one of too many hops


class Relaying(NamedTuple):
    """How the devices of a run pass messages on."""

    out_neighbors: Sequence[Sequence[DeviceId]]  # for each device, those that it can ever reach directly
    routes: Routes
    header: int  # bytes


class Journey(Encoded):
    """A message on its way to some devices, over others."""

    __slots__ = ("cost", "fates", "lost", "open", "source", "targets", "visited")

    def __init__(self, encoded: Encoded, source: DeviceId, targets: Sequence[int]) -> None:
        super().__init__(encoded.data, encoded.sent, encoded.number, encoded.kind, message=encoded.message)
        self.source = source
        self.targets = tuple(sorted(targets))
        self.open = 1  # what is left to happen: two for each hop, its record and its arrival
        self.visited = {source}
        self.fates: dict[DeviceId, Verdict] = {}
        self.lost = Verdict(cause=NO_ROUTE, path=(source,))  # of the hop that was lost last
        self.cost = Verdict()

    def charge(self, verdict: Verdict) -> None:
        """Add what a hop has cost."""
        self.cost = self.cost._replace(
            packets=self.cost.packets + verdict.packets,
            packets_lost=self.cost.packets_lost + verdict.packets_lost,
            air_bytes=self.cost.air_bytes + verdict.air_bytes,
            air_seconds=self.cost.air_seconds + verdict.air_seconds,
        )


class Hop(Encoded):
    """A message on its way from one device to those that it reaches directly."""

    __slots__ = ("corrupted", "duties", "heard", "journey", "way")

    def __init__(
        self,
        journey: Journey,
        now: float,
        number: int,
        header: int,
        way: tuple[DeviceId, ...],
        duties: dict[DeviceId, tuple[DeviceId, ...]],
        *,
        corrupted: bool,
    ) -> None:
        super().__init__(journey.data, now, number, journey.kind)
        self.size += header
        self.journey = journey
        self.way = way  # the devices that it has been at
        self.duties = duties  # receiver -> whom it is to get it to
        self.heard: set[DeviceId] = set()
        self.corrupted = corrupted


class RelayingTransport(EmulatedTransport):
    """Carries messages between devices that may be several hops apart.

    Args:
        clock: its calendar takes the arrivals.
        out_neighbors: for each device, the devices that it can send to, in order of id.
        make_link: returns the direct link from one device to another.
        trace: takes a record of every message to every receiver.
        make_air: as `EmulatedTransport`.
        downtimes: for each device, when it is down; it passes nothing on then.
        meter: measures the energy of each radio, if links are dedicated.
        inbox: unread messages that a device keeps; None for all.
        relaying: the direct links, and the ways over them.
    """

    def __init__(
        self,
        clock: VirtualClock,
        out_neighbors: Sequence[Sequence[DeviceId]],
        make_link: Callable[[DeviceId, DeviceId], Link],
        trace: Trace,
        make_air: Callable[[Callable[[DeviceId, DeviceId], Link]], AnyAir] | None,
        downtimes: Sequence[Downtime] | None,
        meter: Meter | None,
        inbox: int | None,
        relaying: Relaying,
    ) -> None:
        super().__init__(clock, relaying.out_neighbors, make_link, Trace(), make_air, downtimes, meter, inbox)
        self._whole = trace
        self._neighbors = out_neighbors
        self._routes = relaying.routes
        self._header = relaying.header
        self._hops = [0] * len(out_neighbors)  # of each device: hops that it has sent
        self._journeys: dict[tuple[DeviceId, int], Journey] = {}  # those that aren't over
        self._unreached: set[tuple[DeviceId, DeviceId, int]] = set()  # as the run ended

    def _carry(self, source: DeviceId, targets: Sequence[DeviceId], encoded: Encoded) -> None:
        for target in targets:
            if target not in self._neighbors[source]:
                raise no_link(source, target, self._neighbors[source])
        if targets:
            journey = Journey(encoded, source, targets)
            self._journeys[source, encoded.number] = journey
            self._whole.undecided += len(journey.targets)
            self._go_on(journey, (source,), journey.targets)
            self._step(journey)

    def is_sending(self, source: DeviceId, target: DeviceId) -> bool:
        onward = self._routes.onward((source,), (target,), self._clock.now)
        return any(super(RelayingTransport, self).is_sending(source, hop) for hop in onward.hops)

    def finish(self) -> None:
        super().finish()
        for journey in list(self._journeys.values()):
            self._close(journey, UNDER_WAY)

    def in_flight(self) -> set[tuple[DeviceId, DeviceId, int]]:
        return self._unreached | {
            (journey.source, target, journey.number)
            for journey in self._journeys.values()
            for target in journey.targets
            if target not in journey.fates
        }

    def on_the_way(self) -> list[Encoded]:
        open_ends = [(journey, target) for journey in self._journeys.values() for target in journey.targets]
        return [journey for journey, target in open_ends if target not in journey.fates]

    def check(self) -> None:
        super().check()
        trace = self._whole
        accounted = trace.delivered + trace.counts.n_lost + len(self.in_flight())
        if trace.sent != accounted:
            raise InvariantError(f"{trace.sent} messages sent over relays, {accounted} have a fate")

    # Hops

    def _go_on(
        self,
        journey: Journey,
        way: tuple[DeviceId, ...],
        targets: Collection[DeviceId],
        *,
        corrupted: bool = False,
    ) -> None:
        """Send a message on from the last device of a way."""
        device, now = way[-1], self._clock.now
        onward = self._routes.onward(way, targets, now)
        for target in onward.stranded:
            self._lose(journey, (target,), Verdict(cause=NO_ROUTE, path=way))
        if onward.hops:
            number = self._hops[device]
            self._hops[device] = number + 1
            journey.open += 2 * len(onward.hops)
            hop = Hop(journey, now, number, self._header, way, onward.hops, corrupted=corrupted)
            super()._carry(device, list(onward.hops), hop)

    def _settle(self, path: Path, encoded: Encoded, verdict: Verdict) -> Verdict:
        verdict = super()._settle(path, encoded, verdict)
        self._hop_decided(path, encoded, verdict)
        return verdict

    def _record(self, path: Path, encoded: Encoded, verdict: Verdict) -> None:
        super()._record(path, encoded, verdict)
        self._hop_decided(path, encoded, verdict)

    def _hop_decided(self, path: Path, encoded: Encoded, verdict: Verdict) -> None:
        """Take note of the fate of a hop."""
        assert isinstance(encoded, Hop)
        encoded.journey.charge(verdict)
        if verdict.cause:
            self._lose_hop(path, encoded, verdict.cause, verdict.signal)
        if verdict.cause or verdict.arrival < math.inf:  # else the run has ended
            self._step(encoded.journey)

    def _cut_off(self, path: Path, encoded: Encoded) -> None:
        path.lose(BATTERY)
        self.trace.counts.lost[BATTERY] += 1
        assert isinstance(encoded, Hop)
        self._lose_hop(path, encoded, BATTERY, None)

    def _hand_over(self, path: Path, encoded: Encoded, verdict: Verdict) -> None:
        assert isinstance(encoded, Hop)
        device, journey = path.dst, encoded.journey
        if device in encoded.heard:  # a second copy
            return
        encoded.heard.add(device)
        if not self._routes.floods or device not in journey.visited:
            journey.visited.add(device)
            way, targets = (*encoded.way, device), encoded.duties[device]
            spoiled = encoded.corrupted or verdict.corrupted
            if device in targets and device not in journey.fates:
                fate = Verdict(self._clock.now, corrupted=spoiled, signal=verdict.signal, path=way)
                self._deliver(path, journey, fate)
            self._go_on(journey, way, [target for target in targets if target != device], corrupted=spoiled)
        self._step(journey)

    def _deliver(self, path: Path, journey: Journey, verdict: Verdict) -> None:
        """Put a message into the inbox of the device that it has arrived at."""
        journey.fates[path.dst] = verdict
        self._whole.delivered += 1
        self._whole.corrupted += verdict.corrupted
        try:
            if verdict.corrupted:
                message = decode(journey.data, journey.sent, corrupted=True)
            else:
                message = journey.message or journey.read()
            if message.sender != journey.source:
                raise RemoteError(f"device {journey.source} sent a message in the name of {message.sender}")
        except RemoteError:
            self._whole.malformed += 1
            return
        if verdict.signal is not None:
            message = path.as_heard(message, verdict.signal, journey)
        self._whole.unread += not path.inbox.put(message)

    def _lose_hop(self, path: Path, hop: Hop, cause: str, signal: Signal | None) -> None:
        """Note that a hop was lost, and that nothing arrives any more by it."""
        self._lose(hop.journey, hop.duties[path.dst], Verdict(cause=cause, signal=signal, path=(*hop.way, path.dst)))
        self._step(hop.journey)

    def _lose(self, journey: Journey, targets: Collection[DeviceId], lost: Verdict) -> None:
        """Note the fate of a message for devices that it would have got to by a hop; a flood may find other ways."""
        journey.lost = lost
        if not self._routes.floods:
            journey.fates.update(dict.fromkeys(targets, lost))

    def _step(self, journey: Journey) -> None:
        """Take note that one thing has happened that a journey waited for."""
        journey.open -= 1
        if journey.open == 0:
            self._close(journey, journey.lost)

    def _close(self, journey: Journey, otherwise: Verdict) -> None:
        """Record the fate of a message at all of its receivers; `otherwise`: of those that it hasn't reached."""
        del self._journeys[journey.source, journey.number]
        cost = journey.cost
        for target in journey.targets:
            verdict = journey.fates.get(target, otherwise)
            if target == journey.targets[0]:
                verdict = verdict._replace(
                    packets=cost.packets,
                    packets_lost=cost.packets_lost,
                    air_bytes=cost.air_bytes,
                    air_seconds=cost.air_seconds,
                )
            if target not in journey.fates and not verdict.cause:
                self._unreached.add((journey.source, target, journey.number))
            self._whole.undecided -= 1
            size, number = len(journey.data), journey.number
            start = journey.start(self.captured) if self.captured else b""
            record = Record(journey.sent, journey.source, target, number, journey.kind, size, verdict, start)
            self._whole.add(record, self._clock.now)
