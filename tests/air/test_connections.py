"""Bluetooth LE connections against closed forms: waits, throughput, repetitions, latency, events that overlap."""

from __future__ import annotations

import functools
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from p2pl_async.air import Aloha, AnyMedium, BleConnections
from p2pl_async.experiment import running
from p2pl_async.scenario.scenario import Scenario
from p2pl_async.testing import Cell

IFS, EMPTY = 150e-6, 44e-6
LINK: dict[str, Any] = {"rate": "2 Mbit/s", "mtu": "262 B", "header": "18 B", "arq": {"retries": 90}}
FULL = 262 * 4e-6  # air time of a full packet


def cell(n: int = 2, seed: int = 1, link: dict[str, Any] | None = None, **medium: Any) -> Cell:
    return Cell({"kind": "ble-connections", **medium}, n, link={**LINK, **(link or {})}, seed=seed)


def central_of(one: Cell) -> int:
    """Return which of devices 0 and 1 sends first when both have something to send."""
    one.offer(0.0, 0, [1], 10)
    one.offer(0.0, 1, [0], 10)
    one.run()
    return one.on_air[0][2]


def test_a_message_waits_for_the_next_event() -> None:
    """Uniform from 0 to the interval; the peripheral's packet follows the central's empty one."""
    central = central_of(cell())
    for src, before in ((central, 0.0), (1 - central, EMPTY + IFS)):
        one = cell(interval="50 ms")
        for k in range(600):
            one.offer(k + float(one.random.uniform(0, 0.5)), src, [1 - src], 244)
        waits = one.run().delays() - FULL - before
        assert -1e-9 < waits.min() < 2e-3
        assert 48e-3 < waits.max() < 50e-3 + 1e-9
        assert float(waits.mean()) == pytest.approx(25e-3, abs=5 * 50e-3 / np.sqrt(12 * 600))


def test_a_peripheral_with_nothing_to_send_sleeps_through_events() -> None:
    central = central_of(cell())
    for src, events in ((central, 4), (1 - central, 1)):
        one = cell(interval="50 ms", latency=3)
        for k in range(600):
            one.offer(k + float(one.random.uniform(0, 0.5)), src, [1 - src], 244)
        delays = one.run().delays()
        assert float(delays.mean()) == pytest.approx(events * 25e-3 + FULL, abs=5 * events * 50e-3 / np.sqrt(12 * 600))


