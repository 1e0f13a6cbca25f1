"""The page of a study: its tables, figures and verdicts, and the way to each run."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest
from helpers.studies import Recorded, write_study
from typer.testing import CliRunner

from p2pl_async.cli.main import app
from p2pl_async.study.folder import StudyFolder
from p2pl_async.study.page import write_study_page
from p2pl_async.study.planning import load_study
from p2pl_async.study.results import results_of
from p2pl_async.study.running import run_study

TEXT = """
question = "Does <it>?"
base = "base.toml"
seeds = 2
[vary]
"link.loss" = ["0 %", "30 %"]
[[table]]
title = "worst"
value = ["100 * accuracy.min", "time_to(99 %)"]
[[figure]]
value = "accuracy.min"
x = "link.loss"
[[expect]]
claim = "loss is no trouble"
value = "accuracy.min"
above = 0.8
"""


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    """A study of four runs, all done, none of which reached 99 %."""
    study = load_study(write_study(tmp_path, TEXT))
    folder = StudyFolder(tmp_path / "results")
    target = {"of": "every_device", "accuracy": 0.99, "reached": False}
    answer = {"accuracy": {"min": 0.875}, "target": target, "virtual_seconds": 120.0}
    run_study(study, folder, Recorded(lambda order: answer))
    return folder


def test_it_has_tables_figures_verdicts_and_a_link_to_each_run(folder: StudyFolder) -> None:
    done = CliRunner().invoke(app, ["report", str(folder.path)])
    assert done.exit_code == 0, done.output
    page = (folder.path / "report.html").read_text(encoding="utf-8")
    assert "Does &lt;it&gt;?" in page
    assert "<strong>met</strong>: loss is no trouble" in page
    assert page.count('src="data:image/png;base64,') == 1
    links = re.findall(r'<a href="([^"]+)"', page)
    assert sorted(links) == sorted(f"jobs/{id}" for id in folder.done())
    assert len(re.findall(r"<td>87.5</td><td>&gt; 120</td>", page)) == 4


def test_it_can_load_and_run_nothing(folder: StudyFolder) -> None:
    page = write_study_page(results_of(load_study(folder.path.parent / "study.toml"), folder), folder).read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy is not None
    assert "script-src" not in html.unescape(policy.group(1))
    assert "default-src 'none'" in html.unescape(policy.group(1))
    assert "<script" not in page


def test_a_run_with_a_page_is_led_to_and_links_hold_from_another_folder(folder: StudyFolder, tmp_path: Path) -> None:
    (id, *_) = sorted(folder.done())
    (folder.job(id) / "report.html").write_text("")
    results = results_of(load_study(tmp_path / "study.toml"), folder)
    assert f'href="jobs/{id}/report.html"' in write_study_page(results, folder).read_text()
    elsewhere = tmp_path / "pages"
    elsewhere.mkdir()
    page = write_study_page(results, folder, elsewhere / "page.html").read_text()
    assert f'href="{folder.job(id).absolute()}/report.html"' in page


def test_a_study_that_is_not_done_says_so(folder: StudyFolder, tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path, TEXT.replace("seeds = 2", "seeds = 3")))
    page = write_study_page(results_of(study, folder), folder).read_text()
    assert "2 of 6 runs are missing" in page
