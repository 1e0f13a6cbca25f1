"""Where jobs run: processes here, a Ray cluster, Slurm.

The contract is that of `concurrent.futures.Executor`: `submit(run_task, order)` gives a future. From Python, any
executor will do: `run_study(study, folder, executor)`.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from p2pl_async.basics.cluster import connect
from p2pl_async.basics.machine import cores
from p2pl_async.errors import Problem, ScenarioError
from p2pl_async.study.local import LocalProcesses

_MOMENT = 0.5  # s in which jobs are collected for one Slurm array
_MOST_IN_ARRAY = 1000  # Slurm's usual MaxArraySize is 1001


class Launcher(NamedTuple):
    """Where the jobs of a study run.

    Attributes:
        executor: takes them.
        threads: of each job's numerical libraries.
        shared: whether its workers can write into the study's folder; else they send results back.
        stop: ends what still runs, and gives back what was taken.
    """

    executor: Executor
    threads: int
    shared: bool
    stop: Callable[[], None]


def launcher(on: str, jobs: int, folder: Path) -> Launcher:
    """Return where to run.

    Args:
        on: "local"; "ray", a Ray of our own on this machine; "ray://host:port", one that runs; or "slurm".
        jobs: how many at a time here; on Ray and Slurm, cores for each.
        folder: of the study; Slurm's logs go there.

    Raises:
        ScenarioError: if there is no such place, or its package is not installed.
    """
    if on == "local":
        local = LocalProcesses(jobs)
        return Launcher(local, max(1, cores() // jobs), True, local.stop)
    if on == "ray" or on.startswith("ray://"):
        ray = RayExecutor(None if on == "ray" else on, jobs)
        return Launcher(ray, jobs, on == "ray", ray.stop)
    if on == "slurm":
        slurm = SlurmExecutor(folder / "slurm", jobs)
        return Launcher(slurm, jobs, True, slurm.stop)
    raise ScenarioError("p2pl study", [Problem("--on", "must be local, ray, ray://host:port or slurm", on)])


class RayExecutor(Executor):
    """Jobs on Ray, each with so many cores; Ray starts those anew whose node went away.

    A Ray that this starts itself listens on the loopback address only, has no dashboard, reports no usage, and has a
    small object store.

    Args:
        address: of a Ray that runs, "ray://host:port"; None starts one here, and ends it with `stop`.
        cpus: cores of each job.

    Raises:
        ScenarioError: if Ray is not installed, or can't be reached.
    """

    def __init__(self, address: str | None, cpus: int = 1) -> None:
        try:
            ray = connect(address, max(cpus, cores()))
        except ImportError:
            _missing("ray", "pip install 'p2pl-async[ray]'")
        except ConnectionError as error:
            raise ScenarioError(
                "p2pl study", [Problem("--on", f"can't be reached: {error}", address or "ray")]
            ) from error
        self._ray = ray
        self._cpus = cpus
        self._running: dict[Future[Any], Any] = {}

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **more: Any) -> Future[Any]:
        """Run `function` on Ray, up to three times if nodes go away."""
        remote = self._ray.remote(num_cpus=self._cpus, max_retries=2)(function)
        reference = remote.remote(*arguments, **more)
        future: Future[Any] = reference.future()
        self._running[future] = reference
        future.add_done_callback(lambda ended: self._running.pop(ended, None))
        return future

    def stop(self) -> None:
        """End what still runs, and the Ray that this started."""
        for reference in list(self._running.values()):
            self._ray.cancel(reference, force=True)
        self._ray.shutdown()


class SlurmExecutor(Executor):
    """Jobs on a Slurm cluster, as arrays, through submitit.

    Partition, account and time come from the environment (`SBATCH_...`).

    Args:
        folder: of submitit's scripts and logs, on a file system that the nodes share.
        cpus: cores of each job.
        cluster: "slurm"; "local" stands for it in tests.

    Raises:
        ScenarioError: if submitit is not installed, or there is no Slurm.
    """

    def __init__(self, folder: Path, cpus: int = 1, *, cluster: str = "slurm") -> None:
        try:
            import submitit
        except ImportError:
            _missing("submitit", "pip install 'p2pl-async[slurm]'")
        try:
            self._executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        except RuntimeError as error:
            raise ScenarioError("p2pl study", [Problem("--on", f"can't be used: {error}", "slurm")]) from error
        self._executor.update_parameters(cpus_per_task=cpus, name="p2pl")
        self._jobs: list[Any] = []
        self._asked: list[tuple[Future[Any], Callable[[], Any]]] = []  # not submitted yet
        self._lock = threading.Lock()
        self._waiting = ThreadPoolExecutor(256, thread_name_prefix="p2pl-slurm")

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **more: Any) -> Future[Any]:
        """Submit `function` to the cluster, in one array with what else is submitted at that moment."""
        future: Future[Any] = Future()
        with self._lock:
            self._asked.append((future, functools.partial(function, *arguments, **more)))
            if len(self._asked) == 1:
                threading.Thread(target=self._submit_array, daemon=True).start()
        return future

    def _submit_array(self) -> None:
        time.sleep(_MOMENT)
        with self._lock:
            asked, self._asked = self._asked, []
        for begin in range(0, len(asked), _MOST_IN_ARRAY):
            part = asked[begin : begin + _MOST_IN_ARRAY]
            try:
                with self._executor.batch():
                    jobs = [self._executor.submit(call) for _, call in part]
            except Exception as error:  # sbatch refused
                for future, _ in part:
                    future.set_exception(error)
                continue
            self._jobs += jobs
            for (future, _), job in zip(part, jobs, strict=True):
                self._waiting.submit(_pass_on, job, future)

    def stop(self) -> None:
        """Cancel the jobs that have not ended."""
        for job in self._jobs:
            if not job.done():
                job.cancel()
        self._waiting.shutdown(wait=False, cancel_futures=True)


def _missing(package: str, repair: str) -> None:
    text = f"needs the package {package}: {repair}"
    raise ScenarioError("p2pl study", [Problem("--on", text)])


def _pass_on(job: Any, future: Future[Any]) -> None:
    """End a future as its job on the cluster ends."""
    try:
        future.set_result(job.result())
    except Exception as error:
        future.set_exception(error)
