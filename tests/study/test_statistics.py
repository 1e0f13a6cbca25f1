"""Statistics against scipy, and against formulas of their own."""

from __future__ import annotations

import itertools
import math
import statistics

import numpy as np
import pytest
from scipy import stats

from p2pl_async.study.statistics import friedman, holm, interval, paired_p, smallest_p
from p2pl_async.study.survival import Arrival, curve, horizon, log_rank_p, median, restricted_mean

X = np.random.default_rng(1).lognormal(size=9)


def test_the_t_interval_is_scipys() -> None:
    found = interval(X)
    expected = stats.ttest_1samp(X, 0).confidence_interval(0.95)
    assert found == pytest.approx((X.mean(), expected.low, expected.high))


def test_the_bootstrap_interval_is_bca_and_not_symmetric() -> None:
    found = interval(X, "bootstrap")
    expected = stats.bootstrap((X,), np.mean, rng=np.random.default_rng(2)).confidence_interval
    assert found[1:] == pytest.approx((expected.low, expected.high), rel=0.03)
    assert abs((found.high - found.center) / (found.center - found.low) - 1) > 0.05
    assert interval(X, "bootstrap") == found


def test_the_median_lies_between_order_statistics() -> None:
    expected = stats.quantile_test(X, p=0.5).confidence_interval(0.95)
    assert interval(X, "median") == (np.median(X), expected.low, expected.high)
    assert interval([1, 2, 3, 4, 5, 6], "median") == (3.5, 1, 6)
    assert math.isnan(interval([1, 2, 3, 4, 5], "median").low)


def test_one_value_has_no_interval_and_equal_ones_a_point() -> None:
    assert str(interval([2.0])) == "Interval(center=2.0, low=nan, high=nan)"
    assert interval([2.0, 2.0, 2.0], "bootstrap") == (2, 2, 2)


@pytest.mark.parametrize("n", [2, 5, 9])
def test_exact_tests_count_every_flip_of_signs(n: int) -> None:
    d = X[:n] - 0.7
    flips = [abs(sum(s * v for s, v in zip(signs, d, strict=True))) for signs in itertools.product((1, -1), repeat=n)]
    assert paired_p(d) == statistics.fmean(flip >= abs(sum(d)) - 1e-12 for flip in flips)
    assert paired_p(d, "wilcoxon") == pytest.approx(stats.wilcoxon(d, method="exact").pvalue)
    assert paired_p(d, "t") == pytest.approx(stats.ttest_rel(d + 1, np.ones(n)).pvalue)
    assert paired_p(X[:n]) == paired_p(X[:n], "wilcoxon") == smallest_p(n) == 2 ** (1 - n)


def test_wilcoxon_is_exact_with_ties_and_leaves_zeros_out() -> None:
    assert paired_p([1, 1, 1, 0], "wilcoxon") == 0.25
    assert math.isnan(paired_p([0.0, 0.0]))
    assert math.isnan(paired_p([1.0]))


def test_many_pairs_are_flipped_at_random() -> None:
    d = np.random.default_rng(3).normal(0.4, 1, 40)
    assert paired_p(d) == pytest.approx(stats.ttest_1samp(d, 0).pvalue, rel=0.3)
    assert paired_p(d, "wilcoxon") == pytest.approx(stats.wilcoxon(d).pvalue, rel=0.3)


def test_holms_correction() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # R: p.adjust(..., "holm")
    assert holm([0.6, float("nan"), 0.7])[::2] == [1.0, 1.0]


def test_friedmans_test_and_nemenyis_difference() -> None:
    blocks = np.random.default_rng(4).normal([0, 1, 2, 0, 0], 1, (10, 5)).tolist()
    found = friedman(blocks)
    assert found.p == stats.friedmanchisquare(*np.array(blocks).T).pvalue
    assert found.critical == pytest.approx(2.728 * math.sqrt(5 * 6 / 60), rel=1e-3)  # Demsar 2006, table 5
    assert sum(found.mean) == pytest.approx(15)
    assert np.argmin(found.mean) == 2
    assert np.argmax(friedman(blocks, smaller_is_better=True).mean) == 2


A = [Arrival(1, True), Arrival(2, True), Arrival(2, False), Arrival(4, True), Arrival(5, False)]


def test_kaplan_and_meiers_curve_by_hand() -> None:
    found = curve(A)
    steps = {at: share for at, share in zip(found.at, found.waiting, strict=True)}
    assert (steps[1], steps[2], steps[4]) == pytest.approx((4 / 5, 4 / 5 * 3 / 4, 4 / 5 * 3 / 4 / 2))
    assert all(low <= share <= high for low, share, high in zip(found.low, found.waiting, found.high, strict=True))
    assert median(A) == 4
    assert median([Arrival(3, False), Arrival(1, True), Arrival(3, False)]) == math.inf


def test_the_restricted_mean_is_the_area_under_the_curve() -> None:
    assert restricted_mean(A, 5) == pytest.approx(1 + 0.8 + 2 * 0.6 + 0.3)
    assert restricted_mean(A, 1.5) == pytest.approx(1 + 0.5 * 0.8)
    arrived = [Arrival(at, True) for at in (1.0, 2.0, 6.0)]
    assert restricted_mean(arrived, 10) == pytest.approx(3)
    assert horizon([A, arrived]) == 5
    early, never = [Arrival(2, True), Arrival(3, True)], [Arrival(100, False), Arrival(60, False)]
    assert horizon([early, never]) == 100  # all of the first had arrived long before
    assert restricted_mean(early, 100) == pytest.approx(2.5)
    assert restricted_mean(never, 100) == pytest.approx(100)
    assert horizon([[*early, Arrival(3, False)], never]) == 3  # one of those that ended at 3 s had not
    assert horizon([early, early]) == float("inf")
    assert restricted_mean(early, float("inf")) == pytest.approx(2.5)


def test_the_log_rank_test_by_hand() -> None:
    b = [Arrival(3, True), Arrival(6, True), Arrival(7, False)]
    observed = expected = variance = 0.0
    for t in sorted({a.at for a in (*A, *b) if a.reached}):
        n1, n2 = (sum(a.at >= t for a in group) for group in (A, b))
        d1, d2 = (sum(a.at == t and a.reached for a in group) for group in (A, b))
        n, d = n1 + n2, d1 + d2
        observed, expected = observed + d1, expected + d * n1 / n
        variance += d * (n1 / n) * (n2 / n) * (n - d) / (n - 1) if n > 1 else 0
    assert log_rank_p(A, b) == pytest.approx(stats.chi2.sf((observed - expected) ** 2 / variance, 1))
    assert math.isnan(log_rank_p([Arrival(1, False)], [Arrival(2, False)]))
