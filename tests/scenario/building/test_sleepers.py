"""Radios that sleep in turns: pairs that are never awake together are named, and what is sent between them is lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from helpers.scenario_worlds import LEAST, world_run

from p2pl_async import Device, Message, Protocol
from p2pl_async.link import LinkSettings
from p2pl_async.link.outage import DutyCycle
from p2pl_async.scenario.building.world import build_world
from p2pl_async.scenario.scenario import Scenario

SLEEP = {"kind": "duty-cycle", "awake": "3 s", "period": "10 s", "of": "device", "when_off": "hold"}


@dataclass(frozen=True, slots=True)
class Word(Message, tag="sleepers-word"):
    text: str


def tables(**sleep: Any) -> dict[str, Any]:
    return {
        "seed": 4,
        "devices": {"count": 8},
        "topology": {"kind": "complete"},
        "link": {"rate": "1 Mbit/s", "outage": {**SLEEP, **sleep}},
    }


def test_never_is_when_no_moment_of_a_period_has_both_awake() -> None:
    outage = LinkSettings.model_validate(tables()["link"]).outage
    assert isinstance(outage, DutyCycle)
    instants = np.arange(0, 10, 0.001)
    for src in range(8):
        for dst in range(8):
            awake = [(instants - outage.wakes(4, device)) % 10 < 3 for device in (src, dst)]
            if src != dst:
                assert outage.never_up(4, src, dst) == (not np.any(awake[0] & awake[1]))


def test_check_names_the_pairs() -> None:
    scenario = Scenario.model_validate({**LEAST, **tables()})
    outage = scenario.link.outage
    assert isinstance(outage, DutyCycle)
    never = [(a, b) for a in range(8) for b in range(a) if outage.never_up(4, a, b)]
    assert never
    (warning,) = [text for text in build_world(scenario, learns=False).warnings if "never awake together" in text]
    first = min((min(pair), max(pair)) for pair in never)
    assert f"devices {first[0]} and {first[1]}" in warning
    assert "awake 3 s of every 10 s" in warning
    awake = Scenario.model_validate({**LEAST, **tables(phase="0 s")})
    assert not any("never awake" in text for text in build_world(awake, learns=False).warnings)


def test_a_message_between_them_never_leaves_and_the_run_ends() -> None:
    class Each(Protocol):
        kind: str = "each"

        async def run(self, device: Device) -> None:
            device.broadcast(Word("x"))
            await device.sleep(100)

    emulation = world_run(tables(), Each(), until=90)
    assert emulation.trace.counts.lost["outage"] > 0
    assert emulation.trace.delivered > 0
