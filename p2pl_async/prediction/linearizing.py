"""From a scenario to the kernel, targets and mixing matrix of the theory, or to all reasons why there are none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from p2pl_async.basics.arrays import Array
from p2pl_async.dynamics.failures import LossyMixing
from p2pl_async.dynamics.linearized import Form, KernelForm, ParameterForm, Task, product
from p2pl_async.dynamics.recursion import Rule
from p2pl_async.errors import PredictionError, Problem, ScenarioError
from p2pl_async.link import LinkSettings
from p2pl_async.link.latency import Constant
from p2pl_async.link.loss.independent import Bernoulli, NoLoss
from p2pl_async.link.outage import NoOutage
from p2pl_async.protocols.mixing import Peer, row
from p2pl_async.scenario.building.world import World
from p2pl_async.scenario.scenario import Scenario

if TYPE_CHECKING:
    import networkx as nx


@dataclass(frozen=True)
class Method:
    """How devices learn: the values of a scenario's `[protocol]` and `[train]` that enter the theory."""

    rule: Rule
    eta: float
    weights: str
    on_missing: Literal["renormalize", "self"]
    window: float | None = None  # s, how long a device listens after sending; None: until all messages are there


@dataclass(frozen=True)
class Linearized:
    """A scenario's devices, data and model, linear in the parameters; no topology yet.

    Attributes:
        form: the devices' gradients.
        start: state before the first round, (Q, D, m).
        initial: outputs of the reference model on the test samples, (T, C).
        test: kernel between test and training rows, or the Jacobian on test samples, (T', D).
        tests: rows of the test samples in the data set, (T,).
        labels: labels of the test samples, (T,).
        classes: number of outputs, C.
        module: the torch module at the reference parameters.
        samples: training samples in the order of the rows.
        exact: whether the model is affine, so that the prediction is exact.
    """

    form: Form
    start: Array
    initial: Array
    test: Array
    tests: NDArray[np.int64]
    labels: NDArray[np.int64]
    classes: int
    module: Any
    samples: Array
    exact: bool

    def outputs(self, states: Array) -> Array:
        """Return outputs on the test samples, (..., Q, T, C) for states (..., Q, D, m)."""
        moved = product(self.test, states)
        return np.asarray(moved.reshape(*states.shape[:-2], *self.initial.shape) + self.initial)


def method(scenario: Scenario) -> Method:
    """Return how the scenario's devices learn.

    Raises:
        ScenarioError: with every setting that the theory doesn't cover.
    """
    found = list(_uncovered(scenario))
    if found:
        raise ScenarioError(f"p2pl predict {scenario.name}", found)
    protocol: Any = scenario.protocol
    rule: Rule = protocol.kind
    if protocol.kind == "p2pl":
        rule = "cta" if protocol.mix_first else "atc"
    window = None
    if protocol.mode.kind == "fresh":
        compute = scenario.devices.compute
        window = protocol.mode.wait + (compute.seconds(1, 0) if rule == "dgd" else 0.0)  # it computes meanwhile
    return Method(rule, scenario.train.learning_rate, protocol.weights, protocol.on_missing, window)


def _uncovered(scenario: Scenario) -> Iterator[Problem]:
    protocol: Any = scenario.protocol
    train = scenario.train
    if protocol.kind not in ("dgd", "cta", "atc", "p2pl"):
        yield Problem("protocol.kind", "has no closed form here; use dgd, cta, atc or p2pl", protocol.kind)
    else:
        if protocol.mode.kind not in ("barrier", "fresh"):
            text = 'must be "barrier", or "fresh" with devices in lock step, so that all take part in each round'
            yield Problem("protocol.mode.kind", text, protocol.mode.kind)
        elif protocol.mode.kind == "fresh" and not _lock_step(scenario):
            text = (
                "needs devices in lock step: one compute time per epoch for all, without spread, jitter, groups, "
                "start times or drifting clocks"
            )
            yield Problem("protocol.mode.kind", text, "fresh")
        if protocol.on_missing == "cache":
            yield Problem("protocol.on_missing", 'must be "self" or "renormalize"', "cache")
        if protocol.kind == "p2pl" and (protocol.steps or protocol.epochs) != 1:
            yield Problem("protocol", 'must take one local step a round: epochs = 1 with train.batch_size = "all"')
        if protocol.kind == "p2pl" and protocol.consensus_steps != 1:
            yield Problem("protocol.consensus_steps", "must be 1", protocol.consensus_steps)
    for key, wanted in _TRAIN.items():
        value: Any = train.loss.kind if key == "loss" else getattr(train, key)
        if value != wanted:
            yield Problem(f"train.{key}", f"must be {_toml(wanted)}, for which the dynamics are linear", value)
    if train.schedule.kind != "constant":
        yield Problem("train.schedule.kind", 'must be "constant"', train.schedule.kind)
    for name, group in scenario.devices.group.items():
        if group.train is not None:
            yield Problem(f"devices.group.{name}.train", "must be left out: the theory has one learning rate for all")
    if scenario.stop.rounds is None:
        yield Problem("stop.rounds", "is missing; it says how many rounds to predict")
    for table, covered, settings in (("", _COVERED, scenario), ("devices.", _COVERED_DEVICES, scenario.devices)):
        for key, field in type(settings).model_fields.items():
            if key not in covered and getattr(settings, key) != field.get_default(call_default_factory=True):
                text = "the theory assumes devices that never leave, and a dedicated link to each neighbor"
                if key == "relay":
                    text = (
                        "neighbors that a message reaches over a common hop lose it together, and the theory has "
                        "independent losses; where links lose nothing, rounds are the same without"
                    )
                yield Problem(table + key, f"must be left out: {text}")


