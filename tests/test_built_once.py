"""A run makes each part of its world once: the order of events, the table of links, the devices' conditions.

Reading a scenario checks it with an order of events and matches of its own; those are not counted,
as nothing is kept from them.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from p2pl_async import load_scenario, run
from p2pl_async.scenario.building.device_conditions import DeviceConditions
from p2pl_async.scenario.building.link_table import LinkTable
from p2pl_async.scenario.events_in_order import EventsInOrder
from p2pl_async.scenario.link_matches import LinkMatches

WEATHER = Path(__file__).parents[1] / "scenarios" / "weather.toml"
PARTS = (EventsInOrder, LinkTable, LinkMatches, DeviceConditions)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the objects of each class in `PARTS` from now on."""
    counts: Counter[str] = Counter()
    for cls in PARTS:

        def init(self: Any, *args: Any, make: Any = cls.__init__, name: str = cls.__name__, **how: Any) -> None:
            counts[name] += 1
            make(self, *args, **how)

        monkeypatch.setattr(cls, "__init__", init)
    return counts


@pytest.mark.parametrize("baselines", ["", "baselines.local=true"])
def test_a_run_and_its_baseline_build_each_part_once(made: Counter[str], baselines: str) -> None:
    scenario = load_scenario(WEATHER, ['stop.virtual_time="1 s"', *filter(None, [baselines])])
    assert scenario.event
    made.clear()
    run(scenario)
    assert made == {cls.__name__: 1 for cls in PARTS}


def test_loading_matches_links_once_for_all_checks(made: Counter[str]) -> None:
    load_scenario(WEATHER)
    assert made[LinkMatches.__name__] == 1
