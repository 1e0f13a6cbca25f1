"""Groups with places of their own: listed, drawn in an area, or roaming it, while others stay elsewhere."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from helpers.small_worlds import merged
from helpers.speakers import Speakers
from numpy.typing import NDArray
from pydantic import ValidationError

from p2pl_async.experiment import running as experiment
from p2pl_async.scenario.building.layout import lay_out
from p2pl_async.scenario.scenario import Scenario

WALK = {"kind": "random-waypoint", "speed": ["1 m/s", "2 m/s"]}
HALL = {"x": ["100 m", "150 m"], "y": ["20 m", "40 m"]}
BASE: dict[str, Any] = {
    "seed": 3,
    "devices": {"count": 9, "group": {"people": {"ids": "6-8", "area": HALL}}},
    "topology": "grid",
    "radio": {"area": "90 m"},
    "link": {"rate": "250 kbit/s"},
    "protocol": Speakers(),
    "stop": {"virtual_time": "5.5 s"},
}


def scenario(group: dict[str, Any] | None = None, **changes: Any) -> Scenario:
    table = merged(BASE, changes)
    if group is not None:
        table["devices"] = {**table["devices"], "group": {"people": {"ids": "6-8", **group}}}
    return Scenario.model_validate(table)


def places(found: Scenario, at: float = 0.0) -> NDArray[np.float64]:
    propagation = lay_out(found).propagation
    assert propagation is not None
    return np.array(propagation.motion.at(at)[0])


def test_a_group_is_drawn_in_its_area_and_the_others_are_where_the_topology_has_them() -> None:
    found = places(scenario())
    assert found[0].tolist() == [15, 15, 0]
    assert ((found[6:] >= (100, 20, 0)) & (found[6:] <= (150, 40, 0))).all()
    assert (found[:6, 0] < 90).all()
    assert not np.array_equal(places(scenario(seed=4))[6:], found[6:])


def test_places_in_an_area_are_uniform_and_another_device_moves_none_of_them() -> None:
    def drawn(count: int) -> NDArray[np.float64]:
        devices = {"count": count, "group": {"all": {"ids": "*", "area": HALL}}}
        return places(Scenario.model_validate({**BASE, "devices": devices, "topology": "ring", "radio": {}}))

    found = drawn(300)
    for axis, low, length in ((0, 100, 50), (1, 20, 20)):
        shares = np.sort((found[:, axis] - low) / length)
        assert np.max(np.abs(shares - np.arange(300) / 300)) * math.sqrt(300) < 1.63
    assert np.array_equal(drawn(301)[:300], found)


def test_positions_of_a_group_are_in_order_of_id() -> None:
    listed = [["1 m", "2 m"], ["3 m", "4 m", "5 m"], ["6 m", "7 m"]]
    assert places(scenario({"positions": listed}))[6:].tolist() == [[1, 2, 0], [3, 4, 5], [6, 7, 0]]


def test_a_group_walks_within_its_area_while_the_others_stay() -> None:
    found = scenario({"area": HALL, "mobility": WALK})
    tracks = np.array([places(found, float(at)) for at in range(0, 300, 3)])
    assert (tracks[:, :6] == tracks[0, :6]).all()
    people = tracks[:, 6:]
    assert ((people >= (100, 20, 0)) & (people <= (150, 40, 0))).all()
    assert np.ptp(people[:, 0, 0]) > 20


def test_a_group_without_an_area_walks_through_that_of_all() -> None:
    found = places(scenario({"mobility": WALK}), 50.0)
    assert (found[6:] <= 90).all()
    assert not np.array_equal(places(scenario({"mobility": WALK}), 51.0)[6:], found[6:])


def test_the_later_of_two_groups_places_a_device() -> None:
    groups = {"people": {"ids": "6-8", "area": HALL}, "guard": {"ids": 7, "positions": [["1 m", "2 m"]]}}
    found = places(scenario(devices={"count": 9, "group": groups}))
    assert found[7].tolist() == [1, 2, 0]
    assert (found[[6, 8], 0] >= 100).all()


def test_each_key_changes_a_run() -> None:
    listed = [[f"{k} km", "0 m"] for k in range(3)]
    tables: list[dict[str, Any]] = [
        {},
        {"area": HALL},
        {"positions": listed},
        {"mobility": {**WALK, "speed": ["50 m/s"] * 2}},
    ]
    digests = {experiment.run(scenario(group, stop={"virtual_time": "20.5 s"}), trace=True).summary["trace_digest"]
               for group in tables}  # fmt: skip
    assert len(digests) == len(tables)


@pytest.mark.parametrize(
    ("group", "changes", "path", "says"),
    [
        ({"positions": [["1 m", "2 m"]]}, {}, "devices.group.people.positions", "has 1 places, and the group has 3"),
        ({"positions": [["1 m", "2 m"]] * 3, "area": HALL}, {}, "devices.group.people", "only one of positions and"),
        ({"area": {**HALL, "x": ["9 m", "9 m"]}}, {}, "devices.group.people.area", "its smallest value, then"),
        ({"positions": [["1 m", "2 m"]] * 3, "mobility": WALK}, {}, "devices.group.people.positions", "places the dev"),
        ({"area": HALL}, {"radio": None}, "devices.group.people.area", "needs [radio]"),
        ({"mobility": WALK}, {"radio": {"area": None, "positions": [["1 m", "2 m"]] * 9}}, "radio.area", "roam"),
        ({"ids": "*", "area": HALL}, {}, "radio.area", "groups place all devices"),
        ({"ids": "*", "area": HALL}, {"radio": {"area": None, "positions": [["1 m", "2 m"]] * 9}}, "radio.positions",
         "groups place all devices"),
        ({"area": HALL}, {"topology": "ring"}, "radio", 'needs positions, which topology "ring" has not'),
    ],
)  # fmt: skip
def test_what_places_no_device_or_one_twice_is_refused(
    group: dict[str, Any], changes: dict[str, Any], path: str, says: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        scenario(group, **changes)
    ((where, text),) = [(".".join(map(str, detail["loc"])), detail["msg"]) for detail in caught.value.errors()]
    assert where == path
    assert says in text
