"""Stop-and-wait retries, exactly."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from p2pl_async.link import Arq
from p2pl_async.link.arq import stop_and_wait
from p2pl_async.randomness import stream


def one_after_another(lost: list[bool], fragments: int, tries: int) -> tuple[int, int] | None:
    """The rule as one would write it for a single packet at a time."""
    used = 0
    for fragment in range(fragments):
        for attempt in range(tries):
            if used == len(lost):
                return None
            used += 1
            if not lost[used - 1]:
                break
            if attempt == tries - 1:
                return used, fragment
    return used, fragments


@given(
    lost=st.lists(st.booleans() | st.just(True), min_size=1, max_size=40),
    fragments=st.integers(1, 12),
    tries=st.integers(1, 5),
)
def test_vectorized_is_the_same_as_one_after_another(lost: list[bool], fragments: int, tries: int) -> None:
    assert stop_and_wait(np.array(lost), fragments, tries) == one_after_another(lost, fragments, tries)


@given(seed=st.integers(0, 99), fragments=st.integers(1, 12), tries=st.integers(1, 5), p=st.floats(0, 1))
def test_fragments_times_tries_always_decide(seed: int, fragments: int, tries: int, p: float) -> None:
    lost = stream(seed, "test").random(fragments * tries) < p
    outcome = stop_and_wait(lost, fragments, tries)
    assert outcome is not None
    used, arrived = outcome
    assert used - np.count_nonzero(lost[:used]) == arrived


def test_attempts_and_residual_loss_match_the_closed_forms() -> None:
    """p = 0.3, 3 retries: 1.417 attempts on average, 1.396 given success, p^4 lost for good."""
    p, n = 0.3, 20_000
    lost = stream(1, "test").random((n, 4)) < p
    outcomes = [stop_and_wait(row, 1, 4) for row in lost]
    used = np.array([outcome[0] for outcome in outcomes if outcome])
    arrived = np.array([outcome[1] for outcome in outcomes if outcome], bool)
    assert len(used) == n
    tolerance = 5 * used.std() / math.sqrt(n)
    assert used.mean() == pytest.approx((1 - p**4) / (1 - p), abs=tolerance)
    assert used[arrived].mean() == pytest.approx(1 / (1 - p) - 4 * p**4 / (1 - p**4), abs=tolerance)
    assert 1 - arrived.mean() == pytest.approx(p**4, abs=5 * math.sqrt(p**4 / n))


@pytest.mark.parametrize("table", [{"retries": -1}, {"retries": 101}, {"retries": 1.5}, {"retries": True}, {}])
def test_impossible_retries_are_refused(table: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="retries"):
        Arq.model_validate(table)
