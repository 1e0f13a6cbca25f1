"""Messages over emulated links: judged when sent, put into inboxes on arrival.

    device.broadcast(m) -> encode once -> for each link: judge -> calendar -> inbox   <- you are here
                  (on shared air: judged when its transmission ends)

All receivers of a broadcast share its bytes and one read-only message: decoded at the first arrival, or what was
sent, where that is numbers and text alone. A model of 800 kB to 99 neighbors is copied once, or not at all if its
array is constant.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from heapq import heappush

from p2pl_async.air.airs import AnyAir, SeveralAirs
from p2pl_async.clock import VirtualClock
from p2pl_async.errors import InvariantError, RemoteError
from p2pl_async.hardware.downtime import ABSENT, BATTERY, CRASHED, Downtime
from p2pl_async.hardware.meter import Meter
from p2pl_async.link import Link, Verdict
from p2pl_async.link.verdict import UNDER_WAY
from p2pl_async.messages import DeviceId, Message
from p2pl_async.trace import Record, Trace
from p2pl_async.transport.checks import check_air_time, check_fates, no_link
from p2pl_async.transport.inbox import Inbox
from p2pl_async.transport.line import Line
from p2pl_async.transport.path import Encoded, Path
from p2pl_async.transport.wire import SharedBytes, decode, encode_and_read, head_size

_DEAF = frozenset(("outage", "queue", ABSENT, CRASHED, BATTERY))  # causes of loss that cost the receiver no energy


class EmulatedTransport:
    """Carries messages between devices over emulated links, in virtual time.

    Args:
        clock: its calendar takes the arrivals.
        out_neighbors: for each device, the devices that it can send to, in order of id.
        make_link: returns the link from one device to another; called once per link, at its
            first message.
        trace: takes a record of every message on every link.
        make_air: returns the medium that devices share, given a function that finds the link from one
            device to another; None if every link is dedicated.
        downtimes: for each device, when it is down and loses arriving messages; never by default.
        meter: measures the energy of each radio, if links are dedicated.
        inbox: unread messages that a device keeps; None for all.

    Attributes:
        captured: how many bytes of each message its record takes along; it can be set until the first one.
    """

    def __init__(
        self,
        clock: VirtualClock,
        out_neighbors: Sequence[Sequence[DeviceId]],
        make_link: Callable[[DeviceId, DeviceId], Link],
        trace: Trace,
        make_air: Callable[[Callable[[DeviceId, DeviceId], Link]], AnyAir] | None = None,
        downtimes: Sequence[Downtime] | None = None,
        meter: Meter | None = None,
        inbox: int | None = None,
    ) -> None:
        self.trace = trace
        self.captured = 0
        self._clock = clock
        self.out_neighbors = out_neighbors  # of the links
        self._out_sets = [frozenset(neighbors) for neighbors in out_neighbors]
        self._make_link = make_link
        self._downtimes = downtimes
        self._meter = meter
        self._hardware = downtimes is not None or meter is not None  # decides about messages, or measures them
        self._some_empty = False  # whether any device's battery is
        for downtime in downtimes or ():
            downtime.on_end.append(self._on_empty)
        self._inboxes = [Inbox(inbox, clock.pause) for _ in out_neighbors]
        self._paths: list[dict[DeviceId, Path]] = [{} for _ in out_neighbors]
        # On shared air, to whom each device sent last, and over which links.
        self._latest: list[tuple[Sequence[DeviceId], list[Path], tuple[Link, ...]] | None] = [None] * len(out_neighbors)
        self._numbers = [0] * len(out_neighbors)
        self._lives = [0] * len(out_neighbors)  # of each device: how often it has crashed
        self._alarms = 0
        self.cut: set[tuple[DeviceId, DeviceId, int]] = set()  # messages lost after all, by an empty battery
        self._unfinished: set[tuple[DeviceId, DeviceId, int]] = set()
        self._backs: dict[tuple[DeviceId, DeviceId], Link] = {}
        self.air = None if make_air is None else make_air(self._link)
        self._takes = self.air.takes if isinstance(self.air, SeveralAirs) else None  # which links; None: all
        clock.goes_on = self.air is not None

    def inbox(self, device: DeviceId) -> Inbox:
        """Return the inbox of a device."""
        return self._inboxes[device]

    def send(self, source: DeviceId, targets: Sequence[DeviceId], message: Message) -> None:
        """Encode the message once and send it to each target; returns at once.

        Raises:
            ProtocolError: if there is no link to a target, or the message can't be encoded.
        """
        number = self._numbers[source]
        self._numbers[source] = number + 1
        sent = self._clock.now
        data, read = encode_and_read(message, source, number, sent)
        needed = head_size(data) if message.partial else None
        self._carry(source, targets, Encoded(data, sent, number, message.tag, needed, read))

    def send_bytes(
        self, source: DeviceId, targets: Sequence[DeviceId], data: bytes | SharedBytes, number: int, kind: str
    ) -> None:
        """Send encoded bytes; receivers check whether they are a message.

        Args:
            source: the sender.
            targets: the receivers.
            data: the bytes.
            number: the sender's count of its messages.
            kind: the message's tag.
        """
        self._carry(source, targets, Encoded(data, self._clock.now, number, kind))

    def _carry(self, source: DeviceId, targets: Sequence[DeviceId], encoded: Encoded) -> None:
        """Send what is encoded over the links to the targets."""
        size, needed, paths = encoded.size, encoded.needed, self._paths[source]
        if self.air is not None:
            targets, latest = tuple(targets), self._latest[source]
            if latest is None or latest[0] != targets:
                shared = targets if self._takes is None else [each for each in targets if self._takes(source, each)]
                found = [paths.get(target) or self._path(source, target) for target in shared]
                latest = self._latest[source] = targets, found, tuple(path.link for path in found)
            _, found, links = latest
            if found:
                self.trace.undecided += len(found)
                self.air.send(source, links, size, self._decided, (encoded, found), needed, self._reached)
            if self._takes is None:
                return
            targets = [target for target in targets if not self._takes(source, target)]
        for target in targets:
            path = paths.get(target) or self._path(source, target)
            if path.line is None:
                self._settle(path, encoded, path.link.judge(size, encoded.sent, needed))
            else:
                self.trace.undecided += 1
                path.line.add((path, encoded), size, needed)

    def _reached(self, token: _Sending, places: Sequence[int], verdicts: Sequence[Verdict]) -> Sequence[Verdict]:
        """Schedule the arrivals of a message that got over the shared air, at some of its receivers."""
        encoded, paths = token
        now, may_crash, found = self._clock.now, self._downtimes is not None, []
        for k, verdict in zip(places, verdicts, strict=True):
            path = paths[k]
            if may_crash:
                verdict = self._between_crashes(path, now, verdict)
            if verdict.arrival != math.inf:
                self._schedule(path, encoded, now, verdict)
            found.append(verdict)
        return found

    def _decided(self, token: _Sending, places: Sequence[int], verdicts: Sequence[Verdict]) -> None:
        """Take the verdicts on a message over the shared air, at some of its receivers."""
        encoded, paths = token
        self.trace.undecided -= len(places)
        for k, verdict in zip(places, verdicts, strict=True):
            self._record(paths[k], encoded, verdict)

    def _left_line(self, token: tuple[Path, Encoded], verdict: Verdict) -> None:
        """Take the verdict on a message that had to wait in line."""
        self.trace.undecided -= 1
        self._settle(*token, verdict)

    def _settle(self, path: Path, encoded: Encoded, verdict: Verdict) -> Verdict:
        """Record the fate of a message on a dedicated link, and schedule its arrival; return the verdict that holds.

        All in one: with calls of `_record` and `_schedule` a hop takes 0.5 µs more.
        """
        src, dst, sent, left = path.src, path.dst, encoded.sent, path.link.sending_until
        if self._hardware:
            verdict = self._of_hardware(path, left, verdict)
        arrival, air_seconds = verdict.arrival, verdict.air_seconds
        path.sent += 1
        if verdict.acknowledged:
            path.acknowledged += 1
        if air_seconds:
            path.air_seconds += air_seconds
        start = encoded.start(self.captured) if self.captured else b""
        # Naming the fields takes three times as long.
        record = _make(Record, (sent, src, dst, encoded.number, encoded.kind, encoded.size, verdict, start))
        self.trace.add(record, self._clock.now)
        if arrival == math.inf:
            self._fail(path, encoded, verdict.cause)
            return verdict
        # The tolerance is for rounding: air time is a sum over many packets.
        if arrival * (1 + 1e-9) < sent + air_seconds and not path.link.sends_on:
            raise InvariantError(
                f"message {encoded.number} of device {src} reaches {dst} at {arrival} s, sooner than it can be sent: "
                f"{sent} s and {air_seconds} s on the air"
            )
        what = path, encoded, left, verdict
        heappush(self._clock.calendar, (arrival, dst, src, 2 * encoded.number, self._arrive, what))
        if verdict.copy != math.inf:
            self._clock.schedule(verdict.copy, dst, src, 2 * encoded.number + 1, self._arrive_again, what)
        return verdict

    def _fail(self, path: Path, encoded: Encoded, cause: str) -> None:
        """Count a message that doesn't arrive; without a cause, as the run has ended."""
        if cause:
            path.lose(cause)
        else:
            self._unfinished.add((path.src, path.dst, encoded.number))

    def _of_hardware(self, path: Path, left: float, verdict: Verdict) -> Verdict:
        """Return the fate of a message between devices that may crash, and measure the energy of its way."""
        if self._downtimes is not None and verdict.arrival != math.inf:
            verdict = self._between_crashes(path, left, verdict)
        if self._meter is not None and verdict.air_seconds:
            heard = verdict.cause not in _DEAF
            self._meter.on_link(path.src, path.dst, left - verdict.air_seconds, left, heard=heard)
        return verdict

    def _record(self, path: Path, encoded: Encoded, verdict: Verdict) -> None:
        """Record the fate of a message over the shared air on one link."""
        path.sent += 1
        path.acknowledged += verdict.acknowledged
        path.air_seconds += verdict.air_seconds
        start = encoded.start(self.captured) if self.captured else b""
        number, kind, size = encoded.number, encoded.kind, encoded.size
        record = _make(Record, (encoded.sent, path.src, path.dst, number, kind, size, verdict, start))
        self.trace.add(record, self._clock.now)
        if verdict.arrival == math.inf:
            self._fail(path, encoded, verdict.cause)

    def _schedule(self, path: Path, encoded: Encoded, left: float, verdict: Verdict) -> None:
        """Schedule the arrival of a message that has left the sender by the instant `left`, and of its second copy."""
        schedule, number, arrival = self._clock.schedule, encoded.number, (path, encoded, left, verdict)
        schedule(verdict.arrival, path.dst, path.src, 2 * number, self._arrive, arrival)
        if verdict.copy != math.inf:
            schedule(verdict.copy, path.dst, path.src, 2 * number + 1, self._arrive_again, arrival)

    def schedule(self, source: DeviceId, at: float, call: Callable[[object], object]) -> None:
        """Have `call(None)` run at the instant `at`, unless the device crashes before."""
        self._alarms += 1
        self._clock.schedule(at, source, -3, self._alarms, self._ring, (source, self._lives[source], call))

    def sleep_until(self, device: DeviceId, at: float) -> Awaitable[None]:
        """Wait until the instant `at`, in a task of a device."""
        return self._clock.sleep_until(at, device)

    def _ring(self, alarm: tuple[DeviceId, int, Callable[[object], object]]) -> None:
        device, life, call = alarm
        if life == self._lives[device]:
            self._clock.pause()
            call(None)

    def crash(self, device: DeviceId, cause: str) -> None:
        """Lose the messages in a device's memory: those not yet read, and those waiting for a shared medium."""
        self._lives[device] += 1
        self._inboxes[device].clear()
        if self.air is not None:
            self.air.crash(device, cause)

    def finish(self) -> None:
        """Record what is still on its way into or through the air when a run ends."""
        if self.air is not None:
            self.air.abandon(UNDER_WAY)
        for path in self.paths():
            if path.line is not None:
                path.line.abandon(UNDER_WAY)

    def check(self) -> None:
        """Check that every message has one fate, and that no radio was on the air for longer than the run.

        Raises:
            InvariantError: if not; names the first offender.
        """
        check_fates(self.trace, self.paths(), EmulatedTransport.in_flight(self))
        if self.air is not None:
            check_air_time(self.air, self._clock.now)

    def is_sending(self, source: DeviceId, target: DeviceId) -> bool:
        """Tell whether the source's radio is still busy with messages for the target."""
        if self.air is not None and (self._takes is None or self._takes(source, target)):
            return self.air.is_sending(source, target)
        path = self._paths[source].get(target)
        return path is not None and path.link.sending_until > self._clock.now

    def paths(self) -> list[Path]:
        """Return every link that was used, in order of source and destination."""
        return [paths[dst] for paths in self._paths for dst in sorted(paths)]

    def in_flight(self) -> set[tuple[DeviceId, DeviceId, int]]:
        """Return the messages under way, each as (source, destination, the sender's number)."""
        return {
            (source, target, number // 2)
            for _, target, source, number, call, _ in self._clock.calendar
            if call == self._arrive
        } | self._unfinished

    def on_the_way(self) -> list[Encoded]:
        """Return the messages that will arrive, once for each receiver; second copies are left out."""
        return [what[1] for *_, call, what in self._clock.calendar if call == self._arrive]

    def _link(self, source: DeviceId, target: DeviceId) -> Link:
        """Return the link from one device to another, also where only acknowledgments take it."""
        path = self._paths[source].get(target)
        if path is not None:
            return path.link
        if target in self._out_sets[source]:
            return self._path(source, target).link
        if (source, target) not in self._backs:
            self._backs[source, target] = self._make_link(source, target)
        return self._backs[source, target]

    def _path(self, source: DeviceId, target: DeviceId) -> Path:
        if target not in self._out_sets[source]:
            raise no_link(source, target, self.out_neighbors[source])
        path = Path(source, target, self._make_link(source, target), self._inboxes[target])
        dedicated = self.air is None or (self._takes is not None and not self._takes(source, target))
        if path.link.drops_head and dedicated:
            path.line = Line(path.link, self._clock, self._left_line)
        self._paths[source][target] = path
        return path

    def _between_crashes(self, path: Path, left: float, verdict: Verdict) -> Verdict:
        """Return the fate of a message that its link carries, between devices that crash.

        A message that waits at a sender that crashes before the instant `left` is lost with the sender's memory;
        one that arrives at a receiver that is down is lost, and so is a second copy.
        """
        assert self._downtimes is not None
        sender, receiver = self._downtimes[path.src], self._downtimes[path.dst]
        if verdict.copy != math.inf and receiver.at(verdict.copy).value:
            verdict = verdict._replace(copy=math.inf)
        stay = sender.next(self._clock.now) if left > self._clock.now else None
        cause = receiver.at(verdict.arrival).value if stay is None or stay.start >= left else stay.cause
        if not cause:
            return verdict
        return verdict._replace(arrival=math.inf, cause=cause, acknowledged=False, copy=math.inf)

    def _on_empty(self) -> None:
        self._some_empty = True

    def _is_cut(self, path: Path, left: float) -> bool:
        """Tell whether a battery that has run out meanwhile cuts off a message that was to leave by `left`."""
        assert self._downtimes is not None
        sender, receiver = self._downtimes[path.src], self._downtimes[path.dst]
        return BATTERY in (sender.at(left).value, receiver.at(self._clock.now).value)

    def _arrive(self, arrival: _Arrival) -> None:
        path, encoded, left, verdict = arrival
        if self._some_empty and self._is_cut(path, left):
            self._cut_off(path, encoded)
            return
        trace = self.trace
        if verdict.missing:
            path.partial += 1
            trace.partial += 1
        else:
            now = path.last = self._clock.now
            if not path.delivered:
                path.first = now
            path.delivered += 1
            path.delay += now - encoded.sent
            trace.delivered += 1
        if verdict.corrupted:
            trace.corrupted += 1
        self._hand_over(path, encoded, verdict)

    def _cut_off(self, path: Path, encoded: Encoded) -> None:
        """Take back that a message arrives, as a battery is empty."""
        path.lose(BATTERY)
        self.trace.counts.lost[BATTERY] += 1
        self.cut.add((path.src, path.dst, encoded.number))

    def _arrive_again(self, arrival: _Arrival) -> None:
        path, encoded, left, verdict = arrival
        if not self._some_empty or not self._is_cut(path, left):
            self.trace.duplicates += 1
            self._hand_over(path, encoded, verdict)

    def _hand_over(self, path: Path, encoded: Encoded, verdict: Verdict) -> None:
        """Put a message that has arrived into the inbox of its receiver."""
        message = encoded.message
        if message is None or verdict.missing or verdict.corrupted:
            message = self._read(path, encoded, verdict)
            if message is None:
                return
        if verdict.signal is not None:
            message = path.as_heard(message, verdict.signal, encoded)
        if not path.inbox.put(message):
            self.trace.unread += 1

    def _read(self, path: Path, encoded: Encoded, verdict: Verdict) -> Message | None:
        """Return what arrived, as the receiver reads it; None if it isn't a message."""
        damaged = verdict.missing or verdict.corrupted  # each receiver lacks other parts
        try:
            message = decode(encoded.data, encoded.sent, missing=verdict.missing, corrupted=verdict.corrupted)
            if message.sender != path.src:  # a link knows which device is at its other end
                raise RemoteError(f"device {path.src} sent a message in the name of {message.sender}")
        except RemoteError:
            self.trace.malformed += 1
            return None
        if not damaged:
            encoded.message = message
        return message


_make = tuple.__new__
_Sending = tuple[Encoded, list[Path]]
"""A message over shared air: the bytes, and the links to all of its receivers."""
_Arrival = tuple[Path, Encoded, float, Verdict]
"""An arrival: the link, the bytes, the instant at which they had left the sender, and the link's verdict."""
