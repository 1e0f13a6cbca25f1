"""The air that devices share: one radio per device, and transmissions that meet.

    send -> queue of the device -> access -> on the air -> end: who received it? -> ACK, retry -> next frame
                                   (access.py)              half duplex, collision,
                                                            noise, loss, outage

What becomes of a frame is decided at its end, when everything that overlapped it is known. Each
step is an event of the calendar, ordered by device, so that the order in which tasks run decides
nothing. One frame of a message is one transmission, to one device or to many; where nothing can
contend for the channel between two frames, the whole message is one.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from p2pl_async.air.access import Access, Distributed, InTurn, Unasked, Unslotted
from p2pl_async.air.duty_cycle import DutyCycle
from p2pl_async.air.job import Decided, Job
from p2pl_async.air.reach import Propagation, Reach, error_in_interference
from p2pl_async.air.settings import Aloha, Contended, CsmaCa, Dcf, Ideal, SharedMedium
from p2pl_async.clock import VirtualClock
from p2pl_async.errors import InvariantError
from p2pl_async.link import Link, Verdict
from p2pl_async.messages import DeviceId

_TOUCH = 1e-9  # s; transmissions that overlap by less only touch: slots are sums of rounded numbers


class Radio:
    """One device's radio: what waits for it, and what it is doing."""

    def __init__(self, device: DeviceId) -> None:
        self.device = device
        self.jobs: deque[Job] = deque()
        self.held = 0  # bytes of them
        self.held_frames = 0
        self.failures = 0  # of the current frame
        self.idle = True  # no access is under way
        self.until = 0.0  # end of its latest transmission, ACKs included
        self.ready = 0.0  # earliest start of its next frame
        self.seconds = 0.0  # on the air so far
        self.numbers = itertools.count()


class Transmission:
    """One uninterrupted stretch on the air."""

    __slots__ = ("count", "decoders", "end", "first", "job", "overlaps", "powers", "src", "start")

    def __init__(self, src: DeviceId, start: float, end: float, job: Job | None, first: int, count: int) -> None:
        self.src = src
        self.start = start
        self.end = end
        self.job = job  # None: an acknowledgment
        self.first = first  # fragments of the job: this one,
        self.count = count  # and so many in all
        self.overlaps: list[Transmission] = []
        self.powers: Any = None  # dBm at each device, if there is a propagation
        self.decoders: Any = None  # which devices' receivers are busy with this one, where that matters


