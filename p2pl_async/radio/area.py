"""A part of the plane that some devices are in."""

from __future__ import annotations

from pydantic import model_validator

from p2pl_async.basics.randomness import stream
from p2pl_async.basics.settings import Settings, mistake
from p2pl_async.basics.units import Meters
from p2pl_async.radio.mobility import Mobility
from p2pl_async.radio.motion import Track


class Area(Settings):
    """A rectangle: `{ x = ["0 m", "50 m"], y = ["20 m", "40 m"] }`."""

    x: tuple[Meters, Meters]
    y: tuple[Meters, Meters]

    @model_validator(mode="after")
    def _check(self) -> Area:
        for name, (low, high) in (("x", self.x), ("y", self.y)):
            if low >= high:
                raise mistake(f"{name} must be its smallest value, then its largest")
        return self

    @property
    def sides(self) -> tuple[float, float]:
        """Width and height, in meters."""
        return self.x[1] - self.x[0], self.y[1] - self.y[0]

    def track(self, mobility: Mobility, device: int, seed: int) -> Track:
        """Return the path of a device that roams it, or that stays at a place drawn uniformly.

        Args:
            mobility: how it moves.
            device: its id.
            seed: of the run; streams "mobility" and "place".
        """
        x, y = self.x[0], self.y[0]
        if not mobility.roams:
            width, height = self.sides
            random = stream(seed, "place", device)
            return Track.still((x + width * random.random(), y + height * random.random()))
        corners = mobility.corners(stream(seed, "mobility", device), self.sides)
        return Track((at, x + right, y + up, z) for at, right, up, z in corners)
