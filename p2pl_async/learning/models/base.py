"""What every model has: settings of how its parameters start, and a module.

A model of your own is a subclass of `Model` with a `build`, named in a scenario as
`kind = "file.py:Class"`; its other fields are keys of the `[model]` table.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from p2pl_async.basics.settings import Settings
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
            self.initialize(module)
        return module

    def initialize(self, module: nn.Module) -> None:
        """Draw the weight matrices that `init` asks for, from torch's generator, and set biases to zero."""
        import torch

        if self.init == "default":
            return
        draw = torch.nn.init.kaiming_normal_ if self.init == "he" else torch.nn.init.xavier_normal_
        options: dict[str, Any] = {"nonlinearity": "relu"} if self.init == "he" else {}
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                continue
            if parameter.dim() > 1:
                draw(parameter, **options)
            elif "bias" in name.rpartition(".")[2]:  # the scales of normalizations stay 1
                torch.nn.init.zeros_(parameter)
