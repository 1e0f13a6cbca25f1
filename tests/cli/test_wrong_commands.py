"""Mistakes on the command line and in Python: each is answered in its own terms, with the way out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import p2pl_async
from p2pl_async.cli import main as cli

COMMANDS = [
    ("run", "Missing argument 'SCENARIO'"),
    ("run none.toml", "no such file; did you mean"),
    ("run .", "can't be read: is a directory"),
    ("run s.toml s.toml", "unexpected extra argument"),
    ("run s.toml --set", "requires an argument"),
    ("run s.toml --set x", 'must be like "--set devices.count=50"'),
    ("run s.toml --out file.txt", "is a file, not a folder; choose another folder with --out"),
    ("run s.toml --seed -1", "greater than or equal to 0"),
    ("check s.toml --seed x", "valid integer"),
    ("check --quik s.toml", "--quick"),
    ("check s.toml --set stop.rouns=3", 'unknown key; did you mean "rounds"?'),
    ("chekc s.toml", "Did you mean 'check'?"),
    ("list protocl", 'did you mean "protocols"?'),
    ("probe s.toml --from 0", "--to"),
    ("probe s.toml --explain 0 9", "must be two devices of 0 to 3"),
    ("probe s.toml --from 0 --to 0", "no such link; 0's links go to 1, 3"),
    ("probe s.toml --from 0 --to 99", "no such link; 0's links go to 1, 3"),
    ("probe s.toml --all --size 5", 'has no unit; write it like "64 KiB"'),
    ("probe s.toml --all --interval 5", 'has no unit; write it like "20 ms"'),
    ("probe s.toml --all --count 0", "greater than or equal to 1"),
    ("import netm x -o y", 'did you mean "netem"?'),
    ("import netem x -o y", "no such file or directory"),
    ("predict s.toml --target 97", 'has no unit; write it like "5 %"'),
    ("predict s.toml --memory 4", 'has no unit; write it like "64 KiB"'),
]

CALLS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: p2pl_async.run("none.toml"), p2pl_async.ScenarioError, "no such file; did you mean"),
    (lambda: p2pl_async.run({"seed": 1}), TypeError, "takes a scenario or the path of its file, not a dict"),  # type: ignore[arg-type]
    (lambda: p2pl_async.run("s.toml", seed=3), TypeError, "unexpected keyword argument 'seed'"),  # type: ignore[call-arg]
    (lambda: p2pl_async.run("s.toml", out=5), TypeError, "out must be the path of a folder, not a int"),  # type: ignore[arg-type]
    (lambda: p2pl_async.run("s.toml", out="file.txt"), p2pl_async.ScenarioError, "is a file, not a folder"),
    (lambda: p2pl_async.load_scenario("s.toml", "seed=3"), TypeError, r'must be a list; write \["seed=3"\]'),
    (lambda: p2pl_async.load_scenario("s.toml", {"seed": 3}), TypeError, r'must be a list; write \["seed=3"\]'),  # type: ignore[arg-type]
    (lambda: p2pl_async.load_scenario("s.toml", ["sed=3"]), p2pl_async.ScenarioError, 'did you mean "seed"'),
    (lambda: p2pl_async.load_run("nothing"), p2pl_async.ScenarioError, "there is no such folder"),
    (lambda: p2pl_async.load_run("."), p2pl_async.ScenarioError, "a run's folder has a summary.json"),
    (lambda: p2pl_async.nothing, AttributeError, "has no attribute 'nothing'"),
]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.toml").write_text('devices.count = 4\nprotocol.kind = "p2pl"\nstop.rounds = 1\n')
    (tmp_path / "file.txt").touch()


@pytest.mark.parametrize(("command", "words"), COMMANDS, ids=[command for command, _ in COMMANDS])
def test_a_wrong_command_is_answered_with_the_way_out(command: str, words: str) -> None:
    result = CliRunner(env={"COLUMNS": "300"}).invoke(cli.app, command.split())
    assert result.exit_code == 2
    assert words in " ".join(result.output.split())
    assert "bug in p2pl_async" not in result.output


@pytest.mark.parametrize(("call", "error", "words"), CALLS, ids=range(len(CALLS)))
def test_a_wrong_call_is_answered_in_the_terms_of_python(
    call: Callable[[], Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        call()
    assert " --" not in str(caught.value).replace("with --out", "")  # of flags that a function doesn't have
