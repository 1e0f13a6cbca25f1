"""Dense models: softmax regression and the multilayer perceptron."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveInt

from p2pl_async.learning.models.base import Model

if TYPE_CHECKING:
    from torch import nn


class Softmax(Model):
    """Softmax (multinomial logistic) regression: one linear layer, a convex problem."""

    kind: Literal["softmax"] = "softmax"

    def build(self, shape: tuple[int, ...], n_classes: int) -> nn.Module:
        """Return flatten -> linear."""
        return _dense(shape, (), "relu", n_classes)


class Mlp(Model):
    """Multilayer perceptron of any depth; [200, 200] on MNIST is the "2NN" of the FedAvg paper."""

    kind: Literal["mlp"] = "mlp"
    hidden: tuple[PositiveInt, ...] = Field(
        default=(64,), description="width of each hidden layer; [] is softmax regression"
    )
    activation: Literal["relu", "tanh"] = Field(default="relu", description="activation between layers")

    def build(self, shape: tuple[int, ...], n_classes: int) -> nn.Module:
        """Return flatten -> (linear -> activation) for each hidden layer -> linear."""
        return _dense(shape, self.hidden, self.activation, n_classes)


def _dense(shape: tuple[int, ...], hidden: tuple[int, ...], activation: str, n_classes: int) -> nn.Module:
    from torch import nn

    widths = [math.prod(shape), *hidden, n_classes]
    layers: list[nn.Module] = [nn.Flatten()]
    for i, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        if i:
            layers.append(nn.ReLU() if activation == "relu" else nn.Tanh())
        layers.append(nn.Linear(inputs, outputs))
    return nn.Sequential(*layers)
