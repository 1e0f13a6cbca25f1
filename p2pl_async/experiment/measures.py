"""Measures of a run: scores of models, the distance between them, and sums over a metric."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from p2pl_async.messages import DeviceId, Vector

if TYPE_CHECKING:
    from p2pl_async.learning.trainer import Trainer


class Total:
    """Count, sum and range of one metric."""

    __slots__ = ("count", "max", "min", "sum")

    def __init__(self) -> None:
        self.count = 0
        self.sum = 0.0
        self.min = math.inf
        self.max = -math.inf

    def add(self, value: float) -> None:
        """Count a value."""
        self.count += 1
        self.sum += value
        if value < self.min:
            self.min = value
        if value > self.max:
            self.max = value

    @property
    def mean(self) -> float:
        """The mean of the values; nan if there are none."""
        return self.sum / self.count if self.count else math.nan


class ScoreLookup:
    """Scores of devices' models, each evaluated once however many devices share it.

    Args:
        trainer: computes the scores.
        models: (device, parameter vector (n_params,)).
        which: "subset" or "test".
    """

    def __init__(
        self, trainer: Trainer, models: Sequence[tuple[DeviceId, Vector]], which: Literal["subset", "test"]
    ) -> None:
        self._by_device = trainer.by_device
        distinct = {self._key(device, w): (device, w) for device, w in models}
        self._models = [w for _, w in distinct.values()]  # keeps them alive, and with them their ids
        self._index = {key: index for index, key in enumerate(distinct)}
        self._scores = trainer.evaluate(self._models, which, devices=[device for device, _ in distinct.values()])

    def _key(self, device: DeviceId, w: Vector) -> tuple[DeviceId, int]:
        return device if self._by_device else -1, id(w)

    @property
    def names(self) -> list[str]:
        """The names of the scores."""
        return list(self._scores.values)

    def score(self, name: str, device: DeviceId, w: Vector) -> float:
        """Return a score of one of the models on its device."""
        return float(self._scores.values[name][self._index[self._key(device, w)]])

    def loss(self, device: DeviceId, w: Vector) -> float:
        """Return the mean loss of one of the models on its device."""
        return float(self._scores.loss[self._index[self._key(device, w)]])


def consensus_distance(params: Sequence[Vector]) -> float:
    """Return the consensus distance sqrt(1/n sum_k |w_k - mean w|^2).

    Args:
        params: n vectors of shape (n_params,).
    """
    mean = np.zeros(params[0].shape, np.float64)
    for w in params:
        mean += w
    mean /= len(params)
    center = mean.astype(params[0].dtype)
    squares = 0.0
    for w in params:
        away = w - center
        squares += float(np.dot(away, away))
    return math.sqrt(squares / len(params))


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the least value, the mean and the greatest."""
    return min(values), sum(values) / len(values), max(values)


def value_range(values: Sequence[float]) -> Mapping[str, float] | None:
    """Return "min", "mean" and "max" of values; None if there are none."""
    return dict(zip(("min", "mean", "max"), spread(values), strict=True)) if values else None


def params_digest(params: Sequence[Vector]) -> str:
    """Return a hash of parameter vectors, in their order."""
    digest = hashlib.sha256()
    for w in params:
        digest.update(np.ascontiguousarray(w).data)
    return digest.hexdigest()
