"""A message arrives when its receiver has it, whatever its sender knows, and its fate is fixed from then on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from p2pl_async import Device, Message, Protocol
from p2pl_async.hardware.downtime import Downtime
from p2pl_async.hardware.hardware import Hardware
from p2pl_async.link import LinkSettings
from p2pl_async.testing import Cell, emulate

ACK = {"size": "10 B", "airtime": "0.5 ms", "delay": "0.1 ms"}
BOTH = [[1], [0]]


@dataclass(frozen=True, slots=True)
class Frame(Message, tag="arrival-frame"):
    text: str


class Stream(Protocol):
    """Device 0 sends to device 1, and stays up until the end; device 1 notes when it hears."""

    kind: str = "stream"
    count: int = 1
    gap: float = 1.0

    async def run(self, device: Device) -> None:
        if device.id == 0:
            for _ in range(self.count):
                device.send(1, Frame("x" * 60))
                await device.sleep(self.gap)
            await device.sleep(60)
        while device.id == 1:
            await device.receive(Frame)
            device.record("heard", device.now)


def one_way(forward: float, back: float, **more: Any):
    """Return settings of links that lose other shares each way."""

    def settings(src: int, dst: int) -> LinkSettings:
        return LinkSettings.model_validate(
            {"rate": "250 kbit/s", "loss": forward if src == 0 else back, "arq": {"retries": 7}, **more}
        )

    return settings


MEDIA: list[dict[str, Any]] = [
    {"kind": "half-duplex", "ack": ACK},
    {"kind": "ideal", "ack": ACK},
    {"kind": "aloha", "ack": ACK, "backoff": "10 ms"},
]


@pytest.mark.parametrize("medium", MEDIA, ids=lambda medium: medium["kind"])
def test_lost_acknowledgments_delay_nothing(medium) -> None:
    """Forward nothing is lost: each message arrives after its air time, though 9 of 10 ACKs are lost."""
    records: list[Any] = []
    emulation = emulate(
        Stream(count=200), BOTH, medium=medium, link=one_way(0.0, 0.9), until=255, sink=records.append
    )  # fmt: skip
    delays = np.array([record.verdict.arrival - record.sent for record in records])
    assert delays == pytest.approx([8 * record.size / 250e3 for record in records], rel=1e-9)
    assert emulation.trace.delivered == 200
    # The sender tries on all the same: (1 - q^8) / (1 - q) times, with q = 0.9.
    tries = np.array([record.verdict.packets for record in records])
    assert tries.mean() == pytest.approx((1 - 0.9**8) / 0.1, abs=5 * tries.std() / np.sqrt(200))
    known = 1 - 0.9**8
    assert emulation.trace.counts.acknowledged / 200 == pytest.approx(known, abs=5 * np.sqrt(known * (1 - known) / 200))


def test_a_repeated_frame_arrives_with_its_first_reception() -> None:
    """Forward 30 % are lost, all ACKs too: the k-th try is the first that is received."""
    records: list[Any] = []
    emulate(
        Stream(count=300), BOTH, medium={"kind": "half-duplex", "ack": ACK}, link=one_way(0.3, 1.0), until=355,
        sink=records.append,
    )  # fmt: skip
    air = np.array([8 * record.size / 250e3 for record in records])
    late = np.array([record.verdict.arrival - record.sent for record in records]) - air
    tries = (late / (air + 6e-4))[np.isfinite(late)]
    assert np.abs(tries - tries.round()).max() < 1e-6
    assert np.mean(tries.round() == 0) == pytest.approx(0.7, abs=5 * np.sqrt(0.21 / 300))


def test_the_acknowledgments_time_is_not_the_messages() -> None:
    """802.15.4: a frame of 97 B is there 3.104 ms after its first byte, not 0.544 ms later."""
    medium = {"kind": "csma-ca", "ack": {"size": "11 B", "airtime": "352 us", "delay": "192 us"}}
    cell = Cell(medium, 2, link={"mtu": "133 B", "header": "17 B", "rate": "250 kbit/s", "arq": {"retries": 3}})
    for k in range(2000):
        cell.offer(0.1 * k, 0, [1], 80)
    delays = cell.run().delays()
    slots = (delays - 97 * 32e-6 - 320e-6) / 320e-6
    assert np.unique(slots.round(6)).tolist() == list(range(8))
    assert all(outcome.verdict.acknowledged for outcome in cell.outcomes)


def test_a_sender_that_crashes_while_it_waits_does_not_take_a_message_back() -> None:
    """All ACKs are lost; the sender crashes during its third try, the receiver has had the first."""
    heard: list[float] = []
    records: list[Any] = []
    hardware = [Hardware(downtime=Downtime({"crashed": [(0.010, 50.0)]})), Hardware()]
    emulation = emulate(
        Stream(), BOTH, medium={"kind": "half-duplex", "ack": ACK}, link=one_way(0.0, 1.0), hardware=hardware,
        sink=records.append, record=lambda device, metric, value: heard.append(value), until=40,
    )  # fmt: skip
    (record,) = records
    air = 8 * record.size / 250e3
    assert record.verdict.cause == ""
    assert heard == [record.verdict.arrival] == [pytest.approx(air)]
    assert not record.verdict.acknowledged
    assert record.verdict.packets == 4
    assert record.verdict.air_seconds < 0.010
    assert emulation.trace.delivered == 1


def test_a_message_that_has_arrived_when_the_run_ends_has_arrived() -> None:
    emulation = emulate(
        Stream(), BOTH, medium={"kind": "half-duplex", "ack": ACK}, link=one_way(0.0, 1.0), until=0.01
    )  # fmt: skip
    assert emulation.trace.delivered == 1
    assert not emulation.transport.in_flight()


def test_a_message_in_fragments_arrives_with_the_last_that_it_lacks() -> None:
    cell = Cell(
        {"kind": "half-duplex", "ack": ACK}, 2, link={"rate": "8 kbit/s", "mtu": "100 B", "arq": {"retries": 3}}
    )
    cell.offer(0.0, 0, [1], 300)
    (outcome,) = cell.run().outcomes
    assert outcome.verdict.arrival == pytest.approx(3 * 0.1 + 2 * 0.6e-3)
    assert outcome.decided == pytest.approx(3 * (0.1 + 0.6e-3))


def test_parity_that_is_not_needed_delays_nothing() -> None:
    """Three packets and two of parity: without loss a message is there after three, with two lost after all five."""
    link = {"rate": "8 kbit/s", "mtu": "100 B", "fec": {"data": 3, "parity": 2}}
    cell = Cell({"kind": "aloha"}, 2, link=link)
    cell.offer(0.0, 0, [1], 300)
    (outcome,) = cell.run().outcomes
    assert (outcome.verdict.arrival, outcome.decided) == (pytest.approx(0.3), pytest.approx(0.5))
    cell = Cell({"kind": "aloha"}, 2, link={**link, "loss": "40 %"}, seed=4)
    for k in range(400):
        cell.offer(10.0 * k, 0, [1], 300)
    after = np.round(cell.run().delays() / 0.1).astype(int)
    expected = [0.6**3, 3 * 0.4 * 0.6**3, 6 * 0.4**2 * 0.6**3]  # the third success comes with packet 3, 4, 5
    for packets, share in zip((3, 4, 5), expected, strict=True):
        assert np.sum(after == packets) / 400 == pytest.approx(share, abs=5 * np.sqrt(share * (1 - share) / 400))
