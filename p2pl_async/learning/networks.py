"""Gradients of many devices' stacked parameters, computed in one of three ways.

    flatten, linear layers with ReLU or tanh                       DenseNetwork   backward pass written out (`dense`)
    a module without a state, samples apart from each other        Vmapped        torch.func.vmap and autograd
    any other: batch normalization, dropout, LSTM, control flow,   ModuleItself   one device at a time
    and on a CPU one with a convolution of 64 channels

`examination` compares the first two with the module itself and chooses. The choice depends on the module,
never on a timing, which would make bits depend on the machine's load.

Measured (2 cores of a Xeon, AVX-512, batches of 10, per device and step): 784-200-200-10 takes
250 us with vmap, 480-710 us one device at a time; LeNet on 8 x 8 pixels 0.2-0.3 ms with vmap, 1.2 ms alone;
convolutions of 32 and 64 channels on 28 x 28 pixels 3.1 and 3.3 ms on two cores, 5.5 and 5.0 ms on one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from p2pl_async.learning.layout import VectorLayout, tensor
from p2pl_async.learning.models.layers import ChannelsLast

if TYPE_CHECKING:
    from p2pl_async.learning.losses import TrainingLoss

Buffers = Sequence[Tensor]  # of one device
Gradients = Sequence[Tensor | None]  # one per layer; None for a layer that the loss doesn't depend on


class Network(Protocol):
    """A module as a function of stacked parameters."""

    def logits(self, w: Sequence[Tensor], x: Tensor) -> Tensor:
        """Return the outputs (k, rows, n_classes) of k devices on the same samples x (rows, *shape)."""

    def targets(self, y: Tensor) -> Tensor:
        """Return labels, or numbers to predict, in the form in which `gradients` takes them."""

    def gradients(self, w: Sequence[Tensor], x: Tensor, y: Tensor, weights: Tensor) -> Gradients:
        """Return the gradient of each device's weighted sum of losses, one tensor per layer, shaped like `w`.

        A layer that the loss doesn't depend on has None, and a step of SGD leaves it as it is.
        The caller may overwrite the result; the next call reuses its memory.

        Args:
            w: one tensor (k, *layer) per layer.
            x: (k, batch, *shape).
            y: `targets` of labels, (k, batch), or of numbers to predict, (k, batch, n_classes).
            weights: of each sample in its device's loss, (k, batch).
        """


class Vmapped:
    """Any module without a state: `torch.func.vmap` over its forward pass, autograd for the gradients."""

    def __init__(self, module: nn.Module, layout: VectorLayout, loss: TrainingLoss) -> None:
        self._module = module
        self._loss = loss
        for part in module.modules():
            if isinstance(part, ChannelsLast):
                part.on = False

        def forward(w: tuple[Tensor, ...], x: Tensor) -> Tensor:
            own = dict(zip(layout.trained, w, strict=True))
            outputs: Tensor = torch.func.functional_call(module, own, (x,))
            return outputs

        self._each_its_own = torch.func.vmap(forward)
        self._all_the_same = torch.func.vmap(forward, in_dims=(0, None))

    def logits(self, w: Sequence[Tensor], x: Tensor) -> Tensor:
        """Return the outputs (k, rows, n_classes) of k devices on the same samples."""
        self._module.eval()
        outputs: Tensor = self._all_the_same(tuple(w), x)
        return outputs

    def targets(self, y: Tensor) -> Tensor:
        """Return what it is given."""
        return y

    def gradients(self, w: Sequence[Tensor], x: Tensor, y: Tensor, weights: Tensor) -> Gradients:
        """Return the gradients; see `Network.gradients`."""
        self._module.train()
        with torch.enable_grad():
            leaves = tuple(layer.detach().requires_grad_() for layer in w)
            # A loss depends on one device's parameters only, so the gradient of the sum is that of each.
            total = (losses(self._each_its_own(leaves, x), y, self._loss) * weights).sum()
            return _owned(torch.autograd.grad(total, leaves, allow_unused=True))


class ModuleItself:
    """One device at a time, by the module as its author wrote it: nothing is rewritten, padded or stacked.

    The module's tensors are views into the device's row of the stack, so a step of SGD, or a forward
    pass that changes a buffer, changes both. It is in training mode for gradients and in
    evaluation mode for outputs.
    """

    def __init__(self, module: nn.Module, layout: VectorLayout, loss: TrainingLoss) -> None:
        self._module = module
        self._layout = layout
        self._loss = loss
        self._trained = [tensor(module, name) for name in layout.trained]
        self._fresh = self.buffers()

    def buffers(self) -> list[Tensor]:
        """Return copies of the buffers that stay on the device."""
        return [tensor(self._module, name).clone() for name in self._layout.local]

    def bind(self, w: Sequence[Tensor], buffers: Buffers | None) -> None:
        """Make the module's tensors views of one device's stack, each (1, *layer); None for new buffers."""
        for name, layer in zip(self._layout.sent, w, strict=True):
            tensor(self._module, name).data = layer[0]
        for name, value in zip(self._layout.local, self._fresh if buffers is None else buffers, strict=True):
            tensor(self._module, name).copy_(value)

    def collect(self, w: Sequence[Tensor]) -> None:
        """Copy buffers that the module has replaced, instead of changed, back into the stack `w`."""
        averaged = self._layout.averaged
        for name, layer in zip(averaged, w[len(w) - len(averaged) :], strict=True):
            now = tensor(self._module, name)
            if now.data_ptr() != layer.data_ptr():
                layer[0].copy_(now)

    def logits(self, w: Sequence[Tensor], x: Tensor) -> Tensor:
        """Return the outputs (1, rows, n_classes) of the device that `bind` was called with."""
        self._module.eval()
        outputs: Tensor = self._module(x)
        return outputs.unsqueeze(0)

    def targets(self, y: Tensor) -> Tensor:
        """Return what it is given."""
        return y

    def gradients(self, w: Sequence[Tensor], x: Tensor, y: Tensor, weights: Tensor) -> Gradients:
        """Return the gradients of the device that `bind` was called with, without samples of weight 0."""
        self._module.train()
        count = int(weights.count_nonzero())
        with torch.enable_grad():
            outputs = self._module(x[0, :count]).unsqueeze(0)
            total = (losses(outputs, y[:, :count], self._loss) * weights[:, :count]).sum()
            grads = torch.autograd.grad(total, self._trained, allow_unused=True)
        return [None if gradient is None else gradient.unsqueeze(0) for gradient in _owned(grads)]


def losses(outputs: Tensor, y: Tensor, loss: TrainingLoss) -> Tensor:
    """Return the loss of each sample, (k, rows).

    Args:
        outputs: (k, rows, n_classes).
        y: labels, (k, rows), or numbers, (k, rows, n_classes).
        loss: which.
    """
    return loss.of_each(outputs.flatten(0, 1), y.flatten(0, 1)).view(outputs.shape[:2])


def _owned(gradients: Gradients) -> Gradients:
    """Return gradients that can be overwritten one by one: autograd gives `a` and `b` of `a + b` the same tensor."""
    owned: list[Tensor | None] = []
    seen = set()
    for gradient in gradients:
        own = None if gradient is None else gradient.contiguous()
        if own is not None and own.data_ptr() in seen:
            own = own.clone()
        if own is not None:
            seen.add(own.data_ptr())
        owned.append(own)
    return owned
