"""Loss: whether a packet that is sent also arrives.

Decided for each packet (each fragment, each retry) by one uniform variable of its own, so
that a larger probability loses the same packets and some more.

Bursts come in two sorts. Those in time (`gilbert-elliott`) are weather: they last as long
whether one sends or not. Those per packet (`gilbert-packets`, `four-state`,
`burst-error`, `trace`) step with each packet of the link, as netem, ns-3 and most of the literature have
them; there a burst waits for whoever sends seldom.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from p2pl_async.basics.arrays import Floats
from p2pl_async.link.over_time import Clockwork, Varying

Codes = NDArray[np.int8]  # fates of packets: indices into CAUSES, 0 for one that arrives


States = NDArray[np.intp]


CAUSES = (
    "",
    "loss",
    "burst",
    "noise",
    "corrupt",
    "outage",
)  # why a packet is lost; a link adds what else takes it down


_LOSS, _BURST = CAUSES.index("loss"), CAUSES.index("burst")


class Segment(NamedTuple):
    """A stretch of time in which packets are lost independently, each with the same probability."""

    p: float  # probability of loss
    cause: str  # what such a loss is called
    until: float  # instant at which it ends; math.inf if never


class LossProcess(Protocol):
    """One link's loss, as it unfolds; instants never decrease.

    Packets are either asked for one by one (`fate`, which counts as sending it), or looked at
    ahead (`fates`, as often as one likes) and then told how many of them were really sent
    (`passed`).
    """

    def fate(self, uniform: float, at: float) -> str:
        """Return why the next packet, sent at the instant `at`, is lost, or ""."""

    def fates(self, uniforms: Floats, at: Floats) -> Codes:
        """Return the fates of the next packets if sent at the instants `at`, ascending; shapes (n,)."""

    def passed(self, packets: int) -> None:
        """Note that so many of the packets that `fates` looked at were sent."""

    def segment(self, at: float) -> Segment | None:
        """Return the stretch of independent losses around the instant `at`; None if there is no such thing."""


class LossModel(Varying):
    """Base of every loss model."""

    def process(self, seed: int, src: int, dst: int) -> LossProcess | None:
        """Return the process of one link, or None if nothing is ever lost."""
        course = self.course()
        return self.steady(seed, src, dst) if course is None else _Changing(*course, (seed, src, dst))

    def steady(self, seed: int, src: int, dst: int) -> LossProcess | None:
        """Return the process of one link while these settings hold, or None if nothing is ever lost."""
        raise NotImplementedError


class _Changing:
    """A loss whose settings change in time; equal settings share a process, and each process has the link's streams."""

    __slots__ = ("_clockwork", "_looked", "_numbers", "_owner", "_processes", "_versions")

    def __init__(
        self,
        clockwork: Clockwork,
        numbers: Sequence[int],
        versions: Sequence[LossModel],
        owner: tuple[int, int, int],
    ) -> None:
        self._clockwork = clockwork
        self._numbers = np.array(numbers)
        self._versions = versions
        self._owner = owner
        self._processes: dict[int, LossProcess | None] = {}  # made when first needed, for a trace may have thousands
        self._looked: States = np.empty(0, np.intp)  # versions of the packets that `fates` looked at

    def fate(self, uniform: float, at: float) -> str:
        process = self._process(self._numbers[self._clockwork.index(at)])
        return "" if process is None else process.fate(uniform, at)

    def fates(self, uniforms: Floats, at: Floats) -> Codes:
        self._looked = self._numbers[self._clockwork.indices(at)]
        fates = np.zeros(at.shape, np.int8)
        for number in np.unique(self._looked):
            process, own = self._process(number), self._looked == number
            if process is not None:
                fates[own] = process.fates(uniforms[own], at[own])
        return fates

    def passed(self, packets: int) -> None:
        for number, count in zip(*np.unique(self._looked[:packets], return_counts=True), strict=True):
            process = self._process(number)
            if process is not None:
                process.passed(int(count))

    def _process(self, number: int) -> LossProcess | None:
        """Return the process of a version."""
        if number not in self._processes:
            self._processes[number] = self._versions[number].steady(*self._owner)
        return self._processes[number]

    def segment(self, at: float) -> Segment | None:
        process = self._process(self._numbers[self._clockwork.index(at)])
        inner = Segment(0.0, "loss", math.inf) if process is None else process.segment(at)
        return inner and inner._replace(until=min(inner.until, self._clockwork.until(at)))
