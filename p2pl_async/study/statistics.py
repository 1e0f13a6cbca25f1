"""Statistics over seeds: intervals, paired differences, and corrections for many of them.

The seeds of a study are pairs: a seed has the same data, devices and weather in every variant, so the difference
between two variants is taken seed by seed, and what all runs of a seed have in common cancels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from p2pl_async.basics.randomness import stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Values = Sequence[float] | NDArray[np.float64]

Statistic = Literal["mean", "bootstrap", "median"]
PairedTest = Literal["permutation", "wilcoxon", "t"]

_FLIPS = 99_999  # sign flips drawn where there are too many to try all: more than 16 pairs


class Interval(NamedTuple):
    """A center and where it lies with a given confidence; NaN limits where that can't be told."""

    center: float
    low: float
    high: float


def interval(values: Values, statistic: Statistic = "mean", confidence: float = 0.95) -> Interval:
    """Return the center of values and its confidence interval.

    `mean`: Student's t. `bootstrap`: the mean, bias-corrected and accelerated (Efron 1987). `median`: the order
    statistics between which it lies, whatever the distribution; six values or more for 95 %.

    Args:
        values: one per seed, at least one.
        statistic: which of the three.
        confidence: of the interval.
    """
    from scipy import stats

    x = np.asarray(values, np.float64)
    center = float(np.median(x) if statistic == "median" else x.mean())
    if len(x) < 2 or not np.isfinite(x).all():
        return Interval(center, np.nan, np.nan)
    if np.ptp(x) == 0:
        return Interval(center, center, center)
    if statistic == "mean":
        half = stats.t.ppf((1 + confidence) / 2, len(x) - 1) * stats.sem(x)
        return Interval(center, center - float(half), center + float(half))
    if statistic == "bootstrap":
        drawn = stats.bootstrap((x,), np.mean, confidence_level=confidence, method="BCa", rng=stream(0, "bootstrap"))
        return Interval(center, float(drawn.confidence_interval.low), float(drawn.confidence_interval.high))
    return Interval(center, *_order_limits(np.sort(x), confidence))


def _order_limits(x: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    """Return the order statistics between which the median lies at least with this confidence; NaN if none do."""
    from scipy import stats

    rank = int(stats.binom.ppf((1 - confidence) / 2, len(x), 0.5))
    while rank > 0 and stats.binom.cdf(rank - 1, len(x), 0.5) > (1 - confidence) / 2:
        rank -= 1
    return (np.nan, np.nan) if rank == 0 else (float(x[rank - 1]), float(x[len(x) - rank]))


def paired_p(differences: Values, test: PairedTest = "permutation") -> float:
    """Return the two-sided p-value of differences by seed against none.

    `permutation`: all signs are flipped, and the mean is compared. `wilcoxon`: the same of signed ranks, exact with
    ties too; zeros are left out. `t`: Student's paired t. NaN if there are fewer than two, or all are zero.

    Args:
        differences: one per seed.
        test: which of the three.
    """
    from scipy import stats

    d = np.asarray(differences, np.float64)
    if test == "wilcoxon":
        d = d[d != 0]
    if len(d) < 2 or not np.isfinite(d).all() or not d.any():
        return float("nan")
    if test == "t":
        return float(stats.ttest_1samp(d, 0.0).pvalue) if np.ptp(d) else 0.0
    x = np.asarray(d if test == "permutation" else np.sign(d) * stats.rankdata(np.abs(d)), np.float64)
    return _flipped(x, lambda signs: np.abs(signs @ x))


def _flipped(x: NDArray[np.float64], size: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> float:
    """Return the share of sign flips of `x` whose statistic is at least as large as that of `x` itself."""
    n = len(x)
    observed = float(size(np.ones((1, n)))[0])
    signs: NDArray[np.float64]
    if n <= 16:
        signs = np.where((np.arange(1 << n)[:, None] >> np.arange(n)) & 1, -1.0, 1.0)
        return float(np.mean(size(signs) >= observed * (1 - 1e-12)))
    signs = np.asarray(stream(0, "sign-flips").choice([-1.0, 1.0], (_FLIPS, n)), np.float64)
    return float((1 + np.sum(size(signs) >= observed * (1 - 1e-12))) / (1 + _FLIPS))


def smallest_p(n: int) -> float:
    """Return the smallest two-sided p-value that an exact test of n pairs can give: 2^(1-n)."""
    return min(1.0, 2.0 ** (1 - n))


def holm(p: Sequence[float]) -> list[float]:
    """Return p-values corrected for how many there are, by Holm's step-down rule; NaN stays and doesn't count.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure", 1979.
    """
    counted = sorted((value, i) for i, value in enumerate(p) if value == value)
    corrected, worst = list(p), 0.0
    for place, (value, i) in enumerate(counted):
        worst = max(worst, min(1.0, (len(counted) - place) * value))
        corrected[i] = worst
    return corrected


class Ranks(NamedTuple):
    """How several treatments rank over blocks, by Friedman's test.

    Attributes:
        mean: mean rank of each treatment; 1 is best.
        p: of Friedman's test that all are the same; NaN with fewer than three treatments.
        critical: Nemenyi's critical difference of mean ranks at 5 %: treatments closer than this can't be told apart.
    """

    mean: tuple[float, ...]
    p: float
    critical: float


def friedman(blocks: Sequence[Sequence[float]], *, smaller_is_better: bool = False) -> Ranks:
    """Return how treatments rank.

    Source: J. Demsar, "Statistical comparisons of classifiers over multiple data sets", JMLR 7, 2006.

    Args:
        blocks: for each block, such as a scenario with a seed, the value of each treatment; shape (blocks, treatments).
        smaller_is_better: whether rank 1 is the smallest value.
    """
    from scipy import stats

    x = np.asarray(blocks, np.float64)
    n, k = x.shape
    ranks = stats.rankdata(x if smaller_is_better else -x, axis=1)
    p = float(stats.friedmanchisquare(*x.T).pvalue) if k >= 3 and n >= 2 and np.ptp(ranks) else float("nan")
    q = float(stats.studentized_range.ppf(0.95, k, np.inf)) / np.sqrt(2)
    return Ranks(tuple(map(float, ranks.mean(axis=0))), p, float(q * np.sqrt(k * (k + 1) / (6 * n))))
