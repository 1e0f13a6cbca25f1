"""The transmit queue: waits, refusals, limits, lifetimes; closed forms and ns-3."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from p2pl_async.basics.randomness import stream
from p2pl_async.link import Link, LinkSettings, Verdict
from p2pl_async.link.queue import Backlog, Queue


def poisson(rho: float, n: int, **table: Any) -> tuple[list[Verdict], Any]:
    """Send n messages that take 1 s each, at load rho; return their verdicts and when they were sent."""
    sent = np.cumsum(stream(1, "test").exponential(1 / rho, n))
    made = Link(0, 1, LinkSettings.model_validate({"rate": "8 kbit/s", **table}), 1)
    return [made.judge(1000, now) for now in sent.tolist()], sent


def of_batches(values: Any, batches: int = 50) -> tuple[float, float]:
    """Return the mean of a stationary series, and its standard error from the means of stretches of it."""
    means = np.array([part.mean() for part in np.array_split(np.asarray(values, float), batches)])
    return float(means.mean()), float(means.std(ddof=1) / math.sqrt(batches))


@pytest.mark.parametrize(("rho", "n"), [(0.5, 30_000), (0.8, 60_000), (0.901, 100_000)])
def test_waits_are_those_of_an_md1_queue(rho: float, n: int) -> None:
    """Mean wait rho T / (2 (1 - rho)), and a share 1 - rho doesn't wait."""
    found, sent = poisson(rho, n)
    waits = np.array([verdict.arrival for verdict in found]) - 1.0 - sent
    mean, error = of_batches(waits)
    assert mean == pytest.approx(rho / (2 * (1 - rho)), abs=5 * error)
    share, error = of_batches(waits < 1e-6)
    assert share == pytest.approx(1 - rho, abs=5 * error)


@pytest.mark.parametrize(
    ("interval", "mean", "sd"), [(0.02, 15.9887, 7.56907), (0.0125, 31.0799, 22.8558), (0.0111, 56.6328, 47.4955)]
)
def test_delays_are_those_of_ns3(interval: float, mean: float, sd: float) -> None:
    """125 B at 100 kbit/s, 1 ms of latency, Poisson: total delay in ms; both sides have an error of their own."""
    made = Link(0, 1, LinkSettings.model_validate({"rate": "100 kbit/s", "latency": "1 ms"}), 1)
    sent = np.cumsum(stream(3, "test").exponential(interval, 80_000))
    delays = 1000 * np.array([made.judge(125, now).arrival - now for now in sent.tolist()])
    found, error = of_batches(delays)
    assert found == pytest.approx(mean, abs=5 * error * math.sqrt(1.5))  # ns-3 has 160,000
    assert delays.min() == pytest.approx(11)
    assert delays.std() == pytest.approx(sd, rel=0.2)


def test_a_saturated_link_sends_at_its_rate_and_refuses_the_rest() -> None:
    """rho > 1: the transmitter never rests, and 1 - 1 / rho of what comes is refused."""
    rho, n = 2.0, 40_000
    found, _ = poisson(rho, n, queue={"messages": 50})
    refused, error = of_batches([verdict.cause == "queue" for verdict in found])
    assert refused == pytest.approx(1 - 1 / rho, abs=5 * error + 50 / n)
    arrived = [verdict.arrival for verdict in found if not verdict.cause]
    assert len(arrived) / max(arrived) == pytest.approx(1.0, abs=1e-3)  # one message per second
    assert {verdict.cause for verdict in found} == {"", "queue"}


def test_ten_waiting_packets_as_in_ns3() -> None:
    """rho = 1.25, ten wait and one is sent: ns-3 refuses 8,097 of 40,000, and delays the others by 90.5 ms."""
    n = 40_000
    made = Link(
        0, 1, LinkSettings.model_validate({"rate": "100 kbit/s", "latency": "1 ms", "queue": {"packets": 11}}), 1
    )
    sent = np.cumsum(stream(2, "test").exponential(0.008, n)).tolist()
    found = [made.judge(125, now) for now in sent]
    refused, error = of_batches([verdict.cause == "queue" for verdict in found])
    assert refused == pytest.approx(8097 / 40_000, abs=5 * error * math.sqrt(2))
    delays = [1000 * (verdict.arrival - now) for verdict, now in zip(found, sent, strict=True) if not verdict.cause]
    mean, error = of_batches(delays)
    assert mean == pytest.approx(90.5444, abs=5 * error * math.sqrt(2))
    assert max(delays) == pytest.approx(111, abs=0.1)  # ns-3: 110.999


