"""Mistakes in a user's own code: the answer names the file, the line, and what was expected."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

import p2pl_async
from p2pl_async import clock
from p2pl_async.cli import main as cli
from p2pl_async.experiment import emulation, watchdog

HEAD = """import numpy as np, trio
from dataclasses import dataclass
from typing import ClassVar, Literal
from p2pl_async import Dataset, DataSource, Message, Model, Protocol

@dataclass(frozen=True)
class Ball(Message, tag="test-ball"):
    n: int

class Mine(Protocol):
    kind: Literal["mine"] = "mine"
    trains: ClassVar[bool] = False

"""  # 13 lines
SCENARIO = 'devices.count = 2\nprotocol = "mine.py:Mine"\nstop.virtual_time = "9 s"\nlink.latency = "0 s"\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(clock, "PATIENCE", 5000)
    monkeypatch.setattr(emulation, "STEPS_AT_AN_INSTANT", 500)
    return tmp_path


def head(folder: Path) -> str:
    """Return the beginning of the user's file; a tag belongs to one file."""
    return HEAD.replace("test-ball", folder.name)


def answer(folder: Path, code: str, scenario: str = SCENARIO, *, trains: bool = False) -> str:
    """Run the user's code; return what is said, after checking that it's taken for the user's mistake."""
    (folder / "mine.py").write_text(head(folder).replace("= False", f"= {trains}") + code)
    (folder / "s.toml").write_text(scenario)
    result = CliRunner().invoke(cli.app, ["run", "s.toml", "--out", "out", "--quiet", "--no-plots"])
    assert result.exit_code == 2
    assert "Traceback" not in result.stderr
    assert "bug in p2pl_async" not in result.stderr
    return result.stderr


def test_an_error_in_a_protocol_names_file_and_line(folder: Path) -> None:
    said = answer(
        folder, "    async def run(self, device):\n        await trio.sleep(2)\n        raise ValueError('oops')\n"
    )
    assert f"device 0 failed at 2 s: ValueError: oops ({folder}/mine.py, line 16)" in said


def test_an_error_in_a_nursery_of_a_protocol_is_shown_itself(folder: Path) -> None:
    code = "    async def run(self, device):\n        async with trio.open_nursery() as n:\n"
    code += "            n.start_soon(self.x)\n"
    said = answer(folder, code + "    async def x(self):\n        raise ValueError('oops')\n")
    assert f"ValueError: oops ({folder}/mine.py, line 18)" in said


def test_run_must_be_a_coroutine(folder: Path) -> None:
    said = answer(folder, "    def run(self, device):\n        pass\n")
    assert "Mine.run must be a coroutine; write async def run(self, device)" in said
    assert "mine.py, line 10" in said


def test_a_loop_that_lets_no_time_pass_is_ended(folder: Path) -> None:
    said = answer(folder, "    async def run(self, device):\n        while True:\n            await trio.sleep(0)\n")
    assert "device 0, and 1 more, went on 500 times at 0 s without virtual time passing" in said
    assert f"({folder}/mine.py, line 16)" in said


def test_a_protocol_that_computes_for_long_without_awaiting_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(watchdog, "SECONDS", 0.05)
    code = "    async def run(self, device):\n        import sys, time\n        end = time.thread_time() + 10\n"
    code += "        while device.id == 1 and not sys.stderr.getvalue() and time.thread_time() < end:\n"
    code += "            device.now\n"
    code += "        await trio.sleep(1)\n"
    (folder / "mine.py").write_text(head(folder) + code)
    (folder / "s.toml").write_text(SCENARIO)
    p2pl_async.run("s.toml")
    said = capsys.readouterr().err
    assert "device 1 has computed for 0.05 s without awaiting anything" in said
    assert f"({folder}/mine.py, line 1" in said
    assert said.count("device 1") == 1


def test_messages_to_and_fro_without_latency_are_ended(folder: Path) -> None:
    code = """    async def run(self, device):
        await trio.sleep(1)
        if device.id == 0:
            device.broadcast(Ball(0))
        while True:
            ball = await device.receive(Ball)
            device.broadcast(Ball(ball.n + 1))
"""
    said = answer(folder, code)
    assert "went on 500 times at 1 s without virtual time passing" in said
    assert f"({folder}/mine.py, line 19)" in said


def test_many_messages_at_one_instant_are_fine(folder: Path) -> None:
    (folder / "mine.py").write_text(
        head(folder)
        + "    async def run(self, device):\n        for i in range(2000):\n            device.broadcast(Ball(i))\n"
        + "        for i in range(2000):\n            await device.receive(Ball)\n"
    )
    (folder / "s.toml").write_text(SCENARIO)
    assert p2pl_async.run("s.toml").summary["messages"]["delivered"] == 4000


def test_a_data_set_that_raises_is_the_users(folder: Path) -> None:
    code = "    async def run(self, device):\n        device.initial_params()\n\nclass Data(DataSource):\n"
    code += '    kind: Literal["d"] = "d"\n    def load(self):\n        raise KeyError("x")\n'
    said = answer(folder, code, SCENARIO + 'data.dataset = "mine.py:Data"\n', trains=True)
    assert f"{folder}/mine.py, line 20, in load: KeyError: 'x'" in said


def test_run_takes_the_path_of_a_scenario_and_nothing_else(folder: Path) -> None:
    (folder / "mine.py").write_text(head(folder) + "    async def run(self, device):\n        await trio.sleep(1)\n")
    (folder / "s.toml").write_text(SCENARIO)
    assert p2pl_async.run("s.toml", out="out").summary["status"] == "complete"
    with pytest.raises(p2pl_async.ScenarioError, match=r"contains the result of a run; .*force=True"):
        p2pl_async.run(folder / "s.toml", out="out")
    assert p2pl_async.run(folder / "s.toml", out="out", force=True).path == Path("out")
    with pytest.raises(TypeError, match=r"takes a scenario or the path of its file, not a dict; .*model_validate"):
        p2pl_async.run({"devices": {"count": 2}})  # type: ignore[arg-type]
