"""`p2pl check` means it: what it loads, builds and tries, what it finds, and what it says that a run will take."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from p2pl_async.cli import main as cli
from p2pl_async.errors import ScenarioError
from p2pl_async.experiment import forecast, running
from p2pl_async.experiment.forecast import Forecast
from p2pl_async.scenario.building import world
from p2pl_async.scenario.reading.load import load_scenario

LEAST = 'devices.count = 4\nprotocol.kind = "p2pl"\nstop.rounds = 3\ndata.train_samples = 40\n'
QUIET = """from typing import ClassVar, Literal
from p2pl_async import Protocol

class Quiet(Protocol):
    kind: Literal["quiet"] = "quiet"
    trains: ClassVar[bool] = False

    async def run(self, device):
        device.finish_round()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quiet.py").write_text(QUIET)
    (tmp_path / "never.csv").write_text("t,src,dst,change\n0,0,1,up\n1,1,2,up\n")
    return tmp_path


def check(*settings: str, code: int = 0, quick: bool = False) -> str:
    """Return what `p2pl check` says of the smallest scenario with some settings."""
    Path("s.toml").write_text(LEAST)
    sets = [part for setting in settings for part in ("--set", setting)]
    result = CliRunner().invoke(cli.app, ["check", "s.toml", *sets, *(["--quick"] if quick else [])])
    assert result.exit_code == code, result.output
    return result.output


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (['link.override=[{from=0,to=2,loss="5 %"}]'], "link.override[0] matches no link of this topology and seed"),
        (['link.override=[{from=0,to=1,loss="0 %"}]', 'link.loss="0 %"'], "link.override[0] has no effect"),
        (
            ['topology={kind="random-geometric",radius=0.01,connected=false}'],
            "the topology has no link between its 4 devices",
        ),
        (['topology={kind="trace",path="never.csv"}'], "these devices never meet: 0 and 2, 0 and 3, 1 and 3, and 1"),
        (['topology={kind="trace",path="never.csv"}'], "1 of the devices meet no other, device 3 among them"),
        (["devices.group.idle.ids=[0]"], "devices.group.idle has no effect"),
        (['evaluate.every="10 s"', 'stop.virtual_time="10 s"'], "only the final evaluation takes place"),
        (["protocol=quiet.py:Quiet", "train.momentum=0.9"], "[train] has no effect"),
    ],
)
def test_what_is_said_in_vain_is_named(folder: Path, settings: list[str], says: str) -> None:
    said = check(*settings)
    assert f"warning: {says}" in said or says in said
    assert says not in check(*settings, quick=True)


@pytest.mark.parametrize(
    ("settings", "place", "says"),
    [
        (["devices.count=50"], "data", "50"),
        (["model={kind='cnn',pool=99}"], "model", ""),
        (['train.accelerator="cuda"'], "train.accelerator", ""),
    ],
)
def test_what_a_run_would_trip_over_is_found(folder: Path, settings: list[str], place: str, says: str) -> None:
    said = check(*settings, code=2)
    assert place in said
    assert says in said


def test_what_uses_a_group_or_an_override_is_no_mistake(folder: Path) -> None:
    settings = ["devices.group.a.ids=[0]", 'link.override=[{from="a",to=1,loss="5 %"}]', "baselines.local=true"]
    assert "warning" not in check(*settings)


def test_check_tells_what_a_run_will_take(folder: Path) -> None:
    said = check()
    assert "4 devices, 8 links, 4810 parameters, 40 training samples; about 0." in said
    assert "at most about 12 mini-batches, which take" in said
    assert "not looked at: data, graph, links, model and memory" in check(quick=True)


def test_check_downloads_nothing_and_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pl_async.learning.data.Mnist.is_here", False)
    said = check("data.dataset=mnist", "devices.count=30")
    assert "not looked at: data and model, as the data would have to be downloaded" in said
    assert "30 devices, 60 links; about 0." in said


