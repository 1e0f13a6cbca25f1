"""Recording: measurements, places, and records of the network if asked for, written while a run goes."""

from __future__ import annotations

import functools
import math
from collections import defaultdict, deque
from collections.abc import Collection
from pathlib import Path

from p2pl_async.clock import VirtualClock
from p2pl_async.experiment.measures import Total
from p2pl_async.hardware.downtime import BATTERY
from p2pl_async.link import Signal
from p2pl_async.messages import DeviceId, Message
from p2pl_async.radio.motion import Motion
from p2pl_async.results.table import (
    CHANNEL_COLUMNS,
    METRIC_COLUMNS,
    MIX_COLUMNS,
    PAYLOAD_COLUMNS,
    PLACE,
    POSITION_COLUMNS,
    SIGNAL_COLUMNS,
    TRACE_COLUMNS,
    WAY_COLUMNS,
    Table,
)
from p2pl_async.trace import Record

Key = tuple[DeviceId, DeviceId, int]
"""(source, destination, the sender's number) of a message on one link."""

_UNHEARD = Signal()  # of a message that never got on the air


class Recording:
    """The tables `metrics`, `trace`, `mixes` and `positions` of a run.

    Args:
        clock: of the run.
        folder: where they are written; None keeps them in memory.
        most_traced: messages, one for each link that a message is sent on, of which a trace is kept; none if there are
            more.
        payloads: whether it is kept how messages begin.
        signals: whether it is kept how receivers heard them: where there are radios or shared air.
        motion: of the devices; None if none moves.
        relays: whether it is kept over which devices messages went.
        channels: whether it is kept on which channel they were sent.

    Attributes:
        totals: metric -> count, sum and range of its values.
    """

    def __init__(
        self,
        clock: VirtualClock,
        folder: Path | None,
        *,
        most_traced: float,
        payloads: bool,
        signals: bool,
        motion: Motion | None = None,
        relays: bool = False,
        channels: bool = False,
    ) -> None:
        self._clock = clock
        self._motion = motion
        self.totals: dict[str, Total] = defaultdict(Total)
        self.metrics = Table(folder and folder / "metrics", METRIC_COLUMNS)
        self._signals = signals
        self._payloads = payloads
        self._relays = relays
        self._channels = channels
        columns = TRACE_COLUMNS | (SIGNAL_COLUMNS if signals else {}) | (CHANNEL_COLUMNS if channels else {})
        columns |= WAY_COLUMNS if relays else {}
        columns |= PAYLOAD_COLUMNS if payloads else {}
        self.trace = Table(folder and folder / "trace", columns) if most_traced else None
        self._folder = folder
        self.mixes: Table | None = None
        self._most, self._traced = most_traced, 0
        self.positions: Table | None = None
        if motion is not None:
            self.positions = Table(folder and folder / "positions", POSITION_COLUMNS, PLACE)
        self._undecided: deque[Record] = deque()

    def follow(self, interval: float) -> None:
        """Write where the devices are that move, now and after every `interval` seconds."""
        assert self.positions is not None
        assert self._motion is not None
        now = self._clock.now
        places, _ = self._motion.at(now)
        for device, place in enumerate(places.tolist()):
            if self._motion.tracks[device].moves:
                self.positions.add(now, device, *place)
        self._clock.observe(now + interval, functools.partial(self.follow, interval))

    def record(self, device: DeviceId, metric: str, value: float, at: float | None = None) -> None:
        """Write a measurement, with the time: now, or `at` an instant that has passed."""
        self.metrics.add(self._clock.now if at is None else at, device, metric, value)
        self.totals[metric].add(value)

    def use(self, device: DeviceId, message: Message) -> None:
        """Write that a message has entered a device's model, if messages are kept."""
        if self.trace is None:
            return
        if self.mixes is None:  # there is none of a run whose protocol tells nothing
            self.mixes = Table(self._folder and self._folder / "mixes", MIX_COLUMNS)
        self.mixes.add(self._clock.now, device, message.sender, message.number)

    def keep(self, record: Record, cut: Collection[Key]) -> None:
        """Keep a record of the network; it is written once its message is lost or has arrived.

        Args:
            record: in order of sending.
            cut: messages lost after their fate was recorded, as a battery ran empty.
        """
        if self.trace is None:
            return
        self._traced += 1
        if self._traced > self._most:
            for table in (self.trace, self.mixes):
                if table is not None:
                    table.discard()
            self.trace = self.mixes = None
            self._undecided.clear()
            return
        self._undecided.append(record)
        while self._undecided and _decided(self._undecided[0], self._clock.now):
            self._write(self._undecided.popleft(), cut)

    def flush(self) -> None:
        """Make what was recorded so far readable, for those who look at a run that goes on, or was killed."""
        for table in (self.metrics, self.trace, self.mixes, self.positions):
            if table is not None:
                table.flush()

    def finish(self, cut: Collection[Key], under_way: Collection[Key]) -> None:
        """Write the records that are left; the run is over."""
        for record in self._undecided:
            self._write(record, cut, under_way)

    def close(self) -> None:
        """Close the tables."""
        for table in (self.metrics, self.trace, self.mixes, self.positions):
            if table is not None:
                table.close()

    def _write(self, record: Record, cut: Collection[Key], under_way: Collection[Key] = ()) -> None:
        assert self.trace is not None
        key, verdict = (record.src, record.dst, record.number), record.verdict
        waits = key in under_way or (verdict.arrival == math.inf and not verdict.cause)  # or is still to get on the air
        fate = "in flight" if waits else BATTERY if key in cut else verdict.cause or "delivered"
        signal = (verdict.signal or _UNHEARD)[: len(SIGNAL_COLUMNS)] if self._signals else ()
        channel = ((verdict.signal or _UNHEARD).channel,) if self._channels else ()
        start = (record.start,) if self._payloads else ()
        way = (max(len(verdict.path) - 1, 0), "-".join(map(str, verdict.path))) if self._relays else ()
        self.trace.add(
            record.sent, record.src, record.dst, record.number, record.kind, record.size,
            verdict.packets, verdict.packets_lost, verdict.air_bytes, verdict.air_seconds, verdict.acknowledged,
            _or_nan(verdict.arrival), fate, _or_nan(verdict.copy), *signal, *channel, *way, *start,
        )  # fmt: skip


def _decided(record: Record, now: float) -> bool:
    """Tell whether a message has met its fate, which an arrival at this very instant may still do."""
    return record.verdict.arrival < now or record.verdict.arrival == math.inf


def _or_nan(instant: float) -> float:
    return math.nan if instant == math.inf else instant
