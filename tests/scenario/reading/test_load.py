"""Reading scenario files: overrides, extends, presets, every problem at once, and writing them back."""

from __future__ import annotations

import copy
import datetime
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pl_async.errors import Problem, ScenarioError
from p2pl_async.link.latency import Constant, Lognormal
from p2pl_async.link.loss.in_time import GilbertElliott
from p2pl_async.link.loss.independent import Bernoulli
from p2pl_async.scenario import Scenario, dump, load_scenario, read_scenario
from p2pl_async.scenario.reading.plain import join
from p2pl_async.scenario.reading.presets import LINK_PRESETS, SCENARIO_PRESETS

LEAST = '[devices]\ncount = 4\n[protocol]\nkind = "p2pl"\n[stop]\nrounds = 1\n'


def lognormal(mean: str, sd: str) -> Lognormal:
    return Lognormal.model_validate({"mean": mean, "sd": sd})


def bursts(good: str, bad: str) -> GilbertElliott:
    return GilbertElliott.model_validate({"good": good, "bad": bad})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "least.toml").write_text(LEAST)
    return tmp_path


def load(folder: Path, text: str, *overrides: str, name: str = "s.toml") -> Scenario:
    (folder / name).write_text(text)
    return load_scenario(folder / name, overrides)


def problems(folder: Path, text: str, *overrides: str) -> list[Problem]:
    with pytest.raises(ScenarioError) as caught:
        load(folder, text, *overrides)
    return list(caught.value.problems)


def test_the_name_is_that_of_the_file_unless_it_says_one(folder: Path) -> None:
    assert load(folder, LEAST).name == "s"
    assert load(folder, 'name = "mine"\n' + LEAST).name == "mine"
    assert load(folder, LEAST, name="a, (b).toml").name == "a_ _b_"
    assert load(folder, 'name = "base"\n' + LEAST, name="base.toml").name == "base"
    assert load(folder, 'extends = "base.toml"').name == "s"


def test_a_seed_given_takes_the_place_of_the_scenarios(folder: Path) -> None:
    assert load_scenario(folder / "least.toml", seed=7).seed == 7
    assert load_scenario(folder / "least.toml", ["seed=5"], seed=0).seed == 0


# --set


@pytest.mark.parametrize(
    ("override", "read", "value"),
    [
        ("devices.count=50", lambda s: s.devices.count, 50),
        (" devices.count = 50 ", lambda s: s.devices.count, 50),
        ("link.loss.p=20 %", lambda s: s.link.loss, Bernoulli(p=0.2)),
        ('link.loss.p="20 %"', lambda s: s.link.loss, Bernoulli(p=0.2)),
        ("link.loss=20 %", lambda s: s.link.loss, Bernoulli(p=0.2)),
        ("link.latency={kind='lognormal',mean='1 s',sd='1 s'}", lambda s: s.link.latency, lognormal("1 s", "1 s")),
        ("model.hidden=[5, 6]", lambda s: s.model.hidden, (5, 6)),
        ("topology=star", lambda s: s.topology.kind, "star"),
        ("topology.kind=star", lambda s: s.topology.kind, "star"),
        ("data.partition.alpha=0.5", lambda s: s.data.partition.kind, "dirichlet"),
        ("baselines.local=true", lambda s: s.baselines.local, True),
        ("evaluate.every=5 s", lambda s: s.evaluate.every, 5.0),
        ("devices.group.slow.ids=0-1", lambda s: s.devices.groups(), {"slow": frozenset({0, 1})}),
        ("name=2026-01-02", lambda s: s.name, "2026-01-02"),
        ("name=", lambda s: s.name, None),
    ],
)
def test_set_changes_one_value(folder: Path, override: str, read: Any, value: object) -> None:
    if value is None:
        assert [problem.path for problem in problems(folder, LEAST, override)] == ["name"]
    else:
        assert read(load(folder, LEAST, override)) == value


def test_set_goes_into_what_the_file_says_in_short(folder: Path) -> None:
    text = LEAST + '[link]\nloss = "5 %"\nlatency = "20 ms"\n[devices.start]\nuniform = "1 s"\n'
    scenario = load(folder, text, "link.loss.p=20 %", "link.latency.mean=30 ms", "devices.start.uniform=2 s")
    assert scenario.link.loss == Bernoulli(p=0.2)
    assert scenario.link.latency == Constant.model_validate({"mean": "30 ms"})
    assert scenario.devices.start.uniform == 2.0


