"""Gradients of many devices' stacked parameters, computed in one of three ways.

The choice depends on the module, never on a timing, which would make bits depend on the machine's load:

    flatten, linear layers with ReLU or tanh     DenseNetwork     backward pass written out
    a convolution of 64 channels, on a CPU       Single    one device at a time
    any other module                             Vmapped   torch.func.vmap and autograd

Measured (2 cores of a Xeon, AVX-512, batches of 10, per device and step): 784-200-200-10 takes
100 us with DenseNetwork, 250 us with vmap, 480-710 us one device at a time; LeNet on 8 x 8 pixels
0.2-0.3 ms with vmap, 1.2 ms alone; convolutions of 32 and 64 channels on 28 x 28 pixels 3.1 and
3.3 ms on two cores, 5.5 and 5.0 ms on one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from p2pl_async.learning.settings import Loss

_WIDE = 64  # channels at and above which batching a convolution over devices doesn't pay on a CPU


class Network(Protocol):
    """A module as a function of stacked parameters."""

    def logits(self, w: Sequence[Tensor], x: Tensor) -> Tensor:
        """Return the outputs (k, rows, n_classes) of k devices on the same samples x (rows, *shape)."""

    def gradients(self, w: Sequence[Tensor], x: Tensor, y: Tensor, weights: Tensor) -> list[Tensor]:
        """Return the gradient of each device's weighted sum of losses, one tensor per layer, shaped like `w`.

        The caller may overwrite the result; the next call reuses its memory.

        Args:
            w: one tensor (k, *layer) per layer.
            x: (k, batch, *shape).
            y: labels, (k, batch).
            weights: of each sample in its device's loss, (k, batch).
        """


class DenseNetwork:
    """Flatten, then linear layers with ReLU or tanh in between; the backward pass is written out.

    Gradients go to buffers that are kept: new ones for every step would cost as much as the
    products themselves, in page faults.
    """

    def __init__(self, module: nn.Module, loss: Loss) -> None:
        self._loss = loss
        self._steps: list[tuple[type[nn.Module], bool]] = [
            (type(layer), getattr(layer, "bias", None) is not None)
            for layer in module.children()
            if not isinstance(layer, nn.Flatten)
        ]
        self._buffers: list[Tensor] = []

    @staticmethod
    def fits(module: nn.Module) -> bool:
        """Whether this class computes what `module` does."""
        if type(module) is not nn.Sequential or len(module) % 2:
            return False
        flat, layers = module[0], list(module)[1:]
        if type(flat) is not nn.Flatten or (flat.start_dim, flat.end_dim) != (1, -1):
            return False
        linear = all(type(layer) is nn.Linear for layer in layers[::2])
        return linear and all(type(layer) in (nn.ReLU, nn.Tanh) for layer in layers[1::2])

    def logits(self, w: Sequence[Tensor], x: Tensor) -> Tensor:
        """Return the outputs (k, rows, n_classes); the first layer is one product for all devices."""
        k, rows = len(w[0]), len(x)
        layers = iter(w)
        h = x.flatten(1)
        for kind, bias in self._steps:
            if kind is not nn.Linear:
                h = h.relu_() if kind is nn.ReLU else h.tanh_()
                continue
            weight = next(layers)
            if h.dim() == 2:
                h = (h @ weight.flatten(0, 1).t()).view(rows, k, -1).transpose(0, 1)
            else:
                h = torch.bmm(h, weight.transpose(1, 2))
            if bias:
                h += next(layers).unsqueeze(1)
        return h

    def gradients(self, w: Sequence[Tensor], x: Tensor, y: Tensor, weights: Tensor) -> list[Tensor]:
        """Return the gradients, in buffers that the next call overwrites; see `Network.gradients`."""
        k = len(x)
        if not self._buffers or len(self._buffers[0]) < k:
            self._buffers = [torch.empty_like(layer) for layer in w]
        g = [buffer[:k] for buffer in self._buffers]
        self.add_gradients(w, x, y, weights, g, 0.0, 1.0)
        return g

    def add_gradients(
        self,
        w: Sequence[Tensor],
        x: Tensor,
        y: Tensor,
        weights: Tensor,
        into: Sequence[Tensor],
        keep: float,
        scale: float,
    ) -> None:
        """Set each layer of `into`, which may be `w`, to `keep * into + scale * gradient`.

        Adding products straight to the momentum, or to the parameters, saves a pass over each:
        a step of 784-200-200-10 with momentum takes 2/3 of the time, a plain one 5/6.
        """
        h = x.flatten(2)
        outputs = []  # input of every linear layer, output of every activation (activations work in place)
        layer = 0
        for kind, bias in self._steps:
            if kind is nn.Linear:
                outputs.append(h)
                transposed = w[layer].transpose(1, 2)
                h = torch.baddbmm(w[layer + 1].unsqueeze(1), h, transposed) if bias else torch.bmm(h, transposed)
                layer += 1 + bias
            else:
                h = h.relu_() if kind is nn.ReLU else h.tanh_()
                outputs.append(h)

        # Gradient at the outputs: (softmax - one-hot) * weight, or (output - one-hot) * weight.
        d = torch.softmax(h, 2) if self._loss == "cross-entropy" else h
        d.scatter_add_(2, y.unsqueeze(2), torch.full_like(d[:, :, :1], -1.0))
        d *= weights.unsqueeze(2)
        for (kind, bias), h in zip(reversed(self._steps), reversed(outputs), strict=True):
            if kind is nn.ReLU:
                d *= h > 0
            elif kind is nn.Tanh:
                d *= 1 - h * h
            else:
                layer -= 1 + bias
                below = torch.bmm(d, w[layer]) if layer else d
                into[layer].baddbmm_(d.transpose(1, 2), h, beta=keep, alpha=scale)
                if bias:
                    total = d.sum(1)
                    if keep:
                        into[layer + 1].mul_(keep).add_(total, alpha=scale)
                    else:
                        into[layer + 1].copy_(total * scale)
                d = below


class Vmapped:
    """Any module: `torch.func.vmap` over its forward pass, autograd for the gradients."""

    def __init__(self, module: nn.Module, loss: Loss) -> None:
        self._loss = loss
        names = [name for name, _ in module.named_parameters()]

        def forward(w: tuple[Tensor, ...], x: Tensor) -> Tensor:
            outputs: Tensor = torch.func.functional_call(module, dict(zip(names, w, strict=True)), (x,))
            return outputs

        self._each_its_own = torch.func.vmap(forward)
        self._all_the_same = torch.func.vmap(forward, in_dims=(0, None))

    def logits(self, w: Sequence[Tensor], x: Tensor) -> Tensor:
        """Return the outputs (k, rows, n_classes) of k devices on the same samples."""
        outputs: Tensor = self._all_the_same(tuple(w), x)
        return outputs

    def gradients(self, w: Sequence[Tensor], x: Tensor, y: Tensor, weights: Tensor) -> list[Tensor]:
        """Return the gradients; see `Network.gradients`."""
        with torch.enable_grad():
            leaves = tuple(layer.detach().requires_grad_() for layer in w)
            return _gradients(self._each_its_own(leaves, x), leaves, y, weights, self._loss)


class Single:
    """One device at a time: for modules that a CPU computes slower when batched over devices."""

    def __init__(self, module: nn.Module, loss: Loss) -> None:
        self._loss = loss
        self._module = module
        self._names = [name for name, _ in module.named_parameters()]

    def _forward(self, w: Sequence[Tensor], x: Tensor) -> Tensor:
        outputs: Tensor = torch.func.functional_call(self._module, dict(zip(self._names, w, strict=True)), (x,))
        return outputs

    def logits(self, w: Sequence[Tensor], x: Tensor) -> Tensor:
        """Return the outputs (k, rows, n_classes) of k devices on the same samples."""
        return torch.stack([self._forward(own, x) for own in zip(*w, strict=True)])

    def gradients(self, w: Sequence[Tensor], x: Tensor, y: Tensor, weights: Tensor) -> list[Tensor]:
        """Return the gradients; see `Network.gradients`."""
        with torch.enable_grad():
            leaves = tuple(layer.detach().requires_grad_() for layer in w)
            outputs = torch.stack([self._forward(own, x[i]) for i, own in enumerate(zip(*leaves, strict=True))])
            return _gradients(outputs, leaves, y, weights, self._loss)


def losses(outputs: Tensor, y: Tensor, loss: Loss) -> Tensor:
    """Return the loss of each sample, (k, rows): cross entropy, or half the squared distance from the one-hot label.

    Args:
        outputs: (k, rows, n_classes).
        y: labels, (k, rows).
        loss: which.
    """
    if loss == "cross-entropy":
        return -torch.log_softmax(outputs, 2).gather(2, y.unsqueeze(2)).squeeze(2)
    return 0.5 * (outputs - nn.functional.one_hot(y, outputs.shape[2])).square().sum(2)


def _gradients(outputs: Tensor, leaves: tuple[Tensor, ...], y: Tensor, weights: Tensor, loss: Loss) -> list[Tensor]:
    """Return each device's gradient, from that of the sum of losses: a loss depends on one device's parameters only."""
    total = (losses(outputs, y, loss) * weights).sum()
    return list(torch.autograd.grad(total, leaves, materialize_grads=True))


def choose(module: nn.Module, accelerator: str, loss: Loss) -> Network:
    """Return the network that computes `module` fast on "cpu" or "cuda"."""
    if DenseNetwork.fits(module):
        return DenseNetwork(module, loss)
    channels = [
        max(part.in_channels, part.out_channels)
        for part in module.modules()
        if isinstance(part, nn.modules.conv._ConvNd)
    ]
    if accelerator == "cpu" and max(channels, default=0) >= _WIDE:
        return Single(module, loss)
    return Vmapped(module, loss)
