"""Losses of tested models are those that training minimizes."""

from __future__ import annotations

import pytest
import torch

from p2pl_async.learning.losses import BinaryCrossEntropy, CrossEntropy, Squared, TrainingLoss


@pytest.mark.parametrize("loss", [CrossEntropy(), Squared(), BinaryCrossEntropy()], ids=lambda loss: loss.kind)
@pytest.mark.parametrize("n_classes", [2, 10, 16, 40])
@pytest.mark.parametrize("rows", [1, 50])
def test_values_are_the_loss_of_each_sample(loss: TrainingLoss, n_classes: int, rows: int) -> None:
    random = torch.Generator().manual_seed(1)
    outputs = 3 * torch.randn(rows, n_classes, dtype=torch.float64, generator=random)
    y = torch.randint(n_classes, (rows,), generator=random)
    found = loss.values(outputs, y)
    assert found.shape == (rows,)
    torch.testing.assert_close(found, loss.of_each(outputs, y), rtol=1e-14, atol=1e-14)
