"""How long messages travel: the distributions, exactly."""

import math
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError
from scipy import stats

from p2pl_async.basics.randomness import stream
from p2pl_async.link.latency import AnyLatency, Latency

N = 20_000
KOLMOGOROV = 1.63 / math.sqrt(N)  # 1 % level

ANY: TypeAdapter[Latency] = TypeAdapter(AnyLatency)


def sample(table: Any, n: int = N, seed: int = 1) -> np.ndarray[Any, np.dtype[np.float64]]:
    draw = ANY.validate_python(table).process(stream(seed, "latency"))
    return np.array([draw(0.0) for _ in range(n)])


def distance(values: Any, expected: Any) -> float:
    return float(stats.kstest(values, expected.cdf).statistic)


def test_constant_is_constant_and_has_a_short_form() -> None:
    assert ANY.validate_python("20 ms") == ANY.validate_python({"kind": "constant", "mean": "20 ms"})
    assert set(sample("20 ms", 5)) == {0.02}


def test_uniform() -> None:
    values = sample({"kind": "uniform", "low": "10 ms", "high": "30 ms"})
    assert distance(values, stats.uniform(0.01, 0.02)) < KOLMOGOROV
    assert values.min() >= 0.01
    assert values.max() <= 0.03


def test_normal_is_cut_off_not_clipped() -> None:
    """mean 10, sd 5, cut at 2: mean 10.587; a clip would put mass on 2."""
    values = sample({"kind": "normal", "mean": "10 ms", "sd": "5 ms", "least": "2 ms"})
    assert distance(values, stats.truncnorm((2 - 10) / 5, math.inf, 0.01, 0.005)) < KOLMOGOROV
    assert values.mean() == pytest.approx(0.010587, abs=5 * 0.005 / math.sqrt(N))
    assert values.min() >= 0.002
    assert np.count_nonzero(values == 0.002) == 0


def test_normal_is_cut_at_zero_unless_told_otherwise() -> None:
    values = sample({"kind": "normal", "mean": "1 ms", "sd": "2 ms"})
    assert distance(values, stats.truncnorm(-0.5, math.inf, 0.001, 0.002)) < KOLMOGOROV


def test_a_normal_of_which_only_the_far_tail_is_left_keeps_its_digits() -> None:
    values = sample({"kind": "normal", "mean": "0 ms", "sd": "1 ms", "least": "7 ms"})
    assert distance(values, stats.truncnorm(7, math.inf, 0, 0.001)) < KOLMOGOROV


def test_lognormal_has_the_mean_and_deviation_asked_for() -> None:
    values = sample({"kind": "lognormal", "mean": "20 ms", "sd": "10 ms"})
    variance = math.log(1.25)
    median = 0.02 * math.exp(-variance / 2)
    assert distance(values, stats.lognorm(math.sqrt(variance), scale=median)) < KOLMOGOROV
    assert values.mean() == pytest.approx(0.02, abs=5 * 0.01 / math.sqrt(N))
    assert np.quantile(values, 0.99) == pytest.approx(median * math.exp(2.326 * math.sqrt(variance)), rel=0.03)


@pytest.mark.parametrize("kind", ["normal", "lognormal"])
def test_without_spread_every_message_takes_the_mean(kind: str) -> None:
    assert set(sample({"kind": kind, "mean": "20 ms", "sd": "0 s"}, 5)) == {0.02}


def test_the_same_uniforms_make_every_distribution() -> None:
    """So another distribution, or another mean, keeps the order of fast and slow messages."""
    tables = (
        {"kind": "uniform", "low": "1 ms", "high": "2 ms"},
        {"kind": "normal", "mean": "20 ms", "sd": "10 ms"},
        {"kind": "lognormal", "mean": "20 ms", "sd": "10 ms"},
    )
    orders = [np.argsort(sample(table, 100)).tolist() for table in tables]
    assert orders[0] == orders[1] == orders[2]


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({"kind": "uniform", "low": "30 ms", "high": "20 ms"}, "low, 30 ms, must not be above high, 20 ms"),
        ({"kind": "normal", "mean": "1 ms", "sd": "1 ms", "least": "1 s"}, "least, 1 s, is above what mean and sd"),
        ({"kind": "lognormal", "mean": "0 s", "sd": "1 ms"}, "must be above 0 s"),
        ({"kind": "lognormal", "mean": "1 s", "sd": "-1 ms"}, "must be at least 0 s"),
        ("lognrmal", 'did you mean "lognormal"'),
        ("fast", 'write it like "20 ms"'),
        (20, 'write "20 s"'),
    ],
)
def test_impossible_latencies_are_refused(table: Any, text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        ANY.validate_python(table)
