"""Many devices' parameters stacked in tensors, and the computations on them, in torch.

    vectors --> Stack --> Samples: a batch of each device --> Network: gradients --> Descent: a step --> vectors

For k devices and a layer of shape (out, in), `w` holds one tensor (k, out, in). One step of SGD for all of
them is a handful of matrix products. Devices with fewer steps sit at the end of the stack, so those that still
train are always a prefix: no masks. Groups are small, so that what a step reads and writes stays in a core's cache.

A device's result must not depend on the devices it is computed with. MKL's batched product gives a
matrix the same bits in any stack of two or more, but other bits if it is alone. So on a CPU a
device is never alone: a row before the first one, of samples that don't count, is computed beside it. Large dense
networks take no batched product, and no such row. Batches are padded to the same width in every group.
`crew` says why the number of threads doesn't matter.

A `ModuleItself` is computed by the same steps, on a stack of one device whose rows are the module's own tensors.
Where there is a single device in the whole run, as in the central baseline, it is always alone.
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
from p2pl_async.learning.dense import DenseNetwork
from p2pl_async.learning.descent import Descent
from p2pl_async.learning.examination import Unfit, choose, examine, refusal, seeded
from p2pl_async.learning.group_size import evaluated_rows, of_dense, of_modules
from p2pl_async.learning.layout import make_layout, tensor
from p2pl_async.learning.networks import Buffers, ModuleItself, Network
from p2pl_async.learning.samples import Samples
from p2pl_async.learning.score_sums import ScoreSums
from p2pl_async.learning.stack import Stack, frozen, rows_of
from p2pl_async.learning.user_code import mistake, user_code

if TYPE_CHECKING:
    from p2pl_async.learning.data import Dataset
    from p2pl_async.learning.models import Model
    from p2pl_async.learning.scores import Score
    from p2pl_async.learning.settings import TrainSettings

Array = NDArray[Any]


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
        rate = settings.learning_rate if one_rate and settings.schedule.kind == "constant" else None
        self._descent = Descent(settings, rate)
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

        where, size, features = self.device.type, self._dtype.itemsize, math.prod(shape)
        held, batch = size * findings.saved_values, size * width * features
        dense = self.network if isinstance(self.network, DenseNetwork) else None
        apart = self.alone if dense is None else dense.apart
        if dense is not None:
            each = size * self.n_params * (1 + bool(settings.momentum)) + batch
            self.group = of_dense(where, each, batch, apart=apart)
        else:
            self.group = 1 if self.alone else of_modules(where, size * self.n_params, held * width, batch)
        self._filler = int(where == "cpu" and not apart and not lone)
        self._rows = evaluated_rows(where, self.group, widest=None if dense is None else max(dense.widths), held=held)
        self._stacks: dict[str, Stack] = {}
        self._samples = Samples(self._x_train, self._y_train, width, self._filler)

    def twin(self) -> Self:
        """Return an engine with the same data and memory of its own, to compute beside this one."""
        twin = copy.copy(self)
        twin._stacks, twin._samples = {}, self._samples.twin()
        twin.network = self._make_network()
        return twin

    def refusal(self, size: int) -> str:
        """Return why the module can't train on a batch of so many samples; nothing if it can."""
        return refusal(self._make_module(), self._x_train[:size]) if self.findings.mixes else ""

    def _tensor(self, array: Array) -> Tensor:
        with warnings.catch_warnings():
            # torch warns of read-only arrays. Data sets are read-only, are never written to, and are large to copy.
            warnings.simplefilter("ignore", UserWarning)
            return torch.from_numpy(array).to(self.device)

    def _stack(self, name: str, vectors: Sequence[Array | None]) -> Stack:
        """Return vectors (None: zeros) as a stack, in memory that is kept."""
        stack = self._stacks.get(name)
        if stack is None:
            filler = bool(self._filler)
            stack = Stack(self._shapes, self.group, filler=filler, dtype=self._torch_dtype, device=self.device)
            self._stacks[name] = stack
        stack.put(vectors)
        return stack

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
        settings, network = self._settings, self.network
        steps = [len(rows) for rows in batches]
        batch = self._samples.batch(network, batches, sizes, shifts)
        rate_tensor = None if self._descent.rate is not None else self._rates(rates, steps[0])
        w = self._stack("w", params)
        v = self._stack("v", velocities) if settings.momentum else None
        d = self._stack("d", drifts) if drifts else None
        active = [sum(own_steps > step for own_steps in steps) for step in range(steps[0])]
        flat = self._descent.straight(network)
        with self._bound(w, own):
            for k, alike in itertools.groupby(range(steps[0]), active.__getitem__):  # steps of the same devices
                w_k = w.rows(k, self._n_trained)
                v_k, d_k = (None if stack is None else stack.rows(k, self._n_trained) for stack in (v, d))
                some, rows = list(alike), rows_of(k, self._filler)
                part = slice(some[0], some[-1] + 1)
                step = self._descent.step(network, w_k, v_k, self._samples.place(rows.stop - rows.start))
                now = itertools.repeat(None, len(some)) if rate_tensor is None else rate_tensor[part, rows].unbind()
                for (chosen, y, weights, *moves), own_rates in zip(
                    batch.steps(part, rows, flat=flat), now, strict=True
                ):
                    self._samples.features(chosen, *moves)
                    step(y, weights, own_rates)
                    if d_k is not None:
                        w_k.flat.add_(d_k.flat)
        left = v.vectors(len(params)) if keep and v is not None else None
        return Trained(w.vectors(len(params)), left, self._buffers())

    def _rates(self, rates: Sequence[Array], steps: int) -> Tensor:
        """Return the learning rates of each step, (steps, rows of a stack)."""
        rate = np.zeros((steps, self._filler + len(rates)), self._dtype)
        for i, own in enumerate(rates, self._filler):
            rate[: len(own), i] = own
        return torch.from_numpy(rate).to(self.device)

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
        k = len(params)
        batch = self._samples.batch(self.network, batches, sizes, shifts)
        ((chosen, y, weights, *moves),) = batch.steps(slice(1), rows_of(k, self._filler))
        x = self._samples.features(chosen, *moves)
        w = self._stack("w", params)
        layers = w.rows(k).layers
        with self._bound(w, own):
            found = self._descent.gradients(self.network, layers[: self._n_trained], x, y, weights)
        g = [
            torch.zeros_like(layer) if gradient is None else gradient
            for gradient, layer in itertools.zip_longest(found, layers)
        ]
        flat = torch.cat([layer[-k:].reshape(k, -1) for layer in g], 1).cpu().numpy()
        return Trained([frozen(vector) for vector in flat], None, self._buffers())

    @contextlib.contextmanager
    def _bound(self, w: Stack, own: Own) -> Iterator[None]:
        """Give a module that is computed alone its device's tensors and random numbers."""
        if not isinstance(self.network, ModuleItself):
            yield
            return
        layers = w.rows(1).layers
        self.network.bind(layers, own.buffers)
        with seeded(own.seed, self.device) if self.findings.draws else contextlib.nullcontext():
            yield
        self.network.collect(layers)

    def _buffers(self) -> Buffers | None:
        return self.network.buffers() if self.layout.local and isinstance(self.network, ModuleItself) else None

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
        stack = self._stack("w", params)
        w = stack.rows(len(params)).layers
        with self._bound(stack, Own(0, buffers)):
            for first in range(0, len(y), self._rows):
                part = slice(first, first + self._rows)
                outputs = self.network.logits(w, x[part])[-len(params) :]  # without the filler
                labels = y[part].expand(len(outputs), *y[part].shape)
                for each in sums:
                    each.add(outputs, y[part], part)
                of_each = self._settings.loss.values(outputs, labels)
                loss += of_each.sum(1, dtype=torch.float64).cpu().numpy()
        return np.concatenate([each.values(len(y)) for each in sums]), loss / len(y)


def _accelerator(choice: str) -> torch.device:
    found = torch.cuda.is_available()
    if choice == "cuda" and not found:
        text = 'no CUDA GPU that this PyTorch can use; write "cpu" or "auto"'
        raise ScenarioError("train", [Problem("train.accelerator", text, choice)])
    return torch.device("cuda" if found and choice != "cpu" else "cpu")
