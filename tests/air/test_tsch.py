"""TSCH: waits for a cell, cells of one's own and shared ones with their backoff, hops from slot to slot."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from p2pl_async.air import Aloha, AnyMedium, Tsch
from p2pl_async.errors import ProtocolError
from p2pl_async.experiment import running
from p2pl_async.scenario.scenario import Scenario
from p2pl_async.testing import Cell

LINK: dict[str, Any] = {"rate": "250 kbit/s"}  # 100 B in 3.2 ms
SLOT, OFFSET, FRAME = 10e-3, 2.12e-3, 3.2e-3
ARQ = {"arq": {"retries": 7}}


def cell(n: int, seed: int = 1, link: dict[str, Any] | None = None, **medium: Any) -> Cell:
    return Cell({"kind": "tsch", **medium}, n, link={**LINK, **(link or {})}, seed=seed)


def slots(one: Cell) -> list[tuple[int, int]]:
    """Return the slot and the device of each frame."""
    return [(math.floor(start / SLOT + 1e-6), device) for start, end, device in one.on_air if end - start > 2e-3]


def test_a_frame_waits_for_the_cell_of_its_slotframe() -> None:
    """Uniform from 0 to 11 slots, and its place in the slot."""
    one = cell(2, slotframe=11)
    for k in range(800):
        one.offer(k + float(one.random.uniform(0, 0.5)), 1, [0], 100)
    waits = one.run().delays() - OFFSET - FRAME
    assert -1e-9 < waits.min() < waits.max() < 11 * SLOT
    assert float(waits.mean()) == pytest.approx(5.5 * SLOT, abs=5 * 11 * SLOT / np.sqrt(12 * 800))


def test_senders_with_cells_of_their_own_never_collide() -> None:
    one = cell(5, cells="sender-based", slotframe=7)
    for k in range(5):
        for _ in range(10):
            one.offer(0.0, k, [(k + 1) % 5], 100)
    assert one.run().share() == 1
    assert sorted(slots(one)) == [(7 * frame + k, k) for frame in range(10) for k in range(5)]


def test_cells_of_receivers_are_for_whoever_sends_to_them() -> None:
    one = cell(4, cells="receiver-based", slotframe=5)
    one.offer(0.0, 0, [1, 2, 3], 100)
    one.offer(0.001, 3, [2], 100)
    fates = {(outcome.src, outcome.dst): outcome.verdict.cause for outcome in one.run().outcomes}
    assert sorted(slots(one)) == [(1, 0), (2, 0), (2, 3), (3, 0)]
    assert fates == {(0, 1): "", (0, 2): "collision", (0, 3): "", (3, 2): "collision"}


def test_each_slot_has_the_next_channel_of_the_sequence_from_the_offset_on() -> None:
    sequence = [5, 0, 3, 1]
    one = cell(3, slotframe=3, channels={"count": 6, "own": "by-id"}, sequence=sequence)
    for k in range(24):
        one.offer(0.03 * k, 0, [1 + k % 2], 100)
    found = [outcome.verdict.signal.channel for outcome in one.run().outcomes if outcome.verdict.signal]
    assert found == [sequence[(3 * k + 1 + k % 2) % 4] for k in range(24)]


def test_senders_that_share_a_cell_succeed_as_in_slotted_aloha() -> None:
    """Poisson, no acknowledgments: exp(-G (1 - 1/n)), where a sender's own frames queue."""
    n, load, count = 40, 0.6, 60
    one = cell(2 * n, slotframe=3)
    for k in range(n):
        one.poisson(load / n / (3 * SLOT), k, [n + k], 100, count)
    law = math.exp(-load * (1 - 1 / n))
    assert one.run().share() == pytest.approx(law, abs=5 * math.sqrt(2 * law * (1 - law) / (n * count)))


def tries_of_two(random: np.random.Generator) -> int:
    """Return the transmissions of the later of two frames that met in a shared cell, 8 at most; with numpy alone."""
    tries, due = [0, 0], [0, 0]
    open_ = {0, 1}
    for now in range(2000):
        sending = [k for k in open_ if due[k] == now]
        for k in sending:
            tries[k] += 1
            if len(sending) == 1 or tries[k] == 8:
                open_.discard(k)
            else:
                due[k] = now + 1 + int(random.integers(2 ** min(tries[k], 7)))
        if not open_:
            break
    return max(tries)


