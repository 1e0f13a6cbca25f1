"""Dense networks of many devices: both passes written out, as calls of torch that are prepared once.

Everything between the layers is written to the same memory in every step: new memory would cost as much as the small
products themselves, in page faults. Products of all devices are one call each, since a call of torch takes some
microseconds, but a large network's are taken device by device: a stack of them is no faster, and bits then don't
depend on whether a device is alone. Views and arguments of all calls are made once for each number of devices:
making them anew in each step took as long as the small products. `group_size` has times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from p2pl_async.learning.layout import VectorLayout

if TYPE_CHECKING:
    from p2pl_async.learning.losses import TrainingLoss

Call = Callable[[], object]

_LARGE = 100_000  # weights of a network from which a CPU takes its products device by device
_MOST_TARGETS = 1 << 22  # numbers, beyond which labels stay labels
_MOST_PASSES = 256  # prepared at once


class DenseNetwork:
    """Flatten, then linear layers with ReLU or tanh in between; fulfills `Network`."""

    def __init__(self, module: nn.Module, layout: VectorLayout, loss: TrainingLoss) -> None:
        assert isinstance(module, nn.Sequential)
        self.loss = loss
        # The modules in their order; `children()` would leave out the second use of one.
        parts = list(module)[1:]
        linear = [part for part in parts if isinstance(part, nn.Linear)]
        self.biases = [layer.bias is not None for layer in linear]
        self.activations = [type(part) for part in parts[1::2]]
        self.widths = [layer.out_features for layer in linear]
        self._dtype = linear[0].weight.dtype
        on_cpu = linear[0].weight.device.type == "cpu"
        self.apart = on_cpu and sum(layer.weight.numel() for layer in linear) >= _LARGE  # products device by device
        self._passes: dict[object, _Passes] = {}
        self._memory: dict[str, list[Tensor]] = {}
        self._g: list[Tensor] = []

    @staticmethod
    def fits(module: nn.Module) -> bool:
        """Whether the module has the layers that this class knows, each used once; `examination` checks the rest."""
        if type(module) is not nn.Sequential or len(module) % 2 or "forward" in vars(module):
            return False
        flat, layers = module[0], list(module)[1:]
        if type(flat) is not nn.Flatten or (flat.start_dim, flat.end_dim) != (1, -1):
            return False
        linear = layers[::2]
        if len({id(layer) for layer in linear}) < len(linear) or not all(type(layer) is nn.Linear for layer in linear):
            return False
        return all(type(layer) in (nn.ReLU, nn.Tanh) for layer in layers[1::2])

    def logits(self, w: Sequence[Tensor], x: Tensor) -> Tensor:
        """Return the outputs (k, rows, n_classes); the next call overwrites them."""
        same = x.flatten(1).expand(len(w[0]), -1, -1)
        return _Passes(self, w, same).outputs()

    def targets(self, y: Tensor) -> Tensor:
        """Return labels in the form of which the loss tells the slope sooner, and numbers with the samples last."""
        if y.is_floating_point():
            return y.transpose(-1, -2).contiguous()
        if y.numel() * self.widths[-1] > _MOST_TARGETS:
            return y
        return self.loss.targets(y, self.widths[-1], self._dtype)

    def gradients(self, w: Sequence[Tensor], x: Tensor, y: Tensor, weights: Tensor) -> Sequence[Tensor]:
        """Return the gradients, in memory that the next call overwrites; see `Network.gradients`."""
        k = len(x)
        if not self._g or len(self._g[0]) < k:
            self._g = [torch.empty_like(layer) for layer in w]
        g = [layer[:k] for layer in self._g]
        self.add_gradients(w, x, g, 0.0, 1.0)(y, weights.unsqueeze(1))
        return g

    def add_gradients(
        self, w: Sequence[Tensor], x: Tensor, into: Sequence[Tensor], keep: float, scale: float
    ) -> Callable[[Tensor, Tensor], None]:
        """Return what sets each layer of `into`, which may be `w`, to `keep * into + scale * gradient`.

        Adding products straight to the momentum, or to the parameters, saves a pass over each:
        a step of 784-200-200-10 with momentum takes 2/3 of the time, a plain one 5/6.

        Returns:
            A function of `targets` of labels, (k, ..., batch), and of samples' weights, (k, 1, batch), which finds
            the other tensors where they lie now.
        """
        key = (x.data_ptr(), x.shape, w[0].data_ptr(), into[0].data_ptr(), keep, scale)
        passes = self._passes.get(key)
        if passes is None:
            if len(self._passes) >= _MOST_PASSES:
                self._passes.clear()
            passes = self._passes[key] = _Passes(self, w, x.flatten(2))
            passes.prepare(into, keep, scale)
        return passes.add

    def memory(self, name: str, k: int, batch: int, like: Tensor) -> list[Tensor]:
        """Return a tensor (k, batch, width) for each linear layer's outputs, in memory that is kept under this name."""
        flat = self._memory.get(name, ())
        if not flat or len(flat[0]) < k * batch * self.widths[0]:
            flat = self._memory[name] = [like.new_empty(k * batch * n) for n in self.widths]
        return [own[: k * batch * n].view(k, batch, n) for own, n in zip(flat, self.widths, strict=True)]


