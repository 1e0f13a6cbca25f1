"""Scoring: what parameter vectors are worth on test data, a group of them at once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from p2pl_async.basics.arrays import Vector
from p2pl_async.learning.batches import Rows, subset_rows
from p2pl_async.learning.data import Dataset
from p2pl_async.learning.job import groups
from p2pl_async.learning.scores import OwnWeights, Score, Summed

if TYPE_CHECKING:
    from p2pl_async.learning.crew import Crew
    from p2pl_async.learning.networks import Buffers
    from p2pl_async.learning.stacked import Engine

_KEPT_OUTPUTS = 2**24  # of all devices tested at once, for scores that aren't sums over samples


class Scores(NamedTuple):
    """Scores and loss of some parameter vectors on test data."""

    values: Mapping[str, NDArray[np.float64]]  # name of the score -> (k,); "own_..." on the devices' own distributions
    loss: NDArray[np.float64]  # mean of the loss that training minimizes, (k,)

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """Share of samples classified correctly, (k,)."""
        return self.values["accuracy"]


class Scoring:
    """Scores models on the test data of a run.

    Args:
        crew: engines that compute, side by side.
        dataset: whose test data.
        scores: that models get, at least one.
        engine: one of them; it knows how many devices are best computed at once.
        subset: size of the fixed test subset, 0 for the whole test set.
        seed: of the run; the stream "subset" is drawn from it.
        buffers: device -> the buffers that stay there, as its last training left them.
        products: returns how exactly products of matrices are computed meanwhile.
        weights: of test samples for the devices' own distributions; None if those aren't scored.

    Attributes:
        names: of the scores that `evaluate` gives where it knows the devices.
        seconds: wall time spent.
    """

    def __init__(
        self,
        crew: Crew[Engine],
        dataset: Dataset,
        scores: Sequence[Score],
        *,
        engine: Engine,
        subset: int,
        seed: int,
        buffers: Mapping[int, Buffers],
        products: Callable[[], AbstractContextManager[Any]],
        weights: OwnWeights | None,
    ) -> None:
        self.scores = scores
        names = [score.name for score in scores]
        self.names = names if weights is None else [*names, *(f"own_{name}" for name in names)]
        self.seconds = 0.0
        self._crew = crew
        self._engine = engine
        self._weights = weights
        self._products = products
        self._buffers = buffers
        self._n_test, self._n_classes = len(dataset.y_test), dataset.n_classes
        self._subset: Rows | None = subset_rows(seed, self._n_test, subset) if 0 < subset < self._n_test else None

    def evaluate(
        self,
        params: Sequence[Vector],
        which: Literal["subset", "test"] = "test",
        *,
        devices: Sequence[int] | None = None,
    ) -> Scores:
        """Return the scores of parameter vectors on the fixed test subset or the whole test set.

        Parameters that aren't finite give an arbitrary accuracy and a loss that isn't finite.

        Args:
            params: each (n_params,).
            which: the samples.
            devices: whose buffers go with each vector, where buffers stay on devices; new ones if None.
        """
        started = time.perf_counter()
        rows = self._subset if which == "subset" else None
        largest = self._crew.share(len(params), self._engine.group)
        if not all(isinstance(score, Summed) for score in self.scores):  # the outputs on all samples are kept
            largest = min(largest, max(1, _KEPT_OUTPUTS // (self._n_test * self._n_classes)))
        indices = groups(range(len(params)), largest) if len(params) else []

        def scores(engine: Engine, some: Sequence[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
            buffers = None if devices is None else self._buffers.get(devices[some[0]])
            own = None
            if self._weights is not None and devices is not None:
                own = self._weights.of([devices[i] for i in some], rows)
            return engine.evaluate([params[i] for i in some], rows, self.scores, buffers, own)

        with self._products():
            found = self._crew.map(scores, list(indices))
        self.seconds += time.perf_counter() - started
        loss = np.concatenate([losses for _, losses in found])
        values = np.concatenate([values for values, _ in found], axis=1)
        return Scores(dict(zip(self.names, values, strict=False)), loss)  # without devices, no own ones

    def attains(
        self,
        params: Sequence[Vector],
        target: float,
        *,
        of: Literal["every_device", "mean"] = "every_device",
        score: Score | None = None,
        guess: Sequence[float] | NDArray[np.float64] | None = None,
        devices: Sequence[int] | None = None,
    ) -> bool:
        """Tell whether these vectors attain a score on the whole test set, each of them or on average.

        Evaluates those with the worst `guess` first (such as their score on the subset), one,
        then two, four and so on, and stops as soon as the answer is certain. For a score without a best value, such
        as an error, the mean is certain at the end alone.

        Args:
            params: each (n_params,).
            target: least score, or greatest where lower is better.
            of: whose.
            score: which; the first if None.
            guess: of each vector's score.
            devices: as for `evaluate`.
        """
        score = self.scores[0] if score is None else score
        sign = -1.0 if score.lower_is_better else 1.0
        best = 1.0 if isinstance(score, Summed) and sign > 0 else math.inf
        target *= sign
        order = np.arange(len(params)) if guess is None else np.argsort(sign * np.asarray(guess), kind="stable")
        total = 0.0
        seen = 0
        size = 1
        while seen < len(order):
            some = order[seen : seen + size]
            whose = None if devices is None else [devices[i] for i in some]
            found = sign * self.evaluate([params[i] for i in some], devices=whose).values[score.name]
            seen += len(found)
            size *= 2
            total += float(found.sum())
            if of == "every_device" and not found.min() >= target:
                return False
            if of == "mean" and seen < len(order) and (total + best * (len(order) - seen)) / len(order) < target:
                return False
        return of == "every_device" or total / len(order) >= target
