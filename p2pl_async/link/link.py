"""One direction between two devices: a message goes in, a verdict comes out.

    message -> fragments -> queue -> transmitter (rate, ARQ) -> loss, noise, outage -> latency -> verdict
               mtu, header                                      per packet             per message

The verdict is drawn when the message is sent. Nothing here waits, and nothing knows other
links: what happens on a link follows from its settings, its own random streams and what was
sent on it. Every message takes the same number of draws from each stream, whatever becomes
of it, so that changing one parameter changes no other draw.

A link whose medium is shared with others is not asked for verdicts: the medium finds out when a
frame is on the air, and asks `hear` what this receiver made of it and `travel` when it is there.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, repeat
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from p2pl_async.link.arq import stop_and_wait
from p2pl_async.link.latency import Draw
from p2pl_async.link.loss import CAUSES, LossProcess
from p2pl_async.link.queue import Backlog
from p2pl_async.link.settings import LinkSettings
from p2pl_async.link.timeline import Timeline
from p2pl_async.randomness import draws, stream

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Codes = NDArray[np.int8]
Ranges = tuple[tuple[int, int], ...]
"""Parts of a message, as [start, end) in bytes, ascending."""


class Verdict(NamedTuple):
    """What happens to one message on one link; decided when it is sent."""

    arrival: float  # instant it reaches the receiver; math.inf if lost
    cause: str  # "" if it arrives; "partial" if a part does; else why it is lost: a packet's cause, "queue", "retries"
    packets: int  # transmissions on the air, retries included; 0 if the queue refused it
    packets_lost: int  # of those, lost
    air_bytes: int  # bytes on the air: fragments with their headers, retries included
    air_seconds: float  # how long those transmissions took together; 0 where the rate is unlimited
    acknowledged: bool  # the sender knows that all of it arrived; never without ARQ, which tells it
    copy: float  # instant a second copy reaches the receiver; math.inf if there is none
    missing: Ranges = ()  # of a partial message: what didn't arrive


class Down(Protocol):
    """When something is down, such as a device; a `Timeline` is one. Instants never decrease."""

    until: float  # instant at which the state that `at` found last ends

    def at(self, now: float) -> int:
        """Return 1 if it is down at the instant `now`, else 0."""

    def touched(self, starts: Floats, ends: Floats) -> Bools:
        """Return whether it is down at any moment of each interval; shapes (n,), both ascending."""


class Radio(Protocol):
    """What positions and noise make of a frame; see `Link`."""

    def error_rate(self, at: float, size: int) -> float:
        """Return the probability that a frame of so many bytes, sent at the instant `at`, is lost to noise."""

    def error_rates(self, at: Floats, size: int) -> Floats:
        """Return it for frames sent at the instants `at`, shape (n,), ascending."""


_NOISE, _OUTAGE = CAUSES.index("noise"), CAUSES.index("outage")
_verdict = tuple.__new__  # of a Verdict: half the time of calling the class
_REFUSED = Verdict(math.inf, "queue", 0, 0, 0, 0.0, False, math.inf)


class _Sent(NamedTuple):
    """What the transmitter did for one message."""

    cause: str  # why the message is lost; "" if all its fragments arrived
    packets: int
    packets_lost: int
    air_bytes: int
    end: float  # instant the last transmission ended
    missing: Ranges = ()  # if anything arrived: what didn't


class Link:
    """The link `src -> dst`, with its transmitter, its queue and its random state.

    Args:
        src: the device that sends.
        dst: the device that hears it.
        settings: what this link does.
        seed: the run's seed.
        changes: (instant, settings) in ascending order: what it does from then on, for
            frames whose transmission starts at or after the instant. Random streams go on: what
            the settings have in common with those before behaves as if nothing had changed.
        down: (cause, maker) of what takes the link down besides its own outages, such as a device
            that sleeps. Each link makes its own, for their instants only grow.
        radio: the share of packets that is lost to noise, of links that have one.
    """

    __slots__ = (
        "_arrived", "_backlog", "_causes", "_changes", "_copies", "_down", "_instants", "_loss",
        "_make_down", "_noises", "_opened", "_outages", "_radio", "_seed", "_settings", "_simple", "_stage", "_stages",
        "_trains", "_uniforms", "dst", "sending_until", "src",
    )  # fmt: skip

    sending_until: float  # instant the transmitter is free of everything accepted so far

    def __init__(
        self,
        src: int,
        dst: int,
        settings: LinkSettings,
        seed: int,
        *,
        changes: Sequence[tuple[float, LinkSettings]] = (),
        down: Sequence[tuple[str, Callable[[], Down]]] = (),
        radio: Radio | None = None,
    ) -> None:
        self.src = src
        self.dst = dst
        self.sending_until = 0.0
        self._settings = settings
        self._changes = changes
        self._make_down = down
        self._radio = radio
        self._seed = seed
        self._backlog: Backlog | None = None
        self._arrived = 0.0  # latest arrival so far
        self._opened = False

    def _open(self) -> None:
        """Make the random streams: at the first message, since a run may have a million links and use few."""
        seed, owner = self._seed, (self.src, self.dst)
        self._down: list[tuple[int, Down]] = []
        self._causes = list(CAUSES)
        for cause, make in self._make_down:
            if cause not in self._causes:
                self._causes.append(cause)
            self._down.append((self._causes.index(cause), make()))
        processes: dict[object, Any] = {}
        settings = [self._settings, *(changed for _, changed in self._changes)]
        self._stages = [_Stage(each, seed, owner, processes) for each in settings]
        self._instants = [instant for instant, _ in self._changes]
        self._stage = self._stages[0]
        if any(each.queue is not None for each in settings):
            self._backlog = Backlog()
        # Messages of one fragment and of many draw apart, so neither moves the other. A stream costs 20 µs and 3 kB.
        lossless = all(stage.loss is None for stage in self._stages)
        self._uniforms: Iterator[float] = repeat(0.0) if lossless else draws(stream(seed, "loss", *owner))
        self._noises: Iterator[float] = draws(stream(seed, "noise", *owner))
        if any(each.mtu for each in settings):
            self._trains = stream(seed, "loss-fragments", *owner)
        if any(each.duplicate for each in settings):
            self._copies: Iterator[float] = draws(stream(seed, "duplicate", *owner))
        alone = not self._changes and not self._down and self._radio is None
        self._simple = alone and self._backlog is None and self._stage.simple
        self._opened = True

    def judge(self, size: int, now: float, needed: int | None = None) -> Verdict:
        """Decide what happens to a message of `size` bytes sent at the instant `now`.

        Instants never decrease from call to call.

        Args:
            size: encoded bytes.
            now: the instant it is sent.
            needed: if a part of the message is of use, how many bytes at its start must have
                arrived for that. By default all of it: one lost fragment loses the message.
        """
        if not self._opened:
            self._open()
        if self._simple and size <= self._stage.payload:
            return self._judge_simple(size, now)
        start = now if now > self.sending_until else self.sending_until
        stage = self._stage if not self._instants else self._stages[bisect_right(self._instants, start)]
        latency = stage.latency(start)
        copy_latency = self._copy_latency(stage, start) if stage.duplicate else math.inf
        fragments = 1
        if size > stage.payload:
            fragments = math.ceil(size / stage.payload)
            train = self._trains.random(fragments * stage.tries)
        else:
            single = list(islice(self._uniforms, stage.tries))

        air_bytes = size + fragments * stage.header
        if self._backlog is not None and not self._has_room(air_bytes, now):
            return _REFUSED
        if fragments == 1:
            sent = self._send_fragment(stage, air_bytes, start, single)
        elif not stage.arq:
            sent = self._send_once(stage, fragments, air_bytes, start, train, size, needed)
        else:
            sent = self._send_until_heard(stage, fragments, air_bytes, start, train)
        cause, packets, packets_lost, air_bytes_sent, end, missing = sent
        self.sending_until = end + stage.turnaround
        if self._backlog is not None:
            self._backlog.add(air_bytes, self.sending_until)

        seconds = air_bytes_sent * stage.seconds_per_byte
        if cause and not missing:
            return Verdict(math.inf, cause, packets, packets_lost, air_bytes_sent, seconds, False, math.inf)
        arrival = self._in_order(end + latency, stage.fifo)
        copy = end + copy_latency
        if copy < arrival:
            copy = arrival
        known = stage.arq and not missing
        return Verdict(arrival, cause, packets, packets_lost, air_bytes_sent, seconds, known, copy, missing)

    def hear(self, size: int, start: float, end: float, error: float | None = None) -> str:
        """Tell why a single frame that is on the air from `start` to `end` is lost to this receiver; "" if it isn't.

        For a medium that others share. The rate, queue, ARQ and fragments of this link play no part.

        Args:
            size: bytes on the air.
            start: first instant; never decreases from call to call.
            end: last instant.
            error: probability that noise and interference spoil it, if the medium knows better
                than this link's own radio.
        """
        if not self._opened:
            self._open()
        uniform, noise = next(self._uniforms), next(self._noises)
        stage = self._stages[bisect_right(self._instants, start)]
        cause = self._fate(stage, uniform, start, end)
        if cause:
            return self._causes[cause]
        if error is None:
            error = 0.0 if self._radio is None else self._radio.error_rate(start, size)
        return "noise" if noise < error else ""

    def settings_at(self, now: float) -> LinkSettings:
        """Return what the link does at an instant."""
        for instant, settings in reversed(self._changes):
            if instant <= now:
                return settings
        return self._settings

    def travel(self, end: float) -> float:
        """Return when a message whose last frame ended at the instant `end` reaches the receiver."""
        if not self._opened:
            self._open()
        stage = self._stages[bisect_right(self._instants, end)]
        return self._in_order(end + stage.latency(end), stage.fifo)

    def _judge_simple(self, size: int, now: float) -> Verdict:
        """Decide as `judge` does where one packet is sent once, from an unlimited queue, over a link that is up.

        Most messages of most runs; the general way through costs a hop 1 µs more.
        """
        stage = self._stage
        air_bytes = size + stage.header
        seconds = air_bytes * stage.seconds_per_byte
        start = now if now > self.sending_until else self.sending_until
        self.sending_until = end = start + seconds
        arrival = end + stage.latency(start)
        uniform = next(self._uniforms)
        if stage.loss is not None:
            cause = stage.loss.fate(uniform, start)
            if cause:
                return _verdict(Verdict, (math.inf, cause, 1, 1, air_bytes, seconds, False, math.inf, ()))
        if stage.fifo:
            if arrival < self._arrived:
                arrival = self._arrived
            self._arrived = arrival
        return _verdict(Verdict, (arrival, "", 1, 0, air_bytes, seconds, False, math.inf, ()))

    def _has_room(self, air_bytes: int, now: float) -> bool:
        """Tell whether the queue takes a message of so many bytes on the air."""
        assert self._backlog is not None
        limits = self._stages[bisect_right(self._instants, now)].queue
        return self._backlog.has_room(limits, air_bytes, now)

    def _send_fragment(self, stage: _Stage, air_bytes: int, start: float, uniforms: Iterable[float]) -> _Sent:
        """Send one fragment until it arrives, at most once per uniform."""
        duration = air_bytes * stage.seconds_per_byte
        used = 0
        for uniform in uniforms:
            used += 1
            end = start + duration
            code = self._fate(stage, uniform, start, end) or self._noise(start, air_bytes)
            if not code:
                return _Sent("", used, used - 1, used * air_bytes, end)
            start = end + stage.turnaround
        return _Sent("retries" if stage.arq else self._causes[code], used, used, used * air_bytes, end)

    def _send_once(
        self,
        stage: _Stage,
        fragments: int,
        air_bytes: int,
        start: float,
        uniforms: Floats,
        size: int,
        needed: int | None,
    ) -> _Sent:
        """Send fragments one after another, each once, whatever became of the one before."""
        end = start + air_bytes * stage.seconds_per_byte
        step = stage.mtu * stage.seconds_per_byte
        starts: Floats = start + step * np.arange(fragments, dtype=np.float64)
        ends = starts + step
        ends[-1] = end
        fates = self._fates(stage, uniforms, starts, ends)
        if stage.loss is not None:
            stage.loss.passed(fragments)
        lost = np.flatnonzero(fates)
        missing: Ranges = ()
        cause = self._causes[fates[lost[0]]] if len(lost) else ""
        if cause and needed is not None and lost[0] * stage.payload >= needed:
            cause, missing = "partial", _ranges(lost, int(stage.payload), size)
        return _Sent(cause, fragments, len(lost), air_bytes, end, missing)

    def _send_until_heard(self, stage: _Stage, fragments: int, air_bytes: int, start: float, uniforms: Floats) -> _Sent:
        """Send fragments one after another, each until it arrives; give up with the first that can't."""
        full = fragments - 1  # the last one is shorter, so its tries lie on a grid of their own
        duration = stage.mtu * stage.seconds_per_byte
        step = duration + stage.turnaround
        looked = full + full // 4 + 2 * stage.tries
        while True:
            # Look no farther than the channel is likely to make us: most tries are never needed.
            looked = min(looked, full * stage.tries)
            starts: Floats = start + step * np.arange(looked, dtype=np.float64)
            fates = self._fates(stage, uniforms[:looked], starts, starts + duration)
            outcome = stop_and_wait(fates != 0, full, stage.tries)
            if outcome is not None:
                break
            looked *= 2
        used, arrived = outcome
        if stage.loss is not None:
            stage.loss.passed(used)
        sent = used * stage.mtu
        if arrived < full:
            return _Sent("retries", used, used - arrived, sent, start + (used - 1) * step + duration)
        last_bytes = air_bytes - full * stage.mtu
        last = self._send_fragment(stage, last_bytes, start + used * step, uniforms[-stage.tries :].tolist())
        return _Sent(last.cause, used + last.packets, used - full + last.packets_lost, sent + last.air_bytes, last.end)

    def _fate(self, stage: _Stage, uniform: float, start: float, end: float) -> int:
        """Return the code of what becomes of one transmission, noise left out."""
        code = 0 if stage.loss is None else self._causes.index(stage.loss.fate(uniform, start))
        for cause, down in (*self._down, *stage.outages):
            if down.at(start) or end > down.until:
                code = cause
        return code

    def _noise(self, start: float, size: int) -> int:
        """Return the code of noise if the link's radio loses a transmission to it."""
        if self._radio is None:
            return 0
        return _NOISE if next(self._noises) < self._radio.error_rate(start, size) else 0

    def _fates(self, stage: _Stage, uniforms: Floats, starts: Floats, ends: Floats) -> Codes:
        """Return the fate of each transmission if it takes place, shape (n,)."""
        fates = np.zeros(starts.shape, np.int8) if stage.loss is None else stage.loss.fates(uniforms, starts)
        if self._radio is not None:
            noises = np.fromiter(self._noises, np.float64, len(starts))
            fates[(noises < self._radio.error_rates(starts, stage.mtu)) & (fates == 0)] = _NOISE
        for code, down in (*self._down, *stage.outages):
            fates[down.touched(starts, ends)] = code
        return fates

    def _in_order(self, arrival: float, fifo: bool) -> float:
        """Return when a message arrives that would arrive at this instant if none were ahead of it."""
        if fifo:
            if arrival < self._arrived:
                arrival = self._arrived
            self._arrived = arrival  # a second copy holds nothing up
        return arrival

    def _copy_latency(self, stage: _Stage, start: float) -> float:
        """Return how long a second copy takes, `math.inf` if there is none."""
        latency = stage.copy_latency(start)
        return latency if next(self._copies) < stage.duplicate else math.inf


