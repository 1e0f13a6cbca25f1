"""How messages were heard: in the record of each, in the trace of a run, and as a protocol may ask."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from helpers.powers import FixedPowers
from helpers.scenario_worlds import world_run

from p2pl_async import Device, Message, Protocol
from p2pl_async.air.hearing import PowerHearing
from p2pl_async.device import Observer
from p2pl_async.link import Link, LinkSettings, Signal
from p2pl_async.radio import Motion, Propagation, RadioSettings, Track
from p2pl_async.testing import Cell
from p2pl_async.trace import Record

POWERS = np.array([[-np.inf, -70.0, -80.0], [-70.0, -np.inf, -90.0], [-80.0, -90.0, -np.inf]])


@dataclass(frozen=True, slots=True)
class Hello(Message, tag="signal-hello"):
    text: str


@dataclass(frozen=True)
class Loose(Message, tag="signal-loose"):
    text: str


class Greet(Protocol):
    """Device 0 greets the others once; they keep what they hear."""

    kind: str = "greet"

    async def run(self, device: Device) -> None:
        if device.id == 0:
            device.broadcast(Hello("x" * 60))
            device.broadcast(Loose("y" * 60))
            return
        for kind in (Hello, Loose):
            message = await device.receive(kind)
            device.state = [*(device.state or []), message]
            for name in ("rssi", "sinr", "expected_delivery"):
                device.record(name, getattr(message, name))


TABLES: dict[str, Any] = {
    "devices": {"count": 3}, "topology": {"kind": "complete"},
    "link": {"rate": "250 kbit/s", "mtu": "133 B", "header": "5 B"},
    "radio": {"positions": [["0 m", "0 m"], ["20 m", "0 m"], ["0 m", "60 m"]], "shadowing": "none"},
}  # fmt: skip


def budget(distance: float) -> float:
    """Return the received power at a distance, in dBm: 0 dBm less 40.2 dB at 1 m, and 30 dB a decade."""
    return -20 * math.log10(4 * math.pi * 2.44e9 / 299_792_458) - 30 * math.log10(distance)


@pytest.mark.parametrize("medium", ["dedicated", "ideal", "aloha"])
def test_records_tell_power_ratio_distance_and_rate(medium: str) -> None:
    records: list[Record] = []
    world_run({**TABLES, "medium": {"kind": medium}}, Greet(), until=1, observer=Observer(sink=records.append))
    assert len(records) == 4
    for record in records:
        signal = record.verdict.signal
        assert signal is not None
        distance = {1: 20.0, 2: 60.0}[record.dst]
        expected = (budget(distance), budget(distance) + 101, distance, 250e3, 1)
        assert signal[:5] == pytest.approx(expected, abs=0.02)


def test_each_receiver_of_a_broadcast_hears_it_in_its_own_way() -> None:
    found: list[tuple[int, str, float]] = []
    medium = {"kind": "ideal"}
    world_run(
        {**TABLES, "medium": medium}, Greet(), until=1, observer=Observer(record=lambda *what: found.append(what))
    )
    powers = {(device, round(value, 3)) for device, name, value in found if name == "rssi"}
    assert powers == {(1, round(budget(20), 3)), (2, round(budget(60), 3))}
    near, far = (min(v for d, name, v in found if name == "expected_delivery" and d == k) for k in (1, 2))
    assert near == 1
    assert 0.9 < far <= 1


def test_without_a_radio_a_message_knows_no_power() -> None:
    found: list[float] = []
    tables = {key: table for key, table in TABLES.items() if key != "radio"}
    observer = Observer(record=lambda device, name, value: found.append(value))
    world_run({**tables, "medium": {"kind": "ideal"}}, Greet(), until=1, observer=observer)
    assert len(found) == 12
    assert all(map(math.isnan, found))


def test_interference_lowers_the_ratio_and_not_the_power() -> None:
    waves = FixedPowers(POWERS)
    cell = Cell(
        {"kind": "aloha", "collision": "sinr"}, 3, link={"rate": "250 kbit/s"},
        hearing=PowerHearing(waves, -100.0), propagation=waves,
    )  # fmt: skip
    cell.offer(0.0, 0, [1], 100)
    cell.offer(0.001, 2, [0], 100)  # at -90 dBm where the first is received
    signal = cell.run().outcomes[0].verdict.signal
    assert signal is not None
    assert signal.rssi == -70
    assert signal.sinr == pytest.approx(-70 - 10 * math.log10(10**-9 + 10**-10.1))


def test_tries_are_those_of_the_frame_that_took_most() -> None:
    cell = Cell({"kind": "ideal"}, 2, link={"rate": "250 kbit/s", "mtu": "60 B", "loss": "40 %", "arq": {"retries": 9}})
    for k in range(200):
        cell.offer(float(k), 0, [1], 300)
    verdicts = [outcome.verdict for outcome in cell.run().outcomes]
    tries = [0 if verdict.signal is None else verdict.signal.tries for verdict in verdicts]
    assert all(most <= verdict.packets - 4 for most, verdict in zip(tries, verdicts, strict=True))
    assert min(tries) == 1
    # Of five frames each takes more than m tries with probability 0.4^m: the mean of the largest of five.
    mean = sum(1 - (1 - 0.4**m) ** 5 for m in range(10))
    assert np.mean(tries) == pytest.approx(mean, abs=5 * float(np.std(tries)) / math.sqrt(200))


def test_a_link_expects_the_loss_of_its_radio() -> None:
    settings = RadioSettings.model_validate({"shadowing": "none"})
    waves = Propagation(settings, Motion([Track.still((0.0, 0.0, 0.0)), Track.still((90.0, 0.0, 0.0))]), 1)
    link = Link(0, 1, LinkSettings.model_validate({"header": "17 B"}), 1, radio=waves.link(0, 1))
    snr = waves.snr(0, 1, 0.0)
    heard = Signal(sinr=snr)
    assert link.expected_delivery(heard, 80, 0.0) == 1 - waves.error(0, 1, 97, snr)
    lost = sum(bool(link.judge(80, float(k)).cause) for k in range(2000)) / 2000
    assert 1 - link.expected_delivery(heard, 80, 0.0) == pytest.approx(lost, abs=5 * math.sqrt(0.25 / 2000))