def test_set_of_another_kind_leaves_the_old_ones_keys(folder: Path) -> None:
    text = LEAST + '[link]\nloss = { kind = "gilbert-elliott", good = "2 s", bad = "1 s" }\n'
    assert load(folder, text, "link.loss.kind=none").link.loss.model_dump() == {"kind": "none"}
    assert load(folder, text, "link.loss.bad=3 s").link.loss == bursts("2 s", "3 s")
    (problem,) = problems(folder, text, "link.loss.p=0.1")
    assert problem.path == "link.loss.p"


def test_one_of_several_ways_to_say_a_thing_takes_the_place_of_the_others(folder: Path) -> None:
    text = LEAST.replace("rounds = 1", 'accuracy = "97 %"')
    stop = load(folder, text, "stop.accuracy.mean=90%").stop
    assert stop.accuracy is not None
    assert (stop.accuracy.mean, stop.accuracy.every_device) == (0.9, None)
    back = load(folder, text, "stop.accuracy.mean=90%", "stop.accuracy=80%").stop
    assert back.accuracy is not None
    assert (back.accuracy.mean, back.accuracy.every_device) == (None, 0.8)
    longer = 'extends = "s.toml"\ndevices.compute.per_sample = "3 ms"'
    load(folder, text.replace("count = 4", 'count = 4\ncompute = { per_epoch = "2 s", jitter = 0.5 }'))
    compute = load(folder, longer, name="t.toml").devices.compute
    assert (compute.per_epoch, compute.per_sample, compute.jitter) == (None, 0.003, 0.5)
    assert "devices.compute.per_epoch" not in read_scenario(folder / "t.toml").origins


@pytest.mark.parametrize("path", ["link.override[1].loss.p", "link.override.1.loss.p"])
def test_set_reaches_into_lists(folder: Path, path: str) -> None:
    text = LEAST + '[[link.override]]\nfrom = 0\nloss = "5 %"\n[[link.override]]\nfrom = 1\nloss = "5 %"\n'
    tables = [override.table for override in load(folder, text, f"{path}=0.5").link.override]
    assert tables == [{"loss": {"kind": "bernoulli", "p": "5 %"}}, {"loss": {"kind": "bernoulli", "p": 0.5}}]


@pytest.mark.parametrize(
    ("override", "path", "says"),
    [
        ("devices.count", "--set devices.count", "must be like"),
        ("=3", "--set =3", "must be like"),
        ("a..b=3", "--set a..b=3", "must be like"),
        ("devices.cout=3", "devices.cout", 'did you mean "count"'),
        ("devices.count=many", "devices.count", "must be a whole number"),
        ("train.batch_size=al", "train.batch_size", 'must be a whole number, or "all"'),
        ("seed.x=1", "seed", "must be a whole number"),
        ("link.override[3].loss=0", "link.override[3].loss", "unknown"),
    ],
)
def test_a_wrong_set_is_a_problem(folder: Path, override: str, path: str, says: str) -> None:
    (problem,) = problems(folder, LEAST, override)
    if "override[" in override:
        assert problem.path.startswith("link.override")
    else:
        assert (problem.path, says in problem.text) == (path, True)


def test_set_beyond_the_end_of_a_list_says_how_long_it_is(folder: Path) -> None:
    text = LEAST + '[[link.override]]\nloss = "5 %"\n'
    (problem,) = problems(folder, text, "link.override[1].loss=0.1")
    assert problem.path == "--set link.override[1].loss"
    assert "link.override has 1" in problem.text


# extends, presets and paths


def test_a_file_changes_parts_of_the_one_it_extends(folder: Path) -> None:
    base = (
        LEAST + '[link]\nloss = "5 %"\nrate = "1 Mbit/s"\n[train]\nlearning_rate = 0.1\n[[link.override]]\nloss = 0.5\n'
    )
    (folder / "base.toml").write_text(base)
    child = load(folder, 'extends = "base.toml"\n[link]\nloss = { p = "9 %" }\n[[link.override]]\nrate = "2 Mbit/s"\n')
    assert child.link.loss == Bernoulli(p=0.09)
    assert child.link.rate == 1e6
    assert child.train.learning_rate == 0.1
    assert [override.table for override in child.link.override] == [{"rate": "2 Mbit/s"}]
    other = load(folder, 'extends = "base.toml"\n[link.loss]\nkind = "gilbert-elliott"\ngood = "1 s"\nbad = "1 s"\n')
    assert other.link.loss == bursts("1 s", "1 s")


