"""Dense networks: products device by device, and a device that is alone, give what a stack gives."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from p2pl_async.basics.arrays import Vector
from p2pl_async.learning import dense, group_size
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


def results(model: Model, options: dict[str, Any], *, alone: bool = False) -> list[Vector]:
    """Return what two trainings of each device, with and without a drift, and a gradient give."""
    parts = np.split(np.arange(sum(SIZES)), np.cumsum(SIZES)[:-1])
    settings = TrainSettings(learning_rate=0.1, batch_size=4, precision="float64", **options)
    trainer = Trainer(DATA, parts, model, settings, 7)
    w = [trainer.initial_params(device) for device in range(3)]
    jobs = [trainer.job(device, w[device], steps=2 + device) for device in range(3)]
    jobs += [trainer.job(device, w[device], steps=3, drift=0.01 * w[0]) for device in range(3)]
    jobs += [trainer.gradient_job(device, w[device]) for device in range(3)]
    for some in [[job] for job in jobs] if alone else [jobs]:
        trainer.compute(some)
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
def test_products_device_by_device_are_those_of_a_stack(
    model: Model, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = results(model, options)
    monkeypatch.setattr(dense, "_LARGE", 1)
    found = results(model, options)
    assert len(found) == 9
    for own, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(own, wanted, atol=1e-12)


@pytest.mark.parametrize("large", [1, 100_000], ids=["device by device", "stacked"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_device_that_is_alone_has_the_bits_that_it_has_beside_others(
    momentum: float, large: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dense, "_LARGE", large)
    options = {"momentum": momentum, "momentum_across_rounds": "reset"} if momentum else {}
    for own, wanted in zip(
        results(Mlp(hidden=(8, 5)), options, alone=True), results(Mlp(hidden=(8, 5)), options), strict=True
    ):
        np.testing.assert_array_equal(own, wanted)


def test_the_only_device_of_a_run_is_trained_as_if_there_were_others() -> None:
    settings = TrainSettings(learning_rate=0.1, batch_size=4, precision="float64")
    found = []
    for devices in (1, 2):
        trainer = Trainer(DATA, [np.arange(12)] * devices, Mlp(hidden=(8,)), settings, 7)
        job = trainer.job(0, trainer.initial_params(0), steps=5)
        trainer.compute([job])
        assert job.result is not None
        found.append(job.result)
    np.testing.assert_allclose(found[0], found[1], atol=1e-12)


_SMALL_L2 = [7, 10, 4, 3, 3, 1]


@pytest.mark.parametrize(("l2", "expected"), [(2**21, [4, 5, 4, 1, 1, 1]), (2**19, _SMALL_L2), (0, _SMALL_L2)])
def test_groups_of_devices_fit_a_cache(l2: int, expected: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_size, "l2_bytes", lambda: l2)

    def group(*hidden: int, **options: Any) -> int:
        return Trainer(DATA, [np.arange(4)] * 2, Mlp(hidden=hidden), TrainSettings(**options), 7).engine.group

    assert group(8) == 128  # calls of torch cost more than the cache saves
    sizes = [(9_000, 0.0), (6_000, 0.0), (2**13, 0.9), (2**14, 0.0), (2**14, 0.9), (2**18, 0.0)]
    assert [group(hidden, momentum=momentum) for hidden, momentum in sizes] == expected


def test_the_size_of_the_cache_is_what_the_system_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "size"
    monkeypatch.setattr(group_size, "_L2", file)
    assert group_size.l2_bytes.__wrapped__() == 0
    file.write_text("2048K\n")
    assert group_size.l2_bytes.__wrapped__() == 2**21


@pytest.mark.parametrize("hidden", [(60_000,), (100,)], ids=["device by device", "stacked"])
def test_a_group_does_not_matter_to_bits(hidden: tuple[int, ...]) -> None:
    found = []
    for group in (1, 2, 3):
        trainer = Trainer(DATA, [np.arange(4)] * 3, Mlp(hidden=hidden), TrainSettings(batch_size=3), 7)
        assert bool(trainer.engine._filler) == (hidden == (100,))
        trainer.engine.group = group
        jobs = [trainer.job(device, trainer.initial_params(device), steps=3) for device in range(3)]
        trainer.compute(jobs)
        found.append([job.result for job in jobs])
    for others in found[1:]:
        np.testing.assert_array_equal(others, found[0])


def test_outputs_device_by_device_are_those_of_the_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(DATA, [np.arange(4)] * 3, Mlp(hidden=(8, 5)), TrainSettings(precision="float64"), 7)
    w = [trainer.initial_params(device) for device in range(3)]
    expected = trainer.evaluate(w)
    monkeypatch.setattr("p2pl_async.learning.dense._LARGE", 1)
    found = trainer.evaluate(w)
    np.testing.assert_array_equal(found.accuracy, expected.accuracy)
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-12)
