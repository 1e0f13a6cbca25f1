"""Selective repeat against a simulation that looks at every packet, one event after another."""

from __future__ import annotations

import heapq
import math
from typing import Any, NamedTuple
from unittest.mock import MagicMock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pl_async.link import Arq, Link, LinkSettings, Verdict
from p2pl_async.link.arq import Paces
from p2pl_async.link.loss.base import Codes
from p2pl_async.link.rate import SteadyRate
from p2pl_async.link.sending.outcome import Cut
from p2pl_async.link.sending.selective_repeat import send_selectively
from p2pl_async.link.sending.transmitter import Transmitter
from p2pl_async.link.switching import UpIntervals


class Fate(NamedTuple):
    """What a simulated message came to."""

    packets: int
    packets_lost: int
    air_bytes: int
    air_seconds: float
    heard: float
    end: float
    gave_up: bool


def event_by_event(
    cut: Cut, rate: float, turnaround: float, window: int, tries: int, lost: list[bool], acks_lost: list[bool]
) -> Fate:
    """Simulate the sender: it has `window` credits, each comes back when an acknowledgment is due.

    Slot k begins at k times the longer of a packet and a window's share of the time until an acknowledgment is due.
    """
    size = cut.full or cut.last
    seconds = 8 * size / rate
    slot = max(seconds, (seconds + turnaround) / window)
    credits: list[tuple[int, int, int]] = [(k, -1, 0) for k in range(window)]  # slot it is usable in, packet, failures
    heapq.heapify(credits)
    fresh, open_packets = 0, cut.packets
    heard = [math.inf] * cut.packets
    sent = sent_lost = air_bytes = 0
    air = end = 0.0
    while open_packets:
        k, packet, failures = heapq.heappop(credits)
        if packet < 0:
            if fresh == cut.packets:
                continue  # nothing left for this credit
            packet, fresh = fresh, fresh + 1
        own = cut.last if packet == cut.packets - 1 else size
        end = k * slot + 8 * own / rate
        sent, air_bytes, air = sent + 1, air_bytes + own, air + 8 * own / rate
        sent_lost += lost[k]
        if not lost[k]:
            heard[packet] = min(heard[packet], end)
        if lost[k] or acks_lost[k]:
            failures += 1
            if failures == tries:
                return Fate(sent, sent_lost, air_bytes, air, max(heard), end, True)
            heapq.heappush(credits, (k + window, packet, failures))
        else:
            open_packets -= 1
            heapq.heappush(credits, (k + window, -1, 0))
    return Fate(sent, sent_lost, air_bytes, air, max(heard), end, False)


class Given:
    """A channel that loses the slots that it is told to lose."""

    holds = False

    def __init__(self, lost: list[bool]) -> None:
        self._lost, self._next = lost, 0

    def fates(self, starts: Any, ends: Any, size: int) -> Codes:
        here = np.array(self._lost[self._next : self._next + len(starts)], np.int8)
        return np.concatenate((here, np.zeros(len(starts) - len(here), np.int8)))

    def passed(self, packets: int) -> None:
        self._next += packets

    def at(self, now: float) -> Any:
        return None, math.inf


class Acks:
    """Acknowledgments of which the slots that it is told to are lost."""

    def __init__(self, channel: Given, lost: list[bool]) -> None:
        self._channel, self._lost = channel, lost
        self.current = self

    def random(self, count: int) -> Any:
        here = self._lost[self._channel._next : self._channel._next + count]
        return np.array([0.0 if lost else 1.0 for lost in here] + [1.0] * (count - len(here)))


@given(
    seed=st.integers(0, 2**32 - 1),
    packets=st.integers(1, 40) | st.integers(1, 1000),
    window=st.integers(2, 64),
    retries=st.integers(0, 6),
    p=st.sampled_from([0.0, 0.1, 0.3, 0.7]),
    turnaround=st.sampled_from([0.0, 0.02, 1.7]),
    short=st.integers(1, 100),
)
@settings(max_examples=60, deadline=None)
def test_every_figure_is_that_of_the_simulation(
    seed: int, packets: int, window: int, retries: int, p: float, turnaround: float, short: int
) -> None:
    random = np.random.default_rng(seed)
    slots = 4000 * (1 + retries)
    lost, acks_lost = (random.random(slots) < p).tolist(), (random.random(slots) < p / 2).tolist()
    cut, rate = (Cut(1, 0, short) if packets == 1 else Cut(packets, 100, short)), 8000.0
    arq = Arq.model_validate(
        {
            "kind": "selective-repeat",
            "retries": retries,
            "window": window,
            "turnaround": f"{turnaround} s",
            "ack_loss": 0.5,
        }
    )
    channel: Any = Given(lost)
    acks: Any = Acks(channel, acks_lost)
    sent = send_selectively(Transmitter(channel, SteadyRate(rate), acks), cut, Paces(arq), 0.0, False)
    found = Fate(sent.packets, sent.packets_lost, sent.air_bytes, sent.air_seconds, sent.heard, sent.over, sent.gave_up)
    expected = event_by_event(cut, rate, turnaround, window, 1 + retries, lost, acks_lost)
    assert found == pytest.approx(expected, rel=1e-9)


