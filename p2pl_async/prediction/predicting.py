"""Prediction of what a scenario's devices learn, round by round, without running it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from p2pl_async.basics.arrays import Array
from p2pl_async.dynamics import recursion, spectrum
from p2pl_async.dynamics.failures import LossyMixing
from p2pl_async.dynamics.influence import Agreement, agreement, sample_weight, stationary
from p2pl_async.dynamics.linearized import Form, ParameterForm, compressed, consensus_distance
from p2pl_async.dynamics.moments import Moments, second_moments
from p2pl_async.dynamics.recursion import Time
from p2pl_async.errors import PredictionError, Problem, ScenarioError
from p2pl_async.prediction.linearizing import (
    Linearized,
    Method,
    affine_parameters,
    linearize,
    method,
    mixing,
    require,
)
from p2pl_async.scenario.building.world import World, build_world
from p2pl_async.scenario.scenario import Scenario

if TYPE_CHECKING:
    import networkx as nx
    import pandas as pd


MOST_BYTES = 4 * 2**30
_STRONGEST = 600  # states of the approximate system whose modes are computed
_MOST_ROUNDS = 100  # recorded, unless others are asked for
_MOST_COVARIANCES = 40  # devices; of more, covariances of all pairs of weights fill the memory


@dataclass(frozen=True)
class Curves:
    """The curves of all devices at the recorded rounds, of a prediction or of a run.

    Attributes:
        rounds: the recorded rounds, (K,).
        outputs: on the test samples, (K, Q, T, C).
        accuracy: on the test samples, (K, Q).
        loss: half the squared distance from the one-hot labels, mean over test samples, (K, Q).
        train_loss: the same over the training samples of all devices, (K, Q).
        consensus_distance: sqrt(1/Q sum_q |w_q - mean w|^2), (K,).
    """

    rounds: NDArray[np.int64]
    outputs: Array
    accuracy: Array
    loss: Array
    train_loss: Array
    consensus_distance: Array

    def frame(self) -> pd.DataFrame:
        """Return everything but the outputs as rows: round, device (-1: all of them), metric, value."""
        import pandas as pd

        devices = self.accuracy.shape[1]
        parts = [
            pd.DataFrame(
                {
                    "round": np.repeat(self.rounds, devices),
                    "device": np.tile(np.arange(devices), len(self.rounds)),
                    "metric": name,
                    "value": np.asarray(getattr(self, name), np.float64).ravel(),
                }
            )
            for name in ("accuracy", "loss", "train_loss")
        ]
        whole = {"round": self.rounds, "device": -1, "metric": "consensus_distance", "value": self.consensus_distance}
        return pd.concat([*parts, pd.DataFrame(whole)], ignore_index=True)


def test_scores(outputs: Array, labels: NDArray[np.int64]) -> tuple[Array, Array]:
    """Return accuracy and loss of outputs (..., T, C), each (...,)."""
    classes = outputs.shape[-1]
    accuracy = (outputs.argmax(-1) == labels).mean(-1)
    loss = 0.5 * ((outputs - np.eye(classes)[labels]) ** 2).sum(-1).mean(-1)
    return np.asarray(accuracy), np.asarray(loss)


@dataclass(frozen=True)
class Prediction(Curves):
    """The prediction of a scenario's run; if messages get lost, of the mean over runs.

    `accuracy`, `loss` and `train_loss` are then those of the mean outputs; `expected_loss` is
    the mean of the losses, which is larger.

    Attributes:
        scenario: the scenario.
        method: DGD, CTA or ATC, and the step size.
        mixing: the mixing matrix and its losses.
        time: "recursion", or "flow".
        states: coefficients of the kernel, or parameters minus the initial ones, (K, Q, D, m).
        steps: stable step sizes; None if unknown.
        linearized: the devices.
        world: of the scenario.
    """

    scenario: Scenario
    method: Method
    mixing: LossyMixing
    time: Time
    states: Array = field(repr=False)
    steps: spectrum.StepRange | None
    linearized: Linearized = field(repr=False)
    world: World = field(repr=False)

    @property
    def lossy(self) -> bool:
        """Whether messages get lost, so that the prediction is a mean over runs."""
        return bool(self.mixing.loss.any())

    @property
    def exact(self) -> bool:
        """Whether the model is affine, so that the prediction is exact."""
        return self.linearized.exact

    def parameters(self, indices: Sequence[int] | None = None) -> Array:
        """Return the predicted parameters at each recorded round, (K, Q, len(indices)), by default all of them.

        Raises:
            PredictionError: if all parameters of all rounds don't fit into memory.
        """
        from p2pl_async.dynamics import kernels

        module = self.linearized.module
        initial = kernels.flat_parameters(module)
        rounds, devices = self.states.shape[:2]
        form = self.linearized.form
        if isinstance(form, ParameterForm):
            moved = affine_parameters(self.states) + initial
            return np.asarray(moved if indices is None else moved[..., list(indices)])
        coefficients = self.states.reshape(rounds, devices, -1, self.linearized.classes)
        if indices is not None:
            columns = kernels.parameter_columns(module, self.linearized.samples, indices)
            flat = coefficients.reshape(rounds, devices, -1)
            return np.asarray(flat @ columns.astype(flat.dtype) + initial[list(indices)])
        repair = "name the parameters wanted: parameters([0, 1, 2])"
        require(rounds * devices * initial.nbytes, MOST_BYTES, f"{rounds} rounds of all parameters", repair)
        return np.stack(
            [
                [initial + kernels.combined_gradient(module, self.linearized.samples, own) for own in state]
                for state in coefficients
            ]
        )

    def initial_parameters(self) -> Array:
        """Return what each device starts from, (Q, n_params)."""
        from p2pl_async.dynamics import kernels

        initial = kernels.flat_parameters(self.linearized.module)
        if isinstance(self.linearized.form, ParameterForm):
            return np.asarray(affine_parameters(self.linearized.start) + initial)
        return np.broadcast_to(initial, (len(self.linearized.start), len(initial)))

    @functools.cached_property
    def sample_weight(self) -> Array | None:
        """How much a sample of each device counts in what they minimize, (Q,); None if they can't agree.

        An average one counts 1. Every device takes one step a round, against the mean loss on all its samples.
        """
        pi = stationary(self.mixing.mean)
        samples = np.array([len(part) for part in self.world.parts], np.float64)
        return None if pi is None else sample_weight(pi, np.ones(len(samples)), samples)

    @functools.cached_property
    def agreement(self) -> Agreement | None:
        """How fast devices agree that only mix; None if messages get lost and devices are many."""
        if self.lossy and len(self.mixing.weights) > _MOST_COVARIANCES:
            return None
        return agreement(self.mixing)

    @functools.cached_property
    def reduced(self) -> ParameterForm:
        """The devices with the fewest features: all of them if they are few, else the strongest."""
        return _reduced(self.linearized.form)

    @functools.cached_property
    def modes(self) -> spectrum.Modes:
        """The modes of the errors without losses (see `spectrum.modes`); of a wide network, the strongest ones."""
        return spectrum.modes(self.reduced, self.method.rule, self.mixing.weights, self.method.eta)

    @functools.cached_property
    def limit(self) -> Array:
        """Outputs on the test samples after infinitely many rounds, (Q, T, C).

        Raises:
            PredictionError: if there are more states than `spectrum.DENSE`.
        """
        form = self.linearized.form
        if self.linearized.start.any():  # directions that no data sees stay where consensus puts them
            raise PredictionError("the limit needs devices that start from one model; set model.common_init = true")
        state = spectrum.limit(form, self.method.rule, self.mixing.mean, self.method.eta)
        return self.linearized.outputs(state)

    @functools.cached_property
    def moments(self) -> Moments | None:
        """Means and covariances over runs with lost messages; None if no message gets lost.

        Raises:
            PredictionError: if there are more states than `spectrum.DENSE`.
        """
        if not self.lossy:
            return None
        if self.linearized.start.any():
            raise PredictionError("second moments need devices that start from one model; set model.common_init = true")
        return second_moments(self._few, self.method.rule, self.mixing, self.method.eta, self.rounds)

    @functools.cached_property
    def _few(self) -> ParameterForm:
        form = self.linearized.form
        return form if isinstance(form, ParameterForm) else compressed(form.task, form.kernel)

    @property
    def expected_loss(self) -> Array:
        """Mean over runs of each device's test loss, (K, Q); `loss` itself if no message gets lost.

        Raises:
            PredictionError: if there are more states than `spectrum.DENSE`.
        """
        if self.moments is None:
            return self.loss
        features = self.linearized.test
        if not isinstance(self.linearized.form, ParameterForm):  # a kernel with test rows, in the few features
            few = self._few.features
            features = features @ few / (few**2).sum(0)
        return np.asarray(self.loss + self.moments.square(features) / (2 * len(self.linearized.labels)))


def _reduced(form: Form) -> ParameterForm:
    devices = form.shape[0]
    if isinstance(form, ParameterForm) and devices * form.shape[1] <= spectrum.DENSE:
        return form
    rank = min(len(form.kernel), max(1, _STRONGEST // devices))
    return compressed(form.task, form.kernel, rank)


def predict(
    scenario: Scenario,
    *,
    rounds: Sequence[int] | None = None,
    time: Time = "recursion",
    most_bytes: float = MOST_BYTES,
) -> Prediction:
    """Predict a run of DGD, CTA or ATC (or P2PL with one local step) with squared loss and full batches.

    The prediction is exact for affine models; for networks it is better the wider they are. With independent losses
    of messages it is the mean over runs.

    Args:
        scenario: the scenario; `stop.rounds` says how many rounds to predict.
        rounds: which rounds to record, ascending; by default at most 101, evenly spread.
        time: "recursion" for what an emulated run does, "flow" for the gradient flow of the paper.
        most_bytes: memory that may be used.

    Raises:
        ScenarioError: if the theory doesn't cover the scenario; lists every reason.
        PredictionError: if the step size is unstable, or memory doesn't suffice.

    Source: arXiv:2409.15267; `p2pl_async.dynamics` names the additions.
    """
    how = method(scenario)
    world = build_world(scenario)
    if world.neighborhood is not None:
        kind = getattr(scenario.topology, "kind", None)
        text = "must be a topology that doesn't change"
        raise ScenarioError(f"p2pl predict {scenario.name}", [Problem("topology.kind", text, kind)])
    matrix = mixing(world, world.graph, how)
    return predict_linearized(world, linearize(world, most_bytes=most_bytes), how, matrix, rounds, time, most_bytes)


def predict_linearized(
    world: World,
    devices: Linearized,
    how: Method,
    matrix: LossyMixing,
    rounds: Sequence[int] | None = None,
    time: Time = "recursion",
    most_bytes: float = MOST_BYTES,
) -> Prediction:
    """Return the prediction for linearized devices on any mixing matrix; see `predict`."""
    last = world.scenario.stop.rounds
    assert last is not None
    if rounds is None:
        at = np.unique(np.linspace(0, last, min(last, _MOST_ROUNDS) + 1).round().astype(np.int64))
    else:
        at = np.unique(np.asarray(rounds, np.int64))
    form, start = devices.form, devices.start
    item = start.itemsize
    need = 2 * len(at) * item * (start.size + start.shape[0] * devices.initial.size)
    require(need, most_bytes, f"recording {len(at)} rounds", "record fewer of them: predict(scenario, rounds=[...])")
    steps = spectrum.check_stable(form, how.rule, matrix.mean, how.eta)
    real = spectrum.real_spectrum(form, how.rule, matrix.mean, how.eta)
    states = recursion.trajectory(form, how.rule, matrix.mean, how.eta, at, start=start, time=time, chebyshev=real)
    outputs, moved = devices.outputs(states), form.outputs(states)
    accuracy, loss = test_scores(outputs, devices.labels)
    return Prediction(
        rounds=at,
        outputs=outputs,
        accuracy=accuracy,
        loss=loss,
        train_loss=form.losses(moved),
        consensus_distance=consensus_distance(form, states, moved),
        scenario=world.scenario,
        method=how,
        mixing=matrix,
        time=time,
        states=states,
        steps=steps,
        linearized=devices,
        world=world,
    )


def graph_of(scenario: Scenario, topology: Any) -> nx.DiGraph[int]:
    """Return the graph of another topology with a scenario's devices and seed."""
    from p2pl_async.basics.randomness import stream

    graph: nx.DiGraph[int] = topology.build(scenario.devices.count, stream(scenario.seed, "topology"))
    return graph
