"""A-MPDU and block acknowledgments: frames that share a preamble, and each its own fate."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from p2pl_async.testing import Cell

ACK = {"size": "32 B", "airtime": "32 us", "delay": "16 us"}
DCF = {"kind": "dcf", "airtime": "ofdm", "ack": ACK, "aggregate": {"frames": 16}}
LINK = {"rate": "65 Mbit/s", "mtu": "1536 B", "header": "36 B", "arq": {"retries": 3}}


def cell(n: int = 2, medium: dict[str, Any] | None = None, **link: Any) -> Cell:
    return Cell({**DCF, **(medium or {})}, n, link={**LINK, **link}, seed=5)


def test_frames_share_one_preamble_and_the_last_transmission_has_the_rest() -> None:
    """40 frames of 1536 B and a delimiter of 4 B each: 16, 16 and 8, in symbols of 260 bits."""
    one = cell()
    one.offer(0.0, 0, [1], 40 * 1500)
    (outcome,) = one.run().outcomes
    times = [end - start for start, end, device in one.on_air if device == 0]
    assert times == pytest.approx([36e-6 + 4e-6 * math.ceil((22 + 8 * 1540 * k) / 260) for k in (16, 16, 8)])
    assert outcome.verdict.arrival == [end for _, end, device in one.on_air if device == 0][-1]
    assert outcome.verdict.acknowledged
    assert (outcome.verdict.packets, outcome.verdict.packets_lost) == (40, 0)
    assert outcome.verdict.air_seconds == pytest.approx(sum(times))


def test_a_transmission_is_no_longer_than_allowed() -> None:
    one = cell(medium={"aggregate": {"longest": "1 ms"}})
    one.offer(0.0, 0, [1], 100 * 1500)
    one.run()
    times = [end - start for start, end, device in one.on_air if device == 0]
    assert max(times) <= 1e-3
    assert len(times) == 20  # 5 x 1540 B take 984 us


def test_each_frame_is_repeated_until_it_is_heard_or_given_up() -> None:
    """Tries of a frame at loss p: (1 - p^(m+1)) / (1 - p); lost for good: p^(m+1)."""
    p, frames = 0.3, 200
    one = cell(loss="30 %")
    one.set_link(1, 0, {})  # no block acknowledgment is lost
    for k in range(40):
        one.offer(float(k), 0, [1], frames * 1500, needed=1)
    verdicts = [outcome.verdict for outcome in one.run().outcomes]
    count = 40 * frames
    sent = np.array([verdict.packets for verdict in verdicts])
    assert sent.sum() / count == pytest.approx((1 - p**4) / (1 - p), abs=5 * 0.75 / math.sqrt(count))
    missing = sum(end - start for verdict in verdicts for start, end in verdict.missing) / 1500
    assert missing / count == pytest.approx(p**4, abs=5 * math.sqrt(p**4 / count))
    assert all(verdict.signal is not None and verdict.signal.tries <= 4 for verdict in verdicts)


def test_a_lost_block_acknowledgment_repeats_what_arrived() -> None:
    one = Cell(DCF, 2, link={**LINK, "arq": {"retries": 20}}, seed=2)
    one.set_link(1, 0, {"loss": "50 %"})
    for k in range(200):
        one.offer(0.1 * k, 0, [1], 8 * 1500)
    outcomes = one.run().outcomes
    assert all(outcome.verdict.acknowledged for outcome in outcomes)
    first = 36e-6 + 4e-6 * math.ceil((22 + 8 * 1540 * 8) / 260)
    waits = [outcome.verdict.arrival - outcome.sent - first for outcome in outcomes]
    assert max(waits) < 34e-6 + 16 * 9e-6  # all arrive with the first transmission, whatever the sender knows
    assert np.mean([outcome.verdict.packets for outcome in outcomes]) == pytest.approx(16, abs=5 * 8 * 1.42 / 200**0.5)


@pytest.mark.parametrize(("offset", "kept"), [(0.0, 0), (1e-3, 5)])
def test_a_collision_spoils_the_frames_that_it_meets_and_with_the_preamble_all(offset: float, kept: int) -> None:
    """Two that don't hear each other; a frame takes 190 us, so five have ended when the other begins after 1 ms."""
    both = Cell(DCF, 3, link={**LINK, "arq": {"retries": 0}}, out_neighbors=[[2], [2], []])
    both.offer(0.0, 0, [2], 16 * 1500, needed=1)
    both.offer(offset, 1, [2], 16 * 1500, needed=1)
    first = next(outcome for outcome in both.run().outcomes if outcome.src == 0)
    assert first.verdict.packets_lost == 16 - kept


def test_aggregation_saves_what_preambles_and_waiting_cost() -> None:
    """Goodput of one sender, no loss: 16 x 1500 B in DIFS, a mean backoff of 7.5 slots, the burst, SIFS and the ack."""
    one = cell()
    for _ in range(400):
        one.offer(0.0, 0, [1], 16 * 1500)
    one.run()
    burst = 36e-6 + 4e-6 * math.ceil((22 + 8 * 1540 * 16) / 260)
    cycle = 34e-6 + 7.5 * 9e-6 + burst + 16e-6 + 32e-6
    assert one.clock.now / 400 == pytest.approx(cycle, rel=0.01)