@pytest.mark.parametrize("room", [1, 4])
def test_exponential_sizes_are_refused_as_in_an_mm1k_queue(room: int) -> None:
    """P_drop = (1 - rho) rho^K / (1 - rho^(K + 1))."""
    rho, n = 0.8, 40_000
    random = stream(1, "test")
    sizes = np.maximum(random.exponential(100_000, n).round(), 1).astype(int).tolist()
    sent = np.cumsum(random.exponential(1 / rho, n)).tolist()
    made = Link(0, 1, LinkSettings.model_validate({"rate": "800 kbit/s", "queue": {"messages": room}}), 1)
    found = [made.judge(size, now) for size, now in zip(sizes, sent, strict=True)]
    refused, error = of_batches([verdict.cause == "queue" for verdict in found])
    assert refused == pytest.approx((1 - rho) * rho**room / (1 - rho ** (room + 1)), abs=5 * error)


def test_the_longest_wait_is_that_of_a_full_queue() -> None:
    """8 Q / rate, from the first bit that waits to the last that leaves."""
    limit, sizes = 5000, stream(4, "test").integers(1, 1000, 20_000)
    made = Link(0, 1, LinkSettings.model_validate({"rate": "8 kbit/s", "queue": {"size": f"{limit} B"}}), 1)
    sent = np.cumsum(stream(5, "test").exponential(0.2, 20_000)).tolist()
    found = [made.judge(int(size), now) for size, now in zip(sizes, sent, strict=True)]
    delays = [verdict.arrival - now for verdict, now in zip(found, sent, strict=True) if not verdict.cause]
    assert 0.9 * limit / 1000 < max(delays) <= limit / 1000 + 1e-9


def test_each_limit_counts_what_it_says() -> None:
    """Messages of 3 packets, 250 B and 20 B of headers each."""
    table = {"rate": "8 kbit/s", "mtu": "110 B", "header": "10 B"}
    for limits, taken in (({"messages": 2}, 2), ({"packets": 8}, 2), ({"packets": 9}, 3), ({"size": "839 B"}, 2)):
        made = Link(0, 1, LinkSettings.model_validate({**table, "queue": limits}), 1)
        found = [made.judge(250, 0.0) for _ in range(5)]
        assert [not verdict.cause for verdict in found] == [True] * taken + [False] * (5 - taken), limits


def test_parity_takes_room_too() -> None:
    table = {"rate": "8 kbit/s", "mtu": "100 B", "fec": {"data": 4, "parity": 2}, "queue": {"packets": 11}}
    made = Link(0, 1, LinkSettings.model_validate(table), 1)
    assert [made.judge(400, 0.0).cause for _ in range(2)] == ["", "queue"]


# --- Lifetime


def test_a_message_that_waits_too_long_is_dropped_and_sends_nothing() -> None:
    made = Link(0, 1, LinkSettings.model_validate({"rate": "8 kbit/s", "queue": {"lifetime": "2.5 s"}}), 1)
    found = [made.judge(1000, 0.0) for _ in range(5)]
    assert [verdict.cause for verdict in found] == ["", "", "", "expired", "expired"]
    assert made.sending_until == 3.0
    assert found[3] == Verdict(cause="expired")
    assert made.judge(1000, 0.6).arrival == 4.0


def test_what_expires_holds_its_place_till_then() -> None:
    table = {"rate": "8 kbit/s", "queue": {"lifetime": "2.5 s", "messages": 4}}
    made = Link(0, 1, LinkSettings.model_validate(table), 1)
    assert [made.judge(1000, 0.0).cause for _ in range(5)] == ["", "", "", "expired", "queue"]
    # Two have left by 2.4 s, and one of four places is that of the one that waits in vain.
    assert [made.judge(1000, 2.4).cause for _ in range(3)] == ["", "", "queue"]
    assert [made.judge(1000, 2.5).cause for _ in range(2)] == ["", "queue"]


