"""Steps of SGD on stacked parameters: torch.optim.SGD's rule, after clipping each device's gradient.

Which of the ways below a step takes depends on the settings alone: if it depended on the devices in the
stack, their bits would, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from p2pl_async.learning.dense import DenseNetwork
from p2pl_async.learning.stack import Rows

if TYPE_CHECKING:
    from p2pl_async.learning.networks import Gradients, Network
    from p2pl_async.learning.settings import TrainSettings


class Descent:
    """The rule by which parameters change.

    Args:
        settings: of training.
        rate: learning rate of all devices in all steps; None if they have their own.
    """

    def __init__(self, settings: TrainSettings, rate: float | None) -> None:
        self._settings = settings
        self._rate = rate
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

    def step(
        self, network: Network, w: Rows, v: Rows | None, x: Tensor, y: Tensor, weights: Tensor, rates: Tensor
    ) -> None:
        """Change `w` by one step of SGD.

        Args:
            network: computes the gradients.
            w: parameters.
            v: momentum; None without.
            x, y, weights: a batch of each device; see `Network.gradients`.
            rates: learning rate of each device, (k,), where they differ.
        """
        settings = self._settings
        if isinstance(network, DenseNetwork) and not self._whole:
            if v is not None:
                network.add_gradients(w.layers, x, y, weights, v.layers, settings.momentum, 1.0)
                self._descend(w.flat, v.flat, rates)
                return
            if self._rate is not None:
                network.add_gradients(w.layers, x, y, weights, w.layers, 1.0, -self._rate)
                return
        found = self.gradients(network, w.layers, x, y, weights)
        for i, g in enumerate(found):
            if g is None:
                continue
            change = g
            if v is not None:
                change = v.layers[i].mul_(settings.momentum).add_(g)
                if settings.nesterov:
                    change = g.add_(change, alpha=settings.momentum)
            self._descend(w.layers[i], change, rates)

    def _descend(self, w: Tensor, change: Tensor, rates: Tensor) -> None:
        """Subtract the change, times the common rate, or times each device's own if there is none."""
        if self._rate is not None:
            w.add_(change, alpha=-self._rate)
        else:
            w.addcmul_(change, _column(rates, change), value=-1.0)


def _column(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.dim() - 1))
