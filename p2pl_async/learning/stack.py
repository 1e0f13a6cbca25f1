"""Flat vectors of several devices, one below the other in memory that is kept, and each layer of all of them as a view.

             layer 0        layer 1
    filler   [.............|.......]      a vector is copied in at once, and out at once
    device   [.............|.......]  \\
    device   [.............|.......]   |  k devices: `rows(k)` gives (k, *layer) of each layer
    device   [.............|.......]  /
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any]

_ALIGNED = 16  # numbers, so that products get every device's parameters in the same position to the cache's lines


class Rows(NamedTuple):
    """What is computed of several devices, where it lies."""

    flat: Tensor  # (k, numbers)
    layers: list[Tensor]  # each (k, *layer)


class Stack:
    """Vectors (n_params,) of up to so many devices.

    Args:
        shapes: of the layers in a vector, in its order.
        rows: devices at most.
        filler: whether there is one more row, which stands in where a device would be alone.
        dtype, device: of the memory.
    """

    def __init__(
        self, shapes: Sequence[torch.Size], rows: int, *, filler: bool, dtype: torch.dtype, device: torch.device
    ) -> None:
        self._filler = int(filler)
        self._shapes = shapes
        ends = list(itertools.accumulate((shape.numel() for shape in shapes), initial=0))
        self._size = ends[-1]
        wide = -(-self._size // _ALIGNED) * _ALIGNED
        self._memory = torch.zeros((self._filler + rows, wide), dtype=dtype, device=device)
        self._layers = [
            self._memory[:, start:end].view(-1, *shape)
            for (start, end), shape in zip(itertools.pairwise(ends), shapes, strict=True)
        ]
        self._views: dict[tuple[int, int | None], Rows] = {}  # to make them anew cost as much as a small step

    def put(self, vectors: Sequence[Array | None]) -> None:
        """Copy vectors in; None is zeros."""
        place = self._memory[self._filler : self._filler + len(vectors), : self._size]
        host = place if place.device.type == "cpu" else torch.empty_like(place, device="cpu")
        for row, vector in zip(host.numpy(), vectors, strict=True):
            row[:] = 0 if vector is None else vector
        if host is not place:
            place.copy_(host)

    def rows(self, k: int, trained: int | None = None) -> Rows:
        """Return the first `trained` layers of the first k devices; see `rows_of`."""
        found = self._views.get((k, trained))
        if found is None:
            part, layers = rows_of(k, self._filler), self._layers[:trained]
            size = sum(shape.numel() for shape in self._shapes[:trained])
            found = self._views[k, trained] = Rows(self._memory[part, :size], [layer[part] for layer in layers])
        return found

    def vectors(self, k: int) -> list[Array]:
        """Return copies of the first k vectors, read-only."""
        return [frozen(row) for row in self._memory[self._filler : self._filler + k, : self._size].cpu().numpy()]


def rows_of(k: int, filler: int) -> slice:
    """Return the rows that are computed for the first k devices: those behind the filler, or with it if it is one."""
    return slice(0, 2) if filler and k == 1 else slice(filler, filler + k)


def frozen(row: Array) -> Array:
    """Return a read-only copy."""
    copy = row.copy()
    copy.setflags(write=False)
    return copy
