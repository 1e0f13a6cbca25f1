"""One job as a process of its own, wherever it runs: here, on a Ray worker, on a node of a cluster.

A job that is killed, or that fills the memory, takes no other one along.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from p2pl_async.study.folder import BASELINES, Failure, StudyFolder

_MOST_MESSAGE = 2000  # characters of a failed run's log that its record holds
INTERRUPTED = frozenset({-1, -2, -15, 129, 130, 143})
"""Exit codes of a run that was told to end, by Ctrl-C, SIGTERM or SIGHUP: no failure, it is simply not done."""
_FULL = os.strerror(errno.ENOSPC)


@dataclass(frozen=True, slots=True)
class JobOrder:
    """What a worker needs to know of a job; it can be sent to another process or host.

    Attributes:
        id: of the job.
        title: of the job, for people.
        scenario_text: the resolved scenario.
        folder: of the study, if the worker can write into it; None: it sends the result back.
        threads: of the numerical libraries.
    """

    id: str
    title: str
    scenario_text: str
    folder: str | None
    threads: int


@dataclass(frozen=True, slots=True)
class JobEnd:
    """How a job ended.

    Attributes:
        id: of the job.
        failure: why it failed; None if it is done.
        seconds: its wall time.
        files: the result's files by relative path, and "log.txt", if the task has no folder.
    """

    id: str
    failure: Failure | None
    seconds: float
    files: dict[str, bytes] = field(default_factory=dict)


Child = subprocess.Popen[bytes]


def run_task(task: JobOrder, started: Callable[[Child], None] | None = None) -> JobEnd:
    """Run a job and store its result, or why it failed.

    Args:
        task: the job.
        started: called with its process, by whoever may have to end it.

    Raises:
        OSError: if the study's folder can't be written.
    """
    if task.folder is not None:
        folder = StudyFolder(Path(task.folder))
        attempt = folder.attempt(task.id)
        failure, seconds = _run(task, attempt, started)
        store(folder, task.id, failure, attempt)
        return JobEnd(task.id, failure, seconds)
    with tempfile.TemporaryDirectory(prefix="p2pl-job-") as place:
        failure, seconds = _run(task, Path(place), started)
        sent = [path for path in Path(place).rglob("*") if path.is_file()]
        files = {path.relative_to(place).as_posix(): path.read_bytes() for path in sent}
        return JobEnd(task.id, failure, seconds, files)


def store(folder: StudyFolder, id: str, failure: Failure | None, attempt: Path) -> None:
    """Put what an attempt at a job wrote where it belongs, and remove the rest."""
    if failure is None:
        folder.keep(id, attempt / "run")
    elif failure.code not in INTERRUPTED:
        folder.fail(id, failure, attempt / "log.txt")
    shutil.rmtree(attempt, ignore_errors=True)
    if failure is not None and _FULL in failure.message:  # the other jobs would fail too
        raise OSError(errno.ENOSPC, _FULL)


def receive(folder: StudyFolder, outcome: JobEnd) -> None:
    """Store the result that a worker sent back."""
    attempt = folder.attempt(outcome.id)
    for name, content in outcome.files.items():
        path = attempt / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    store(folder, outcome.id, outcome.failure, attempt)


def _run(task: JobOrder, place: Path, started: Callable[[Child], None] | None) -> tuple[Failure | None, float]:
    """Run a job into `place`; return why it failed, and its wall time."""
    scenario = place / "scenario.toml"
    scenario.write_text(task.scenario_text, encoding="utf-8")
    arguments = ["run", str(scenario), "--out", str(place / "run"), "--quiet", "--no-plots", "--no-trace"]
    if task.folder is not None:
        arguments += ["--share-baselines", str(Path(task.folder) / BASELINES)]
    begun = time.monotonic()
    with (place / "log.txt").open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "p2pl_async.cli.job", str(os.getpid()), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": str(task.threads)},
        )
        if started is not None:
            started(child)
        code = child.wait()
    seconds = time.monotonic() - begun
    return (None if code == 0 else Failure(task.title, _message(code, place / "log.txt"), code, seconds)), seconds


def _message(code: int, log: Path) -> str:
    said = log.read_bytes().decode(errors="replace").strip()[-_MOST_MESSAGE:]
    if code >= 0:
        return said or f"ended with exit code {code}"
    name = signal.Signals(-code).name
    memory = "; the system does that when memory runs out" if name == "SIGKILL" else ""
    return "\n".join(filter(None, [f"ended by {name}{memory}", said]))
