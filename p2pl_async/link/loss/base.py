"""Loss: whether a packet that is sent also arrives.

Decided for each packet (each fragment, each retry) by one uniform variable of its own, so
that a larger probability loses the same packets and some more.

Bursts come in two sorts. Those in time (`gilbert-elliott`) are weather: their length doesn't
depend on the traffic. Those per packet (`gilbert-packets`, `four-state`,
`burst-error`, `trace`) step with each packet of the link, as in netem, ns-3 and most of the
literature; a device that sends rarely meets the same bursts later.
"""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from p2pl_async.basics.arrays import Floats, Ints
from p2pl_async.basics.timeline import Steps, Stretch
from p2pl_async.link.over_time import Varying

Codes = NDArray[np.int8]
"""Fates of packets: indices into CAUSES, 0 for one that arrives."""

CAUSES = ("", "loss", "burst", "noise", "corrupt", "outage")
"""Why a packet is lost; a link adds whatever else takes it down."""

LOSS, BURST = CAUSES.index("loss"), CAUSES.index("burst")


class Odds(NamedTuple):
    """How packets are lost while they are lost independently, each with the same probability."""

    p: float  # probability of loss
    cause: str  # of such a loss


NOTHING_LOST = Stretch(Odds(0.0, ""), math.inf)


class LossProcess(Protocol):
    """One link's loss, as it unfolds; instants never decrease.

    Packets are either decided one by one (`fate`, which counts as sending it), or looked at
    ahead (`fates`, any number of times), and then `passed` says how many of them were sent.
    """

    def fate(self, uniform: float, at: float) -> str:
        """Return why the next packet, sent at the instant `at`, is lost, or ""."""

    def fates(self, uniforms: Floats, at: Floats) -> Codes:
        """Return the fates of the next packets if sent at the instants `at`, ascending; shapes (n,)."""

    def passed(self, packets: int) -> None:
        """Count packets that `fates` looked at as sent."""

    def skip(self, packets: int, at: float) -> None:
        """Count packets as sent from the instant `at` on that nothing looked at."""

    def at(self, now: float) -> Stretch[Odds | None]:
        """Return how packets are lost at the instant `now`; None if they depend on each other."""


class LossModel(Varying):
    """Base of every loss model."""

    def process(self, seed: int, src: int, dst: int) -> LossProcess | None:
        """Return the process of one link, or None if nothing is ever lost."""
        versions = self.versions()
        if versions is None:
            return self.make(seed, src, dst)
        steps, models = versions
        return ChangingLoss(steps, lambda number: models[number].make(seed, src, dst))

    @abstractmethod
    def make(self, seed: int, src: int, dst: int) -> LossProcess | None:
        """Return the process of one link while these settings hold, or None if nothing is ever lost.

        Of your own, a `PacketLoss` with a `fate` is enough; draws come from `stream(seed, "loss", src, dst)`.
        """


class PacketLoss:
    """A loss process of one's own that decides packet by packet: define `fate`, which may change its state.

    What looks ahead works on a copy, and packets that are sent afterwards go through `fate` again.
    """

    _looked: tuple[Floats, Floats] | None = None

    def fate(self, uniform: float, at: float) -> str:
        """Return why the next packet, sent at the instant `at`, is lost: one of `CAUSES`, or ""."""
        raise NotImplementedError

    def fates(self, uniforms: Floats, at: Floats) -> Codes:
        """Return the fates of the next packets."""
        self._looked = uniforms, at
        ahead = copy.deepcopy(self)
        causes = [ahead.fate(u, t) for u, t in zip(uniforms.tolist(), at.tolist(), strict=True)]
        return np.array([CAUSES.index(cause) for cause in causes], np.int8)

    def passed(self, packets: int) -> None:
        """Count packets that `fates` looked at as sent."""
        if self._looked is not None:
            for uniform, at in zip(self._looked[0][:packets].tolist(), self._looked[1][:packets].tolist(), strict=True):
                self.fate(uniform, at)

    def skip(self, packets: int, at: float) -> None:
        """Count packets as sent that nothing looked at; a loss with a memory of packets overrides it."""

    def at(self, now: float) -> Stretch[Odds | None]:
        """Return that packets depend on each other, as far as anyone knows."""
        return Stretch(None, math.inf)


class ChangingLoss:
    """One loss process after another.

    Args:
        steps: which process holds when, by number.
        make: returns the process of a number, None if that loses nothing; called when it is first needed,
            for a recording may have thousands.
    """

    __slots__ = ("_looked", "_make", "_numbers", "_processes", "_steps")

    def __init__(self, steps: Steps[int], make: Callable[[int], LossProcess | None]) -> None:
        self._steps = steps
        self._numbers = np.array(steps.values)
        self._make = make
        self._processes: dict[int, LossProcess | None] = {}
        self._looked: Ints = np.empty(0, np.int64)  # numbers for the packets that `fates` looked at

    def fate(self, uniform: float, at: float) -> str:
        process = self._process(self._steps.value(at))
        return "" if process is None else process.fate(uniform, at)

    def fates(self, uniforms: Floats, at: Floats) -> Codes:
        self._looked = self._numbers[self._steps.indices(at)]
        fates = np.zeros(at.shape, np.int8)
        for number in np.unique(self._looked).tolist():
            process, own = self._process(number), self._looked == number
            if process is not None:
                fates[own] = process.fates(uniforms[own], at[own])
        return fates

    def passed(self, packets: int) -> None:
        for number, count in Counter(self._looked[:packets].tolist()).items():
            process = self._process(number)
            if process is not None:
                process.passed(count)

    def skip(self, packets: int, at: float) -> None:
        process = self._process(self._steps.value(at))
        if process is not None:
            process.skip(packets, at)

    def at(self, now: float) -> Stretch[Odds | None]:
        number, until = self._steps.at(now)
        process = self._process(number)
        odds, ends = NOTHING_LOST if process is None else process.at(now)
        return Stretch(odds, min(ends, until))

    def unchanged_until(self, now: float) -> float:
        """Return until when the process that holds at the instant `now` goes on."""
        return self._steps.at(now).until

    def _process(self, number: int) -> LossProcess | None:
        """Return the process of a number."""
        if number not in self._processes:
            self._processes[number] = self._make(number)
        return self._processes[number]
