"""Large dense networks, one device after another: the same steps as when stacked."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from torch import nn

from p2pl_async.basics.arrays import Vector
from p2pl_async.learning import stacked
from p2pl_async.learning.data import Dataset
from p2pl_async.learning.models import Mlp, Model
from p2pl_async.learning.settings import Step, TrainSettings
from p2pl_async.learning.trainer import Trainer

SIZES = [5, 12, 3]
RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(sum(SIZES), 6)).astype(np.float32), RANDOM.integers(3, size=sum(SIZES))
DATA = Dataset("random", X, Y, X, Y, 3)


class NoBias(Model):
    """A dense network one of whose layers has no bias."""

    kind: str = "no-bias"

    def build(self, shape: tuple[int, ...], n_classes: int) -> nn.Module:
        """Return flatten, linear, tanh, linear."""
        return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 4), nn.Tanh(), nn.Linear(4, n_classes, False))


def results(model: Model, options: dict[str, Any]) -> list[Vector]:
    """Return what two trainings of each device, with and without a drift, and a gradient give."""
    parts = np.split(np.arange(sum(SIZES)), np.cumsum(SIZES)[:-1])
    settings = TrainSettings(learning_rate=0.1, batch_size=4, precision="float64", **options)
    trainer = Trainer(DATA, parts, model, settings, 7)
    w = [trainer.initial_params(device) for device in range(3)]
    jobs = [trainer.job(device, w[device], steps=2 + device) for device in range(3)]
    jobs += [trainer.job(device, w[device], steps=3, drift=0.01 * w[0]) for device in range(3)]
    jobs += [trainer.gradient_job(device, w[device]) for device in range(3)]
    trainer.compute(jobs)
    return [job.result for job in jobs if job.result is not None]


@pytest.mark.parametrize("model", [Mlp(hidden=(8, 5)), NoBias()], ids=lambda model: model.kind)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"loss": "squared"},
        {"momentum": 0.9, "momentum_across_rounds": "keep"},
        {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1, "clip": 0.2},
        {"weight_decay": 0.1, "schedule": Step(every=1, by=0.5)},
    ],
    ids=" ".join,
)
def test_one_device_after_another_is_what_a_stack_computes(
    model: Model, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = results(model, options)
    monkeypatch.setattr(stacked, "WORTHWHILE", 1)
    found = results(model, options)
    assert len(found) == 9
    for own, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(own, wanted, atol=1e-12)


@pytest.mark.parametrize(("devices", "hidden", "one_by_one"), [(2, 8, False), (2, 20_000, True), (1, 8, True)], ids=str)
def test_large_dense_networks_and_lone_devices_are_computed_one_by_one(
    devices: int, hidden: int, one_by_one: bool
) -> None:
    trainer = Trainer(DATA, [np.arange(4)] * devices, Mlp(hidden=(hidden,)), TrainSettings(), 7)
    assert (trainer._engine._one_by_one is not None) is one_by_one


def test_outputs_device_by_device_are_those_of_the_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(DATA, [np.arange(4)] * 3, Mlp(hidden=(8, 5)), TrainSettings(precision="float64"), 7)
    w = [trainer.initial_params(device) for device in range(3)]
    expected = trainer.evaluate(w)
    monkeypatch.setattr("p2pl_async.learning.networks._LARGE", 1)
    found = trainer.evaluate(w)
    np.testing.assert_array_equal(found.accuracy, expected.accuracy)
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-12)
