"""The guide: every page is shown, every code block in it runs, and its tables have everything that a run records."""

from __future__ import annotations

import contextlib
import functools
import re
import shlex
import subprocess
import sys
import types
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pytest
import typer.main
from typer.testing import CliRunner

from p2pl_async import Run, load_scenario, messages, run
from p2pl_async.cli.guide import narrow, pages
from p2pl_async.cli.main import app
from p2pl_async.results.columns import COLUMNS
from p2pl_async.results.metrics import METRICS
from p2pl_async.results.summary_keys import SUMMARY_KEYS, SUMMARY_TEXTS

ROOT = Path(__file__).parents[2]


class Block(NamedTuple):
    """A block of code: the page that has it, the name of the file that it is, if any, its language and text."""

    page: str
    name: str
    language: str
    text: str


BLOCKS = [
    Block(page, *found)
    for page, text in pages().items()
    for found in re.findall(r"(?:^<!-- (\S+) -->\n)?^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
]
FILES = {block.name: block.text for block in BLOCKS if block.name}
SCENARIOS = [block.name for block in BLOCKS if block.language == "toml"]
SHORT = {"gossip.toml": "1 s", "radios.toml": "3 s", "mixed.toml": "3 s", "halfway.toml": "1 min"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with every file that a page has, in which the module's tests run.

    A process has one message of each tag, and other tests load `scenarios/gossip.py`, which is as the guide's.
    """
    folder = tmp_path_factory.mktemp("guide")
    for name, text in FILES.items():
        (folder / name).write_text(text, encoding="utf-8")
    with contextlib.chdir(folder), mock.patch.dict(messages._BY_TAG):
        messages._BY_TAG.pop("value", None)
        yield folder


@functools.cache
def result_of(name: str) -> Run:
    """Return the result of a page's scenario, a few virtual seconds of it, with all that a run records."""
    return run(load_scenario(name, [f'stop.virtual_time="{SHORT.get(name, "5 s")}"']), trace=True)


def test_every_page_is_listed_in_reading_order_and_shown() -> None:
    listed = CliRunner().invoke(app, ["guide"]).output
    topics = ["start", "scenario", "links", "protocols", "own", "results", "studies", "predictions", "limits"]
    assert re.findall(r"p2pl guide (\w+)", listed) == topics == list(pages())
    for topic in topics:
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


# What pages say of results


def test_the_results_page_has_every_key_metric_and_column() -> None:
    text = pages()["results"]
    names = [*SUMMARY_KEYS, *SUMMARY_TEXTS, *METRICS, *(column for table in COLUMNS.values() for column in table)]
    assert [name for name in names if f"`{name}" not in text] == []
    assert "<!-- columns" not in text


def test_the_protocols_page_has_every_protocol() -> None:
    from p2pl_async.cli.listing import groups_of_kinds

    text = pages()["protocols"]
    assert [kind for kind, _ in groups_of_kinds()["protocols"] if f"`{kind}`" not in text] == []


def known(name: str, names: Any) -> bool:
    return any(fnmatch(name, pattern) for pattern in names)


@pytest.mark.parametrize("name", ["radios.toml", "groups.toml", "learning.toml", "compressed.toml"])
def test_all_that_a_run_records_is_on_the_page(place: Path, name: str) -> None:
    result = result_of(name)
    ranges = [f"{key}.m*" for key in ("accuracy", "accuracy_trained", "rounds", "energy.per_device")]
    paths = list(leaves(result.summary))
    assert [path for path in paths if not known(path, [*SUMMARY_KEYS, *SUMMARY_TEXTS, *ranges])] == []
    assert [metric for metric in result.metrics.metric.unique() if not known(metric, METRICS)] == []
    scores = list(result.summary["scores"])
    tables = {"devices": result.devices, "links": result.links, "metrics": result.metrics, "trace": result.trace}
    for table, frame in tables.items():
        named = [column for key, columns in COLUMNS.items() if key.split(",")[0] == table for column in columns]
        named = [*(column for column in named if column != "*"), *scores]
        assert frame is not None
        assert [column for column in frame.columns if not known(column, named)] == []


def leaves(table: Any, path: str = "") -> Iterator[str]:
    """Yield the path of everything in a summary that is there and not a table."""
    if not isinstance(table, dict):
        if table is not None:
            yield path
        return
    for key, value in table.items():
        yield from leaves(value, f"{path}.{key}" if path else key)


# Blocks


def test_every_block_is_of_a_kind_that_a_test_runs() -> None:
    assert {block.language for block in BLOCKS} == {"toml", "python", "study"}
    assert [block.page for block in BLOCKS if block.language != "python" and not block.name] == []
    tried = {"gossip.py", "halfway.py", "test_gossip.py", "track.py", "groups.py"}  # by the tests below
    assert {block.name for block in BLOCKS if block.language == "python" and block.name} == tried


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_runs(place: Path, name: str) -> None:
    summary = result_of(name).summary
    assert summary["status"] == "complete"
    assert summary["messages"]["delivered"] > 0


@pytest.mark.parametrize("page", [block.page for block in BLOCKS if block.language == "python" and not block.name])
def test_the_python_of_a_page_runs(place: Path, page: str, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    if page == "studies":
        pretend_jobs(monkeypatch)
    (code,) = (block.text for block in BLOCKS if (block.page, block.name, block.language) == (page, "", "python"))
    exec(compile(code, page, "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) >= 1


def pretend_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the jobs of a study end at once."""
    from helpers.studies import Recorded

    from p2pl_async.study import running

    target = {"of": "every_device", "accuracy": 0.9, "reached": True, "virtual_seconds": 3.0, "bytes_on_air": 4e6}
    here = Recorded(lambda order: {"accuracy": {"min": 0.9}, "target": target})
    monkeypatch.setattr(running, "run_task", here._end)


def test_the_protocol_with_its_own_model_and_data_learns(place: Path) -> None:
    accuracy = result_of("halfway.toml").metrics.query("metric == 'accuracy'").groupby("time_s").value.mean()
    assert accuracy.iloc[0] < 0.7 < 0.85 < accuracy.iloc[-1]


def test_results_are_split_by_group(place: Path, capsys) -> None:
    exec(compile(FILES["groups.py"], "groups.py", "exec"), {})
    assert re.search(r"^old .* 0\.\d", capsys.readouterr().out, re.MULTILINE)


def test_the_tracker_gets_the_runs_numbers(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(load_scenario("small.toml", ['stop.virtual_time="5 s"']), out="runs/small/1", force=True)
    logged: list[tuple[str, Any]] = []

    def started(run_name: str) -> contextlib.nullcontext[None]:
        logged.append(("run", run_name))
        return contextlib.nullcontext()

    mlflow: Any = types.ModuleType("mlflow")
    mlflow.start_run = started
    mlflow.log_params = lambda params: logged.append(("params", params))
    mlflow.log_metric = lambda name, value, step: logged.append((name, value))
    mlflow.log_artifact = lambda path: logged.append(("artifact", path))
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    exec(compile(FILES["track.py"], "track.py", "exec"), {})
    assert logged[0] == ("run", "small")
    assert logged[-1] == ("artifact", "runs/small/1/report.html")
    assert [name for name, _ in logged[2:-1]] == ["accuracy"] * (len(logged) - 3)


def test_the_property_test_of_a_protocol_finds_what_breaks_its_promise(place: Path, tmp_path: Path) -> None:
    """As it stands it passes; of a device that overshoots, it leaves a scenario that `p2pl run` repeats."""
    assert len(FILES["test_gossip.py"].splitlines()) <= 15
    (tmp_path / "gossip.py").write_text(FILES["gossip.py"], encoding="utf-8")
    (tmp_path / "test_gossip.py").write_text(
        "import helpers_profile\n" + FILES["test_gossip.py"] + "\ntest_values_stay_between_the_first_ones()\n",
        encoding="utf-8",
    )
    (tmp_path / "helpers_profile.py").write_text(
        "from hypothesis import HealthCheck, settings\n"
        "settings.register_profile('few', max_examples=15, derandomize=True, database=None,\n"
        "                          suppress_health_check=list(HealthCheck))\n"
        "settings.load_profile('few')\n",
        encoding="utf-8",
    )
    command = [sys.executable, "test_gossip.py"]
    how = {"cwd": tmp_path, "capture_output": True, "text": True, "env": environment()}
    done = subprocess.run(command, check=False, **how)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stderr
    broken = FILES["gossip.py"].replace("(x + heard.x) / 2", "x + 2 * heard.x")
    (tmp_path / "gossip.py").write_text(broken, encoding="utf-8")
    done = subprocess.run(command, check=False, **how)  # type: ignore[call-overload]
    assert "outside of" in done.stderr
    (path,) = (tmp_path / ".hypothesis" / "worlds").iterdir()
    assert f"p2pl run {path.relative_to(tmp_path)}" in done.stderr
    assert "arrives at" in done.stderr
    assert len(path.read_text().splitlines()) < 20
    with contextlib.chdir(tmp_path), mock.patch.dict(messages._BY_TAG):
        messages._BY_TAG.pop("value", None)  # of the page's own, which `place` has
        assert run(path).summary["status"] == "complete"


def environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT)}


def test_the_pages_study_plans(place: Path) -> None:
    from p2pl_async.study.planning import load_study

    assert len(load_study("loss.toml").jobs) == 25


# In the terminal


@pytest.mark.parametrize("topic", ["start", "scenario", "studies"])
def test_on_80_columns_no_command_or_line_of_a_scenario_is_broken(topic: str) -> None:
    said = CliRunner().invoke(app, ["guide", topic], env={"COLUMNS": "80"}).output
    shown = {line.partition("  # ")[0].strip() for line in said.splitlines()}
    code = [line.partition("  # ")[0].strip() for line in re.findall(r"^    (\S.*)$", pages()[topic], re.MULTILINE)]
    assert code
    assert [line for line in code if line not in shown and len(line) < 76] == []


def test_a_comment_moves_above_a_line_that_is_too_long_and_no_other_line_changes() -> None:
    text = "    p2pl check s.toml   # what is wrong\n    x = 1  # one\nfar too long   # but no code\n"
    assert narrow(text, 24) == (
        "    # what is wrong\n    p2pl check s.toml\n    x = 1  # one\nfar too long   # but no code\n"
    )


# Commands


def wrong_in(line: str, *, whole: bool = True) -> str:
    """Return what is wrong with a command, "" if nothing; within a sentence, it may lack its file."""
    _, *words = shlex.split(line, comments=True)
    command: Any = typer.main.get_command(app)
    name = "p2pl"
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        name, *words = words
        if name not in command.commands:
            return f"no command {name}"
        command = command.commands[name]
    if not words or "--help" in words:
        return ""
    try:
        command.make_context(name, words)
    except Exception as error:  # typer's own click doesn't say where its errors are
        return "" if type(error).__name__ == "MissingParameter" and not whole else str(error)
    return ""


def test_every_command_that_guide_and_readme_name_has_such_arguments() -> None:
    texts = [*pages().values(), (ROOT / "README.md").read_text(encoding="utf-8")]
    lines = {line: True for text in texts for line in re.findall(r"^    (p2pl .*)$", text, re.MULTILINE)}
    lines |= {line: False for text in texts for line in re.findall(r"`(p2pl [^`]+)`", text) if line not in lines}
    assert len(lines) > 40
    assert {line: wrong for line, whole in lines.items() if (wrong := wrong_in(line, whole=whole))} == {}


def test_a_command_with_a_wrong_option_a_wrong_name_or_no_file_is_found() -> None:
    assert "No such option: --nothing" in wrong_in("p2pl run small.toml --nothing")
    assert wrong_in("p2pl runn small.toml") == "no command runn"
    assert wrong_in("p2pl run --quiet")
    assert not wrong_in("p2pl run --quiet", whole=False)
