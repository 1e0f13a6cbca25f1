"""A message on its way through a device's radio: its frames, and which of them each receiver misses."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from p2pl_async.air.rates import Mode
from p2pl_async.basics.arrays import Floats
from p2pl_async.link import Link, Ranges, Signal, Verdict, missing_ranges
from p2pl_async.messages import DeviceId

_LOOKS = 1000  # at links that are up at different times, before they are taken to be up together

Decided = Callable[[Any, int, Verdict], object]
Reached = Callable[[Any, int, Verdict], Verdict]
Measure = Callable[[Any, DeviceId, int], Signal]


class Outgoing:
    """A message that a device has accepted for transmission, to one device or to several at once.

    Frames are its fragments in order; with erasure coding, the parity of each group follows the group.
    If links differ, the message is cut for the smallest MTU with the longest header, sent at the lowest rate, and
    protected as the link with the most parity for its data asks for.

    A receiver has the message when it has received the frame that completes it: its arrival is fixed then, and
    `reached` is called, although the sender may repeat the frame, since it doesn't know, or send parity.

    Args:
        links: to its receivers.
        size: bytes.
        decided: called with `token`, the index of a link among the message's, and the verdict there, when the
            sender has finished the message.
        reached: called with the same when the message, or a part of it, gets to a receiver, before `decided`;
            returns the verdict, which may be another where the receiver isn't there when it arrives.
        token: passed on to both.
        now: the instant.
        measure: returns how a device heard a transmission, given the most transmissions of one frame.
        places: index of each of `links` among all links that the message takes.
        needed: number of bytes at the start without which a part is useless; None if only the whole is useful.
    """

    def __init__(
        self,
        links: Sequence[Link],
        size: int,
        decided: Decided,
        token: Any,
        now: float,
        measure: Measure,
        places: Sequence[int],
        needed: int | None = None,
        reached: Reached | None = None,
    ) -> None:
        self.links = links
        self.places = places
        self.token = token
        self.sent = now
        self._size = size
        self._decided = decided
        self._reached = reached
        self._measure = measure
        self._needed = needed
        # Most links share their settings: each of these counts once.
        settings = list({id(one): one for one in [link.settings_at(now) for link in links]}.values())
        self.header = max(one.header for one in settings)
        mtu = min((one.mtu for one in settings if one.mtu is not None), default=size + self.header)
        self.payload = max(1, mtu - self.header)
        self._fragments = max(1, math.ceil(size / self.payload))
        self._last = size - (self._fragments - 1) * self.payload + self.header  # bytes of the last fragment's frame
        codes = [one.fec for one in settings if one.fec is not None]
        fec = max(codes, key=lambda code: (code.parity / code.data, code.parity), default=None)
        self._data, self._parity = (self._fragments, 0) if fec is None else (fec.data, fec.parity)
        groups = -(-self._fragments // self._data)
        self._first_of_last = (groups - 1) * (self._data + self._parity)  # the first frame of the last group
        self._needs_of_last = self._fragments - (groups - 1) * self._data  # frames that rebuild the last group
        self.frames = self._fragments + groups * self._parity
        self.short = self._fragments - 1 + (groups - 1) * self._parity  # the frame of the last fragment
        self.full = self.payload + self.header if self._fragments > 1 else self._last
        self.bytes = size + self._fragments * self.header + groups * self._parity * self.full
        self.varies = any(link.varies for link in links)  # its rate may be another for each frame
        self.waits = self.varies or any(link.holds for link in links)  # it may have to wait for its links
        self.arq = settings[0].arq if len(links) == 1 else None
        self.sends_on = self.arq is not None or self._parity > 0  # after a receiver has all of it
        self.cut = ""  # why its sender gives it up at the end of the current frame; "" if it doesn't
        self.done = 0  # frames that are finished
        self.burst: Any = None  # what is left of it, if several of its frames are sent together
        self.asked = False  # its sender has asked to send the current frame
        self.began = 0.0  # first transmission of the current frame
        self.known = True  # every frame so far has been acknowledged
        self.heard = False  # the current frame has arrived, acknowledged or not
        self.copies = False  # each frame is sent several times, and nothing is acknowledged
        self._heard_copy: set[int] = set()  # receivers that have one of the current frame
        self.failures = 0  # of the current frame, while another message is before it
        self.channel = 0  # that its receivers listen on; with hopping, their offset
        self.mode: Mode | None = None  # how its current frame is sent; None until it asks for the channel
        self.latest: Any = None  # its latest transmission
        self.tries = 0  # most transmissions of one of its frames
        self.packets = 0
        self.air_bytes = 0
        self.air_seconds = 0.0
        self._lost = [0] * len(links)  # transmissions that a receiver didn't hear
        self._missing: list[list[int]] = [[] for _ in links]  # frames that a receiver never gets
        self._causes = [""] * len(links)  # why it misses the first of these
        self._fates: list[Verdict | None] = [None] * len(links)  # of receivers that have it, or have all they will get

    def frame(self, index: int) -> int:
        """Return the bytes of a frame, header included."""
        return self._last if index == self.short else self.full

    def ready(self, now: float) -> float:
        """Return the first instant from `now` on at which all its links are up and have a rate; math.inf if never."""
        at = now
        for _ in range(_LOOKS if self.waits else 0):
            later = max(link.ready(at) for link in self.links)
            if later == at:
                break
            at = later
        return at

    def rate_at(self, now: float) -> float | None:
        """Return the rate of a frame that asks for the channel now, the lowest of its links; None: unlimited."""
        return min((rate for link in self.links if (rate := link.rate_at(now)) is not None), default=None)

    @property
    def useful_in_part(self) -> bool:
        """Whether sending continues after a fragment is given up."""
        return self._needed is not None

    def seconds(self, first: int, count: int) -> float:
        """Return the air time of a transmission of frames from `first` on."""
        mode = self.mode
        assert mode is not None
        if self.burst is not None:
            return mode.seconds(self.burst.bytes)
        if first <= self.short < first + count:
            return (count - 1) * mode.seconds(self.full) + mode.seconds(self.frame(self.short))
        return count * mode.seconds(self.full)

    def spans(self, transmission: Any) -> tuple[Floats, Floats]:
        """Return the first and the last instant of each frame, of all in one transmission."""
        steps = np.full(self.frames, self.seconds(0, 1) if self.short else 0.0)
        steps[self.short] = 0.0
        steps[self.short] = transmission.end - transmission.start - steps.sum()
        ends: Floats = transmission.start + np.cumsum(steps)
        return ends - steps, ends

    def count(self, transmission: Any, tries: int) -> None:
        """Add a transmission, the so many-th of its frame, to what this message has cost."""
        self.latest = transmission
        self.tries = max(self.tries, tries)
        if self.burst is not None:
            self.air_seconds += transmission.end - transmission.start
            self.packets += transmission.count
            self.air_bytes += self.burst.bytes
            return
        self.air_seconds += transmission.end - transmission.start
        self.packets += transmission.count
        self.air_bytes += self.full if transmission.count == 1 else self.bytes
        if transmission.count == 1 and transmission.first == self.short:
            self.air_bytes += self.frame(self.short) - self.full

    def send_copies(self) -> None:
        """Have each frame sent several times; a receiver needs one of its copies."""
        self.copies = self.sends_on = True

    def copy_heard(self, k: int, cause: str) -> None:
        """Record whether receiver k has heard a copy of the current frame, "", or why it hasn't."""
        if cause:
            self._causes[k] = cause if k not in self._heard_copy and not self._missing[k] else self._causes[k]
        else:
            self._heard_copy.add(k)

    def copies_over(self) -> None:
        """Record who has heard no copy of the current frame: no more of them will be sent."""
        for k in range(len(self.links)):
            if k not in self._heard_copy:
                self.missed(k, self.done, self._causes[k])
        self._heard_copy.clear()

    def missed(self, k: int, frame: int, cause: str) -> None:
        """Record that receiver k will never get a frame."""
        self._missing[k].append(frame)
        self._causes[k] = self._causes[k] or cause

    def unheard(self, k: int, transmissions: int) -> None:
        """Record the number of transmissions that receiver k didn't hear."""
        self._lost[k] += transmissions

    def received(self, k: int, frame: int, end: float) -> None:
        """Record that receiver k has received a frame, which ended now; fix the arrival if it completes the message."""
        if self._fates[k] is not None or frame < self._first_of_last:
            return
        missed = sum(missing >= self._first_of_last for missing in self._missing[k])
        if frame - self._first_of_last + 1 - missed >= self._needs_of_last and not self._unrepaired(k):
            self._fix(k, Verdict(self.links[k].travel(end), signal=self._signal(k)))

    def received_whole(self, k: int, end: float) -> None:
        """Record that receiver k has received the last frame that it lacked, which ended now."""
        if self._fates[k] is None:
            self._fix(k, Verdict(self.links[k].travel(end), signal=self._signal(k)))

    def decide(self, k: int, cause: str, end: float, acknowledged: bool) -> None:
        """Report the fate of the message at receiver k, when the sender has finished it.

        Args:
            k: the receiver.
            cause: why the whole message was given up; "" if it wasn't.
            end: the instant.
            acknowledged: whether the sender knows that all of it arrived.
        """
        verdict = self._fates[k]
        if verdict is None:
            missing: Ranges = ()
            lost = [] if cause else self._unrepaired(k)
            if lost:
                found = np.array(lost)
                missing = missing_ranges(found, self._fragments, self.payload, self._size, self._needed)
                cause = "partial" if missing else self._causes[k]
            signal = self._signal(k)
            if missing or not cause:
                arrival = self.links[k].travel(end)
                verdict = self._fix(k, Verdict(arrival, cause, missing=missing, signal=signal))
            else:
                verdict = Verdict(cause=cause, signal=signal)
        if acknowledged and not verdict.cause:
            verdict = verdict._replace(acknowledged=True)
        if k == 0:  # a transmission is charged once, however many hear it: to the first of its links
            verdict = verdict._replace(
                packets=self.packets,
                packets_lost=self._lost[0],
                air_bytes=self.air_bytes,
                air_seconds=self.air_seconds,
            )
        self._decided(self.token, self.places[k], verdict)

    def abandon(self, k: int, verdict: Verdict, end: float) -> None:
        """Report this verdict for receiver k, as the run ends; if it has the message, that one."""
        if self._fates[k] is None:
            self._decided(self.token, self.places[k], verdict)
        else:
            self.decide(k, "", end, acknowledged=False)

    def _fix(self, k: int, verdict: Verdict) -> Verdict:
        """Fix the fate of the message at receiver k, which it reaches."""
        if self._reached is not None:
            verdict = self._reached(self.token, self.places[k], verdict)
        self._fates[k] = verdict
        return verdict

    def _signal(self, k: int) -> Signal | None:
        """Return how receiver k heard the latest transmission; None if there was none."""
        return None if self.latest is None else self._measure(self.latest, self.links[k].dst, self.tries)

    def _fragment(self, frame: int) -> int | None:
        """Return the fragment that a frame carries; None if it is parity."""
        if not self._parity:
            return frame
        group, within = divmod(frame, self._data + self._parity)
        fragment = group * self._data + within
        return fragment if within < self._data and fragment < self._fragments else None

    def _unrepaired(self, k: int) -> list[int]:
        """Return the fragments that receiver k misses and can't rebuild from parity, ascending."""
        if not self._parity:
            return sorted(self._missing[k])
        step = self._data + self._parity
        lost: list[int] = []
        for group in {frame // step for frame in self._missing[k]}:
            frames = [frame for frame in self._missing[k] if frame // step == group]
            if len(frames) > self._parity:
                lost += [fragment for frame in frames if (fragment := self._fragment(frame)) is not None]
        return sorted(lost)
