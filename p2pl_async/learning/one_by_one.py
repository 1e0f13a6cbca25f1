"""Steps of SGD on one device after another, for large dense networks.

Stacked products of large layers run at the speed of memory: twenty devices of 784-200-200-10 are 16 MB, which each
step reads and writes. Here a device takes all its steps before the next one begins, so its parameters stay in a
core's own cache. Everything lives in buffers that are kept and in views made once. The price is a dozen
calls of torch per step, of some microseconds each, which is why smaller networks are stacked.

Measured (a busy AMD EPYC, one thread, as a share of the time when stacked): 784-200-200-10 with batches of 10 takes
0.7 to 0.98, and 0.7 with momentum; 784-64-10 with batches of 32 takes 1.3, 784-50-10 with batches of 10 1.6. A device
that is alone, as in the central baseline, has nothing to stack: 64-64-10 with momentum takes 0.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

if TYPE_CHECKING:
    from p2pl_async.learning.networks import DenseNetwork
    from p2pl_async.learning.settings import TrainSettings

Array = NDArray[Any]

WORTHWHILE = 100_000  # parameters from which this way is the faster one


class Batch(NamedTuple):
    """Samples of one device's steps, each tensor (steps, width)."""

    rows: Tensor  # of the training data
    labels: Tensor
    weights: Tensor  # in the loss


