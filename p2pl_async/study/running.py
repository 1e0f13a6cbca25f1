"""Running the jobs of a study that are not done yet."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future, as_completed
from dataclasses import dataclass, field
from typing import Any

from p2pl_async.errors import ScenarioError
from p2pl_async.results.table import writing
from p2pl_async.study.executing import JobEnd, JobOrder, receive, run_task
from p2pl_async.study.folder import Failure, StudyFolder
from p2pl_async.study.jobs import Job
from p2pl_async.study.planning import Study


@dataclass
class Tally:
    """How far a study is.

    Attributes:
        total: all its jobs.
        known: those that were done, or had failed, before.
        done: those done since.
        failures: job id -> why it failed, now or before.
        seconds: wall time of the jobs that ended, together.
    """

    total: int
    known: int
    done: int = 0
    failures: dict[str, Failure] = field(default_factory=dict)
    seconds: float = 0.0
    ended: int = 0

    @property
    def left(self) -> int:
        """Jobs that have not ended."""
        return self.total - self.known - self.ended


def run_study(
    study: Study,
    folder: StudyFolder,
    executor: Executor,
    *,
    threads: int = 1,
    retry_failed: bool = False,
    shared: bool = True,
    progress: Callable[[Tally, Job | None], None] | None = None,
) -> Tally:
    """Run every job of a study that is neither done nor failed; a failure ends no other job.

    Args:
        study: from `load_study`.
        folder: its results.
        executor: any executor; it runs `run_task`, which starts a process, so one thread per job is enough.
        threads: of the numerical libraries, in each job.
        retry_failed: whether jobs that failed before are run again.
        shared: whether the executor's workers can write into `folder`; else results are sent back.
        progress: called at the beginning, and with each job that ended.

    Raises:
        ScenarioError: if the folder can't be written, or another study runs in it.
    """
    folder.open()
    try:
        folder.write_record(record_of(study))
        done, failed = folder.done(), {} if retry_failed else folder.failures()
        waiting = [job for job in study.jobs if job.id not in done and job.id not in failed]
        ids = {job.id for job in study.jobs}
        tally = Tally(
            len(study.jobs),
            len(study.jobs) - len(waiting),
            failures={id: failure for id, failure in failed.items() if id in ids},
        )
        if progress is not None:
            progress(tally, None)
        place = str(folder.path.absolute()) if shared else None
        with writing(folder.path):
            futures: dict[Future[JobEnd], Job] = {
                executor.submit(run_task, JobOrder(job.id, job.title, job.scenario_text, place, threads)): job
                for job in waiting
            }
            for future in as_completed(futures):
                job = futures.pop(future)
                _count(tally, folder, future, job)
                if progress is not None:
                    progress(tally, job)
        return tally
    finally:
        folder.close()


def _count(tally: Tally, folder: StudyFolder, future: Future[JobEnd], job: Job) -> None:
    try:
        outcome = future.result()
        if outcome.files:
            receive(folder, outcome)
        failure, seconds = outcome.failure, outcome.seconds
    except (OSError, ScenarioError):  # the folder's, not the job's
        raise
    except Exception as error:  # the worker's: a pool that broke, a node that went away
        failure, seconds = Failure(job.title, f"the worker failed: {type(error).__name__}: {error}", 1, 0.0), 0.0
        folder.fail(job.id, failure, folder.path / "no log")
    tally.ended += 1
    tally.seconds += seconds
    if failure is None:
        tally.done += 1
    else:
        tally.failures[job.id] = failure


def record_of(study: Study) -> dict[str, Any]:
    """Return what a study's folder notes: enough to show its answer without its files, and to say what changed."""
    return {
        "name": study.name,
        "settings": study.settings.model_dump(mode="json"),
        "variants": [
            {
                "labels": variant.labels,
                "settings": variant.settings,
                "files": variant.files,
                "version": variant.version,
                "jobs": {str(seed): variant.job(seed).id for seed in study.settings.seeds},
            }
            for variant in study.variants
        ],
    }
