"""Latency: how long a message travels once it has left the sender.

One value per message, by the inverse distribution function of one uniform variable, so
that another distribution changes the delays and nothing else. Mean and standard deviation
are those of the latency itself.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from p2pl_async.link.shorthand import number_or_kind
from p2pl_async.randomness import draws
from p2pl_async.settings import OneOf, Settings, mistake
from p2pl_async.units import PositiveSeconds, Seconds, show_seconds

Floats = NDArray[np.float64]

_FARTHEST_CUT = 8.0  # standard deviations; beyond, what a cut leaves of a normal distribution has no practical meaning


class Latency(Settings):
    """Base of every latency."""

    def quantiles(self, shares: Floats) -> Floats:
        """Return the latency that a share of all messages stays below.

        Args:
            shares: in [0, 1), shape (n,).

        Returns:
            Seconds, shape (n,).
        """
        raise NotImplementedError

    def values(self, generator: np.random.Generator) -> Iterator[float]:
        """Yield latencies in seconds for ever, one uniform of `generator` each."""
        return draws(generator, self.quantiles)


class Constant(Latency):
    """Every message takes the same time."""

    kind: Literal["constant"] = "constant"
    mean: Seconds = Field(default=0.0, description="the latency")

    def quantiles(self, shares: Floats) -> Floats:
        return np.full(shares.shape, self.mean)

    def values(self, generator: np.random.Generator) -> Iterator[float]:
        return itertools.repeat(self.mean)


class Uniform(Latency):
    """Any time between two limits, all equally likely."""

    kind: Literal["uniform"] = "uniform"
    low: Seconds = Field(description="the shortest latency")
    high: Seconds = Field(description="the longest latency")

    @model_validator(mode="after")
    def _check(self) -> Uniform:
        if self.low > self.high:
            raise mistake(f"low, {show_seconds(self.low)}, must not be above high, {show_seconds(self.high)}")
        return self

    def quantiles(self, shares: Floats) -> Floats:
        return np.minimum(self.low + (self.high - self.low) * shares, self.high)


class Normal(Latency):
    """Bell-shaped; `mean` and `sd` are those before what lies below `least` is cut off."""

    kind: Literal["normal"] = "normal"
    mean: Seconds = Field(description="mean before the cut")
    sd: Seconds = Field(description="standard deviation before the cut")
    least: Seconds = Field(default=0.0, description="where it is cut off; no latency is shorter")

    @model_validator(mode="after")
    def _check(self) -> Normal:
        if self.least > self.mean + _FARTHEST_CUT * self.sd:
            raise mistake(f"least, {show_seconds(self.least)}, is above what mean and sd can reach; lower it")
        return self

    def quantiles(self, shares: Floats) -> Floats:
        if self.sd == 0:
            return np.full(shares.shape, self.mean)
        from scipy.special import ndtr, ndtri  # slow to import; only runs that draw need it

        # Through the upper tail, which keeps its digits where almost everything is cut off.
        kept = ndtr((self.mean - self.least) / self.sd)
        values: Floats = np.maximum(self.mean - self.sd * ndtri((1.0 - shares) * kept), self.least)
        return values


class Lognormal(Latency):
    """Skewed to the right, as measured on most networks; mean and sd of the latency itself."""

    kind: Literal["lognormal"] = "lognormal"
    mean: PositiveSeconds = Field(description="mean of the latency")
    sd: Seconds = Field(description="standard deviation of the latency")

    def quantiles(self, shares: Floats) -> Floats:
        if self.sd == 0:
            return np.full(shares.shape, self.mean)
        from scipy.special import ndtri

        variance = math.log1p((self.sd / self.mean) ** 2)
        values: Floats = np.exp(math.log(self.mean) - variance / 2 + math.sqrt(variance) * ndtri(shares))
        return values


_KINDS = (Constant, Uniform, Normal, Lognormal)


def _shorthand(value: Any) -> Mapping[str, Any]:
    return {"kind": "constant", "mean": number_or_kind(value, "latency", "20 ms", _KINDS)}


AnyLatency = Annotated[Latency, OneOf("latency", *_KINDS, shorthand=_shorthand)]
