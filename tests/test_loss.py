"""Which packets are lost."""

import math
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from p2pl_async.basics.randomness import stream
from p2pl_async.link.loss.base import CAUSES, LossModel, LossProcess
from p2pl_async.link.loss.kinds import AnyLoss

N = 40_000
BURSTY = {"kind": "gilbert-elliott", "good": "2 s", "bad": "500 ms"}

ANY: TypeAdapter[LossModel] = TypeAdapter(AnyLoss)


def process(table: Any, seed: int = 1, src: int = 0, dst: int = 1) -> LossProcess:
    made = ANY.validate_python(table).process(seed, src, dst)
    assert made is not None
    return made


def fates(table: Any, every: float, n: int = N, seed: int = 1) -> Any:
    return process(table, seed).fates(stream(seed, "loss").random(n), np.arange(n, dtype=float) * every)


def runs(lost: Any) -> Any:
    """Return the lengths of runs of losses."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], lost.astype(int), [0]))))
    return edges[1::2] - edges[::2]


def test_bernoulli_loses_independently_with_probability_p() -> None:
    lost = fates("30 %", 0.01) != 0
    assert lost.mean() == pytest.approx(0.3, abs=5 * math.sqrt(0.21 / N))
    lengths = runs(lost)
    deviation = math.sqrt(0.3) / 0.7  # of a geometric variable with mean 1 / (1 - p)
    assert lengths.mean() == pytest.approx(1 / 0.7, abs=5 * deviation / math.sqrt(len(lengths)))


def test_loss_has_a_short_form_and_can_be_none() -> None:
    assert ANY.validate_python("5 %") == ANY.validate_python({"kind": "bernoulli", "p": 0.05})
    assert ANY.validate_python("none").process(1, 0, 1) is None
    assert ANY.validate_python("0 %").process(1, 0, 1) is None


@pytest.mark.parametrize("every", [0.02, 0.1, 1.0, 7.0])
def test_bursty_loss_does_not_depend_on_how_often_one_sends(every: float) -> None:
    rho = math.exp(-every * (1 / 2 + 1 / 0.5))
    error = math.sqrt(0.2 * 0.8 * (1 + rho) / (1 - rho) / N)
    assert (fates(BURSTY, every) != 0).mean() == pytest.approx(0.2, abs=5 * error)


def test_bursts_last_as_long_as_the_bad_state() -> None:
    lengths = runs(fates(BURSTY, 0.01) != 0) * 0.01
    # Seen every 10 ms a stay of mean T becomes a geometric number of packets, its mean hardly longer;
    # short good stays between two packets join a few bursts.
    assert lengths.mean() == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(len(lengths)) + 0.01)


def test_losses_a_distance_apart_are_correlated_as_the_states_are() -> None:
    lost = fates(BURSTY, 0.4) != 0
    expected = math.exp(-0.4 * (1 / 2 + 1 / 0.5))
    assert np.corrcoef(lost[:-1], lost[1:])[0, 1] == pytest.approx(expected, abs=5 * 1.5 / math.sqrt(N))


def test_both_states_can_lose_some_packets_and_the_cause_tells_them_apart() -> None:
    table = {**BURSTY, "loss_good": "10 %", "loss_bad": "60 %"}
    found = fates(table, 10.0)
    shares = [np.mean(found == CAUSES.index(cause)) for cause in ("loss", "burst")]
    assert shares == pytest.approx([0.8 * 0.1, 0.2 * 0.6], abs=5 * math.sqrt(0.1 / N))


@pytest.mark.parametrize("table", ["30 %", BURSTY, {**BURSTY, "loss_good": "10 %", "loss_bad": "60 %"}])
def test_one_by_one_and_in_vectors_give_the_same_fates(table: Any) -> None:
    uniforms, times = stream(1, "loss").random(500), np.arange(500.0) * 0.11
    together = [CAUSES[code] for code in process(table).fates(uniforms, times)]
    alone = process(table)
    assert [alone.fate(u, at) for u, at in zip(uniforms.tolist(), times.tolist(), strict=True)] == together


def test_a_larger_probability_loses_the_same_packets_and_more() -> None:
    few, many = fates("10 %", 1.0) != 0, fates("20 %", 1.0) != 0
    assert (many >= few).all()
    assert many.sum() > few.sum()


def test_links_have_bursts_of_their_own() -> None:
    times = np.arange(500.0) * 0.5
    weather = {
        (src, dst): process(BURSTY, 1, src, dst).fates(np.zeros(500), times).tolist()
        for src, dst in ((0, 1), (1, 0), (0, 2))
    }
    assert weather[0, 1] != weather[1, 0]
    assert weather[0, 1] != weather[0, 2]


@pytest.mark.parametrize(
    ("table", "text"),
    [
        (1.5, "must be a probability between 0 and 1; for 1.5 percent"),
        ({"kind": "bernoulli", "p": "120 %"}, '"0 %" to "100 %"'),
        ({**BURSTY, "bad": "0 s"}, "must be above 0 s"),
        ({"kind": "gilbert-elliott", "good": "2 s"}, "bad"),
        ("bernouli", 'did you mean "bernoulli"'),
    ],
)
def test_impossible_losses_are_refused(table: Any, text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        ANY.validate_python(table)
