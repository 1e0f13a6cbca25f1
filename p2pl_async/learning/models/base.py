"""What every model has: settings of how its parameters start, and a module.

A model of your own is a subclass of `Model` with a `build`, named in a scenario as
`kind = "file.py:Class"`; its other fields are keys of the `[model]` table.
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from p2pl_async.basics.settings import Settings, mistake
from p2pl_async.basics.tensorfiles import files_in
from p2pl_async.learning.models.saved import start_from
from p2pl_async.learning.user_code import mistake as user_mistake
from p2pl_async.learning.user_code import source, user_code

if TYPE_CHECKING:
    from torch import nn


class Model(Settings):
    """Base of every model: its initial parameters, and the module that uses them."""

    kind: str
    init: Literal["default", "he", "xavier"] | Path = Field(
        default="default",
        description="PyTorch's own initial parameters, or normal He / Xavier weight matrices with zero biases, or the "
        "path of a trained model, a .safetensors file, or of a run's folder with saved models: each device starts "
        "from its own",
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

    @field_validator("init")
    @classmethod
    def _is_there(cls, init: str | Path) -> str | Path:
        if isinstance(init, Path):
            files = files_in(init)
            if not files and not init.is_file():
                what = "holds no models; run with --save-models" if init.is_dir() else "is no file or folder"
                raise mistake(f'{what}; else write "default", "he" or "xavier"')
        return init

    @abstractmethod
    def build(self, shape: tuple[int, ...], n_classes: int) -> nn.Module:
        """Return a fresh module for samples of `shape`: (batch, *shape) -> logits (batch, n_classes).

        It may draw its initial parameters from torch's global generator, which is seeded
        before and restored afterwards. Devices train it as it is: in training mode, without parameters whose
        `requires_grad` is False, with dropout from a stream of each job, and tested in evaluation mode.
        """

    def module(self, shape: tuple[int, ...], n_classes: int, seed: int, device: int = 0) -> nn.Module:
        """Return `build(...)` with the parameters that `init` and `seed` give; lazy layers have their shapes.

        The global state of torch's generators doesn't change.

        Args:
            shape: of a sample.
            n_classes: width of the output.
            seed: of the parameters that are drawn.
            device: whose saved model it starts from, where `init` is the path of several.

        Raises:
            ScenarioError: if `build` raises, or returns something else, or a saved model doesn't fit.
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
                raise user_mistake("model.kind", self.build, text)
            if any(torch.nn.parameter.is_lazy(tensor) for tensor in [*module.parameters(), *module.buffers()]):
                sample = f"(batch, {', '.join(map(str, shape))})"
                with torch.no_grad(), user_code("model.kind", self.build, f"its module must take samples {sample}"):
                    module.eval()(torch.zeros(1, *shape))
            if isinstance(self.init, Path):
                start_from(module, self.init, device)
            else:
                self.initialize(module)
        return module

    def initialize(self, module: nn.Module) -> None:
        """Draw the weight matrices that `init` asks for, from torch's generator, and set biases to zero."""
        import torch

        if self.init == "default" or isinstance(self.init, Path):
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