def _lock_step(scenario: Scenario) -> bool:
    """Whether all devices begin every round at the same instant."""
    devices, compute = scenario.devices, scenario.devices.compute
    same_pace = compute.per_epoch is not None and not compute.spread and not compute.jitter and not devices.group
    return same_pace and not devices.start.uniform and getattr(scenario, "clocks", None) is None


_COVERED = {
    "name", "seed", "devices", "topology", "link", "protocol", "data", "model", "train", "baselines", "evaluate",
    "stop", "clocks",
}  # fmt: skip
_COVERED_DEVICES = {"count", "compute", "start", "group"}
_TRAIN = {"loss": "squared", "batch_size": "all", "momentum": 0.0, "weight_decay": 0.0, "clip": None, "autocast": None}


def _toml(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else "left out" if value is None else f"{value:g}"


def mixing(world: World, graph: nx.DiGraph[int], how: Method) -> LossyMixing:
    """Return the mixing matrix of a topology, with the loss probability of each link.

    Args:
        world: the scenario's, for data sizes and links.
        graph: the links: the scenario's own topology, or another.
        how: the method, for the weights.

    Raises:
        ScenarioError: if losses aren't independent.
    """
    n = len(graph)
    weights, loss = np.zeros((n, n)), np.zeros((n, n))
    peers = [Peer(len(part), graph.in_degree(k)) for k, part in enumerate(world.parts)]
    found: dict[str, Problem] = {}
    for k in range(n):
        heard = {j: peers[j] for j in sorted(graph.pred[k])}
        for j, weight in row(how.weights, k, peers[k], heard).items():  # type: ignore[arg-type]
            weights[k, j] = weight
        for j in heard:
            link = world.links.settings(j, k)
            if isinstance(link.loss, Bernoulli) and link.loss.versions() is None:
                loss[k, j] = link.loss.p
            elif not isinstance(link.loss, NoLoss):
                text = 'must be "none", or "bernoulli" with one p for all times: independent losses'
                found["loss"] = Problem("link.loss.kind", text, getattr(link.loss, "kind", None))
            if not isinstance(link.outage, NoOutage):
                found["outage"] = Problem("link.outage", "must be left out: it makes losses depend on each other")
            if how.window is not None and not _in_time(link, how.window):
                text = f"must be constant, above 0 and below {how.window:g} s, the wait after sending, without a rate"
                found["latency"] = Problem(
                    "link.latency", f'{text}: with mode "fresh" messages must arrive in their round'
                )
            lossy = loss[k, j] > 0
            for key in ("mtu", "queue") + (("arq",) if lossy else ()):
                if getattr(link, key) is not None:
                    found[key] = Problem(
                        f"link.{key}", "must be left out: in the theory a message is lost or arrives at once"
                    )
    if found:
        raise ScenarioError(f"p2pl predict {world.scenario.name}", list(found.values()))
    return LossyMixing(weights, loss, undirected=False, on_missing=how.on_missing)


def _in_time(link: LinkSettings, window: float) -> bool:
    """Whether a message that isn't lost arrives in the round of its sender."""
    latency = link.latency
    if not isinstance(latency, Constant) or latency.versions() is not None or link.rate is not None:
        return False
    return 0 < latency.mean + latency.fixed < window


def linearize(world: World, *, most_bytes: float) -> Linearized:
    """Return the linearized devices of a scenario.

    Raises:
        ScenarioError: if devices start from different models, and the model isn't affine.
        PredictionError: if the kernel doesn't fit into `most_bytes`.
    """
    from p2pl_async.dynamics import kernels
    from p2pl_async.learning.batches import subset_rows
    from p2pl_async.learning.trainer import Trainer

    scenario, data = world.scenario, world.dataset
    assert data is not None
    if not data.labeled:
        text = f"must hold labels, and y of {data.name} are numbers; only labels are predicted"
        raise ScenarioError(f"p2pl predict {scenario.name}", [Problem("data.dataset", text)])
    trainer = Trainer(data, world.parts, scenario.model, scenario.train, scenario.seed)
    dtype = np.dtype(scenario.train.precision)
    module = scenario.model.module(data.x_train.shape[1:], data.n_classes, 0)
    exact = kernels.is_linear(module)
    starts = [np.asarray(trainer.initial_params(k)) for k in range(len(world.parts))]
    if scenario.model.common_init:
        starts = starts[:1] * len(starts)
    sync = getattr(scenario.protocol, "sync", None)
    if sync is not None and sync.kind == "max-norm":
        segments = [slice(0, trainer.n_params)] if sync.scope == "model" else list(trainer.layers)
        starts = [_largest(starts, segments)] * len(starts)
    alike = all(np.array_equal(w, starts[0]) for w in starts)
    if not alike and not exact:
        text = "must be true (or protocol.sync max-norm): a network is linearized around one common initial model"
        raise ScenarioError(f"p2pl predict {scenario.name}", [Problem("model.common_init", text, False)])
    kernels.with_parameters(module, starts[0])

    rows = np.concatenate(world.parts)
    tests = subset_rows(scenario.seed, len(data.y_test), scenario.evaluate.samples)
    x, y = data.x_train[rows].astype(dtype), data.y_train[rows]
    x_test, labels = data.x_test[tests].astype(dtype), data.y_test[tests]
    before, initial = (kernels.outputs_of(module, samples) for samples in (x, x_test))
    residual = before - np.eye(data.n_classes, dtype=dtype)[y]
    counts = np.array([len(part) for part in world.parts])

    if exact:
        features, test = _affine_features(x), _affine_features(x_test)
        task = Task(np.repeat(np.arange(len(counts)), counts), counts, residual)
        if not alike or features.shape[1] <= len(features):
            weights = np.stack([_affine_state(w - starts[0], data.n_classes) for w in starts])
            return Linearized(
                ParameterForm(task, features), weights, initial, test, tests, labels, data.n_classes, module, x, exact
            )
        form: Form = KernelForm(task, features @ features.T)
        return Linearized(
            form, form.zeros(), initial, test @ features.T, tests, labels, data.n_classes, module, x, exact
        )
    kernel = kernels.gradient_gram(module, x, most_bytes=most_bytes)
    used = kernel.values.nbytes
    test = kernels.gradient_gram(module, x_test, x, most_bytes=most_bytes - used).values
    owner = np.repeat(np.arange(len(counts)), counts * data.n_classes)
    form = KernelForm(Task(owner, counts, residual.reshape(-1, 1)), kernel.values)
    return Linearized(form, form.zeros(), initial, test, tests, labels, data.n_classes, module, x, exact)


def _largest(starts: Sequence[Array], segments: Sequence[slice]) -> Array:
    """Return the result of max-norm synchronization: each segment from the model whose norm is largest there."""
    chosen = []
    for part in segments:
        norms = [float(np.linalg.norm(w[part].astype(np.float64))) for w in starts]
        best = max(range(len(starts)), key=lambda k: (norms[k], k))
        chosen.append(starts[best][part])
    return np.concatenate(chosen)


def _affine_features(x: Array) -> Array:
    """Return (x, 1) of each sample, (n, features + 1)."""
    flat = x.reshape(len(x), -1)
    return np.concatenate([flat, np.ones((len(flat), 1), flat.dtype)], 1)


def _affine_state(w: Array, classes: int) -> Array:
    """Return the flat parameters of a linear layer as a state, (features + 1, classes)."""
    weights = w[:-classes].reshape(classes, -1)
    return np.concatenate([weights.T, w[None, -classes:]])


def affine_parameters(state: Array) -> Array:
    """Return states (..., features + 1, classes) as flat parameters, (..., n_params)."""
    weights = np.swapaxes(state[..., :-1, :], -1, -2)
    return np.concatenate([weights.reshape(*weights.shape[:-2], -1), state[..., -1, :]], -1)


def require(need: float, most: float, what: str, repair: str) -> None:
    """Raise PredictionError if `need` bytes are more than allowed."""
    if need > most:
        raise PredictionError(
            f"{what} needs {need / 2**30:.3g} GiB, more than the {most / 2**30:.3g} GiB allowed; {repair}"
        )
