"""Shared air that changes: rates over time, links that wait for a sleeping neighbor, retries that wait."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from p2pl_async.testing import Cell

HALF = {"kind": "half-duplex"}
SLEEP = {"kind": "duty-cycle", "awake": "200 ms", "period": "1 s", "phase": "0 s", "when_off": "hold"}
FADE = {"kind": "schedule", "steps": [["0 s", "8 kbit/s"], ["1.5 s", "0 bit/s"], ["5 s", "16 kbit/s"]]}


def starts(cell: Cell) -> list[tuple[float, float]]:
    """Return begin and end of each transmission, in ms."""
    return [(round(1e3 * start, 6), round(1e3 * end, 6)) for start, end, _ in cell.on_air]


def test_a_frame_has_the_rate_of_the_instant_at_which_it_is_sent_and_none_begins_at_rate_0() -> None:
    cell = Cell(HALF, 2, link={"rate": FADE, "mtu": "1000 B"})
    cell.offer(0.0, 0, [1], 3000)
    cell.run()
    assert starts(cell) == [(0, 1000), (1000, 2000), (5000, 5500)]


def test_what_waits_for_a_neighbor_lets_the_others_pass() -> None:
    """Device 1 wakes at each full second and sleeps after 0.2 s; device 2 is always there."""
    cell = Cell(HALF, 3, link={"rate": "8 Mbit/s"})
    cell.set_link(0, 1, {"rate": "8 Mbit/s", "outage": SLEEP})
    for at in (0.5, 0.6):
        cell.offer(at, 0, [1], 1000)
        cell.offer(at, 0, [2], 1000)
    cell.run()
    arrivals = [(outcome.dst, round(outcome.verdict.arrival, 6)) for outcome in cell.outcomes]
    assert arrivals == [(2, 0.501), (2, 0.601), (1, 1.001), (1, 1.002)]


def test_the_mean_wait_for_a_sleeping_radio() -> None:
    """Awake w of every T: (T - w)^2 / 2T; here 0.32 s."""
    cell = Cell(HALF, 2, link={"rate": "80 Mbit/s", "outage": SLEEP})
    random = np.random.default_rng(1)
    for k in range(1500):
        cell.offer(20.0 * k + float(random.uniform(0, 1)), 0, [1], 10)
    delays = cell.run().delays()
    assert len(delays) == 1500
    assert float(np.mean(delays)) == pytest.approx(0.32, abs=5 * float(np.std(delays)) / 1500**0.5)


def test_a_broadcast_reaches_those_who_sleep_by_copies_of_their_own() -> None:
    cell = Cell(HALF, 4, link={"rate": "8 Mbit/s"})
    for dst, phase in ((1, "300 ms"), (2, "700 ms")):
        cell.set_link(0, dst, {"rate": "8 Mbit/s", "outage": {**SLEEP, "phase": phase}})
    cell.offer(0.1, 0, [1, 2, 3], 1000)
    cell.run()
    arrivals = sorted((outcome.dst, round(outcome.verdict.arrival, 6)) for outcome in cell.outcomes)
    assert arrivals == [(1, 0.301), (2, 0.701), (3, 0.101)]
    assert len(cell.on_air) == 3


def test_a_message_for_a_neighbor_that_never_wakes_is_in_flight_and_holds_nothing_up() -> None:
    never = {"kind": "contacts", "up": [["0 s", "1 s"]], "when_off": "hold"}
    cell = Cell(HALF, 3, link={"rate": "8 Mbit/s"})
    cell.set_link(0, 1, {"rate": "8 Mbit/s", "outage": never})
    for target in (1, 2):
        cell.offer(2.0, 0, [target], 1000)
    cell.run()
    assert [(outcome.dst, outcome.verdict.cause) for outcome in cell.outcomes] == [(2, "")]
    assert cell.air.undecided == 1
    cell.air.crash(0, "crash")
    assert cell.air.undecided == 0


def test_a_sender_that_sleeps_itself_stays_awake_for_the_acknowledgment() -> None:
    """Device 0 is awake at other times than device 1: the frame waits for 1, and its acknowledgment finds 0."""
    ack = {"size": "14 B", "airtime": "50 us", "delay": "50 us"}
    for when_off, fate in (("hold", ""), ("drop", "retries")):
        cell = Cell({**HALF, "ack": ack}, 2, link={"rate": "8 Mbit/s"})
        for src, phase in ((0, "0 s"), (1, "500 ms")):  # of the receiver, which is the other
            outage = {**SLEEP, "phase": phase, "when_off": when_off}
            cell.set_link(src, 1 - src, {"rate": "8 Mbit/s", "outage": outage, "arq": {"retries": 2}})
        cell.offer(0.1, 0, [1], 1000)
        (outcome,) = cell.run().outcomes
        assert (outcome.verdict.acknowledged, outcome.verdict.arrival < 0.2) == (fate == "", True)


def lossy(**arq: Any) -> list[float]:
    """Return the instants, in ms, at which a frame of 1 ms is sent that is never heard."""
    cell = Cell(HALF, 2, link={"rate": "8 Mbit/s", "loss": "100 %", "arq": {"retries": 4, **arq}})
    cell.offer(0.0, 0, [1], 1000)
    return [start for start, _ in starts(cell.run())]


def test_retries_wait_longer_and_longer_and_not_beyond_their_timeout() -> None:
    assert lossy() == [0, 1, 2, 3, 4]
    assert lossy(backoff="10 ms") == [0, 11, 22, 33, 44]
    assert lossy(backoff="10 ms", growth=2.0) == [0, 11, 32, 73, 154]
    assert lossy(backoff="10 ms", turnaround="1 ms") == [0, 12, 24, 36, 48]
    assert lossy(backoff="10 ms", timeout="30 ms") == [0, 11, 22]
    assert lossy(timeout="3 ms") == [0, 1, 2, 3]