def test_extends_goes_over_several_files_and_folders(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "edges.txt").write_text("0 1\n1 2\n2 3\n")
    (folder / "sub" / "base.toml").write_text(
        'extends = "../least.toml"\nseed = 5\n[topology]\nkind = "file"\npath = "edges.txt"\n'
    )
    scenario = load(folder, 'extends = "sub/base.toml"\n')
    assert scenario.seed == 5
    assert scenario.topology.model_dump()["path"] == folder / "sub" / "edges.txt"


def test_extends_takes_a_preset(folder: Path) -> None:
    for name, preset in SCENARIO_PRESETS.items():
        scenario = load(folder, f'extends = "{name}"\n{LEAST}[train]\nmomentum = 0.25\n')
        assert scenario.train.momentum == 0.25
        assert scenario.train.batch_size == preset.table["train"]["batch_size"]


@pytest.mark.parametrize(
    ("text", "path", "says"),
    [
        ('extends = "nowhere.toml"', "extends", "no such file"),
        ('extends = "leest.toml"', "extends", "least.toml"),
        ("extends = 3", "extends", "must be a file"),
        ('extends = "s.toml"', "extends", "must not lead back"),
        ('extends = "loop.toml"', "loop.toml: extends", "must not lead back"),
        ('extends = "broken.toml"', "broken.toml: line 2, column 5", "not valid TOML"),
    ],
)
def test_a_wrong_extends_is_one_problem(folder: Path, text: str, path: str, says: str) -> None:
    (folder / "loop.toml").write_text('extends = "s.toml"')
    (folder / "broken.toml").write_text("a = 1\nb = ?")
    (problem,) = problems(folder, text)
    assert problem.path == path
    assert says in problem.text


@pytest.mark.parametrize("name", LINK_PRESETS)
def test_every_link_preset_is_valid_and_each_value_can_be_overridden(folder: Path, name: str) -> None:
    text = f'{LEAST}[link]\npreset = "{name}"\n'
    plain = load(folder, text).link
    assert plain.rate is not None
    assert load(folder, text + 'rate = "1 bit/s"\n').link.rate == 1.0
    assert load(folder, text, "link.rate=2 bit/s").link.rate == 2.0
    assert load(folder, text + 'loss = "none"\n').link.loss.model_dump() == {"kind": "none"}
    assert LINK_PRESETS[name].source


def test_a_preset_holds_under_overrides_too(folder: Path) -> None:
    text = LEAST + '[[link.override]]\nfrom = 0\npreset = "zigbee_154"\nrate = "1 bit/s"\n'
    (override,) = load(folder, text).link.override
    assert override.table["rate"] == "1 bit/s"
    assert override.table["header"] == LINK_PRESETS["zigbee_154"].link["header"]


def test_an_unknown_preset_is_one_problem(folder: Path) -> None:
    (problem,) = problems(folder, LEAST + '[link]\npreset = "zigbe_154"\n')
    assert problem.path == "link.preset"
    assert 'did you mean "zigbee_154"?' in problem.text


def test_origins_tell_who_set_each_value(folder: Path) -> None:
    (folder / "base.toml").write_text(LEAST + '[link]\nloss = "5 %"\nrate = "1 Mbit/s"\n')
    path = folder / "s.toml"
    path.write_text('extends = "base.toml"\n[link]\npreset = "zigbee_154"\ncorrupt = 0.1\n')
    origins = read_scenario(path, ["link.loss.p=0.2"]).origins
    assert origins["link.rate"] == "base.toml"
    assert origins["link.loss.p"] == "--set link.loss.p"
    assert origins["link.corrupt"] == ""
    assert origins["link.header"] == "preset zigbee_154"
    assert "link.preset" not in origins


# What is wrong with a file


