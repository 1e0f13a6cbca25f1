"""Which tensors of a module make up a device's parameter vector, and which stay on the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


@dataclass(frozen=True)
class VectorLayout:
    """Names of a module's tensors by what happens to them.

    What is in none of them is a constant: the same on all devices, for the whole run.
    """

    trained: tuple[str, ...]  # parameters with a gradient, first in the vector
    frozen: tuple[str, ...]  # parameters without one that are sent all the same, next in the vector
    averaged: tuple[str, ...]  # buffers that training changes and that are sent and mixed, last in the vector
    local: tuple[str, ...]  # buffers that training changes and that each device keeps for itself

    @property
    def sent(self) -> tuple[str, ...]:
        """The tensors in the vector, in its order."""
        return self.trained + self.frozen + self.averaged

    @property
    def plain(self) -> bool:
        """Whether the trained parameters are all that there is to a device."""
        return self.sent == self.trained and not self.local


def make_layout(module: nn.Module, changing: Sequence[str], *, average: bool, send_frozen: bool) -> VectorLayout:
    """Return the layout of a module.

    Args:
        module: of the model.
        changing: names of the buffers that a forward pass in training mode changes.
        average: whether those of real numbers are in the vector; else each device keeps its own.
        send_frozen: whether parameters without a gradient are in the vector.
    """
    parameters = dict(module.named_parameters())
    buffers = dict(module.named_buffers())
    frozen = [name for name, parameter in parameters.items() if not parameter.requires_grad]
    averaged = [name for name in changing if average and buffers[name].is_floating_point()]
    return VectorLayout(
        tuple(name for name in parameters if name not in frozen),
        tuple(frozen * send_frozen),
        tuple(averaged),
        tuple(name for name in changing if name not in averaged),
    )


def tensor(module: nn.Module, name: str) -> Tensor:
    """Return a module's parameter or buffer by its name with dots."""
    owner, _, leaf = name.rpartition(".")
    found: Tensor = getattr(module.get_submodule(owner), leaf)
    return found


def fill(module: nn.Module, layout: VectorLayout, w: NDArray[Any], local: Sequence[Tensor] | None) -> None:
    """Give a module a device's parameter vector (n_params,), and the buffers that stay on it; None for no change."""
    start = 0
    for name in layout.sent:
        own = tensor(module, name)
        values = np.array(w[start : start + own.numel()])
        own.data = torch.from_numpy(values).view(own.shape)
        start += own.numel()
    for name, value in zip(layout.local, () if local is None else local, strict=local is not None):
        tensor(module, name).data = value.detach().cpu()


def vector(module: nn.Module, layout: VectorLayout, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return a module's parameters as one flat read-only vector (n_params,)."""
    flat = np.concatenate([tensor(module, name).detach().cpu().numpy().ravel() for name in layout.sent])
    flat = flat.astype(dtype, copy=False)
    flat.setflags(write=False)
    return flat
