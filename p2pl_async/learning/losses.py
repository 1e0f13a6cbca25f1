"""Losses that training minimizes: the mean over samples of what a model's outputs of each sample cost.

A loss of your own is a subclass of `TrainingLoss` with an `of_each`, named in a scenario as
`train.loss = "file.py:Class"`; its other fields are keys of a table `[train.loss]`.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Literal

from p2pl_async.basics.plugins import door
from p2pl_async.basics.settings import OneOf, Settings
from p2pl_async.errors import Problem, ScenarioError
from p2pl_async.learning.user_code import mistake, source, user_code

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from p2pl_async.learning.data import Dataset

_MANY = 16  # classes: numbers in a processor's widest vector, which torch fills along a row


class TrainingLoss(Settings):
    """Base of every loss."""

    kind: str

    @abstractmethod
    def of_each(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Return the loss of each sample, (rows,), by operations that autograd knows.

        Args:
            outputs: of the model, (rows, n_outputs).
            y: labels, (rows,), int64; or numbers to predict, (rows, n_outputs), of the dtype of `outputs`.
        """

    def values(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Return what `of_each` gives for k models, (k, rows), in whatever way is fastest without a gradient.

        Args:
            outputs: of the models, (k, rows, n_outputs).
            y: labels, (k, rows), or numbers to predict, (k, rows, n_outputs).
        """
        return self.of_each(outputs.flatten(0, 1), y.flatten(0, 1)).view(outputs.shape[:2])

    def targets(self, y: Tensor, n_outputs: int, dtype: torch.dtype) -> Tensor:
        """Return labels (..., rows) in the form in which `slope` is to get them: as they are, or for each output."""
        return y

    def slope(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Return the gradient of each sample's loss by its outputs, (k, n_outputs, rows); it may overwrite them.

        The samples of a model come last, for torch computes along them many at once; and what it finds for a model then
        doesn't depend on how many there are.

        Args:
            outputs: of the models, (k, n_outputs, rows).
            y: `targets` of labels, (k, rows) or (k, n_outputs, rows), or numbers to predict, (k, n_outputs, rows).
        """
        import torch

        with torch.enable_grad():
            leaf = outputs.detach().transpose(1, 2).flatten(0, 1).requires_grad_()
            of_each = self.of_each(leaf, y.flatten() if y.dim() == 2 else y.transpose(1, 2).flatten(0, 1))
            (found,) = torch.autograd.grad(of_each.sum(), leaf)
        return found.view(len(outputs), -1, outputs.shape[1]).transpose(1, 2)

    def check(self, dataset: Dataset) -> None:
        """Try the loss on some samples of the data.

        Raises:
            ScenarioError: if it doesn't fit the data, raises, or doesn't give a loss for each sample.
        """
        import torch

        y = torch.from_numpy(dataset.y_train[:4].copy())
        outputs = torch.zeros(len(y), dataset.n_classes)
        expected = "of_each(outputs, y) must return the loss of each sample, shape (rows,)"
        with user_code("train.loss", self.of_each, expected):
            found: object = self.of_each(outputs, y)
        if not isinstance(found, torch.Tensor) or found.shape != (len(y),):
            what = f"shape {tuple(found.shape)}" if isinstance(found, torch.Tensor) else type(found).__name__
            raise mistake("train.loss", self.of_each, f"{expected}; {source(self.of_each)}, returned {what}")

    def _refuse(self, text: str) -> ScenarioError:
        return ScenarioError("train", [Problem("train.loss", text, self.kind)])


class CrossEntropy(TrainingLoss):
    """Of labels: minus the logarithm of the share that softmax of the outputs gives to the right class."""

    kind: Literal["cross-entropy"] = "cross-entropy"

    def of_each(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Return -log softmax(outputs)[y]."""
        import torch

        return -torch.log_softmax(outputs, 1).gather(1, y.unsqueeze(1)).squeeze(1)

    def values(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Return the same; of few classes with the samples along rows, for which torch takes a tenth of the time."""
        import torch

        if outputs.shape[2] >= _MANY:
            return super().values(outputs, y)
        return -torch.log_softmax(outputs.transpose(1, 2), 1).gather(1, y.unsqueeze(1)).squeeze(1)

    def targets(self, y: Tensor, n_outputs: int, dtype: torch.dtype) -> Tensor:
        """Return one-hot columns."""
        return _one_hot(y, n_outputs, dtype)

    def slope(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Return softmax(outputs) - one-hot."""
        import torch

        return _less_targets(torch.softmax(outputs, 1), y)

    def check(self, dataset: Dataset) -> None:
        """Refuse data without labels."""
        if not dataset.labeled:
            text = 'needs labels, and y of {} are numbers; use "squared" or "binary-cross-entropy", or integer labels'
            raise self._refuse(text.format(dataset.name))


class Squared(TrainingLoss):
    """Half the squared distance of the outputs from the numbers to predict, or from the one-hot label."""

    kind: Literal["squared"] = "squared"

    def of_each(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Return |outputs - y|^2 / 2."""
        return 0.5 * (outputs - _targets(outputs, y)).square().sum(1)

    def targets(self, y: Tensor, n_outputs: int, dtype: torch.dtype) -> Tensor:
        """Return one-hot columns."""
        return _one_hot(y, n_outputs, dtype)

    def slope(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Return outputs - y."""
        return _less_targets(outputs, y)


class BinaryCrossEntropy(TrainingLoss):
    """Of several yes-or-no questions to each sample: the mean over them of the cross entropy, by sigmoids."""

    kind: Literal["binary-cross-entropy"] = "binary-cross-entropy"

    def of_each(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Return the mean over outputs of -y log sigmoid - (1 - y) log(1 - sigmoid)."""
        from torch.nn.functional import binary_cross_entropy_with_logits

        return binary_cross_entropy_with_logits(outputs, _targets(outputs, y).to(outputs), reduction="none").mean(1)

    def targets(self, y: Tensor, n_outputs: int, dtype: torch.dtype) -> Tensor:
        """Return one-hot columns."""
        return _one_hot(y, n_outputs, dtype)

    def slope(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Return (sigmoid(outputs) - y) / n_outputs."""
        # torch.sigmoid gives a number other bits at the end of a tensor than within it; torch.exp doesn't.
        sigmoid = outputs.neg_().exp_().add_(1).reciprocal_()
        return _less_targets(sigmoid, y).div_(outputs.shape[1])

    def check(self, dataset: Dataset) -> None:
        """Refuse numbers that are neither 0 nor 1 nor between."""
        if not dataset.labeled and not (dataset.y_train.min() >= 0 and dataset.y_train.max() <= 1):
            low, high = dataset.y_train.min(), dataset.y_train.max()
            raise self._refuse(f"needs y from 0 to 1, those of {dataset.name} reach from {low:g} to {high:g}")


def _targets(outputs: Tensor, y: Tensor) -> Tensor:
    """Return what the outputs should be: `y`, or its one-hot labels."""
    from torch.nn.functional import one_hot

    return y if y.dim() == 2 else one_hot(y, outputs.shape[1])


def _one_hot(y: Tensor, n_outputs: int, dtype: torch.dtype) -> Tensor:
    shape = *y.shape[:-1], n_outputs, y.shape[-1]
    return y.new_zeros(shape, dtype=dtype).scatter_(-2, y.unsqueeze(-2), 1)


def _less_targets(values: Tensor, y: Tensor) -> Tensor:
    """Subtract from the values, (k, n, rows), what the outputs should be; in place."""
    import torch

    if y.dim() == values.dim():
        return values.sub_(y)
    return values.scatter_add_(1, y.unsqueeze(1), torch.full_like(values[:, :1], -1.0))


AnyTrainingLoss = Annotated[
    TrainingLoss, OneOf("loss", CrossEntropy, Squared, BinaryCrossEntropy, outside=door(TrainingLoss))
]
