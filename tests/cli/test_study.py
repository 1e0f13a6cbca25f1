"""The commands for many runs: `p2pl study`, `p2pl run --vary`, `p2pl compare`, and `p2pl list NAME`."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest
from helpers.studies import STUDY, Recorded, write_study
from typer.testing import CliRunner, Result

from p2pl_async.basics.settings import kind_of
from p2pl_async.cli.describing import all_kinds, example_of
from p2pl_async.cli.main import app
from p2pl_async.results.table import METRIC_COLUMNS, Table
from p2pl_async.study import launchers
from p2pl_async.study.executing import JobOrder
from p2pl_async.study.folder import Failure, StudyFolder
from p2pl_async.study.planning import load_study


def p2pl(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "150"}).invoke(app, [str(argument) for argument in arguments])


def answer(order: JobOrder) -> dict[str, Any] | Failure:
    seed = int(order.title[-1])
    if "end = 9" in order.title and seed == 2:
        return Failure(order.title, "no luck", 2, 1.0)
    return {"accuracy": {"min": 0.8 + 0.01 * seed, "mean": 0.9}, "virtual_seconds": 5.0, "seed": seed}


class Here(Recorded):
    """Stands for `LocalProcesses`."""

    def __init__(self, jobs: int) -> None:
        super().__init__(answer)

    def stop(self) -> None:
        pass


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launchers, "LocalProcesses", Here)
    return write_study(tmp_path)


def test_a_study_is_planned_run_and_shown(file: Path) -> None:
    said = p2pl("study", "plan", file).output
    assert "Does it?\n4 variants x 2 seeds = 8 runs, in results/study\n  done     0\n  to run   8\n" in said
    run = p2pl("study", "run", file)
    assert run.exit_code == 1
    assert "8 of 8, 2 failed" in run.output
    assert "failed: link.loss = 0 %, protocol.end = 9, seed 2\n    no luck" in run.output
    assert "2 of 8 runs failed; logs are in results/study/failed; --retry-failed runs them again" in run.output
    assert "failed   2 (with --retry-failed they run again)" in p2pl("study", "plan", file).output
    shown = p2pl("study", "show", "results/study").output
    assert "worst accuracy, %" in shown
    assert "2 of 8 runs are missing" in shown
    assert p2pl("study", "show", file, "--markdown").output.startswith("## Does it?")
    assert p2pl("study", "show", file, "--csv").output.count("\n") == 7
    assert r"\toprule" in p2pl("study", "show", file, "--latex").output


def test_a_wrong_variant_ends_with_2_and_its_name(file: Path) -> None:
    file.write_text(STUDY.replace('"30 %"', '"130 %"'))
    found = p2pl("study", "run", file)
    assert found.exit_code == 2
    assert "variant link.loss = 130 %" in found.output


def test_values_varied_on_the_command_line_need_no_file(file: Path) -> None:
    found = p2pl("run", "base.toml", "--vary", "link.loss=0 %|10 %", "--seeds", 3, "--set", "devices.count=2")
    assert found.exit_code == 0, found.output
    assert "link.loss" in found.output
    assert "82" in found.output
    assert len(StudyFolder(Path("results/base")).done()) == 6
    again = p2pl("run", "base.toml", "--vary", "link.loss=0 %|10 %", "--seeds", 4, "--set", "devices.count=2")
    assert "6 of 8, running" in again.output
    assert p2pl("run", "base.toml", "--vary", "link.loss").exit_code == 2
    assert "is for one run" in p2pl("run", "base.toml", "--seeds", 2, "--trace").output


@pytest.fixture
def folders(file: Path) -> list[Path]:
    """Four runs: two values of a setting with two seeds each."""
    p2pl("run", "base.toml", "--vary", "link.loss=0 %|10 %", "--seeds", 2, "--quiet")
    folder, study = StudyFolder(Path("results/base")), load_study(_vary(file))
    found = []
    for number, job in enumerate(study.jobs):
        place = Path(f"run-{number}")
        shutil.copytree(folder.job(job.id), place)
        table = Table(place / "metrics", METRIC_COLUMNS)
        for at in range(3):
            table.add(float(at), 0, "accuracy", 0.3 * at)
        table.close()
        found.append(place)
    return found


def _vary(file: Path) -> Path:
    file.write_text('base = "base.toml"\nseeds = 2\nvary.link.loss = ["0 %", "10 %"]\n')
    return file


def test_compare_tells_settings_that_differ_and_differences_by_seed(folders: list[Path]) -> None:
    found = p2pl("compare", *folders, "--out", "pictures/all")
    assert found.exit_code == 0, found.output
    assert "settings that differ" in found.output
    assert "link.loss.p" in found.output
    assert "differences" in found.output
    assert Path("pictures/all.png").exists()
    assert found.output.splitlines()[-1] == "figure: pictures/all.png"


def test_compare_of_equal_settings_or_one_run(folders: list[Path]) -> None:
    twice = p2pl("compare", folders[0], folders[0], "--no-plots").output
    assert "the settings are the same, but for the seed" in twice
    assert p2pl("compare", folders[0]).exit_code == 2
    assert "summary.json" in p2pl("compare", folders[0], "nowhere").output


def test_list_shows_the_keys_of_one_kind_with_unit_default_and_example() -> None:
    said = p2pl("list", "gilbert-elliott").output
    assert "gilbert-elliott: loss, link.loss of a scenario" in said
    assert "Source: E. N. Gilbert" in said
    assert 'like "20 ms" (s, ns, us, µs, ms, min, h, d)' in said
    assert "must be given" in said
    assert '[link.loss]\nkind = "gilbert-elliott"\ngood = "20 ms"\n' in said
    assert '"30 s"' in p2pl("list", "sgp").output
    assert "Stochastic Gradient Push" in p2pl("list", "sgp").output
    assert 'did you mean "sgp"?' in p2pl("list", "spg").output


def test_every_example_is_a_table_with_its_kind() -> None:
    kinds = all_kinds()
    assert {"p2pl", "csma-ca", "ring", "dirichlet", "mnist", "crash", "rayleigh"} <= {
        kind_of(kind.cls) for kind in kinds
    }
    for kind in kinds:
        table: Any = tomllib.loads(example_of(kind))
        for key in kind.path.split("."):
            table = table[key]
        assert (table[0] if isinstance(table, list) else table)["kind"] == kind_of(kind.cls)
