"""`train.matmul` and `train.autocast`: torch computes as asked, and as before afterwards."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from p2pl_async.learning.data import Dataset
from p2pl_async.learning.digits import Digits
from p2pl_async.learning.models import Mlp, Model
from p2pl_async.learning.settings import TrainSettings
from p2pl_async.learning.trainer import Trainer

SEEN: list[tuple[str, torch.dtype]] = []


class Noting(nn.Module):
    """A linear layer that notes what torch is set to while it computes."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layer = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.layer(x.flatten(1))
        SEEN.append((torch.get_float32_matmul_precision(), outputs.dtype))
        return outputs


class Noted(Model):
    """The module above."""

    kind: str = "noted"

    def build(self, shape: tuple[int, ...], n_classes: int) -> nn.Module:
        return Noting(shape[0], n_classes)


X = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
DATA = Dataset("noise", X, np.arange(20) % 3, X, np.arange(20) % 3, 3)


@pytest.mark.parametrize("matmul", ["highest", "high", "medium"])
def test_products_have_the_precision_asked_for_and_only_meanwhile(matmul: Any) -> None:
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    trainer = Trainer(DATA, [np.arange(20)], Noted(), TrainSettings(matmul=matmul), 1)
    w = trainer.initial_params(0)
    for work in (lambda: trainer.compute([trainer.job(0, w, steps=1)]), lambda: trainer.evaluate([w])):
        SEEN.clear()
        work()
        assert {precision for precision, _ in SEEN} == {matmul}
    assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == before


@pytest.mark.parametrize(("autocast", "dtype"), [("bfloat16", torch.bfloat16), ("none", torch.float32)])
def test_autocast_computes_in_bfloat16(autocast: Any, dtype: torch.dtype) -> None:
    settings = TrainSettings.model_validate({"autocast": autocast})
    trainer = Trainer(DATA, [np.arange(20)], Noted(), settings, 1)
    w = trainer.initial_params(0)
    SEEN.clear()
    job = trainer.job(0, w, steps=2)
    trainer.compute([job])
    trainer.evaluate([w])
    assert {found for _, found in SEEN} == {dtype}
    assert job.result is not None
    assert job.result.dtype == np.float32


def test_a_network_learns_in_bfloat16_what_it_learns_in_float32() -> None:
    data = Digits().load()
    parts = np.array_split(np.arange(len(data.y_train)), 2)
    ends, accuracies = [], []
    for options in ({}, {"autocast": "bfloat16"}):
        settings = TrainSettings.model_validate({"learning_rate": 0.1, "batch_size": 32, **options})
        trainer = Trainer(data, parts, Mlp(hidden=(32,)), settings, 1)
        jobs = [trainer.job(device, trainer.initial_params(device), epochs=10) for device in range(2)]
        trainer.compute(jobs)
        ends.append(np.array([job.result for job in jobs]))
        accuracies.append(trainer.evaluate(list(ends[-1])).accuracy)
    away = np.linalg.norm(ends[0] - ends[1]) / np.linalg.norm(ends[0])
    assert 1e-5 < away < 0.05
    np.testing.assert_allclose(accuracies[0], accuracies[1], atol=0.02)
    assert min(accuracies[0]) > 0.85


@pytest.mark.parametrize("options", [{"autocast": "bfloat16"}, {"matmul": "high"}])
def test_float64_is_for_exact_products(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match='needs autocast = "none" and matmul = "highest"'):
        TrainSettings.model_validate({"precision": "float64", **options})
