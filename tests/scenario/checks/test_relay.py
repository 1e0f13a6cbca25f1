"""Scenarios whose devices pass messages on: what they say, what can't be, and what a user is told."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.small_worlds import merged
from helpers.speakers import Speakers
from pydantic import ValidationError

from p2pl_async.experiment import running as experiment
from p2pl_async.experiment.probing import probe_link
from p2pl_async.relay import Relay
from p2pl_async.scenario.building.explain import explain_ways
from p2pl_async.scenario.building.world import build_world
from p2pl_async.scenario.scenario import Scenario

BASE: dict[str, Any] = {
    "devices": {"count": 6},
    "topology": "ring",
    "relay": {"kind": "shortest-path", "over": "path"},
    "link": {"rate": "1 Mbit/s", "mtu": "500 B"},
    "protocol": Speakers(),
    "stop": {"virtual_time": "3 s"},
}
RADIO = {"phy": "802.15.4", "shadowing": "none", "area": ["800 m", "1 m"]}
WALK = {"kind": "random-waypoint", "speed": ["5 m/s", "20 m/s"]}


def scenario(**changes: Any) -> Scenario:
    return Scenario.model_validate(merged(BASE, changes))


def trace(**changes: Any) -> str:
    found = experiment.run(scenario(**changes), trace=True).trace
    assert found is not None
    return str(found.to_csv())


CHANGES: dict[str, Any] = {
    "kind": {"kind": "flooding", "over": "path"},
    "over": {"over": "ring"},
    "hops": {"hops": 3},
    "header": {"header": "20 B"},
}


@pytest.mark.parametrize("medium", ["dedicated", "csma-ca", "ideal", "half-duplex"])
@pytest.mark.parametrize("key", CHANGES)
def test_each_key_changes_what_happens(key: str, medium: str) -> None:
    assert trace(medium=medium, relay=CHANGES[key]) != trace(medium=medium)


def test_every_key_is_tried() -> None:
    assert set(CHANGES) == set(Relay.model_fields)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"topology": "in-range", "radio": RADIO}, r'is for direct links: write \[relay\] over = "in-range"'),
        ({"relay": {"over": "in-range"}}, r"needs \[radio\]"),
        ({"relay": {"over": "rotating-rings"}}, r'can\'t be "rotating-rings"'),
        ({"relay": {"over": {"kind": "grid", "rows": 5, "columns": 5}}}, "grid"),
        ({"relay": {"hops": 0}}, "greater than or equal to 1"),
        (
            {"relay": {"over": "in-range"}, "radio": RADIO, "mobility": WALK},
            'needs direct links that stay, and these come and go; write kind = "flooding"',
        ),
        (
            {
                "relay": {"over": "in-range"},
                "radio": RADIO,
                "event": [{"kind": "move", "at": "1 s", "devices": 1, "to": ["0 m", "0 m"]}],
            },
            "needs direct links that stay",
        ),
    ],
)
def test_what_relays_cannot_do_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        scenario(**changes)


def test_in_range_links_carry_the_messages_of_another_graph_over_the_places_of_the_relay() -> None:
    world = build_world(scenario(relay={"over": "in-range"}, radio=RADIO, seed=4))
    assert [len(out) for out in world.out_neighbors] == [2] * 6
    assert sorted(world.direct.graph.edges) != sorted(world.graph.edges)
    assert world.propagation is not None


def test_ways_that_are_too_long_are_told() -> None:
    world = build_world(scenario(relay={"hops": 4}))
    assert (
        world.warnings[-1]
        == "messages of 2 of 12 links can't arrive, not within 4 hops (relay.hops): from 0 to 5, 5 to 0"
    )
    assert explain_ways(world) == ["messages go over 10 direct links: 1.7 hops on average, 5 at most"]


def test_probe_tells_the_way_and_the_hop_that_loses() -> None:
    found = probe_link(build_world(scenario(link={"loss": "20 %"})), 0, 5, size=100, count=200)
    assert list(found.ways) == ["0-1-2-3-4-5"]
    assert set(found.lost_hops) == {"0-1", "1-2", "2-3", "3-4", "4-5"}
    assert found.loss == pytest.approx(1 - 0.8**5, abs=0.12)


def test_the_trace_has_hops_and_path_and_the_links_are_the_direct_ones() -> None:
    run = experiment.run(scenario(link={"loss": "10 %"}), trace=True)
    trace, links = run.trace, run.links
    assert trace is not None
    assert set(trace.hops) >= {1, 5}
    assert all(len(path.split("-")) == hops + 1 for path, hops in zip(trace.path, trace.hops, strict=True))
    assert {(src, dst) for src, dst in zip(links.src, links.dst, strict=True)} == {
        (a, b) for a in range(6) for b in (a - 1, a + 1) if 0 <= b < 6
    }
    assert links.sent.sum() > len(trace)


def test_a_flood_finds_ways_over_devices_that_move() -> None:
    tables = {"relay": {"kind": "flooding", "over": "in-range"}, "radio": {**RADIO, "area": "400 m"}}
    run = experiment.run(scenario(**tables, mobility=WALK, stop={"virtual_time": "60 s"}), trace=True)
    assert run.trace is not None
    ways = run.trace[(run.trace.src == 0) & (run.trace.dst == 1) & (run.trace.fate == "delivered")].path
    assert ways.nunique() > 1
