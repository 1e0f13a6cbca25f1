"""Bursts in time: weather that lasts as long whether one sends or not."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from p2pl_async.basics.arrays import Floats
from p2pl_async.basics.randomness import stream
from p2pl_async.basics.units import PositiveSeconds, Probability
from p2pl_async.link.loss.base import Codes, LossModel, LossProcess, Segment
from p2pl_async.link.over_time import VARIES
from p2pl_async.link.timeline import Timeline


class GilbertElliott(LossModel):
    """Bursts: the link is good or bad for random stretches of time, and loses packets while bad.

    `good` and `bad` are the mean stays; `bad / (good + bad)` is the share of bad time, and with
    the default losses the share of packets lost, however often one sends. The state belongs to
    the link and goes on between messages.

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

    def steady(self, seed: int, src: int, dst: int) -> LossProcess:
        share = self.bad / (self.good + self.bad)
        weather = Timeline(stream(seed, "burst", src, dst), (self.good, self.bad), share)
        return _Bursts(weather, self.loss_good, self.loss_bad)


class _Bursts:
    __slots__ = ("_loss_bad", "_loss_good", "_weather")

    def __init__(self, weather: Timeline, loss_good: float, loss_bad: float) -> None:
        self._weather = weather
        self._loss_good = loss_good
        self._loss_bad = loss_bad

    def fate(self, uniform: float, at: float) -> str:
        if self._weather.at(at):
            return "burst" if uniform < self._loss_bad else ""
        return "loss" if uniform < self._loss_good else ""

    def fates(self, uniforms: Floats, at: Floats) -> Codes:
        bad = self._weather.states(at)
        lost = uniforms < np.where(bad, self._loss_bad, self._loss_good)
        return lost * (bad.astype(np.int8) + np.int8(1))

    def passed(self, packets: int) -> None:
        pass

    def segment(self, at: float) -> Segment:
        if self._weather.at(at):
            return Segment(self._loss_bad, "burst", self._weather.until)
        return Segment(self._loss_good, "loss", self._weather.until)
