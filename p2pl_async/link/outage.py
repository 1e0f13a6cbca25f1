"""Outages: a link that is down carries nothing, and cuts off packets on the air.

A packet is lost if the link is down at any moment of its transmission. With `when_off = "hold"`
the transmitter knows when the link is down, and waits until it is up again; packets on the air
when it goes down are lost all the same. Sleeping radios and links that come and go are outages;
packets lost to noise are `loss`.
"""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import AfterValidator, Field, model_validator

from p2pl_async.basics.arrays import Floats
from p2pl_async.basics.distributions import AnyDuration, Exponential
from p2pl_async.basics.randomness import stream
from p2pl_async.basics.settings import OneOf, Settings, mistake, word
from p2pl_async.basics.tracefiles import TraceError, header_of, read_columns
from p2pl_async.basics.units import TIME, PositiveSeconds, Probability, Seconds, show_seconds
from p2pl_async.link.switching import Either, Memoryless, Renewal, Switching, UpIntervals, geometric_scale

Process = Switching | Either
"""When something is down: state 1."""


def _owner(name: str) -> str:
    if not name or not name.replace("-", "").replace("_", "").isalnum():
        raise mistake('must be "link", "pair", "sender", "receiver", "device", or a name of letters, digits, - and _')
    return name


Of = Annotated[str, AfterValidator(_owner)]


class Outage(Settings):
    """Base of every outage model."""

    @property
    def holds(self) -> bool:
        """Whether the transmitter waits while the link is down, instead of sending in vain."""
        return False

    def process(self, seed: int, src: int, dst: int) -> Process | None:
        """Return when one link is down (state 1), or None if it never is."""
        raise NotImplementedError


class NoOutage(Outage):
    """The link is always up."""

    kind: Literal["none"] = "none"

    def process(self, seed: int, src: int, dst: int) -> None:
        return None


class _Interrupted(Outage):
    """Base of links that are down at times."""

    when_off: Literal["drop", "hold"] = Field(
        default="drop", description='"hold": messages sent while the link is down wait for it in the queue'
    )

    @property
    def holds(self) -> bool:
        return self.when_off == "hold"


class DrawnOutage(_Interrupted):
    """Base of outages that are drawn; `of` says which links are down at the same times."""

    of: Of = Field(
        default="link",
        description='which links are down together: each "link" alone, both directions of a "pair", all links of a '
        '"sender" or "receiver", all of a "device" either way, or all links with the same name here',
    )

    def process(self, seed: int, src: int, dst: int) -> Process:
        of = self.of
        if of == "device":
            return Either([self._shared(seed, device) for device in (src, dst)])
        if of == "link":
            return self.draw(stream(seed, "outage", src, dst))
        if of == "pair":
            return self.draw(stream(seed, "outage-shared", min(src, dst), max(src, dst)))
        return self._shared(seed, src if of == "sender" else dst)

    def deafness(self, seed: int, device: int) -> Switching | None:
        """Return when all links to a device are down together (state 1), or None if each sender's are by themselves."""
        return None if self.of in ("link", "pair", "sender") else self._shared(seed, device)

    def _shared(self, seed: int, device: int) -> Switching:
        """Return the process of one device's links, or of all links with the same name."""
        if self.of in ("device", "sender", "receiver"):
            return self.draw(stream(seed, f"outage-{self.of}", device))
        return self.draw(stream(seed, f"outage of {self.of}"))

    def draw(self, generator: np.random.Generator) -> Switching:
        """Return one process, from a stream of its own."""
        raise NotImplementedError


class OnOff(DrawnOutage):
    """Up and down for random stretches of time: exponential with these means, or of any distribution."""

    kind: Literal["on-off"] = "on-off"
    up: AnyDuration = Field(description="time until the link goes down")
    down: AnyDuration = Field(description="time until it comes up again")

    def draw(self, generator: np.random.Generator) -> Switching:
        if isinstance(self.up, Exponential) and isinstance(self.down, Exponential):
            up, down = self.up.mean, self.down.mean
            return Memoryless(generator, (up, down), down / (up + down))
        return Renewal(generator, (self.up, self.down))


class Slotted(DrawnOutage):
    """Time is cut into slots; in each, the link is down with probability p, independently.

    Slots start at 0 s on every link.
    """

    kind: Literal["slotted"] = "slotted"
    p: Probability = Field(description="share of slots in which the link is down")
    slot: PositiveSeconds = Field(description="length of a slot")

    def draw(self, generator: np.random.Generator) -> Switching:
        return Memoryless(generator, (geometric_scale(self.p), geometric_scale(1.0 - self.p)), self.p, self.slot)


