"""Scores: numbers that say how good a model's outputs on test data are, such as its accuracy.

A score of your own is a subclass of `Score` with an `of`, named in a scenario as
`evaluate.metrics = ["file.py:Class"]`. Those that ship are sums over samples, added up while a model is tested.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from p2pl_async.basics.plugins import door
from p2pl_async.basics.settings import OneOf, Settings
from p2pl_async.errors import Problem, ScenarioError
from p2pl_async.learning.losses import BinaryCrossEntropy, TrainingLoss

if TYPE_CHECKING:
    from torch import Tensor

    from p2pl_async.learning.data import Dataset

Values = NDArray[np.float64]


class Score(Settings):
    """Base of every score."""

    lower_is_better: ClassVar[bool] = False

    kind: str

    @property
    def name(self) -> str:
        """Its name in tables: "balanced_accuracy"; "Auc" of "auc.py:Auc"."""
        return self.kind.rpartition(":")[2].replace("-", "_")

    @abstractmethod
    def of(self, outputs: NDArray[Any], y: NDArray[Any], weights: Values) -> float:
        """Return the score of one model.

        Args:
            outputs: of the model on all test samples, (n, n_outputs).
            y: labels, (n,), or numbers to predict, (n, n_outputs).
            weights: how much each sample counts, (n,), with a sum of 1; the `sample_weight` of scikit-learn.
        """

    def check(self, dataset: Dataset) -> None:
        """Raise a ScenarioError if the score doesn't fit the data."""

    def _refuse(self, text: str) -> ScenarioError:
        return ScenarioError("evaluate", [Problem("evaluate.metrics", text, self.kind)])


class Summed(Score):
    """Base of scores that follow from sums over samples."""

    @abstractmethod
    def sums(self, outputs: Tensor, y: Tensor, weights: Tensor | None) -> Tensor:
        """Return sums over samples, (k, m).

        Args:
            outputs: of k models, (k, rows, n_outputs).
            y: labels, (rows,), or numbers, (rows, n_outputs).
            weights: of each sample for each model, (k, rows); None: each counts 1.
        """

    @abstractmethod
    def value(self, sums: Values, total: Values) -> Values:
        """Return the scores, (k,), from the sums over all samples, (k, m), and of the weights, (k,)."""

    def of(self, outputs: NDArray[Any], y: NDArray[Any], weights: Values) -> float:
        """Return the score of one model."""
        import torch

        parts = (torch.from_numpy(np.array(part)) for part in (outputs, y, weights))
        stacked, targets, each = parts
        sums = self.sums(stacked.unsqueeze(0), targets, each.unsqueeze(0)).double().numpy()
        return float(self.value(sums, np.array([weights.sum()]))[0])


class Accuracy(Summed):
    """Share of samples classified correctly; of yes-or-no questions, share of right answers."""

    kind: Literal["accuracy"] = "accuracy"

    def sums(self, outputs: Tensor, y: Tensor, weights: Tensor | None) -> Tensor:
        """Return how many are correct, (k, 1)."""
        if y.dim() == 1:
            right = outputs.argmax(2) == y
            correct = right.sum(1) if weights is None else (right * weights).sum(1)
        else:
            share = ((outputs > 0) == (y > 0.5)).double().mean(2)
            correct = share.sum(1) if weights is None else (share * weights).sum(1)
        return correct.unsqueeze(1)

    def value(self, sums: Values, total: Values) -> Values:
        """Return the share of the weights."""
        shares: Values = sums[:, 0] / total
        return shares

    def check(self, dataset: Dataset) -> None:
        """Refuse numbers that are no answers."""
        _need_answers(self, dataset)


class BalancedAccuracy(Summed):
    """Mean over classes of the share of their samples that is classified correctly."""

    kind: Literal["balanced-accuracy"] = "balanced-accuracy"

    def sums(self, outputs: Tensor, y: Tensor, weights: Tensor | None) -> Tensor:
        """Return the hits of each class, and its samples."""
        hits, _, actual = _by_class(outputs, y, weights)
        return _joined(hits, actual)

    def value(self, sums: Values, total: Values) -> Values:
        """Return the mean recall of the classes that there are."""
        hits, actual = np.split(sums, 2, axis=1)
        return _mean_over_classes(hits, actual)

    def check(self, dataset: Dataset) -> None:
        """Refuse data without labels."""
        if not dataset.labeled:
            raise self._refuse(f'needs labels, and y of {dataset.name} are numbers; use "f1" or "rmse"')


class F1(Summed):
    """Mean over classes of the harmonic mean of precision and recall (macro F1)."""

    kind: Literal["f1"] = "f1"

    def sums(self, outputs: Tensor, y: Tensor, weights: Tensor | None) -> Tensor:
        """Return the hits of each class, and its predictions and samples together."""
        hits, predicted, actual = _by_class(outputs, y, weights)
        return _joined(2 * hits, predicted + actual)

    def value(self, sums: Values, total: Values) -> Values:
        """Return the mean of 2 hits / (predictions + samples) over classes that occur in either."""
        hits, both = np.split(sums, 2, axis=1)
        return _mean_over_classes(hits, both)

    def check(self, dataset: Dataset) -> None:
        """Refuse numbers that are no answers."""
        _need_answers(self, dataset)


