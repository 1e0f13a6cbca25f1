"""Retries while the rate changes, and is 0 for a while, against a simulation of each try."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pl_async.link import Arq, Link, LinkSettings
from p2pl_async.link.arq import Paces
from p2pl_async.link.loss.base import Codes
from p2pl_async.link.rate_over_time import StepRate
from p2pl_async.link.sending.outcome import Cut
from p2pl_async.link.sending.repeated import send_repeatedly
from p2pl_async.link.sending.transmitter import Transmitter


class Given:
    """A channel that loses the transmissions that it is told to lose."""

    holds = False

    def __init__(self, lost: list[bool]) -> None:
        self._lost, self._next = lost, 0

    def fates(self, starts: Any, ends: Any, size: int) -> Codes:
        return np.array(self._lost[self._next : self._next + len(starts)], np.int8)

    def fate(self, start: float, end: float, size: int, uniform: float | None = None) -> int:
        self._next += 1
        return int(self._lost[self._next - 1])

    def passed(self, packets: int) -> None:
        self._next += packets

    def at(self, now: float) -> Any:
        return None, math.inf


def try_by_try(rate: StepRate, packets: int, bits: int, arq: Arq, lost: list[bool]) -> tuple[float, float, int, bool]:
    """Return when the message is there, its air time, its transmissions, and whether it was given up."""
    now = air = 0.0
    sent = tries = packet = looked = 0
    while packet < packets:
        end = rate.end(now, bits)
        sent, tries, air = sent + 1, tries + 1, air + end - now
        looked += 1
        if not lost[looked - 1]:
            packet, tries, now = packet + 1, 0, end + gap(arq, end - now)
            continue
        if tries == arq.most_tries:
            return math.inf, air, sent + behind(arq, packets - 1 - packet), True
        now = end + gap(arq, end - now)
        for number in range((arq.window or 1) - 1):  # in vain: the rest of the window
            following = rate.end(now, bits)
            if number < behind(arq, packets - 1 - packet):
                sent, air = sent + 1, air + following - now
            now = following + gap(arq, following - now)
        now += arq.backoff * arq.growth ** (tries - 1)
    return end, air, sent, False


def gap(arq: Arq, seconds: float) -> float:
    return max(0.0, (seconds + arq.turnaround) / (arq.window or 1) - seconds)


def behind(arq: Arq, left: int) -> int:
    return min((arq.window or 1) - 1, left)


@given(
    rates=st.lists(st.sampled_from([0.0, 0.0, 500.0, 8000.0]), min_size=1, max_size=6),
    length=st.floats(0.05, 3.0),
    packets=st.integers(1, 6),
    lost=st.lists(st.booleans(), min_size=60, max_size=60),
    arq=st.sampled_from([
        {"retries": 9}, {"retries": 9, "backoff": "30 ms", "growth": 2.0}, {"retries": 9, "turnaround": "20 ms"},
        {"retries": 9, "turnaround": "5 ms", "backoff": "70 ms"},
    ]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_stop_and_wait_is_that_of_the_simulation(rates, length, packets, lost, arq) -> None:
    check(rates, length, packets, lost, arq)


def check(rates: list[float], length: float, packets: int, lost: list[bool], table: dict[str, Any]) -> None:
    rates = [*rates, 8000.0]
    rate, arq = (
        StepRate(length * np.arange(len(rates), dtype=np.float64), np.array(rates), None),
        Arq.model_validate(table),
    )
    channel: Any = Given(lost)
    cut = Cut(packets, 100, 100) if packets > 1 else Cut(1, 0, 100)
    sent = send_repeatedly(Transmitter(channel, rate, None), cut, Paces(arq), 0.0, False, None)
    heard, air, count, gave_up = try_by_try(rate, packets, 800, arq, lost)
    assert sent.gave_up == gave_up
    assert sent.heard == pytest.approx(heard)
    if not gave_up:
        assert (sent.air_seconds, sent.packets) == (pytest.approx(air), count)


@given(
    rates=st.lists(st.sampled_from([0.0, 0.0, 8000.0]), min_size=1, max_size=6),
    length=st.floats(0.05, 3.0),
    packets=st.integers(1, 12),
    lost=st.lists(st.booleans(), min_size=60, max_size=60),
)
@settings(max_examples=60, deadline=None)
def test_go_back_n_is_that_of_the_simulation(rates, length, packets, lost) -> None:
    """Rates are 0 or the same: with others the pace itself would change."""
    check(rates, length, packets, lost, {"kind": "go-back-n", "window": 3, "retries": 9})


@pytest.mark.parametrize("arq", [
    {"kind": "go-back-n", "window": 4}, {"kind": "stop-and-wait", "backoff": "50 ms", "growth": 2.0},
    {"kind": "selective-repeat", "window": 4}, {"kind": "stop-and-wait", "turnaround": "10 ms"},
], ids=lambda arq: arq["kind"])  # fmt: skip
@pytest.mark.parametrize("size", [50, 900, 9000])
def test_a_rate_of_0_for_a_while_gives_finite_figures(arq: dict[str, Any], size: int) -> None:
    steps = [["0 s", "80 kbit/s"], ["1 s", "0 bit/s"], ["4 s", "80 kbit/s"], ["5 s", "0 bit/s"]]
    table = {
        "rate": {"kind": "schedule", "steps": steps, "end": "loop"}, "mtu": "100 B", "loss": "40 %",
        "arq": {"retries": 7, **arq},
    }  # fmt: skip
    link = Link(0, 1, LinkSettings.model_validate(table), 5)
    now = 0.0
    for _ in range(12):
        verdict = link.judge(size, now)
        assert 0 < verdict.air_seconds < math.inf
        assert now < link.sending_until < math.inf
        assert verdict.cause in ("", "retries")
        now = link.sending_until + 0.07
