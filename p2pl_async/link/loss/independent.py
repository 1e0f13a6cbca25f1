"""Losses that are independent from packet to packet."""

from __future__ import annotations

import functools
import math
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from p2pl_async.basics.arrays import Floats
from p2pl_async.basics.timeline import Stretch
from p2pl_async.basics.units import Probability
from p2pl_async.link.loss.base import Codes, LossModel, LossProcess, Odds
from p2pl_async.link.over_time import VARIES


class NoLoss(LossModel):
    """Every packet arrives."""

    kind: Literal["none"] = "none"

    def make(self, seed: int, src: int, dst: int) -> None:
        return None


class Bernoulli(LossModel):
    """Each packet is lost with the same probability, independently of all others."""

    kind: Literal["bernoulli"] = "bernoulli"
    p: Annotated[Probability, VARIES] = Field(description="share of packets that are lost")

    def make(self, seed: int, src: int, dst: int) -> LossProcess | None:
        return _coin(self.p) if self.p else None


class _Coin:
    __slots__ = ("_p", "_stretch")

    def __init__(self, p: float) -> None:
        self._p = p
        self._stretch: Stretch[Odds | None] = Stretch(Odds(p, "loss"), math.inf)

    def fate(self, uniform: float, at: float) -> str:
        return "loss" if uniform < self._p else ""

    def fates(self, uniforms: Floats, at: Floats) -> Codes:
        return (uniforms < self._p).astype(np.int8)

    def passed(self, packets: int) -> None:
        pass

    def skip(self, packets: int, at: float) -> None:
        pass

    def at(self, now: float) -> Stretch[Odds | None]:
        return self._stretch


_coin = functools.lru_cache(maxsize=256)(_Coin)  # it remembers nothing, so that links can share one
