"""The folder of a study: finished runs, failures, and what is being written.

    results/<study>/
        study.json      the study as it was last run: its settings, and which run belongs to which variant and seed
        jobs/<id>/      the result of a finished run, as `p2pl run` writes it
        failed/<id>/    failure.json and the log of a run that failed
        baselines/      results that runs share: computed once for all with the same data, model, training and seed
        slurm/          scripts and logs of Slurm's jobs
        figures/        written by `p2pl study show`
        report.html     written by `p2pl report`
        part/<id>-*/    what a run in progress writes; renamed when complete, removed when it was cut short

A run appears in `jobs` in one step, and only when it is complete. Nothing else says what is done.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from p2pl_async.results.lock import FolderLock, is_locked
from p2pl_async.results.table import refuse, writing

RESULTS = Path("results")
BASELINES = "baselines"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a run failed.

    Attributes:
        title: its variant and seed.
        message: what it printed last, or the signal that ended it.
        code: its exit code; negative: ended by that signal.
        seconds: wall time until then.
    """

    title: str
    message: str
    code: int
    seconds: float


class StudyFolder:
    """What is done of a study, and what failed.

    Args:
        path: the folder; made when something is first written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FolderLock()

    def done(self) -> set[str]:
        """Return the ids of all finished runs."""
        return set(_names(self.path / "jobs"))

    def failures(self) -> dict[str, Failure]:
        """Return why runs failed, by their ids; runs that were done since are not among them."""
        found = {}
        for name in sorted(set(_names(self.path / "failed")) - self.done()):
            with contextlib.suppress(OSError, ValueError, TypeError):
                text = (self.path / "failed" / name / "failure.json").read_text(encoding="utf-8")
                found[name] = Failure(**json.loads(text))
        return found

    def job(self, id: str) -> Path:
        """Return the folder of a finished run."""
        return self.path / "jobs" / id

    def open(self) -> None:
        """Make the folder, keep other studies out of it until `close`, and remove what runs left that were cut short.

        Raises:
            ScenarioError: if another study runs in it, if it contains something else, or if it can't be written.
        """
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            if not self._lock.take(self.path):
                refuse(
                    self.path, "is in use by another `p2pl study run`; wait until that ends, or choose another --out"
                )
            strangers = {name for name in _names(self.path) if not name.startswith(".")} - _OWN
            if strangers and not (self.path / "study.json").exists():
                refuse(self.path, f"contains files that no study wrote ({min(strangers)}); choose another folder")
            for name in ("jobs", "failed", "part"):
                (self.path / name).mkdir(exist_ok=True)
            for name in _names(self.path / "part"):
                if not is_locked(self.path / "part" / name / "run"):
                    shutil.rmtree(self.path / "part" / name, ignore_errors=True)

    def close(self) -> None:
        """Let other studies in."""
        self._lock.release()

    def attempt(self, id: str) -> Path:
        """Return a new folder for one try at a run."""
        path = self.path / "part" / f"{id}-{secrets.token_hex(4)}"
        path.mkdir(parents=True)
        return path

    def keep(self, id: str, result: Path) -> None:
        """Put a complete result where finished runs are; one that is already there stays."""
        _to_disk(result)
        with contextlib.suppress(FileExistsError, OSError) if self.job(id).exists() else contextlib.nullcontext():
            result.rename(self.job(id))
        shutil.rmtree(self.path / "failed" / id, ignore_errors=True)

    def fail(self, id: str, failure: Failure, log: Path) -> None:
        """Record why a run failed, with its log."""
        place = self.path / "failed" / id
        place.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(OSError):
            shutil.copyfile(log, place / "log.txt")
        _write(place / "failure.json", json.dumps(asdict(failure), indent=2) + "\n")

    def record(self) -> dict[str, Any]:
        """Return the study as it was last run; {} if it never was."""
        try:
            found = json.loads((self.path / "study.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Note the study as it runs now."""
        with writing(self.path):
            _write(self.path / "study.json", json.dumps(record) + "\n")


_OWN = {"study.json", "study.json.part", "jobs", "failed", "part", "figures", "slurm", "report.html", BASELINES}


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _write(path: Path, text: str) -> None:
    """Write a file in one step: a reader, and a kill, find the old one or the new one."""
    temporary = path.with_name(f"{path.name}.part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _to_disk(folder: Path) -> None:
    """Have the system write a folder's files out, so that after a power cut none of a finished run is empty."""
    for path in [*folder.rglob("*"), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