class _Passes:
    """The passes of so many devices' batches through their networks, over tensors that stay where they are.

    Args:
        network: tells the layers, and has the memory.
        w: one tensor (k, *layer) per layer.
        x: samples, (k, batch, features).
    """

    def __init__(self, network: DenseNetwork, w: Sequence[Tensor], x: Tensor) -> None:
        self._network = network
        self._slope = network.loss.slope
        self._w = w
        self._h = [
            x,
            *network.memory("values", len(x), x.shape[1], w[0]),
        ]  # inputs of each linear layer, and the outputs
        self._outputs = self._h[-1].transpose(1, 2)  # (k, n_classes, batch)
        self._forward: list[Call] = []
        self._backward: list[Call] = []
        layer = 0
        for i, bias in enumerate(network.biases):
            b, h = w[layer + 1] if bias else None, self._h[i + 1]
            self._forward += _product(self._h[i], w[layer].transpose(1, 2), h, b, apart=network.apart)
            if i < len(network.activations):
                self._forward.append(h.relu_ if network.activations[i] is nn.ReLU else h.tanh_)
            layer += 1 + bias

    def prepare(self, into: Sequence[Tensor], keep: float, scale: float) -> None:
        """Prepare the way back; see `DenseNetwork.add_gradients`."""
        network, h, calls = self._network, self._h, self._backward
        k, batch, _ = h[-1].shape
        d, slopes = (network.memory(name, k, batch, h[-1]) for name in ("gradients", "slopes"))
        ones = h[-1].new_ones(k, 1, batch)
        self._d = d[-1].transpose(1, 2)
        layer = len(self._w)
        for i in reversed(range(len(d))):
            layer -= 1 + network.biases[i]
            if i:
                calls += _product(d[i], self._w[layer], d[i - 1], apart=network.apart)
                calls += _slope(network.activations[i - 1], h[i], slopes[i - 1])
                calls.append(partial(d[i - 1].mul_, slopes[i - 1]))
            calls += _added_products(into[layer], d[i].transpose(1, 2), h[i], keep, scale, apart=network.apart)
            if network.biases[i]:  # the sum over the batch, as a product: one call instead of two or three
                calls += _added_sums(into[layer + 1], d[i], ones, keep, scale, apart=network.apart)

    def outputs(self) -> Tensor:
        """Return what the networks give for the samples, (k, batch, n_classes)."""
        for call in self._forward:
            call()
        return self._h[-1]

    def add(self, y: Tensor, weights: Tensor) -> None:
        """Add the gradients; see `DenseNetwork.add_gradients`."""
        for call in self._forward:
            call()
        torch.mul(self._slope(self._outputs, y), weights, out=self._d)
        for call in self._backward:
            call()


def _product(a: Tensor, b: Tensor, out: Tensor, bias: Tensor | None = None, *, apart: bool) -> list[Call]:
    """Return the calls that write the products of each device's matrices to `out`.

    Args:
        a: (k, n, m).
        b: (k, m, p).
        out: (k, n, p).
        bias: added to every row, (k, p); None for none.
        apart: whether to take them device by device.
    """
    if not apart:
        return [
            partial(torch.bmm, a, b, out=out)
            if bias is None
            else partial(torch.baddbmm, bias.unsqueeze(1), a, b, out=out)
        ]
    each = zip(a.unbind(), b.unbind(), out.unbind(), strict=True)
    if bias is None:
        return [partial(torch.mm, a_k, b_k, out=out_k) for a_k, b_k, out_k in each]
    return [
        partial(torch.addmm, bias_k, a_k, b_k, out=out_k)
        for bias_k, (a_k, b_k, out_k) in zip(bias.unbind(), each, strict=True)
    ]


def _added_products(into: Tensor, a: Tensor, b: Tensor, keep: float, scale: float, *, apart: bool) -> list[Call]:
    """Return the calls that set `into` to `keep * into + scale * product` of each device's matrices; see `_product`."""
    if not apart:
        return [partial(into.baddbmm_, a, b, beta=keep, alpha=scale)]
    each = zip(into.unbind(), a.unbind(), b.unbind(), strict=True)
    return [partial(own.addmm_, a_k, b_k, beta=keep, alpha=scale) for own, a_k, b_k in each]


def _added_sums(into: Tensor, d: Tensor, ones: Tensor, keep: float, scale: float, *, apart: bool) -> list[Call]:
    """Return the same for the sums over each device's batch: `into` is (k, n), d (k, batch, n), ones (k, 1, batch)."""
    if not apart:
        return _added_products(into.unsqueeze(1), ones, d, keep, scale, apart=False)
    each = zip(into.unbind(), d.transpose(1, 2).unbind(), ones[:, 0].unbind(), strict=True)
    return [partial(own.addmv_, d_k, ones_k, beta=keep, alpha=scale) for own, d_k, ones_k in each]


def _slope(activation: type[nn.Module], h: Tensor, out: Tensor) -> list[Call]:
    """Return the calls that write to `out` the slope of an activation whose outputs are `h`."""
    if activation is nn.ReLU:
        return [partial(torch.sign, h, out=out)]  # a fifth of the time of `h > 0`
    return [partial(torch.mul, h, h, out=out), out.neg_, partial(out.add_, 1)]
