"""A data set of a few points in the plane, for worlds in which learning isn't the matter."""

from __future__ import annotations

import numpy as np

from p2pl_async.learning.data import Dataset, DataSource


class Dots(DataSource):
    """Points on a circle, half of each class: 64 for training, 8 for testing; the same in every run."""

    kind: str = "dots"

    def load(self) -> Dataset:
        """Return the points, features of shape (2,)."""
        angles = np.linspace(0, 2 * np.pi, 72, endpoint=False)
        x = np.column_stack((np.cos(angles), np.sin(angles))).astype(np.float32)
        y = (x[:, 0] > 0).astype(np.int64)
        test = np.arange(72) % 9 == 0
        return Dataset("dots", x[~test], y[~test], x[test], y[test], 2)
