"""Inboxes are bounded: by a limit, and by the end of their device's protocol."""

from __future__ import annotations

from dataclasses import dataclass

from p2pl_async import Device, Message, Protocol, run
from p2pl_async.scenario.scenario import Scenario
from p2pl_async.testing import emulate
from p2pl_async.transport.inbox import Inbox


@dataclass(frozen=True, slots=True)
class Note(Message, tag="test-inbox-note"):
    """A number."""

    value: int


class Chatter(Protocol):
    """Device 0 sends a note each second and never reads; device 1 ends at once, or sleeps and reads at the end."""

    trains = False
    kind: str = "chatter"
    reads: bool = False
    notes: int = 10

    async def run(self, device: Device) -> None:
        """Run the protocol on one device."""
        if device.id == 0:
            for value in range(self.notes):
                device.broadcast(Note(value))
                await device.sleep(1.0)
        elif self.reads:
            await device.sleep(self.notes + 1.0)
            device.record("lead", float(sum(1 for _ in iter(lambda: device.receive_nowait(Note), None))))


def test_an_inbox_with_a_limit_keeps_the_first_messages_and_refuses_others() -> None:
    inbox = Inbox(2)
    assert [inbox.put(Note(value)) for value in range(3)] == [True, True, False]
    assert inbox.take_nowait(Note) == Note(0)
    assert inbox.put(Note(3))
    assert [inbox.take_nowait(Note) for _ in range(2)] == [Note(1), Note(3)]


def test_the_inbox_of_a_device_whose_protocol_has_ended_stays_empty() -> None:
    emulation = emulate(Chatter(), [[1], []])
    assert emulation.trace.delivered == 10
    assert len(emulation.transport.inbox(1)) == 0


def test_the_inbox_of_a_scenario_drops_what_arrives_at_a_full_one_and_counts_it() -> None:
    table = {
        "name": "slow reader",
        "devices": {"count": 2, "inbox": 4},
        "topology": "complete",
        "stop": {"virtual_time": "1 min"},
        "protocol": {"kind": f"{__file__}:Chatter", "reads": True},
    }
    result = run(Scenario.model_validate(table))
    assert result.summary["messages"]["delivered"] == 10
    assert result.summary["messages"]["unread"] == 6
