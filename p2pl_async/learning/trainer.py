"""Training: SGD for many devices at once, behind one job per device.

The way of a training step from a protocol to its result:

    job(device, w)  freezes the parameters, draws the batches (cheap)
        ...         other devices register their jobs
    compute(jobs)   trains all of them, in groups that fit the cache, one group on each core at a time
                    (with workers: `delegation` has sent most of them out already, `result` waits)
    job.result      the parameters after training
    land(job)       its virtual time is over: buffers that stay on the device are those that it left

A job holds everything that its result depends on, so the result doesn't depend on *when* it is computed
and with which others: not even in the last bit, on a CPU with MKL; `stacked` says why. This module does
the bookkeeping in numpy; `stacked`, imported when the first Trainer is made, does the arithmetic in torch.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from p2pl_async.basics.arrays import Vector
from p2pl_async.basics.randomness import stream
from p2pl_async.basics.tensorfiles import Tensors
from p2pl_async.errors import Problem, ProtocolError, ScenarioError
from p2pl_async.learning.augmentation import Augment
from p2pl_async.learning.batches import Batches
from p2pl_async.learning.data import Dataset
from p2pl_async.learning.job import Job, frozen
from p2pl_async.learning.models import Model
from p2pl_async.learning.models.saved import check_start
from p2pl_async.learning.scores import OwnWeights, Score, scores_for
from p2pl_async.learning.scoring import Scores, Scoring
from p2pl_async.learning.settings import OwnTraining, TrainSettings

if TYPE_CHECKING:
    from torch import nn

    from p2pl_async.learning.delegation import Workers
    from p2pl_async.learning.networks import Buffers
    from p2pl_async.learning.stacked import Engine


class Trainer:
    """Trains and evaluates every device of a run; all use of torch is behind it.

    Args:
        dataset: training and test data.
        parts: for each device, its rows of the training data.
        model: the model to train.
        settings: of training.
        seed: of the run; streams "init", "batches" (device), "dropout" (device, job) and "subset" are drawn from it.
        subset: size of the fixed test subset, 0 for the whole test set.
        metrics: scores that models get; none for the one that fits data and loss.
        own: whether models are also scored on their devices' own distributions.
        own_training: what each device has for itself instead of keys of `settings`; empty if none has anything.
        augment: random changes of samples in training, from the stream "augment" (device, job).
        workers: train beside this process; None for nobody, as for a single device or on a GPU.
        engine: computes; that of another trainer of the same data, model and settings, or a new one by default.

    Attributes:
        engine: computes.
        n_params: length of a parameter vector.
        layers: slices of that vector, one per tensor.
        by_device: whether the scores of parameters depend on the device: buffers stay there, or `own` scores are asked.
        group: largest number of devices computed at once.

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
        metrics: Sequence[Score] = (),
        own: bool = False,
        own_training: Sequence[OwnTraining] = (),
        augment: Augment | None = None,
        workers: Workers | None = None,
        engine: Engine | None = None,
    ) -> None:
        import torch

        from p2pl_async.learning.arithmetic import products
        from p2pl_async.learning.computing import Computing
        from p2pl_async.learning.crew import Crew
        from p2pl_async.learning.initial_params import InitialParams
        from p2pl_async.learning.layout import fill, tensor, vector
        from p2pl_async.learning.work import Recipe

        self._model = model
        self._settings = settings
        self._seed = seed
        self._dtype = np.dtype(settings.precision)
        self._shape = dataset.x_train.shape[1:]
        self._n_classes = dataset.n_classes
        self._vector, self._fill = vector, fill
        self._own_training = own_training or [OwnTraining()] * len(parts)
        self._base_rates = [one.learning_rate or settings.learning_rate for one in self._own_training]
        self._supplies = [
            Batches(np.asarray(part, np.int64), one.batch_size or settings.batch_size, stream(seed, "batches", device))
            for device, (part, one) in enumerate(zip(parts, self._own_training, strict=True))
        ]
        one_rate = set(self._base_rates) == {settings.learning_rate}
        width = max(supply.width for supply in self._supplies)
        lone = len(parts) == 1
        recipe = Recipe(model, self._init_seed(0), settings, width, lone, one_rate)
        engine = self.engine = recipe.engine(dataset) if engine is None else engine
        # Random numbers are drawn from torch's one generator, so a module that draws is computed by one thread.
        side_by_side = engine.device.type == "cpu" and not engine.findings.draws
        twins = torch.get_num_threads() - 1 if side_by_side else 0
        self._crew = Crew([engine, *(engine.twin() for _ in range(twins))])
        begin = None
        if workers is not None and not lone and engine.device.type == "cpu":
            begin = functools.partial(workers.start, recipe, dataset, engine, len(parts))
        self._computing = Computing(engine, self._crew, settings.matmul, seed, workers if begin else None, begin)
        self._starts = InitialParams(model, self._shape, self._n_classes, engine.layout, self._dtype)
        self.n_params = engine.n_params
        self.layers = engine.layers
        self.group = engine.group
        self.by_device = own or bool(engine.layout.local)
        self._augment = augment if augment is not None and augment.changes else None
        self._check_batches()
        self._n_samples = [len(part) for part in parts]
        self._n_jobs = [0] * len(parts)
        self._landed: dict[int, Buffers] = {}  # after its last job whose virtual time is over
        if isinstance(model.init, Path):
            check_start(self._module(0), model.init, 1 if model.common_init else len(parts))
            for device in range(len(parts) if engine.layout.local else 0):
                module = self._module(device).to(engine.device, getattr(torch, settings.precision))
                self._landed[device] = [tensor(module, name) for name in engine.layout.local]
            self._computing.buffers.update(self._landed)
        self.scoring = Scoring(
            self._crew,
            dataset,
            scores_for(metrics, dataset, settings.loss),
            engine=engine,
            subset=subset,
            seed=seed,
            buffers=self._landed,
            products=functools.partial(products, settings.matmul),
            weights=OwnWeights(dataset, parts) if own else None,
        )

    @property
    def scores(self) -> Sequence[Score]:
        """The scores that models get, at least one."""
        return self.scoring.scores

    @property
    def evaluation_seconds(self) -> float:
        """Wall time spent on evaluations."""
        return self.scoring.seconds

    @property
    def jobs(self) -> int:
        """Number of jobs computed so far."""
        return self._computing.jobs

    @property
    def batches(self) -> int:
        """Number of calls of `compute` that computed them."""
        return self._computing.batches

    @property
    def training_seconds(self) -> float:
        """Wall time spent on training, or on waiting for workers."""
        return self._computing.seconds

    def _check_batches(self) -> None:
        """Try the smallest batch: batch normalization can't train on a sample alone."""
        sizes = [supply.smallest for supply in self._supplies]
        device = int(np.argmin(sizes))
        if reason := self.engine.refusal(sizes[device]):
            text = (
                f"can't train on a batch of {sizes[device]}, which device {device} has each epoch: {reason}; change "
                'train.batch_size or the partition, or use a model without batch normalization (norm = "group")'
            )
            raise ScenarioError("model", [Problem("model.kind", text, self._model.kind)])

    def _init_seed(self, device: int) -> int:
        """Return the seed of a device's initial parameters."""
        owner = 0 if self._model.common_init else device
        return int(stream(self._seed, "init", owner).integers(2**63))

    @property
    def names(self) -> list[str]:
        """The names of the scores that `evaluate` gives where it knows the devices."""
        return self.scoring.names

    def n_samples(self, device: int) -> int:
        """Return the number of training samples that the device holds."""
        return self._n_samples[device]

    def initial_params(self, device: int) -> Vector:
        """Return the parameters that the device starts from, read-only, (n_params,), from its own stream."""
        if isinstance(self._model.init, Path):
            return self._vector(self._module(device), self.engine.layout, self._dtype)
        return self._starts.of(self._init_seed(device))

    def _module(self, device: int) -> nn.Module:
        """Return a module with the parameters that the device starts from."""
        owner = 0 if self._model.common_init else device
        return self._model.module(self._shape, self._n_classes, self._init_seed(device), owner)

    def tensors(self, models: Iterable[tuple[int, Vector]]) -> Iterator[tuple[int, Tensors]]:
        """Yield (device, the tensors of its module by name) of devices and their parameters, (n_params,) each.

        They are those of the module's `state_dict`, buffers included, that torch can load.
        """
        module = self._module(0)
        for device, w in models:
            self._fill(module, self.engine.layout, w, self._landed.get(device))
            yield device, {name: value.detach().numpy().copy() for name, value in module.state_dict().items()}

    def batches_per_epoch(self, device: int) -> int:
        """Return the number of batches in one pass over the device's data."""
        return self._supplies[device].per_epoch

    def learning_rate(self, device: int) -> float:
        """Return the learning rate of the device's next step."""
        supply = self._supplies[device]
        return float(self._rates(device, supply.taken, 1)[0])

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
            epochs: as many steps as this many passes over the device's data take, or as its own number of them.
            steps: batches to take.
            drift: added to the parameters after every step, (n_params,); None for nothing.

        Raises:
            ProtocolError: if `w` or `drift` has another shape, or `epochs` and `steps` aren't one positive number.
        """
        if (epochs is None) == (steps is None):
            raise ProtocolError("train needs either epochs or steps; write train(w, epochs=1) or train(w, steps=5)")
        supply = self._supplies[device]
        if epochs is not None:
            epochs = self._own_training[device].epochs or epochs
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
        return self._computing.registered(job)

    def gradient_job(self, device: int, w: Vector) -> Job:
        """Register the gradient of the device's next batch at `w`, with weight decay and clipping.

        Args:
            device: whose data to use.
            w: parameters, (n_params,).

        Raises:
            ProtocolError: if `w` has another shape, or buffers that only training changes.
        """
        if self.engine.layout.averaged:
            text = 'has none for the buffers that it averages; set model.buffers = "local", or train(w, steps=1)'
            raise ProtocolError(f"a gradient of this model {text}")
        job = self._job(device, w, 1)
        job.gradient = True
        return self._computing.registered(job)

    def _job(self, device: int, w: Vector, count: int) -> Job:
        """Return a job of the device's next `count` batches."""
        self._check_shape(w, "parameters")
        supply = self._supplies[device]
        done = supply.taken
        batches, sizes = supply.take(count)
        rates = self._rates(device, done, count)
        job = Job(device, self._n_jobs[device], int(sizes.sum()), count)
        job._w, job._batches, job._sizes, job._rates = frozen(w, self._dtype), batches, sizes, rates
        if self._augment is not None:
            job._shifts = self._augment.draw(stream(self._seed, "augment", device, job.number), batches.shape)
        self._n_jobs[device] += 1
        return job

    def _check_shape(self, w: Vector, what: str) -> None:
        if w.shape != (self.n_params,):
            raise ProtocolError(f"train got {what} of shape {w.shape}, this model has ({self.n_params},)")

    def _rates(self, device: int, done: int, count: int) -> NDArray[np.float64]:
        """Return the learning rate of each of the `count` steps after the first `done` steps of a device."""
        per_epoch, base = self._supplies[device].per_epoch, self._base_rates[device]
        first, last = done // per_epoch, (done + count - 1) // per_epoch
        by_epoch = [base * self._settings.schedule.factor(e) for e in range(first, last + 1)]
        if first == last:
            return np.full(count, by_epoch[0])
        return np.array(by_epoch)[np.arange(done, done + count) // per_epoch - first]

    def compute(self, jobs: Sequence[Job]) -> None:
        """Give each job that has none yet a `result`, an array of its own, or have it computed by workers.

        If momentum is kept across rounds, a device's jobs must be computed in their order; jobs
        given together are.
        """
        self._computing.compute(jobs)

    def land(self, job: Job) -> None:
        """Take note that the virtual time of a computed job is over: what it left on its device can be seen."""
        if job.buffers is not None:
            self._landed[job.device] = job.buffers

    def forget(self, device: int) -> None:
        """Forget a device's momentum, and the buffers that stay on it, after a crash."""
        self._computing.forget(device)
        self._landed.pop(device, None)

    def evaluate(
        self,
        params: Sequence[Vector],
        which: Literal["subset", "test"] = "test",
        *,
        devices: Sequence[int] | None = None,
    ) -> Scores:
        """Return the scores of parameter vectors; see `Scoring.evaluate`."""
        return self.scoring.evaluate(params, which, devices=devices)
