"""Emulation of a predicted scenario: measurements at the same rounds, and the duration of a round."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from p2pl_async.basics.arrays import Array
from p2pl_async.basics.randomness import stream
from p2pl_async.clock import VirtualClock
from p2pl_async.device import Device, Observer
from p2pl_async.errors import PredictionError
from p2pl_async.experiment.emulation import Emulation
from p2pl_async.experiment.lookahead import LookaheadLearner
from p2pl_async.experiment.measured_run import Progress
from p2pl_async.experiment.measures import consensus_distance
from p2pl_async.experiment.running import run
from p2pl_async.hardware.compute import ComputeTimes
from p2pl_async.link import Link
from p2pl_async.messages import Vector
from p2pl_async.prediction.predicting import Curves, Prediction, test_scores
from p2pl_async.results.run import Run
from p2pl_async.scenario.scenario import Scenario
from p2pl_async.scenario.tables import Baselines, Evaluate, Stop

if TYPE_CHECKING:
    from p2pl_async.learning.stacked import Engine
    from p2pl_async.learning.trainer import Trainer

_TIMED = 12  # rounds emulated to time one; more if losses cost timeouts
_TIMED_LOSSY = 40


@dataclass(frozen=True)
class Measurement(Curves):
    """A run, measured at the rounds of a prediction.

    Attributes:
        seconds: virtual time at which the last device finished each recorded round, (K,).
        run: the results of the run.
    """

    seconds: Array
    run: Run

    def relative_error(self, prediction: Prediction) -> Array:
        """Return |predicted - measured| / |measured - initial| of all devices' test outputs, (K,); nan in round 0."""
        initial = prediction.linearized.initial
        axes = (1, 2, 3)
        wrong = np.sqrt(((prediction.outputs - self.outputs) ** 2).sum(axes))
        moved = np.sqrt(((self.outputs - initial) ** 2).sum(axes))
        return np.asarray(np.divide(wrong, moved, out=np.full(len(moved), np.nan), where=moved > 0))


def measure(prediction: Prediction, *, progress: Progress | None = None) -> Measurement:
    """Emulate the scenario of a prediction, and measure its devices at the recorded rounds.

    Args:
        prediction: the scenario, and the rounds to measure.
        progress: called often with the progress of the run.
    """
    watch = _Watch(prediction)
    scenario = prediction.scenario
    changes: dict[str, Any] = {"baselines": Baselines(), "stop": Stop(rounds=int(prediction.rounds[-1]))}
    quiet = Evaluate.model_construct(every=math.inf, samples=scenario.evaluate.samples)  # the watch evaluates instead
    results = run(
        scenario.model_copy(update=changes | {"evaluate": quiet}),
        progress=progress,
        watch=watch,
    )
    return Measurement(run=results, seconds=watch.seconds, **watch.curves())


@dataclass(frozen=True)
class Repetitions(Curves):
    """Means over runs of the same devices, data and links, with different losses.

    Attributes:
        runs: number of runs.
        outputs_error, loss_error, train_loss_error: standard errors of those means.
    """

    runs: int
    outputs_error: Array
    loss_error: Array
    train_loss_error: Array

    def deviation(self, prediction: Prediction) -> Array:
        """Return |predicted - mean outputs| in standard errors, over all devices and outputs together, (K,).

        About 1 if the prediction is the true mean; nan where no run differs from another.
        """
        axes = (1, 2, 3)
        away, error = ((prediction.outputs - self.outputs) ** 2).sum(axes), (self.outputs_error**2).sum(axes)
        spread = error > 1e-18 * (self.outputs**2).sum(axes)
        return np.asarray(np.sqrt(np.divide(away, error, out=np.full(len(away), np.nan), where=spread)))


def repeat(prediction: Prediction, runs: int, *, progress: Callable[[int], object] | None = None) -> Repetitions:
    """Emulate the scenario of a prediction many times, each time with new losses, and return the means.

    Args:
        prediction: the scenario, and the rounds to measure.
        runs: number of runs, at least 2.
        progress: called with the number of runs done.
    """
    if runs < 2:
        raise PredictionError(f"runs={runs} must be at least 2; a mean needs several")
    mean: dict[str, Array] = {}
    squares: dict[str, Array] = {}
    engine = _trainer(prediction).engine  # it takes longer to make than a short run
    for number in range(runs):
        seed = int(stream(prediction.scenario.seed, "repetition", number).integers(2**31))
        curves = _emulate(prediction, seed, engine)
        for name, value in curves.items():  # Welford's update
            old = mean.get(name, np.zeros_like(value, np.float64))
            mean[name] = old + (value - old) / (number + 1)
            squares[name] = squares.get(name, 0.0) + (value - old) * (value - mean[name])
        if progress is not None:
            progress(number + 1)
    error = {name: np.sqrt(total / (runs - 1) / runs) for name, total in squares.items()}
    del mean["rounds"]
    return Repetitions(
        rounds=prediction.rounds,
        runs=runs,
        outputs_error=error["outputs"],
        loss_error=error["loss"],
        train_loss_error=error["train_loss"],
        **mean,
    )


