"""Studies as processes that are killed, and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.studies import write_study

from p2pl_async.study.folder import StudyFolder

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="signals and /proc as on Linux")


def start(file: Path, *options: str) -> subprocess.Popen[str]:
    arguments = [
        sys.executable,
        "-m",
        "p2pl_async",
        "study",
        "run",
        str(file),
        "--out",
        str(file.parent / "results"),
        *options,
    ]
    return subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)


def jobs_running(place: Path) -> list[int]:
    """Return the ids of processes that run a job of the study at `place`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if b"p2pl_async.cli.job" in line and str(place).encode() in line:
                found.append(int(entry.name))
    return found


def wait_until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_study_killed_with_kill_9_ends_its_jobs_and_goes_on_when_started_again(tmp_path: Path) -> None:
    text = 'base = "base.toml"\nseeds = 1\nvary.protocol.sleep = [0, 300]\n'
    file, folder = write_study(tmp_path, text), StudyFolder(tmp_path / "results")
    study = start(file)
    wait_until(lambda: len(folder.done()) == 1 and list((folder.path / "part").glob("*/run/summary.json")))
    (kept,) = folder.done()
    stamp = (folder.job(kept) / "summary.json").stat().st_mtime_ns
    study.kill()
    study.communicate()
    wait_until(lambda: not jobs_running(tmp_path))

    (tmp_path / "study.toml").write_text(text.replace("300]", "0.001]"))
    again = start(file)
    assert again.communicate()[1].splitlines()[-1].endswith("2 of 2, complete")
    assert again.returncode == 0
    assert (folder.job(kept) / "summary.json").stat().st_mtime_ns == stamp
    assert list((folder.path / "part").iterdir()) == []


def test_a_job_that_is_killed_fails_alone_and_the_study_ends_with_1(tmp_path: Path) -> None:
    file = write_study(tmp_path, f'base = "base.toml"\nseeds = 1\nvary.protocol.end = [{signal.SIGKILL:d}, 0]\n')
    study = start(file, "--jobs", "2")
    said = study.communicate()[1]
    assert study.returncode == 1
    assert "failed: protocol.end = 9, seed 1\n    ended by SIGKILL" in said
    assert "1 of 2 runs failed" in said
    assert len(StudyFolder(tmp_path / "results").done()) == 1


def test_ctrl_c_ends_the_jobs_too_and_exits_with_130(tmp_path: Path) -> None:
    file = write_study(tmp_path, 'base = "base.toml"\nseeds = 1\nvary.protocol.sleep = [300]\n')
    study = start(file, "--quiet")
    wait_until(lambda: list((tmp_path / "results" / "part").glob("*/run/summary.json")))  # a job has begun
    os.kill(study.pid, signal.SIGINT)
    assert study.communicate()[1].startswith("interrupted")
    assert study.returncode == 130
    assert jobs_running(tmp_path) == []
    assert StudyFolder(tmp_path / "results").failures() == {}
