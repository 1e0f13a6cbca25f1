"""Which settings each directed link resolves to, and which rule set each value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from p2pl_async.link import LinkSettings
from p2pl_async.scenario import LinkTable, Scenario, read_scenario
from p2pl_async.scenario.reading.plain import leaves, merge, without_none


def scenario(link: dict[str, Any], count: int = 6, **devices: Any) -> Scenario:
    return Scenario.model_validate(
        {"devices": {"count": count, **devices}, "protocol": "p2pl", "stop": {"rounds": 1}, "link": link}
    )


def loss(table: LinkTable, src: int, dst: int) -> dict[str, Any]:
    return table.settings(src, dst).loss.model_dump()


def wrong(link: dict[str, Any]) -> list[tuple[str, str]]:
    with pytest.raises(ValidationError) as caught:
        scenario(link)
    return [(".".join(map(str, detail["loc"])), detail["msg"]) for detail in caught.value.errors()]


def test_a_link_without_override_has_the_settings_of_the_table() -> None:
    table = LinkTable(scenario({"loss": "5 %", "rate": "1 Mbit/s"}))
    assert table.settings(0, 1) == LinkSettings.model_validate({"loss": "5 %", "rate": "1 Mbit/s"})
    assert type(table.settings(0, 1)) is LinkSettings


def test_an_override_is_for_one_direction_unless_it_says_both() -> None:
    table = LinkTable(
        scenario({"override": [{"from": 0, "to": 1, "loss": 0.5}, {"from": 2, "to": 3, "both": True, "loss": 0.4}]})
    )
    assert loss(table, 0, 1) == {"kind": "bernoulli", "p": 0.5}
    assert loss(table, 1, 0) == {"kind": "none"}
    assert loss(table, 2, 3) == loss(table, 3, 2) == {"kind": "bernoulli", "p": 0.4}


def test_overrides_select_by_group() -> None:
    table = LinkTable(scenario({"override": [{"from": "far", "loss": 0.5}]}, group={"far": {"ids": "4-5"}}))
    assert [loss(table, src, 0)["kind"] for src in range(1, 6)] == ["none"] * 3 + ["bernoulli"] * 2


def test_later_overrides_win_and_merge_into_the_same_kind() -> None:
    bursts = {"kind": "gilbert-elliott", "good": "2 s", "bad": "1 s"}
    link = {
        "loss": bursts,
        "override": [
            {"from": 0, "loss": {"bad": "3 s"}},
            {"from": 0, "to": 1, "loss": "20 %"},
            {"to": 2, "loss": bursts},
        ],
    }
    table = LinkTable(scenario(link))
    assert (loss(table, 0, 3)["good"], loss(table, 0, 3)["bad"]) == ("2 s", "3 s")
    assert loss(table, 0, 1) == {"kind": "bernoulli", "p": 0.2}
    assert loss(table, 0, 2)["bad"] == "1 s"


def test_words_switch_off_what_the_table_has() -> None:
    link = {"arq": {"retries": 3}, "mtu": "100 B", "override": [{"from": 0, "arq": "none", "mtu": "unlimited"}]}
    settings = LinkTable(scenario(link)).settings(0, 1)
    assert settings.arq is None
    assert settings.mtu is None


def test_equal_links_share_one_object() -> None:
    table = LinkTable(scenario({"override": [{"from": "0-49", "loss": 0.5}, {"to": 7, "rate": "1 bit/s"}]}, count=100))
    objects = {id(table.settings(src, dst)) for src in range(100) for dst in range(100) if src != dst}
    assert len(objects) == 4


def test_explain_names_the_rule_of_each_value() -> None:
    link = {
        "rate": "1 Mbit/s",
        "override": [{"from": 0, "loss": "5 %"}, {"to": 1, "loss": {"kind": "bernoulli", "p": 0.5}}],
    }
    rows = {key: (value, rule) for key, value, rule in LinkTable(scenario(link)).explain(0, 1)}
    assert rows["rate"] == ("1000000 bit/s", "link")
    assert rows["loss.p"] == (0.5, "link.override[1]")
    assert rows["header"] == ("0 B", "default")
    rows = {key: (value, rule) for key, value, rule in LinkTable(scenario(link)).explain(1, 0)}
    assert rows["loss.kind"] == ("none", "default")


def test_explain_tells_presets_files_and_set_apart(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text(
        '[devices]\ncount = 4\n[protocol]\nkind = "p2pl"\n[stop]\nrounds = 1\n[link]\norder = "free"\n'
    )
    path = tmp_path / "s.toml"
    path.write_text(
        'extends = "base.toml"\n[link]\npreset = "lossy_mesh"\ncorrupt = 0.1\n'
        '[[link.override]]\nfrom = 0\npreset = "zigbee_154"\nrate = "1 bit/s"\n'
    )
    loaded = read_scenario(path, ["link.header=1 B"])
    rules = {key: rule for key, _, rule in LinkTable(loaded.scenario, loaded.origins).explain(1, 0)}
    assert rules["order"] == "base.toml"
    assert rules["header"] == "--set link.header"
    assert rules["corrupt"] == "link"
    assert rules["outage.up.mean"] == "preset lossy_mesh"
    assert rules["outage.of"] == "default"
    rules = {key: rule for key, _, rule in LinkTable(loaded.scenario, loaded.origins).explain(0, 1)}
    assert rules["rate"] == "link.override[0]"
    assert rules["header"] == "link.override[0] (preset zigbee_154)"
    assert rules["loss.kind"] == "link.override[0] (preset zigbee_154)"
    assert rules["order"] == "base.toml"


def test_a_table_replaced_by_another_kind_forgets_who_set_the_old_one() -> None:
    bursts = {"kind": "gilbert-elliott", "good": "2 s", "bad": "1 s"}
    link = {"loss": {**bursts, "loss_good": 0.1}, "override": [{"from": 0, "loss": 0.5}, {"from": 0, "loss": bursts}]}
    rules = {key: rule for key, _, rule in LinkTable(scenario(link), {"link.loss.loss_good": ""}).explain(0, 1)}
    assert rules["loss.loss_good"] == "default"
    assert rules["loss.good"] == "link.override[1]"


@pytest.mark.parametrize(
    ("link", "where", "says"),
    [
        ({"override": [{"to": 0, "loss": {"p": 0.5}}]}, "link.override.0.loss.p", 'of kind "none"'),
        ({"loss": 0.1, "override": [{"to": 0, "loss": {"p": 5}}]}, "link.override.0.loss.p", "must be a probability"),
        (
            {"loss": 0.1, "override": [{"to": 0, "loss": {"p": 5}}, {"to": 1, "loss": {"p": 0.2}}]},
            "link.override.0.loss.p",
            "must be a probability",
        ),
        ({"override": [{"loss": 0.1}, {"to": 3, "loss": {"q": 0.2}}]}, "link.override.1.loss.q", "unknown key"),
        ({"override": [{"to": 0, "queue": {"messages": 3}}]}, "link.override.0", "queue needs a rate"),
        (
            {"rate": "1 bit/s", "override": [{"to": 0, "queue": {"messages": 3}}, {"to": [0, 1], "rate": "unlimited"}]},
            "link.override.1",
            "queue needs a rate",
        ),
    ],
)
def test_what_only_the_merged_table_shows_is_a_problem_of_the_override_to_blame(
    link: dict[str, Any], where: str, says: str
) -> None:
    ((found, text),) = wrong(link)
    assert found == where
    assert says in text


def test_an_override_that_only_an_earlier_one_makes_valid_is_valid() -> None:
    bursts = {"kind": "gilbert-elliott", "good": "2 s", "bad": "1 s"}
    table = LinkTable(scenario({"override": [{"loss": bursts}, {"to": 3, "loss": {"bad": "9 s"}}]}))
    assert loss(table, 0, 3)["bad"] == "9 s"


def test_overrides_that_match_no_link_of_a_graph_are_named() -> None:
    table = LinkTable(scenario({"override": [{"from": 0, "to": 1, "loss": 0.5}, {"from": 0, "to": 3, "loss": 0.5}]}))
    (problem,) = table.check(nx.DiGraph([(0, 1), (1, 0), (3, 0)]))
    assert problem.path == "link.override[1]"
    assert "matches no link" in problem.text


SELECTORS = st.sampled_from(["*", "0-2", 0, [1, 3], "4", "far"])
CHANGES = st.fixed_dictionaries(
    {"duplicate": st.floats(0, 1)},
    optional={"loss": st.sampled_from(["none", 0.5, {"kind": "gilbert-elliott", "good": "1 s", "bad": "1 s"}])},
)
OVERRIDES = st.builds(
    lambda src, dst, both, change: {"from": src, "to": dst, "both": both, **change},
    SELECTORS,
    SELECTORS,
    st.booleans(),
    CHANGES,
)


@given(st.lists(OVERRIDES, max_size=4), st.integers(0, 5), st.integers(0, 5))
def test_resolving_is_applying_matching_overrides_in_order(overrides: list[dict[str, Any]], src: int, dst: int) -> None:
    ids = {"*": set(range(6)), "0-2": {0, 1, 2}, "0": {0}, "[1, 3]": {1, 3}, "4": {4}, "far": {2, 5}}
    if src == dst:
        dst = (src + 1) % 6
    overrides = [
        item for item in overrides if item["from"] == "*" or item["from"] != item["to"] or len(ids[str(item["to"])]) > 1
    ]
    made = scenario({"override": overrides}, group={"far": {"ids": [2, 5]}})
    expected: dict[str, Any] = without_none(LinkSettings().model_dump(mode="json"))
    for item, override in zip(overrides, made.link.override, strict=True):
        senders, receivers = ids[str(item["from"])], ids[str(item["to"])]
        forward = src in senders and dst in receivers
        back = item["both"] and dst in senders and src in receivers
        if forward or back:
            expected = merge(expected, override.table)
    table = LinkTable(made)
    assert table.settings(src, dst) == LinkSettings.model_validate(expected)
    explained = table.explain(src, dst)
    assert [key for key, _, _ in explained] == [
        key for key, _ in leaves(without_none(table.settings(src, dst).model_dump(mode="json")))
    ]
    assert all(
        rule == "default" or item_matches(overrides[int(rule[14:-1])], ids, src, dst) for _, _, rule in explained
    )


def item_matches(item: dict[str, Any], ids: dict[str, set[int]], src: int, dst: int) -> bool:
    senders, receivers = ids[str(item["from"])], ids[str(item["to"])]
    return (src in senders and dst in receivers) or (item["both"] and dst in senders and src in receivers)


TABLES: st.SearchStrategy[Any] = st.recursive(
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 3), max_size=3),
    lambda inner: st.dictionaries(st.sampled_from(["a", "b", "kind"]), inner | st.integers(0, 3), max_size=3),
    max_leaves=8,
)


@given(TABLES, TABLES)
def test_merging_keeps_the_new_values_and_changes_neither_table(old: dict[str, Any], new: dict[str, Any]) -> None:
    before = repr((old, new))
    rules: dict[str, str] = {}
    merged = merge(merge({}, old, "old", rules), new, "new", rules)
    assert repr((old, new)) == before
    assert merge(merged, new) == merged
    assert not merged or dict(leaves(merged)).keys() == rules.keys()
    assert all(rule in ("old", "new") for rule in rules.values())