class Air:
    """A shared medium.

    Args:
        settings: how devices share it.
        clock: whose calendar everything enters.
        n: number of devices.
        reach: who hears whom.
        seed: the run's seed.
        propagation: powers and error rates; needed for `capture` and `sinr`.
        back: (src, dst) -> the link that an acknowledgment takes.
        on_transmit: called with (device, start, end) of each transmission.
        on_receive: called with (device, start, end) of each frame that a device listens to.
    """

    def __init__(
        self,
        settings: SharedMedium,
        clock: VirtualClock,
        n: int,
        reach: Reach,
        seed: int,
        *,
        back: Callable[[DeviceId, DeviceId], Link],
        propagation: Propagation | None = None,
        on_transmit: Callable[[DeviceId, float, float], object] | None = None,
        on_receive: Callable[[DeviceId, float, float], object] | None = None,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.radios = [Radio(device) for device in range(n)]
        self.undecided = 0  # messages of which at least one receiver's fate is open, counted per receiver
        self._numbers = itertools.count()
        self._reach = reach
        self._propagation = propagation
        self._back = back
        self._on_transmit = on_transmit
        self._on_receive = on_receive
        self._on_air: list[Transmission] = []
        self._decoding_until = np.zeros(n)  # for each receiver, the end of the frame it is busy with
        self._decoding_power = np.full(n, -np.inf)  # and its power in dBm
        self._collision = settings.collision if isinstance(settings, Contended) else None
        self._capture = settings.capture if isinstance(settings, Contended) else 0.0
        self._access = _access(settings, self, seed)
        self._follows = isinstance(self._access, Distributed)  # looks at every beginning and end
        self._lifetime = None if settings.queue is None else settings.queue.lifetime
        limit = settings.duty_cycle
        self._duty = None if limit is None else [DutyCycle(limit.share, limit.mode, limit.window) for _ in range(n)]

    # Sending

    def send(
        self,
        source: DeviceId,
        links: Sequence[Link],
        size: int,
        decided: Decided,
        token: Any,
        needed: int | None = None,
    ) -> None:
        """Take a message for the devices at the ends of `links`.

        `decided(token, k, verdict)` is called once for each link k, now or later. `needed`: bytes at
        its start that make a part of it useful.
        """
        if self.settings.broadcast == "once":
            self._accept(source, Job(links, size, decided, token, self.clock.now, 0, needed))
        else:
            for k, link in enumerate(links):
                self._accept(source, Job([link], size, decided, token, self.clock.now, k, needed))

    def _accept(self, source: DeviceId, job: Job) -> None:
        radio = self.radios[source]
        self.undecided += len(job.links)
        if not self._has_room(radio, job):
            self._decide(job, "queue")
            return
        radio.jobs.append(job)
        radio.held += job.bytes
        radio.held_frames += job.frames
        if radio.idle:
            radio.idle = False
            # Tasks that run at one instant do so in random order; the calendar puts their devices in order.
            self.schedule(self.clock.now, radio, self._next, radio)

    def is_sending(self, source: DeviceId, target: DeviceId) -> bool:
        """Tell whether a message for `target` waits for the source's radio, or is on the air."""
        return any(link.dst == target for job in self.radios[source].jobs for link in job.links)

    def crash(self, device: DeviceId, cause: str) -> None:
        """Lose what waits in a device's memory; a frame for which it already asked the channel is its last."""
        radio = self.radios[device]
        while len(radio.jobs) > 1:
            job = radio.jobs.pop()
            radio.held -= job.bytes
            radio.held_frames -= job.frames
            self._decide(job, cause)
        if radio.jobs:
            radio.jobs[0].cut = cause

    def abandon(self, verdict: Verdict) -> None:
        """Give all messages that are not over this verdict, as a run ends."""
        for radio in self.radios:
            for job in radio.jobs:
                for k in range(len(job.links)):
                    self.undecided -= 1
                    job.tell(k, verdict)
            radio.jobs.clear()

    def schedule(self, at: float, radio: Radio | None, call: Callable[[Any], object], argument: Any) -> None:
        """Have `call(argument)` run at an instant; events of one instant run by device, those of none last."""
        device, numbers = (len(self.radios), self._numbers) if radio is None else (radio.device, radio.numbers)
        self.clock.schedule(at, device, -2, next(numbers), call, argument)

    def _has_room(self, radio: Radio, job: Job) -> bool:
        queue = self.settings.queue
        if queue is None:
            return True
        return (
            (queue.messages is None or len(radio.jobs) < queue.messages)
            and (queue.packets is None or radio.held_frames + job.frames <= queue.packets)
            and (queue.size is None or radio.held + job.bytes <= queue.size)
        )

    def _next(self, radio: Radio) -> None:
        """Ask for the channel for the radio's next frame."""
        if not radio.jobs:
            radio.idle = True
            return
        job = radio.jobs[0]
        if job.cut:
            self._finish(radio, job.cut, acknowledged=False)
            return
        if self._lifetime is not None and not job.done and self.clock.now - job.sent > self._lifetime:
            self._finish(radio, "expired", acknowledged=False)
            return
        at = max(self.clock.now, radio.ready)
        if self._duty is not None:
            at = self._duty[radio.device].earliest(at, self._duration(job, job.done, self._count(job)))
        if at > self.clock.now:
            self.schedule(at, radio, self._access.request, radio)
        else:
            self._access.request(radio)

    def _count(self, job: Job) -> int:
        """Return how many fragments go out in one transmission: one wherever somebody could cut in, or must answer."""
        return 1 if self._collision is not None or job.arq is not None else job.frames

    def _duration(self, job: Job, first: int, count: int) -> float:
        airtime = self.settings.airtime
        rate = job.rate
        if len(job.links) > 1 and self.settings.broadcast_rate is not None:
            rate = self.settings.broadcast_rate
        if first <= job.short < first + count:
            return (count - 1) * airtime.seconds(job.full, rate) + airtime.seconds(job.frame(job.short), rate)
        return count * airtime.seconds(job.full, rate)

    # On the air

    def transmit(self, radio: Radio, start: float | None = None) -> None:
        """Put the radio's next frame on the air, at the instant `start` (now by default)."""
        start = self.clock.now if start is None else start
        job = radio.jobs[0]
        count = self._count(job)
        start = max(start, radio.until)  # an acknowledgment of its own may be in the way
        transmission = Transmission(
            radio.device, start, start + self._duration(job, job.done, count), job, job.done, count
        )
        if self._duty is not None:
            self._duty[radio.device].add(start, transmission.end - start)
        self._begin(radio, transmission)
        self.schedule(transmission.end, radio, self._end, transmission)

    def give_up(self, radio: Radio, cause: str) -> None:
        """Take note that the channel couldn't be had for the radio's next frame."""
        job = radio.jobs[0]
        if job.arq is not None:
            self._finish(radio, cause, acknowledged=False)
            return
        for k in range(len(job.links)):
            job.missed(k, job.done, cause)
        self._frames_over(radio, job, 1)

    def hears(self, listener: DeviceId, speaker: DeviceId) -> bool:
        """Tell whether a device notices another's transmission now."""
        return self._reach.hears(listener, speaker, self.clock.now)

    def is_busy(self, device: DeviceId, since: float, until: float) -> bool:
        """Tell whether a device transmitted or heard a transmission at any moment from `since` to `until`."""
        for other in self._on_air:
            if other.end > since and other.start <= until and (other.src == device or self.hears(device, other.src)):
                return True
        return False

    def _begin(self, radio: Radio, transmission: Transmission) -> None:
        now, start, end = self.clock.now, transmission.start, transmission.end
        if start < radio.until:
            raise InvariantError(
                f"device {radio.device} starts to transmit at {start} s and is on the air until {radio.until} s"
            )
        radio.until = end
        radio.seconds += end - start
        if self._propagation is not None:
            transmission.powers = self._propagation.powers(transmission.src, start)
        if self._collision == "sinr":
            self._lock(transmission)
        horizon = now - self._access.memory
        self._on_air = [other for other in self._on_air if other.end > horizon]
        for other in self._on_air:
            if other.end > start + _TOUCH and other.start < end - _TOUCH:
                other.overlaps.append(transmission)
                transmission.overlaps.append(other)
        self._on_air.append(transmission)
        if self._on_transmit is not None:
            self._on_transmit(radio.device, start, end)
        if self._follows:
            if start > now:
                self.schedule(start, radio, self._access.started, transmission)
            else:
                self._access.started(transmission)

    def _lock(self, transmission: Transmission) -> None:
        """Find the receivers that turn to a transmission.

        Those that notice it and are free, or busy with one so much weaker that this one captures them.
        """
        start, powers = transmission.start, transmission.powers
        free = self._decoding_until <= start
        turned = self._reach.listeners(transmission.src, start) & (
            free | (powers >= self._decoding_power + self._capture)
        )
        self._decoding_until[turned] = transmission.end
        self._decoding_power[turned] = powers[turned]
        transmission.decoders = turned

    def _end(self, transmission: Transmission) -> None:
        """Decide who received what a device has just transmitted."""
        radio, job = self.radios[transmission.src], transmission.job
        assert job is not None
        self._listen(transmission)
        job.air_seconds += transmission.end - transmission.start
        job.packets += transmission.count
        job.air_bytes += job.full if transmission.count == 1 else job.bytes
        if transmission.count == 1 and transmission.first == job.short:
            job.air_bytes += job.frame(job.short) - job.full
        lost = 0
        for k, link in enumerate(job.links):
            lost = self._receive(transmission, job, k, link)
        self._access.ended(transmission)
        if job.arq is None:
            self._frames_over(radio, job, transmission.count)
        else:
            self._await_ack(radio, job, heard=not lost)

    def _listen(self, transmission: Transmission) -> None:
        if self._on_receive is None:
            return
        for radio in self.radios:
            if radio.device != transmission.src and self.hears(radio.device, transmission.src):
                self._on_receive(radio.device, transmission.start, transmission.end)

    def _frames_over(self, radio: Radio, job: Job, count: int) -> None:
        radio.ready = self.clock.now + self.settings.spacing
        job.done += count
        job.heard = False
        radio.failures = 0
        if job.done == job.frames:
            self._finish(radio, "", acknowledged=False)
        else:
            self._next(radio)

    def _finish(self, radio: Radio, cause: str, acknowledged: bool) -> None:
        """Be done with a message, and turn to the next."""
        job = radio.jobs.popleft()
        radio.held -= job.bytes
        radio.held_frames -= job.frames
        radio.failures = 0
        self._decide(job, cause, acknowledged)
        self._next(radio)

    def _decide(self, job: Job, cause: str, acknowledged: bool = False) -> None:
        for k in range(len(job.links)):
            self.undecided -= 1
            job.decide(k, cause, self.clock.now, acknowledged)

    # Receiving

    def _receive(self, transmission: Transmission, job: Job, k: int, link: Link) -> int:
        """Note what a receiver misses of a transmission, and return how many frames that is."""
        if transmission.count == 1:
            cause = self._fate(transmission, link, job.frame(transmission.first))
            lost = {transmission.first: cause} if cause else {}
        else:
            lost = self._fates(transmission, job, link)
        job.unheard(k, len(lost))
        if job.arq is None:
            for frame, cause in sorted(lost.items()):
                job.missed(k, frame, cause)
        return len(lost)

    def _fates(self, transmission: Transmission, job: Job, link: Link) -> dict[int, str]:
        """Return why a receiver misses frames of a message that went out in one: frame -> cause."""
        steps = np.full(job.frames, self._duration(job, 0, 1) if job.short else 0.0)
        steps[job.short] = 0.0
        steps[job.short] = transmission.end - transmission.start - steps.sum()
        ends = transmission.start + np.cumsum(steps)
        starts = ends - steps
        lost = link.hear_all(job.full, starts, ends)
        for other in transmission.overlaps:
            if other.src == link.dst:
                for frame in np.flatnonzero((starts < other.end) & (ends > other.start)).tolist():
                    lost[frame] = "half-duplex"
        return lost

    def _fate(self, transmission: Transmission, link: Link, size: int) -> str:
        """Return why a device didn't receive a frame that has just ended, or ""."""
        dst, error = link.dst, None
        interferers = [other for other in transmission.overlaps if other.src == dst or self._interferes(other, dst)]
        disturbed = ""
        if interferers:
            if any(other.src == dst for other in interferers):
                disturbed = "half-duplex"
            elif self._collision == "overlap":
                disturbed = "collision"
            elif self._collision is not None:
                disturbed, error = self._disturbed(transmission, interferers, link, size)
        cause = link.hear(size, transmission.start, transmission.end, error)  # draws whatever has happened
        return disturbed or ("collision" if cause == "noise" and error is not None else cause)

    def _interferes(self, other: Transmission, dst: DeviceId) -> bool:
        if self._collision is None:
            return False
        return self._collision == "sinr" or self._reach.hears(dst, other.src, other.start)

    def _disturbed(
        self, transmission: Transmission, interferers: Sequence[Transmission], link: Link, size: int
    ) -> tuple[str, float | None]:
        """Return whether a frame is lost to others for certain, and else with what probability."""
        dst, signal = link.dst, float(transmission.powers[link.dst])
        if self._collision == "capture":
            strongest = max(float(other.powers[dst]) for other in interferers)
            return ("" if signal >= strongest + self._capture else "collision"), None
        if not transmission.decoders[dst]:  # busy with another frame when this one began
            return "collision", None
        assert self._propagation is not None
        interference = [(other.start, other.end, float(other.powers[dst])) for other in interferers]
        span = (transmission.start, transmission.end)
        return "", error_in_interference(self._propagation, transmission.src, dst, size, span, signal, interference)

    # Acknowledgments

    def _await_ack(self, radio: Radio, job: Job, *, heard: bool) -> None:
        assert job.arq is not None
        job.heard = job.heard or heard
        now, settings = self.clock.now, self.settings
        if settings.ack is None:
            self.schedule(now + job.arq.turnaround, radio, self._ack_over, (radio, heard, None))
            return
        start = now + settings.ack.delay
        end = start + settings.ack.airtime
        receiver = self.radios[job.links[0].dst]
        ack = None
        if heard and receiver.until <= start:
            ack = Transmission(receiver.device, start, end, None, 0, 1)
            self._begin(receiver, ack)
        self.schedule(end, radio, self._ack_over, (radio, heard, ack))

    def _ack_over(self, what: tuple[Radio, bool, Transmission | None]) -> None:
        """Go on to the next fragment, or try again."""
        radio, acknowledged, ack = what
        radio.ready = self.clock.now + self.settings.spacing
        job = radio.jobs[0]
        assert job.arq is not None
        if self.settings.ack is not None:
            acknowledged = False
            if ack is not None:
                self._listen(ack)
                back = self._back(ack.src, radio.device)
                acknowledged = not self._fate(ack, back, self.settings.ack.size)
                self._access.ended(ack)
        if acknowledged:
            job.done += 1
            job.heard = False
            radio.failures = 0
            if job.done == job.frames:
                self._finish(radio, "", acknowledged=job.known)
                return
        else:
            radio.failures += 1
            if radio.failures >= job.arq.most_tries:
                self._give_up_frame(radio, job)
                return
        self._next(radio)

    def _give_up_frame(self, radio: Radio, job: Job) -> None:
        """Stop repeating a frame; the receiver may have it all the same."""
        if not job.heard:
            job.missed(0, job.done, "retries")
        job.known = False
        if job.useful_in_part or (job.heard and job.done == job.frames - 1):
            self._frames_over(radio, job, 1)
        else:
            self._finish(radio, "retries", acknowledged=False)


def _access(settings: SharedMedium, air: Air, seed: int) -> Access:
    if isinstance(settings, Ideal):
        return InTurn(air)
    if isinstance(settings, CsmaCa):
        return Unslotted(air, settings, seed)
    if isinstance(settings, Dcf):
        return Distributed(air, settings, seed)
    if isinstance(settings, Aloha):
        return Unasked(air, settings, seed)
    return Access(air)
