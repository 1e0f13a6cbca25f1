"""Clocks of devices: each runs a little fast or slow, and what a device sleeps or waits goes by its own.

    local(t) = offset + (t - t_boot) + integral of the drift from t_boot to t

With a constant drift that is offset + (1 + drift)(t - t_boot), and `sleep(d)` lasts d / (1 + drift).
Twenty parts per million are 72 ms per hour. A drift that walks changes every minute by a normal
step, as temperature and age make crystals do.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from statistics import NormalDist
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from p2pl_async.basics.randomness import stream
from p2pl_async.basics.settings import OneOf, Settings, Short, mistake
from p2pl_async.basics.units import PositivePpm, PositiveSeconds, Ppm, Seconds

_STEP = 60.0  # s between two steps of a drift that walks
_PPM = 1e-6
_MOST = 0.1  # however far it walks, a clock is not off by more than a tenth


class FixedDrift(Settings):
    """Every clock is fast by the same share, or slow by it if that is negative."""

    kind: Literal["fixed"] = "fixed"
    value: Ppm = Field(description="rate of the clock above that of true time")

    def draw(self, seed: int, device: int) -> float:
        return self.value * _PPM


class NormalDrift(Settings):
    """Each clock's drift is drawn once: normal around 0, truncated at a limit."""

    kind: Literal["normal"] = "normal"
    sd: PositivePpm = Field(default=20.0, description="standard deviation, were there no limit")
    limit: PositivePpm = Field(default=50.0, description="no clock is off by more")

    def draw(self, seed: int, device: int) -> float:
        normal = NormalDist(0, self.sd)
        below = normal.cdf(-self.limit)
        u = float(stream(seed, "clock-drift", device).random())
        return normal.inv_cdf(max(below + (1 - 2 * below) * u, 1e-16)) * _PPM


def _fixed(value: Any) -> dict[str, Any]:
    return {"kind": "fixed", "value": value}


AnyDrift = Annotated[FixedDrift | NormalDrift, OneOf("drift", FixedDrift, NormalDrift, shorthand=_fixed)]


class Offset(Settings):
    """The reading of a clock when its device is switched on: one for all, or one drawn for each."""

    at: Seconds | None = Field(default=None, description="the time")
    uniform: PositiveSeconds | None = Field(default=None, description="the latest time; drawn for each device")

    @model_validator(mode="after")
    def _check(self) -> Offset:
        if (self.at is None) == (self.uniform is None):
            raise mistake('must be a time such as "5 s", or { uniform = "5 s" } to draw it')
        return self

    def draw(self, seed: int, device: int) -> float:
        if self.uniform is None:
            assert self.at is not None
            return self.at
        return self.uniform * float(stream(seed, "clock-offset", device).random())


class Clocks(Settings):
    """The `[clocks]` table: errors of the devices' own clocks."""

    drift: AnyDrift = Field(default=NormalDrift(), description='how fast each runs; "20 ppm": all alike')
    walk: PositivePpm | None = Field(
        default=None, description="change of a drift within an hour: standard deviation of a random walk"
    )
    offset: Annotated[Offset, Short("at")] = Field(
        default=Offset.model_validate({"at": "0 s"}), description="reading of a clock when its device is switched on"
    )

    def clock(self, seed: int, device: int) -> LocalClock:
        """Return the clock of one device."""
        drift, offset = self.drift.draw(seed, device), self.offset.draw(seed, device)
        if self.walk is None:
            return LocalClock(drift, offset)
        return WalkingClock(drift, offset, _walk(drift, self.walk, seed, device))


def _walk(drift: float, per_hour: float, seed: int, device: int) -> Iterator[float]:
    """Yield the drift of each minute."""
    random = stream(seed, "clock-walk", device)
    step = per_hour * _PPM * math.sqrt(_STEP / 3600)
    while True:
        yield drift
        drift = min(max(drift + step * float(random.standard_normal()), -_MOST), _MOST)


class LocalClock:
    """A clock with a constant drift.

    Args:
        drift: its rate above that of true time, as a share.
        offset: its reading when its device is switched on, in seconds.
    """

    def __init__(self, drift: float = 0.0, offset: float = 0.0) -> None:
        self.drift = drift
        self.offset = offset

    def lasts(self, now: float, seconds: float) -> float:
        """Return the virtual seconds in which the clock goes on by `seconds`, from the instant `now`."""
        return seconds / (1 + self.drift)

    def elapsed(self, start: float, end: float) -> float:
        """Return by how much the clock goes on between two virtual instants."""
        return (end - start) * (1 + self.drift)

    def shown(self, booted: float, now: float) -> float:
        """Return what the clock shows at the instant `now` of a device switched on at `booted`."""
        return self.offset + self.elapsed(booted, now)


class WalkingClock(LocalClock):
    """A clock whose drift changes every minute.

    Args:
        drift: of the first minute.
        offset: as of `LocalClock`.
        drifts: the drift of each minute.
    """

    def __init__(self, drift: float, offset: float, drifts: Iterator[float]) -> None:
        super().__init__(drift, offset)
        self._drifts = drifts
        self._rates = [1 + next(drifts)]
        self._locals = [0.0]  # what the clock has gone on by when each minute begins

    def lasts(self, now: float, seconds: float) -> float:
        if seconds == math.inf:
            return math.inf
        target = self._local(now) + seconds
        while self._locals[-1] <= target:
            self._extend()
        minute = bisect_right(self._locals, target) - 1
        return max(0.0, minute * _STEP + (target - self._locals[minute]) / self._rates[minute] - now)

    def elapsed(self, start: float, end: float) -> float:
        return self._local(end) - self._local(start)

    def _local(self, now: float) -> float:
        minute = int(now // _STEP)
        while len(self._locals) <= minute:
            self._extend()
        return self._locals[minute] + (now - minute * _STEP) * self._rates[minute]

    def _extend(self) -> None:
        self._locals.append(self._locals[-1] + _STEP * self._rates[-1])
        self._rates.append(1 + next(self._drifts))


IDEAL = LocalClock()
