"""Where devices are: positions as functions of time, looked up in any order.

    a model of movement  ->  corners (t, x, y, z), made as far ahead as needed
    Track    one device: straight from corner to corner
    Motion   all devices: positions (n, 3) at an instant

A device rests before its first corner and after its last one. Two corners at one instant are a
jump. Tracks also give the length of the path so far, since shadowing depends on it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from p2pl_async.basics.arrays import Floats

Corner = tuple[float, float, float, float]  # instant in s, and x, y, z in m

_AHEAD = 64  # corners made at once


class Track:
    """The path of one device.

    Args:
        corners: at least one, maybe endless; instants never decrease.
    """

    __slots__ = ("_corners", "_points", "_times", "_travelled")

    def __init__(self, corners: Iterable[Corner]) -> None:
        self._corners = iter(corners)
        self._times: Floats = np.empty(0)
        self._points: Floats = np.empty((0, 3))
        self._travelled: Floats = np.empty(0)
        self._cover(-math.inf)

    @classmethod
    def still(cls, point: Sequence[float]) -> Track:
        """Return the track of a device that stays where it is, (x, y) or (x, y, z) in meters."""
        x, y, z = (*point, 0.0)[:3]
        return cls([(0.0, x, y, z)])

    @classmethod
    def nowhere(cls) -> Track:
        """Return the track of a device that has no place, since no radio asks for it."""
        return cls.still((math.nan, math.nan, math.nan))

    @property
    def moves(self) -> bool:
        """Whether the device ever leaves its first place."""
        first = self._points[0]
        return self._times[-1] < math.inf or bool(np.any((self._points != first) & ~np.isnan(first)))

    def corners_until(self, end: float) -> list[Corner]:
        """Return the corners up to the instant `end`, and the place at that instant: after a jump, if there is one."""
        here = self.along(np.array([end]))[0][0]
        known = np.searchsorted(self._times, end, side="right")
        table = np.column_stack((self._times[:known], self._points[:known]))
        return [tuple(row) for row in [*table.tolist(), [end, *here.tolist()]]]

    def along(self, times: Floats) -> tuple[Floats, Floats]:
        """Return places and path lengths at many instants.

        Args:
            times: instants in seconds, shape (k,), in any order.

        Returns:
            Positions in meters, shape (k, 3), and path lengths in meters, shape (k,).
        """
        self._cover(float(np.max(times)))
        leg, share = self._find(times)
        points = self._points[leg] + share[:, None] * (self._points[leg + 1] - self._points[leg])
        return points, self._travelled[leg] + share * (self._travelled[leg + 1] - self._travelled[leg])

    def leg(self, at: float) -> tuple[float, float, Floats, Floats, float]:
        """Return the straight part of the path at the instant `at`.

        Returns:
            Its begin and end, the place at its begin and the velocity, each of shape (3,), and
            the path length at its begin.
        """
        self._cover(at)
        after = int(np.searchsorted(self._times, at, side="right"))
        if after == 0:
            return -math.inf, float(self._times[0]), self._points[0], np.zeros(3), 0.0
        begin, end = float(self._times[after - 1]), float(self._times[after])
        velocity = (self._points[after] - self._points[after - 1]) / (end - begin)
        return begin, end, self._points[after - 1], velocity, float(self._travelled[after - 1])

    def _find(self, times: Floats) -> tuple[NDArray[np.intp], Floats]:
        """Return for each instant the corner before it and the share of the way to the next, shapes (k,)."""
        leg = np.clip(np.searchsorted(self._times, times, side="right") - 1, 0, len(self._times) - 2)
        length = np.maximum(self._times[leg + 1] - self._times[leg], 5e-324)  # 0 only before a jump at the very start
        return leg, np.clip((times - self._times[leg]) / length, 0.0, 1.0)

    def _cover(self, at: float) -> None:
        """Make corners until one lies after `at`."""
        while self._times[-1] <= at if len(self._times) else True:
            block = max(_AHEAD, len(self._times) // 4)
            made = list(itertools.islice(self._corners, block))
            if len(made) < block:  # the device rests from the last corner on
                last = made[-1][1:] if made else self._points[-1]
                made.append((math.inf, *last))
            table = np.array(made, dtype=np.float64)
            points = np.concatenate((self._points, table[:, 1:]))
            steps = distances(points[1:], points[:-1])
            self._travelled = np.concatenate((np.zeros(1), np.cumsum(steps)))
            self._times = np.concatenate((self._times, table[:, 0]))
            self._points = points


class Motion:
    """The places of all devices.

    Args:
        tracks: the path of each device, by id.
    """

    def __init__(self, tracks: Sequence[Track]) -> None:
        self.tracks = tuple(tracks)
        self.n = len(self.tracks)
        self.moves = any(track.moves for track in self.tracks)
        self._legs: list[tuple[float, ...]] = [(math.inf, -math.inf)] * self.n  # latest leg of each device, for `place`
        self._begin = np.full(self.n, math.inf)
        self._end = np.full(self.n, -math.inf)
        self._from = np.zeros((self.n, 3))
        self._velocity = np.zeros((self.n, 3))
        self._speed = np.zeros(self.n)
        self._gone = np.zeros(self.n)
        self._at = math.nan
        self._now: tuple[Floats, Floats] | None = None

    def at(self, at: float) -> tuple[Floats, Floats]:
        """Return places and path lengths of all devices.

        Returns:
            Positions in meters, shape (n, 3), and path lengths in meters, shape (n,); don't change them.
        """
        if self._now is not None and (at == self._at or not self.moves):
            return self._now
        for device in np.flatnonzero((at < self._begin) | (at >= self._end)):
            begin, end, start, velocity, gone = self.tracks[device].leg(at)
            self._begin[device], self._end[device] = begin, end
            self._from[device], self._velocity[device], self._gone[device] = start, velocity, gone
            self._speed[device] = np.linalg.norm(velocity)
        since = np.where(self._speed > 0, at - self._begin, 0.0)
        self._at = at
        self._now = self._from + since[:, None] * self._velocity, self._gone + since * self._speed
        return self._now

    def place(self, device: int, at: float) -> tuple[tuple[float, float, float], float]:
        """Return place and path length of one device, in a tenth of the time of `at`."""
        leg = self._legs[device]
        if not leg[0] <= at < leg[1]:
            begin, end, start, velocity, gone = self.tracks[device].leg(at)
            leg = begin, end, *start.tolist(), *velocity.tolist(), gone, float(np.linalg.norm(velocity))
            self._legs[device] = leg
        begin, _, x, y, z, vx, vy, vz, gone, speed = leg
        since = at - begin if speed else 0.0
        return (x + since * vx, y + since * vy, z + since * vz), gone + since * speed

    def displaced(self, moves: Iterable[tuple[float, int, Sequence[float]]]) -> Motion:
        """Return a motion in which devices jump to places at given instants, and rest there from then on.

        Args:
            moves: (instant, device, position) each, in any order; of several for one device and
                instant the last counts.
        """
        planned: dict[int, list[tuple[float, Sequence[float]]]] = {}
        for instant, device, point in moves:
            planned.setdefault(device, []).append((instant, point))
        tracks = list(self.tracks)
        for device, stops in planned.items():
            tracks[device] = _displaced(self.tracks[device], sorted(stops, key=lambda stop: stop[0]))
        return Motion(tracks)


def _displaced(track: Track, stops: Sequence[tuple[float, Sequence[float]]]) -> Track:
    corners = track.corners_until(stops[0][0])
    for instant, point in stops:
        here = corners[-1][1:]
        x, y, z = (*point, here[2])[:3]
        corners += [(instant, *here), (instant, x, y, z)]
    return Track(corners)


def distances(points: Floats, here: Floats) -> Floats:
    """Return the distance of each of the points, shape (..., 3), from `here`, which broadcasts."""
    gaps = points - here
    return np.asarray(np.sqrt(np.sum(gaps * gaps, axis=-1)), dtype=np.float64)