class _Stage:
    """What a link does from one change of its settings to the next, ready for use."""

    __slots__ = (
        "arq", "copy_latency", "duplicate", "fifo", "header", "latency", "loss", "mtu", "outages", "payload",
        "queue", "seconds_per_byte", "simple", "tries", "turnaround",
    )  # fmt: skip

    def __init__(self, settings: LinkSettings, seed: int, owner: tuple[int, int], processes: dict[object, Any]) -> None:
        self.header = settings.header
        self.mtu = settings.mtu or 0  # 0: no limit, and never used
        self.payload = math.inf if settings.mtu is None else settings.mtu - settings.header
        self.seconds_per_byte = 0.0 if settings.rate is None else 8 / settings.rate
        self.queue = settings.queue
        self.arq = settings.arq is not None
        self.tries = 1 if settings.arq is None else 1 + settings.arq.retries
        self.turnaround = 0.0 if settings.arq is None else settings.arq.turnaround
        self.duplicate = settings.duplicate
        self.fifo = settings.order == "fifo"

        def once(key: object, make: Callable[[], Any]) -> Any:
            """Make what several stages share the first time that it is asked for."""
            if key not in processes:
                processes[key] = make()
            return processes[key]

        latency, loss, outage = settings.latency, settings.loss, settings.outage
        self.latency: Draw = once(latency, lambda: latency.process(stream(seed, "latency", *owner)))
        self.loss: LossProcess | None = once(loss, lambda: loss.process(seed, *owner))
        timeline: Timeline | None = once(outage, lambda: outage.process(seed, *owner))
        self.outages: list[tuple[int, Down]] = [] if timeline is None else [(_OUTAGE, timeline)]
        if self.duplicate:
            copies = (latency, "copy")
            self.copy_latency: Draw = once(copies, lambda: latency.process(stream(seed, "duplicate-latency", *owner)))
        self.simple = timeline is None and not self.arq and not self.duplicate


def _ranges(lost: NDArray[np.intp], payload: int, size: int) -> Ranges:
    """Return the bytes of a message that its lost fragments held, neighbors joined."""
    first = np.flatnonzero(np.diff(lost, prepend=-2) > 1)
    last = np.append(first[1:], len(lost)) - 1
    starts, ends = lost[first] * payload, np.minimum((lost[last] + 1) * payload, size)
    return tuple(zip(starts.tolist(), ends.tolist(), strict=True))
