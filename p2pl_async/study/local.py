"""Jobs as processes of this machine, so many at a time."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from p2pl_async.study.executing import Child


class LocalProcesses(ThreadPoolExecutor):
    """An executor whose threads wait for one process each.

    Args:
        jobs: how many at a time.
    """

    def __init__(self, jobs: int) -> None:
        super().__init__(jobs, thread_name_prefix="p2pl-job")
        self._children: list[Child] = []
        self._ending = threading.Event()

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **more: Any) -> Future[Any]:
        """Run `function`, which tells of each process that it starts."""
        return super().submit(function, *arguments, started=self._note, **more)

    def stop(self) -> None:
        """Start no more jobs, and end those that run."""
        self._ending.set()
        self.shutdown(wait=False, cancel_futures=True)
        for child in list(self._children):
            child.terminate()
        for child in list(self._children):
            try:
                child.wait(5)
            except subprocess.TimeoutExpired:
                child.kill()
        self.shutdown(wait=True)

    def _note(self, child: Child) -> None:
        self._children = [known for known in self._children if known.poll() is None] + [child]
        if self._ending.is_set():
            child.terminate()
