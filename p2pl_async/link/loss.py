"""Loss: whether a packet that is sent also arrives.

Decided for each packet (each fragment, each retry) by one uniform variable of its own, so
that a larger probability loses the same packets and some more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from p2pl_async.link.shorthand import number_or_kind
from p2pl_async.link.timeline import Timeline
from p2pl_async.randomness import stream
from p2pl_async.settings import OneOf, Settings
from p2pl_async.units import PositiveSeconds, Probability

Floats = NDArray[np.float64]
Codes = NDArray[np.int8]  # fates of packets: indices into CAUSES, 0 for one that arrives

CAUSES = ("", "loss", "burst", "noise", "outage")  # why a packet is lost; a link adds what else takes it down


class LossProcess(Protocol):
    """One link's loss, as it unfolds; instants never decrease."""

    def fate(self, uniform: float, at: float) -> str:
        """Return why a packet sent at the instant `at` is lost, or ""."""

    def fates(self, uniforms: Floats, at: Floats) -> Codes:
        """Return the fates of packets sent at the instants `at`, ascending; shapes (n,)."""


class LossModel(Settings):
    """Base of every loss model."""

    def process(self, seed: int, src: int, dst: int) -> LossProcess | None:
        """Return the process of one link, or None if nothing is ever lost."""
        raise NotImplementedError


class NoLoss(LossModel):
    """Every packet arrives."""

    kind: Literal["none"] = "none"

    def process(self, seed: int, src: int, dst: int) -> None:
        return None


class Bernoulli(LossModel):
    """Each packet is lost with the same probability, independently of all others."""

    kind: Literal["bernoulli"] = "bernoulli"
    p: Probability = Field(description="share of packets that are lost")

    def process(self, seed: int, src: int, dst: int) -> LossProcess | None:
        return _Coin(self.p) if self.p else None


class _Coin:
    __slots__ = ("_p",)

    def __init__(self, p: float) -> None:
        self._p = p

    def fate(self, uniform: float, at: float) -> str:
        return "loss" if uniform < self._p else ""

    def fates(self, uniforms: Floats, at: Floats) -> Codes:
        return (uniforms < self._p).astype(np.int8)


class GilbertElliott(LossModel):
    """Bursts: the link is good or bad for random stretches of time, and loses packets while bad.

    `good` and `bad` are the mean stays; `bad / (good + bad)` is the share of bad time, and with
    the default losses the share of packets lost, however often one sends. The state belongs to
    the link and goes on between messages.

    Source: E. N. Gilbert, 1960; E. O. Elliott, 1963; here in continuous time.
    """

    kind: Literal["gilbert-elliott"] = "gilbert-elliott"
    good: PositiveSeconds = Field(description="mean time until the link turns bad")
    bad: PositiveSeconds = Field(description="mean time until it turns good again")
    loss_good: Probability = Field(default=0.0, description="share of packets that are lost while good")
    loss_bad: Probability = Field(default=1.0, description="share of packets that are lost while bad")

    def process(self, seed: int, src: int, dst: int) -> LossProcess:
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


_KINDS = (NoLoss, Bernoulli, GilbertElliott)


def _shorthand(value: Any) -> Mapping[str, Any]:
    return {"kind": "bernoulli", "p": number_or_kind(value, "loss", "5 %", _KINDS)}


AnyLoss = Annotated[LossModel, OneOf("loss", *_KINDS, shorthand=_shorthand)]
