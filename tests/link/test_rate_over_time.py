"""Rates one after another, against a step function that is worked out in another way."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pl_async.link.changes import ChangingRate
from p2pl_async.link.rate import SteadyRate
from p2pl_async.link.rate_over_time import StepRate

steps = st.lists(
    st.tuples(st.floats(0.01, 3), st.sampled_from([0.0, 1.0, 8.0, 1000.0]) | st.floats(0.5, 100)),
    min_size=1,
    max_size=6,
)


@given(first=st.floats(0.5, 50), later=steps, start=st.floats(0, 8), bits=st.lists(st.floats(0.1, 50), min_size=1))
def test_a_change_of_a_steady_rate_is_a_step(
    first: float, later: list[tuple[float, float]], start: float, bits: list[float]
) -> None:
    later = [*later, (1.0, 5.0)]  # the last one must get it done
    instants = np.cumsum([width for width, _ in later])
    rates = [first, *(rate for _, rate in later)]
    in_turn = ChangingRate(instants.tolist(), [SteadyRate(rate or 1e-12) for rate in rates])
    step = StepRate(np.concatenate(([0.0], instants)), np.array(rates), None)
    wanted = np.cumsum(bits)
    assert in_turn.ends(start, wanted) == pytest.approx(step.ends(start, wanted), rel=1e-6)
    assert in_turn.end(start, float(wanted[-1])) == pytest.approx(step.end(start, float(wanted[-1])), rel=1e-6)
    seconds_per_bit, until = in_turn.at(start)
    assert until == step.at(start)[1]
    assert seconds_per_bit == pytest.approx(min(step.at(start)[0], 1e12))


def test_what_a_schedule_leaves_goes_on_at_the_next_rate() -> None:
    """10 bit/s for 1 s and 20 bit/s from then on; at 1.5 s something else takes over, with 1 bit/s."""
    schedule = StepRate(np.array([0.0, 1.0]), np.array([10.0, 20.0]), None)
    in_turn = ChangingRate([1.5], [schedule, SteadyRate(1.0)])
    assert in_turn.end(0.0, 20.0) == pytest.approx(1.5)
    assert in_turn.end(0.0, 25.0) == pytest.approx(6.5)
    assert in_turn.ends(0.5, np.array([5.0, 15.0, 16.0])) == pytest.approx([1.0, 1.5, 2.5])
    assert in_turn.end(0.0, 19.0) == pytest.approx(1.45)


def test_packets_take_no_time_while_the_rate_is_unlimited() -> None:
    in_turn = ChangingRate([1.0, 2.0], [SteadyRate(10.0), SteadyRate(None), SteadyRate(1.0)])
    assert in_turn.end(0.5, 7.0) == pytest.approx(1.0)
    assert in_turn.end(1.5, 1e9) == 1.5
    assert in_turn.end(2.0, 3.0) == 5.0
    assert in_turn.at(1.5) == (0.0, 2.0)
    assert in_turn.at(3.0) == (1.0, math.inf)