def test_a_message_of_one_packet_is_repeated_a_window_later() -> None:
    """22.4 ms per packet, window 4, turnaround 20 ms: slots of 22.4 ms; tries end at 22.4 + 89.6 k ms."""
    table = {
        "rate": "100 kbit/s", "loss": "30 %",
        "arq": {"kind": "selective-repeat", "retries": 20, "window": 4, "turnaround": "20 ms"},
    }  # fmt: skip
    link = Link(0, 1, LinkSettings.model_validate(table), 3)
    ends = [round(1e3 * (link.judge(280, 10.0 * k).arrival - 10.0 * k), 6) for k in range(400)]
    assert set(ends) <= {round(22.4 + 89.6 * k, 6) for k in range(20)}
    assert {22.4, 112.0, 201.6} <= set(ends)
    assert np.mean(np.array(ends) == 22.4) == pytest.approx(0.7, abs=5 * math.sqrt(0.21 / 400))


def test_a_long_turnaround_delays_a_retry_by_all_of_it() -> None:
    """1 ms per packet, turnaround 1 s, window 4: the acknowledgment is due 1.001 s after the first byte."""
    table = {
        "rate": "8 kbit/s", "loss": "50 %",
        "arq": {"kind": "selective-repeat", "retries": 30, "window": 4, "turnaround": "1 s"},
    }  # fmt: skip
    link = Link(0, 1, LinkSettings.model_validate(table), 3)
    tries = np.array([(link.judge(1, 100.0 * k).arrival - 100.0 * k - 1e-3) / 1.001 for k in range(100)])
    assert tries == pytest.approx(tries.round(), abs=1e-6)


def test_slots_go_on_where_the_rate_changes() -> None:
    """Ten packets of 1 s; the rate doubles at 3.5 s, and with it the pace: the third packet's end, then 0.5 s each."""
    table = {
        "rate": {"kind": "schedule", "steps": [["0 s", "8 kbit/s"], ["3.5 s", "16 kbit/s"]]}, "mtu": "1000 B",
        "arq": {"kind": "selective-repeat", "retries": 3, "window": 2, "turnaround": "2 s"},
    }  # fmt: skip
    verdict = Link(0, 1, LinkSettings.model_validate(table), 3).judge(10_000, 0.0)
    # Slots of (1 + 2) / 2 = 1.5 s begin at 0, 1.5 and 3 s; the third packet takes from 3 to 3.75 s, and its slot
    # (0.75 + 2) / 2 s. Then slots are of (0.5 + 2) / 2 s.
    assert verdict.arrival == pytest.approx(3 + 1.375 + 6 * 1.25 + 0.5)
    assert verdict.air_seconds == pytest.approx(2 * 1 + 0.75 + 7 * 0.5)


BURSTS = {"kind": "gilbert-packets", "p": 0.1, "r": 0.5}


