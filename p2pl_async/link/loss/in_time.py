"""Bursts in time: weather that doesn't depend on the traffic."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from p2pl_async.basics.arrays import Floats
from p2pl_async.basics.randomness import stream
from p2pl_async.basics.timeline import Stretch
from p2pl_async.basics.units import PositiveSeconds, Probability
from p2pl_async.link.loss.base import Codes, LossModel, LossProcess, Odds
from p2pl_async.link.over_time import VARIES
from p2pl_async.link.switching import Memoryless


class GilbertElliott(LossModel):
    """Bursts: the link is good or bad for random stretches of time, and loses packets while bad.

    `good` and `bad` are the mean stays; `bad / (good + bad)` is the share of bad time, and with
    the default losses the share of packets lost, however often a device sends. The state belongs
    to the link and continues between messages.

    Source: E. N. Gilbert, 1960; E. O. Elliott, 1963; here in continuous time.
    """

    kind: Literal["gilbert-elliott"] = "gilbert-elliott"
    good: Annotated[PositiveSeconds, VARIES] = Field(description="mean time until the link turns bad")
    bad: Annotated[PositiveSeconds, VARIES] = Field(description="mean time until it turns good again")
    loss_good: Annotated[Probability, VARIES] = Field(
        default=0.0, description="share of packets that are lost while good"
    )
    loss_bad: Annotated[Probability, VARIES] = Field(
        default=1.0, description="share of packets that are lost while bad"
    )

    def make(self, seed: int, src: int, dst: int) -> LossProcess:
        share = self.bad / (self.good + self.bad)
        weather = Memoryless(stream(seed, "burst", src, dst), (self.good, self.bad), share)
        return _Bursts(weather, self.loss_good, self.loss_bad)


class _Bursts:
    __slots__ = ("_bad", "_good", "_loss_bad", "_loss_good", "_weather")

    def __init__(self, weather: Memoryless, loss_good: float, loss_bad: float) -> None:
        self._weather = weather
        self._loss_good = loss_good
        self._bad = Odds(loss_bad, "burst")
        self._good = Odds(loss_good, "loss")
        self._loss_bad = loss_bad

    def fate(self, uniform: float, at: float) -> str:
        if self._weather.at(at).value:
            return "burst" if uniform < self._loss_bad else ""
        return "loss" if uniform < self._loss_good else ""

    def fates(self, uniforms: Floats, at: Floats) -> Codes:
        bad = self._weather.states(at)
        lost = uniforms < np.where(bad, self._loss_bad, self._loss_good)
        return lost * (bad.astype(np.int8) + np.int8(1))

    def passed(self, packets: int) -> None:
        pass

    def skip(self, packets: int, at: float) -> None:
        pass

    def at(self, now: float) -> Stretch[Odds | None]:
        bad, until = self._weather.at(now)
        return Stretch(self._bad if bad else self._good, until)