def test_every_problem_is_reported_at_once_with_path_value_and_a_way_out(folder: Path) -> None:
    text = """
    sed = 3
    [devices]
    count = 4.5
    [topology]
    kind = "rign"
    [link]
    loss = 1.5
    [protocol]
    kind = "p2pl"
    epocs = 3
    [evaluate]
    every = 5
    [stop]
    rounds = "many"
    """
    with pytest.raises(ScenarioError) as caught:
        load(folder, text)
    said = str(caught.value)
    assert said.startswith(f"{folder / 's.toml'} has 7 problems\n\n")
    assert '  sed\n    unknown key; did you mean "seed"?' in said
    assert "  devices.count = 4.5\n    must be a whole number" in said
    assert '  topology.kind = "rign"\n    unknown topology; did you mean "ring"?  known: ' in said
    assert '  link.loss = 1.5\n    must be a probability between 0 and 1; for 1.5 percent write "1.5 %"' in said
    assert '  protocol.epocs\n    unknown key; did you mean "epochs"?' in said
    assert '  evaluate.every = 5\n    needs its unit; write "5 s"' in said
    assert '  stop.rounds = "many"\n    must be a whole number' in said


def test_what_must_fit_between_tables_is_reported_beside_a_wrong_table(folder: Path) -> None:
    text = LEAST + '[topology]\nkind = "hypercube"\n[train]\nmomentum = 2\n[[link.override]]\nto = 9\nloss = 0.1\n'
    found = problems(folder, text.replace("count = 4", "count = 5"))
    assert [problem.path for problem in found] == ["train.momentum", "topology", "link.override[0].to"]


@pytest.mark.parametrize(
    ("content", "path", "says"),
    [
        (b"a = 1\nb = ?", "line 2, column 5", "not valid TOML: invalid value"),
        (b"a = [1,", "end of file", "not valid TOML"),
        (b"a = 1\na = 2\n", "line 2, column 6", "not valid TOML: cannot overwrite a value"),
        (b"a = 1\nb = '\xff'", "line 2", "must be UTF-8 text"),
    ],
)
def test_a_file_that_is_no_toml_says_where(folder: Path, content: bytes, path: str, says: str) -> None:
    (folder / "s.toml").write_bytes(content)
    with pytest.raises(ScenarioError) as caught:
        load_scenario(folder / "s.toml")
    (problem,) = caught.value.problems
    assert problem.path == path
    assert says in problem.text


def test_a_file_that_is_not_there_names_its_neighbor(folder: Path) -> None:
    with pytest.raises(ScenarioError, match=r"no such file; did you mean .*least\.toml"):
        load_scenario(folder / "lest.toml")
    with pytest.raises(ScenarioError, match="there is no folder"):
        load_scenario(folder / "no" / "lest.toml")
    with pytest.raises(ScenarioError, match="can't be read: is a directory"):
        load_scenario(folder)


# Properties: any valid scenario is written and read back; any spoiled one gives one problem


def seconds() -> st.SearchStrategy[str]:
    return st.builds(lambda n, unit: f"{n} {unit}", st.integers(1, 900), st.sampled_from(["ms", "s", "min"]))


def shares() -> st.SearchStrategy[Any]:
    return st.one_of(st.floats(0, 1), st.integers(0, 100).map(lambda n: f"{n} %"))