@pytest.mark.parametrize("interval", [7.5e-3, 30e-3])
def test_an_event_carries_as_many_packets_as_fit(interval: float) -> None:
    one = cell(interval=f"{1000 * interval} ms")
    one.offer(0.0, central_of(cell()), [1 - central_of(cell())], 244 * 200)
    one.run()
    starts = [start for start, end, _ in one.on_air if end - start > EMPTY + 1e-6]
    events = 1 + int(np.sum(np.diff(starts) > FULL + EMPTY + 2 * IFS + 1e-6))
    assert len(starts) == 200
    assert events == -(-200 // int(interval // (FULL + EMPTY + 2 * IFS)))


def test_both_directions_share_an_event() -> None:
    one = cell(interval="30 ms")
    for src in range(2):
        one.offer(0.0, src, [1 - src], 244 * 6)
    one.run()
    assert len(one.on_air) == 14  # the last pair acknowledges the peripheral's last packet
    assert one.on_air[-1][1] - one.on_air[0][0] == pytest.approx(12 * (FULL + IFS) + 2 * EMPTY + IFS)
    assert all(outcome.verdict.acknowledged for outcome in one.outcomes)


def test_a_lost_packet_is_sent_again_in_the_next_event() -> None:
    """Each event carries the packet with 1 - p; the number of further events is geometric."""
    p, interval = 0.3, 50e-3
    one = cell(interval="50 ms", link={"loss": "30 %"})
    src = central_of(cell())
    for k in range(1500):
        one.offer(3.0 * k + float(one.random.uniform(0, 0.5)), src, [1 - src], 244)
    delays = one.run().delays()
    assert len(delays) == 1500
    mean = interval / 2 + FULL + interval * p / (1 - p)
    assert float(delays.mean()) == pytest.approx(
        mean, abs=5 * interval * np.sqrt(p / (1 - p) ** 2 + 1 / 12) / np.sqrt(1500)
    )


def test_events_hop_over_the_data_channels_as_the_channel_selection_says() -> None:
    one = cell(interval="10 ms")
    for k in range(200):
        one.offer(0.01 * k + 1e-5, 0, [1], 10)
    found = [o.verdict.signal.channel for o in one.run().outcomes if o.verdict.signal is not None]
    hops = {(after - before) % 37 for before, after in pairwise(found)} - {0}
    assert set(found) == set(range(37))
    assert len(hops) == 1
    assert 5 <= hops.pop() <= 16


def test_neighbors_whose_events_overlap_all_get_their_turn() -> None:
    """Eight connections of one device, 7.5 ms each, with packets that leave no event alone."""
    one = cell(9, interval="7.5 ms")
    for k in range(1, 9):
        one.offer(0.0, 0, [k], 244 * 20)
        one.offer(0.0, k, [0], 244 * 20)
    outcomes = one.run().outcomes
    assert all(outcome.verdict.cause == "" for outcome in outcomes)
    last = sorted(outcome.verdict.arrival for outcome in outcomes)
    assert last[0] > last[-1] / 4
    busy = sorted((start, end) for start, end, device in one.on_air)
    assert all(end <= start + 1e-9 for (_, end), (start, _) in pairwise(busy))


def test_connections_apart_hardly_meet() -> None:
    """Twenty pairs, 37 channels: without hopping to one, hardly a packet in a hundred meets another."""

    def lost(channels: int) -> float:
        one = cell(40, channels=channels)
        for k in range(0, 40, 2):
            one.offer(0.0, k, [k + 1], 244 * 100)
        outcomes = one.run().outcomes
        return sum(o.verdict.packets_lost for o in outcomes) / sum(o.verdict.packets for o in outcomes)

    assert lost(37) < 0.05
    assert lost(1) > 0.2


def test_what_is_sent_to_a_device_that_is_gone_is_given_up() -> None:
    """By the central after its retries; by the peripheral, which hears no central, after the supervision timeout."""
    central = central_of(cell())
    for src, fate in ((central, ("retries", 5)), (1 - central, ("supervision", 0))):
        one = cell(link={"loss": "100 %", "arq": {"retries": 4}}, interval="50 ms", supervision="2 s")
        one.offer(0.0, src, [1 - src], 244)
        verdict = one.run().outcomes[0].verdict
        assert (verdict.cause, verdict.packets) == fate
        assert len(one.outcomes) == 1
        assert one.clock.now < 2.2


def test_every_key_changes_what_happens() -> None:
    def run(**medium: Any) -> list[Any]:
        one = cell(3, link={"loss": "30 %", "arq": {"retries": 30}}, **{"latency": 1, **medium})
        for k in range(30):
            one.offer(0.2 * k, k % 3, [(k + 1) % 3], 700)
        one.set_link(0, 1, {**LINK, "loss": "100 %"})
        return [outcome.verdict for outcome in one.run(20).outcomes]

    changed: dict[str, Any] = {
        "interval": "50 ms", "latency": 3, "supervision": "100 ms", "channels": 5,
        "ack": {"size": "20 B", "airtime": "80 us", "delay": "150 us"},
    }  # fmt: skip
    assert changed.keys() >= BleConnections.model_fields.keys() - Aloha.model_fields.keys()
    before = run()
    for key, value in changed.items():
        assert run(**{key: value}) != before, key


@pytest.mark.parametrize(
    ("medium", "says"),
    [
        ({"interval": "5 ms"}, "interval must be from 7.5 ms to 4 s"),
        ({"interval": "31 ms"}, "in steps of 1.25 ms"),
        ({"channels": 40}, "at most 37"),
        ({"channels": {"count": 37, "own": "by-id"}}, "hops by itself"),
        ({"spacing": "1 ms"}, "spacing is for media without"),
        ({"duty_cycle": {"share": "1 %"}}, "duty_cycle is for media without"),
        ({"broadcast": "once"}, "one-by-one"),
        ({"ack": "none"}, "ack"),
    ],
)
def test_what_connections_cannot_be_is_refused(medium: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        TypeAdapter(AnyMedium).validate_python({"kind": "ble-connections", **medium})


def test_radios_sleep_between_events_but_for_the_empty_packets_of_idle_connections() -> None:
    energy = {"voltage": "3 V", "tx": "5 mA", "rx": "5 mA", "idle": "5 mA", "sleep": "0 mA"}
    tables: dict[str, Any] = {
        "devices": {"count": 2}, "topology": "complete", "link": LINK, "energy": energy,
        "medium": {"kind": "ble-connections", "interval": "100 ms", "latency": 4},
        "protocol": {"kind": "local"}, "stop": {"virtual_time": "10 s"}, "model": {"kind": "softmax"},
        "data": {"dataset": "digits", "train_samples": 20, "test_samples": 20},
    }  # fmt: skip
    summary = running.run(Scenario.model_validate(tables)).summary
    both = (2 * EMPTY + IFS) / 0.1 * (1 + 1 / 5)  # the peripheral sleeps through four events of five
    assert summary["energy"]["joules"] == pytest.approx(3 * 5e-3 * 10 * both)


def test_a_crash_as_a_connection_is_lost_is_the_fate_of_the_message_on_the_air() -> None:
    """The supervision timeout ends a connection in the event in which its central crashes."""
    central = central_of(cell())
    deaf: dict[str, Any] = {"link": {"loss": "100 %"}, "interval": "50 ms", "supervision": "180 ms"}
    watched = cell(**deaf)
    watched.offer(0.0, central, [1 - central], 244)
    begins = [start for start, _, _ in watched.run().on_air]
    assert len(begins) == 5  # the last one, 200 ms after the first, ends it
    assert watched.share("supervision") == 1
    for begin in begins[3:]:
        one = cell(**deaf)
        one.offer(0.0, central, [1 - central], 244)
        one.offer(0.0, 1 - central, [central], 244)
        crash = functools.partial(one.air.crash, central)
        one.clock.schedule(begin + 1e-4, central, -9, 0, crash, "crashed")
        fates = {outcome.src: outcome.verdict.cause for outcome in one.run().outcomes}
        assert fates[central] == "crashed"
        assert fates[1 - central] == "supervision"
