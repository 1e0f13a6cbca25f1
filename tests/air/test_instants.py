"""Instants on shared air are sums of slots and air times: what ends as another begins does not meet it, however they
round.

Each test runs a medium from many instants on, so that some sums round up and some down.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from helpers.powers import FixedPowers, TextbookOqpsk

from p2pl_async.air.hearing import error_in_interference, most_interference
from p2pl_async.basics.timeline import rounding
from p2pl_async.testing import Cell

BEGINNINGS = [k / 7 for k in range(1, 100)] + [1e7 + k / 7 for k in range(20)]
AT_ONCE = {"kind": "csma-ca", "min_exponent": 0, "max_exponent": 0}  # no backoff
LINK = {"rate": "250 kbit/s"}  # 100 B in 3.2 ms
EVEN = FixedPowers(np.full((3, 3), -60.0))


def outcomes(beginning: float, medium: dict[str, Any], offers: list[tuple[float, int, int]], **more: Any) -> Cell:
    """What becomes of frames of 100 B, offered so long after a beginning, each from one device to another."""
    cell = Cell(medium, 3, link={**LINK, **more.pop("link", {})}, **more)
    for after, src, dst in offers:
        cell.offer(beginning + after, src, [dst], 100)
    return cell.run()


def test_a_frame_after_another_finds_the_channel_clear_at_its_first_look() -> None:
    for beginning in BEGINNINGS:
        cell = outcomes(beginning, AT_ONCE, [(0.0, 1, 0), (0.0, 1, 0), (0.0, 1, 0)])
        assert cell.clock.now - beginning == pytest.approx(3 * (128e-6 + 192e-6 + 3.2e-3), abs=1e-7)


def test_a_look_at_the_channel_misses_what_begins_as_it_ends() -> None:
    """Device 1 looks until 128 us and sends from 320 us on; device 2, 192 us later, looks until then."""
    for beginning in BEGINNINGS:
        cell = outcomes(beginning, AT_ONCE, [(0.0, 1, 0), (192e-6, 2, 0)])
        assert [outcome.verdict.cause for outcome in cell.outcomes] == ["collision", "collision"]
        assert [start - beginning for start, *_ in cell.on_air] == pytest.approx([320e-6, 512e-6], abs=1e-7)


@pytest.mark.parametrize("collision", ["overlap", "capture", "sinr"])
def test_frames_that_follow_each_other_are_all_received(collision: str) -> None:
    """Also by who has sent until then: each frame fills its slot."""
    medium = {"kind": "tdma", "slot": "3.2 ms", "collision": collision}
    for beginning in BEGINNINGS:
        cell = outcomes(beginning, medium, [(0.0, k, (k + 1) % 3) for k in range(3)] * 3, propagation=EVEN)
        assert [outcome.verdict.cause for outcome in cell.outcomes] == [""] * 9


def test_a_message_that_has_waited_for_just_its_lifetime_is_sent() -> None:
    for beginning in BEGINNINGS:
        medium = {"kind": "half-duplex", "queue": {"lifetime": "6.4 ms"}}
        cell = outcomes(beginning, medium, [(0.0, 1, 0)] * 4)
        assert [outcome.verdict.cause for outcome in cell.outcomes] == ["", "", "", "expired"]


def test_a_try_that_begins_at_its_timeout_is_in_time() -> None:
    arq = {"retries": 9, "timeout": "6.4 ms"}
    for beginning in BEGINNINGS:
        cell = outcomes(beginning, {"kind": "half-duplex"}, [(0.0, 1, 0)], link={"arq": arq, "loss": 1.0})
        assert len(cell.on_air) == 3


def test_an_interferer_that_ends_as_another_begins_never_adds_to_it() -> None:
    span, apart = (0.0, 1.0), (math.nextafter(0.3, 0), 0.3, math.nextafter(0.3, 1))
    found = []
    for over in apart:
        for begin in apart:
            two = [(-1.0, over, -70.0), (begin, 2.0, -70.0)]
            assert most_interference(span, two) == pytest.approx(-70.0)
            found.append(error_in_interference(TextbookOqpsk(), -100.0, 50, span, -70.5, two))
    assert found == pytest.approx([found[0]] * 9)


@pytest.mark.parametrize("at", [1.0, 4e5, 6e5, 1e7, 6e7])
def test_rounding_is_more_than_sums_are_off_and_less_than_a_slot_of_wifi(at: float) -> None:
    slot, now = 9e-6, at
    for _ in range(10):
        now += slot
    assert abs(now - (at + 10 * slot)) < rounding(at) < slot / 10
