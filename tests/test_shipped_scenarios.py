"""Every scenario in the repository is one that `p2pl check` takes, and opens with the question it answers."""

from __future__ import annotations

from pathlib import Path

import pytest
from goldens import ROOT
from typer.testing import CliRunner

from p2pl_async.cli.main import app

WITH_DATA_OF_THE_USER = {"har", "people", "p2pl-cifar10"}  # which a check in full would look for
FILES = sorted(path for path in (ROOT / "scenarios").rglob("*.toml") if path.parent.name != "studies")


def test_there_are_scenarios() -> None:
    assert len(FILES) >= 26


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_is_fine(path: Path) -> None:
    quick = ["--quick"] if path.stem in WITH_DATA_OF_THE_USER else []
    result = CliRunner().invoke(app, ["check", str(path), *quick])
    assert result.exit_code == 0, result.output
    assert "is fine: " in result.stdout


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_opens_with_the_question_that_it_answers(path: Path) -> None:
    first, second = path.read_text(encoding="utf-8").splitlines()[:2]
    assert first.startswith("# ")
    assert "?" in first + second
