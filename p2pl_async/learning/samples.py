"""Samples of several devices' batches as tensors: their rows, labels, weights in the loss, and features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from p2pl_async.learning.augmentation import augmented

if TYPE_CHECKING:
    from p2pl_async.learning.networks import Network

Array = NDArray[Any]


class Batch(NamedTuple):
    """Samples of some steps of a group; a short batch is padded with its own first sample at weight 0."""

    rows: Tensor  # of the training data, (steps, k, width)
    y: Tensor  # what the network is to give for them, (steps, k, width, ...)
    weights: Tensor  # in the loss, (steps, k, width)
    moves: Tensor | None  # augmentation, (steps, k, width, 3)

    def steps(self, steps: slice, devices: slice) -> Iterator[tuple[Tensor, ...]]:
        """Yield the tensors of each of these steps, for some devices: rows, y, weights and, if there are any, moves."""
        return zip(*(tensor[steps, devices].unbind() for tensor in self if tensor is not None), strict=True)


class Samples:
    """Training data, and memory for the features of one step.

    Args:
        x: features, (n, *shape).
        y: labels or numbers to predict, (n, ...).
        width: samples in a batch, padding included.
        filler: rows before those of the devices: 0 or 1, of samples that don't count.
    """

    def __init__(self, x: Tensor, y: Tensor, width: int, filler: int) -> None:
        self._x = x
        self._y = y
        self._width = width
        self._filler = filler
        self._kept = x[:0]
        self._dtype = self._kept.cpu().numpy().dtype
        self._views: dict[torch.Size, tuple[Tensor, Tensor]] = {}  # of the memory, by the shape of the rows
        self._places = np.arange(width)

    def twin(self) -> Self:
        """Return the same data, with memory of its own."""
        return type(self)(self._x, self._y, self._width, self._filler)

    def batch(
        self, network: Network, batches: Sequence[Array], sizes: Sequence[Array], shifts: Sequence[Array]
    ) -> Batch:
        """Return the samples of devices, those with more steps first; see `Engine.train` for the other arguments."""
        shape = (len(batches[0]), self._filler + len(batches), self._width)
        rows = np.zeros(shape, np.int64)
        weights = np.zeros(shape, self._dtype)
        for i, (own, size) in enumerate(zip(batches, sizes, strict=True), self._filler):
            steps, batch = own.shape
            if batch < self._width:
                rows[:steps, i] = own[:, :1]
            rows[:steps, i, :batch] = own
            weights[:steps, i] = (self._places < size[:, None]) / size[:, None]
        on = self._x.device
        moves = None
        if shifts:
            moved = np.zeros((*shape, 3), np.int64)
            for i, shift in enumerate(shifts, self._filler):
                moved[: len(shift), i, : shift.shape[1]] = shift
            moves = torch.from_numpy(moved).to(on)
        indices = torch.from_numpy(rows).to(on)
        y = network.targets(self._y[indices])
        return Batch(indices, y, torch.from_numpy(weights).to(on), moves)

    def features(self, rows: Tensor, moves: Tensor | None = None) -> Tensor:
        """Return samples by their rows (k, width), moved as (k, width, 3) say; the next call overwrites them."""
        views = self._views.get(rows.shape)
        if views is None:
            if len(self._kept) < rows.numel():
                self._kept = self._x.new_empty(rows.numel(), *self._x.shape[1:])
                self._views.clear()
            found = self._kept[: rows.numel()]
            views = self._views[rows.shape] = found, found.view(*rows.shape, *self._x.shape[1:])
        found, x = views
        torch.index_select(self._x, 0, rows.reshape(-1), out=found)
        return x if moves is None else x.copy_(augmented(x, moves))  # to the same place, for passes that are prepared
