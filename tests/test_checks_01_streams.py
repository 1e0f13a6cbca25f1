"""One random stream per purpose and owner: what changes in one place moves no draw anywhere else.

Whole runs: devices that say something at fixed instants, and every record of every message.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from p2pl_async.device import Device
from p2pl_async.link import LinkSettings
from p2pl_async.messages import Message
from p2pl_async.protocols.base import Protocol
from p2pl_async.testing import complete, emulate, ring
from p2pl_async.trace import Record

SENDS = 40

EVERYTHING: dict[str, Any] = {
    "latency": {"kind": "gamma", "mean": "20 ms", "sd": "10 ms", "correlation": "300 ms"},
    "loss": {"kind": "gilbert-elliott", "good": "2 s", "bad": "500 ms", "loss_good": "5 %"},
    "rate": "1 Mbit/s",
    "mtu": "200 B",
    "arq": {"retries": 1},
    "outage": {"kind": "on-off", "up": "3 s", "down": "500 ms"},
    "duplicate": "10 %",
    "order": "free",
}
CHANGES: list[dict[str, Any]] = [
    {"latency": "5 ms"},
    {"latency": {"kind": "empirical", "samples": ["5 ms", "9 ms", "50 ms"]}},
    {"loss": "none"},
    {"loss": "90 %"},
    {"loss": {"kind": "gilbert-packets", "loss": "20 %", "burst": 3}},
    {"loss": {"kind": "four-state", "p13": "5 %", "p31": "30 %", "p14": "1 %"}},
    {"loss": {"kind": "burst-error", "rate": "10 %"}},
    {"rate": {"kind": "schedule", "steps": [["0 s", "1 Mbit/s"], ["2 s", "100 kbit/s"]]}},
    {"arq": "none", "mtu": "unlimited"},
    {"outage": "none"},
    {"outage": {"kind": "on-off", "up": {"kind": "weibull", "mean": "3 s", "shape": 0.5}, "down": "1 s"}},
    {"outage": {"kind": "duty-cycle", "awake": "200 ms", "period": "1 s", "when_off": "hold"}},
    {"duplicate": "0 %"},
]


@dataclass(frozen=True, slots=True)
class Words(Message, tag="words-of-streams"):
    """Something to say."""

    text: str


class Talk(Protocol):
    """Says something at fixed instants, short and long in turn, and listens to nothing."""

    kind: str = "talk"
    trains = False

    async def run(self, device: Device) -> None:
        for i in range(SENDS):
            device.broadcast(Words("x" * (40 if i % 2 else 900)))
            await device.sleep(0.37)


def records(
    n: int, neighbors: Any = ring, link: Callable[[int, int], LinkSettings] | None = None
) -> dict[Any, list[Record]]:
    """Return (src, dst) -> the records of its messages."""
    found: list[Record] = []
    usual = LinkSettings.model_validate(EVERYTHING)
    emulate(Talk(), neighbors(n), link=link or (lambda src, dst: usual), seed=7, until=60, sink=found.append)
    links = defaultdict(list)
    for record in found:
        links[record.src, record.dst].append(record)
    return links


def test_a_run_has_every_kind_of_fate() -> None:
    """Else the tests below would prove nothing."""
    fates = [record for link in records(5).values() for record in link]
    assert len(fates) == 10 * SENDS
    assert {record.cause for record in fates} >= {"", "retries"}
    assert any(record.copy < float("inf") for record in fates)
    assert len({record.arrival - record.sent for record in fates if not record.cause}) > SENDS


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_another_model_on_one_link_changes_no_other_link(change: dict[str, Any]) -> None:
    usual, other = (LinkSettings.model_validate(table) for table in (EVERYTHING, {**EVERYTHING, **change}))
    before = records(5)
    after = records(5, link=lambda src, dst: other if (src, dst) == (1, 2) else usual)
    assert after.keys() == before.keys()
    for link in before:
        assert (after[link] == before[link]) == (link != (1, 2))


def test_more_devices_change_no_link_that_was_there() -> None:
    before, after = records(4, complete), records(6, complete)
    assert len(after) == 30
    assert len(before) == 12
    assert all(after[link] == before[link] for link in before)


def test_more_links_change_no_link_that_was_there() -> None:
    before, after = records(6, ring), records(6, complete)
    assert len(after) > len(before)
    assert all(after[link] == before[link] for link in before)
