"""The commands that show a finished run."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.recorded_run import recorded_run
from typer.testing import CliRunner

from p2pl_async.cli.main import app


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "run"
    recorded_run(path, n=5)
    return path


def p2pl(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_report_writes_the_page_and_says_where(folder: Path, tmp_path: Path) -> None:
    result = p2pl("report", folder)
    assert (result.exit_code, result.stdout.split()) == (0, [str(folder / "report.html")])
    assert p2pl("report", folder, "--out", tmp_path / "page.html").exit_code == 0
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")


def test_report_of_several_runs_compares_them(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    recorded_run(other, n=4, seed=2)
    result = p2pl("report", folder, other, "--out", tmp_path / "both.html")
    assert (result.exit_code, result.stdout.split()) == (0, [str(tmp_path / "both.html")])
    assert "runs compared" in (tmp_path / "both.html").read_text()


def test_explain_run_tells_findings_or_that_there_are_none(folder: Path) -> None:
    result = p2pl("explain-run", folder)
    assert result.exit_code == 0
    assert result.stdout.startswith(("- ", "Nothing that a rule knows"))


def test_export_writes_what_is_asked_for(folder: Path, tmp_path: Path) -> None:
    result = p2pl("export", folder, "--csv", "--perfetto", "--out", tmp_path)
    assert result.exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["csv", "perfetto.json.gz"]
    assert p2pl("export", folder, "--csv").exit_code == 0
    assert (folder / "export" / "csv" / "links.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["report", "none"], "there is no such folder"),
        (["explain-run", "none"], "there is no such folder"),
        (["export", "none", "--csv"], "there is no such folder"),
        (["export", "RUN"], "choose one or more of"),
        (["export", "RUN", "--csv", "--as-ip"], "add --pcapng"),
        (["export", "RUN", "--pcapng"], "run it again with --trace"),
        (["report", "RUN", "--out", "none/page.html"], "can't be written"),
        (["report", "RUN", "RUN"], "two or more different runs"),
        (["report", "RUN", "RUN", "--serve"], "give that folder alone"),
    ],
)
def test_mistakes_are_answered_with_the_repair(folder: Path, arguments: list[str], words: str) -> None:
    result = p2pl(*(folder if each == "RUN" else each for each in arguments))
    assert result.exit_code == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_watch_tells_the_address_of_the_page_that_shows_the_run(tmp_path: Path) -> None:
    scenario = Path(__file__).parents[2] / "scenarios" / "gossip.toml"
    result = p2pl(
        "run", scenario, "--watch", "--quiet", "--no-plots", "--out", tmp_path / "run", "--set", "devices.count=20",
        "--set", "stop.virtual_time=1 s",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("watch it at http://127.0.0.1:")
    assert result.stdout.count("\n") == 1


def test_serve_answers_a_folder_that_is_not_there() -> None:
    result = p2pl("report", "none", "--serve")
    assert (result.exit_code, "there is no such folder" in result.stderr) == (2, True)
