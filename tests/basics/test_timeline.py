"""Step functions of time."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from p2pl_async.basics.timeline import Steps


@given(
    widths=st.lists(st.floats(0.01, 50), min_size=1, max_size=9),
    loop=st.booleans(),
    ats=st.lists(st.floats(0, 1e4), min_size=1, max_size=20),
)
def test_steps_know_which_holds_and_when_it_ends(widths: list[float], loop: bool, ats: list[float]) -> None:
    times = np.concatenate(([0.0], np.cumsum(widths)))
    steps = Steps(times[:-1], [f"step {k}" for k in range(len(widths))], float(times[-1]) if loop else None)
    found = steps.indices(np.array(ats)).tolist()
    for at, index in zip(ats, found, strict=True):
        assert steps.index(at) == index
        inside = at % times[-1] if loop else at
        assert times[index] <= inside
        assert inside < times[index + 1] or (not loop and index == len(widths) - 1)
        value, until = steps.at(at)
        assert value == steps.value(at) == f"step {index}"
        assert until > at
        if math.isfinite(until) and until - at > 1e-6:
            assert steps.index(at + (until - at) / 2) == index


def test_steps_are_equal_by_content() -> None:
    one, same = (Steps(np.array([0.0, 1.0]), [5, 6], 2.0) for _ in range(2))
    assert one == same
    assert hash(one) == hash(same)
    assert one != Steps(np.array([0.0, 1.0]), [5, 7], 2.0)
    assert one != Steps(np.array([0.0, 1.0]), [5, 6], None)
