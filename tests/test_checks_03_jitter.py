"""Jitter that is correlated in time, and messages that overtake each other."""

import math
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter
from scipy import stats

from p2pl_async.basics.randomness import stream
from p2pl_async.link import AnyLatency, Latency, Link, LinkSettings

ANY: TypeAdapter[Latency] = TypeAdapter(AnyLatency)

GAMMA = {"kind": "gamma", "mean": "20 ms", "sd": "10 ms"}
LAW = stats.gamma(4, scale=0.005)


def sample(correlation: str, every: float, n: int) -> Any:
    draw = ANY.validate_python({**GAMMA, "correlation": correlation}).process(stream(1, "latency"))
    return np.array([draw(i * every) for i in range(n)])


@pytest.mark.parametrize("r", [0.25, 0.9, 0.99])
def test_messages_a_distance_apart_are_correlated_as_the_time_constant_says(r: float) -> None:
    """r = exp(-dt / tau), of the normal z behind each value; over two steps r^2."""
    n, every = 40_000, 0.1
    tau = -every / math.log(r)
    z = stats.norm.ppf(LAW.cdf(sample(f"{tau} s", every, n)))
    for lag in (1, 2, 5):
        rho = r**lag
        # Bartlett's formula for an autoregressive process of order 1.
        variance = ((1 - rho**2) * (1 + r**2) / (1 - r**2) - 2 * lag * rho**2) / n
        found = np.mean(z[:-lag] * z[lag:]) / np.mean(z * z)
        assert found == pytest.approx(rho, abs=5 * math.sqrt(variance) + 5 / n)


@pytest.mark.parametrize("r", [0.25, 0.9, 0.99])
def test_the_distribution_stays_what_it_is_for_every_correlation(r: float) -> None:
    values = sample(f"{-0.1 / math.log(r)} s", 0.1, 40_000)
    thin = values[:: math.ceil(5 / (1 - r))]  # independent enough for the test
    assert stats.kstest(thin, LAW.cdf).statistic < 1.63 / math.sqrt(len(thin))


def test_correlation_goes_with_time_not_with_messages() -> None:
    """Ten messages per time constant or one: what is one time constant apart has correlation 1/e."""
    for per in (1, 10):
        z = stats.norm.ppf(LAW.cdf(sample("1 s", 1 / per, 30_000)))
        assert np.mean(z[:-per] * z[per:]) == pytest.approx(math.exp(-1), abs=5 * math.sqrt(3 * per / 30_000))


def test_messages_of_one_instant_have_one_latency() -> None:
    draw = ANY.validate_python({**GAMMA, "correlation": "1 s"}).process(stream(1, "latency"))
    assert draw(2.0) == draw(2.0)
    assert draw(2.0) != draw(9.0)


def test_the_start_is_stationary() -> None:
    first = [
        ANY.validate_python({**GAMMA, "correlation": "1 h"}).process(stream(seed, "latency"))(0.0)
        for seed in range(2000)
    ]
    assert stats.kstest(first, LAW.cdf).statistic < 1.63 / math.sqrt(2000)


# --- Order


def arrivals(latency: Any, order: str, gap: float, n: int = 20_000) -> Any:
    """Return when pairs of messages arrive that are sent `gap` seconds apart, shape (n, 2)."""
    made = Link(0, 1, LinkSettings.model_validate({"latency": latency, "order": order}), 1)
    return np.array([[made.judge(10, 10.0 * i).arrival, made.judge(10, 10.0 * i + gap).arrival] for i in range(n)])


@pytest.mark.parametrize(
    ("latency", "share"),
    [
        ({"kind": "gamma", "mean": "20 ms", "sd": "20 ms"}, math.exp(-0.5) / 2),  # exponential: exp(-d / m) / 2
        ({"kind": "uniform", "low": "5 ms", "high": "35 ms"}, (1 - 10 / 30) ** 2 / 2),
        ({"kind": "normal", "mean": "200 ms", "sd": "10 ms"}, stats.norm.sf(10 / (10 * math.sqrt(2)))),
    ],
)
def test_free_messages_overtake_each_other_as_often_as_their_latencies_say(latency: Any, share: float) -> None:
    pairs = arrivals(latency, "free", 0.010)
    overtaken = pairs[:, 1] < pairs[:, 0]
    assert overtaken.mean() == pytest.approx(share, abs=5 * math.sqrt(share * (1 - share) / len(pairs)))


def test_in_fifo_order_nothing_overtakes() -> None:
    pairs = arrivals({"kind": "gamma", "mean": "20 ms", "sd": "20 ms"}, "fifo", 0.001)
    assert (pairs[:, 1] >= pairs[:, 0]).all()
    assert (np.diff(pairs.ravel()) >= 0).all()
    assert (pairs[:, 1] == pairs[:, 0]).any()  # one that had to wait comes right behind
