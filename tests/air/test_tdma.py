"""TDMA: each device sends in its own slot; the wait, the throughput, and the collisions of those who share a slot."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from p2pl_async.errors import ProtocolError
from p2pl_async.testing import Cell

RATE = {"rate": "8 Mbit/s"}  # 1000 B in 1 ms


def cell(n: int, **medium: Any) -> Cell:
    return Cell({"kind": "tdma", "slot": "1 ms", **medium}, n, link=RATE)


def test_the_mean_wait_is_half_a_frame_of_slots() -> None:
    """Frames that fill a slot: uniform from 0 to n slots, n / 2 on average, and the slot itself."""
    one = cell(8)
    random = np.random.default_rng(1)
    for k in range(1000):
        one.offer(k + float(random.uniform(0, 0.5)), 3, [0], 1000)
    waits = one.run().delays() - 1e-3
    assert len(waits) == 1000
    assert 0 <= waits.min() < waits.max() < 8e-3
    assert float(waits.mean()) == pytest.approx(4e-3, abs=5 * 8e-3 / np.sqrt(12 * 1000))


def test_saturated_devices_share_the_air_evenly_and_never_collide() -> None:
    many = cell(5)
    for k in range(5):
        for _ in range(20):
            many.offer(0.0, k, [(k + 1) % 5], 1000)
    many.run()
    assert many.share() == 1
    assert many.clock.now == pytest.approx(100 * 1e-3)
    assert [round(1e3 * start) % 5 for start, _, _ in many.on_air] == [device for _, _, device in many.on_air]


def test_short_frames_and_their_acknowledgments_fill_a_slot_and_none_leaves_it() -> None:
    """300 us and an acknowledgment of 50 us after 50 us: two of them fit 1 ms, a third waits for the next frame."""
    ack = {"size": "14 B", "airtime": "50 us", "delay": "50 us"}
    medium = {"kind": "tdma", "slot": "1 ms", "ack": ack, "slots": 4}
    one = Cell(medium, 2, link={**RATE, "arq": {"retries": 0}})
    for _ in range(3):
        one.offer(0.0, 1, [0], 300)
    one.run()
    sent = [round(1e6 * start) for start, _, device in one.on_air if device == 1]
    assert sent == [1000, 1400, 5000]
    assert all(outcome.verdict.acknowledged for outcome in one.outcomes)


def test_devices_that_share_a_slot_collide() -> None:
    shared = cell(4, slots=3)
    for k in (0, 1, 3):
        shared.offer(0.0, k, [2], 1000)
    fates = Counter((outcome.src, outcome.verdict.cause) for outcome in shared.run().outcomes)
    assert fates == {(0, "collision"): 1, (3, "collision"): 1, (1, ""): 1}


def test_a_frame_that_fits_no_slot_says_what_to_do() -> None:
    long = cell(2)
    long.offer(0.0, 1, [0], 1001)
    with pytest.raises(ProtocolError, match=r"can never be sent: a slot lasts 1 ms; send it in fragments \(mtu\)"):
        long.run()
