"""Many devices' parameters stacked in tensors, and the computations on them, in torch.

For k devices and a layer of shape (out, in), `w` holds one contiguous tensor (k, out, in).
One step of SGD for all of them is a handful of batched matrix products. Devices with
fewer steps sit at the end of the stack, so those that still train are always a prefix:
no masks. A short batch is padded with its own first sample at weight 0.

A device's result must not depend on the devices it is computed with. MKL's batched product gives a
matrix the same bits in any stack of two or more, but other bits if it is alone. So on a CPU a
device is never alone (the one with most steps is computed twice where it would be), and batches are
padded to the same width in every group.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from p2pl_async.errors import Problem, ScenarioError
from p2pl_async.learning.networks import DenseNetwork, Single, choose, losses

if TYPE_CHECKING:
    from p2pl_async.learning.settings import TrainSettings

Array = NDArray[Any]

# Working set of a group (parameters and gradients). Larger groups amortise the cost of calling torch, smaller ones
# stay in the cache. Measured in groups of 4 / 8 / 24 / 96, per device and step of 10 samples:
# 784-200-200-10 takes 135 / 122 / 100 / 125 us, 784-50-10 46 / 33 / 28 / 24 us.
_GROUP_BYTES = {"cpu": 32 * 2**20, "cuda": 2 * 2**30}
_BATCH_BYTES = {"cpu": 64 * 2**20, "cuda": 4 * 2**30}  # features of one step of a group, at most
_LARGEST_GROUP = {"cpu": 128, "cuda": 4096}
_EVALUATED_VALUES = 2**22  # logits and hidden values held at once while evaluating, per layer


class Engine:
    """Data, buffers and the three computations on stacked devices: SGD, one gradient, evaluation.

    Args:
        module: the model; the values of its parameters aren't used.
        settings: of training.
        x_train, y_train, x_test, y_test: the data, kept in the accelerator's memory.
        dtype: of parameters and features, float32 or float64.
        width: samples in a batch, padding included.
    """

    def __init__(
        self,
        module: nn.Module,
        settings: TrainSettings,
        x_train: Array,
        y_train: Array,
        x_test: Array,
        y_test: Array,
        dtype: np.dtype[Any],
        width: int,
    ) -> None:
        self.device = _accelerator(settings.accelerator)
        self._settings = settings
        self._dtype = dtype
        self._width = width
        self._torch_dtype = {"float32": torch.float32, "float64": torch.float64}[dtype.name]
        self._x_train, self._x_test = (self._tensor(x).to(self._torch_dtype) for x in (x_train, x_test))
        self._y_train, self._y_test = (self._tensor(y) for y in (y_train, y_test))
        _check(module)

        self._shapes = [parameter.shape for parameter in module.parameters()]
        ends = np.cumsum([0, *(shape.numel() for shape in self._shapes)]).tolist()
        self.layers = tuple(slice(a, b) for a, b in itertools.pairwise(ends))
        self.n_params: int = ends[-1]

        module = module.to(self.device, self._torch_dtype)
        self.network = choose(module, self.device.type, settings.loss)
        kind = self.device.type
        features = math.prod(self._x_train.shape[1:])
        fitting = min(
            _GROUP_BYTES[kind] // (2 * dtype.itemsize * self.n_params),
            _BATCH_BYTES[kind] // (dtype.itemsize * width * features),
        )
        self.group = 1 if isinstance(self.network, Single) else max(4, min(fitting, _LARGEST_GROUP[kind]))
        self._paired = self.device.type == "cpu" and not isinstance(self.network, Single)
        widest = max(max(shape, default=1) for shape in self._shapes)
        self._rows = max(64, min(1000, _EVALUATED_VALUES // (self.group * widest)))
        self._stacks: dict[str, list[Tensor]] = {}

    @torch.no_grad()
    def output_shape(self) -> tuple[int, ...]:
        """Return the shape that the model gives two samples; raises whatever it raises."""
        w = self._stack("w", [None])
        return tuple(self.network.logits(w, self._x_train[:1].expand(2, *self._x_train.shape[1:]))[0].shape)

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
        *,
        keep: bool,
    ) -> tuple[list[Array], list[Array] | None]:
        """Train up to `group` devices, those with more steps first.

        Args:
            params: each (n_params,).
            batches: rows of the training data, each (steps, batch); the batch may differ.
            sizes: how many of a batch's rows count, each (steps,).
            rates: learning rate of every step, each (steps,).
            velocities: momentum to start from, each (n_params,), None for zeros.
            drifts: added to the parameters after every step, each (n_params,); empty for none at all.
            keep: whether to return the velocities.

        Returns:
            The parameters after training, and the velocities (None unless they are to be kept).
        """
        settings = self._settings
        steps = [len(rows) for rows in batches]
        shadow = self._paired and (len(steps) == 1 or steps[0] > steps[1])
        if shadow:
            params, batches, sizes, rates, velocities, steps = (
                [values[0], *values] for values in (params, batches, sizes, rates, velocities, steps)
            )
            drifts = [*drifts[:1], *drifts]
        indices, labels, weight = self._samples(batches, sizes)
        rate = np.zeros((steps[0], len(params)), self._dtype)
        for i, own_rates in enumerate(rates):
            rate[: steps[i], i] = own_rates
        rate_tensor = torch.from_numpy(rate).to(self.device)

        w = self._stack("w", params)
        v = self._stack("v", velocities) if settings.momentum else []
        d = self._stack("d", drifts) if drifts else []
        # Views are made anew only when devices drop out of the prefix.
        active = [sum(own > step for own in steps) for step in range(steps[0])]
        k = 0
        for step in range(steps[0]):
            if active[step] != k:
                k = active[step]
                w_k, v_k, d_k = ([layer[:k] for layer in stack] for stack in (w, v, d))
            self._step(
                w_k, v_k, self._features(indices[step, :k]), labels[step, :k], weight[step, :k], rate_tensor[step, :k]
            )
            for layer, drift in zip(w_k, d_k, strict=False):  # no drifts: no layers of them
                layer += drift
        results, left = ([layer[shadow:] for layer in stack] for stack in (w, v))
        return self._unstack(results), self._unstack(left) if keep else None

    @torch.no_grad()
    def gradients(self, params: Sequence[Array], batches: Sequence[Array], sizes: Sequence[Array]) -> list[Array]:
        """Return the gradients of up to `group` devices on one batch each; see `train` for the arguments."""
        shadow = self._paired and len(params) == 1
        if shadow:
            params, batches, sizes = ([values[0], *values] for values in (params, batches, sizes))
        indices, labels, weight = self._samples(batches, sizes)
        g = self._gradients(self._stack("w", params), self._features(indices[0]), labels[0], weight[0])
        return self._unstack([layer[shadow:] for layer in g])

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

    def _features(self, rows: Tensor) -> Tensor:
        """Return the samples in rows (k, width) of the training data."""
        return self._x_train.index_select(0, rows.reshape(-1)).view(*rows.shape, *self._x_train.shape[1:])

    def _gradients(self, w: Sequence[Tensor], x: Tensor, y: Tensor, weights: Tensor) -> list[Tensor]:
        """Return the gradients with weight decay, after clipping each device's norm."""
        settings = self._settings
        g = self.network.gradients(w, x, y, weights)
        if settings.clip is not None:
            norms = torch.stack([torch.linalg.vector_norm(layer.reshape(len(layer), -1), dim=1) for layer in g])
            scale = (settings.clip / (torch.linalg.vector_norm(norms, dim=0) + 1e-6)).clamp_(max=1.0)
            for layer in g:
                layer *= _column(scale, layer)
        if settings.weight_decay:
            for layer, w_layer in zip(g, w, strict=True):
                layer.add_(w_layer, alpha=settings.weight_decay)
        return g

    def _step(
        self, w: Sequence[Tensor], v: Sequence[Tensor], x: Tensor, y: Tensor, weights: Tensor, rates: Tensor
    ) -> None:
        """Change `w` by one step of SGD: torch.optim.SGD's rule, after clipping the gradient's norm per device.

        The choice among the ways below depends on the settings alone: if it depended on the devices in
        the stack, their bits would, too.
        """
        settings = self._settings
        rate = settings.learning_rate if settings.schedule.kind == "constant" else None
        if isinstance(self.network, DenseNetwork) and not (settings.clip or settings.weight_decay or settings.nesterov):
            if settings.momentum:
                self.network.add_gradients(w, x, y, weights, v, settings.momentum, 1.0)
                self._descend(w, v, rate, rates)
                return
            if rate is not None:
                self.network.add_gradients(w, x, y, weights, w, 1.0, -rate)
                return
        g = self._gradients(w, x, y, weights)
        if settings.momentum:
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
    def evaluate(self, params: Sequence[Array], rows: Array | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the accuracy and the mean loss of each vector on test rows (None: all), each (k,)."""
        x, y = self._x_test, self._y_test
        if rows is not None:
            chosen = torch.from_numpy(rows).to(self.device)
            x, y = x[chosen], y[chosen]
        correct, loss = np.zeros(len(params)), np.zeros(len(params))
        for start in range(0, len(params), self.group):
            group = slice(start, min(start + self.group, len(params)))
            w = self._stack("w", params[group])
            for first in range(0, len(y), self._rows):
                some = slice(first, first + self._rows)
                outputs = self.network.logits(w, x[some])
                labels = y[some].expand(len(outputs), -1)
                correct[group] += (outputs.argmax(2) == labels).sum(1).cpu().numpy()
                loss[group] += losses(outputs, labels, self._settings.loss).sum(1, dtype=torch.float64).cpu().numpy()
        return correct / len(y), loss / len(y)


def parameters(module: nn.Module, dtype: np.dtype[Any]) -> Array:
    """Return a module's parameters as one flat read-only vector (n_params,)."""
    vector = np.concatenate([parameter.detach().numpy().ravel() for parameter in module.parameters()]).astype(dtype)
    vector.setflags(write=False)
    return vector


def _column(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.dim() - 1))


def _accelerator(choice: str) -> torch.device:
    found = torch.cuda.is_available()
    if choice == "cuda" and not found:
        text = 'no CUDA GPU that this PyTorch can use; write "cpu" or "auto"'
        raise ScenarioError("train", [Problem("train.accelerator", text, choice)])
    return torch.device("cuda" if found and choice != "cpu" else "cpu")


def _check(module: nn.Module) -> None:
    """Raise ScenarioError if devices can't be trained on this module as a pure function of its parameters."""
    name = type(module).__name__
    for part in module.modules():
        if isinstance(part, nn.modules.dropout._DropoutNd) or any(True for _ in part.buffers(recurse=False)):
            text = (
                f"{name} has a {type(part).__name__}; a model must be a function of its parameters alone, "
                "leave out dropout and batch normalization (group and layer normalization work)"
            )
            raise ScenarioError("model", [Problem("model.kind", text)])
    if not any(True for _ in module.parameters()):
        raise ScenarioError("model", [Problem("model.kind", f"{name} has no parameters to train")])
