"""What a scenario can say: each table alone, and what must fit between them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from p2pl_async.hardware.compute import Compute
from p2pl_async.learning.data_settings import DataSettings
from p2pl_async.scenario.reading.jsonschema import scenario_schema
from p2pl_async.scenario.scenario import Scenario
from p2pl_async.scenario.selector import select
from p2pl_async.scenario.tables import DeviceSettings, Stop

LEAST: dict[str, Any] = {"devices": {"count": 3}, "protocol": "p2pl", "stop": {"rounds": 1}}


def problems(table: dict[str, Any]) -> list[tuple[str, str]]:
    with pytest.raises(ValidationError) as caught:
        Scenario.model_validate(table)
    return [(".".join(map(str, detail["loc"])), detail["msg"]) for detail in caught.value.errors()]


def test_count_protocol_and_a_stop_are_all_that_must_be_said() -> None:
    scenario = Scenario.model_validate(LEAST)
    assert (scenario.name, scenario.seed, scenario.data) == ("scenario", 1, DataSettings())
    assert [where for where, _ in problems({})] == ["devices", "protocol", "stop"]


def test_a_protocol_that_never_trains_needs_no_data_and_can_reach_no_accuracy(tmp_path: Any) -> None:
    path = tmp_path / "mute.py"
    path.write_text(
        "from typing import ClassVar\n"
        "from p2pl_async.protocols.base import Protocol\n"
        "class Mute(Protocol):\n"
        "    '''Says nothing.'''\n"
        "    trains: ClassVar[bool] = False\n"
        "    async def run(self, device):\n"
        "        pass\n"
    )
    table = {**LEAST, "protocol": f"{path}:Mute"}
    assert Scenario.model_validate(table).data is None
    more = {"baselines": {"local": True, "central": True}, "stop": {"accuracy": "90 %"}}
    assert [where for where, _ in problems({**table, **more})] == [
        "baselines.local",
        "baselines.central",
        "stop.accuracy",
    ]


@pytest.mark.parametrize(
    ("change", "where", "says"),
    [
        ({"seed": -1}, "seed", "greater than or equal to 0"),
        ({"seed": True}, "seed", "valid integer"),
        ({"name": "a/b"}, "name", "must be letters"),
        ({"name": ""}, "name", "must be letters"),
        ({"name": ".."}, "name", "must be letters"),
        ({"devices": {"count": 0}}, "devices.count", "greater than or equal to 1"),
        ({"devices": {"count": "3"}}, "devices.count", "valid integer"),
        ({"devices": {"count": 3, "compute": {}}}, "devices.compute", "exactly one of per_epoch"),
        (
            {"devices": {"count": 3, "compute": {"per_epoch": "1 s", "per_sample": "1 s"}}},
            "devices.compute",
            "exactly one of per_epoch",
        ),
        ({"devices": {"count": 3, "compute": {"per_epoch": "0 s"}}}, "devices.compute.per_epoch", "above 0 s"),
        ({"devices": {"count": 3, "start": {}}}, "devices.start", "must be an instant"),
        ({"devices": {"count": 3, "group": {"a": {"ids": 3}}}}, "devices.group.a.ids", "there is no device 3"),
        ({"devices": {"count": 3, "group": {"0-1": {"ids": 0}}}}, "devices.group.0-1", "must be a letter"),
        ({"devices": {"count": 3, "group": {"a": {"ids": "b"}}}}, "devices.group.a.ids", 'unknown group "b"'),
        ({"topology": {"kind": "hypercube"}}, "topology", "power of two"),
        ({"stop": {}}, "stop", "needs a condition"),
        ({"stop": {"accuracy": {}}}, "stop.accuracy", "exactly one of every_device"),
        ({"stop": {"rounds": 0}}, "stop.rounds", "greater than or equal to 1"),
        ({"baselines": {"local": 1}}, "baselines.local", "boolean"),
        ({"evaluate": {"every": "0 s"}}, "evaluate.every", "above 0 s"),
        ({"evaluate": {"samples": -1}}, "evaluate.samples", "greater than or equal to 0"),
        ({"link": {"override": [{"from": 0}]}}, "link.override.0", "changes nothing"),
        ({"link": {"override": [{"los": "5 %"}]}}, "link.override.0.los", 'did you mean "loss"'),
        ({"link": {"override": [{"from": "4-2", "loss": 0}]}}, "link.override.0.from", "must go upwards"),
        ({"link": {"override": [{"from": [], "loss": 0}]}}, "link.override.0.from", "must be a device 3"),
        ({"link": {"override": [{"from": "slwo", "loss": 0}]}}, "link.override.0.from", 'unknown group "slwo"'),
        ({"link": {"override": [{"to": 7, "loss": 0}]}}, "link.override.0.to", "there is no device 7"),
        ({"link": {"override": [{"from": 1, "to": 1, "loss": 0}]}}, "link.override.0", "matches no link"),
        ({"link": {"override": [{"both": 1, "loss": 0}]}}, "link.override.0.both", "boolean"),
    ],
)
def test_one_mistake_is_one_problem_at_its_place(change: dict[str, Any], where: str, says: str) -> None:
    ((found, text),) = problems({**LEAST, **change})
    assert found == where
    assert says in text


def test_compute_is_charged_per_epoch_or_per_sample() -> None:
    assert Compute.model_validate({"per_epoch": "2 s"}).seconds(1.5, 900) == 3.0
    assert Compute.model_validate({"per_sample": "3 ms"}).seconds(1.5, 900) == pytest.approx(2.7, rel=1e-12)


def test_groups_change_what_they_name_and_later_ones_win() -> None:
    devices = DeviceSettings.model_validate(
        {
            "count": 4,
            "compute": {"per_epoch": "2 s", "spread": 0.4, "jitter": 0.1},
            "start": "1 s",
            "group": {
                "slow": {"ids": "0-1", "compute": "8 s", "start": "5 s"},
                "odd": {"ids": [1, 3], "compute": {"per_sample": "1 ms", "spread": 0.0}},
            },
        }
    )
    computes = devices.computes()
    assert [compute.per_epoch for compute in computes] == [8.0, None, 2.0, None]
    assert [compute.per_sample for compute in computes] == [None, 0.001, None, 0.001]
    assert [compute.spread for compute in computes] == [0.4, 0.0, 0.4, 0.0]
    assert {compute.jitter for compute in computes} == {0.1}
    assert devices.starts(seed=1) == [5.0, 5.0, 1.0, 1.0]


def test_drawn_starts_are_each_devices_own_and_within_bounds() -> None:
    few, many = (
        DeviceSettings.model_validate({"count": count, "start": {"uniform": "5 s"}}).starts(seed=3) for count in (2, 50)
    )
    assert many[:2] == few  # more devices move no draw
    assert all(0 <= start < 5 for start in many)
    assert len(set(many)) == 50


def test_a_bare_accuracy_is_that_of_every_device() -> None:
    stop = Stop.model_validate({"accuracy": "97 %"})
    assert stop.accuracy is not None
    assert (stop.accuracy.every_device, stop.accuracy.mean) == (0.97, None)


@pytest.mark.parametrize(
    ("selector", "ids"),
    [(3, {3}), ((0, 1), {0, 1}), ("0-4", {0, 1, 2, 3, 4}), ("0-1, 7", {0, 1, 7}), ("*", set(range(9))), ("g", {2, 5})],
)
def test_selectors(selector: Any, ids: set[int]) -> None:
    assert select(selector, 9, {"g": frozenset({2, 5})}) == ids


@given(st.sets(st.integers(0, 30), min_size=1), st.booleans())
def test_a_list_and_its_text_select_the_same(ids: set[int], ranges: bool) -> None:
    text = ",".join(f"{i}-{i}" if ranges else str(i) for i in ids)
    assert select(text, 31, {}) == select(tuple(ids), 31, {}) == ids


def test_a_huge_range_is_refused_without_writing_it_out() -> None:
    with pytest.raises(ValueError, match="there is no device 999999999; ids go from 0 to 8"):
        select("0-999999999", 9, {})


def test_the_json_schema_resolves_and_knows_units_kinds_presets_and_user_classes() -> None:
    schema = scenario_schema()
    definitions = schema["$defs"]

    def references(node: Any) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
            assert "$defs" not in node or node is schema
            return own + [found for item in node.values() for found in references(item)]
        return [found for item in node for found in references(item)] if isinstance(node, list) else []

    assert references(schema)
    assert all(name.removeprefix("#/$defs/") in definitions for name in references(schema))
    link = definitions["LinkTableSettings"]
    assert "zigbee_154" in link["properties"]["preset"]["enum"]
    assert link["properties"]["header"]["default"] == "0 B"
    assert {"preset", "loss", "from", "to", "both"} <= definitions["LinkOverride"]["properties"].keys()
    assert {"type": "string", "pattern": ":"} in schema["properties"]["protocol"]["anyOf"]
    assert definitions["Stop"]["properties"]["virtual_time"]["anyOf"][0]["pattern"]
    assert set(Scenario.model_fields) | {"extends"} == schema["properties"].keys()