def test_a_run_says_before_it_starts_what_it_will_take(folder: Path) -> None:
    (folder / "s.toml").write_text(LEAST)
    told: list[Forecast] = []
    running.run("s.toml", announce=told.append)
    assert (told[0].devices, told[0].links, told[0].params, told[0].steps) == (4, 8, 4810, 12)


def test_more_than_the_machine_has_is_refused_with_the_numbers_before_anything_is_made(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = load_scenario(_written(folder), ["devices.count=1000000", "protocol=quiet.py:Quiet"])
    monkeypatch.setattr(forecast, "memory_of_machine", lambda: 8.0 * (1 << 30))
    monkeypatch.setattr(world, "LinkTable", None)  # whoever makes it fails
    with pytest.raises(ScenarioError, match=r"1000000 devices take about .* GiB .* has 8 GiB; lower devices.count"):
        running.run(scenario)


def test_models_that_fill_memory_are_refused_before_the_run_begins(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = load_scenario(_written(folder), ["model.hidden=[1000, 1000]"])
    monkeypatch.setattr(forecast, "memory_of_machine", lambda: 0.35 * (1 << 30))
    with pytest.raises(ScenarioError, match=r"models of 1\d* parameters take about .* GiB of memory"):
        running.run(scenario, out="out")
    assert not list((folder / "out").iterdir())


def _written(folder: Path) -> Path:
    (folder / "s.toml").write_text(LEAST)
    return folder / "s.toml"


STUDY = """base = "s.toml"
seeds = 2
vary."link.loss" = ["0 %", "30 %"]
"""


def check_study(text: str, *options: str, code: int = 0) -> str:
    """Return what `p2pl check` says of a study of the smallest scenario."""
    Path("s.toml").write_text(LEAST)
    Path("study.toml").write_text(text)
    result = CliRunner().invoke(cli.app, ["check", "study.toml", *options])
    assert result.exit_code == code, result.output
    return result.output


@pytest.mark.parametrize("options", [[], ["--quick"]])
def test_the_runs_of_a_study_are_checked(folder: Path, options: list[str]) -> None:
    said = check_study(STUDY, *options)
    assert "study.toml is fine: a study of 2 variants x 2 seeds = 4 runs" in said
    assert said.count("not looked at: data, graph") == len(options)


def test_a_warning_of_some_variants_names_the_first_of_them(folder: Path) -> None:
    study = STUDY + 'vary."devices.count" = [4, 5, 6]\n'
    said = check_study(study, "--set", 'link.override=[{from=0,to=3,loss="5 %"}]')
    (warning,) = (line for line in said.splitlines() if line.startswith("warning"))
    assert warning.startswith("warning: variant link.loss = 0 %, devices.count = 5 (and 3 more): link.override[0]")
    said = check_study(STUDY, "--set", 'link.override=[{from=0,to=2,loss="5 %"}]')
    assert "warning: link.override[0] matches no link" in said  # of all variants


def test_a_problem_of_a_variant_is_found_where_only_a_run_would_meet_it(folder: Path) -> None:
    study = STUDY + 'vary."devices.count" = [4, 50]\n'
    check_study(study, "--quick")
    said = check_study(study, code=2)
    assert "variant link.loss = 0 %, devices.count = 50 (and 1 more): data" in said


def test_a_study_has_its_own_seeds(folder: Path) -> None:
    assert "a study says its own seeds" in check_study(STUDY, "--seed", "3", code=2)


@pytest.mark.parametrize("command", ["run", "probe", "predict"])
def test_a_study_given_for_a_scenario_is_one_problem_that_says_what_reads_it(folder: Path, command: str) -> None:
    Path("s.toml").write_text(LEAST)
    Path("study.toml").write_text(STUDY)
    result = CliRunner().invoke(cli.app, [command, "study.toml"])
    assert result.exit_code == 2
    assert "study.toml has 1 problem" in result.output
    assert "`p2pl study run` runs it" in result.output
