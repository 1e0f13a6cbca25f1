"""A run that is ended before any of its file operations leaves a folder that can be read, or used again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.speakers import Speakers

from p2pl_async.errors import ScenarioError
from p2pl_async.experiment import running as experiment
from p2pl_async.results.folder import RunFolder
from p2pl_async.results.publishing import NEW, summary_of
from p2pl_async.results.run import Run, load_run
from p2pl_async.scenario.scenario import Scenario
from p2pl_async.scenario.tables import Stop

EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"}


def speak(seed: int) -> Scenario:
    return Scenario.model_validate(
        {"name": "s", "seed": seed, "devices": {"count": 2}, "protocol": Speakers(), "stop": {"rounds": 3}}
    )


class Watcher:
    """Copies a folder before each operation that changes a file in it: what a kill at that instant would leave."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.copies: list[Path] = []
        sys.addaudithook(self._audited)  # for good: there is no way to remove it

    def _audited(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is not None and event in EVENTS and (event != "open" or _writes(arguments)):
            self.look(arguments[0])

    def look(self, path: object) -> None:
        folder, self.folder = self.folder, None  # copying is no operation of the run
        if folder is not None and str(folder) in str(path):
            copy = folder.with_name(f"{folder.name}-{len(self.copies)}")
            shutil.copytree(folder, copy) if folder.exists() else copy.mkdir()
            self.copies.append(copy)
        self.folder = folder


WATCHER = Watcher()


def _writes(arguments: tuple[Any, ...]) -> bool:
    flags = arguments[2]
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def read(path: Path) -> Run | None:
    """Return the result in a folder, all of its tables read; None if there is none."""
    if summary_of(path) is None and summary_of(path / NEW) is None:
        return None
    run = load_run(path)
    assert run.metrics is not None
    assert run.devices is not None
    assert run.links is not None
    return run


def use_again(path: Path) -> None:
    folder = RunFolder(path, "s", 1, force=True)
    folder.begin("")
    folder.close()


def states(folder: Path, monkeypatch: pytest.MonkeyPatch, work: Callable[[], object]) -> list[str | None]:
    """Do the work; return the status of the result that the folder holds before each operation, and at the end."""
    for module, name in ((pa, "OSFile"), (pq, "ParquetWriter")):  # which Python's audit doesn't see
        made = getattr(module, name)

        def look(path: Any, *arguments: Any, made: Any = made) -> Any:
            WATCHER.look(path)
            return made(path, *arguments)

        monkeypatch.setattr(module, name, look)
    WATCHER.folder, WATCHER.copies = folder, []
    try:
        work()
    finally:
        WATCHER.folder = None
    monkeypatch.undo()
    found: list[str | None] = []
    for copy in [*WATCHER.copies, folder]:
        run = read(copy)
        found.append(None if run is None else f"{run.summary['status']} {run.summary['seed']}")
        use_again(copy)
    return found


def test_a_run_ended_before_any_file_operation_leaves_a_folder_to_read_or_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "run"
    found = states(place, monkeypatch, lambda: experiment.run(speak(1), out=place, trace=True))
    assert len(found) > 20
    assert set(found) == {None, "killed 1", "complete 1"}
    assert found == sorted(found, key=[None, "killed 1", "complete 1"].index)  # once there is a result, there is one


def test_a_replacing_run_ended_before_any_file_operation_leaves_the_old_result_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "run"
    experiment.run(speak(1), out=place)
    found = states(place, monkeypatch, lambda: experiment.run(speak(2), out=place, force=True))
    assert len(found) > 20
    assert set(found) == {"complete 1", "complete 2"}
    assert found == sorted(found, key=str)  # the old one until the new one stands


@pytest.mark.parametrize("size", [4, 12, 20, 32])
def test_a_full_disk_leaves_a_failed_run_and_a_folder_to_use_again(tmp_path: Path, size: int) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(tmp_path)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount a tmpfs")
    try:
        scenario = speak(1).model_copy(update={"stop": Stop.model_validate({"rounds": 3000})})
        with pytest.raises(ScenarioError, match="can't be written: No space left on device; make room"):
            experiment.run(scenario, out=tmp_path / "run", trace=True)
        run = read(tmp_path / "run")
        assert run is None or run.summary["status"] == "failed"
        RunFolder(tmp_path / "run", "s", 1, force=True)
    finally:
        subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)