def _trainer(prediction: Prediction, engine: Engine | None = None) -> Trainer:
    """Return a trainer of a prediction's devices, which has trained nothing."""
    from p2pl_async.learning.trainer import Trainer

    world, scenario = prediction.world, prediction.scenario
    assert world.dataset is not None
    return Trainer(world.dataset, world.parts, scenario.model, scenario.train, scenario.seed, engine=engine)


def _emulate(prediction: Prediction, seed: int, engine: Engine) -> dict[str, Any]:
    """Emulate once with this seed of links and devices; return the curves."""
    world, scenario = prediction.world, prediction.scenario
    trainer = _trainer(prediction, engine)
    times = ComputeTimes(scenario.devices.computes(), seed, [len(part) for part in world.parts])
    clock = VirtualClock()
    watch = _Watch(prediction)
    emulation = Emulation(
        world.out_neighbors,
        lambda src, dst: Link(src, dst, world.links.settings(src, dst), seed),
        seed,
        clock=clock,
        learner=LookaheadLearner(clock, trainer, times.seconds),
        rounds=int(prediction.rounds[-1]),
        observer=Observer(on_round=lambda device: watch(device, clock.now)),
    )
    emulation.run(scenario.protocol)
    return watch.curves()


class _Watch:
    """Keeps the devices' parameters at the recorded rounds, and evaluates a round once all have finished it."""

    def __init__(self, prediction: Prediction) -> None:
        self._prediction = prediction
        self._wanted = {int(k): i for i, k in enumerate(prediction.rounds)}
        self._pending: dict[int, dict[int, Vector]] = {}
        linearized = prediction.linearized
        world = prediction.world
        assert world.dataset is not None
        dtype = linearized.initial.dtype
        rows = np.concatenate(world.parts)
        self._module = copy.deepcopy(linearized.module)
        self._train = linearized.samples
        self._targets = np.eye(linearized.classes, dtype=dtype)[world.dataset.y_train[rows]]
        self._test = world.dataset.x_test[linearized.tests].astype(dtype)
        shape = (len(self._wanted), len(world.parts))
        self._outputs = np.full((*shape, *linearized.initial.shape), np.nan, dtype)
        self._train_loss = np.full(shape, np.nan)
        self._distance = np.full(shape[0], np.nan)
        self.seconds = np.zeros(shape[0])
        if 0 in self._wanted:
            self._look(0, dict(enumerate(prediction.initial_parameters())))

    def __call__(self, device: Device, now: float) -> None:
        index = self._wanted.get(device.round)
        if index is None or device.params is None:
            return
        self.seconds[index] = max(self.seconds[index], now)
        heard = self._pending.setdefault(device.round, {})
        heard[device.id] = device.params
        if len(heard) == self._outputs.shape[1]:
            self._look(index, self._pending.pop(device.round))

    def _look(self, index: int, params: dict[int, Vector]) -> None:
        from p2pl_async.dynamics import kernels

        for k, w in params.items():
            kernels.with_parameters(self._module, w)
            self._outputs[index, k] = kernels.outputs_of(self._module, self._test)
            train = kernels.outputs_of(self._module, self._train)
            self._train_loss[index, k] = 0.5 * ((train - self._targets) ** 2).sum(1).mean()
        self._distance[index] = consensus_distance([params[k] for k in sorted(params)])

    def curves(self) -> dict[str, Any]:
        """Return the fields of `Curves`."""
        accuracy, loss = test_scores(self._outputs, self._prediction.linearized.labels)
        return {
            "rounds": self._prediction.rounds,
            "outputs": self._outputs,
            "accuracy": accuracy,
            "loss": loss,
            "train_loss": self._train_loss,
            "consensus_distance": self._distance,
        }


def round_seconds(scenario: Scenario) -> tuple[float, float]:
    """Return the virtual time before the first round, and that of each round, in seconds.

    Emulates some rounds, with the computation, messages, losses and timeouts of a run.
    """
    rounds = scenario.stop.rounds
    assert rounds is not None
    lossy = getattr(scenario.link.loss, "p", 0) > 0 or bool(scenario.link.override)
    count = min(rounds, _TIMED_LOSSY if lossy else _TIMED)
    ends = np.zeros(count + 1)

    def watch(device: Device, now: float) -> None:
        ends[device.round] = max(ends[device.round], now)

    changes = {
        "baselines": Baselines(),
        "stop": Stop(rounds=count),
        "evaluate": Evaluate.model_construct(every=math.inf, samples=1),
    }
    run(scenario.model_copy(update=changes), watch=watch)
    if count == 1:
        return 0.0, float(ends[1])
    each = (ends[-1] - ends[1]) / (count - 1)
    return float(ends[1] - each), float(each)
