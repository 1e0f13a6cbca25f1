"""Shadowing that follows from places: its law, and the correlation of links, against the closed form."""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from p2pl_async.radio import Motion, Propagation, RadioSettings, Track
from p2pl_async.radio.settings import Shadowing
from p2pl_async.radio.shadowing import FieldShadows

D = 8.0  # m, the decorrelation distance, of 8 cells
PLACES = np.array([(0, 0, 0), (1, 0, 0), (0, 4, 0), (16, 0, 0), (17, 2, 0), (16, 8, 0), (2, 0, 4), (60, -30, 0)], float)
FIELDS = 2000
LOW, HIGH = np.triu_indices(len(PLACES), 1)


@functools.cache
def drawn() -> NDArray[np.float64]:
    """Return the shadowing of all pairs in many fields, shape (fields, pairs)."""
    still = np.zeros(len(PLACES))
    settings = Shadowing.model_validate({"decorrelation": f"{D} m", "correlated": True})
    return np.array([FieldShadows(settings, len(PLACES), seed).table(PLACES, still) for seed in range(FIELDS)])


def near(a: int, b: int) -> float:
    return math.exp(-float(np.linalg.norm(PLACES[a] - PLACES[b])) / D)


def law(one: int, other: int) -> float:
    """Return the correlation of two links: of F(x, y) + F(y, x) with the same of other ends."""
    (i, j), (k, m) = (LOW[one], HIGH[one]), (LOW[other], HIGH[other])
    together = near(i, k) * near(j, m) + near(i, m) * near(j, k)
    return together / math.sqrt((1 + near(i, j) ** 2) * (1 + near(k, m) ** 2))


def test_links_are_correlated_as_their_ends_are_near() -> None:
    values = drawn()
    found = values.T @ values / FIELDS  # of mean 0 and variance 1
    wanted = np.array([[law(one, other) for other in range(len(LOW))] for one in range(len(LOW))])
    assert np.max(np.abs(found - wanted) / np.sqrt((1 + wanted**2) / FIELDS)) < 5
    assert np.max(np.abs(values.mean(axis=0))) < 5 / math.sqrt(FIELDS)
    assert 0.5 < wanted[0, 7] < 1  # neither trivially alike, nor unlike


def test_the_shadowing_of_a_link_is_normal() -> None:
    for link in (0, 5, len(LOW) - 1):
        assert float(stats.kstest(drawn()[:, link], "norm").statistic) * math.sqrt(FIELDS) < 1.63


def test_a_device_that_returns_finds_the_same_shadow_again() -> None:
    walk = Track([(0.0, 0.0, 0.0, 0.0), (50.0, 100.0, 0.0, 0.0), (100.0, 0.0, 0.0, 0.0)])

    def heard(*, correlated: bool) -> list[float]:
        shadowing = {"sd": "6 dB", "correlated": correlated}
        waves = Propagation(RadioSettings.model_validate({"shadowing": shadowing}),
                            Motion([walk, Track.still((300.0, 40.0))]), 1)  # fmt: skip
        return [waves.power(0, 1, at) for at in (0.0, 25.0, 75.0, 100.0)]

    start, there, back, end = heard(correlated=True)
    assert (start, there) == (end, back) != (there, start)
    assert len(set(heard(correlated=False))) == 4


def test_devices_side_by_side_are_shadowed_alike() -> None:
    """From a sender far away; each by itself, the powers of neighbors differ by 6 dB times the square root of 2."""
    places = [(0.0, 0.0), *((2000.0, 0.05 * k) for k in range(40))]
    spreads = {}
    for correlated in (True, False):
        shadowing = {"sd": "6 dB", "decorrelation": "20 m", "correlated": correlated}
        settings = RadioSettings.model_validate({"shadowing": shadowing})
        powers = Propagation(settings, Motion([Track.still(place) for place in places]), 4).powers(0, 0.0)[1:]
        spreads[correlated] = float(np.std(powers))
    assert spreads[True] < 0.4 * spreads[False]
