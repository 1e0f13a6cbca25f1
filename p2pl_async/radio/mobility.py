"""The `[mobility]` table of a scenario: how devices move.

Every device moves by a random stream of its own, so one more device changes no other's path.
Models start in their steady state, so measurements from the beginning of a run are as good as later ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import AfterValidator, Field, model_validator

from p2pl_async.basics.randomness import stream
from p2pl_async.basics.settings import OneOf, Settings, mistake
from p2pl_async.basics.units import MetersPerSecond, PositiveMetersPerSecond, PositiveSeconds, Radians, Seconds
from p2pl_async.radio.motion import Corner, Track
from p2pl_async.radio.recorded import read_movement

Sides = tuple[float, float]  # of the area, in m


def _ascending(speeds: tuple[float, float]) -> tuple[float, float]:
    if speeds[0] > speeds[1]:
        raise mistake("must be the slowest speed, then the fastest")
    return speeds


Speeds = Annotated[tuple[PositiveMetersPerSecond, PositiveMetersPerSecond], AfterValidator(_ascending)]


class Mobility(Settings):
    """Base of every model of movement."""

    update: PositiveSeconds = Field(
        default=1.0, description="how often neighbors in range are updated; losses follow every movement"
    )

    roams: ClassVar[bool] = True  # whether devices roam the area, which must then be given

    def tracks(self, n: int, sides: Sides | None, seed: int) -> dict[int, Track]:
        """Return the path of every device that this model moves, by id.

        Args:
            n: number of devices.
            sides: width and height of the area in meters, for models that roam.
            seed: of the run; stream "mobility" of each device.

        Raises:
            ValueError: if a file can't be read, or names unknown devices.
        """
        assert sides is not None
        return {k: Track(self.corners(stream(seed, "mobility", k), sides)) for k in range(n)}

    def corners(self, random: np.random.Generator, sides: Sides) -> Iterator[Corner]:
        """Yield the corners of an endless path."""
        raise NotImplementedError


class Static(Mobility):
    """No device moves."""

    kind: Literal["static"] = "static"

    roams = False

    def tracks(self, n: int, sides: Sides | None, seed: int) -> dict[int, Track]:
        return {}


class RandomWaypoint(Mobility):
    """Each device moves to a random place at a random speed, pauses, and goes on to the next.

    Time-averaged speed while moving: (v1 - v0) / ln(v1 / v0). Starts in the steady state.

    Source: W. Navidi and T. Camp, "Stationary distributions for the random waypoint mobility
    model", IEEE Transactions on Mobile Computing 3, 2004.
    """

    kind: Literal["random-waypoint"] = "random-waypoint"
    speed: Speeds = Field(description="slowest and fastest; each way has a speed in between, all equally likely")
    pause: Seconds = Field(default=0.0, description="rest at each place")

    def corners(self, random: np.random.Generator, sides: Sides) -> Iterator[Corner]:
        slowest, fastest = self.speed
        inverse = 1 / slowest if slowest == fastest else math.log(fastest / slowest) / (fastest - slowest)
        way = mean_distance(*sides) * inverse  # mean duration of a way
        if random.random() < self.pause / (self.pause + way):
            here, now = _place(random, sides), self.pause * random.random()
            yield 0.0, *here, 0.0
        else:
            # At a random instant, a way is met in proportion to its duration: its length times 1 / speed.
            diagonal = math.hypot(*sides)
            start, here = _place(random, sides), _place(random, sides)
            while random.random() * diagonal > math.dist(start, here):
                start, here = _place(random, sides), _place(random, sides)
            done, speed = random.random(), slowest * (fastest / slowest) ** random.random()
            yield 0.0, start[0] + done * (here[0] - start[0]), start[1] + done * (here[1] - start[1]), 0.0
            now = (1 - done) * math.dist(start, here) / speed
            yield now, *here, 0.0
            now += self.pause
        while True:
            yield now, *here, 0.0
            there = _place(random, sides)
            now += math.dist(here, there) / random.uniform(slowest, fastest)
            here = there
            yield now, *here, 0.0
            now += self.pause


class RandomWalk(Mobility):
    """Each device keeps a random direction and speed for a while, then draws new ones; walls reflect."""

    kind: Literal["random-walk"] = "random-walk"
    speed: Speeds = Field(description="slowest and fastest; each stretch has a speed in between, all equally likely")
    stretch: PositiveSeconds = Field(default=10.0, description="time between two changes of direction")

    def corners(self, random: np.random.Generator, sides: Sides) -> Iterator[Corner]:
        here, now = _place(random, sides), 0.0
        left = self.stretch * random.random()  # so that devices don't all change direction at once
        yield now, *here, 0.0
        while True:
            heading, speed = random.uniform(0, 2 * math.pi), random.uniform(*self.speed)
            step = speed * left * math.cos(heading), speed * left * math.sin(heading)
            for share, place, _ in _reflected(here, step, sides):
                yield now + share * left, *place, 0.0
                here = place
            now += left
            left = self.stretch


class GaussMarkov(Mobility):
    """Speed and heading drift: each step keeps a share of the last one, and returns towards the means.

    `v' = a v + (1 - a) mean + sd sqrt(1 - a^2) Z` for the speed, and likewise for the heading,
    whose mean is drawn once and turned by walls, which reflect. A negative speed goes backwards.

    Source: B. Liang and Z. Haas, "Predictive distance-based mobility management for PCS networks",
    INFOCOM 1999.
    """

    kind: Literal["gauss-markov"] = "gauss-markov"
    speed: MetersPerSecond = Field(description="mean speed")
    speed_sd: MetersPerSecond = Field(description="standard deviation of the speed")
    heading_sd: Radians = Field(default=math.radians(30), description="standard deviation of the heading")
    memory: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.9, description="a: share of the last step that is kept"
    )
    step: PositiveSeconds = Field(default=1.0, description="time between two changes")

    @model_validator(mode="after")
    def _check(self) -> GaussMarkov:
        if self.speed == 0 and self.speed_sd == 0:
            raise mistake('speed and speed_sd are both 0 m/s, so no device moves; use kind = "static"')
        return self

    def corners(self, random: np.random.Generator, sides: Sides) -> Iterator[Corner]:
        keep, drift = self.memory, math.sqrt(1 - self.memory**2)
        here, now = _place(random, sides), self.step * random.random()
        mean = random.uniform(0, 2 * math.pi)
        speed = self.speed + self.speed_sd * random.standard_normal()
        heading = mean + self.heading_sd * random.standard_normal()
        yield 0.0, *here, 0.0
        time = now  # duration of the first step, which has begun before the run
        while True:
            step = speed * time * math.cos(heading), speed * time * math.sin(heading)
            for share, place, turned in _reflected(here, step, sides):
                yield now - (1 - share) * time, *place, 0.0
                here = place
                if "x" in turned:
                    heading, mean = math.pi - heading, math.pi - mean
                if "y" in turned:
                    heading, mean = -heading, -mean
            time = self.step
            now += time
            speed = keep * speed + (1 - keep) * self.speed + self.speed_sd * drift * random.standard_normal()
            heading = keep * heading + (1 - keep) * mean + self.heading_sd * drift * random.standard_normal()


class RecordedMobility(Mobility):
    """Positions recorded in a file; a device that the file doesn't name stays in its place."""

    kind: Literal["trace"] = "trace"
    path: Path = Field(description="the file")
    format: Literal["csv", "ns2", "bonnmotion", "bonnmotion-3d"] = Field(
        default="csv", description='"csv": lines t,node,x,y[,z] below that header, in s and m; "ns2": setdest commands'
    )

    roams = False

    def tracks(self, n: int, sides: Sides | None, seed: int) -> dict[int, Track]:
        found = read_movement(self.path, self.format)
        if max(found) >= n:
            raise ValueError(f"{self.path} has a device {max(found)}; ids are 0 to {n - 1}, or set devices.count")
        return {device: Track(corners) for device, corners in found.items()}


