"""Distributions of durations: latencies, stays in a state, and others that are drawn in seconds.

Each is its inverse distribution function: one uniform variable gives one value, so another
distribution changes the values but no later draw. Mean and standard deviation are those of the
duration itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from p2pl_async.basics.arrays import Floats
from p2pl_async.basics.settings import OneOf, Settings, mistake
from p2pl_async.basics.tracefiles import TraceError, read_columns
from p2pl_async.basics.units import TIME, PositiveSeconds, Probability, Seconds, show_seconds

_FARTHEST_CUT = 8.0  # standard deviations; a cut farther above the mean leaves too little of a normal distribution
_GRID = (np.arange(8192) + 0.5) / 8192  # shares at which a mean is taken


class Distribution(Settings):
    """Base of every distribution."""

    def quantiles(self, shares: Floats) -> Floats:
        """Return the times that these shares of all values stay below.

        Args:
            shares: in [0, 1), shape (n,).

        Returns:
            Seconds, shape (n,).
        """
        raise NotImplementedError


class Constant(Distribution):
    """Always the same time."""

    kind: Literal["constant"] = "constant"
    mean: Seconds = Field(default=0.0, description="the time")

    def quantiles(self, shares: Floats) -> Floats:
        return np.full(shares.shape, self.mean)


class Uniform(Distribution):
    """Any time between two limits, all equally likely."""

    kind: Literal["uniform"] = "uniform"
    low: Seconds = Field(description="the shortest time")
    high: Seconds = Field(description="the longest time")

    @model_validator(mode="after")
    def _check(self) -> Uniform:
        if self.low > self.high:
            raise mistake(f"low, {show_seconds(self.low)}, must not be above high, {show_seconds(self.high)}")
        return self

    def quantiles(self, shares: Floats) -> Floats:
        return np.minimum(self.low + (self.high - self.low) * shares, self.high)


class Normal(Distribution):
    """Bell-shaped, cut off below `least`; `mean` and `sd` are those before the cut."""

    kind: Literal["normal"] = "normal"
    mean: Seconds = Field(description="mean before the cut")
    sd: Seconds = Field(description="standard deviation before the cut")
    least: Seconds = Field(default=0.0, description="the shortest time; the distribution is cut off there")

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


class Lognormal(Distribution):
    """Skewed to the right, as measured on most networks; mean and sd of the time itself."""

    kind: Literal["lognormal"] = "lognormal"
    mean: PositiveSeconds = Field(description="mean")
    sd: Seconds = Field(description="standard deviation")

    def quantiles(self, shares: Floats) -> Floats:
        if self.sd == 0:
            return np.full(shares.shape, self.mean)
        from scipy.special import ndtri

        variance = math.log1p((self.sd / self.mean) ** 2)
        values: Floats = np.exp(math.log(self.mean) - variance / 2 + math.sqrt(variance) * ndtri(shares))
        return values


class Gamma(Distribution):
    """A sum of exponential waits; exponential itself if `sd` equals `mean`."""

    kind: Literal["gamma"] = "gamma"
    mean: PositiveSeconds = Field(description="mean")
    sd: Seconds = Field(description="standard deviation; at most 30 times the mean")

    @model_validator(mode="after")
    def _check(self) -> Gamma:
        if self.sd > 30 * self.mean:
            raise mistake(f"sd, {show_seconds(self.sd)}, must be at most 30 times mean, {show_seconds(self.mean)}")
        return self

    def quantiles(self, shares: Floats) -> Floats:
        if self.sd == 0:
            return np.full(shares.shape, self.mean)
        from scipy.special import gammaincinv

        values: Floats = gammaincinv((self.mean / self.sd) ** 2, shares) * (self.sd**2 / self.mean)
        return values


class Pareto(Distribution):
    """A heavy tail: rare times are very long. It is cut off at `most`, or a few values would decide the mean."""

    kind: Literal["pareto"] = "pareto"
    least: PositiveSeconds = Field(description="the shortest time")
    alpha: Annotated[float, Field(strict=True, gt=1)] = Field(description="exponent of the tail; above 1")
    most: PositiveSeconds = Field(description="the longest time; the tail is cut off there, not clipped")

    @model_validator(mode="after")
    def _check(self) -> Pareto:
        if self.most <= self.least:
            raise mistake(f"most, {show_seconds(self.most)}, must be above least, {show_seconds(self.least)}")
        return self

    def quantiles(self, shares: Floats) -> Floats:
        kept = 1 - (self.least / self.most) ** self.alpha
        values: Floats = self.least * (1 - shares * kept) ** (-1 / self.alpha)
        return values


class Exponential(Distribution):
    """Without memory: the remaining time doesn't depend on the time that has passed."""

    kind: Literal["exponential"] = "exponential"
    mean: PositiveSeconds = Field(description="mean")

    def quantiles(self, shares: Floats) -> Floats:
        return -self.mean * np.log1p(-shares)


