"""How a run can be ended from outside: signals, a kill, a full disk; all through the real command."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from helpers.small_worlds import small

from p2pl_async.errors import DeviceFailed, ScenarioError
from p2pl_async.experiment import running as experiment
from p2pl_async.results.folder import RunFolder
from p2pl_async.results.run import Run, Snapshot, load_run
from p2pl_async.results.table import Table

TALKER = """
import time
import numpy as np, trio
from pathlib import Path
from typing import ClassVar, Literal
from p2pl_async import Protocol

class Talker(Protocol):
    kind: Literal["talker"] = "talker"
    trains: ClassVar[bool] = False

    async def run(self, device):
        while device.running:
            await trio.sleep(1)
            device.finish_round(np.zeros(2))
            if device.id == 0 and device.round == 5000:
                Path("here").touch()
                time.sleep(600)
"""
SCENARIO = 'devices.count = 3\nprotocol.kind = "talker.py:Talker"\nstop.virtual_time = "1000000 min"\n'
COMMAND = "import sys; from p2pl_async.cli.main import main; sys.exit(main())"


def begun(folder: Path) -> subprocess.Popen[str]:
    """Start a run that takes minutes; return once it has recorded something, and a device of it does not go on."""
    (folder / "talker.py").write_text(TALKER)
    (folder / "s.toml").write_text(SCENARIO)
    command = [sys.executable, "-c", COMMAND, "run", "s.toml", "--out", "out", "--no-plots"]
    # As from a terminal: where tests run under `nohup`, SIGHUP would be ignored.
    hears = functools.partial(signal.signal, signal.SIGHUP, signal.SIG_DFL)
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True, preexec_fn=hears)
    while not (folder / "here").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    assert (folder / "out" / "metrics.arrows").stat().st_size > 0
    return process


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_ends_a_run_as_orderly_as_ctrl_c(tmp_path: Path, name: str) -> None:
    number = getattr(signal, name)
    process = begun(tmp_path)
    process.send_signal(number)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 128 + number
    assert ("interrupted" if name == "SIGINT" else f"ended by {name}") in said
    assert "what was recorded so far is in out" in said
    assert "Traceback" not in said
    run = load_run(tmp_path / "out")
    assert run.summary["status"] == "interrupted"
    assert len(run.metrics) > 4096
    assert not list((tmp_path / "out").glob("*.arrows"))


def test_a_killed_run_says_so_and_while_it_goes_no_other_can_use_its_folder(tmp_path: Path) -> None:
    process = begun(tmp_path)
    assert load_run(tmp_path / "out").summary["status"] == "running"
    with pytest.raises(ScenarioError, match="is in use by another run"):
        RunFolder(tmp_path / "out", "s", 1, force=True)
    process.kill()
    process.communicate(timeout=300)
    run = load_run(tmp_path / "out")
    assert run.summary["status"] == "killed"
    assert len(run.metrics) > 0
    RunFolder(tmp_path / "out", "s", 1, force=True)


INTERRUPTED_IMPORT = """
import sys
from p2pl_async.__main__ import main

wanted = sys.argv[1]
sys.argv = ["p2pl", "check", "--quick", "s.toml"]

class CtrlC:
    def find_spec(self, name, path, target=None):
        if name == wanted:
            raise KeyboardInterrupt

sys.meta_path.insert(0, CtrlC())
main()
"""


@pytest.mark.parametrize("module", ["typer", "trio", "p2pl_async.scenario.tables"])
def test_ctrl_c_during_imports_shows_no_traceback(tmp_path: Path, module: str) -> None:
    (tmp_path / "s.toml").write_text(SCENARIO)
    command = [sys.executable, "-c", INTERRUPTED_IMPORT, module]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


KILLED_IN_A_BASELINE = """
import os, signal, sys
from p2pl_async import load_scenario, run

def look(snapshot):
    if snapshot.label == "local":
        os.kill(os.getpid(), signal.SIGKILL)

run(load_scenario(sys.argv[1]), out=sys.argv[2], progress=look)
"""


def test_a_kill_during_baselines_leaves_a_complete_run_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(
        'devices.count = 2\nprotocol.kind = "dgd"\nstop.rounds = 2\n'
        "data.train_samples = 40\nbaselines = { local = true, central = true }\n"
    )
    out = tmp_path / "out"
    subprocess.run([sys.executable, "-c", KILLED_IN_A_BASELINE, tmp_path / "s.toml", out], check=False, timeout=300)
    run = load_run(out)
    assert run.summary["status"] == "complete"
    assert {name: told["status"] for name, told in run.summary["baselines"].items()} == {
        "local": "killed", "central": "waiting",
    }  # fmt: skip
    assert run.baselines["local"].summary["status"] == "killed"


def ended(folder: Path, error: BaseException) -> Run:
    """Run with this error raised in the baseline, and read the result."""

    def end(snapshot: Snapshot) -> None:
        if snapshot.label == "central":
            raise error

    with pytest.raises((type(error), DeviceFailed)):
        experiment.run(small(baselines={"central": True}), out=folder, progress=end)
    return load_run(folder)


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt(), "interrupted"), (ZeroDivisionError("three"), "failed")]
)
def test_the_summary_names_what_became_of_each_baseline(tmp_path: Path, error: BaseException, status: str) -> None:
    summary = ended(tmp_path, error).summary
    assert summary["status"] == "complete"
    assert summary["baselines"]["central"]["status"] == status


def test_a_replacing_run_that_is_interrupted_leaves_the_old_result(tmp_path: Path) -> None:
    old = experiment.run(small(), out=tmp_path / "run").summary

    def end(snapshot: Snapshot) -> None:
        raise KeyboardInterrupt

    folder = RunFolder(tmp_path / "run", "small", 5, force=True)
    with pytest.raises(KeyboardInterrupt):
        experiment.run(small(seed=6), out=folder, progress=end)
    assert load_run(tmp_path / "run").summary == old
    assert load_run(folder.path).summary["status"] == "interrupted"
    new = experiment.run(
        small(seed=6, baselines={"local": True}), out=RunFolder(tmp_path / "run", "small", 6, force=True)
    )
    again = load_run(tmp_path / "run")
    assert again.summary["seed"] == 6
    assert new.path == tmp_path / "run"
    assert len(new.metrics) == len(again.metrics) > 0
    assert len(new.baselines["local"].metrics) == len(again.baselines["local"].metrics) > 0
    assert not (tmp_path / "run" / ".new").exists()


@pytest.mark.parametrize("moment", ["while it goes", "at the end"])
def test_a_full_disk_leaves_a_failed_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    def full(*_: Any) -> None:
        raise ScenarioError("metrics", [])

    monkeypatch.setattr(Table, "flush" if moment == "while it goes" else "close", full)
    write = RunFolder.write_text

    def no_room(self: RunFolder, name: str, text: str) -> None:
        if name == "summary.json" and "running" not in text:
            full()
        write(self, name, text)

    monkeypatch.setattr(RunFolder, "write_text", no_room)
    monkeypatch.setattr("p2pl_async.experiment.measured_run.device_table", lambda *_: Table(None, {}))
    with pytest.raises(ScenarioError):
        experiment.run(small(), out=tmp_path / "run")
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "failed"


def test_the_lock_of_a_folder_goes_with_its_process(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from p2pl_async.results.lock import FolderLock as L; "
    code += "lock = L(); print(lock.take(Path(sys.argv[1])), L().take(Path(sys.argv[1])))"
    for _ in range(2):
        said = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True).stdout
        assert said == "True False\n"
    assert os.listdir(tmp_path) == []
