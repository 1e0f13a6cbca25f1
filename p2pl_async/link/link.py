"""One direction between two devices: a message goes in, a verdict comes out.

    message -> fragments -> queue -> transmitter (rate, ARQ) -> loss, outage -> latency -> verdict
               mtu, header                                      per packet      per message

The verdict is drawn when the message is sent. Nothing here waits, and nothing knows other
links: what happens on a link follows from its settings, its own random streams and what was
sent on it. Every message takes the same number of draws from each stream, whatever becomes
of it, so that changing one parameter changes no other draw.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import islice, repeat
from typing import NamedTuple

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
Codes = NDArray[np.int8]

_OUTAGE = CAUSES.index("outage")


class Verdict(NamedTuple):
    """What happens to one message on one link; decided when it is sent."""

    arrival: float  # instant it reaches the receiver; math.inf if lost
    cause: str  # "" if it arrives, else "loss", "burst", "outage", "queue" or "retries"
    packets: int  # transmissions on the air, retries included; 0 if the queue refused it
    packets_lost: int  # of those, lost
    air_bytes: int  # bytes on the air: fragments with their headers, retries included
    copy: float  # instant a second copy reaches the receiver; math.inf if there is none


_verdict = tuple.__new__  # of a Verdict: half the time of calling the class
_REFUSED = Verdict(math.inf, "queue", 0, 0, 0, math.inf)


class _Sent(NamedTuple):
    """What the transmitter did for one message."""

    cause: str  # why the message is lost; "" if all its fragments arrived
    packets: int
    packets_lost: int
    air_bytes: int
    end: float  # instant the last transmission ended


class Link:
    """The link `src -> dst`, with its transmitter, its queue and its random state.

    Args:
        src: the device that sends.
        dst: the device that hears it.
        settings: what this link does.
        seed: the run's seed.
    """

    __slots__ = (
        "_arq", "_arrived", "_backlog", "_copies", "_copy_latency", "_duplicate", "_fifo", "_header", "_latency",
        "_loss", "_mtu", "_opened", "_outage", "_payload", "_seconds_per_byte", "_seed", "_settings", "_simple",
        "_trains", "_tries", "_turnaround", "_uniforms", "dst", "sending_until", "src",
    )  # fmt: skip

    sending_until: float  # instant the transmitter is free of everything accepted so far

    def __init__(self, src: int, dst: int, settings: LinkSettings, seed: int) -> None:
        self.src = src
        self.dst = dst
        self.sending_until = 0.0
        self._settings = settings
        self._seed = seed
        self._header = settings.header
        self._mtu = settings.mtu or 0  # 0: no limit, and never used
        self._payload = math.inf if settings.mtu is None else settings.mtu - settings.header
        self._seconds_per_byte = 0.0 if settings.rate is None else 8 / settings.rate
        self._backlog = None if settings.queue is None else Backlog(settings.queue)
        self._arq = settings.arq is not None
        self._tries = 1 if settings.arq is None else 1 + settings.arq.retries
        self._turnaround = 0.0 if settings.arq is None else settings.arq.turnaround
        self._duplicate = settings.duplicate
        self._fifo = settings.order == "fifo"
        self._arrived = 0.0  # latest arrival so far
        self._opened = False

    def _open(self) -> None:
        """Make the random streams: at the first message, since a run may have a million links and use few."""
        seed, owner, settings = self._seed, (self.src, self.dst), self._settings
        self._latency: Draw = settings.latency.process(stream(seed, "latency", *owner))
        self._loss: LossProcess | None = settings.loss.process(seed, *owner)
        self._outage: Timeline | None = settings.outage.process(seed, *owner)
        # Messages of one fragment and of many draw apart, so neither moves the other. A stream costs 20 µs and 3 kB.
        self._uniforms: Iterator[float] = repeat(0.0) if self._loss is None else draws(stream(seed, "loss", *owner))
        if self._mtu:
            self._trains = stream(seed, "loss-fragments", *owner)
        if self._duplicate:
            self._copies: Iterator[float] = draws(stream(seed, "duplicate", *owner))
            self._copy_latency: Draw = settings.latency.process(stream(seed, "duplicate-latency", *owner))
        perfect = self._backlog is None and self._outage is None
        self._simple = perfect and not self._arq and not self._duplicate
        self._opened = True

    def judge(self, size: int, now: float) -> Verdict:
        """Decide what happens to a message of `size` bytes sent at the instant `now`.

        Instants never decrease from call to call.
        """
        if not self._opened:
            self._open()
        if self._simple and size <= self._payload:
            return self._judge_simple(size, now)
        start = now if now > self.sending_until else self.sending_until
        latency = self._latency(start)
        copy_latency = self._latency_of_copy(start) if self._duplicate else math.inf
        fragments = 1
        if size > self._payload:
            fragments = math.ceil(size / self._payload)
            train = self._trains.random(fragments * self._tries)
        else:
            single = list(islice(self._uniforms, self._tries))

        air_bytes = size + fragments * self._header
        if self._backlog is not None and not self._backlog.has_room(air_bytes, now):
            return _REFUSED
        if fragments == 1:
            sent = self._send_fragment(air_bytes, start, single)
        elif not self._arq:
            sent = self._send_once(fragments, air_bytes, start, train)
        else:
            sent = self._send_until_heard(fragments, air_bytes, start, train)
        cause, packets, packets_lost, air_bytes_sent, end = sent
        self.sending_until = end + self._turnaround
        if self._backlog is not None:
            self._backlog.add(air_bytes, self.sending_until)

        if cause:
            return Verdict(math.inf, cause, packets, packets_lost, air_bytes_sent, math.inf)
        arrival = end + latency
        if self._fifo:
            if arrival < self._arrived:
                arrival = self._arrived
            self._arrived = arrival  # a second copy holds nothing up
        copy = end + copy_latency
        return Verdict(arrival, "", packets, packets_lost, air_bytes_sent, copy if copy > arrival else arrival)

    def _judge_simple(self, size: int, now: float) -> Verdict:
        """Decide as `judge` does where one packet is sent once, from an unlimited queue, over a link that is up.

        Most messages of most runs; the general way through costs a hop 1 µs more.
        """
        air_bytes = size + self._header
        start = now if now > self.sending_until else self.sending_until
        self.sending_until = end = start + air_bytes * self._seconds_per_byte
        arrival = end + self._latency(start)
        uniform = next(self._uniforms)
        if self._loss is not None:
            cause = self._loss.fate(uniform, start)
            if cause:
                return _verdict(Verdict, (math.inf, cause, 1, 1, air_bytes, math.inf))
        if self._fifo:
            if arrival < self._arrived:
                arrival = self._arrived
            self._arrived = arrival
        return _verdict(Verdict, (arrival, "", 1, 0, air_bytes, math.inf))

    def _send_fragment(self, air_bytes: int, start: float, uniforms: Iterable[float]) -> _Sent:
        """Send one fragment until it arrives, at most once per uniform."""
        duration = air_bytes * self._seconds_per_byte
        used = 0
        for uniform in uniforms:
            used += 1
            end = start + duration
            if self._outage is not None and (self._outage.at(start) or end > self._outage.until):
                cause = "outage"
            else:
                cause = "" if self._loss is None else self._loss.fate(uniform, start)
            if not cause:
                return _Sent("", used, used - 1, used * air_bytes, end)
            start = end + self._turnaround
        return _Sent("retries" if self._arq else cause, used, used, used * air_bytes, end)

    def _send_once(self, fragments: int, air_bytes: int, start: float, uniforms: Floats) -> _Sent:
        """Send fragments one after another, each once, whatever became of the one before."""
        end = start + air_bytes * self._seconds_per_byte
        step = self._mtu * self._seconds_per_byte
        starts: Floats = start + step * np.arange(fragments, dtype=np.float64)
        ends = starts + step
        ends[-1] = end
        fates = self._fates(uniforms, starts, ends)
        self._passed(fragments)
        lost = int(np.count_nonzero(fates))
        cause = CAUSES[fates[np.flatnonzero(fates)[0]]] if lost else ""
        return _Sent(cause, fragments, lost, air_bytes, end)

    def _send_until_heard(self, fragments: int, air_bytes: int, start: float, uniforms: Floats) -> _Sent:
        """Send fragments one after another, each until it arrives; give up with the first that can't."""
        full = fragments - 1  # the last one is shorter, so its tries lie on a grid of their own
        duration = self._mtu * self._seconds_per_byte
        step = duration + self._turnaround
        looked = full + full // 4 + 2 * self._tries
        while True:
            # Look no farther than the channel is likely to make us: most tries are never needed.
            looked = min(looked, full * self._tries)
            starts: Floats = start + step * np.arange(looked, dtype=np.float64)
            fates = self._fates(uniforms[:looked], starts, starts + duration)
            outcome = stop_and_wait(fates != 0, full, self._tries)
            if outcome is not None:
                break
            looked *= 2
        used, arrived = outcome
        self._passed(used)
        sent = used * self._mtu
        if arrived < full:
            return _Sent("retries", used, used - arrived, sent, start + (used - 1) * step + duration)
        last_bytes = air_bytes - full * self._mtu
        last = self._send_fragment(last_bytes, start + used * step, uniforms[-self._tries :].tolist())
        return _Sent(last.cause, used + last.packets, used - full + last.packets_lost, sent + last.air_bytes, last.end)

    def _passed(self, packets: int) -> None:
        """Note that so many of the transmissions that `_fates` looked at took place."""
        if self._loss is not None:
            self._loss.passed(packets)

    def _fates(self, uniforms: Floats, starts: Floats, ends: Floats) -> Codes:
        """Return the fate of each transmission if it takes place, shape (n,)."""
        fates = np.zeros(starts.shape, np.int8) if self._loss is None else self._loss.fates(uniforms, starts)
        if self._outage is not None:
            fates[self._outage.touched(starts, ends)] = _OUTAGE
        return fates

    def _latency_of_copy(self, start: float) -> float:
        """Return how long a second copy takes, `math.inf` if there is none."""
        latency = self._copy_latency(start)
        return latency if next(self._copies) < self._duplicate else math.inf
