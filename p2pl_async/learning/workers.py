"""Who trains beside the emulation, as `train.workers` and `train.on` say."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from p2pl_async.errors import Problem, ScenarioError
from p2pl_async.learning.processes import WorkerProcesses

if TYPE_CHECKING:
    from p2pl_async.learning.actors import RayActors
    from p2pl_async.learning.settings import TrainSettings


@contextlib.contextmanager
def workers_for(settings: TrainSettings) -> Iterator[WorkerProcesses | RayActors | None]:
    """Give the workers that a scenario asks for, None for none; they are ended afterwards.

    Raises:
        ScenarioError: if this system has no such processes, or Ray is not installed or not reached.
    """
    workers: WorkerProcesses | RayActors
    if settings.workers == 0:
        yield None
        return
    if settings.on != "local":
        from p2pl_async.learning.actors import RayActors

        assert settings.workers != "auto"
        workers = RayActors(settings.workers, None if settings.on == "ray" else settings.on)
    elif os.name == "posix":
        workers = WorkerProcesses(settings.workers)
    else:
        text = "processes that train need Linux or macOS; write 0"
        raise ScenarioError("train", [Problem("train.workers", text, settings.workers)])
    try:
        yield workers
    finally:
        workers.close()