@pytest.mark.parametrize(
    "outage",
    [
        {"kind": "contacts", "up": [["0 s", "10 ms"]]},
        {"kind": "on-off", "up": "875 ms", "down": "10 ms"},  # comes and goes while the link is down for good
    ],
)
@pytest.mark.parametrize(("packets", "arq", "loss", "tries"), [
    (1, {"kind": "selective-repeat", "window": 4}, "none", 1),
    (3, {"kind": "selective-repeat", "window": 4}, "none", 3),
    (1, {"kind": "stop-and-wait"}, BURSTS, 1),
    (3, {"kind": "stop-and-wait", "backoff": "1 s"}, "none", 1),
    (3, {"kind": "go-back-n", "window": 4}, "none", 2),
    (200, {"kind": "go-back-n", "window": 4}, "none", 4),
])  # fmt: skip
def test_unlimited_retries_towards_a_link_that_is_down_are_counted_not_looked_at(
    packets, arq, loss, tries, outage
) -> None:
    """A million tries, whatever the window: one by one they would take 5 to 20 s."""
    table = {
        "rate": "8 kbit/s", "mtu": "100 B", "loss": loss, "arq": {"retries": "unlimited", **arq}, "outage": outage,
    }  # fmt: skip
    for_good = UpIntervals(np.array([[0.0, 0.01]]), None)
    looked = 0

    class Watched(Link):
        def judge(self, size: int, now: float, needed: int | None = None) -> Verdict:
            self._open()
            fate, fates = self._channel.fate, self._channel.fates

            def one(*args: Any) -> int:
                nonlocal looked
                looked += 1
                return fate(*args)

            def many(starts: Any, *args: Any) -> Codes:
                nonlocal looked
                looked += len(starts)
                return fates(starts, *args)

            self._channel = MagicMock(wraps=self._channel, fate=one, fates=many, holds=False)
            self._transmitter.channel = self._channel
            return super().judge(size, now, needed)

    link = Watched(0, 1, LinkSettings.model_validate(table), 3, down=[("link-down", lambda: for_good)])
    verdict = link.judge(100 * packets, 1.0)
    assert verdict.cause == "retries"
    assert verdict.packets == pytest.approx(tries * 1_000_001, rel=1e-4)
    assert looked < 1000


@pytest.mark.parametrize("arq", [{"kind": "stop-and-wait"}, {"kind": "go-back-n", "window": 2}])
def test_retries_of_a_radio_that_sleeps_towards_one_that_is_gone_are_counted(arq, monkeypatch) -> None:
    """They take about as long as if each were looked at: as those before on average."""

    def judged(**limit: str) -> tuple[Verdict, float]:
        table = {
            "rate": "8 kbit/s", "mtu": "100 B", "arq": {"retries": "unlimited", **arq, **limit},
            "outage": {"kind": "duty-cycle", "awake": "1050 ms", "period": "10 s", "of": "sender", "when_off": "hold"},
        }  # fmt: skip
        gone = UpIntervals(np.array([[0.0, 0.01]]), None)
        link = Link(0, 1, LinkSettings.model_validate(table), 3, down=[("link-down", lambda: gone)])
        return link.judge(100, 20.0), link.sending_until

    counted, until = judged(timeout="1000 s")
    endless, _ = judged()
    monkeypatch.setattr("p2pl_async.link.sending.repeated.TYPICAL", 20_000)
    looked_at, expected = judged(timeout="1000 s")
    assert (endless.cause, endless.packets) == ("retries", 1_000_001)
    assert counted.air_seconds == pytest.approx(looked_at.air_seconds)
    assert counted._replace(air_seconds=0.0) == looked_at._replace(air_seconds=0.0)
    assert until == pytest.approx(expected, rel=0.005)
    assert until != expected


@pytest.mark.parametrize("arq", [
    {"kind": "stop-and-wait"}, {"kind": "go-back-n", "window": 2}, {"kind": "selective-repeat", "window": 3},
])  # fmt: skip
def test_retries_towards_a_device_that_is_gone_are_counted_while_the_rate_changes(arq, monkeypatch) -> None:
    """They take as long each as those before on average, and a million of them don't take a minute."""

    def judged(**limit: Any) -> tuple[Verdict, float]:
        rate = {
            "kind": "schedule",
            "steps": [["0 s", "0 bit/s"], ["1 s", "8 kbit/s"], ["3 s", "16 kbit/s"]],
            "end": "loop",
        }
        table = {"rate": rate, "mtu": "100 B", "arq": {"retries": "unlimited", "turnaround": "10 ms", **arq, **limit}}
        gone = UpIntervals(np.array([[0.0, 0.01]]), None)
        link = Link(0, 1, LinkSettings.model_validate(table), 3, down=[("link-down", lambda: gone)])
        return link.judge(100, 20.0), link.sending_until

    endless, until = judged()
    assert (endless.cause, endless.packets) == ("retries", 1_000_001)
    monkeypatch.setattr("p2pl_async.link.sending.repeated.TYPICAL", 20_000)
    monkeypatch.setattr("p2pl_async.link.sending.selective_repeat.TYPICAL", 20_000)
    looked_at, expected = judged()
    assert looked_at.packets == endless.packets
    assert until - 20 == pytest.approx(expected - 20, rel=0.02)
    assert until != expected
    assert endless.air_seconds == pytest.approx(looked_at.air_seconds, rel=0.02)
