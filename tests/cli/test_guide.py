"""The guide: every page is shown, and every code block in it runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from p2pl_async import load_scenario
from p2pl_async.cli.guide import pages
from p2pl_async.cli.main import app
from p2pl_async.results.metrics import METRICS
from p2pl_async.results.summary_keys import SUMMARY_KEYS

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(topic: str, language: str) -> list[str]:
    return [text for kind, text in BLOCK.findall(pages()[topic]) if kind == language]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the guide's scenario, small enough to run at once, and its study."""
    monkeypatch.chdir(tmp_path)
    (scenario,) = blocks("scenario", "toml")
    (tmp_path / "small.toml").write_text(scenario)
    (study,) = blocks("studies", "study")
    (tmp_path / "loss.toml").write_text(study)
    return tmp_path


def test_every_page_is_listed_and_shown() -> None:
    listed = CliRunner().invoke(app, ["guide"]).output
    assert re.findall(r"p2pl guide (\w+)", listed) == ["scenario", "protocol", "results", "studies"]
    for topic in pages():
        shown = CliRunner(env={"COLUMNS": "140"}).invoke(app, ["guide", topic])
        assert shown.exit_code == 0
        assert "<!--" not in shown.output
    assert CliRunner().invoke(app, ["guide", "nothing"]).exit_code == 2


def test_the_guide_opens_as_one_page_in_the_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    path = Path(CliRunner().invoke(app, ["guide", "--open"]).output.strip())
    assert opened == [path.as_uri()]
    assert "Writing a protocol" in path.read_text(encoding="utf-8")
    one = Path(CliRunner().invoke(app, ["guide", "studies", "--open"]).output.strip())
    assert "Writing a protocol" not in one.read_text(encoding="utf-8")


def test_the_results_page_has_every_key_and_metric() -> None:
    text = pages()["results"]
    assert [name for name in (*SUMMARY_KEYS, *METRICS) if f"`{name}" not in text] == []


def test_the_pages_scenario_is_valid_and_python_reads_its_results(place: Path, capsys) -> None:
    (code,) = blocks("results", "python")
    names: dict[str, Any] = {}
    exec(compile(code, "guide", "exec"), names)
    assert names["result"].summary["status"] == "complete"
    assert len(names["accuracy"]) > 0
    assert (
        f"{names['result'].summary['accuracy']} {names['result'].summary['messages']['lost']}"
        in capsys.readouterr().out
    )


def test_the_pages_protocol_learns(place: Path) -> None:
    (code,) = blocks("protocol", "python")
    (place / "halfway.py").write_text(code)
    changes = [
        'protocol={kind="halfway.py:Halfway", pause="1 s"}',
        'stop.virtual_time="15 s"',
        "data.train_samples=600",
    ]
    from p2pl_async import run

    result = run(load_scenario("small.toml", changes))
    assert result.summary["rounds"]["min"] >= 1


def test_the_pages_study_plans_and_its_python_runs_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from helpers.studies import Recorded

    from p2pl_async.study import running
    from p2pl_async.study.planning import load_study

    assert len(load_study("loss.toml").jobs) == 25
    here = Recorded(lambda order: {"accuracy": {"min": 0.9}, "target": {"of": "every_device", "accuracy": 0.9,
                                   "reached": True, "virtual_seconds": 3.0, "bytes_on_air": 4e6}})  # fmt: skip
    monkeypatch.setattr(running, "run_task", here._end)
    (code,) = blocks("studies", "python")
    exec(compile(code, "guide", "exec"), {})
    assert len(list((place / "results" / "loss" / "jobs").iterdir())) == 25
