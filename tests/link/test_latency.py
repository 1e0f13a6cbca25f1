"""Latency: every distribution against its law, correlation in time, and messages that overtake each other.

Distributions: Kolmogorov distance below 1.63 / sqrt(n), the 1 % level; means and variances
within 5 standard errors.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError
from scipy import stats

from p2pl_async.basics.randomness import stream
from p2pl_async.link import AnyLatency, Latency, Link, LinkSettings

N = 20_000
KOLMOGOROV = 1.63 / math.sqrt(N)

ANY: TypeAdapter[Latency] = TypeAdapter(AnyLatency)


def sample(table: Any, n: int = N, every: float = 0.0, seed: int = 1) -> Any:
    draw = ANY.validate_python(table).process(stream(seed, "latency"))
    return np.array([draw(i * every) for i in range(n)])


def distance(values: Any, cdf: Any) -> float:
    return float(stats.kstest(values, cdf).statistic)


def near_mean(values: Any, mean: float) -> Any:
    return pytest.approx(mean, abs=5 * values.std() / math.sqrt(len(values)))


def near_variance(values: Any, variance: float) -> Any:
    squares = (values - values.mean()) ** 2
    return pytest.approx(variance, abs=5 * squares.std() / math.sqrt(len(values)))


def test_uniform() -> None:
    values = sample({"kind": "uniform", "low": "10 ms", "high": "30 ms"})
    assert distance(values, stats.uniform(0.01, 0.02).cdf) < KOLMOGOROV
    assert values.mean() == near_mean(values, 0.02)
    assert values.var() == near_variance(values, 0.02**2 / 12)
    assert values.min() >= 0.01
    assert values.max() <= 0.03


def test_normal_is_truncated() -> None:
    """al = (a - mu) / sigma, l = phi(al) / (1 - Phi(al)): mean mu + sigma l, variance sigma^2 (1 + al l - l^2)."""
    values = sample({"kind": "normal", "mean": "10 ms", "sd": "5 ms", "least": "2 ms"})
    al = (2 - 10) / 5
    tail = stats.norm.pdf(al) / stats.norm.sf(al)
    assert 10 + 5 * tail == pytest.approx(10.587, abs=5e-4)
    assert values.mean() == near_mean(values, 0.010 + 0.005 * tail)
    assert values.var() == near_variance(values, 0.005**2 * (1 + al * tail - tail**2))
    assert distance(values, stats.truncnorm(al, math.inf, 0.01, 0.005).cdf) < KOLMOGOROV
    assert values.min() >= 0.002
    assert np.count_nonzero(values == 0.002) == 0  # a clip would put mass there


def test_lognormal_has_the_mean_median_and_tail_of_its_law() -> None:
    values = sample({"kind": "lognormal", "mean": "20 ms", "sd": "10 ms"})
    spread = math.sqrt(math.log(1.25))
    median = 0.02 * math.exp(-(spread**2) / 2)
    assert distance(values, stats.lognorm(spread, scale=median).cdf) < KOLMOGOROV
    assert values.mean() == near_mean(values, 0.02)
    assert (values < median).mean() == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(N))
    p99 = median * math.exp(2.326 * spread)
    assert (values < p99).mean() == pytest.approx(0.99, abs=5 * math.sqrt(0.0099 / N))
    assert np.quantile(values, 0.99) == pytest.approx(p99, rel=0.03)


@pytest.mark.parametrize("sd", [5, 20, 60])
def test_gamma_has_the_mean_and_variance_asked_for(sd: int) -> None:
    values = sample({"kind": "gamma", "mean": "20 ms", "sd": f"{sd} ms"})
    assert distance(values, stats.gamma((20 / sd) ** 2, scale=(sd * 1e-3) ** 2 / 0.02).cdf) < KOLMOGOROV
    assert values.mean() == near_mean(values, 0.02)
    assert values.var() == near_variance(values, (sd * 1e-3) ** 2)


def test_gamma_is_exponential_where_the_deviation_is_the_mean() -> None:
    assert distance(sample({"kind": "gamma", "mean": "20 ms", "sd": "20 ms"}), stats.expon(scale=0.02).cdf) < KOLMOGOROV


def test_pareto_is_cut_off_not_clipped() -> None:
    """xm = 2, alpha = 2.5, cap 50: mean 3.308; a clip would put mass on the cap."""
    values = sample({"kind": "pareto", "least": "2 ms", "alpha": 2.5, "most": "50 ms"}) * 1e3
    ratio = 2 / 50
    mean = 2.5 * 2 / 1.5 * (1 - ratio**1.5) / (1 - ratio**2.5)
    assert mean == pytest.approx(3.308, abs=5e-4)
    assert values.mean() == near_mean(values, mean)
    assert distance(values, lambda x: (1 - (2 / x) ** 2.5) / (1 - ratio**2.5)) < KOLMOGOROV
    assert values.max() < 50


def test_empirical_draws_as_its_samples_lie() -> None:
    measured = stats.gamma(2, scale=0.01).rvs(500, random_state=1)
    values = sample({"kind": "empirical", "samples": [f"{x} s" for x in measured]})
    # To the line through the samples the distance is that of n draws; the samples' own steps add 1 / 499.
    assert float(stats.ks_2samp(values, measured).statistic) < KOLMOGOROV + 1 / 499
    assert values.min() >= measured.min()
    assert values.max() <= measured.max()


def test_empirical_from_a_file_and_from_quantiles(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("n,delay\n1,30\n2,10\n3,-\n4,20\n")
    of_file = {"kind": "empirical", "path": str(tmp_path / "d.csv"), "column": "delay", "unit": "ms"}
    listed = {"kind": "empirical", "samples": ["10 ms", "20 ms", "30 ms"]}
    table = {"kind": "empirical", "quantiles_at": [["0 %", "10 ms"], ["50 %", "20 ms"], ["100 %", "30 ms"]]}
    expected = sample({"kind": "uniform", "low": "10 ms", "high": "30 ms"}, 100)
    for each in (of_file, listed, table):
        assert sample(each, 100) == pytest.approx(expected)
    skewed = {"kind": "empirical", "quantiles_at": [["0 %", "0 s"], ["90 %", "10 ms"], ["100 %", "1 s"]]}
    values = sample(skewed)
    assert (values < 0.01).mean() == pytest.approx(0.9, abs=5 * 0.3 / math.sqrt(N))


TRACE = "t,delay\n0,10\n1,30\n2.5,20\n3,40\n"


def test_a_trace_is_exact_at_its_breakpoints(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text(TRACE)
    table = {"kind": "trace", "path": str(tmp_path / "d.csv"), "column": "delay", "unit": "ms"}
    hold = ANY.validate_python(table).process(stream(1, "latency"))
    asked = [0.0, 0.999, 1.0, 2.4, 2.5, 3.0, 1000.0]
    assert [hold(at) for at in asked] == [0.01, 0.01, 0.03, 0.03, 0.02, 0.04, 0.04]
    loop = ANY.validate_python({**table, "end": "loop"}).process(stream(1, "latency"))
    # The last row lasts as long as the one before: the second round begins at 3.5 s.
    assert [loop(at) for at in (3.4, 3.5, 4.5, 6.0, 6.9, 7.0)] == [0.04, 0.01, 0.03, 0.02, 0.04, 0.01]


def test_distance_and_base_are_added_to_every_latency(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text(TRACE)
    more = {"base": "3 ms", "distance": "299_792.458 m"}
    for table in (
        {"kind": "constant", "mean": "20 ms"},
        {"kind": "lognormal", "mean": "20 ms", "sd": "10 ms"},
        {"kind": "gamma", "mean": "20 ms", "sd": "10 ms", "correlation": "1 s"},
        {"kind": "trace", "path": str(tmp_path / "d.csv"), "column": "delay", "unit": "ms"},
    ):
        assert sample({**table, **more}, 50) == pytest.approx(sample(table, 50) + 0.004, abs=1e-12)


def test_the_delay_of_a_message_is_that_of_its_link() -> None:
    """Its latency begins when its last bit has left: air time, then way, then the drawn value."""
    latency = {"kind": "constant", "mean": "20 ms", "distance": "30 km"}
    made = Link(0, 1, LinkSettings.model_validate({"latency": latency, "rate": "8 kbit/s"}), 1)
    assert made.judge(100, 5.0).arrival == pytest.approx(5.0 + 0.1 + 0.02 + 30_000 / 299_792_458, abs=1e-12)


def test_the_same_uniforms_make_every_distribution() -> None:
    """So another distribution, another mean, or a correlation of almost nothing, keeps the order of messages."""
    tables: list[dict[str, Any]] = [
        {"kind": "uniform", "low": "1 ms", "high": "2 ms"},
        {"kind": "normal", "mean": "20 ms", "sd": "10 ms"},
        {"kind": "lognormal", "mean": "20 ms", "sd": "10 ms"},
        {"kind": "gamma", "mean": "20 ms", "sd": "10 ms"},
        {"kind": "pareto", "least": "2 ms", "alpha": 2.5, "most": "50 ms"},
        {"kind": "empirical", "samples": ["1 ms", "3 ms", "30 ms"]},
        {"kind": "gamma", "mean": "20 ms", "sd": "10 ms", "correlation": "1 ns"},
    ]
    orders = [np.argsort(sample(table, 100, every=1.0)).tolist() for table in tables]
    assert all(order == orders[0] for order in orders)


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
        ({"kind": "gamma", "mean": "1 ms", "sd": "1 s"}, "sd, 1 s, must be at most 30 times mean, 1 ms"),
        ({"kind": "pareto", "least": "2 ms", "alpha": 2.5}, "most"),
        ({"kind": "pareto", "least": "2 ms", "alpha": 2.5, "most": "1 ms"}, "most, 1 ms, must be above least, 2 ms"),
        ({"kind": "pareto", "least": "2 ms", "alpha": 1.0, "most": "1 s"}, "greater than 1"),
        ({"kind": "empirical"}, "needs exactly one of samples"),
        ({"kind": "empirical", "samples": ["1 ms"]}, "must be at least 2 times"),
        ({"kind": "empirical", "samples": ["1 ms", "2 ms"], "column": "x"}, "path and column go together"),
        (
            {"kind": "empirical", "quantiles_at": [["5 %", "1 ms"], ["100 %", "2 ms"]]},
            'must begin with the share "0 %"',
        ),
        ({"kind": "empirical", "quantiles_at": [["0 %", "3 ms"], ["100 %", "2 ms"]]}, "times that never fall"),
        ({"kind": "empirical", "path": "/no.csv", "column": "x"}, "/no.csv: no such file"),
        ({"kind": "gamma", "mean": "1 ms", "sd": "1 ms", "correlation": "-1 s"}, "must be at least 0 s"),
    ],
)
def test_impossible_latencies_are_refused(table: Any, text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        ANY.validate_python(table)


@pytest.mark.parametrize(
    ("rows", "change", "text"),
    [
        ("t,delay\n0,1\n1,\n", {}, 'line 3: column "delay" has no value; .* gaps = "hold"'),
        ("t,delay\n-1,1\n0,2\n", {}, 'line 2: column "t" must not be negative; a trace begins at 0'),
        ("t,delay\n0,1\n2,1\n1,1\n", {}, 'column "t" must ascend, but 1 follows 2'),
        ("t,delay\n0,1 ms\n", {}, 'has "1 ms", which is no number; .* unit = '),
        (TRACE, {"unit": "kbit/s"}, 'unit="kbit/s" must be one of a time: s, ns'),
        (TRACE, {"unit": "ms", "column": "dealy"}, 'no column "dealy"; did you mean "delay"'),
        (TRACE, {"unit": "ms", "format": "5G-ireland"}, "'csv' or '5g-ireland'"),
        ("t,delay\n0,-1\n", {"unit": "ms"}, "must have no negative latency"),
        ("t,delay\n0,1\n", {"unit": "ms", "end": "loop"}, "needs at least two rows for end"),
        ("t,delay\n", {"unit": "ms"}, "has no rows"),
    ],
)
def test_impossible_traces_are_refused(tmp_path: Path, rows: str, change: dict[str, str], text: str) -> None:
    (tmp_path / "d.csv").write_text(rows)
    table = {"kind": "trace", "path": str(tmp_path / "d.csv"), "column": "delay", "unit": "s", **change}
    with pytest.raises(ValidationError, match=text):
        ANY.validate_python(table)


def test_gaps_can_be_held_or_skipped(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("t;delay\n0;10\n1;-\n2;30\n")
    table = {"kind": "trace", "path": str(tmp_path / "d.csv"), "column": "delay", "unit": "ms", "end": "loop"}
    held = ANY.validate_python({**table, "gaps": "hold"}).process(stream(1, "latency"))
    assert [held(at) for at in (0.5, 1.5, 2.5, 3.5)] == [0.01, 0.01, 0.03, 0.01]
    skipped = ANY.validate_python({**table, "gaps": "skip"}).process(stream(1, "latency"))
    assert [skipped(at) for at in (0.5, 1.5, 2.5, 3.5, 4.5)] == [0.01, 0.01, 0.03, 0.03, 0.01]


def test_constant_is_constant_and_has_a_short_form() -> None:
    assert ANY.validate_python("20 ms") == ANY.validate_python({"kind": "constant", "mean": "20 ms"})
    assert set(sample("20 ms", 5)) == {0.02}


def test_normal_is_cut_at_zero_unless_told_otherwise() -> None:
    values = sample({"kind": "normal", "mean": "1 ms", "sd": "2 ms"})
    assert distance(values, stats.truncnorm(-0.5, math.inf, 0.001, 0.002).cdf) < KOLMOGOROV


def test_a_normal_of_which_only_the_far_tail_is_left_keeps_its_digits() -> None:
    values = sample({"kind": "normal", "mean": "0 ms", "sd": "1 ms", "least": "7 ms"})
    assert distance(values, stats.truncnorm(7, math.inf, 0, 0.001).cdf) < KOLMOGOROV


@pytest.mark.parametrize("kind", ["normal", "lognormal"])
def test_without_spread_every_message_takes_the_mean(kind: str) -> None:
    assert set(sample({"kind": kind, "mean": "20 ms", "sd": "0 s"}, 5)) == {0.02}


GAMMA = {"kind": "gamma", "mean": "20 ms", "sd": "10 ms"}
LAW = stats.gamma(4, scale=0.005)


def correlated(correlation: str, every: float, n: int) -> Any:
    draw = ANY.validate_python({**GAMMA, "correlation": correlation}).process(stream(1, "latency"))
    return np.array([draw(i * every) for i in range(n)])


@pytest.mark.parametrize("r", [0.25, 0.9, 0.99])
def test_messages_a_distance_apart_are_correlated_as_the_time_constant_says(r: float) -> None:
    """r = exp(-dt / tau), of the normal z behind each value; over two steps r^2."""
    n, every = 40_000, 0.1
    tau = -every / math.log(r)
    z = stats.norm.ppf(LAW.cdf(correlated(f"{tau} s", every, n)))
    for lag in (1, 2, 5):
        rho = r**lag
        # Bartlett's formula for an autoregressive process of order 1.
        variance = ((1 - rho**2) * (1 + r**2) / (1 - r**2) - 2 * lag * rho**2) / n
        found = np.mean(z[:-lag] * z[lag:]) / np.mean(z * z)
        assert found == pytest.approx(rho, abs=5 * math.sqrt(variance) + 5 / n)


@pytest.mark.parametrize("r", [0.25, 0.9, 0.99])
def test_the_distribution_stays_what_it_is_for_every_correlation(r: float) -> None:
    values = correlated(f"{-0.1 / math.log(r)} s", 0.1, 40_000)
    thin = values[:: math.ceil(5 / (1 - r))]  # independent enough for the test
    assert stats.kstest(thin, LAW.cdf).statistic < 1.63 / math.sqrt(len(thin))


def test_correlation_goes_with_time_not_with_messages() -> None:
    """Ten messages per time constant or one: what is one time constant apart has correlation 1/e."""
    for per in (1, 10):
        z = stats.norm.ppf(LAW.cdf(correlated("1 s", 1 / per, 30_000)))
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


@pytest.mark.parametrize(
    ("latency", "opened"),
    [("5 ms", []), ({"kind": "uniform", "low": "1 ms", "high": "2 ms"}, ["latency"])],
    ids=["constant", "drawn"],
)
def test_a_link_opens_no_stream_for_a_latency_that_draws_nothing(
    monkeypatch: pytest.MonkeyPatch, latency: Any, opened: list[str]
) -> None:
    found: list[str] = []

    def noted(seed: int, purpose: str, *owner: int) -> np.random.Generator:
        found.append(purpose)
        return stream(seed, purpose, *owner)

    monkeypatch.setattr("p2pl_async.link.stage.stream", noted)
    Link(0, 1, LinkSettings.model_validate({"latency": latency}), 1).judge(10, 0.0)
    assert found == opened


def test_latencies_that_say_so_take_no_number_of_their_generator(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("t,rtt\n0,10\n1,20\n")
    recorded = {"kind": "trace", "path": str(tmp_path / "t.csv"), "column": "rtt", "unit": "ms"}
    changing = {"mean": {"kind": "schedule", "steps": [["0 s", "1 ms"], ["2 s", "5 ms"]]}}
    for table in ("5 ms", {"kind": "constant", **changing}, recorded):
        made = ANY.validate_python(table)
        generator = stream(1, "latency")
        draw = made.process(generator)
        assert [draw(at) for at in (0.0, 2.5)]
        assert not made.random
        assert generator.random() == stream(1, "latency").random()