class DutyCycle(_Interrupted):
    """A radio that sleeps: awake for a while in every period, each device with a phase of its own."""

    kind: Literal["duty-cycle"] = "duty-cycle"
    awake: PositiveSeconds = Field(description="how long it is awake in every period")
    period: PositiveSeconds = Field(description="from one waking to the next")
    phase: Annotated[Seconds | None, *word("random")] = Field(
        default=None, description='when it wakes for the first time; "random": drawn for each device'
    )
    of: Literal["receiver", "sender", "device"] = Field(
        default="receiver", description='whose radio sleeps; "device": that of both ends, which must be awake together'
    )

    @model_validator(mode="after")
    def _check(self) -> DutyCycle:
        if self.awake >= self.period:
            raise mistake(
                f"awake, {show_seconds(self.awake)}, must be shorter than period, {show_seconds(self.period)}; "
                'for a radio that never sleeps write outage = "none"'
            )
        return self

    def process(self, seed: int, src: int, dst: int) -> Process:
        if self.of == "device" and self.never_up(seed, src, dst):
            return UpIntervals(np.empty((0, 2)), None)
        asleep = {"receiver": (dst,), "sender": (src,), "device": (src, dst)}[self.of]
        parts = [self._radio(seed, device) for device in asleep]
        return parts[0] if len(parts) == 1 else Either(parts)

    def never_up(self, seed: int, src: int, dst: int) -> bool:
        """Tell whether two radios are never awake together: neither wakes while the other is awake."""
        apart = (self.wakes(seed, dst) - self.wakes(seed, src)) % self.period
        return self.awake <= apart <= self.period - self.awake

    def wakes(self, seed: int, device: int) -> float:
        """Return the first instant at which a device wakes, in seconds."""
        share = float(stream(seed, "duty-cycle", device).random())
        return share * self.period if self.phase is None else self.phase % self.period

    def _radio(self, seed: int, device: int) -> UpIntervals:
        phase = self.wakes(seed, device)
        if phase + self.awake <= self.period:
            return UpIntervals(np.array([[phase, phase + self.awake]]), self.period)
        return UpIntervals(np.array([[0.0, phase + self.awake - self.period], [phase, self.period]]), self.period)


class ContactPlan(_Interrupted):
    """A contact plan: the link is up in given intervals only, such as the passes of a satellite.

    A file is a CSV table with the columns `start` and `end`, and with `src` and `dst` if it lists
    several links.
    """

    kind: Literal["contacts"] = "contacts"
    alternatives: ClassVar[tuple[tuple[str, ...], ...]] = (("up", "path"),)

    up: tuple[tuple[Seconds, Seconds], ...] | None = Field(
        default=None, description='[start, end] of each contact: [["0 s", "10 s"], ["60 s", "70 s"]]'
    )
    path: Path | None = Field(default=None, description="a CSV file that has them, instead")
    unit: Literal["s", "ms", "us", "µs", "ns", "min", "h"] = Field(default="s", description="unit of the file's times")
    period: PositiveSeconds | None = Field(default=None, description="after which the plan begins again")

    @model_validator(mode="after")
    def _check(self) -> ContactPlan:
        if (self.up is None) == (self.path is None):
            raise mistake('needs exactly one of up = [["0 s", "10 s"], ...] and path = "contacts.csv"')
        for (src, dst), intervals in self._plans.items():
            self._check_plan(intervals, f" of link {src} -> {dst}" if src >= 0 else "")
        return self

    def _check_plan(self, intervals: Floats, where: str) -> None:
        for start, end in intervals:
            shown = f"the contact from {show_seconds(start)} to {show_seconds(end)}{where}"
            if start < 0:
                raise mistake(f"{shown} must not begin before 0 s")
            if end <= start:
                raise mistake(f"{shown} must end after it begins")
            if self.period is not None and end > self.period:
                raise mistake(
                    f"{shown} must end within the period, {show_seconds(self.period)}; split one that goes on into the "
                    "next period in two"
                )
        for before, after in pairwise(intervals):
            if after[0] < before[1]:
                raise mistake(
                    f"contacts{where} must ascend and not overlap, but one begins at {show_seconds(after[0])} and the "
                    f"one before ends at {show_seconds(before[1])}"
                )

    @property
    def latest_device(self) -> int:
        """The largest id in the file; -1 if it names none."""
        return max(max(link) for link in self._plans)

    def process(self, seed: int, src: int, dst: int) -> Process | None:
        plans = self._plans
        intervals = plans.get((-1, -1)) if (-1, -1) in plans else plans.get((src, dst))
        if intervals is None:
            return UpIntervals(np.empty((0, 2)), None)
        joined = intervals.ravel()
        apart = np.flatnonzero(joined[2::2] > joined[1:-1:2])  # contacts that touch are one
        intervals = np.column_stack((joined[::2][np.append(0, apart + 1)], joined[1::2][np.append(apart, -1)]))
        if self.period is not None and intervals[0].tolist() == [0.0, self.period]:
            return None
        return UpIntervals(intervals, self.period)

    @cached_property
    def _plans(self) -> dict[tuple[int, int], Floats]:
        """Return (src, dst) -> its contacts in seconds, shape (n, 2); (-1, -1) stands for every link."""
        if self.up is not None:
            if not self.up:
                raise mistake('up must have a contact such as ["0 s", "10 s"]')
            return {(-1, -1): np.array(self.up)}
        assert self.path is not None
        try:
            of_links = ["src", "dst"] if {"src", "dst"} & set(header_of(self.path)) else []
            columns = read_columns(self.path, ["start", "end", *of_links])
        except TraceError as error:
            raise mistake(str(error)) from error
        intervals = np.column_stack((columns["start"], columns["end"])) * TIME[self.unit]
        if not of_links:
            return {(-1, -1): intervals}
        ends = np.column_stack((columns["src"], columns["dst"]))
        wrong = (ends < 0) | (ends != np.floor(ends))
        if wrong.any():
            raise mistake(f"{self.path} has a contact of device {ends[wrong][0]:g}; ids are whole numbers from 0 on")
        links = ends.astype(np.int64)
        return {
            (src, dst): intervals[(links == (src, dst)).all(axis=1)] for src, dst in set(map(tuple, links.tolist()))
        }


AnyOutage = Annotated[Outage, OneOf("outage", NoOutage, OnOff, Slotted, DutyCycle, ContactPlan)]