class Weibull(Distribution):
    """Times to failure: a `shape` below 1 means early failures, one above 1 wear."""

    kind: Literal["weibull"] = "weibull"
    mean: PositiveSeconds = Field(description="mean")
    shape: Annotated[float, Field(strict=True, ge=0.1, le=100)] = Field(description="1: exponential")

    def quantiles(self, shares: Floats) -> Floats:
        scale = self.mean / math.gamma(1 + 1 / self.shape)
        values: Floats = scale * (-np.log1p(-shares)) ** (1 / self.shape)
        return values


class Empirical(Distribution):
    """Measured: samples, a column of a CSV file, or a table of quantiles, interpolated in between."""

    kind: Literal["empirical"] = "empirical"
    alternatives: ClassVar[tuple[tuple[str, ...], ...]] = (
        ("samples", "quantiles_at", "path"),
        ("samples", "quantiles_at", "column"),
    )

    samples: tuple[Seconds, ...] | None = Field(default=None, description="measured times, in any order")
    quantiles_at: tuple[tuple[Probability, Seconds], ...] | None = Field(
        default=None, description='[share, time] pairs from "0 %" to "100 %", both ascending'
    )
    path: Path | None = Field(default=None, description="a CSV file of samples, with a header")
    column: str | None = Field(default=None, description="the column of samples in the file")
    unit: Literal["s", "ms", "us", "µs", "ns", "min", "h"] = Field(default="s", description="the unit of that column")

    @model_validator(mode="after")
    def _check(self) -> Empirical:
        given = [name for name in ("samples", "quantiles_at", "path") if getattr(self, name) is not None]
        if len(given) != 1:
            raise mistake('needs exactly one of samples = ["10 ms", "12 ms"], quantiles_at = [...] and path = "x.csv"')
        if (self.path is None) != (self.column is None):
            raise mistake('path and column go together: path = "delays.csv", column = "delay", unit = "ms"')
        if self.samples is not None and len(self.samples) < 2:
            raise mistake("samples must be at least 2 times; for a constant one write it as it is")
        if self.quantiles_at is not None:
            shares, times = zip(*self.quantiles_at, strict=True) if self.quantiles_at else ((), ())
            if len(shares) < 2 or (shares[0], shares[-1]) != (0.0, 1.0):
                raise mistake('quantiles_at must begin with the share "0 %" and end with "100 %"')
            if any(a >= b for a, b in pairwise(shares)) or list(times) != sorted(times):
                raise mistake("quantiles_at must have ascending shares, and times that never fall")
        _ = self._table
        return self

    def quantiles(self, shares: Floats) -> Floats:
        return np.interp(shares, *self._table)

    @cached_property
    def _table(self) -> tuple[Floats, Floats]:
        """Return shares from 0 to 1 and their quantiles, shape (n,) each."""
        if self.quantiles_at is not None:
            table = np.array(self.quantiles_at)
            return table[:, 0], table[:, 1]
        if self.path is None:
            times = np.sort(np.array(self.samples))
        else:
            assert self.column is not None
            try:
                times = np.sort(read_columns(self.path, [self.column], gaps="skip")[self.column]) * TIME[self.unit]
            except TraceError as error:
                raise mistake(str(error)) from error
            if len(times) < 2 or times[0] < 0:
                what = "at least 2 times" if len(times) < 2 else "no negative time"
                raise mistake(f'column "{self.column}" of {self.path} must have {what}')
        return np.linspace(0, 1, len(times)), times


def _mean_of(value: Any) -> Mapping[str, Any]:
    return {"kind": "exponential", "mean": value}


AnyDuration = Annotated[
    Distribution, OneOf("distribution", Exponential, Weibull, Constant, Uniform, Lognormal, Gamma, Pareto,
                        shorthand=_mean_of)
]  # fmt: skip
"""A random duration; a bare time is the mean of an exponential one."""


def mean_of(distribution: Distribution) -> float:
    """Return the mean, in seconds: exactly if it is a parameter, else to about four digits."""
    if isinstance(distribution, Exponential | Weibull | Constant | Lognormal | Gamma):
        return distribution.mean
    return float(_grid(distribution)[0].mean())


@lru_cache(maxsize=64)
def _grid(distribution: Distribution) -> tuple[Floats, Floats]:
    """Return a distribution's values at equal steps of the share, and their sums so far."""
    times = distribution.quantiles(_GRID)
    return times, np.cumsum(times)


def remaining(distribution: Distribution, share: float, part: float) -> float:
    """Return the rest of a stay at a random moment.

    A random moment meets long stays more often, and every moment of a stay is equally likely: the stay
    is drawn from the distribution weighted with its length, and a uniform part of it is left.

    Args:
        distribution: of the stays.
        share: in [0, 1), for the length of the stay.
        part: in [0, 1), for the part that has passed.
    """
    if isinstance(distribution, Exponential):
        return float(distribution.quantiles(np.array([share]))[0])
    times, weight = _grid(distribution)
    index = int(np.searchsorted(weight, share * weight[-1], side="right"))
    return float(times[min(index, len(times) - 1)]) * (1 - part)
