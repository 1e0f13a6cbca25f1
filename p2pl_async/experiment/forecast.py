"""What a run will take, told before it starts: memory and time, estimated from counts.

scenario -> count of devices -> refused at once if they alone don't fit
world, trainer -> links, models and data too -> Forecast
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from p2pl_async.basics.units import show_seconds
from p2pl_async.errors import Problem, ScenarioError
from p2pl_async.learning.data import Dataset
from p2pl_async.scenario.building.world import World
from p2pl_async.scenario.scenario import Scenario

if TYPE_CHECKING:
    from p2pl_async.learning.trainer import Trainer

# Rough bytes of a device, a link and a message, on the safe side.
_PROCESS = 300 << 20  # bytes: Python and its libraries
_DEVICE = 24 << 10  # bytes of a device without models
_LINK = 6 << 10  # bytes of a link in one direction, its random streams included
_OWN_MODELS = 5  # copies of the model that a device holds: its own, those being trained, those evaluated


@dataclass(frozen=True)
class Forecast:
    """What a run will take.

    Attributes:
        devices: how many.
        links: how many, each direction counted.
        params: of the model; 0 if nothing learns.
        samples: training samples of all devices.
        memory: bytes, about.
        steps: mini-batches of all devices; None if unknown.
        step_seconds: seconds that one took, computed alone.
    """

    devices: int
    links: int
    params: int
    samples: int
    memory: float
    steps: float | None = None
    step_seconds: float = 0.0

    def __str__(self) -> str:
        said = f"{self.devices} devices, {self.links} links"
        if self.params:
            said += f", {self.params} parameters, {self.samples} training samples"
        said += f"; about {_gib(self.memory)} of memory"
        if self.steps:
            said += f", and at most about {float(f'{self.steps:.3g}'):,.0f} mini-batches"
        if self.steps and self.step_seconds:
            longest = show_seconds(float(f"{self.steps * self.step_seconds:.2g}"))
            said += f", which take {longest} if each is computed alone"
        return said


def memory_of_machine() -> float:
    """Return the memory of this machine in bytes; infinite if unknown."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        return float("inf")


def check_counts(scenario: Scenario) -> None:
    """Refuse a scenario whose devices alone don't fit into memory, before any of them is made.

    Raises:
        ScenarioError: with the numbers, and what to lower.
    """
    count = scenario.devices.count
    _refuse_beyond(scenario, _PROCESS + count * (_DEVICE + _LINK), f"{count} devices")


def make_trainer(world: World) -> Trainer | None:
    """Return the trainer of a world's devices; None if nothing learns.

    Raises:
        ScenarioError: if the model doesn't fit the data, or the accelerator is missing.
    """
    if world.dataset is None:
        return None
    from p2pl_async.learning.trainer import Trainer

    scenario = world.scenario
    return Trainer(
        world.dataset,
        world.parts,
        scenario.model,
        scenario.train,
        scenario.seed,
        subset=scenario.evaluate.samples,
        own_training=scenario.devices.trainings(),
    )


def try_out(trainer: Trainer) -> float:
    """Train three mini-batches and evaluate once, on real samples; return the seconds that a mini-batch took.

    The trainer must not be used in a run afterwards: it has drawn batches.

    Raises:
        ScenarioError: if the model can't be trained on these data.
    """
    w = trainer.initial_params(0)
    trainer.compute([trainer.job(0, w, steps=1)])  # the first takes longer
    started = time.perf_counter()
    trainer.compute([trainer.job(0, w, steps=2)])
    seconds = (time.perf_counter() - started) / 2
    trainer.evaluate([w], "subset", devices=[0])
    return seconds


def forecast(world: World, trainer: Trainer | None, step_seconds: float = 0.0) -> Forecast:
    """Return what a run over a world will take.

    Args:
        world: of the run.
        trainer: its trainer; None if nothing learns.
        step_seconds: what a mini-batch takes, computed alone; 0 if unknown.

    Raises:
        ScenarioError: if memory doesn't suffice.
    """
    scenario = world.scenario
    devices, links = scenario.devices.count, world.graph.number_of_edges()
    memory = float(_PROCESS + devices * _DEVICE + links * _LINK)
    if world.dataset is None or trainer is None:
        _refuse_beyond(scenario, memory, f"{devices} devices with {links} links")
        return Forecast(devices, links, 0, 0, memory)
    heard = links / devices * (scenario.protocol.models_per_message or 1.0)
    workers = 0 if scenario.train.workers == "auto" else scenario.train.workers
    if workers:
        memory += workers * _PROCESS + _bytes(world.dataset)
    copies = _OWN_MODELS + heard + (1 if scenario.train.momentum else 0)
    memory += devices * copies * trainer.n_params * np.dtype(scenario.train.precision).itemsize + _bytes(world.dataset)
    what = f"{devices} devices with {links} links and models of {trainer.n_params} parameters"
    _refuse_beyond(scenario, memory, what)
    per_epoch = [trainer.batches_per_epoch(k) for k in range(devices)]
    samples = sum(map(len, world.parts))
    return Forecast(devices, links, trainer.n_params, samples, memory, _steps(scenario, per_epoch), step_seconds)


def _steps(scenario: Scenario, per_epoch: list[int]) -> float | None:
    """Return how many mini-batches all devices will take, as far as rounds or the time tell; else None."""
    protocol, stop = scenario.protocol, scenario.stop
    steps, epochs = getattr(protocol, "steps", None), getattr(protocol, "epochs", None)
    per_round = sum(per_epoch) * epochs if steps is None and epochs else len(per_epoch) * (steps or 1)
    found = []
    if stop.rounds is not None:
        found.append(float(stop.rounds * per_round))
    if stop.virtual_time is not None:
        passes = [each.per_epoch for each in scenario.devices.computes()]
        if all(seconds is not None for seconds in passes):
            found.append(
                sum(stop.virtual_time / s * count for s, count in zip(passes, per_epoch, strict=True) if s is not None)
            )
    return min(found, default=None)


def _bytes(dataset: Dataset) -> float:
    return float(dataset.x_train.nbytes + dataset.x_test.nbytes)


def _refuse_beyond(scenario: Scenario, memory: float, what: str) -> None:
    machine = memory_of_machine()
    if memory > machine:
        text = (
            f"{what} take about {_gib(memory)} of memory, and this machine has {_gib(machine)}; lower devices.count, "
            "the topology's degree, or the size of the model"
        )
        raise ScenarioError(scenario.name, [Problem("devices.count", text, scenario.devices.count)])


def _gib(size: float) -> str:
    return f"{size / (1 << 30):.3g} GiB"
