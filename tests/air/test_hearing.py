"""Who notices a transmission is asked for when it begins: with moves, contacts, turns of one-peer graphs and events."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from helpers.scenario_worlds import world_run

from p2pl_async import Device, Message, Protocol
from p2pl_async.air.hearing import GraphHearing
from p2pl_async.testing import Cell, emulate


@dataclass(frozen=True, slots=True)
class Word(Message, tag="hearing-word"):
    text: str


class Pairs(Protocol):
    """Devices 0 and 2 send to 1 and 3, at the same instants."""

    kind: str = "pairs"
    frames: int = 80
    gap: float = 1.0

    async def run(self, device: Device) -> None:
        for _ in range(self.frames if device.id % 2 == 0 else 0):
            device.send(device.id + 1, Word("x" * 60))
            await device.sleep(self.gap)


MEDIA: list[dict[str, Any]] = [
    {"kind": "aloha"}, {"kind": "csma-ca"}, {"kind": "dcf"}, {"kind": "ideal"}
]  # fmt: skip


@pytest.mark.parametrize("medium", MEDIA, ids=lambda medium: medium["kind"])
def test_pairs_far_apart_do_not_disturb_each_other_although_a_device_moves_once(medium) -> None:
    """A move makes every link possible; 50 km apart none of them is there at any instant."""
    tables = {
        "devices": {"count": 4},
        "topology": {"kind": "in-range"},
        "radio": {"positions": [["0 m", "0 m"], ["9 m", "0 m"], ["50 km", "0 m"], ["50009 m", "0 m"]]},
        "link": {"rate": "250 kbit/s"},
        "medium": medium,
        "event": [{"kind": "move", "at": "79 s", "devices": [0], "to": ["0.001 m", "0 m"]}],
    }
    emulation = world_run(tables, Pairs(), until=90)
    fates = emulation.transport.paths()
    assert sum(path.delivered for path in fates) == 160
    if medium["kind"] in ("aloha", "ideal"):  # nobody waits: air time, and 9 m of way
        assert len({round(path.delay / 80, 9) for path in fates}) == 1


def test_a_contact_disturbs_from_its_beginning_on(tmp_path) -> None:
    """Link 2 -> 1 first comes up at 100 s: until then the two pairs don't meet, from then on all of 0's messages do."""
    path = tmp_path / "contacts.csv"
    path.write_text("t,src,dst,change\n0,0,1,up\n0,2,3,up\n100,2,1,up\n")
    tables = {
        "devices": {"count": 4},
        "topology": {"kind": "trace", "path": str(path), "directed": True},
        "link": {"rate": "250 kbit/s"},
        "medium": {"kind": "aloha"},
    }
    for frames, delivered, collided in ((80, 160, 0), (120, 220, 20)):
        emulation = world_run(tables, Pairs(frames=frames), until=300)
        assert emulation.trace.delivered == delivered
        assert emulation.trace.counts.lost["collision"] == collided


class Turns(Protocol):
    """Devices 0 and 2 send to the device whose turn it is, at once."""

    kind: str = "turns"

    async def run(self, device: Device) -> None:
        for _ in range(4):
            if device.id in (0, 2):
                device.broadcast(Word("x" * 60))
            await device.sleep(1)
            device.finish_round(np.zeros(1, np.float32))


@pytest.mark.parametrize("every", ["round", "1 s"])
def test_only_those_whose_turn_it_is_hear_each_other(every) -> None:
    """In a one-peer graph a device hears one other at a time, so no frame collides; in its union all of them would.

    In turn 1, 0 sends to 2, who transmits.
    """
    tables = {
        "devices": {"count": 5},
        "topology": {"kind": "one-peer-exponential", "every": every},
        "link": {"rate": "250 kbit/s"},
        "medium": {"kind": "aloha", "collision": "overlap"},
    }
    emulation = world_run(tables, Turns(), until=10)
    assert emulation.trace.counts.lost == {"half-duplex": 1}
    assert emulation.trace.delivered == 7


def test_devices_that_an_event_has_parted_do_not_hear_each_other() -> None:
    tables = {
        "devices": {"count": 4},
        "topology": {"kind": "complete"},
        "link": {"rate": "250 kbit/s"},
        "medium": {"kind": "aloha"},
        "event": [
            {"kind": "partition", "at": "10 s", "groups": [[0, 1]]},
            {"kind": "heal", "at": "20 s"},
        ],
    }
    emulation = world_run(tables, Pairs(frames=30), until=40)
    assert emulation.trace.counts.lost == {"collision": 2 * 20}


def test_the_receivers_of_a_frame_hear_it_whatever_the_graph() -> None:
    """An acknowledgment goes back where there may be no link."""
    hearing = GraphHearing([[1], [2], [0]])
    assert hearing.audience(1, 0.0).ids == {2}
    assert hearing.audience(1, 0.0, [0]).ids == {0, 2}
    assert np.flatnonzero(hearing.audience(1, 0.0, [0]).mask).tolist() == [0, 2]


def test_a_device_that_counts_down_does_not_transmit_into_its_own_acknowledgment() -> None:
    """802.11: its own ACK, too, freezes the countdown, and an idle DIFS follows it."""
    medium = {"kind": "dcf", "ack": {"size": "14 B", "airtime": "44 us", "delay": "16 us"}}
    cell = Cell(medium, 2, link={"rate": "6 Mbit/s", "arq": {"retries": 7}}, seed=3)
    for k in range(400):
        cell.offer(0.01 * k, 0, [1], 500)
        cell.offer(0.01 * k + 1e-4, 1, [0], 500)
    cell.run()
    stretches = sorted(cell.on_air)
    gaps = {
        round(1e6 * (start - before))
        for (_, before, first), (start, end, second) in pairwise(stretches)
        if first == second and start > before - 1e-9
    }
    assert min(gaps) >= 34


def test_a_device_that_crashes_is_silent_at_once() -> None:
    """Its frame of 8 s is cut off at 2 s; what others send from then on is not disturbed by it."""
    from p2pl_async.hardware.downtime import Downtime
    from p2pl_async.hardware.hardware import Hardware

    class Long(Protocol):
        kind: str = "long"

        async def run(self, device: Device) -> None:
            if device.id == 0:
                device.send(1, Word("x" * 990))
            if device.id == 2:
                await device.sleep(3)
                device.send(1, Word("y" * 90))
            await device.sleep(20)

    hardware = [Hardware(downtime=Downtime({"crashed": [(2.0, 5.0)]})), Hardware(), Hardware()]
    for medium, arrival in (({"kind": "aloha"}, 3.0), ({"kind": "csma-ca"}, 3.0), ({"kind": "dcf"}, 3.0)):
        records: list[Any] = []
        emulate(
            Long(), [[1, 2], [0, 2], [0, 1]], medium=medium, link={"rate": "1 kbit/s"}, hardware=hardware,
            sink=records.append, until=30,
        )  # fmt: skip
        fates = {record.src: record.verdict for record in records if record.sent < 4}
        assert fates[0].cause == "crashed"
        assert fates[0].air_seconds == pytest.approx(2.0, abs=0.01)
        assert arrival < fates[2].arrival < 5
