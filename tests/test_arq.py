"""Retries, exactly: what takes place, and what is drawn instead."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.stats import ks_2samp

from p2pl_async.basics.randomness import stream
from p2pl_async.link import Arq
from p2pl_async.link.arq import Pace, Run, draw_tries, selective_repeat, stop_and_wait


def one_after_another(lost: list[bool], packets: int, tries: int, used_up: int) -> Run:
    """The rule as one would write it for a single packet at a time."""
    used, attempts = 0, used_up
    for packet in range(packets):
        while True:
            if used == len(lost):
                return Run(used, packet, attempts, False)
            used += 1
            attempts += 1
            if not lost[used - 1]:
                break
            if attempts == tries:
                return Run(used, packet, attempts, True)
        attempts = 0
    return Run(used, packets, 0, False)


@given(
    lost=st.lists(st.booleans() | st.just(True), min_size=1, max_size=40),
    packets=st.integers(1, 12),
    tries=st.integers(1, 5),
    used_up=st.integers(0, 4),
)
def test_many_at_once_are_the_same_as_one_after_another(
    lost: list[bool], packets: int, tries: int, used_up: int
) -> None:
    used_up = min(used_up, tries - 1)
    assert stop_and_wait(np.array(lost), packets, tries, used_up) == one_after_another(lost, packets, tries, used_up)


def in_turn(lost: list[bool], packets: int, tries: int, window: int) -> tuple[list[int], int] | None:
    """Selective repeat slot by slot: what each slot carries, and which packet failed."""
    carried: list[int] = []
    senders: list[tuple[int, int]] = [(-1, 0)] * window  # packet under way, tries of it
    begun = through = 0
    for slot in range(len(lost)):
        packet, tried = senders[slot % window]
        if packet < 0 and begun < packets:
            packet, begun = begun, begun + 1
        carried.append(packet)
        if packet >= 0:
            tried += 1
            if not lost[slot]:
                packet, tried, through = -1, 0, through + 1
            elif tried == tries:
                return carried, packet
        senders[slot % window] = (packet, tried)
        if through == packets:
            return carried, -1
    return None


@given(
    lost=st.lists(st.booleans(), min_size=1, max_size=80),
    packets=st.integers(1, 12),
    tries=st.integers(1, 6),
    window=st.integers(1, 7),
)
def test_a_window_is_so_many_senders_that_take_turns(lost: list[bool], packets: int, tries: int, window: int) -> None:
    turns, expected = selective_repeat(np.array(lost), packets, tries, window), in_turn(lost, packets, tries, window)
    if expected is None:
        assert turns is None
    else:
        assert turns is not None
        assert (turns.packet.tolist(), turns.slots, turns.failed) == (expected[0], len(expected[0]), expected[1])


@pytest.mark.parametrize(("p", "tries", "packets"), [(0.3, 3, 20), (0.05, 8, 200), (0.9, 40, 5), (0.5, 1, 3)])
def test_drawn_tries_have_the_law_of_packets_sent_one_by_one(p: float, tries: int, packets: int) -> None:
    """Kolmogorov distance of transmissions used, and the share of trains that fail."""
    n = 4000
    random = stream(2, "test")
    drawn = []
    for _ in range(n):
        counts, failed = draw_tries(random, p, packets, tries)
        drawn.append((int(counts @ np.arange(1, len(counts) + 1)) + tries * failed, failed))
    sent = [stop_and_wait(row, packets, tries) for row in random.random((n, packets * min(tries, 30))) < p]
    used, plain = np.array([each for each, _ in drawn]), np.array([run.used for run in sent])
    assert ks_2samp(used, plain).statistic < 1.63 * math.sqrt(2 / n)
    share = np.mean([run.failed for run in sent])
    assert np.mean([failed for _, failed in drawn]) == pytest.approx(share, abs=5 * math.sqrt(0.5 / n))


def test_certain_loss_and_none_are_drawn_too() -> None:
    random = stream(2, "test")
    counts, failed = draw_tries(random, 0.0, 7, 3)
    assert (counts.tolist(), failed) == ([7], False)
    counts, failed = draw_tries(random, 1.0, 7, 3)
    assert (counts.sum(), failed) == (0, True)


def test_attempts_and_residual_loss_match_the_closed_forms() -> None:
    """p = 0.3, 3 retries: 1.417 attempts on average, 1.396 given success, p^4 lost for good."""
    p, n = 0.3, 20_000
    lost = stream(1, "test").random((n, 4)) < p
    outcomes = [stop_and_wait(row, 1, 4) for row in lost]
    used = np.array([outcome.used for outcome in outcomes])
    arrived = np.array([outcome.done for outcome in outcomes], bool)
    assert len(used) == n
    tolerance = 5 * used.std() / math.sqrt(n)
    assert used.mean() == pytest.approx((1 - p**4) / (1 - p), abs=tolerance)
    assert used[arrived].mean() == pytest.approx(1 / (1 - p) - 4 * p**4 / (1 - p**4), abs=tolerance)
    assert 1 - arrived.mean() == pytest.approx(p**4, abs=5 * math.sqrt(p**4 / n))


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({"retries": 3, "window": 4}, "stop-and-wait has no window"),
        ({"retries": 3, "kind": "go-back-n"}, "go-back-n needs a window"),
        ({"retries": "unlimited", "growth": 2, "backoff": "1 ms"}, "growth needs a limit"),
        ({"retries": 3, "kind": "selective-repeat", "window": 4, "backoff": "1 ms"}, "remove backoff"),
        ({"retries": 3, "growth": 0.5}, "growth"),
        ({"retries": 3, "growth": 2}, "growth needs a backoff"),
        ({"retries": 3, "ack_loss": 2}, "ack_loss"),
        ({"retries": 3, "timeout": "0 s"}, "timeout"),
        ({"retries": 3, "kind": "hope"}, "stop-and-wait"),
    ],
)
def test_contradictions_are_refused(table: dict[str, object], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        Arq.model_validate(table)


def test_unlimited_retries_survive_being_written_and_read() -> None:
    arq = Arq.model_validate({"retries": "unlimited", "timeout": "4 s"})
    assert arq.model_dump(mode="json")["retries"] == "unlimited"
    assert Arq.model_validate(arq.model_dump(mode="json")) == arq


def test_a_timeout_limits_the_tries() -> None:
    """Tries start every 200 ms; six of them up to 1 s after the first."""
    assert Pace(Arq(retries=None, turnaround="100 ms", timeout="1 s"), 0.1).tries == 6
    assert Pace(Arq(retries=3, turnaround="100 ms", timeout="1 s"), 0.1).tries == 4
    assert Pace(Arq(retries=30, backoff="100 ms", growth=2, timeout="1 s"), 0.1).tries == 4  # 0, 0.2, 0.5, 1.0 s


@pytest.mark.parametrize("table", [{"retries": -1}, {"retries": 101}, {"retries": 1.5}, {"retries": True}, {}])
def test_impossible_retries_are_refused(table: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="retries"):
        Arq.model_validate(table)
