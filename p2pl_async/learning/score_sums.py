"""Scores of stacked models, taken from the pieces of the test data on which they are computed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from p2pl_async.learning.scores import Score, Summed, Values
from p2pl_async.learning.user_code import user_code


class ScoreSums:
    """Adds up sums over samples, and keeps the outputs for scores that aren't sums.

    Args:
        scores: which.
        k: number of models.
        weights: of each sample for each model, (k, n); None: each counts the same.
    """

    def __init__(self, scores: Sequence[Score], k: int, weights: Values | None) -> None:
        self._scores = scores
        self._k = k
        self._weights = weights
        self._sums: list[NDArray[np.float64] | None] = [None] * len(scores)
        self._outputs: list[Tensor] = []
        self._y: list[Tensor] = []
        self._keeps = not all(isinstance(score, Summed) for score in scores)

    def add(self, outputs: Tensor, y: Tensor, part: slice) -> None:
        """Count a piece of the samples: outputs (k, rows, n_outputs), labels or numbers, and which rows they are."""
        weights = None
        if self._weights is not None:
            weights = torch.from_numpy(self._weights[:, part]).to(outputs.device)
        for i, score in enumerate(self._scores):
            if isinstance(score, Summed):
                found = score.sums(outputs, y, weights).double().cpu().numpy()
                before = self._sums[i]
                self._sums[i] = found if before is None else before + found
        if self._keeps:
            self._outputs.append(outputs.clone())
            self._y.append(y)

    def values(self, n: int) -> Values:
        """Return the scores (scores, k) on all `n` samples; nan for a model whose samples all have weight 0."""
        total = np.full(self._k, float(n)) if self._weights is None else self._weights.sum(1)
        found = np.full((len(self._scores), self._k), np.nan)
        for i, score in enumerate(self._scores):
            sums = self._sums[i]
            if isinstance(score, Summed) and sums is not None:
                with np.errstate(invalid="ignore"):
                    found[i] = score.value(sums, total)
            elif self._keeps:
                outputs, y = torch.cat(self._outputs, 1).cpu().numpy(), torch.cat(self._y).cpu().numpy()
                for k in range(self._k):
                    found[i, k] = self._own_score(score, outputs[k], y, k)
        found[:, total == 0] = np.nan
        return found

    def _own_score(self, score: Score, outputs: NDArray[np.floating], y: NDArray[np.generic], k: int) -> float:
        """Return what a user's score says of one model."""
        weights = np.ones(len(y)) if self._weights is None else self._weights[k]
        if not weights.any():
            return float("nan")
        with user_code("evaluate.metrics", score.of, "of(outputs, y, weights) must return a number"):
            return float(score.of(outputs, y, weights / weights.sum()))
