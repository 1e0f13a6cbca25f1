"""Settings of links on each medium: by each door, each of them changes what happens, or is refused."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from helpers.scenario_worlds import world_run
from pydantic import ValidationError

from p2pl_async import Device, Message, Protocol
from p2pl_async.link import LinkSettings


@dataclass(frozen=True, slots=True)
class Word(Message, tag="medium-word"):
    text: str


class Talk(Protocol):
    """Everyone sends to one neighbor, and then to all, at random instants; more than a queue of three holds."""

    kind: str = "talk"

    async def run(self, device: Device) -> None:
        for _ in range(8):
            await device.sleep(0.1 + float(device.random.exponential(0.1)))
            for _ in range(2):
                device.send(device.out_neighbors[0], Word("x" * 300))
            device.broadcast(Word("y" * 80))


LINK: dict[str, Any] = {
    "rate": "250 kbit/s", "mtu": "133 B", "header": "5 B", "loss": "15 %", "corrupt": "5 %",
    "latency": {"kind": "uniform", "low": "0 ms", "high": "300 ms"}, "arq": {"retries": 2},
}  # fmt: skip
ACK = {"size": "11 B", "airtime": "352 us", "delay": "192 us"}
MEDIA: dict[str, dict[str, Any]] = {
    "dedicated": {"kind": "dedicated"},
    "half-duplex": {"kind": "half-duplex"},
    "ideal": {"kind": "ideal", "ack": ACK},
    "csma-ca": {"kind": "csma-ca", "ack": ACK},
    "dcf": {"kind": "dcf", "ack": ACK},
    "aloha": {"kind": "aloha", "backoff": "20 ms"},
    "channels": {"kind": "csma-ca", "channels": {"count": 2, "own": "by-id"}, "ack": ACK},
    "ble-connections": {"kind": "ble-connections", "interval": "50 ms", "ack": ACK},
    "ble-advertising": {"kind": "ble-advertising", "interval": "40 ms", "events": 2, "channels": 1},
    "tsch": {"kind": "tsch", "slotframe": 3, "slot": "30 ms", "cells": "sender-based", "ack": ACK},
    "tdma": {"kind": "tdma", "slot": "30 ms", "ack": ACK},
    "nr-mode2": {"kind": "nr-mode2", "slot": "24 ms", "period": "240 ms", "reservations": 5},
}
UNACKNOWLEDGED = {"ble-advertising"}
FADE = {"kind": "schedule", "steps": [["0 s", "250 kbit/s"], ["0.3 s", "50 kbit/s"]]}
SLEEP = {"kind": "duty-cycle", "awake": "30 ms", "period": "100 ms"}
CHANGES: dict[str, dict[str, Any]] = {
    "latency": {"latency": {"kind": "uniform", "low": "5 ms", "high": "90 ms"}},
    "loss": {"loss": "40 %"},
    "rate": {"rate": "60 kbit/s"},
    "rate, unlimited": {"rate": "unlimited"},
    "rate, over time": {"rate": FADE},
    "queue": {"queue": {"messages": 1}},
    "queue, head": {"queue": {"messages": 1, "drop": "head"}},
    "queue, lifetime": {"queue": {"lifetime": "5 ms"}},
    "mtu": {"mtu": "90 B"},
    "header": {"header": "25 B"},
    "arq": {"arq": "none"},
    "arq.retries": {"arq": {"retries": 5}},
    "arq.turnaround": {"arq": {"retries": 2, "turnaround": "3 ms"}},
    "arq.kind": {"arq": {"retries": 2, "kind": "go-back-n", "window": 3}},
    "arq.kind, selective": {"arq": {"retries": 2, "kind": "selective-repeat", "window": 3}},
    "arq.ack_loss": {"arq": {"retries": 2, "ack_loss": "30 %"}},
    "arq.backoff": {"arq": {"retries": 2, "backoff": "4 ms"}},
    "arq.growth": {"arq": {"retries": 2, "backoff": "4 ms", "growth": 2.0}},
    "arq.timeout": {"arq": {"retries": 2, "timeout": "1 ms"}},
    "fec": {"arq": "none", "fec": {"data": 2, "parity": 1}},
    "outage": {"outage": SLEEP},
    "outage.when_off": {"outage": {**SLEEP, "when_off": "hold"}},
    "order": {"order": "free"},
    "duplicate": {"duplicate": "50 %"},
    "corrupt": {"corrupt": "40 %"},
    "deliver_corrupted": {"deliver_corrupted": True},
}


def test_every_key_of_a_link_is_tried() -> None:
    assert {key.partition(",")[0].partition(".")[0] for key in CHANGES} == set(LinkSettings.model_fields)


def link_on(medium: str) -> dict[str, Any]:
    return {**LINK, "arq": "none"} if medium in UNACKNOWLEDGED else LINK


def digest(medium: str, more: dict[str, Any]) -> str:
    link = link_on(medium)
    tables = {"devices": {"count": 3}, "topology": {"kind": "ring"}, "link": link, "medium": MEDIA[medium], **more}
    return world_run(tables, Talk(), until=30).trace.digest()


@functools.cache
def unchanged(medium: str) -> str:
    return digest(medium, {})


DOORS: dict[str, Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]] = {
    "link": lambda link, change: {"link": {**link, **change}},
    "override": lambda link, change: {"link": {**link, "override": [{"from": "*", "to": "*", **change}]}},
    "event": lambda link, change: {"event": [{"kind": "set", "at": "0.1 s", "link": change}]},
}
CASES = [(key, medium) for key in CHANGES for medium in MEDIA if key != "arq" or medium not in UNACKNOWLEDGED]


@pytest.mark.parametrize(("key", "medium"), CASES)
def test_each_setting_changes_what_happens_or_is_refused_whoever_sets_it(key: str, medium: str) -> None:
    outcomes = {}
    for door, table in DOORS.items():
        try:
            outcomes[door] = (
                "changes" if digest(medium, table(link_on(medium), CHANGES[key])) != unchanged(medium) else "no effect"
            )
        except ValidationError as error:
            named = key.partition(",")[0].partition(".")[0] in str(error)
            outcomes[door] = "refused" if named else f"refused for another reason: {error}"
    assert set(outcomes.values()) in ({"changes"}, {"refused"}), outcomes


@pytest.mark.parametrize("medium", ["dedicated", "csma-ca"])
@pytest.mark.parametrize("key", CHANGES)
def test_links_of_an_air_by_name_pass_the_same_door(key: str, medium: str) -> None:
    def outcome(medium: str, change: dict[str, Any]) -> str:
        near = {"link": {**LINK, **change}, "medium": MEDIA[medium]}
        group = {"all": {"ids": "*", "airs": ["near"]}}
        try:
            return digest("dedicated", {"devices": {"count": 3, "group": group}, "air": {"near": near}})
        except ValidationError:
            return "refused"

    try:
        digest(medium, DOORS["link"](LINK, CHANGES[key]))
        refused = False
    except ValidationError:
        refused = True
    found = outcome(medium, CHANGES[key])
    assert (found == "refused") == refused
    assert found != outcome(medium, {})


def test_a_trace_of_links_passes_the_same_door(tmp_path) -> None:
    path = tmp_path / "links.csv"
    path.write_text("t,src,dst,change\n0,0,1,up\n0,1,0,up\n1,0,1,arq.ack_loss=5 %\n")
    tables = {"devices": {"count": 2}, "topology": {"kind": "trace", "path": str(path)}, "link": LINK}
    world_run(tables, Talk(), until=5)
    with pytest.raises(ValidationError, match=r"line 4: \"arq.ack_loss=5 %\": is for dedicated links"):
        world_run({**tables, "medium": MEDIA["aloha"]}, Talk(), until=5)
