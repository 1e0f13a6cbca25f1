"""Latency: how long a message travels once it has left the sender.

    latency = distance / c + base + a value of the distribution

One value per message, by the inverse distribution function of one uniform variable, so that
another distribution changes the delays and nothing else. Mean and standard deviation are those
of the distribution's own value.

With `correlation = "500 ms"` values follow each other as radio conditions do: z of one message
is r z' + sqrt(1 - r^2) e with z' of the one before, dt earlier, r = exp(-dt / 500 ms) and a
standard normal e; its value is the quantile of the share Phi(z) (a Gaussian copula). So the
distribution stays the same, and the correlation doesn't depend on how often a device sends.
"""

from __future__ import annotations

import functools
import itertools
import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from p2pl_async.basics import distributions
from p2pl_async.basics.arrays import Floats
from p2pl_async.basics.plugins import door
from p2pl_async.basics.randomness import draws
from p2pl_async.basics.settings import OneOf, mistake
from p2pl_async.basics.timeline import Steps
from p2pl_async.basics.tracefiles import TraceError
from p2pl_async.basics.units import TIME, Meters, PositiveSeconds, Seconds
from p2pl_async.link.over_time import VARIES, Recorded, Varying
from p2pl_async.link.shorthand import number_or_kind

SPEED_OF_LIGHT = 299_792_458.0  # m/s

Draw = Callable[[float], float]
"""Gives the latency of the next message, whose transmission starts at an instant that never decreases."""


class Latency(Varying):
    """Base of every latency."""

    random: ClassVar[bool] = True
    """Whether it takes numbers of its generator; a link opens no stream for one that takes none."""

    base: Annotated[Seconds, VARIES] = Field(default=0.0, description="added to every latency")
    distance: Annotated[Meters, VARIES] = Field(
        default=0.0, description="length of the way, on which signals travel at the speed of light"
    )

    @property
    def fixed(self) -> float:
        """The part that all messages share: base and propagation, in seconds."""
        return self.base + self.distance / SPEED_OF_LIGHT

    @abstractmethod
    def process(self, generator: np.random.Generator) -> Draw:
        """Return the latencies of the messages of one link; each takes one number of `generator`."""


class _Drawn(Latency, distributions.Distribution):
    """Base of latencies that are drawn from a distribution."""

    correlation: Seconds = Field(
        default=0.0, description="time after which the correlation of two messages has fallen to 1/e; 0 s: none"
    )

    def process(self, generator: np.random.Generator) -> Draw:
        if self.versions() is not None or self.correlation:
            return _Sampler(generator, self)
        fixed = self.fixed
        return _whenever(draws(generator, lambda shares: self.quantiles(shares) + fixed))


def _whenever(latencies: Iterator[float]) -> Draw:
    """Return what gives one after another of endless latencies, whatever the instant.

    `next(latencies, at)` takes `at` for what follows the end, to which they don't come; a function of one's own takes
    twice the time.
    """
    return functools.partial(next, latencies)


class _Sampler:
    """Latencies that depend on the instant: by their settings, or by the message before."""

    def __init__(self, generator: np.random.Generator, settings: _Drawn) -> None:
        self._settings = settings
        self._versions = settings.versions()
        # One uniform variable per message, or one normal: the same ones whatever the settings of an instant.
        self._correlation = settings.correlation
        self._next = draws(generator, None if self._correlation == 0 else _normals).__next__
        self._z = 0.0
        self._last = -math.inf

    def __call__(self, at: float) -> float:
        settings = self._settings
        if self._versions is not None:
            numbers, versions = self._versions
            settings = versions[numbers.value(at)]
        share = self._next()
        if self._correlation:
            kept = math.exp(min(self._last - at, 0.0) / self._correlation)
            self._z = kept * self._z + math.sqrt(1 - kept * kept) * share
            self._last = max(at, self._last)
            share = min(0.5 * math.erfc(-self._z / math.sqrt(2)), _BELOW_ONE)
        return settings.fixed + float(settings.quantiles(np.array([share]))[0])


_BELOW_ONE = math.nextafter(1.0, 0.0)


