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
    y: Tensor  # what the network is to give for them, its `targets`, (steps, k, ...)
    weights: Tensor  # in the loss, (steps, k, width)
    moves: Tensor | None  # augmentation, (steps, k, width, 3)

    def steps(self, steps: slice, devices: slice, *, flat: bool = False) -> Iterator[tuple[Tensor, ...]]:
        """Yield the tensors of each of these steps, for some devices: rows, y, weights and, if there are any, moves.

        Args:
            steps: which.
            devices: likewise.
            flat: whether the rows and moves of all devices make up one axis, (k * width, ...); weights are then
                (k, 1, width).
        """
        parts = [tensor[steps, devices] for tensor in self if tensor is not None]
        if flat:
            rows, y, weights, *moves = parts
            parts = [rows.flatten(1, 2), y, weights.unsqueeze(2), *(moved.flatten(1, 2) for moved in moves)]
        return zip(*(part.unbind() for part in parts), strict=True)


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
        self._views: dict[int, tuple[Tensor, Tensor]] = {}  # of the memory, by the number of samples
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
        counts = np.zeros(shape[:2], np.int64)
        for i, (own, size) in enumerate(zip(batches, sizes, strict=True), self._filler):
            steps, batch = own.shape
            if batch < self._width:
                rows[:steps, i] = own[:, :1]
            rows[:steps, i, :batch] = own
            counts[:steps, i] = size
        count = counts[:, :, None]
        weights = ((self._places < count) / np.maximum(count, 1)).astype(self._dtype)
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
        """Return samples (k, width, *shape) by their rows, k * width numbers, where `place` says.

        Args:
            rows: of the data, of any shape.
            moves: augmentation, 3 numbers for each of them; None for none.
        """
        found, x = self._place(rows.numel())
        torch.index_select(self._x, 0, rows if rows.dim() == 1 else rows.reshape(-1), out=found)
        return x if moves is None else x.copy_(augmented(x, moves))

    def place(self, k: int) -> Tensor:
        """Return where the samples of k devices lie, (k, width, *shape), until a call for more of them."""
        return self._place(k * self._width)[1]

    def _place(self, count: int) -> tuple[Tensor, Tensor]:
        views = self._views.get(count)
        if views is None:
            if len(self._kept) < count:
                self._kept = self._x.new_empty(count, *self._x.shape[1:])
                self._views.clear()
            found = self._kept[:count]
            views = self._views[count] = found, found.view(-1, self._width, *self._x.shape[1:])
        return views
