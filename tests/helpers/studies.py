"""A small study without learning, and an executor that runs no process."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

from p2pl_async.study.executing import JobEnd, JobOrder, store
from p2pl_async.study.folder import Failure, StudyFolder

BASE = 'devices.count = 3\nprotocol.kind = "quiet.py:Quiet"\nstop.rounds = 1\nlink.loss = "10 %"\n'

QUIET = '''
import os, pathlib, time
from p2pl_async import Protocol

class Quiet(Protocol):
    """Says nothing; does in real time what a test asks for."""

    kind: str = "quiet"
    trains = False
    sleep: float = 0.0
    end: int = 0

    async def run(self, device):
        time.sleep(self.sleep)
        if self.end:
            os.kill(os.getpid(), self.end)
        device.finish_round()
'''

STUDY = """
question = "Does it?"
base = "base.toml"
seeds = 2
[vary]
"link.loss" = ["0 %", "30 %"]
"protocol.end" = [0, 9]
"""


def write_study(folder: Path, text: str = STUDY) -> Path:
    """Write a study, its base and its plug-in; return the study's file."""
    (folder / "base.toml").write_text(BASE)
    (folder / "quiet.py").write_text(QUIET)
    (folder / "study.toml").write_text(text)
    return folder / "study.toml"


class Recorded(Executor):
    """Ends each job at once, with the summary that `answer` gives, and notes the tasks.

    Args:
        answer: task -> keys of `summary.json`, or why it failed; an exception is the worker's.
    """

    def __init__(self, answer: Callable[[JobOrder], Mapping[str, Any] | Failure] = lambda task: {}) -> None:
        self.answer = answer
        self.tasks: list[JobOrder] = []

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **more: Any) -> Future[Any]:
        (task,) = arguments
        self.tasks.append(task)
        future: Future[Any] = Future()
        try:
            future.set_result(self._end(task))
        except Exception as error:
            future.set_exception(error)
        return future

    def _end(self, task: JobOrder) -> JobEnd:
        answer = self.answer(task)
        failure = answer if isinstance(answer, Failure) else None
        summary = {"status": "complete", "scenario": "s", "seed": 1} | (
            {} if isinstance(answer, Failure) else dict(answer)
        )
        files = {"run/summary.json": json.dumps(summary).encode(), "run/scenario.toml": task.scenario_text.encode()}
        if task.folder is None:
            return JobEnd(task.id, failure, 1.0, {"log.txt": b"said", **({} if failure else files)})
        folder = StudyFolder(Path(task.folder))
        attempt = folder.attempt(task.id)
        (attempt / "run").mkdir()
        for name, content in {"log.txt": b"said", **files}.items():
            (attempt / name).write_bytes(content)
        store(folder, task.id, failure, attempt)
        return JobEnd(task.id, failure, 1.0)