def test_a_lifetime_counts_the_wait_for_a_link_that_is_down() -> None:
    outage = {"kind": "contacts", "up": [["0 s", "1 s"], ["10 s", "99 s"]], "when_off": "hold"}
    table = {"rate": "8 kbit/s", "outage": outage, "queue": {"lifetime": "4 s"}}
    made = Link(0, 1, LinkSettings.model_validate(table), 1)
    found = [made.judge(100, now) for now in (0.0, 2.0, 5.9, 6.0, 6.5)]
    assert [verdict.cause for verdict in found] == ["", "expired", "expired", "", ""]
    assert found[-1].arrival == pytest.approx(10.2)


def test_nobody_waits_longer_than_a_lifetime_and_the_transmitter_never_rests_for_it() -> None:
    tau = 1.5
    found, sent = poisson(3.0, 20_000, queue={"lifetime": f"{tau} s"})
    waits = np.array([verdict.arrival for verdict in found]) - 1.0 - sent
    served = waits < math.inf
    assert waits[served].max() <= tau + 1e-9
    assert served.sum() / sent[-1] == pytest.approx(1.0, abs=0.02)


def test_the_queue_of_an_instant_is_the_one_of_its_settings() -> None:
    changes = [(5.0, LinkSettings.model_validate({"rate": "8 kbit/s", "queue": {"messages": 1}}))]
    made = Link(0, 1, LinkSettings.model_validate({"rate": "8 kbit/s", "queue": {"messages": 3}}), 1, changes=changes)
    assert [made.judge(1000, 0.0).cause for _ in range(4)] == ["", "", "", "queue"]
    assert [made.judge(1000, 6.0).cause for _ in range(2)] == ["", "queue"]


def test_what_has_left_makes_room() -> None:
    held, limits = Backlog(), Queue(messages=2)
    held.add(1, 10, until=1.0)
    held.add(1, 10, until=2.0)
    assert not held.has_room(limits, 1, 1, now=0.999)
    assert held.has_room(limits, 1, 1, now=1.0)


def test_size_counts_all_that_is_held() -> None:
    held, limits = Backlog(), Queue(size="100 B")
    assert held.has_room(limits, 1, 100, now=0.0)
    held.add(1, 60, until=1.0)
    assert held.has_room(limits, 1, 40, now=0.0)
    assert not held.has_room(limits, 1, 41, now=0.0)
    assert held.has_room(limits, 1, 100, now=1.0)


def test_the_stricter_limit_counts() -> None:
    held = Backlog()
    held.add(1, 1, until=1.0)
    assert not held.has_room(Queue(messages=1, size="1 MB"), 1, 1, now=0.0)
    assert not held.has_room(Queue(messages=9, size="10 B"), 1, 11, now=0.0)
    assert held.has_room(None, 1, 10**12, now=0.0)


def test_packets_count_those_of_all_messages() -> None:
    held, limits = Backlog(), Queue(packets=10)
    held.add(7, 700, until=1.0)
    assert held.has_room(limits, 3, 300, now=0.0)
    assert not held.has_room(limits, 4, 400, now=0.0)
    assert held.has_room(limits, 10, 1000, now=1.0)


def test_what_leaves_first_makes_room_first() -> None:
    """A message that expires leaves before those ahead of it."""
    held, limits = Backlog(), Queue(messages=2)
    held.add(1, 10, until=9.0)
    held.add(1, 10, until=3.0)
    assert not held.has_room(limits, 1, 1, now=2.9)
    assert held.has_room(limits, 1, 1, now=3.0)


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        ({}, "needs a limit"),
        ({"packets": 0}, "packets"),
        ({"lifetime": "0 s"}, "above"),
        ({"messages": 3, "drop": "middle"}, "'tail' or 'head'"),
        ({"messages": 0}, "messages"),
        ({"messages": "3"}, "messages"),
        ({"size": "0 B"}, "above"),
    ],
)
def test_impossible_limits_are_refused(limits: dict[str, object], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        Queue.model_validate(limits)
