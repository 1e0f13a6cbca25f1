"""Devices whose losses are bowls around different points, and a graph of one-way links for them."""

from __future__ import annotations

from typing import Any

import numpy as np

from p2pl_async.testing import FixedLearner

DIRECTED = [[1, 2, 3], [2], [3], [0]]  # strongly connected, and no two neighborhoods alike


class BowlLearner(FixedLearner):
    """Device k's loss is |w - k|^2 (1 + k) / 2; the last gradient of each device is remembered."""

    def __init__(self, params: list[np.ndarray], **how: Any) -> None:
        self.latest: dict[int, np.ndarray] = {}
        super().__init__(params, gradient=self.slope, **how)

    def slope(self, k: int, w: np.ndarray) -> np.ndarray:
        self.latest[k] = (1 + k) * (w - k)
        return self.latest[k]
