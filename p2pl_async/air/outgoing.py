"""A message on its way through a device's radio: its frames, and which of them each receiver misses."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from p2pl_async.air.framing import Recipients
from p2pl_async.air.rates import Mode
from p2pl_async.basics.arrays import Floats
from p2pl_async.basics.timeline import rounding
from p2pl_async.link import Ranges, Signal, Verdict, missing_ranges
from p2pl_async.link.verdict import charged, on_air
from p2pl_async.messages import DeviceId

_LOOKS = 1000  # at links that are up at different times, before they are taken to be up together

Decided = Callable[[Any, Sequence[int], Sequence[Verdict]], object]
Reached = Callable[[Any, Sequence[int], Sequence[Verdict]], Sequence[Verdict]]
Measure = Callable[[Any, Sequence[DeviceId], int], Sequence[Signal]]


class Outgoing:
    """A message that a device has accepted for transmission, to one device or to several at once.

    `framing` says what its frames are. It is sent at the lowest rate of its links.

    A receiver has the message when it has received the frame that completes it: its arrival is fixed then, and
    `reached` is called, although the sender may repeat the frame, since it doesn't know, or send parity.

    Args:
        group: the links to its receivers.
        size: bytes.
        decided: called with `token`, the places of the group's links, and the verdict on each, when the sender has
            finished the message.
        reached: called with the same when the message, or a part of it, gets to some receivers, before `decided`;
            returns the verdicts, which may be others where a receiver isn't there when it arrives.
        token: passed on to both.
        now: the instant.
        measure: returns how devices heard a transmission, given the most transmissions of one frame.
        needed: number of bytes at the start without which a part is useless; None if only the whole is useful.
    """

    # Most messages keep most of these, and are made faster if the class has them.
    cut = ""  # why its sender gives it up at the end of the current frame; "" if it doesn't
    done = 0  # frames that are finished
    burst: Any = None  # what is left of it, if several of its frames are sent together
    asked = False  # its sender has asked to send the current frame
    began = 0.0  # first transmission of the current frame
    known = True  # every frame so far has been acknowledged
    heard = False  # the current frame has arrived, acknowledged or not
    copies = False  # each frame is sent several times, and nothing is acknowledged
    failures = 0  # of the current frame, while another message is before it
    channel = 0  # that its receivers listen on; with hopping, their offset
    mode: Mode | None = None  # how its current frame is sent; None until it asks for the channel
    latest: Any = None  # its latest transmission
    tries = 0  # most transmissions of one of its frames
    packets = 0
    air_bytes = 0
    air_seconds = 0.0
    _lost = 0  # transmissions that its first receiver didn't hear

    def __init__(
        self,
        group: Recipients,
        size: int,
        decided: Decided,
        token: Any,
        now: float,
        measure: Measure,
        needed: int | None = None,
        reached: Reached | None = None,
    ) -> None:
        self.group = group
        self.links = group.links
        self.token = token
        self.sent = now
        self._size = size
        self._decided = decided
        self._reached = reached
        self._measure = measure
        self._needed = needed
        self._framing = framing = group.framing(size, now)
        self.frames = framing.frames
        self.full = framing.full
        self.bytes = framing.bytes
        self.arq = group.settings(now)[0].arq if len(group.links) == 1 else None
        self.sends_on = self.arq is not None or framing.parity > 0  # after a receiver has all of it
        self._missing: dict[int, list[int]] = {}  # receiver -> frames that it never gets
        self._causes: dict[int, str] = {}  # why it misses the first of these
        self._fates: dict[int, Verdict] = {}  # of receivers that have it, or have all they will get

    def is_older(self, lifetime: float, now: float) -> bool:
        """Tell whether it has waited for longer than its lifetime, without a frame that is finished."""
        return not self.done and now - self.sent > lifetime + rounding(now)

    def frame(self, index: int) -> int:
        """Return the bytes of a frame, header included."""
        return self._framing.last if index == self._framing.short else self.full

    def ready(self, now: float) -> float:
        """Return the first instant from `now` on at which all its links are up and have a rate; math.inf if never."""
        at = now
        for _ in range(_LOOKS if self.group.waits else 0):
            later = max(link.ready(at) for link in self.links)
            if later == at:
                break
            at = later
        return at

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
        if first <= self._framing.short < first + count:
            return (count - 1) * mode.seconds(self.full) + mode.seconds(self._framing.last)
        return count * mode.seconds(self.full)

    def spans(self, transmission: Any) -> tuple[Floats, Floats]:
        """Return the first and the last instant of each frame, of all in one transmission."""
        short = self._framing.short
        steps = np.full(self.frames, self.seconds(0, 1) if short else 0.0)
        steps[short] = 0.0
        steps[short] = transmission.end - transmission.start - steps.sum()
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
        if transmission.count == 1 and transmission.first == self._framing.short:
            self.air_bytes += self._framing.last - self.full

    def send_copies(self) -> None:
        """Have each frame sent several times; a receiver needs one of its copies."""
        self.copies = self.sends_on = True
        self._heard_copy: set[int] = set()  # receivers that have one of the current frame

    def copy_heard(self, k: int, cause: str) -> None:
        """Record whether receiver k has heard a copy of the current frame, "", or why it hasn't."""
        if cause:
            if k not in self._heard_copy and k not in self._missing:
                self._causes[k] = cause
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
        self._missing.setdefault(k, []).append(frame)
        self._causes.setdefault(k, cause)

    def unheard(self, k: int, transmissions: int) -> None:
        """Record the number of transmissions that receiver k didn't hear: of the first, to which all are charged."""
        if k == 0:
            self._lost += transmissions

    def received(self, k: int, frame: int, end: float) -> None:
        """Record that receiver k has received a frame, which ended now; fix the arrival if it completes the message."""
        first = self._framing.first_of_last
        if k in self._fates or frame < first:
            return
        missed = sum(missing >= first for missing in self._missing.get(k, ()))
        if frame - first + 1 - missed >= self._framing.needs_of_last and not self._unrepaired(k):
            self.received_whole(k, end)

    def received_whole(self, k: int, end: float) -> None:
        """Record that receiver k has received the last frame that it lacked, which ended now."""
        if k not in self._fates:
            (signal,) = self._signals([k])
            self._fix([k], [on_air(self.links[k].travel(end), "", (), signal)])

    def decide(self, cause: str, end: float, acknowledged: bool) -> None:
        """Report the fate of the message at each receiver, when the sender has finished it.

        Args:
            cause: why the whole message was given up; "" if it wasn't.
            end: the instant.
            acknowledged: whether the sender knows that all of it arrived.
        """
        fates = self._fates
        places = range(len(self.links))
        rest = [k for k in places if k not in fates] if fates else places
        reached = []
        for k, signal in zip(rest, self._signals(rest), strict=True):
            missing: Ranges = ()
            why = cause
            if not cause and k in self._missing and (lost := self._unrepaired(k)):
                framing, found = self._framing, np.array(lost)
                missing = missing_ranges(found, framing.fragments, framing.payload, self._size, self._needed)
                why = "partial" if missing else self._causes[k]
            if missing or not why:
                fates[k] = on_air(self.links[k].travel(end), why, missing, signal)
                reached.append(k)
            else:
                fates[k] = on_air(math.inf, why, (), signal)
        if reached:
            self._fix(reached, [fates[k] for k in reached])
        verdicts = [fates[k] for k in places]
        if acknowledged:
            verdicts = [one if one.cause else one._replace(acknowledged=True) for one in verdicts]
        verdicts[0] = self._charged(verdicts[0])
        self.latest = None  # they would hold each other, until Python looks for such circles: a tenth of a run
        self._decided(self.token, self.group.places, verdicts)

    def abandon(self, verdict: Verdict) -> None:
        """Report this verdict for each receiver, as the run ends; for those that have the message, theirs."""
        verdicts = [self._fates.get(k, verdict) for k in range(len(self.links))]
        if 0 in self._fates:
            verdicts[0] = self._charged(verdicts[0])
        self._decided(self.token, self.group.places, verdicts)

    def _charged(self, verdict: Verdict) -> Verdict:
        """Return a verdict with the costs of the message: those of all transmissions, however many hear them."""
        return charged(verdict, self.packets, self._lost, self.air_bytes, self.air_seconds)

    def _fix(self, receivers: Sequence[int], verdicts: Sequence[Verdict]) -> None:
        """Fix the fate of the message at receivers that it reaches."""
        if self._reached is not None:
            places = self.group.places
            verdicts = self._reached(self.token, [places[k] for k in receivers], verdicts)
        self._fates.update(zip(receivers, verdicts, strict=True))

    def _signals(self, receivers: Sequence[int]) -> Sequence[Signal | None]:
        """Return how receivers heard the latest transmission; None if there was none."""
        if self.latest is None:
            return [None] * len(receivers)
        devices = self.group.receivers
        if len(receivers) < len(devices):
            devices = [devices[k] for k in receivers]
        return self._measure(self.latest, devices, self.tries)

    def _unrepaired(self, k: int) -> list[int]:
        """Return the fragments that receiver k misses and can't rebuild from parity, ascending."""
        framing, missing = self._framing, self._missing.get(k, [])
        if not framing.parity:
            return sorted(missing)
        step = framing.data + framing.parity
        lost: list[int] = []
        for group in {frame // step for frame in missing}:
            frames = [frame for frame in missing if frame // step == group]
            if len(frames) > framing.parity:
                lost += [fragment for frame in frames if (fragment := framing.fragment(frame)) is not None]
        return sorted(lost)
