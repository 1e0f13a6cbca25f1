"""The parameters that devices start from, without building a module for each of them.

Building a module takes longer than drawing its parameters: 1 ms each, with 10,000 devices. So one module is kept and
its layers draw anew, from the device's own seed. Whether that gives the bits of a module that was built with this seed
is tried on the first devices; a model whose layers draw otherwise, or in another order, is built each time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from p2pl_async.learning.layout import VectorLayout, vector

if TYPE_CHECKING:
    from p2pl_async.basics.arrays import Vector
    from p2pl_async.learning.models import Model

_TRIED = 2  # devices for which both ways must agree


class InitialParams:
    """Initial parameter vectors by seed.

    Args:
        model: whose modules have them.
        shape: of a sample.
        n_classes: width of the outputs.
        layout: of the vector.
        dtype: of the vector.
    """

    def __init__(
        self, model: Model, shape: tuple[int, ...], n_classes: int, layout: VectorLayout, dtype: np.dtype[Any]
    ) -> None:
        self._model = model
        self._data = (shape, n_classes)
        self._layout = layout
        self._dtype = dtype
        self._kept: nn.Module | None = None
        self._agreed = 0
        self._alike = True
        self._last: tuple[int, Vector] | None = None

    def of(self, seed: int) -> Vector:
        """Return the parameters that a seed gives, read-only, (n_params,); the same array for the same seed in a row.

        The global state of torch's generators doesn't change.
        """
        if self._last is None or self._last[0] != seed:
            self._last = (seed, self._draw(seed))
        return self._last[1]

    def _draw(self, seed: int) -> Vector:
        if self._kept is not None and self._alike and self._agreed == _TRIED:
            return self._drawn_anew(self._kept, seed)
        module = self._model.module(*self._data, seed)
        built = vector(module, self._layout, self._dtype)
        if self._kept is not None and self._alike:
            self._alike = _can_draw(module) and np.array_equal(self._drawn_anew(self._kept, seed), built)
            self._agreed += 1
        self._kept = module
        return built

    def _drawn_anew(self, module: nn.Module, seed: int) -> Vector:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.default_generator.manual_seed(seed)
            for part in module.modules():
                reset = getattr(part, "reset_parameters", None)
                if reset is not None:
                    reset()
            self._model.initialize(module)
        return vector(module, self._layout, self._dtype)


def _can_draw(module: nn.Module) -> bool:
    """Whether every part of a module that has parameters or buffers of its own can draw them anew."""
    return all(
        hasattr(part, "reset_parameters") or not [*part.parameters(recurse=False), *part.buffers(recurse=False)]
        for part in module.modules()
    )