def test_two_that_met_in_a_shared_cell_back_off_by_cells() -> None:
    one = cell(4, link=ARQ)
    for k in range(1000):
        for src in (0, 1):
            one.offer(20.0 * k, src, [src + 2], 100)
    tries: Counter[int] = Counter()
    found = sorted((outcome.sent, outcome.verdict.packets) for outcome in one.run().outcomes)
    for (_, first), (_, second) in zip(found[::2], found[1::2], strict=True):
        tries[max(first, second)] += 1
    random = np.random.default_rng(3)
    law = Counter(tries_of_two(random) for _ in range(20_000))
    assert tries[1] == 0
    for n in (2, 3, 4, 5):
        p = law[n] / 20_000
        assert tries[n] / 1000 == pytest.approx(p, abs=5 * math.sqrt(p * (1 - p) / 1000))


def test_a_message_does_not_wait_behind_one_for_another_cell() -> None:
    one = cell(4, cells="receiver-based", slotframe=9, link=ARQ)
    one.offer(0.0, 0, [3], 100)
    one.offer(0.0, 0, [1], 100)
    assert [outcome.dst for outcome in one.run().outcomes] == [1, 3]


def test_a_frame_that_fits_no_slot_says_what_to_do() -> None:
    long = cell(2)
    long.offer(0.0, 1, [0], 250)
    with pytest.raises(ProtocolError, match=r"can never be sent: a slot lasts 10 ms; send it in fragments \(mtu\)"):
        long.run()


def test_every_key_changes_what_happens() -> None:
    def run(**medium: Any) -> list[Any]:
        one = cell(4, link={"loss": "20 %", **ARQ}, **{"cells": "receiver-based", "channels": 3, **medium})
        for k in range(80):
            one.offer(0.02 * (k // 2), k % 4, [(k + 1) % 4], 60)
        return [(outcome.decided, outcome.verdict) for outcome in one.run().outcomes]

    changed: dict[str, Any] = {
        "slot": "12 ms", "slotframe": 5, "cells": "minimal", "tx_offset": "3 ms", "min_exponent": 3, "max_exponent": 1,
        "sequence": [1, 0, 2], "channels": 2, "ack": {"size": "25 B", "airtime": "500 us", "delay": "1 ms"},
    }  # fmt: skip
    assert changed.keys() | {"rx_wait"} >= Tsch.model_fields.keys() - Aloha.model_fields.keys()
    before = run()
    for key, value in changed.items():
        assert run(**{key: value}) != before, key


@pytest.mark.parametrize(
    ("medium", "cells"),
    [({}, 1), ({"cells": "sender-based"}, 3), ({"cells": "receiver-based"}, 1), ({"rx_wait": "4.4 ms"}, 2)],
)
def test_radios_listen_for_a_moment_in_their_cells_and_sleep_in_others(medium: dict[str, Any], cells: int) -> None:
    """Of slotframes of five slots, with 2.2 ms in each cell where no frame comes."""
    tables: dict[str, Any] = {
        "devices": {"count": 4}, "topology": "complete", "link": {"rate": "250 kbit/s"},
        "energy": {"voltage": "3 V", "tx": "9 mA", "rx": "9 mA", "idle": "5 mA", "sleep": "0 mA"},
        "medium": {"kind": "tsch", "slotframe": 5, **medium},
        "protocol": {"kind": "local"}, "stop": {"virtual_time": "10 s"}, "model": {"kind": "softmax"},
        "data": {"dataset": "digits", "train_samples": 20, "test_samples": 20},
    }  # fmt: skip
    summary = running.run(Scenario.model_validate(tables)).summary
    assert summary["energy"]["joules"] == pytest.approx(4 * 3 * 5e-3 * 10 * cells * 2.2e-3 / (5 * SLOT))


@pytest.mark.parametrize(
    ("medium", "says"),
    [
        ({"min_exponent": 8}, "must not be above max_exponent, 7"),
        ({"sequence": [16]}, "sequence has channel 16, and the last of channels is 15"),
        ({"channels": {"count": 16, "hopping": {"dwell": "1 s"}}}, "follows from slot and sequence"),
        ({"spacing": "1 ms"}, "spacing is for media without slotframes"),
        ({"duty_cycle": {"share": "1 %"}}, "duty_cycle is for media without slotframes"),
    ],
)
def test_what_slotframes_cannot_be_is_refused(medium: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        TypeAdapter(AnyMedium).validate_python({"kind": "tsch", **medium})
