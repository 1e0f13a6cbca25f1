"""One direction between two devices: a message goes in, a verdict comes out.

    message -> packets -> queue -> transmitter (rate, ARQ) -> loss, noise, outage -> latency -> verdict
               mtu, header                                      per packet             per message

The verdict is drawn when the message is sent. Nothing here waits, and no link knows another:
verdicts follow from a link's settings, its own random streams and the messages sent on it. The
draws of one message don't depend on the fates of those before, so that changing one parameter
changes no other draw.

A link on a shared medium gives no verdicts: the medium decides when a frame is on the air, and
asks `hear` whether this receiver loses it and `travel` when the message is there.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat

import numpy as np

from p2pl_async.basics.arrays import Floats
from p2pl_async.basics.randomness import Substreams, draws, stream
from p2pl_async.basics.timeline import Steps
from p2pl_async.link.changes import ChangingRate, During
from p2pl_async.link.channel import Channel, Down, FrameErrors
from p2pl_async.link.loss.base import CAUSES, ChangingLoss, LossProcess
from p2pl_async.link.queue import Backlog
from p2pl_async.link.rate import RateProfile, SteadyRate
from p2pl_async.link.sending.once import send_once
from p2pl_async.link.sending.outcome import Cut, Sent
from p2pl_async.link.sending.protected import send_protected
from p2pl_async.link.sending.repeated import send_repeatedly
from p2pl_async.link.sending.selective_repeat import send_selectively
from p2pl_async.link.sending.transmitter import Transmitter
from p2pl_async.link.settings import LinkSettings
from p2pl_async.link.stage import Stage
from p2pl_async.link.verdict import EXPIRED, REFUSED, Ranges, Signal, Verdict, missing_ranges

_make = tuple.__new__  # builds a verdict in a third of the time of naming its fields
_OUTAGE = CAUSES.index("outage")


class Link:
    """The link `src -> dst`, with its transmitter, its queue and its random state.

    Args:
        src: the device that sends.
        dst: the device that hears it.
        settings: of this link until the first change.
        seed: the run's seed.
        changes: (instant, settings from then on) in ascending order. Rate, loss and
            outage change for packets whose transmission starts at or after the instant (the rate
            even while they are on the air), the queue for messages sent from then on, all
            else for messages whose transmission starts then. Random streams go on.
        down: (cause, maker) of outages besides its own, such as a device that sleeps. Each link
            makes its own, since the instants that it asks for never decrease.
        radio: error rates and delays, of a link that has a radio.
    """

    __slots__ = (
        "_arrived", "_backlog", "_causes", "_changes", "_channel", "_copies", "_instants", "_make_down", "_noises",
        "_opened", "_radio", "_ready", "_seed", "_settings", "_simple", "_singles", "_spoils", "_stage", "_stages",
        "_trains", "_transmitter", "_uniforms", "drops_head", "dst", "fifo", "holds", "sending_until", "sends_on",
        "src", "varies",
    )  # fmt: skip

    drops_head: bool  # messages wait in a line before the link: later ones may drop them
    fifo: bool  # no message ever overtakes one that was sent before it
    holds: bool  # messages wait where it is down
    varies: bool  # its rate may change
    sends_on: bool  # a message may arrive before its sending ends: an acknowledgment is lost, or parity is left
    sending_until: float  # instant at which all messages accepted so far have left

    def __init__(
        self,
        src: int,
        dst: int,
        settings: LinkSettings,
        seed: int,
        *,
        changes: Sequence[tuple[float, LinkSettings]] = (),
        down: Sequence[tuple[str, Callable[[], Down]]] = (),
        radio: FrameErrors | None = None,
    ) -> None:
        self.src = src
        self.dst = dst
        self.sending_until = 0.0
        every = [settings, *(changed for _, changed in changes)]
        self.drops_head = any(each.queue is not None and each.queue.drops_head for each in every)
        self.fifo = all(each.order == "fifo" for each in every)
        self.sends_on = any(each.fec or (each.arq and each.arq.ack_loss) for each in every)
        self.holds = any(each.outage.holds for each in every)
        self.varies = any(each.rate != settings.rate for each in every) or not isinstance(settings.rate, float | None)
        self._settings = settings
        self._changes = changes
        self._make_down = down
        self._radio = radio
        self._noises: Iterator[float] | None = None
        self._seed = seed
        self._backlog: Backlog | None = None
        self._arrived = 0.0  # latest arrival so far
        self._ready = 0.0  # until when a message that had to wait would have waited
        # Messages so far, of one packet and of more: they draw apart, so that neither moves the other.
        self._singles = 0  # without those that `judge` decides itself
        self._trains = 0
        self._opened = False
        self._simple = False

    def _open(self) -> None:
        """Make the random streams: at the first message, since a run may have a million links and use few."""
        seed, owner = self._seed, (self.src, self.dst)
        settings = [self._settings, *(changed for _, changed in self._changes)]
        self._instants = [instant for instant, _ in self._changes]
        self._stages = [Stage(each) for each in settings]
        self._stage = self._stages[0]
        self._stage.open(seed, owner, 0)
        if any(each.queue is not None for each in settings):
            self._backlog = Backlog()
        self._causes = list(CAUSES)
        loss = self._losses(settings)
        # A stream costs 20 µs and 3 kB, so most are opened when something is drawn from them.
        self._uniforms: Iterator[float] = repeat(0.0) if loss is None else draws(stream(seed, "loss", *owner))
        others = Substreams(seed, "noise", *owner)
        self._channel = Channel(
            loss, *self._outages(settings), self._radio, Substreams(seed, "loss-fragments", *owner), others
        )
        acks = Substreams(seed, "ack", *owner) if any(each.arq and each.arq.ack_loss for each in settings) else None
        self._transmitter = Transmitter(self._channel, self._rate(settings), acks)
        if any(each.duplicate for each in settings):
            self._copies: Iterator[float] = draws(stream(seed, "duplicate", *owner))
        if any(stage.spoils for stage in self._stages):
            self._spoils: Iterator[float] = draws(stream(seed, "corrupt", *owner))
        alone = not self._changes and not self._make_down and self._radio is None
        self._simple = alone and self._stage.simple
        self._stage.loss = loss
        self._opened = True

    def _losses(self, settings: Sequence[LinkSettings]) -> LossProcess | None:
        """Return the loss of packets; equal settings continue the same process."""
        processes = {each.loss: each.loss.process(self._seed, self.src, self.dst) for each in settings}
        if all(process is None for process in processes.values()):
            return None
        if not self._changes:
            return processes[self._settings.loss]
        # One number for each process: settings that return find it as it was left, and it looks at no packet twice.
        numbers = {loss: number for number, loss in enumerate(processes)}
        steps = Steps(np.array([0.0, *self._instants]), [numbers[each.loss] for each in settings], None)
        return ChangingLoss(steps, list(processes.values()).__getitem__)

    def _outages(self, settings: Sequence[LinkSettings]) -> tuple[list[tuple[int, Down]], list[Down]]:
        """Return the outages, each with its code, and those that the transmitter waits for."""
        found: list[tuple[int, Down]] = []
        for cause, make in self._make_down:
            if cause not in self._causes:
                self._causes.append(cause)
            found.append((self._causes.index(cause), make()))
        held: list[Down] = []
        limits = [-math.inf, *self._instants, math.inf]
        for index, each in enumerate(settings):
            down: Down | None = each.outage.process(self._seed, self.src, self.dst)
            if down is not None:
                if self._changes:
                    down = During(down, limits[index], limits[index + 1])
                found.append((_OUTAGE, down))
                if each.outage.holds:
                    held.append(down)
        return found, held

    def _rate(self, settings: Sequence[LinkSettings]) -> RateProfile:
        """Return the rate of the transmitter over time."""
        profiles: list[RateProfile] = [
            SteadyRate(each.rate)
            if isinstance(each.rate, float | None)
            else each.rate.profile(self._seed, self.src, self.dst)
            for each in settings
        ]
        return ChangingRate(self._instants, profiles) if self._changes else profiles[0]

    def judge(self, size: int, now: float, needed: int | None = None) -> Verdict:
        """Decide the fate of a message of `size` bytes sent at the instant `now`.

        Instants never decrease from call to call. A link that `drops_head` must be asked only when
        its transmitter is free; it refuses nothing.

        Args:
            size: encoded bytes.
            now: the instant it is sent.
            needed: bytes at the start of the message that make a part of it useful. By default
                only all of it is: one lost packet loses the message.
        """
        if not self._simple or size > self._stage.payload:
            return self._judge_any(size, now, needed)
        # One packet is sent once, from an unlimited queue, over a link that is up, as most messages of most runs: the
        # general way costs a hop 10 µs more.
        stage = self._stage
        air_bytes = size + stage.header
        seconds = air_bytes * stage.seconds_per_byte
        start = now if now > self.sending_until else self.sending_until
        self.sending_until = end = start + seconds
        arrival = end + stage.latency(start)
        cause = "" if stage.loss is None else stage.loss.fate(next(self._uniforms), start)
        if cause:
            arrival = math.inf
        elif stage.fifo:
            if arrival < self._arrived:
                arrival = self._arrived
            self._arrived = arrival
        lost = 1 if cause else 0
        return _make(Verdict, (arrival, cause, 1, lost, air_bytes, seconds, False, math.inf, (), False, None, ()))

    def _judge_any(self, size: int, now: float, needed: int | None) -> Verdict:
        """Decide the fate of any message, as `judge` does."""
        if not self._opened:
            self._open()
            return self.judge(size, now, needed)
        start = now if now > self.sending_until else self.sending_until
        channel = self._channel
        if channel.holds:
            # A message that expires leaves the transmitter as it was: the next one starts from the same answer.
            self._ready = start = max(start, self._ready) if start <= self._ready else channel.up(start)
        stage = self._stage_at(start)
        cut = stage.cut(size)
        if cut.packets == 1:
            self._singles += 1
            uniform, number = next(self._uniforms), 2 * self._singles + 1
        else:
            self._trains += 1
            uniform, number = None, 2 * self._trains
        leaves = start if start < math.inf else now
        latency = stage.latency(leaves)
        copy_latency = self._copy_latency(stage, leaves) if stage.duplicate else math.inf
        spoil = next(self._spoils) if stage.spoils else 1.0
        packets, air_bytes = stage.load(cut)
        if self._backlog is not None:
            queue = self._stages[bisect_right(self._instants, now)].settings.queue
            if queue is not None and queue.drops_head:
                queue = None  # the line before the link keeps its limits
            if not self._backlog.has_room(queue, packets, air_bytes, now):
                return REFUSED
            if queue is not None and queue.lifetime is not None and start - now > queue.lifetime:
                self._backlog.add(packets, air_bytes, now + queue.lifetime)
                return EXPIRED
        self._transmitter.begin(number, stage.drops)
        signal = None if self._radio is None else self._signal(leaves)
        sent = self._send(stage, cut, start, needed is not None, uniform)
        self.sending_until = sent.end
        if self._backlog is not None:
            self._backlog.add(packets, air_bytes, sent.end)

        if signal is not None and cut.packets == 1:
            signal = signal._replace(tries=sent.packets)
        heard, cause = sent.heard, ""
        missing: Ranges = ()
        if heard == math.inf:
            if sent.missing is not None:
                missing = missing_ranges(sent.missing, cut.packets, stage.payload, size, needed)
            if not missing:
                cause = "retries" if sent.gave_up else self._causes[sent.code]
                return Verdict(
                    cause=cause,
                    signal=signal,
                    packets=sent.packets,
                    packets_lost=sent.packets_lost,
                    air_bytes=sent.air_bytes,
                    air_seconds=sent.air_seconds,
                )
            cause, heard = "partial", sent.over
        if self._radio is not None:
            heard += self._radio.delay(leaves)
        arrival = self._in_order(heard + latency, stage.fifo)
        copy = heard + copy_latency
        if copy < arrival:
            copy = arrival
        corrupted = spoil < 1 - (1 - stage.spoils) ** cut.packets
        return Verdict(
            arrival=arrival,
            cause=cause,
            packets=sent.packets,
            packets_lost=sent.packets_lost,
            air_bytes=sent.air_bytes,
            air_seconds=sent.air_seconds,
            acknowledged=sent.acknowledged,
            copy=copy,
            missing=missing,
            corrupted=corrupted,
            signal=signal,
        )

    def expected_delivery(self, signal: Signal, size: int, now: float) -> float:
        """Return the probability that a packet of a message of `size` bytes arrives, heard like `signal`.

        Sent at the instant `now`; nan without a radio.
        """
        if self._radio is None or math.isnan(signal.sinr):
            return math.nan
        settings = self.settings_at(now)
        longest = math.inf if settings.mtu is None else settings.mtu
        return 1 - self._radio.error_at(signal.sinr, int(min(size + settings.header, longest)), signal.phy)

    def hear(self, size: int, start: float, end: float, error: float | None = None, *, awaited: bool = False) -> str:
        """Return why a single frame on the air from `start` to `end` is lost to this receiver; "" if it isn't.

        For a shared medium. The rate, queue, ARQ and MTU of this link play no part.

        Args:
            size: bytes on the air.
            start: first instant; never decreases from call to call.
            end: last instant.
            error: probability that noise and interference spoil it, if the medium knows better
                than this link's own radio.
            awaited: an answer, for which a radio stays awake whose sleep senders wait for.
        """
        if self._noises is None:
            if not self._opened:
                self._open()
            self._noises = draws(stream(self._seed, "noise-heard", self.src, self.dst))
        stage = self._stage_at(start) if self._instants else self._stage
        uniform, noise = next(self._uniforms), next(self._noises)
        code = self._channel.heard(size, start, end, error, stage.drops, uniform, noise, awaited)
        return self._causes[code] if code else ""

    @property
    def changes(self) -> bool:
        """Whether its settings ever change."""
        return bool(self._changes)

    def hear_all(self, size: int, starts: Floats, ends: Floats) -> dict[int, str]:
        """Return why frames that follow each other on the air are lost to this receiver.

        Args:
            size: bytes on the air of each.
            starts: their first instants, ascending, none before those of earlier calls, shape (n,).
            ends: their last instants, shape (n,).

        Returns:
            Place of a frame among them -> cause, for those that are lost.
        """
        if not self._opened:
            self._open()
        self._trains += 1
        self._transmitter.begin(2 * self._trains, self._stage_at(float(starts[0])).drops)
        codes = self._channel.fates(starts, ends, size)
        self._channel.passed(len(starts))
        return {place: self._causes[codes[place]] for place in np.flatnonzero(codes).tolist()}

    def travel(self, end: float) -> float:
        """Return when a message whose last frame ended at the instant `end` reaches the receiver."""
        if not self._opened:
            self._open()
        stage = self._stage_at(end) if self._instants else self._stage
        self._singles += 1
        way = 0.0 if self._radio is None else self._radio.delay(end)
        return self._in_order(end + way + stage.latency(end), stage.fifo)

    def rate_at(self, at: float) -> float | None:
        """Return the rate in bit/s of a frame on shared air that begins at an instant; None: unlimited."""
        rate = self.settings_at(at).rate
        if rate is None or isinstance(rate, float):
            return rate
        if not self._opened:
            self._open()
        return 1 / self._transmitter.rate.at(at).value

    def ready(self, at: float) -> float:
        """Return the first instant from `at` on at which this link is up, if it waits, and has a rate."""
        if not self._opened:
            self._open()
        if self._channel.holds:
            self._ready = at = max(at, self._ready) if at <= self._ready else self._channel.up(at)
        if self.varies and at < math.inf:
            pace = self._transmitter.rate.at(at)
            if pace.value == math.inf:
                return pace.until
        return at

    def load(self, size: int, now: float) -> tuple[int, int]:
        """Return how many packets and bytes the queue holds for a message of `size` bytes sent at an instant."""
        if not self._opened:
            self._open()
        stage = self._stage_at(now)
        return stage.load(stage.cut(size))

    def settings_at(self, now: float) -> LinkSettings:
        """Return the settings that hold at an instant."""
        for instant, settings in reversed(self._changes):
            if instant <= now:
                return settings
        return self._settings

    def _signal(self, at: float) -> Signal:
        """Return how the receiver hears a message sent at an instant."""
        assert self._radio is not None
        pace = self._transmitter.rate.at(at).value
        rate = 1 / pace if pace > 0 else math.nan
        return Signal(*self._radio.heard(at), rate)

    def _send(self, stage: Stage, cut: Cut, start: float, keep: bool, uniform: float | None) -> Sent:
        """Send the packets of a message; `uniform` decides the first try of a single one."""
        transmitter = self._transmitter
        if stage.fec is not None:
            return send_protected(transmitter, cut, stage.fec.data, stage.fec.parity, start)
        if stage.paces is None:
            return send_once(transmitter, cut, start, keep, uniform)
        if stage.paces.arq.kind == "selective-repeat":
            return send_selectively(transmitter, cut, stage.paces, start, keep)
        return send_repeatedly(transmitter, cut, stage.paces, start, keep, uniform)

    def _stage_at(self, at: float) -> Stage:
        """Return the settings that hold at an instant, ready for use."""
        if not self._instants:
            return self._stage
        index = bisect_right(self._instants, at)
        stage = self._stages[index]
        if not stage.opened:
            stage.open(self._seed, (self.src, self.dst), self._singles + self._trains, self._stages[index - 1])
        return stage

    def _in_order(self, arrival: float, fifo: bool) -> float:
        """Return when a message arrives that would arrive at this instant if none were ahead of it."""
        if fifo:
            if arrival < self._arrived:
                arrival = self._arrived
            self._arrived = arrival  # a second copy holds nothing up
        return arrival

    def _copy_latency(self, stage: Stage, start: float) -> float:
        """Return how long a second copy takes, `math.inf` if there is none."""
        latency = stage.copy_latency(start)
        return latency if next(self._copies) < stage.duplicate else math.inf