AnyMobility = Annotated[Mobility, OneOf("mobility", Static, RandomWaypoint, RandomWalk, GaussMarkov, RecordedMobility)]


def mean_distance(width: float, height: float) -> float:
    """Return the mean distance of two uniform points in a rectangle; 0.5214 in the unit square.

    Source: B. Ghosh, "Random distances within a rectangle and between two rectangles", Bulletin of
    the Calcutta Mathematical Society 43, 1951.
    """
    a, b = width, height
    d = math.hypot(a, b)
    logs = b * b / a * math.log((a + d) / b) + a * a / b * math.log((b + d) / a)
    return (a**3 / b**2 + b**3 / a**2 + d * (3 - a**2 / b**2 - b**2 / a**2) + 2.5 * logs) / 15


def _place(random: np.random.Generator, sides: Sides) -> tuple[float, float]:
    return sides[0] * random.random(), sides[1] * random.random()


def _reflected(
    here: tuple[float, float], step: tuple[float, float], sides: Sides
) -> Iterator[tuple[float, tuple[float, float], str]]:
    """Yield the corners of a straight step between reflecting walls.

    Yields:
        (share of the step done, place, axes whose direction turns there: "", "x", "y" or "xy").
    """
    hits: list[tuple[float, str]] = []
    for axis, start, length, side in zip("xy", here, step, sides, strict=True):
        # Unfolded, the path is a straight line through copies of the area, each a mirror image of the next.
        first, last = sorted((start / side, (start + length) / side))
        for wall in range(math.ceil(first), math.floor(last) + 1):
            share = (wall * side - start) / length if length else 0.0
            if 0 < share < 1:
                hits.append((share, axis))
    for share, axis in sorted(hits):
        yield share, _folded(here, step, share, sides), axis
    yield 1.0, _folded(here, step, 1.0, sides), ""


def _folded(here: tuple[float, float], step: tuple[float, float], share: float, sides: Sides) -> tuple[float, float]:
    """Return the end of a share of the step, mirrored back into the area."""
    x, y = (
        side - abs((start + share * length) % (2 * side) - side)
        for start, length, side in zip(here, step, sides, strict=True)
    )
    return x, y
