"""Messages over several hops, against closed forms: their fates, delays and costs, and what passes nothing on."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest

from p2pl_async import Device, Message, Protocol
from p2pl_async.hardware.downtime import Downtime
from p2pl_async.hardware.hardware import Hardware
from p2pl_async.relay import Flood, ShortestPaths
from p2pl_async.testing import emulate
from p2pl_async.trace import Record
from p2pl_async.transport.relaying import Relaying

LINE = [[1], [0, 2], [1, 3], [2]]
DIAMOND = [[1, 2], [3], [3], []]
CSMA = {"kind": "csma-ca"}


@dataclass(frozen=True, slots=True)
class Note(Message, tag="relay-note"):
    body: bytes


class Tell(Protocol):
    """Device 0 tells its neighbors, once a second."""

    kind: str = "relay-tell"
    trains = False
    count: int = 1

    async def run(self, device: Device) -> None:
        for _ in range(self.count if device.id == 0 else 0):
            device.broadcast(Note(b"abc"))
            await device.sleep(1.0)
        device.passive = True
        while True:
            await device.receive(Note)


def relayed(
    direct: list[list[int]],
    to: list[int],
    *,
    flood: bool = False,
    hops: int = 16,
    header: int = 0,
    count: int = 1,
    **how: Any,
) -> tuple[list[Record], Any]:
    """What becomes of messages from device 0 over these links."""
    routes = Flood(direct, hops, None) if flood else ShortestPaths(direct, hops)
    records: list[Record] = []
    neighbors = [to, *[[] for _ in direct[1:]]]
    emulation = emulate(
        Tell(count=count), neighbors, relaying=Relaying(direct, routes, header), sink=records.append, **how
    )
    return records, emulation


@pytest.mark.parametrize("medium", [None, {"kind": "ideal"}, CSMA, {"kind": "half-duplex"}])
def test_a_message_arrives_over_each_device_of_its_way(medium: dict[str, Any] | None) -> None:
    (record,), emulation = relayed(LINE, [3], medium=medium, link={"rate": "1 Mbit/s"})
    assert record.verdict.path == (0, 1, 2, 3)
    assert record.verdict.packets == 3
    assert emulation.trace.delivered == 1


def test_delay_bytes_and_air_time_are_those_of_all_hops_headers_included() -> None:
    link = {"rate": "8 kbit/s", "latency": "7 ms"}
    (record,), _ = relayed(LINE, [3], header=5, link=link)
    size = record.size + 5
    assert record.verdict.arrival == pytest.approx(3 * (size * 1e-3 + 7e-3))
    assert record.verdict.air_bytes == 3 * size
    assert record.verdict.air_seconds == pytest.approx(3 * size * 1e-3)


def test_of_messages_over_h_lossy_hops_each_hop_lets_its_share_through() -> None:
    records, _ = relayed(LINE, [3], count=4000, link={"loss": "20 %"})
    lost = Counter(len(record.verdict.path) - 1 for record in records if record.verdict.cause == "loss")
    for hop, share in enumerate((0.2, 0.16, 0.128), start=1):
        assert lost[hop] / 4000 == pytest.approx(share, abs=5 * math.sqrt(share / 4000))
    assert sum(lost.values()) / 4000 == pytest.approx(1 - 0.8**3, abs=5 * math.sqrt(0.25 / 4000))


def test_a_flood_arrives_if_any_way_is_whole() -> None:
    records, _ = relayed(DIAMOND, [3], flood=True, count=4000, link={"loss": "40 %"})
    delivered = sum(not record.verdict.cause for record in records) / 4000
    assert delivered == pytest.approx(1 - (1 - 0.6**2) ** 2, abs=5 * math.sqrt(0.25 / 4000))


def test_every_device_sends_a_flooded_message_once_however_many_bring_it() -> None:
    everyone = [[j for j in range(6) if j != k] for k in range(6)]
    records, emulation = relayed(everyone, [1, 2, 3, 4, 5], flood=True, medium=CSMA, link={"rate": "1 Mbit/s"})
    assert sum(record.verdict.packets for record in records) == 6
    assert [sender.seconds > 0 for sender in emulation.transport.air.senders] == [True] * 6


def test_neighbors_on_one_way_share_its_hops() -> None:
    records, _ = relayed(LINE, [1, 2, 3], link={"rate": "8 kbit/s"})
    assert [record.verdict.path for record in records] == [(0, 1), (0, 1, 2), (0, 1, 2, 3)]
    assert [record.verdict.packets for record in records] == [3, 0, 0]


def test_a_device_that_is_down_passes_nothing_on() -> None:
    def hardware() -> list[Hardware]:
        return [Hardware(), Hardware(), Hardware(downtime=Downtime({"crashed": [(0.5, 1.5)]})), Hardware()]

    records, _ = relayed(LINE, [3], count=3, hardware=hardware())
    assert [(record.verdict.cause, record.verdict.path) for record in records] == [
        ("", (0, 1, 2, 3)),
        ("crashed", (0, 1, 2)),
        ("", (0, 1, 2, 3)),
    ]


def test_a_message_without_a_way_or_with_too_many_hops_is_lost_before_it_is_sent() -> None:
    for direct, hops in (([*LINE[:3], []], 2), ([[1], [0], [], []], 16)):
        (record,), _ = relayed(direct, [3], hops=hops)
        assert (record.verdict.cause, record.verdict.packets) == ("no-route", 0)
    (record,), _ = relayed(LINE, [3], hops=2, flood=True)
    assert record.verdict.cause == "no-route"


def test_a_second_copy_is_not_passed_on() -> None:
    records, emulation = relayed(LINE, [3], count=50, link={"duplicate": "100 %", "latency": "1 ms"})
    assert emulation.trace.delivered == len(records) == 50
    assert sum(record.verdict.packets for record in records) == 150


def test_what_is_spoiled_on_a_hop_arrives_spoiled() -> None:
    records, emulation = relayed(
        LINE, [3], count=2000, link={"corrupt": "20 %", "deliver_corrupted": True, "mtu": "1 kB"}
    )
    spoiled = sum(record.verdict.corrupted for record in records) / 2000
    assert spoiled == pytest.approx(1 - 0.8**3, abs=5 * math.sqrt(0.25 / 2000))
    assert emulation.trace.corrupted == round(2000 * spoiled)


@pytest.mark.parametrize(("flood", "medium"), [(flood, medium) for flood in (False, True) for medium in (None, CSMA)])
def test_what_is_under_way_as_a_run_ends_is_in_flight(flood: bool, medium: dict[str, Any] | None) -> None:
    records, emulation = relayed(
        LINE, [3], flood=flood, medium=medium, link={"rate": "8 kbit/s", "latency": "1 s"}, until=1.2
    )
    assert [record.verdict.arrival for record in records] == [math.inf] * len(records)
    assert emulation.transport.in_flight() == {(0, 3, record.number) for record in records}
    assert emulation.trace.counts.n_lost == 0


def test_a_crash_cuts_off_what_is_being_passed_on_over_shared_air() -> None:
    (record,), _ = relayed(LINE, [3], medium=CSMA, link={"rate": "1 kbit/s"}, until=20)
    last_hop = record.verdict.arrival - 0.02
    hardware = [Hardware(), Hardware(), Hardware(downtime=Downtime({"crashed": [(last_hop, 9.0)]})), Hardware()]
    (record,), _ = relayed(LINE, [3], medium=CSMA, link={"rate": "1 kbit/s"}, hardware=hardware, until=20)
    assert (record.verdict.cause, record.verdict.path) == ("crashed", (0, 1, 2, 3))
