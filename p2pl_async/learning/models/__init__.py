"""Models that devices train, one file per family: settings; torch is imported only when a module is built."""

from __future__ import annotations

from typing import Annotated

from p2pl_async.basics.plugins import door
from p2pl_async.basics.settings import OneOf
from p2pl_async.learning.models.base import Model
from p2pl_async.learning.models.convolutional import Cnn, LeNet, Vgg11
from p2pl_async.learning.models.dense import Mlp, Softmax
from p2pl_async.learning.models.residual import ResNet18, ResNet20
from p2pl_async.learning.models.sequential import Lstm, Transformer

__all__ = [
    "AnyModel",
    "Cnn",
    "LeNet",
    "Lstm",
    "Mlp",
    "Model",
    "ResNet18",
    "ResNet20",
    "Softmax",
    "Transformer",
    "Vgg11",
]


AnyModel = Annotated[
    Model,
    OneOf("model", Softmax, Mlp, LeNet, Cnn, Vgg11, ResNet20, ResNet18, Lstm, Transformer, outside=door(Model)),
]
