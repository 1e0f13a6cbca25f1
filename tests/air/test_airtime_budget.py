"""The regulatory duty cycle: goodput in the long run, and the share of every window."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pl_async.air.airtime_budget import AirtimeBudget


@dataclass
class Sent:
    starts: list[float]
    air: list[float]


def saturated(limit: AirtimeBudget, air_times) -> Sent:
    now, sent = 0.0, Sent([], [])
    for air in air_times:
        now = limit.earliest(now, air)
        limit.add(now, air)
        sent.starts.append(now)
        sent.air.append(air)
        now += air
    return sent


@pytest.mark.parametrize("mode", ["window", "per-frame"])
def test_the_long_run_goodput_is_the_share_of_the_rate(mode) -> None:
    """8 payload D / T: 235 B with SF7, 368.9 ms on air, at 1 %: 51 bit/s."""
    air, payload = 0.3689, 235
    sent = saturated(AirtimeBudget(0.01, mode), [air] * 3000)
    goodput = 8 * payload * 2999 / (sent.starts[-1] - sent.starts[0])
    assert goodput == pytest.approx(8 * payload * 0.01 / air, rel=0.05)


@given(st.lists(st.tuples(st.floats(0.01, 2), st.floats(0, 30)), min_size=1, max_size=60), st.floats(0.05, 0.5))
def test_never_above_the_share_in_any_window(frames, share) -> None:
    window = 60.0
    limit = AirtimeBudget(share, "window", window)
    now, intervals = 0.0, []
    for air, pause in frames:
        start = limit.earliest(now, air)
        assert start >= now
        limit.add(start, air)
        intervals.append((start, start + air))
        now = start + air + pause
    for _, end in intervals:  # a window is fullest where a frame ends, or where one begins
        for begin in (end - window, end):
            used = sum(max(0.0, min(e, begin + window) - max(s, begin)) for s, e in intervals)
            assert used <= share * window + 1e-6
