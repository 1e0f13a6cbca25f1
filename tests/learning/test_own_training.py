"""Devices and groups with a learning rate, batch size and number of epochs of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from p2pl_async.basics.arrays import Vector
from p2pl_async.errors import ScenarioError
from p2pl_async.experiment.running import run
from p2pl_async.learning.data import Dataset
from p2pl_async.learning.models import Mlp
from p2pl_async.learning.settings import OwnTraining, Step, TrainSettings
from p2pl_async.learning.trainer import Trainer
from p2pl_async.prediction import predict
from p2pl_async.scenario.scenario import Scenario
from p2pl_async.scenario.tables import DeviceSettings

RANDOM = np.random.default_rng(1)
X, Y = RANDOM.normal(size=(60, 4)).astype(np.float32), RANDOM.integers(3, size=60)
DATA = Dataset("noise", X, Y, X[:9], Y[:9], 3)
PARTS = np.split(np.arange(60), 3)


def ends(
    settings: TrainSettings, own: list[OwnTraining], epochs: int | None = 2, steps: int | None = None
) -> list[Vector]:
    trainer = Trainer(DATA, PARTS, Mlp(hidden=(5,)), settings, 1, own_training=own)
    jobs = [trainer.job(device, trainer.initial_params(device), epochs=epochs, steps=steps) for device in range(3)]
    trainer.compute(jobs)
    return [job.result for job in jobs if job.result is not None]


@pytest.mark.parametrize("schedule", [{}, {"schedule": Step(every=1, by=0.5), "momentum": 0.5}])
@pytest.mark.parametrize("own", [{"learning_rate": 0.3}, {"batch_size": 4}, {"batch_size": "all"}, {"epochs": 5}])
def test_a_device_trains_as_if_all_had_its_settings(own: dict[str, Any], schedule: dict[str, Any]) -> None:
    usual = TrainSettings(learning_rate=0.1, **schedule)
    shared = {key: value for key, value in own.items() if key != "epochs"}
    others = TrainSettings(**{"learning_rate": 0.1, **schedule, **shared})
    mixed = ends(usual, [OwnTraining(), OwnTraining(**own), OwnTraining()])
    plain, changed = ends(usual, []), ends(others, [], own.get("epochs", 2))
    for device, expected in enumerate([plain[0], changed[1], plain[2]]):
        np.testing.assert_allclose(mixed[device], expected, rtol=1e-5, atol=1e-7)
    assert not np.allclose(mixed[1], plain[1], rtol=1e-3)


def test_a_training_in_steps_takes_those_steps() -> None:
    settings = TrainSettings()
    several = ends(settings, [OwnTraining(epochs=7)] * 3, None, 2)
    np.testing.assert_array_equal(several, ends(settings, [], None, 2))


def test_the_learning_rate_that_protocols_see_is_the_device_s() -> None:
    own = [OwnTraining(), OwnTraining(learning_rate=0.3), OwnTraining()]
    trainer = Trainer(DATA, PARTS, Mlp(hidden=(5,)), TrainSettings(learning_rate=0.1), 1, own_training=own)
    assert [trainer.learning_rate(device) for device in range(3)] == [0.1, 0.3, 0.1]


def test_the_later_group_wins_key_by_key() -> None:
    groups = {"all": {"ids": "*", "train": {"epochs": 2, "batch_size": 5}}, "one": {"ids": 1, "train": {"epochs": 3}}}
    devices = DeviceSettings.model_validate({"count": 3, "group": groups})
    assert devices.trainings() == [OwnTraining(batch_size=5, epochs=epochs) for epochs in (2, 3, 2)]


def test_a_group_of_a_scenario_trains_as_it_says() -> None:
    table = {"devices": {"count": 3, "group": {"keen": {"ids": 1, "train": {"epochs": 4}}}}}
    more: dict[str, Any] = {"data": {"train_samples": 90}, "protocol": "local", "stop": {"rounds": 1}}
    result = run(Scenario.model_validate({**table, **more}))
    assert result.summary["training"]["samples"] == 30 * (1 + 4 + 1)
    assert result.summary["virtual_seconds"] == 4.0


def test_a_mistake_in_a_group_is_named() -> None:
    group = {"keen": {"ids": 1, "train": {"learning_rate": -1.0}}}
    with pytest.raises(ValidationError, match=r"group\.keen\.train\.learning_rate"):
        DeviceSettings.model_validate({"count": 3, "group": group})


def test_a_prediction_refuses_learning_rates_of_its_own() -> None:
    group = {"keen": {"ids": 1, "train": {"learning_rate": 0.3}}}
    table = {"devices": {"count": 3, "group": group}, "protocol": "dgd", "stop": {"rounds": 1}}
    with pytest.raises(ScenarioError, match=r"devices\.group\.keen\.train\n.*must be left out"):
        predict(Scenario.model_validate(table))
