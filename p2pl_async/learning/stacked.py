"""Many devices' parameters stacked in tensors, and the computations on them, in torch.

For k devices and a layer of shape (out, in), `w` holds one contiguous tensor (k, out, in).
One step of SGD for all of them is a handful of batched matrix products. Devices with
fewer steps sit at the end of the stack, so those that still train are always a prefix:
no masks. A short batch is padded with its own first sample at weight 0.

A device's result must not depend on the devices it is computed with. MKL's batched product gives a
matrix the same bits in any stack of two or more, but other bits if it is alone. So on a CPU a
device is never alone (the one with most steps is computed twice where it would be), and batches are
padded to the same width in every group. `crew` says why the number of threads doesn't matter.

A `ModuleItself` is computed by the same steps, on a stack of one device whose rows are the module's own tensors.
A large dense network, or that of a single device, isn't stacked on a CPU: `one_by_one` says why.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from p2pl_async.errors import Problem, ScenarioError
from p2pl_async.learning.arithmetic import in_bfloat16
from p2pl_async.learning.augmentation import augmented
from p2pl_async.learning.examination import Unfit, choose, examine, refusal, seeded
from p2pl_async.learning.layout import make_layout, tensor
from p2pl_async.learning.networks import Buffers, DenseNetwork, Gradients, ModuleItself, Network, losses
from p2pl_async.learning.one_by_one import WORTHWHILE, Batch, OneByOne
from p2pl_async.learning.score_sums import ScoreSums
from p2pl_async.learning.user_code import mistake, user_code

if TYPE_CHECKING:
    from p2pl_async.learning.data import Dataset
    from p2pl_async.learning.models import Model
    from p2pl_async.learning.scores import Score
    from p2pl_async.learning.settings import TrainSettings

Array = NDArray[Any]

# Working set of a group (parameters and gradients). Larger groups amortise the cost of calling torch, smaller ones
# stay in the cache. Measured in groups of 4 / 8 / 24 / 96, per device and step of 10 samples:
# 784-200-200-10 takes 135 / 122 / 100 / 125 us, 784-50-10 46 / 33 / 28 / 24 us.
_GROUP_BYTES = {"cpu": 32 * 2**20, "cuda": 2 * 2**30}
_BATCH_BYTES = {"cpu": 64 * 2**20, "cuda": 4 * 2**30}  # features of one step of a group, at most
_LARGEST_GROUP = {"cpu": 128, "cuda": 4096}
_EVALUATED_VALUES = 2**22  # logits and hidden values held at once while evaluating, per layer
_HELD_BYTES = {"cpu": 128 * 2**20, "cuda": 4 * 2**30}  # intermediate values of a group's forward pass, at most


class Own(NamedTuple):
    """What belongs to one device besides its parameters, while a module is computed alone."""

    seed: int  # of the random numbers that the module draws
    buffers: Buffers | None  # that stay on the device; None before its first job


class Trained(NamedTuple):
    """Results of one group of jobs."""

    vectors: list[Array]  # parameters after training, or gradients, read-only, each (n_params,)
    velocities: list[Array] | None  # None unless momentum is kept
    buffers: Buffers | None  # that stay on the device, of a module computed alone; None if there are none

    def velocity(self, index: int) -> Array | None:
        """Return the velocity of one job, if they are kept."""
        return None if self.velocities is None else self.velocities[index]


NOTHING = Own(0, None)


class Engine:
    """Data, buffers and the three computations on stacked devices: SGD, one gradient, evaluation.

    Args:
        model: what devices train.
        model_seed: gives the module whose frozen parameters and constant buffers all devices have.
        settings: of training.
        dataset: the data, kept in the accelerator's memory.
        width: samples in a batch, padding included.
        lone: whether there is a single device, so that there is nothing to stack.
        one_rate: whether all devices have the learning rate of `settings`.

    Raises:
        ScenarioError: if the model doesn't fit the data, or the accelerator is missing.
    """

    def __init__(
        self,
        model: Model,
        model_seed: int,
        settings: TrainSettings,
        dataset: Dataset,
        width: int,
        *,
        lone: bool = False,
        one_rate: bool = True,
    ) -> None:
        self.device = _accelerator(settings.accelerator)
        self._settings = settings
        self._dtype = np.dtype(settings.precision)
        self._width = width
        self._lone = lone
        self._rate = settings.learning_rate if one_rate and settings.schedule.kind == "constant" else None
        self._torch_dtype = {"float32": torch.float32, "float64": torch.float64}[settings.precision]
        self._x_train, self._x_test = (self._tensor(x).to(self._torch_dtype) for x in (dataset.x_train, dataset.x_test))
        settings.loss.check(dataset)
        kept = torch.int64 if dataset.labeled else self._torch_dtype
        self._y_train, self._y_test = (self._tensor(y).to(kept) for y in (dataset.y_train, dataset.y_test))

        shape, n_classes = dataset.x_train.shape[1:], dataset.n_classes
        module = model.module(shape, n_classes, model_seed).to(self.device, self._torch_dtype)
        expected = f"its module must take samples (batch, {', '.join(map(str, shape))}) and give (batch, {n_classes})"
        if not any(parameter.requires_grad for parameter in module.parameters()):
            raise mistake("model.kind", model.build, "its module has no parameters to train; set requires_grad of some")
        try:
            with user_code("model.kind", model.build, expected):
                findings = self.findings = examine(module, self._x_train, n_classes)
        except Unfit as reason:
            raise mistake("model.kind", model.build, f"{expected}; {reason}") from reason
        self.layout = make_layout(
            module, findings.changing, average=model.buffers == "average", send_frozen=model.send_frozen
        )

        def make(dtype: torch.dtype) -> nn.Module:
            module = model.module(shape, n_classes, model_seed).to(self.device, dtype)
            return in_bfloat16(module, self.device) if settings.autocast else module

        self._make_module = functools.partial(make, self._torch_dtype)
        # Autocast has no effect within vmap.
        kind = (
            ModuleItself
            if settings.autocast
            else choose(make, self.layout, findings, settings.loss, self._x_train, self._y_train)
        )
        self._make_network: Callable[[], Network] = lambda: kind(self._make_module(), self.layout, settings.loss)
        self.network: Network = self._make_network()
        self.alone = kind is ModuleItself

        self._shapes = [tensor(module, name).shape for name in self.layout.sent]
        ends = np.cumsum([0, *(shape.numel() for shape in self._shapes)]).tolist()
        self.layers = tuple(slice(a, b) for a, b in itertools.pairwise(ends))
        self.n_params: int = ends[-1]
        self._n_trained = len(self.layout.trained)

        where, size = self.device.type, self._dtype.itemsize
        held = size * findings.saved_values
        fitting = min(
            _GROUP_BYTES[where] // (2 * size * self.n_params),
            _BATCH_BYTES[where] // (size * width * math.prod(shape)),
            _HELD_BYTES[where] // max(1, held * width),
        )
        self.group = 1 if self.alone else max(4, min(fitting, _LARGEST_GROUP[where]))
        self._paired = where == "cpu" and not self.alone
        self._one_by_one = self._make_one_by_one()
        if kind is DenseNetwork:
            widest = max(max(shape[:1], default=1) for shape in self._shapes)
            self._rows = max(64, min(1000, _EVALUATED_VALUES // (self.group * widest)))
        else:
            self._rows = max(1, min(1000, _HELD_BYTES[where] // max(1, held * self.group)))
        self._stacks: dict[str, list[Tensor]] = {}
        self._gathered = self._x_train[:0]

    def twin(self) -> Self:
        """Return an engine with the same data and buffers of its own, to compute beside this one."""
        twin = copy.copy(self)
        twin._stacks, twin._gathered = {}, self._x_train[:0]
        twin.network = self._make_network()
        twin._one_by_one = twin._make_one_by_one()
        return twin

    def _make_one_by_one(self) -> OneByOne | None:
        """Return buffers for large or lone dense networks; the choice depends on sizes alone, so that bits do, too."""
        worthwhile = self._lone or self.n_params >= WORTHWHILE
        if self.device.type != "cpu" or not isinstance(self.network, DenseNetwork) or not worthwhile:
            return None
        if self._settings.loss.kind not in OneByOne.LOSSES or self._y_train.dim() > 1:
            return None
        return OneByOne(self.network, self._shapes, self._settings, self._x_train, self._width)

    def refusal(self, size: int) -> str:
        """Return why the module can't train on a batch of so many samples; nothing if it can."""
        return refusal(self._make_module(), self._x_train[:size]) if self.findings.mixes else ""

    def _tensor(self, array: Array) -> Tensor:
        with warnings.catch_warnings():
            # torch warns of read-only arrays. Data sets are read-only, are never written to, and are large to copy.
            warnings.simplefilter("ignore", UserWarning)
            return torch.from_numpy(array).to(self.device)

    def _stack(self, name: str, vectors: Sequence[Array | None]) -> list[Tensor]:
        """Return flat vectors (None: zeros) as contiguous tensors (k, *layer), one per layer, in buffers kept."""
        if name not in self._stacks:
            rows = self.group + self._paired
            self._stacks[name] = [
                torch.empty((rows, *shape), dtype=self._torch_dtype, device=self.device) for shape in self._shapes
            ]
        stack = [layer[: len(vectors)] for layer in self._stacks[name]]
        for part, layer in zip(self.layers, stack, strict=True):
            host = layer if self.device.type == "cpu" else torch.empty_like(layer, device="cpu")
            for row, vector in zip(host.view(len(vectors), -1).numpy(), vectors, strict=True):
                row[:] = 0 if vector is None else vector[part]
            if host is not layer:
                layer.copy_(host)
        return stack

    def _unstack(self, stack: Sequence[Tensor]) -> list[Array]:
        """Return each device's flat vector as a read-only array of its own."""
        layers = [layer.reshape(len(layer), -1).cpu().numpy() for layer in stack]
        vectors = []
        for i in range(len(layers[0])):
            vector = np.concatenate([layer[i] for layer in layers])
            vector.setflags(write=False)
            vectors.append(vector)
        return vectors

    @torch.no_grad()
    def train(
        self,
        params: Sequence[Array],
        batches: Sequence[Array],
        sizes: Sequence[Array],
        rates: Sequence[Array],
        velocities: Sequence[Array | None],
        drifts: Sequence[Array],
        own: Own = NOTHING,
        *,
        keep: bool,
        shifts: Sequence[Array] = (),
    ) -> Trained:
        """Train up to `group` devices, those with more steps first.

        Args:
            params: each (n_params,).
            batches: rows of the training data, each (steps, batch); the batch may differ.
            sizes: how many of a batch's rows count, each (steps,).
            rates: learning rate of every step, each (steps,).
            velocities: momentum to start from, each (n_params,), None for zeros.
            drifts: added to the parameters after every step, each (n_params,); empty for none at all.
            own: of a module computed alone, what belongs to the device besides its parameters.
            keep: whether to return the velocities.
            shifts: augmentation of the samples, each (steps, batch, 3); empty for none.

        Returns:
            The parameters after training, the velocities (None unless they are to be kept), and the
            buffers that stay on the device.
        """
        settings = self._settings
        steps = [len(rows) for rows in batches]
        if self._one_by_one is not None and not shifts:
            return self._train_one_by_one(self._one_by_one, params, batches, sizes, rates, velocities, drifts, keep)
        shadow = self._paired and (len(steps) == 1 or steps[0] > steps[1])
        if shadow:
            params, batches, sizes, rates, velocities, steps = (
                [values[0], *values] for values in (params, batches, sizes, rates, velocities, steps)
            )
            drifts, shifts = [*drifts[:1], *drifts], [*shifts[:1], *shifts]
        indices, labels, weight = self._samples(batches, sizes)
        moves = self._moves(shifts, steps[0])
        rate = np.zeros((steps[0], len(params)), self._dtype)
        for i, own_rates in enumerate(rates):
            rate[: steps[i], i] = own_rates
        rate_tensor = torch.from_numpy(rate).to(self.device)

        w = self._stack("w", params)
        v = self._stack("v", velocities) if settings.momentum else []
        d = self._stack("d", drifts) if drifts else []
        moving = [stack[: self._n_trained] for stack in (w, v, d)]
        # Views are made anew only when devices drop out of the prefix.
        active = [sum(own_steps > step for own_steps in steps) for step in range(steps[0])]
        k = 0
        with self._bound(w, own):
            for step in range(steps[0]):
                if active[step] != k:
                    k = active[step]
                    w_k, v_k, d_k = ([layer[:k] for layer in stack] for stack in moving)
                x = self._features(indices[step, :k], None if moves is None else moves[step, :k])
                self._step(w_k, v_k, x, labels[step, :k], weight[step, :k], rate_tensor[step, :k])
                for w_layer, drift in zip(w_k, d_k, strict=False):  # no drifts: no layers of them
                    w_layer += drift
        results, left = ([layer[shadow:] for layer in stack] for stack in (w, v))
        return Trained(self._unstack(results), self._unstack(left) if keep else None, self._buffers())

    def _train_one_by_one(
        self,
        one: OneByOne,
        params: Sequence[Array],
        batches: Sequence[Array],
        sizes: Sequence[Array],
        rates: Sequence[Array],
        velocities: Sequence[Array | None],
        drifts: Sequence[Array],
        keep: bool,
    ) -> Trained:
        """Do what `train` does, without stacks."""
        found = []
        for i, (w, rows, size) in enumerate(zip(params, batches, sizes, strict=True)):
            batch = Batch(*(values[:, 0] for values in self._samples([rows], [size])))
            drift = drifts[i] if drifts else None
            found.append(one.train(w, batch, rates[i].tolist(), velocities[i], drift, keep=keep))
        left = [velocity for _, velocity in found if velocity is not None]
        return Trained([w for w, _ in found], left if keep else None, None)

    @torch.no_grad()
    def gradients(
        self,
        params: Sequence[Array],
        batches: Sequence[Array],
        sizes: Sequence[Array],
        own: Own = NOTHING,
        *,
        shifts: Sequence[Array] = (),
    ) -> Trained:
        """Return the gradients of up to `group` devices on one batch each; see `train` for the arguments."""
        if self._one_by_one is not None and not shifts:
            one, vectors = self._one_by_one, []
            for start, rows, size in zip(params, batches, sizes, strict=True):
                batch = Batch(*(values[:, 0] for values in self._samples([rows], [size])))
                vectors.append(one.gradient(start, batch))
            return Trained(vectors, None, None)
        shadow = self._paired and len(params) == 1
        if shadow:
            params, batches, sizes = ([values[0], *values] for values in (params, batches, sizes))
            shifts = [*shifts[:1], *shifts]
        indices, labels, weight = self._samples(batches, sizes)
        w = self._stack("w", params)
        moves = self._moves(shifts, 1)
        x = self._features(indices[0], None if moves is None else moves[0])
        with self._bound(w, own):
            found = self._gradients(w[: self._n_trained], x, labels[0], weight[0])
        g = [
            torch.zeros_like(layer) if gradient is None else gradient
            for gradient, layer in itertools.zip_longest(found, w)
        ]
        return Trained(self._unstack([layer[shadow:] for layer in g]), None, self._buffers())

    @contextlib.contextmanager
    def _bound(self, w: Sequence[Tensor], own: Own) -> Iterator[None]:
        """Give a module that is computed alone its device's tensors and random numbers."""
        if not isinstance(self.network, ModuleItself):
            yield
            return
        self.network.bind(w, own.buffers)
        with seeded(own.seed, self.device) if self.findings.draws else contextlib.nullcontext():
            yield
        self.network.collect(w)

    def _buffers(self) -> Buffers | None:
        return self.network.buffers() if self.layout.local and isinstance(self.network, ModuleItself) else None

    def _samples(self, batches: Sequence[Array], sizes: Sequence[Array]) -> tuple[Tensor, Tensor, Tensor]:
        """Return rows, labels and weights of all samples of all steps, each (steps, k, width)."""
        shape = (max(map(len, batches)), len(batches), self._width)
        samples = np.zeros(shape, np.int64)
        weights = np.zeros(shape, self._dtype)
        for i, (rows, size) in enumerate(zip(batches, sizes, strict=True)):
            samples[: len(rows), i] = rows[:, :1]
            samples[: len(rows), i, : rows.shape[1]] = rows
            weights[: len(rows), i] = (np.arange(self._width) < size[:, None]) / size[:, None]
        indices = torch.from_numpy(samples).to(self.device)
        return indices, self._y_train[indices], torch.from_numpy(weights).to(self.device)

    def _moves(self, shifts: Sequence[Array], steps: int) -> Tensor | None:
        """Return the augmentation of all samples of all steps, (steps, k, width, 3); None for none."""
        if not shifts:
            return None
        moves = np.zeros((steps, len(shifts), self._width, 3), np.int64)
        for i, own in enumerate(shifts):
            moves[: len(own), i, : own.shape[1]] = own
        return torch.from_numpy(moves).to(self.device)

    def _features(self, rows: Tensor, moves: Tensor | None) -> Tensor:
        """Return the samples in rows (k, width) of the training data, moved as (k, width, 3) say.

        They are in memory that the next call overwrites.
        """
        shape = self._x_train.shape[1:]
        wanted = rows.numel()
        if len(self._gathered) < wanted:
            self._gathered = self._x_train.new_empty(wanted, *shape)
        found = self._gathered[:wanted]
        torch.index_select(self._x_train, 0, rows.reshape(-1), out=found)
        x = found.view(*rows.shape, *shape)
        return x if moves is None else augmented(x, moves)

    def _gradients(self, w: Sequence[Tensor], x: Tensor, y: Tensor, weights: Tensor) -> Gradients:
        """Return the gradients with weight decay, after clipping each device's norm."""
        settings = self._settings
        g = self.network.gradients(w, x, y, weights)
        if settings.clip is not None:
            there = [layer for layer in g if layer is not None]
            norms = torch.stack([torch.linalg.vector_norm(layer.reshape(len(layer), -1), dim=1) for layer in there])
            scale = (settings.clip / (torch.linalg.vector_norm(norms, dim=0) + 1e-6)).clamp_(max=1.0)
            for layer in there:
                layer *= _column(scale, layer)
        if settings.weight_decay:
            for gradient, w_layer in zip(g, w, strict=True):
                if gradient is not None:
                    gradient.add_(w_layer, alpha=settings.weight_decay)
        return g

    def _step(
        self, w: Sequence[Tensor], v: Sequence[Tensor], x: Tensor, y: Tensor, weights: Tensor, rates: Tensor
    ) -> None:
        """Change `w` by one step of SGD: torch.optim.SGD's rule, after clipping the gradient's norm per device.

        The choice among the ways below depends on the settings alone: if it depended on the devices in
        the stack, their bits would, too.
        """
        settings = self._settings
        rate = self._rate
        if isinstance(self.network, DenseNetwork) and not (settings.clip or settings.weight_decay or settings.nesterov):
            if settings.momentum:
                self.network.add_gradients(w, x, y, weights, v, settings.momentum, 1.0)
                self._descend(w, v, rate, rates)
                return
            if rate is not None:
                self.network.add_gradients(w, x, y, weights, w, 1.0, -rate)
                return
        found = self._gradients(w, x, y, weights)
        moved = [i for i, layer in enumerate(found) if layer is not None]
        g = [layer for layer in found if layer is not None]
        w = [w[i] for i in moved]
        if settings.momentum:
            v = [v[i] for i in moved]
            for layer, v_layer in zip(g, v, strict=True):
                v_layer.mul_(settings.momentum).add_(layer)
                if settings.nesterov:
                    layer.add_(v_layer, alpha=settings.momentum)
        self._descend(w, v if settings.momentum and not settings.nesterov else g, rate, rates)

    @staticmethod
    def _descend(w: Sequence[Tensor], change: Sequence[Tensor], rate: float | None, rates: Tensor) -> None:
        """Subtract the change, times the common rate, or times each device's own if that is None."""
        for layer, by in zip(w, change, strict=True):
            if rate is not None:
                layer.add_(by, alpha=-rate)
            else:
                layer.addcmul_(by, _column(rates, by), value=-1.0)

    @torch.no_grad()
    def evaluate(
        self,
        params: Sequence[Array],
        rows: Array | None,
        scores: Sequence[Score],
        buffers: Buffers | None = None,
        own: NDArray[np.float64] | None = None,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the scores and the mean loss of up to `group` vectors on test samples.

        Args:
            params: each (n_params,).
            rows: the samples; all if None.
            scores: which.
            buffers: that stay on the device, of a module computed alone.
            own: weights of the samples for each device, (k, rows), by which each score is taken a second time.

        Returns:
            (scores, k) or, with `own`, (2 scores, k), those with weights last; and (k,).
        """
        x, y = self._x_test, self._y_test
        if rows is not None:
            chosen = torch.from_numpy(rows).to(self.device)
            x, y = x[chosen], y[chosen]
        loss = np.zeros(len(params))
        sums = [ScoreSums(scores, len(params), weights) for weights in ([None] if own is None else [None, own])]
        w = self._stack("w", params)
        with self._bound(w, Own(0, buffers)):
            for first in range(0, len(y), self._rows):
                part = slice(first, first + self._rows)
                outputs = self.network.logits(w, x[part])
                labels = y[part].expand(len(outputs), *y[part].shape)
                for each in sums:
                    each.add(outputs, y[part], part)
                loss += losses(outputs, labels, self._settings.loss).sum(1, dtype=torch.float64).cpu().numpy()
        return np.concatenate([each.values(len(y)) for each in sums]), loss / len(y)


def _column(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.dim() - 1))


def _accelerator(choice: str) -> torch.device:
    found = torch.cuda.is_available()
    if choice == "cuda" and not found:
        text = 'no CUDA GPU that this PyTorch can use; write "cpu" or "auto"'
        raise ScenarioError("train", [Problem("train.accelerator", text, choice)])
    return torch.device("cuda" if found and choice != "cpu" else "cpu")
