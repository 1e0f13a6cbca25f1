"""Models that devices train: settings; torch is imported only when a module is built.

A model of your own is a subclass of `Model` with a `build`, named in a scenario as
`kind = "file.py:Class"`; its other fields are keys of the `[model]` table.
"""

from __future__ import annotations

import itertools
import math
from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PositiveInt

from p2pl_async.basics.settings import OneOf, Settings
from p2pl_async.errors import Problem, ScenarioError
from p2pl_async.learning.user_code import mistake, source, user_code

if TYPE_CHECKING:
    from torch import nn


class Model(Settings):
    """Base of every model: its initial parameters, and the module that uses them."""

    kind: str
    init: Literal["default", "he", "xavier"] = Field(
        default="default",
        description="PyTorch's own initial parameters, or normal He / Xavier weight matrices with zero biases",
    )
    common_init: bool = Field(default=False, description="all devices start from the same parameters (a control)")
    buffers: Literal["average", "local"] = Field(
        default="average",
        description="what happens to buffers that training changes, such as the running statistics of batch "
        "normalization; average: sent and mixed like parameters, but not trained; local: each device keeps its own",
    )
    send_frozen: bool = Field(
        default=False,
        description="parameters with requires_grad = False are sent and mixed too; else they are those of the seed, "
        "the same on all devices",
    )

    @abstractmethod
    def build(self, shape: tuple[int, ...], n_classes: int) -> nn.Module:
        """Return a fresh module for samples of `shape`: (batch, *shape) -> logits (batch, n_classes).

        It may draw its initial parameters from torch's global generator, which is seeded
        before and restored afterwards. Devices train it as it is: in training mode, without parameters whose
        `requires_grad` is False, with dropout from a stream of each job, and tested in evaluation mode.
        """

    def module(self, shape: tuple[int, ...], n_classes: int, seed: int) -> nn.Module:
        """Return `build(...)` with the parameters that `init` and `seed` give; lazy layers have their shapes.

        The global state of torch's generators doesn't change.

        Raises:
            ScenarioError: if `build` raises, or returns something else.
        """
        import torch

        expected = "build(shape, n_classes) must return a torch.nn.Module"
        with torch.random.fork_rng(devices=[]):
            # The default generator alone: torch.manual_seed would reseed the GPUs' as well.
            torch.default_generator.manual_seed(seed)
            with user_code("model.kind", self.build, expected):
                module = self.build(shape, n_classes)
            if not isinstance(module, torch.nn.Module):
                text = f"{expected}; that of {source(self.build)} returned {type(module).__name__}"
                raise mistake("model.kind", self.build, text)
            if any(torch.nn.parameter.is_lazy(tensor) for tensor in [*module.parameters(), *module.buffers()]):
                sample = f"(batch, {', '.join(map(str, shape))})"
                with torch.no_grad(), user_code("model.kind", self.build, f"its module must take samples {sample}"):
                    module.eval()(torch.zeros(1, *shape))
            if self.init != "default":
                draw = torch.nn.init.kaiming_normal_ if self.init == "he" else torch.nn.init.xavier_normal_
                options: dict[str, Any] = {"nonlinearity": "relu"} if self.init == "he" else {}
                for name, parameter in module.named_parameters():
                    if not parameter.requires_grad:
                        continue
                    if parameter.dim() > 1:
                        draw(parameter, **options)
                    elif "bias" in name.rpartition(".")[2]:  # the scales of normalizations stay 1
                        torch.nn.init.zeros_(parameter)
        return module


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


class LeNet(Model):
    """Small convolutional network of LeNet's size for images (8 x 8 digits, 28 x 28 MNIST)."""

    kind: Literal["lenet"] = "lenet"

    def build(self, shape: tuple[int, ...], n_classes: int) -> nn.Module:
        """Return two 5 x 5 convolutions (6 and 16 channels, each halved by max-pooling), then 120 and 84 units.

        Args:
            shape: (height, width) or (channels, height, width), at least 4 pixels a side.
            n_classes: width of the output.

        Raises:
            ScenarioError: if the samples aren't images.

        Source: Y. LeCun et al., "Gradient-based learning applied to document recognition",
        Proc. IEEE 1998; ReLU and max-pooling in place of its sigmoids and subsampling.
        """
        from torch import nn

        if len(shape) not in (2, 3) or min(shape[-2:]) < 4:
            text = f'needs images of at least 4 x 4 pixels, the data has samples of shape {shape}; use kind = "mlp"'
            raise ScenarioError("model", [Problem("model.kind", text, "lenet")])
        channels = shape[0] if len(shape) == 3 else 1
        pixels = (shape[-2] // 4) * (shape[-1] // 4)
        return nn.Sequential(
            nn.Flatten(),
            nn.Unflatten(1, (channels, *shape[-2:])),
            nn.Conv2d(channels, 6, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(16 * pixels, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, n_classes),
        )


def _dense(shape: tuple[int, ...], hidden: tuple[int, ...], activation: str, n_classes: int) -> nn.Module:
    from torch import nn

    widths = [math.prod(shape), *hidden, n_classes]
    layers: list[nn.Module] = [nn.Flatten()]
    for i, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        if i:
            layers.append(nn.ReLU() if activation == "relu" else nn.Tanh())
        layers.append(nn.Linear(inputs, outputs))
    return nn.Sequential(*layers)


def _outside(spec: str) -> type[Model]:
    from p2pl_async.basics.plugins import load_class

    return load_class(spec, Model)  # type: ignore[type-abstract]


AnyModel = Annotated[Model, OneOf("model", Softmax, Mlp, LeNet, outside=_outside)]
