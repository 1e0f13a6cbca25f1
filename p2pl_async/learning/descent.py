"""Steps of SGD on stacked parameters: torch.optim.SGD's rule, after clipping each device's gradient.

Which of the ways below a step takes depends on the settings alone: if it depended on the devices in the
stack, their bits would, too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from p2pl_async.learning.dense import DenseNetwork
from p2pl_async.learning.stack import Rows

if TYPE_CHECKING:
    from p2pl_async.learning.networks import Gradients, Network
    from p2pl_async.learning.settings import TrainSettings

Step = Callable[[Tensor, Tensor, "Tensor | None"], None]


class Descent:
    """The rule by which parameters change.

    Args:
        settings: of training.
        rate: learning rate of all devices in all steps; None if they have their own.

    Attributes:
        rate: the same.
    """

    def __init__(self, settings: TrainSettings, rate: float | None) -> None:
        self._settings = settings
        self.rate = rate
        self._whole = bool(settings.clip or settings.weight_decay or settings.nesterov)  # it looks at whole gradients

    def gradients(self, network: Network, w: Sequence[Tensor], x: Tensor, y: Tensor, weights: Tensor) -> Gradients:
        """Return the gradients with weight decay, after clipping each device's norm; see `Network.gradients`."""
        settings = self._settings
        g = network.gradients(w, x, y, weights)
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

    def straight(self, network: Network) -> bool:
        """Whether gradients are added to what they change: to the momentum, or to the parameters."""
        added = bool(self._settings.momentum) or self.rate is not None
        return added and isinstance(network, DenseNetwork) and not self._whole

    def step(self, network: Network, w: Rows, v: Rows | None, x: Tensor) -> Step:
        """Return what changes `w` by one step of SGD.

        Args:
            network: computes the gradients.
            w: parameters.
            v: momentum; None without.
            x: where the samples lie, (k, batch, *shape).

        Returns:
            A function of `targets` and weights, which are as for `DenseNetwork.add_gradients` if the step is `straight`
            and else as for `Network.gradients`, and of the learning rate of each device, (k,), where they differ.
        """
        if not self.straight(network):
            return functools.partial(self._step, network, w, v, x)
        assert isinstance(network, DenseNetwork)
        if v is None:
            assert self.rate is not None
            add = network.add_gradients(w.layers, x, w.layers, 1.0, -self.rate)
            return lambda y, weights, rates: add(y, weights)
        add_to_momentum = network.add_gradients(w.layers, x, v.layers, self._settings.momentum, 1.0)

        def with_momentum(y: Tensor, weights: Tensor, rates: Tensor | None) -> None:
            add_to_momentum(y, weights)
            self._descend(w.flat, v.flat, rates)

        return with_momentum

    def _step(
        self, network: Network, w: Rows, v: Rows | None, x: Tensor, y: Tensor, weights: Tensor, rates: Tensor | None
    ) -> None:
        for i, g in enumerate(self.gradients(network, w.layers, x, y, weights)):
            if g is None:
                continue
            change = g
            if v is not None:
                change = v.layers[i].mul_(self._settings.momentum).add_(g)
                if self._settings.nesterov:
                    change = g.add_(change, alpha=self._settings.momentum)
            self._descend(w.layers[i], change, rates)

    def _descend(self, w: Tensor, change: Tensor, rates: Tensor | None) -> None:
        """Subtract the change, times the common rate, or times each device's own if there is none."""
        if self.rate is not None:
            w.add_(change, alpha=-self.rate)
        else:
            assert rates is not None
            w.addcmul_(change, _column(rates, change), value=-1.0)


def _column(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.dim() - 1))