class OneByOne:
    """Buffers of one device, and its training in them; for labels, not for numbers to predict.

    Args:
        network: tells the layers.
        shapes: of the tensors in the parameter vector, in its order.
        settings: of training.
        x_train: features of all samples, (n, *shape).
        width: samples in a batch, padding included.
    """

    LOSSES = ("cross-entropy", "squared")  # that it knows

    def __init__(
        self,
        network: DenseNetwork,
        shapes: Sequence[torch.Size],
        settings: TrainSettings,
        x_train: Tensor,
        width: int,
    ) -> None:
        self._settings = settings
        self._loss = settings.loss.kind
        self._samples = x_train.flatten(1)
        size = sum(shape.numel() for shape in shapes)
        self._w, self._g = x_train.new_empty(size), x_train.new_empty(0)
        self._v = x_train.new_empty(size if settings.momentum else 0)
        # Clipping and weight decay look at whole gradients; else products are added to what they change.
        self._whole = bool(settings.clip or settings.weight_decay or settings.nesterov)
        self._layers = network.layers
        weights = [shape for shape in shapes if len(shape) == 2]
        widths = [self._samples.shape[1], *(shape[0] for shape in weights)]
        self._h = [x_train.new_empty(width, n) for n in widths]  # input of each linear layer; last, the outputs
        self._d = [x_train.new_empty(width, n) for n in widths[1:]]  # gradient at the output of each linear layer
        self._d_t = [d.t() for d in self._d]
        self._slopes = [torch.empty_like(h) for h in self._h[1:-1]]
        self._ones = x_train.new_ones(width)
        self._matrices, self._biases = self._views(self._w, shapes)
        self._matrices_t = [matrix.t() for matrix in self._matrices]
        self._into = (self._matrices, self._biases)
        if self._whole:
            self._g = x_train.new_empty(size)
            self._into = self._views(self._g, shapes)
        elif settings.momentum:
            self._into = self._views(self._v, shapes)
        self._shapes = shapes

    def train(
        self,
        params: Array,
        batch: Batch,
        rates: Sequence[float],
        velocity: Array | None,
        drift: Array | None,
        *,
        keep: bool,
    ) -> tuple[Array, Array | None]:
        """Return a device's parameters after training, and its velocity (None unless it is to be kept).

        Args:
            params: to start from, (n_params,).
            batch: samples of each step.
            rates: learning rate of each step, (steps,).
            velocity: momentum to start from, (n_params,); None for zeros.
            drift: added to the parameters after every step, (n_params,); None for nothing.
            keep: whether to return the velocity.
        """
        settings, w, v = self._settings, self._w, self._v
        w.numpy()[:] = params
        if settings.momentum:
            v.numpy()[:] = 0 if velocity is None else velocity
        drifts = None if drift is None else torch.tensor(drift)
        targets, weights = self._targets(batch).unbind(), batch.weights.unsqueeze(2).unbind()
        for chosen, target, weight, rate in zip(batch.rows.unbind(), targets, weights, rates, strict=True):
            if self._whole:
                self._add_gradient(chosen, target, weight, self._into, 0.0, 1.0)
                self._descend(rate)
            elif settings.momentum:
                self._add_gradient(chosen, target, weight, self._into, settings.momentum, 1.0)
                w.add_(v, alpha=-rate)
            else:
                self._add_gradient(chosen, target, weight, self._into, 1.0, -rate)
            if drifts is not None:
                w.add_(drifts)
        return _copy(w), _copy(v) if keep else None

    def gradient(self, params: Array, batch: Batch) -> Array:
        """Return the gradient of a device's one batch, with weight decay and clipping; see `train`."""
        self._w.numpy()[:] = params
        if not len(self._g):
            self._g = torch.empty_like(self._w)
        into = self._views(self._g, self._shapes)
        self._add_gradient(batch.rows[0], self._targets(batch)[0], batch.weights[0].unsqueeze(1), into, 0.0, 1.0)
        self._finish_gradient()
        return _copy(self._g)

    def _views(self, flat: Tensor, shapes: Sequence[torch.Size]) -> tuple[list[Tensor], list[Tensor | None]]:
        """Return the matrix and the bias (None: it has none) of each layer, as views of a flat vector."""
        parts = iter(torch.split(flat, [shape.numel() for shape in shapes]))
        sizes = iter(shapes)
        matrices: list[Tensor] = []
        biases: list[Tensor | None] = []
        for kind, bias in self._layers:
            if kind is nn.Linear:
                matrices.append(next(parts).view(next(sizes)))
                biases.append(next(parts).view(next(sizes)) if bias else None)
        return matrices, biases

    def _targets(self, batch: Batch) -> Tensor:
        """Return minus the one-hot labels, each times its sample's weight, (steps, width, n_classes)."""
        targets = batch.weights.new_zeros(*batch.labels.shape, self._h[-1].shape[1])
        return targets.scatter_(2, batch.labels.unsqueeze(2), -batch.weights.unsqueeze(2))

    def _add_gradient(
        self,
        rows: Tensor,
        target: Tensor,
        weight: Tensor,
        into: tuple[list[Tensor], list[Tensor | None]],
        keep: float,
        scale: float,
    ) -> None:
        """Set each layer of `into` to `keep * into + scale * gradient`."""
        h, d, last = self._h, self._d, len(self._d) - 1
        torch.index_select(self._samples, 0, rows, out=h[0])
        activations = [kind for kind, _ in self._layers[1::2]]
        for i, (matrix_t, bias) in enumerate(zip(self._matrices_t, self._biases, strict=True)):
            if bias is None:
                torch.mm(h[i], matrix_t, out=h[i + 1])
            else:
                torch.addmm(bias, h[i], matrix_t, out=h[i + 1])
            if i < last:
                h[i + 1].relu_() if activations[i] is nn.ReLU else h[i + 1].tanh_()
        # Gradient at the outputs: (softmax - one-hot) * weight, or (output - one-hot) * weight.
        if self._loss == "cross-entropy":
            torch.softmax(h[-1], 1, out=d[last])
            torch.addcmul(target, d[last], weight, out=d[last])
        else:
            torch.addcmul(target, h[-1], weight, out=d[last])
        for i in range(last, -1, -1):
            if i:
                slope = self._slopes[i - 1]
                torch.mm(d[i], self._matrices[i], out=d[i - 1])
                if activations[i - 1] is nn.ReLU:
                    torch.sign(h[i], out=slope)
                else:
                    torch.mul(h[i], h[i], out=slope).neg_().add_(1)
                d[i - 1].mul_(slope)
            into[0][i].addmm_(self._d_t[i], h[i], beta=keep, alpha=scale)
            change = into[1][i]
            if change is not None:
                change.addmv_(self._d_t[i], self._ones, beta=keep, alpha=scale)

    def _finish_gradient(self) -> None:
        """Clip the gradient's norm, then add weight decay."""
        settings, g = self._settings, self._g
        if settings.clip is not None:
            g.mul_((settings.clip / (torch.linalg.vector_norm(g) + 1e-6)).clamp_(max=1.0))
        if settings.weight_decay:
            g.add_(self._w, alpha=settings.weight_decay)

    def _descend(self, rate: float) -> None:
        """Take a step along the gradient: torch.optim.SGD's rule."""
        settings, g = self._settings, self._g
        self._finish_gradient()
        if settings.momentum:
            self._v.mul_(settings.momentum).add_(g)
            if settings.nesterov:
                g.add_(self._v, alpha=settings.momentum)
        self._w.add_(self._v if settings.momentum and not settings.nesterov else g, alpha=-rate)


def _copy(flat: Tensor) -> Array:
    """Return a read-only copy of a buffer."""
    copy: Array = flat.numpy().copy()
    copy.setflags(write=False)
    return copy