class Rmse(Summed):
    """Root of the mean squared difference between outputs and the numbers to predict."""

    lower_is_better = True

    kind: Literal["rmse"] = "rmse"

    def sums(self, outputs: Tensor, y: Tensor, weights: Tensor | None) -> Tensor:
        """Return the squared errors, mean over outputs, (k, 1)."""
        squares = (outputs - y).double().square().mean(2)
        return (squares if weights is None else squares * weights).sum(1, keepdim=True)

    def value(self, sums: Values, total: Values) -> Values:
        """Return the root of the mean."""
        roots: Values = np.sqrt(sums[:, 0] / total)
        return roots

    def check(self, dataset: Dataset) -> None:
        """Refuse labels."""
        if dataset.labeled:
            raise self._refuse(f'needs numbers to predict, and y of {dataset.name} are labels; use "accuracy"')


AnyScore = Annotated[Score, OneOf("metric", Accuracy, BalancedAccuracy, F1, Rmse, outside=door(Score))]


def scores_for(metrics: Sequence[Score], dataset: Dataset, loss: TrainingLoss) -> tuple[Score, ...]:
    """Return the scores that models get, checked against the data; if none are chosen, the one that fits.

    Raises:
        ScenarioError: if one doesn't fit the data, or two have the same name.
    """
    answers = dataset.labeled or isinstance(loss, BinaryCrossEntropy)
    chosen = tuple(metrics) or ((Accuracy(),) if answers else (Rmse(),))
    for score in chosen:
        score.check(dataset)
    names = [score.name for score in chosen]
    if len({*names, "loss"}) <= len(names):
        text = f"must have names of their own, other than loss, has {', '.join(names)}"
        raise ScenarioError("evaluate", [Problem("evaluate.metrics", text)])
    return chosen


class OwnWeights:
    """Weights of test samples by which they are distributed as each device's training samples.

    By owner where test samples have owners: those of the device's owners count 1, others 0. Else by label: a
    class has the share that it has on the device, equal among its test samples.

    Args:
        dataset: with labels, or with owners.
        parts: for each device, its rows of the training data.

    Raises:
        ScenarioError: if the data have neither, or no test sample is of a device's distribution.
    """

    def __init__(self, dataset: Dataset, parts: Sequence[NDArray[np.integer[Any]]]) -> None:
        self._by_owner = dataset.owner is not None and dataset.owner_test is not None
        if not self._by_owner and not dataset.labeled:
            raise _not_own(f"needs labels, or the owners of training and test samples, which {dataset.name} lacks")
        self._owners, self._labels, self._n_classes = dataset.owner_test, dataset.y_test, dataset.n_classes
        owner, y = dataset.owner, dataset.y_train
        # Of each device its owners, or the share of each class.
        self._of = [
            np.unique(owner[part])
            if self._by_owner and owner is not None
            else np.bincount(y[part], minlength=self._n_classes) / len(part)
            for part in parts
        ]
        for device in range(len(parts)):
            if not self.of([device], None).any():
                what = "owners" if self._by_owner else "classes"
                raise _not_own(f"needs test samples of each device; of the {what} of device {device} there is none")

    def of(self, devices: Sequence[int], rows: NDArray[np.int64] | None) -> Values:
        """Return the weights (len(devices), n) of test samples, all if `rows` is None; 0 if no row is a device's."""
        chosen = slice(None) if rows is None else rows
        if self._by_owner:
            assert self._owners is not None
            owners = self._owners[chosen]
            return np.stack([np.isin(owners, self._of[device]) for device in devices]).astype(np.float64)
        labels = self._labels[chosen]
        there = np.maximum(np.bincount(labels, minlength=self._n_classes), 1)
        return np.stack([(self._of[device] / there)[labels] for device in devices])


def _not_own(text: str) -> ScenarioError:
    return ScenarioError("evaluate", [Problem("evaluate.on", text, "own")])


def _need_answers(score: Score, dataset: Dataset) -> None:
    if not dataset.labeled and not np.isin(dataset.y_test, (0, 1)).all():
        raise score._refuse(f'needs labels, or y of 0 and 1, and y of {dataset.name} has other numbers; use "rmse"')


def _by_class(outputs: Tensor, y: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return how many samples of each class are right, are predicted, and there are, each (k, n_classes), float64."""
    import torch
    from torch.nn.functional import one_hot

    n_classes = outputs.shape[2]
    predicted = one_hot(outputs.argmax(2), n_classes) if y.dim() == 1 else outputs > 0
    actual = (one_hot(y, n_classes) if y.dim() == 1 else y > 0.5).to(torch.bool).expand(predicted.shape)
    each = torch.ones(predicted.shape[:2], dtype=torch.float64, device=y.device) if weights is None else weights
    found = torch.stack([predicted.to(torch.bool) & actual, predicted.to(torch.bool), actual]).double()
    hits, guesses, samples = torch.einsum("skrc,kr->skc", found, each)
    return hits, guesses, samples


def _joined(*parts: Tensor) -> Tensor:
    import torch

    return torch.cat(parts, dim=1)


def _mean_over_classes(parts: Values, wholes: Values) -> Values:
    """Return the mean of parts / wholes over the classes whose whole isn't 0, (k,)."""
    there = wholes > 0
    shares = np.divide(parts, wholes, out=np.zeros_like(parts), where=there)
    means: Values = shares.sum(1) / np.maximum(there.sum(1), 1)
    return means
