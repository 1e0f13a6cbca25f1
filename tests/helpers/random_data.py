"""A small data set of random numbers, on which workers train."""

from __future__ import annotations

import numpy as np

from p2pl_async.learning.data import Dataset

_RANDOM = np.random.default_rng(3)
DATA = Dataset(
    "random",
    _RANDOM.random((40, 4, 4), np.float32), _RANDOM.integers(3, size=40),
    _RANDOM.random((10, 4, 4), np.float32), _RANDOM.integers(3, size=10), 3,
)  # fmt: skip
