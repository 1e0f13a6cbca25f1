"""Losses of tested models are those that training minimizes, and no model's depends on the others."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from p2pl_async.learning.losses import BinaryCrossEntropy, CrossEntropy, Squared, TrainingLoss


class Absolute(TrainingLoss):
    """A loss of a user's own."""

    kind: str = "absolute"

    def of_each(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Return |outputs - y| / 2, summed."""
        wanted = y if y.dim() == 2 else torch.nn.functional.one_hot(y, outputs.shape[1])
        return 0.5 * (outputs - wanted).abs().sum(1)


LOSSES = [CrossEntropy(), Squared(), BinaryCrossEntropy(), Absolute()]


def drawn(k: int, rows: int, n_classes: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Return outputs (k, rows, n_classes) and labels (k, rows)."""
    random = torch.Generator().manual_seed(1)
    outputs = 3 * torch.randn(k, rows, n_classes, dtype=dtype, generator=random)
    return outputs, torch.randint(n_classes, (k, rows), generator=random)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.kind)
@pytest.mark.parametrize("n_classes", [2, 10, 16, 40])
@pytest.mark.parametrize("rows", [1, 50])
def test_values_are_the_loss_of_each_sample(loss: TrainingLoss, n_classes: int, rows: int) -> None:
    outputs, y = drawn(3, rows, n_classes)
    found = loss.values(outputs, y)
    assert found.shape == (3, rows)
    for own, *sample in zip(found, outputs, y, strict=True):
        torch.testing.assert_close(own, loss.of_each(*sample), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.kind)
@pytest.mark.parametrize("n_classes", [2, 10, 40])
@pytest.mark.parametrize("form", ["labels", "targets", "numbers"])
def test_slopes_are_the_gradient_of_each_samples_loss(loss: TrainingLoss, n_classes: int, form: str) -> None:
    if form == "numbers" and isinstance(loss, CrossEntropy):
        pytest.skip("it has labels only")
    outputs, y = drawn(3, 7, n_classes)
    if form == "numbers":
        y = torch.rand(outputs.shape, dtype=outputs.dtype, generator=torch.Generator().manual_seed(2))
    leaf = outputs.clone().requires_grad_()
    (expected,) = torch.autograd.grad(torch.stack(list(map(loss.of_each, leaf, y))).sum(), leaf)
    given = loss.targets(y, n_classes, outputs.dtype) if form == "targets" else y if form == "labels" else y.mT
    torch.testing.assert_close(loss.slope(outputs.mT, given).mT, expected, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("loss", LOSSES[:3], ids=lambda loss: loss.kind)
@pytest.mark.parametrize("n_classes", [2, 10, 17])
@pytest.mark.parametrize("rows", [1, 10, 33])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_bits_of_a_model_do_not_depend_on_the_others(
    loss: TrainingLoss, n_classes: int, rows: int, dtype: torch.dtype
) -> None:
    outputs, y = drawn(7, rows, n_classes, dtype)
    targets = loss.targets(y, n_classes, dtype)
    values, slopes = loss.values(outputs, y), loss.slope(outputs.clone().mT, targets)
    for size in (1, 2, 5):
        some = slice(1, 1 + size)
        assert torch.equal(loss.values(outputs[some].clone(), y[some]), values[some])
        assert torch.equal(loss.slope(outputs[some].clone().mT, targets[some]), slopes[some])
