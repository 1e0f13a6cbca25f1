"""Retries of the link layer: exactly, and against closed forms; what takes place, and what is drawn instead."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.stats import ks_2samp

from p2pl_async.basics.randomness import stream
from p2pl_async.link import Arq, Link, LinkSettings, Verdict
from p2pl_async.link.arq import Attempts, Pace, SelectiveRepeat, draw_tries, stop_and_wait


def one_after_another(lost: list[bool], packets: int, tries: int, used_up: int) -> Attempts:
    """The rule as one would write it for a single packet at a time."""
    used, attempts = 0, used_up
    for packet in range(packets):
        while True:
            if used == len(lost):
                return Attempts(used, packet, attempts, False)
            used += 1
            attempts += 1
            if not lost[used - 1]:
                break
            if attempts == tries:
                return Attempts(used, packet, attempts, True)
        attempts = 0
    return Attempts(used, packets, 0, False)


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
    """Whatever the blocks in which its slots are looked at: here of one round, and of two."""
    lost = lost + [False] * (-len(lost) % (2 * window))
    expected = in_turn(lost, packets, tries, window)
    for rounds in (1, 2):
        sender, carried, failed = SelectiveRepeat(packets, tries, window), [], None
        for begin in range(0, len(lost), rounds * window):
            slots = sender.send(np.array(lost[begin : begin + rounds * window]))
            carried += slots.packet.tolist()
            if slots.done:
                failed = slots.failed
                break
        if expected is None:
            assert failed is None
        else:
            assert (carried, failed) == expected


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


WINDOW = {"stop-and-wait": None, "go-back-n": 8, "selective-repeat": 8}


def verdicts(size: int, count: int, every: float = 1e4, **table: Any) -> list[Verdict]:
    made = Link(0, 1, LinkSettings.model_validate(table), 1)
    return [made.judge(size, i * every) for i in range(count)]


def arq(kind: str, retries: Any, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "retries": retries, **({"window": WINDOW[kind]} if WINDOW[kind] else {}), **more}


# --- Attempts and residual loss: p = 0.3, at most 3 repetitions


@pytest.mark.parametrize("kind", WINDOW)
def test_unlimited_attempts(kind: str) -> None:
    p, n, fragments = 0.3, 300, 100
    found = verdicts(fragments * 100, n, mtu="100 B", loss=p, rate="8 Mbit/s", arq=arq(kind, "unlimited"))
    if kind == "go-back-n":  # what is sent in vain is no attempt of its own
        attempts = [fragments + verdict.packets_lost for verdict in found]
    else:
        attempts = [verdict.packets for verdict in found]
    error = 5 * math.sqrt(p) / (1 - p) / math.sqrt(n * fragments)
    assert np.mean(attempts) / fragments == pytest.approx(1 / (1 - p), abs=error)
    assert all(not verdict.cause and verdict.acknowledged for verdict in found)


def test_limited_attempts_and_what_is_lost_all_the_same() -> None:
    p, m, n = 0.3, 3, 40_000
    found = verdicts(100, n, loss=p, arq={"retries": m})
    packets = np.array([verdict.packets for verdict in found])
    arrived = np.array([not verdict.cause for verdict in found])
    error = 5 * packets.std() / math.sqrt(n)
    assert packets.mean() == pytest.approx((1 - p ** (m + 1)) / (1 - p), abs=error)
    assert (1 - p ** (m + 1)) / (1 - p) == pytest.approx(1.417, abs=5e-4)
    given_success = 1 / (1 - p) - (m + 1) * p ** (m + 1) / (1 - p ** (m + 1))
    assert given_success == pytest.approx(1.396, abs=5e-4)
    assert packets[arrived].mean() == pytest.approx(given_success, abs=error)
    assert 1 - arrived.mean() == pytest.approx(p ** (m + 1), abs=5 * math.sqrt(p ** (m + 1) / n))


@pytest.mark.parametrize("kind", WINDOW)
def test_a_message_of_many_fragments_survives_the_residual_loss(kind: str) -> None:
    p, m, n, fragments = 0.3, 3, 1000, 50
    found = verdicts(fragments * 100, n, mtu="100 B", loss=p, rate="8 Mbit/s", arq=arq(kind, m))
    survived = (1 - p ** (m + 1)) ** fragments
    share = np.mean([not verdict.cause for verdict in found])
    assert share == pytest.approx(survived, abs=5 * math.sqrt(survived * (1 - survived) / n))


# --- Goodput, in shares of the rate: T = 1 s of one packet, C = T + turnaround


@pytest.mark.parametrize("turnaround", [0, 3, 7, 15])
@pytest.mark.parametrize("kind", WINDOW)
def test_goodput(kind: str, turnaround: int) -> None:
    """(1-p) T / C; min(1, W T / C) (1-p) / (1-p + p W); min(1, W T / C) (1-p)."""
    p, n, fragments, cycle, window = 0.1, 40, 2000, 1 + turnaround, WINDOW[kind] or 1
    share = min(1, window / cycle) * (1 - p) / (1 - p + p * window if kind == "go-back-n" else 1)
    found = verdicts(
        fragments * 1000, n, every=1e7, mtu="1000 B", rate="8 kbit/s", loss=p,
        arq=arq(kind, "unlimited", turnaround=f"{turnaround} s"),
    )  # fmt: skip
    times = np.array([verdict.arrival - i * 1e7 for i, verdict in enumerate(found)])
    # The last packets wait for their acknowledgments with nothing else to send: some cycles at most.
    error = 5 * times.std() / math.sqrt(n) + 8 * cycle
    assert times.mean() == pytest.approx(fragments / share, abs=error)


def test_packets_of_a_window_follow_each_other_and_only_a_window() -> None:
    """T = 1 s, C = 6 s, window 2: a packet every 3 s."""
    table: dict[str, Any] = {"rate": "8 kbit/s", "mtu": "1000 B"}
    for kind in ("go-back-n", "selective-repeat"):
        settings = {"retries": 3, "turnaround": "5 s", "kind": kind, "window": 2}
        (verdict,) = verdicts(4000, 1, **table, arq=settings)
        assert verdict.arrival == pytest.approx(3 * 3 + 1)
        (verdict,) = verdicts(4000, 1, **table, arq={**settings, "window": 12})
        assert verdict.arrival == pytest.approx(4)


# --- Bursts


def test_retries_at_once_do_not_outlive_a_burst_of_packets() -> None:
    """Simple Gilbert, one step per attempt, p = .05, r = .25: 3 retries leave L (1-r)^m = .0703, not L^4 = .0008."""
    p, r, m, n = 0.05, 0.25, 3, 60_000
    made = Link(0, 1, LinkSettings.model_validate({"loss": {"kind": "gilbert-packets", "p": p, "r": r}}), 1)
    lost = np.array([made.judge(100, float(i)).cause == "burst" for i in range(n)])
    loss = p / (p + r)
    assert lost.mean() == pytest.approx(loss, abs=5 * math.sqrt(loss * (1 - loss) * 2 * (2 - p - r) / (p + r) / n))
    # A packet at a random step sees four losses in a row; then the chain goes on without us for a while.
    runs = lost[: n // 40 * 40].reshape(-1, 40)[:, : m + 1].min(axis=1)
    expected = loss * (1 - r) ** m
    assert expected == pytest.approx(0.0703, abs=1e-4)
    assert runs.mean() == pytest.approx(expected, abs=5 * math.sqrt(expected * (1 - expected) / len(runs)))


@pytest.mark.parametrize(("backoff", "growth"), [(0.0, 1), (0.1, 1), (0.1, 3), (2.0, 1)])
def test_backoff_outlives_a_burst(backoff: float, growth: float) -> None:
    """In a bad stay of mean b, retries that take d together are all lost with exp(-d / b), once the first is."""
    bad, m, n = 0.5, 3, 12_000
    table: dict[str, Any] = {"loss": {"kind": "gilbert-elliott", "good": "50 s", "bad": "500 ms"}}
    found = verdicts(10, n, 20.0, **table, arq={"retries": m, "backoff": f"{backoff} s", "growth": growth})
    hit = [verdict for verdict in found if verdict.packets_lost]
    wait = backoff * sum(growth**i for i in range(m))
    expected = math.exp(-wait / bad)
    share = np.mean([verdict.cause == "retries" for verdict in hit])
    # Between tries the weather may turn good and bad again; in so long a wait with 2 %, at most.
    assert share == pytest.approx(expected, abs=5 * math.sqrt(max(expected, 0.02) / len(hit)) + 0.02 * (wait > 1))


def test_a_timeout_ends_the_retries_of_a_link_that_is_down() -> None:
    """Tries every 100 ms for 4 s, as a link supervision: 41 of them."""
    table: dict[str, Any] = {"loss": "100 %", "rate": "8 kbit/s"}
    (verdict,) = verdicts(50, 1, **table, arq={"retries": "unlimited", "turnaround": "50 ms", "timeout": "4 s"})
    assert (verdict.cause, verdict.packets) == ("retries", 41)


@pytest.mark.parametrize("kind", WINDOW)
def test_unlimited_retries_wait_for_a_link_to_come_up(kind: str) -> None:
    """They go on through an outage however long, also where a million packets would be lost one by one."""
    table: dict[str, Any] = {"rate": "80 Mbit/s", "outage": {"kind": "contacts", "up": [["20 s", "90 s"]]}}
    if kind == "selective-repeat":
        table["outage"] = {"kind": "contacts", "up": [["0.2 s", "90 s"]]}
    (verdict,) = verdicts(100, 1, **table, arq=arq(kind, "unlimited", turnaround="90 us"))
    start = 0.2 if kind == "selective-repeat" else 20
    assert start < verdict.arrival < start + 0.002
    assert verdict.packets_lost > 1000


# --- Acknowledgments


@pytest.mark.parametrize("kind", WINDOW)
def test_a_lost_acknowledgment_costs_a_transmission(kind: str) -> None:
    """An attempt fails with p = 1 - (1 - p_data)(1 - p_ack); what the receiver has already it drops."""
    data, ack, n, fragments = 0.1, 0.2, 400, 100
    p = 1 - (1 - data) * (1 - ack)
    table: dict[str, Any] = {
        "mtu": "100 B",
        "rate": "8 Mbit/s",
        "loss": data,
        "arq": arq(kind, "unlimited", ack_loss=ack),
    }
    found = verdicts(fragments * 100, n, **table)
    assert all(not verdict.cause and verdict.acknowledged for verdict in found)
    if kind != "go-back-n":
        attempts = np.mean([verdict.packets for verdict in found]) / fragments
        assert attempts == pytest.approx(1 / (1 - p), abs=5 * math.sqrt(p) / (1 - p) / math.sqrt(n * fragments))
    lost = np.mean([verdict.packets_lost for verdict in found]) / fragments
    expected = data / (1 - p)
    assert lost == pytest.approx(expected, abs=5 * math.sqrt(expected / (1 - p)) / math.sqrt(n * fragments))


def test_delivered_and_acknowledged_are_told_apart() -> None:
    """One packet, m + 1 tries: delivered 1 - p_data^(m+1), acknowledged 1 - p^(m+1)."""
    data, ack, m, n = 0.3, 0.4, 2, 40_000
    p = 1 - (1 - data) * (1 - ack)
    found = verdicts(100, n, loss=data, arq={"retries": m, "ack_loss": ack})
    delivered = np.mean([not verdict.cause for verdict in found])
    acknowledged = np.mean([verdict.acknowledged for verdict in found])
    assert delivered == pytest.approx(1 - data ** (m + 1), abs=5 * math.sqrt(data ** (m + 1) / n))
    assert acknowledged == pytest.approx(1 - p ** (m + 1), abs=5 * math.sqrt(p ** (m + 1) / n))
    assert all(not verdict.cause for verdict in found if verdict.acknowledged)


def test_a_message_arrives_with_its_first_copy_whatever_is_sent_again() -> None:
    table: dict[str, Any] = {"rate": "8 kbit/s", "arq": {"retries": 3, "turnaround": "1 s", "ack_loss": "100 %"}}
    made = Link(0, 1, LinkSettings.model_validate(table), 1)
    verdict = made.judge(1000, 0.0)
    assert (verdict.arrival, verdict.acknowledged, verdict.packets, verdict.packets_lost) == (1.0, False, 4, 0)
    assert made.sending_until == pytest.approx(8.0)


def test_retries_hold_up_what_waits_behind_them() -> None:
    table: dict[str, Any] = {"rate": "8 kbit/s", "loss": "50 %", "arq": {"retries": 20}}
    made = Link(0, 1, LinkSettings.model_validate(table), 1)
    first, second = made.judge(1000, 0.0), made.judge(1000, 0.0)
    assert first.arrival == first.packets
    assert second.arrival == first.packets + second.packets


def test_without_arq_a_sender_knows_nothing() -> None:
    assert {verdict.acknowledged for verdict in verdicts(100, 20, loss="10 %")} == {False}


# --- Outages that are waited for


@pytest.mark.parametrize("table", [{}, {"arq": {"retries": 3}}, {"fec": {"data": 3, "parity": 1}}])
@pytest.mark.parametrize("size", [900, 3000])
def test_held_packets_wait_for_the_link(table: dict[str, Any], size: int) -> None:
    """Up from 10 s to 12.5 s and from 20 s on: what doesn't end by 12.5 s is cut off, what hasn't begun waits."""
    outage = {"kind": "contacts", "up": [["10 s", "12.5 s"], ["20 s", "99 s"]], "when_off": "hold"}
    made = Link(0, 1, LinkSettings.model_validate({"rate": "8 kbit/s", "mtu": "1000 B", "outage": outage, **table}), 1)
    verdict = made.judge(size, 3.0)
    if size == 900:
        assert verdict.arrival == pytest.approx(10.9)
    elif "arq" in table:
        assert (verdict.arrival, verdict.packets_lost) == (pytest.approx(21), 1)
    elif "fec" in table:
        assert (verdict.arrival, verdict.packets_lost) == (pytest.approx(21), 1)  # the third is lost, the parity isn't
    else:
        assert (verdict.cause, verdict.packets_lost) == ("outage", 1)


def test_a_link_that_never_comes_up_again_holds_its_messages_for_ever() -> None:
    outage = {"kind": "contacts", "up": [["0 s", "1 s"]], "when_off": "hold"}
    made = Link(0, 1, LinkSettings.model_validate({"outage": outage, "rate": "8 kbit/s", "queue": {"messages": 2}}), 1)
    assert made.judge(500, 0.0).cause == ""
    assert [made.judge(500, 2.0).cause for _ in range(4)] == ["outage", "outage", "queue", "queue"]
