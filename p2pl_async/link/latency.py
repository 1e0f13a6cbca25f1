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
from pydantic import model_validator

from p2pl_async.randomness import draws
from p2pl_async.settings import OneOf, Settings
from p2pl_async.units import PositiveSeconds, Seconds, show_seconds

Floats = NDArray[np.float64]

_FARTHEST_CUT = 8.0  # standard deviations; beyond, what a cut leaves of a normal distribution has no practical meaning


class Latency(Settings):
    """Base of every latency."""

    @property
    def lower_bound(self) -> float:
        """No message takes less than this, in seconds."""
        raise NotImplementedError

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
    mean: Seconds = 0.0

    @property
    def lower_bound(self) -> float:
        return self.mean

    def quantiles(self, shares: Floats) -> Floats:
        return np.full(shares.shape, self.mean)

    def values(self, generator: np.random.Generator) -> Iterator[float]:
        return itertools.repeat(self.mean)


class Uniform(Latency):
    """Any time between two limits, all equally likely."""

    kind: Literal["uniform"] = "uniform"
    low: Seconds
    high: Seconds

    @model_validator(mode="after")
    def _check(self) -> Uniform:
        if self.low > self.high:
            raise ValueError(f"low ({show_seconds(self.low)}) must not be above high ({show_seconds(self.high)})")
        return self

    @property
    def lower_bound(self) -> float:
        return self.low

    def quantiles(self, shares: Floats) -> Floats:
        return np.minimum(self.low + (self.high - self.low) * shares, self.high)


class Normal(Latency):
    """Bell-shaped; `mean` and `sd` are those before what lies below `least` is cut off."""

    kind: Literal["normal"] = "normal"
    mean: Seconds
    sd: Seconds
    least: Seconds = 0.0

    @model_validator(mode="after")
    def _check(self) -> Normal:
        if self.least > self.mean + _FARTHEST_CUT * self.sd:
            raise ValueError(f"least ({show_seconds(self.least)}) lies above what mean and sd can reach; lower it")
        return self

    @property
    def lower_bound(self) -> float:
        return self.least if self.sd else self.mean

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
    mean: PositiveSeconds
    sd: Seconds

    @property
    def lower_bound(self) -> float:
        return 0.0 if self.sd else self.mean

    def quantiles(self, shares: Floats) -> Floats:
        if self.sd == 0:
            return np.full(shares.shape, self.mean)
        from scipy.special import ndtri

        variance = math.log1p((self.sd / self.mean) ** 2)
        values: Floats = np.exp(math.log(self.mean) - variance / 2 + math.sqrt(variance) * ndtri(shares))
        return values


def _shorthand(value: Any) -> Mapping[str, Any]:
    return {"kind": "constant", "mean": value}


AnyLatency = Annotated[Latency, OneOf("latency", Constant, Uniform, Normal, Lognormal, shorthand=_shorthand)]
