"""Shadowing: what walls and trees between two devices add to the path loss, as normal variables.

Values have standard deviation 1 and are the same both ways. They are looked up, not drawn in turn, so they don't
depend on the order of the questions.

    PairShadows    each pair has its own, a function of the path lengths of the two
    FieldShadows   a function of the two places: links whose ends are near each other have similar values
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from p2pl_async.basics.arrays import Floats
from p2pl_async.basics.randomness import stream, uniforms_at
from p2pl_async.radio.kept import keep_row
from p2pl_async.radio.motion import distances
from p2pl_async.radio.settings import Shadowing

Ids = NDArray[np.int64]
Complex = NDArray[np.complex128]
Point = Sequence[float]

MOST = 8.3  # no value is larger: the quantile of a float below 1; sums of sinusoids have lighter tails
_STEPS = 8  # steps of shadowing in a decorrelation distance
_RESTART = 64  # steps from one start of the recursion to the next; a normal of 64 steps before counts 3e-4
_WAVES = 256  # sinusoids of a field


class Shadows(Protocol):
    """Shadowing of all pairs of devices of a run."""

    def row(self, src: int, points: Floats, gone: Floats) -> Floats:
        """Return the values between one device and each device, shape (n,).

        Args:
            src: the device.
            points: places in meters, shape (n, 3).
            gone: path lengths in meters, shape (n,).
        """

    def table(self, points: Floats, gone: Floats) -> Floats:
        """Return the values of all pairs, in the order of `np.triu_indices(n, 1)`; as `row`."""

    def pair(self, src: int, dst: int, here: Point, there: Point, gone: float) -> float:
        """Return the value of one pair.

        Args:
            src: one device.
            dst: the other.
            here: place of the first, in meters.
            there: place of the second.
            gone: path lengths of the two, summed.
        """

    def along(self, src: int, dst: int, here: Floats, there: Floats, gone: Floats) -> Floats:
        """Return the values of one pair at k instants, shape (k,); as `pair`."""


class PairShadows:
    """Shadowing of each pair by itself, which forgets as the two move.

    A sequence in steps of an eighth of the decorrelation distance: each value is the one before times rho, plus a new
    normal. It restarts every 64 steps, from the value that the 64 normals before give, so that no lookup has to start
    at the beginning of the run. What has been computed is kept, and doesn't change the results.

    Args:
        settings: of the shadowing.
        n: number of devices.
        seed: of the run; stream "shadowing".
        moves: whether any device moves.
    """

    def __init__(self, settings: Shadowing, n: int, seed: int, *, moves: bool) -> None:
        self._seed = seed
        self._moves = moves
        self._ids = np.arange(n)
        self._per_meter = _STEPS / settings.decorrelation
        # Computed so far, as (steps gone, value): of a device with all others, of pairs, of all pairs.
        self._rows: dict[int, tuple[Ids, Floats]] = {}
        self._pairs: dict[tuple[int, int], tuple[Ids, Floats]] = {}
        self._table: tuple[Ids, Floats] | None = None

    def row(self, src: int, points: Floats, gone: Floats) -> Floats:
        low, high = np.minimum(src, self._ids), np.maximum(src, self._ids)
        found = self._values(low, high, gone[src] + gone, self._rows.get(src))
        if self._moves:
            keep_row(self._rows, src, found)
        return found[1]

    def table(self, points: Floats, gone: Floats) -> Floats:
        low, high = np.triu_indices(len(self._ids), 1)
        self._table = self._values(low, high, gone[low] + gone[high], self._table)
        return self._table[1]

    def pair(self, src: int, dst: int, here: Point, there: Point, gone: float) -> float:
        low, high = min(src, dst), max(src, dst)
        known = self._pairs.get((low, high))
        if known is None or known[0][0] != math.floor(gone * self._per_meter):
            known = self._values(np.array([low]), np.array([high]), np.array([gone]), known)
            self._pairs[low, high] = known
        return float(known[1][0])

    def along(self, src: int, dst: int, here: Floats, there: Floats, gone: Floats) -> Floats:
        low, high = min(src, dst), max(src, dst)
        ways, which = np.unique(gone, return_inverse=True)
        steps, values = self._values(np.array([low]), np.array([high]), ways, self._pairs.get((low, high)))
        self._pairs[low, high] = steps[-1:], values[-1:]
        return values[which]

    def _values(self, low: Ids, high: Ids, gone: Floats, known: tuple[Ids, Floats] | None) -> tuple[Ids, Floats]:
        """Return the shadowing of pairs, given the path lengths of the two.

        Args:
            low: the smaller id of each pair, shape (k,) or (1,).
            high: the larger id, likewise.
            gone: path lengths of the two, summed, in meters, shape (k,).
            known: an earlier result for these pairs, or one for all; saves time.

        Returns:
            Steps gone, and values, each shape (k,).
        """
        steps = np.floor(gone * self._per_meter).astype(np.int64)
        low, high = np.broadcast_to(low, steps.shape), np.broadcast_to(high, steps.shape)
        rho = math.exp(-1 / _STEPS)
        new = math.sqrt(1 - rho * rho)
        begin = steps - steps % _RESTART
        if known is None:
            at, values = begin.copy(), np.zeros(steps.shape)
            fresh = np.ones(steps.shape, np.bool_)
        else:
            at, values = np.broadcast_to(known[0], steps.shape).copy(), np.broadcast_to(known[1], steps.shape).copy()
            fresh = (at < begin) | (at > steps)
            at[fresh] = begin[fresh]
        if np.any(fresh):
            values[fresh] = self._restarted(low[fresh], high[fresh], begin[fresh], rho)
        ahead = int(np.max(steps - at))
        if ahead:
            (moved,) = np.nonzero(at < steps)
            index = (at[moved, None] + 1 + np.arange(ahead)).astype(np.uint64)
            drawn = self._normals(low[moved, None], high[moved, None], index)
            left = steps[moved] - at[moved]
            value = values[moved]
            for k in range(ahead):
                value = np.where(k < left, rho * value + new * drawn[:, k], value)
            values[moved] = value
        return steps, values

    def _restarted(self, low: Ids, high: Ids, begin: Ids, rho: float) -> Floats:
        """Return the values at steps where the recursion restarts, shape (k,)."""
        first = self._normals(low, high, np.zeros(1, np.uint64))
        if not np.any(begin):
            return first
        weights = rho ** np.arange(_RESTART)
        weights /= math.sqrt(float(np.sum(weights * weights)))
        index = np.maximum(begin[:, None] - np.arange(_RESTART), 0).astype(np.uint64)
        summed = np.sum(weights * self._normals(low[:, None], high[:, None], index), axis=1)
        return np.where(begin > 0, summed, first)

    def _normals(self, low: Ids, high: Ids, index: NDArray[np.uint64]) -> Floats:
        return normals(uniforms_at(self._seed, "shadowing", low, high, index))


class FieldShadows:
    """Shadowing as one field over the places of both ends.

    The field F(x, y) is a sum of plane waves over the two places, with the spectrum that belongs to the correlation
    exp(-(|x - x'| + |y - y'|) / D): a Cauchy distribution of wave vectors in three dimensions. The shadowing of a link
    is F(x, y) + F(y, x), scaled to variance 1, so that it is the same both ways. Places are rounded down to a grid of
    an eighth of D: a device that moves needs new cosines only when it enters another cell.

    Source: Z. Wang, E. K. Tameh, A. R. Nix, "Joint shadowing process in urban peer-to-peer radio channels", IEEE
    Transactions on Vehicular Technology 57, 2008.

    Args:
        settings: of the shadowing.
        n: number of devices.
        seed: of the run; stream "shadowing-field".
    """

    def __init__(self, settings: Shadowing, n: int, seed: int) -> None:
        random = stream(seed, "shadowing-field")
        vectors = random.standard_normal((2, _WAVES, 3)) / np.abs(random.standard_normal((2, _WAVES, 1)))
        self._distance = settings.decorrelation
        self._first, self._second = vectors / _STEPS  # of the two ends, in rad per cell, each (waves, 3)
        self._phase = random.uniform(0, 2 * math.pi, _WAVES)
        self._cells = np.full((n, 3), np.nan)  # of the devices, when they were looked at last
        self._waves_there = np.zeros((2, n, _WAVES), np.complex128)
        self._changes = 0  # of cells
        self._rows: dict[int, tuple[int, Floats]] = {}  # of devices: after how many changes, and the values
        self._table: tuple[int, Floats] | None = None
        self._pairs: dict[tuple[int, int], tuple[tuple[float, ...], float]] = {}

    def row(self, src: int, points: Floats, gone: Floats) -> Floats:
        first, second = self._look(points)
        known = self._rows.get(src)
        if known is None or known[0] != self._changes:
            fields = (first[src] * second + first * second[src]).real.sum(axis=-1)
            known = self._changes, self._scaled(fields, distances(self._cells, self._cells[src]))
            keep_row(self._rows, src, known)
        return known[1]

    def table(self, points: Floats, gone: Floats) -> Floats:
        first, second = self._look(points)
        if self._table is None or self._table[0] != self._changes:
            low, high = np.triu_indices(len(points), 1)
            fields = (first @ second.T).real
            apart = distances(self._cells[low], self._cells[high])
            self._table = self._changes, self._scaled(fields[low, high] + fields[high, low], apart)
        return self._table[1]

    def pair(self, src: int, dst: int, here: Point, there: Point, gone: float) -> float:
        cells = self._cells_of(np.array([here, there]))
        key, known = tuple(cells.ravel().tolist()), self._pairs.get((src, dst))
        if known is None or known[0] != key:
            known = self._pairs[src, dst] = key, float(self._between(cells[:1], cells[1:])[0])
        return known[1]

    def along(self, src: int, dst: int, here: Floats, there: Floats, gone: Floats) -> Floats:
        both, which = np.unique(self._cells_of(np.hstack((here, there))), axis=0, return_inverse=True)
        return self._between(both[:, :3], both[:, 3:])[which.ravel()]

    def _cells_of(self, points: Floats) -> Floats:
        return np.floor(points * (_STEPS / self._distance))

    def _look(self, points: Floats) -> tuple[Complex, Complex]:
        """Return the waves of all devices, each shape (n, waves)."""
        cells = self._cells_of(points)
        (moved,) = np.nonzero(((cells != self._cells) & ~np.isnan(cells)).any(axis=1))
        if len(moved):
            self._cells[moved] = cells[moved]
            self._waves_there[:, moved] = self._waves(cells[moved])
            self._changes += 1
        return self._waves_there[0], self._waves_there[1]

    def _waves(self, cells: Floats) -> tuple[Complex, Complex]:
        """Return exp(i (u x + phase)) and exp(i v x) of each place x and each wave, each shape (k, waves)."""
        return np.exp(1j * (cells @ self._first.T + self._phase)), np.exp(1j * (cells @ self._second.T))

    def _between(self, here: Floats, there: Floats) -> Floats:
        """Return the shadowing between places, shape (k,)."""
        (first, second), (other_first, other_second) = self._waves(here), self._waves(there)
        return self._scaled((first * other_second + other_first * second).real.sum(axis=-1), distances(here, there))

    def _scaled(self, fields: Floats, apart: Floats) -> Floats:
        """Return F(x, y) + F(y, x) with variance 1, from sums of cosines, and the distances of the ends in cells."""
        return np.asarray(fields / np.sqrt(_WAVES * (1 + np.exp(-2 / _STEPS * apart))), dtype=np.float64)


def normals(uniforms: Floats) -> Floats:
    """Return the standard normal variables that follow from numbers in (0, 1); any shape."""
    from scipy.special import ndtri  # slow to import; only runs with radios need it

    return np.asarray(ndtri(uniforms), dtype=np.float64)