LOSSES = st.one_of(
    shares(),
    st.just("none"),
    st.fixed_dictionaries({"kind": st.just("bernoulli"), "p": shares()}),
    st.fixed_dictionaries({"kind": st.just("gilbert-elliott"), "good": seconds(), "bad": seconds()}),
)
LATENCIES = st.one_of(
    seconds(), st.fixed_dictionaries({"kind": st.just("lognormal"), "mean": seconds(), "sd": seconds()})
)
LINKS: dict[str, Any] = {
    "loss": LOSSES,
    "latency": LATENCIES,
    "rate": st.sampled_from(["2 Mbit/s", "250 kbit/s", "unlimited"]),
    "duplicate": shares(),
    "arq": st.one_of(st.just("none"), st.fixed_dictionaries({"retries": st.integers(0, 9)})),
}
SELECTORS = st.sampled_from([0, [0, 1], "0-1", "1,3", "*", "slow"])
COMPUTES = st.one_of(
    seconds(),
    st.fixed_dictionaries({"per_epoch": seconds()}, optional={"spread": st.floats(0, 1), "jitter": st.floats(0, 1)}),
    st.fixed_dictionaries({"per_sample": seconds()}),
)
SCENARIOS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "devices": st.fixed_dictionaries(
            {
                "count": st.integers(4, 40),
                "group": st.fixed_dictionaries(
                    {
                        "slow": st.fixed_dictionaries(
                            {"ids": st.sampled_from([0, "1-2", [3]])}, optional={"compute": COMPUTES}
                        )
                    }
                ),
            },
            optional={
                "compute": COMPUTES,
                "start": st.one_of(seconds(), st.fixed_dictionaries({"uniform": seconds()})),
            },
        ),
        "protocol": st.sampled_from(["p2pl", {"kind": "p2pl", "epochs": 2}, {"kind": "local"}]),
        "stop": st.fixed_dictionaries(
            {"rounds": st.integers(1, 99)},
            optional={
                "virtual_time": seconds(),
                "accuracy": st.one_of(shares(), st.builds(lambda p: {"mean": p}, shares())),
            },
        ),
    },
    optional={
        "name": st.sampled_from(["a", "b c", "x-1.2"]),
        "seed": st.integers(0, 2**40),
        "topology": st.sampled_from(["ring", "complete", {"kind": "erdos-renyi", "p": "50 %"}]),
        "link": st.fixed_dictionaries(
            {},
            optional={
                **LINKS,
                "override": st.lists(
                    st.fixed_dictionaries(
                        {"duplicate": shares()},
                        optional={"from": SELECTORS, "to": st.just("*"), "both": st.booleans(), "loss": LOSSES},
                    ),
                    max_size=3,
                ),
            },
        ),
        "model": st.sampled_from(["softmax", {"kind": "mlp", "hidden": [3, 4]}]),
        "train": st.fixed_dictionaries({}, optional={"learning_rate": st.floats(0.001, 1), "nesterov": st.just(False)}),
        "evaluate": st.fixed_dictionaries({}, optional={"every": st.one_of(st.just("auto"), seconds())}),
        "baselines": st.fixed_dictionaries({}, optional={"local": st.booleans()}),
    },
)


def load_table(table: dict[str, Any]) -> Scenario:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.toml"
        path.write_text(tomli_w.dumps(table))
        return load_scenario(path)


@settings(max_examples=40)
@given(SCENARIOS)
def test_what_is_written_reads_back_as_the_same_scenario(table: dict[str, Any]) -> None:
    scenario = load_table(table)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "other.toml"
        path.write_text(dump(scenario))
        again = load_scenario(path)
    assert again == scenario
    assert dump(again) == dump(scenario)


def places(node: Any, keys: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the keys of everything in a table."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        yield (*keys, key)
        if isinstance(value, dict) or (isinstance(value, list) and value and isinstance(value[0], dict)):
            yield from places(value, (*keys, key))


def spoil(table: dict[str, Any], keys: tuple[str | int, ...], how: str) -> str:
    """Spoil one key or value of a table; return the path of the problem that must come of it."""
    node: Any = table
    path = ""
    for key in keys[:-1]:
        node = node[key]
        path = join(path, key)
    last = keys[-1]
    if how == "key" and isinstance(last, str):
        node[f"{last}_"] = node.pop(last)
        return path if last == "kind" else join(path, f"{last}_")
    node[last] = [[{"x": 1}]] if how == "list" else datetime.date(2026, 1, 2)
    return join(path, last)


@settings(max_examples=80)
@given(st.data(), SCENARIOS, st.sampled_from(["key", "list", "date"]))
def test_one_spoiled_key_or_value_gives_one_problem_that_names_it(
    data: st.DataObject, table: dict[str, Any], how: str
) -> None:
    table = copy.deepcopy(table)
    named = (
        "devices",
        "group",
    )  # a group may have any name, and links may select it: renaming is no mistake of its own
    keys = data.draw(st.sampled_from([keys for keys in places(table) if keys[:2] != named]))
    path = spoil(table, keys, how)
    with pytest.raises(ScenarioError) as caught:
        load_table(table)
    (problem,) = caught.value.problems
    assert problem.path.startswith(path)
    assert problem.text


@given(st.binary(max_size=60))
def test_any_bytes_give_problems_and_no_traceback(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.toml"
        path.write_bytes(content)
        with pytest.raises(ScenarioError):
            load_scenario(path)