def _normals(shares: Floats) -> Floats:
    """Return standard normal variables, of uniform ones."""
    from scipy.special import ndtri

    values: Floats = ndtri(np.maximum(shares, np.finfo(float).tiny))
    return values


class Constant(Latency):
    """Every message takes the same time."""

    random: ClassVar[bool] = False
    kind: Literal["constant"] = "constant"
    mean: Annotated[Seconds, VARIES] = Field(default=0.0, description="the latency")

    def process(self, generator: np.random.Generator) -> Draw:
        changing = self.versions()
        if changing is None:
            return _always(self.mean + self.fixed)
        numbers, versions = changing
        latencies = [versions[number].mean + versions[number].fixed for number in numbers.values]
        return Steps(numbers.times, latencies, numbers.period).value


@functools.lru_cache(maxsize=256)  # links share one
def _always(latency: float) -> Draw:
    return _whenever(itertools.repeat(latency))


class Uniform(_Drawn, distributions.Uniform):
    """Any time between two limits, all equally likely."""

    low: Annotated[Seconds, VARIES] = Field(description="the shortest latency")
    high: Annotated[Seconds, VARIES] = Field(description="the longest latency")


class Normal(_Drawn, distributions.Normal):
    """Bell-shaped; `mean` and `sd` are those before what lies below `least` is cut off."""

    mean: Annotated[Seconds, VARIES] = Field(description="mean before the cut")
    sd: Annotated[Seconds, VARIES] = Field(description="standard deviation before the cut")
    least: Annotated[Seconds, VARIES] = Field(default=0.0, description="where it is cut off; no latency is shorter")


class Lognormal(_Drawn, distributions.Lognormal):
    """Skewed to the right, as measured on most networks; mean and sd of the latency itself."""

    mean: Annotated[PositiveSeconds, VARIES] = Field(description="mean of the latency")
    sd: Annotated[Seconds, VARIES] = Field(description="standard deviation of the latency")


class Gamma(_Drawn, distributions.Gamma):
    """A sum of waits, one after another; exponential where `sd` equals `mean`."""

    mean: Annotated[PositiveSeconds, VARIES] = Field(description="mean of the latency")
    sd: Annotated[Seconds, VARIES] = Field(description="standard deviation of the latency; at most 30 times the mean")


class Pareto(_Drawn, distributions.Pareto):
    """A heavy tail: rare messages take very long; cut off at `most`, or a few of them would decide the mean."""

    least: Annotated[PositiveSeconds, VARIES] = Field(description="the shortest latency")
    most: Annotated[PositiveSeconds, VARIES] = Field(description="the longest; the tail is cut off there, not clipped")


class Empirical(_Drawn, distributions.Empirical):
    """As measured: samples, a column of a CSV file, or a table of quantiles, interpolated in between."""


class RecordedLatency(Latency, Recorded):
    """As measured over time: each message takes the latency that a CSV file has for the instant at which it is sent."""

    random: ClassVar[bool] = False

    @model_validator(mode="after")
    def _check_unit(self) -> RecordedLatency:
        if self.unit not in TIME:
            raise mistake(f'unit="{self.unit}" must be one of a time: {", ".join(TIME)}')
        if min(self._steps().values) < 0:
            raise mistake(f'column "{self.column}" of {self.path} must have no negative latency')
        return self

    def process(self, generator: np.random.Generator) -> Draw:
        found, fixed = self._steps(), self.fixed
        return Steps(found.times, [latency + fixed for latency in found.values], found.period).value

    def _steps(self) -> Steps[float]:
        try:
            found = self.numbers()
        except TraceError as error:
            raise mistake(str(error)) from error
        return Steps(found.times, [value * TIME[self.unit] for value in found.values], found.period)


_KINDS = (Constant, Uniform, Normal, Lognormal, Gamma, Pareto, Empirical, RecordedLatency)


def _shorthand(value: Any) -> Mapping[str, Any]:
    return {"kind": "constant", "mean": number_or_kind(value, "latency", "20 ms", _KINDS)}


AnyLatency = Annotated[Latency, OneOf("latency", *_KINDS, shorthand=_shorthand, outside=door(Latency))]
