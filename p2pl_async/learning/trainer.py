"""Training: SGD for many devices at once, behind one job per device.

The way of a training step from a protocol to its result:

    job(device, w)  freezes the parameters, draws the batches (cheap)
        ...         other devices register their jobs
    compute(jobs)   trains all of them, in groups that fit the cache
    job.result      the parameters after training

A job holds everything that its result depends on, so the result doesn't depend on *when* it is computed
and with which others: not even in the last bit, on a CPU with MKL; `stacked` says why. This module does
the bookkeeping in numpy; `stacked`, imported when the first Trainer is made, does the arithmetic in torch.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from p2pl_async.basics.arrays import Vector
from p2pl_async.basics.randomness import stream
from p2pl_async.errors import Problem, ProtocolError, ScenarioError
from p2pl_async.learning.batches import Batches, Rows, subset_rows
from p2pl_async.learning.data import Dataset
from p2pl_async.learning.job import Job, frozen, groups, waves
from p2pl_async.learning.models import Model
from p2pl_async.learning.settings import TrainSettings


class Scores(NamedTuple):
    """Accuracy and loss of some parameter vectors on test data."""

    accuracy: NDArray[np.float64]  # share of samples classified correctly, (k,)
    loss: NDArray[np.float64]  # mean of the loss that training minimizes, (k,)


class Trainer:
    """Trains and evaluates every device of a run; all use of torch is behind it.

    Args:
        dataset: training and test data.
        parts: for each device, its rows of the training data.
        model: the model to train.
        settings: of training.
        seed: of the run; streams "init", "batches" (device) and "subset" are drawn from it.
        subset: size of the fixed test subset, 0 for the whole test set.

    Attributes:
        n_params: length of a parameter vector.
        layers: slices of that vector, one per parameter tensor.
        group: largest number of devices computed at once.
        jobs: number of jobs computed so far.
        batches: number of calls of `compute` that computed them.
        training_seconds, evaluation_seconds: wall time spent.

    Raises:
        ScenarioError: if the model doesn't fit the data, or the accelerator is missing.
    """

    def __init__(
        self,
        dataset: Dataset,
        parts: Sequence[NDArray[np.integer[Any]]],
        model: Model,
        settings: TrainSettings,
        seed: int,
        *,
        subset: int = 0,
    ) -> None:
        from p2pl_async.learning import stacked

        self._model = model
        self._settings = settings
        self._seed = seed
        self._dtype = np.dtype(settings.precision)
        self._shape = dataset.x_train.shape[1:]
        self._n_classes = dataset.n_classes
        self._parameters = stacked.parameters
        self._supplies = [
            Batches(np.asarray(part, np.int64), settings.batch_size, stream(seed, "batches", device))
            for device, part in enumerate(parts)
        ]
        self._engine = stacked.Engine(
            model.module(self._shape, dataset.n_classes, 0),
            settings,
            dataset.x_train,
            dataset.y_train,
            dataset.x_test,
            dataset.y_test,
            self._dtype,
            max(supply.width for supply in self._supplies),
        )
        self.n_params = self._engine.n_params
        self.layers = self._engine.layers
        self.group = self._engine.group
        self._check_outputs()
        self._n_samples = [len(part) for part in parts]
        self._n_jobs = [0] * len(parts)
        self._velocities: dict[int, Vector] = {}
        n_test = len(dataset.y_test)
        self._subset: Rows | None = None
        if 0 < subset < n_test:
            self._subset = subset_rows(seed, n_test, subset)
        self.jobs = 0
        self.batches = 0
        self.training_seconds = 0.0
        self.evaluation_seconds = 0.0

    def _check_outputs(self) -> None:
        """Try the model on two samples, so that a model that doesn't fit the data fails here."""
        try:
            shape = self._engine.output_shape()
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            text = f"fails on samples of shape {self._shape}: {type(error).__name__}: {error}"
            raise ScenarioError("model", [Problem("model.kind", text, self._model.kind)]) from error
        if shape != (2, self._n_classes):
            text = f"must give {self._n_classes} logits for a sample; it gave shape {shape} for two"
            raise ScenarioError("model", [Problem("model.kind", text, self._model.kind)])

    def n_samples(self, device: int) -> int:
        """Return the number of training samples that the device holds."""
        return self._n_samples[device]

    def initial_params(self, device: int) -> Vector:
        """Return the parameters that the device starts from, read-only, (n_params,), from its own stream."""
        owner = 0 if self._model.common_init else device
        seed = int(stream(self._seed, "init", owner).integers(2**63))
        return self._parameters(self._model.module(self._shape, self._n_classes, seed), self._dtype)

    def batches_per_epoch(self, device: int) -> int:
        """Return the number of batches in one pass over the device's data."""
        return self._supplies[device].per_epoch

    def learning_rate(self, device: int) -> float:
        """Return the learning rate of the device's next step."""
        supply = self._supplies[device]
        return float(self._rates(supply.taken, 1, supply.per_epoch)[0])

    def job(
        self,
        device: int,
        w: Vector,
        *,
        epochs: int | None = None,
        steps: int | None = None,
        drift: Vector | None = None,
    ) -> Job:
        """Register a device's training from parameters `w`: exactly one of `epochs` and `steps`.

        The batches are the device's next ones: a fresh permutation of its samples per epoch,
        continued from where its last job stopped. Later changes of `w` don't matter.

        Args:
            device: whose data to train on.
            w: parameters to start from, (n_params,).
            epochs: as many steps as this many passes over the device's data take.
            steps: batches to take.
            drift: added to the parameters after every step, (n_params,); None for nothing.

        Raises:
            ProtocolError: if `w` or `drift` has another shape, or `epochs` and `steps` aren't one positive number.
        """
        if (epochs is None) == (steps is None):
            raise ProtocolError("train needs either epochs or steps; write train(w, epochs=1) or train(w, steps=5)")
        supply = self._supplies[device]
        count = steps if epochs is None else epochs * supply.per_epoch
        if count is None or count < 1:
            raise ProtocolError(f"train(epochs={epochs}, steps={steps}) must train for at least one step")
        job = self._job(device, w, count)
        across = self._settings.momentum_across_rounds
        short = count == 1 or count < supply.per_epoch
        job.keeps = bool(self._settings.momentum) and (across == "keep" or (across == "auto" and short))
        if drift is not None:
            self._check_shape(drift, "a drift")
            job._drift = frozen(drift, self._dtype)
        return job

    def gradient_job(self, device: int, w: Vector) -> Job:
        """Register the gradient of the device's next batch at `w`, with weight decay and clipping.

        Args:
            device: whose data to use.
            w: parameters, (n_params,).

        Raises:
            ProtocolError: if `w` has another shape.
        """
        job = self._job(device, w, 1)
        job.gradient = True
        return job

    def _job(self, device: int, w: Vector, count: int) -> Job:
        """Return a job of the device's next `count` batches."""
        self._check_shape(w, "parameters")
        supply = self._supplies[device]
        done = supply.taken
        batches, sizes = supply.take(count)
        rates = self._rates(done, count, supply.per_epoch)
        job = Job(device, self._n_jobs[device], int(sizes.sum()), count)
        job._w, job._batches, job._sizes, job._rates = frozen(w, self._dtype), batches, sizes, rates
        self._n_jobs[device] += 1
        return job

    def _check_shape(self, w: Vector, what: str) -> None:
        if w.shape != (self.n_params,):
            raise ProtocolError(f"train got {what} of shape {w.shape}, this model has ({self.n_params},)")

    def _rates(self, done: int, count: int, per_epoch: int) -> NDArray[np.float64]:
        """Return the learning rate of each of the `count` steps after the first `done` steps of a device."""
        first, last = done // per_epoch, (done + count - 1) // per_epoch
        by_epoch = [self._settings.learning_rate * self._settings.schedule.factor(e) for e in range(first, last + 1)]
        if first == last:
            return np.full(count, by_epoch[0])
        return np.array(by_epoch)[np.arange(done, done + count) // per_epoch - first]

    def compute(self, jobs: Sequence[Job]) -> None:
        """Fill `result` of each job that has none yet; results are arrays of their own.

        If momentum is kept across rounds, a device's jobs must be computed in their order; jobs
        given together are.
        """
        waiting = [job for job in jobs if job.result is None]
        if not waiting:
            return
        started = time.perf_counter()
        for wave in waves(waiting):
            # Longest first, so that the devices that still train are a prefix of the stack.
            wave.sort(key=lambda job: (job.work, -job.steps, job.device))
            for _, alike in itertools.groupby(wave, key=lambda job: job.work):
                for group in groups(list(alike), self._engine.group):
                    self._compute_group(group)
        self.jobs += len(waiting)
        self.batches += 1
        self.training_seconds += time.perf_counter() - started

    def _compute_group(self, group: Sequence[Job]) -> None:
        """Compute jobs of one kind of work, at most `group` of them."""
        params = [job._w for job in group if job._w is not None]
        batches = [job._batches for job in group if job._batches is not None]
        sizes = [job._sizes for job in group if job._sizes is not None]
        left: list[Vector] | None = None
        if group[0].gradient:
            results = self._engine.gradients(params, batches, sizes)
        else:
            rates = [job._rates for job in group if job._rates is not None]
            velocities = [self._velocities.get(job.device) if job.keeps else None for job in group]
            drifts = [job._drift for job in group if job._drift is not None]
            keep = any(job.keeps for job in group)
            results, left = self._engine.train(params, batches, sizes, rates, velocities, drifts, keep=keep)
        for i, (job, result) in enumerate(zip(group, results, strict=True)):
            job.result = result
            job._w = job._batches = job._sizes = job._rates = job._drift = None
            if left is not None and job.keeps:
                self._velocities[job.device] = left[i]

    def forget(self, device: int) -> None:
        """Forget a device's momentum after a crash."""
        self._velocities.pop(device, None)

    def evaluate(self, params: Sequence[Vector], which: Literal["subset", "test"] = "test") -> Scores:
        """Return the scores of parameter vectors, each (n_params,), on the fixed test subset or the whole test set.

        Parameters that aren't finite give an arbitrary accuracy and a loss that isn't finite.
        """
        started = time.perf_counter()
        scores = Scores(*self._engine.evaluate(params, self._subset if which == "subset" else None))
        self.evaluation_seconds += time.perf_counter() - started
        return scores

    def attains(
        self,
        params: Sequence[Vector],
        target: float,
        *,
        of: Literal["every_device", "mean"] = "every_device",
        guess: Sequence[float] | NDArray[np.float64] | None = None,
    ) -> bool:
        """Tell whether these vectors attain an accuracy on the whole test set, each of them or on average.

        Evaluates those with the lowest `guess` first (such as their accuracy on the subset), one,
        then two, four and so on, and stops as soon as the answer is certain.
        """
        order = np.arange(len(params)) if guess is None else np.argsort(guess, kind="stable")
        total = 0.0
        seen = 0
        size = 1
        while seen < len(order):
            accuracy = self.evaluate([params[i] for i in order[seen : seen + size]]).accuracy
            seen += len(accuracy)
            size *= 2
            total += float(accuracy.sum())
            if of == "every_device" and accuracy.min() < target:
                return False
            if of == "mean" and (total + len(order) - seen) / len(order) < target:
                return False
        return of == "every_device" or total / len(order) >= target
