"""RTS and CTS: their order on the air, and what they do for hidden terminals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from p2pl_async.testing import Cell

ACK = {"size": "14 B", "airtime": "44 us", "delay": "16 us"}
LINK = {"rate": "6 Mbit/s", "arq": {"retries": 7}}
HIDDEN = [[1], [0, 2], [1]]  # 0 and 2 don't hear each other; both send to 1


def cell(rts: object = "none", n: int = 3, out: Any = HIDDEN, **link: Any) -> Cell:
    return Cell({"kind": "dcf", "ack": ACK, "rts": rts}, n, link={**LINK, **link}, out_neighbors=out, seed=9)


def test_a_frame_follows_its_request_and_the_answer() -> None:
    one = cell({})
    one.offer(0.0, 0, [1], 1500)
    (outcome,) = one.run().outcomes
    spans = [(round(1e6 * start), round(1e6 * end), device) for start, end, device in one.on_air]
    assert spans == [(0, 52, 0), (68, 112, 1), (128, 2128, 0), (2144, 2188, 1)]
    assert outcome.verdict.acknowledged
    assert outcome.verdict.air_seconds == pytest.approx(2e-3)  # as with ACKs, neither is charged to the message


def test_short_frames_and_broadcasts_go_without() -> None:
    one = cell({"over": "1000 B"})
    one.offer(0.0, 1, [0], 999)
    one.offer(0.1, 1, [0, 2], 1500)
    one.offer(0.2, 1, [0], 1000)
    one.run()
    assert [device for _, _, device in one.on_air] == [1, 0, 1, 1, 0, 1, 0]


def test_who_hears_the_answer_waits_for_the_whole_exchange() -> None:
    """Device 2 wants to send while 0 does, and hears only the receiver: it would spoil the frame, and waits."""
    for rts, first in (("none", "collision"), ({}, "")):
        both = cell(rts, arq={"retries": 0})
        both.offer(0.0, 0, [1], 1500)
        both.offer(0.5e-3, 2, [1], 1500)
        fates = {outcome.src: outcome.verdict.cause for outcome in both.run().outcomes}
        assert fates == {0: first and "retries", 2: first and "retries"}


def test_requests_that_collide_cost_little_and_are_repeated() -> None:
    many = cell({}, 6, [[5]] * 5 + [[0, 1, 2, 3, 4]])
    for k in range(5):
        for _ in range(20):
            many.offer(0.0, k, [5], 1500)
    many.run()
    assert many.share() > 0.95
    frames = [start for start, end, device in many.on_air if device < 5 and end - start > 1e-3]
    assert np.min(np.diff(sorted(frames))) > 2e-3  # no two frames ever overlap at the receiver


def test_a_sender_that_crashes_before_the_answer_sends_nothing() -> None:
    one = cell({})
    one.offer(0.0, 0, [1], 1500)
    one.clock.schedule(80e-6, 0, -9, 0, lambda _: one.air.crash(0, "crash"), None)
    (outcome,) = one.run().outcomes
    assert outcome.verdict.cause == "crash"
    assert len(one.on_air) == 2
