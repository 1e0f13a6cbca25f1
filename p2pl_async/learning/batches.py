"""The samples of each device's mini-batches."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from p2pl_async.basics.randomness import stream

Rows = NDArray[np.int64]


class Batches:
    """A device's endless supply of batches: a fresh permutation per epoch, in order over all jobs.

    Batches of all samples keep the order of the data, so equal parameters give equal bits.
    """

    def __init__(self, part: Rows, batch_size: int | Literal["all"], random: np.random.Generator) -> None:
        self._part = part
        self._random = None if batch_size == "all" else random
        self.width = len(part) if batch_size == "all" else min(batch_size, len(part))
        self.per_epoch = math.ceil(len(part) / self.width)
        self._last = len(part) - (self.per_epoch - 1) * self.width
        self.smallest = min(self.width, self._last)
        self._sizes = np.full(self.per_epoch, self.width)  # of an epoch's batches
        self._sizes[-1] = self._last
        self._sizes.setflags(write=False)
        self.taken = 0
        self._epoch = np.empty((0, self.width), np.int64)

    def take(self, steps: int) -> tuple[Rows, Rows]:
        """Return the rows (steps, batch) of the next batches, and their sizes (steps,).

        A short batch is padded with its own first row.
        """
        taken, sizes = [], []
        while steps:
            at = self.taken % self.per_epoch
            if at == 0:
                self._epoch = self._permutation()
            part = slice(at, at + steps)
            taken.append(self._epoch[part])
            sizes.append(self._sizes[part])
            self.taken += len(taken[-1])
            steps -= len(taken[-1])
        # Of one epoch, as most are, they are given as they lie: to put them together took as long as to draw them.
        return (taken[0], sizes[0]) if len(taken) == 1 else (np.concatenate(taken), np.concatenate(sizes))

    def _permutation(self) -> Rows:
        order = self._part if self._random is None else self._random.permutation(self._part)
        rows = np.empty(self.per_epoch * self.width, np.int64)
        rows[: len(order)] = order
        rows[len(order) :] = order[-self._last]  # the first of the last batch
        return rows.reshape(self.per_epoch, self.width)


def subset_rows(seed: int, n_test: int, size: int) -> Rows:
    """Return the rows of the fixed test subset, ascending; all of them if `size` is 0 or at least their number."""
    if not 0 < size < n_test:
        return np.arange(n_test)
    return np.sort(stream(seed, "subset").choice(n_test, size, replace=False))
