"""Times to a target that some runs never reach: censored at the end of the run, never left out.

A mean over the runs that arrived would be the better the fewer do.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Arrival(NamedTuple):
    """When a run reached its target, or how long it ran without.

    Attributes:
        at: seconds, bytes or joules.
        reached: whether it did.
    """

    at: float
    reached: bool


class Curve(NamedTuple):
    """Kaplan and Meier's estimate of the share of runs that have not arrived.

    Attributes:
        at: where it steps, ascending.
        waiting: the share from there on.
        low: lower limit of its 95 % interval.
        high: upper limit.
    """

    at: tuple[float, ...]
    waiting: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def curve(arrivals: Sequence[Arrival]) -> Curve:
    """Return the estimate for some runs, at least one."""
    from scipy import stats

    found = stats.ecdf(_censored(arrivals)).sf
    with warnings.catch_warnings():  # Greenwood's variance has no value where no run is left
        warnings.simplefilter("ignore", RuntimeWarning)
        limits = found.confidence_interval(0.95, method="log-log")
    low, high = (np.nan_to_num(each.probabilities, nan=0.0) for each in limits)
    return Curve(*(tuple(map(float, each)) for each in (found.quantiles, found.probabilities, low, high)))


def median(arrivals: Sequence[Arrival]) -> float:
    """Return when half of the runs have arrived; infinity if they never do."""
    found = curve(arrivals)
    return next((at for at, share in zip(found.at, found.waiting, strict=True) if share <= 0.5), float("inf"))


def restricted_mean(arrivals: Sequence[Arrival], until: float) -> float:
    """Return the mean of the arrivals, each taken as at most `until`: the area under the curve up to there."""
    found = curve(arrivals)
    edges = [0.0, *(min(at, until) for at in found.at), until]
    heights = [1.0, *found.waiting]
    return float(sum(h * (b - a) for h, a, b in zip(heights, edges, edges[1:], strict=False) if h and b > a))


def horizon(groups: Sequence[Sequence[Arrival]]) -> float:
    """Return up to where all groups can be compared: the shortest of the longest times that ended without an arrival.

    A group whose longest time ended with one is known for ever after; if all are such, infinity.
    """
    longest = [max(group, key=lambda arrival: (arrival.at, not arrival.reached)) for group in groups]
    return min((arrival.at for arrival in longest if not arrival.reached), default=float("inf"))


def log_rank_p(first: Sequence[Arrival], second: Sequence[Arrival]) -> float:
    """Return the two-sided p-value that two groups arrive alike; NaN if no run of either arrived."""
    from scipy import stats

    if not any(arrival.reached for arrival in (*first, *second)):
        return float("nan")
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(stats.logrank(_censored(first), _censored(second)).pvalue)


def _censored(arrivals: Sequence[Arrival]) -> object:
    from scipy import stats

    return stats.CensoredData(
        uncensored=[arrival.at for arrival in arrivals if arrival.reached],
        right=[arrival.at for arrival in arrivals if not arrival.reached],
    )
