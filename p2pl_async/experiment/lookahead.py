"""Training in virtual time: a job lands when its virtual duration is over, computed with others.

    train() -> job registered, inputs frozen -> virtual time passes -> compute ALL registered jobs
                                                                       -> wake this device  <- you are here

The result of a job is needed only when its virtual duration ends. At that instant every job
registered so far is computed, in batches over devices: asynchronous devices train at the speed
of one batched computation, and nothing that a device sees changes.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Sequence

import numpy as np
import outcome
import trio

from p2pl_async.clock import VirtualClock
from p2pl_async.learner import LearningFacts
from p2pl_async.messages import DeviceId, Vector


class Job(typing.Protocol):
    """One device's local training, or gradient: frozen inputs now, a result later."""

    @property
    def samples(self) -> int:
        """Training samples that the job goes through, repetitions counted."""

    @property
    def steps(self) -> int:
        """Mini-batches that the job goes through."""

    @property
    def result(self) -> Vector | None:
        """The new parameters, or the gradient; None until computed."""


class Trainer(LearningFacts, typing.Protocol):
    """A computer of jobs; `learning.trainer.Trainer` is one."""

    def job(
        self,
        device: DeviceId,
        w: Vector,
        *,
        epochs: int | None = None,
        steps: int | None = None,
        drift: Vector | None = None,
    ) -> typing.Any:
        """Freeze the inputs of a local training."""

    def gradient_job(self, device: DeviceId, w: Vector) -> typing.Any:
        """Freeze the inputs of one mini-batch gradient."""

    def compute(self, jobs: Sequence[typing.Any]) -> None:
        """Fill in the results of jobs, batched over devices."""

    def land(self, job: typing.Any) -> None:
        """Take note that a computed job's virtual time is over."""


class LookaheadLearner:
    """The `Learner` of emulated devices: it lets them train in virtual time, and has jobs computed in batches.

    Args:
        clock: the ends of jobs enter its calendar.
        trainer: computes jobs.
        duration: (device, samples that a job goes through) -> virtual seconds that it takes.
        on_batch: called after each computed batch.
        on_job: called with (device, start, end) of each job that is begun, in virtual seconds.
        on_landed: called with (device, start, steps) of each job that has come to its end.
    """

    def __init__(
        self,
        clock: VirtualClock,
        trainer: Trainer,
        duration: Callable[[DeviceId, int], float],
        on_batch: Callable[[], object] | None = None,
        on_job: Callable[[DeviceId, float, float], object] | None = None,
        on_landed: Callable[[DeviceId, float, int], object] | None = None,
    ) -> None:
        self._clock = clock
        self._trainer = trainer
        self.layers = trainer.layers
        self.n_samples = trainer.n_samples
        self.initial_params = trainer.initial_params
        self.batches_per_epoch = trainer.batches_per_epoch
        self.learning_rate = trainer.learning_rate
        self._duration = duration
        self._on_batch = on_batch
        self._on_job = on_job
        self._on_landed = on_landed
        self.samples = 0  # gone through by all devices so far, repetitions counted
        self._count = 0
        self._registered: dict[tuple[DeviceId, int], Job] = {}

    async def train(
        self, device: DeviceId, w: Vector, epochs: int | None, steps: int | None, drift: Vector | None = None
    ) -> Vector:
        """Return the parameters after local training, at the end of its virtual time."""
        return await self._land(
            device, self._trainer.job(device, np.asarray(w), epochs=epochs, steps=steps, drift=drift)
        )

    async def gradient(self, device: DeviceId, w: Vector) -> Vector:
        """Return the gradient of the next mini-batch, at the end of the virtual time of one step."""
        return await self._land(device, self._trainer.gradient_job(device, np.asarray(w)))

    async def _land(self, device: DeviceId, job: Job) -> Vector:
        """Register a job, and return its result at its virtual end."""
        self._count += 1
        key = (device, self._count)
        self._registered[key] = job
        alarm = _Alarm(job, device, self._clock.now, trio.lowlevel.current_task())
        end = alarm.start + self._duration(device, job.samples)
        if self._on_job is not None:
            self._on_job(device, alarm.start, end)
        # Source -1: no message comes from there, so the event's place in its instant is its own.
        self._clock.schedule(end, device, -1, self._count, self._ring, alarm)

        def abort(_: object) -> trio.lowlevel.Abort:
            alarm.task = None
            self._registered.pop(key, None)
            return trio.lowlevel.Abort.SUCCEEDED

        result: Vector = await trio.lowlevel.wait_task_rescheduled(abort)
        return result

    def _ring(self, alarm: _Alarm) -> None:
        if alarm.task is None:
            return
        try:
            if alarm.job.result is None:
                # By device, not by arrival: the bits of a batched sum may depend on the order in it.
                jobs = [self._registered[key] for key in sorted(self._registered)]
                self._registered.clear()
                self._trainer.compute(jobs)
                if self._on_batch is not None:
                    self._on_batch()
            self._trainer.land(alarm.job)
            self.samples += alarm.job.samples
            if self._on_landed is not None:
                self._on_landed(alarm.device, alarm.start, alarm.job.steps)
            trio.lowlevel.reschedule(alarm.task, outcome.Value(alarm.job.result))
        except Exception as error:  # a user's model or an exhausted memory: it is this device that fails
            trio.lowlevel.reschedule(alarm.task, outcome.Error(error))


class _Alarm:
    """The task to wake with a job's result; None once it is cancelled."""

    __slots__ = ("device", "job", "start", "task")

    def __init__(self, job: Job, device: DeviceId, start: float, task: trio.lowlevel.Task) -> None:
        self.job = job
        self.device = device
        self.start = start
        self.task: trio.lowlevel.Task | None = task
