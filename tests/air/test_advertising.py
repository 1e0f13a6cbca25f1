"""Bluetooth LE advertising: who scans at the right time hears one of the copies; against a simulation of its own."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from p2pl_async.air import Aloha, AnyMedium, BleAdvertising
from p2pl_async.testing import Cell

LINK: dict[str, Any] = {"rate": "1 Mbit/s", "mtu": "47 B", "header": "16 B"}
PACKET = 47 * 8e-6


def cell(n: int = 2, seed: int = 1, link: dict[str, Any] | None = None, **medium: Any) -> Cell:
    return Cell({"kind": "ble-advertising", **medium}, n, link={**LINK, **(link or {})}, seed=seed)


def test_each_packet_is_sent_on_three_channels_in_every_event() -> None:
    one = cell(events=2, interval="100 ms", spacing="1 ms")
    one.offer(0.0, 0, [1], 62)
    one.run()
    starts = np.array([start for start, _, _ in one.on_air]).reshape(4, 3)  # two packets, two events each
    assert np.diff(starts, axis=1) == pytest.approx(PACKET + 1e-3)
    gaps = np.diff(starts[:, 0])
    assert np.all((gaps >= 0.1) & (gaps <= 0.11))
    assert len({round(gap, 9) for gap in gaps}) == 3


def test_who_scans_all_the_time_hears_the_first_event() -> None:
    """Unless a scanner changes its channel in the midst of the event: three gaps of 0.4 ms in 100 ms at most."""
    one = cell(events=1)
    for k in range(500):
        one.offer(k + float(one.random.uniform(0, 0.5)), 0, [1], 20)
    one.run()
    assert one.share() > 0.98
    assert one.share() + one.share("off-channel") == 1
    delays = one.delays()  # the random delay, then one of three packets: 36 B of them
    assert 0 <= delays.min() < delays.max() < 10e-3 + 3 * 36 * 8e-6


@pytest.mark.parametrize("window", [0.01, 0.04])
def test_one_event_meets_the_window_of_a_scanner_by_its_share_of_the_time(window: float) -> None:
    one = cell(events=1, window=f"{window} s", scan_interval="100 ms")
    for k in range(1500):
        one.offer(k + float(one.random.uniform(0, 0.9)), 0, [1], 20)
    law = window / 0.1
    assert one.run().share() == pytest.approx(law, abs=5 * math.sqrt(law * (1 - law) / 1500))


def simulated(events: int, interval: float, window: float, scan: float, gap: float, count: int) -> float:
    """Return the share of packets that a scanner hears, with numpy alone."""
    random = np.random.default_rng(7)
    begin = random.uniform(0, 1000 * scan, count)
    delays = random.uniform(0, 10e-3, (count, events)) + interval * (np.arange(events) > 0)
    starts = begin[:, None] + np.cumsum(delays, axis=1)
    at = starts[:, :, None] + gap * np.arange(3)
    windows, within = np.divmod(at, scan)
    return float(np.mean(np.any((windows % 3 == np.arange(3)) & (within < window), axis=(1, 2))))


@pytest.mark.parametrize(("events", "interval", "window", "scan"), [(4, 0.1, 0.03, 0.13), (10, 0.05, 0.011, 0.4)])
def test_the_share_of_packets_heard_after_several_events(
    events: int, interval: float, window: float, scan: float
) -> None:
    one = cell(events=events, interval=f"{interval} s", window=f"{window} s", scan_interval=f"{scan} s")
    for k in range(500):
        one.offer(5.0 * k + float(one.random.uniform(0, 3)), 0, [1], 20)
    law = simulated(events, interval, window, scan, 36 * 8e-6, 20_000)
    assert one.run().share() == pytest.approx(law, abs=5 * math.sqrt(law * (1 - law) / 500))


def test_a_message_needs_all_of_its_packets_and_one_copy_of_each() -> None:
    one = cell(link={"loss": "60 %"}, events=2)
    for k in range(400):
        one.offer(2.0 * k, 0, [1], 62)
    heard = (1 - 0.6**2) ** 2  # one copy in each event is for the channel of a scanner that scans all the time
    assert one.run().share() == pytest.approx(heard, abs=5 * math.sqrt(heard * (1 - heard) / 400))


def test_it_arrives_with_the_first_copy_and_counts_all_of_them() -> None:
    one = cell(events=5)
    one.offer(0.0, 0, [1], 20)
    (outcome,) = one.run().outcomes
    assert outcome.verdict.arrival < 12e-3
    assert outcome.decided > 0.4
    assert outcome.verdict.packets == 15
    assert outcome.verdict.air_seconds == pytest.approx(15 * 36 * 8e-6)


def test_every_key_changes_what_happens() -> None:
    def run(**medium: Any) -> list[Any]:
        one = cell(3, **{"events": 2, "window": "30 ms", **medium})
        for k in range(40):
            one.offer(0.5 * k, k % 3, [(k + 1) % 3, (k + 2) % 3], 40)
        return [outcome.verdict for outcome in one.run().outcomes]

    changed: dict[str, Any] = {
        "interval": "50 ms", "events": 3, "scan_interval": "150 ms", "window": "scan_interval", "channels": 2,
        "spacing": "5 ms",
    }  # fmt: skip
    assert changed.keys() >= BleAdvertising.model_fields.keys() - Aloha.model_fields.keys()
    before = run()
    for key, value in changed.items():
        assert run(**{key: value}) != before, key


@pytest.mark.parametrize(
    ("medium", "says"),
    [
        ({"interval": "10 ms"}, "interval must be from 20 ms"),
        ({"window": "200 ms"}, "window must not be above scan_interval, 100 ms"),
        ({"scan_interval": "50 s"}, r"at most 40.96 s"),
        ({"channels": 4}, "at most 3"),
        ({"channels": {"count": 3, "own": "random"}}, "take turns"),
        ({"ack": {"size": "11 B", "airtime": "80 us"}}, "nothing is acknowledged"),
        ({"duty_cycle": {"share": "1 %"}}, "duty_cycle is for media without"),
        ({"broadcast": "one-by-one"}, "once"),
    ],
)
def test_what_advertising_cannot_be_is_refused(medium: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        TypeAdapter(AnyMedium).validate_python({"kind": "ble-advertising", **medium})
