"""Computing jobs: which of them at once, here or by workers, and what they leave on their devices.

A device's momentum and buffers change when `compute` is called, and at no other time: workers that were quicker
hand out their results then.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from p2pl_async.basics.arrays import Vector
from p2pl_async.basics.randomness import stream
from p2pl_async.learning.arithmetic import products
from p2pl_async.learning.crew import Crew
from p2pl_async.learning.delegation import Delegation, Workers
from p2pl_async.learning.job import Job, groups, waves
from p2pl_async.learning.networks import Buffers
from p2pl_async.learning.stacked import NOTHING, Engine, Own, Trained
from p2pl_async.learning.work import Work

if TYPE_CHECKING:
    from p2pl_async.learning.settings import MatMul


class Computing:
    """Computes jobs.

    Args:
        engine: tells what jobs can be computed at once.
        crew: engines of this process.
        matmul: precision of products.
        seed: of the run; the stream "dropout" (device, job) is drawn from it.
        workers: compute jobs beside this process; None for nobody.
        begin: lets the workers begin, and returns how many jobs a work of theirs has at most.

    Attributes:
        buffers: that stay on each device, after its last computed job.
        jobs: number of jobs computed so far.
        batches: number of calls of `compute` that computed them.
    """

    def __init__(
        self,
        engine: Engine,
        crew: Crew[Engine],
        matmul: MatMul,
        seed: int,
        workers: Workers | None,
        begin: Callable[[], int] | None,
    ) -> None:
        self._engine = engine
        self._crew = crew
        self._matmul = matmul
        self._seed = seed
        self._workers = workers
        self._begin = begin
        self._velocities: dict[int, Vector] = {}
        self.buffers: dict[int, Buffers] = {}
        self.jobs = 0
        self.batches = 0
        self._seconds = 0.0
        self._delegation: Delegation | None = None
        self._call_workers()

    @property
    def seconds(self) -> float:
        """Wall time spent on training, or on waiting for workers."""
        return self._seconds + (0.0 if self._delegation is None else self._delegation.seconds)

    def _call_workers(self) -> None:
        """Let workers begin, if it is time."""
        if self._workers is not None and self._begin is not None and self._workers.due(self.seconds):
            self._delegation = Delegation(self._workers, self._work, self._here, self._begin())

    def registered(self, job: Job) -> Job:
        """Take note of a job, which workers may compute from now on; return it."""
        if self._delegation is not None:
            self._delegation.offer(job)
        return job

    def compute(self, jobs: Sequence[Job]) -> None:
        """Compute jobs; of those that workers compute, `result` waits for them."""
        waiting = [job for job in jobs if not job.computed]
        if not waiting:
            return
        started = time.perf_counter()
        waited = 0.0 if self._delegation is None else self._delegation.seconds
        for wave in waves(waiting):
            # Longest first, so that the devices that still train are a prefix of the stack.
            wave.sort(key=lambda job: (job.work, -job.steps, job.device))
            for _, alike in itertools.groupby(wave, key=lambda job: job.work):
                self._compute_alike(list(alike))
        self.jobs += len(waiting)
        self.batches += 1
        self._seconds += time.perf_counter() - started
        if self._delegation is None:
            self._call_workers()
        else:
            self._seconds -= self._delegation.seconds - waited
            self._delegation.forget_offers()

    def _compute_alike(self, jobs: Sequence[Job]) -> None:
        """Compute jobs of one kind of work, of different devices."""
        if self._delegation is not None and self._delegation.ready:
            self._delegation.take(jobs, self._start)
        else:
            pieces = list(groups(jobs, self._crew.share(len(jobs), self._engine.group)))
            for group, found in zip(pieces, self._compute(list(map(self._work, pieces))), strict=True):
                for i, job in enumerate(group):
                    job.computed = True
                    job.take(found.vectors[i], found.velocity(i), found.buffers)
        for job in jobs:
            if job.keeps or self._engine.layout.local:  # what it leaves is needed now, so it is waited for
                assert job.result is not None
                if job.velocity is not None:
                    self._velocities[job.device] = job.velocity
                if job.buffers is not None:
                    self.buffers[job.device] = job.buffers

    def _start(self, job: Job) -> tuple[Vector | None, Buffers | None]:
        """Return the momentum and the buffers from which a job starts: those that its device has now."""
        return self._velocities.get(job.device) if job.keeps else None, self.buffers.get(job.device)

    def _work(self, group: Sequence[Job]) -> Work:
        """Return the work of jobs of one kind; of a module computed alone, of one job."""
        own = NOTHING
        for job in group:
            job._start = self._start(job)
        if self._engine.alone:
            device, number = group[0].device, group[0].number
            draws = self._engine.findings.draws
            seed = int(stream(self._seed, "dropout", device, number).integers(2**63)) if draws else 0
            own = Own(seed, self.buffers.get(device))
        return Work(
            gradient=group[0].gradient,
            params=[job._w for job in group if job._w is not None],
            batches=[job._batches for job in group if job._batches is not None],
            sizes=[job._sizes for job in group if job._sizes is not None],
            rates=[job._rates for job in group if job._rates is not None],
            velocities=[self._velocities.get(job.device) if job.keeps else None for job in group],
            drifts=[job._drift for job in group if job._drift is not None],
            shifts=[job._shifts for job in group if job._shifts is not None],
            own=own,
            keep=any(job.keeps for job in group),
        )

    def _compute(self, works: Sequence[Work]) -> list[Trained]:
        with products(self._matmul):
            return self._crew.map(lambda engine, work: work.compute(engine), works)

    def _here(self, work: Work) -> Trained:
        return self._compute([work])[0]

    def forget(self, device: int) -> None:
        """Forget what stays on a device, after a crash."""
        self._velocities.pop(device, None)
        self.buffers.pop(device, None)
