"""Run plans: what differs between a scenario's main run and its baselines."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from p2pl_async.basics.arrays import Ints
from p2pl_async.experiment.replaying import Replay, Trainings
from p2pl_async.hardware.hardware import Hardware
from p2pl_async.learning.settings import OwnTraining
from p2pl_async.messages import DeviceId
from p2pl_async.protocols.base import Protocol
from p2pl_async.results.folder import RunFolder
from p2pl_async.scenario.building.world import World
from p2pl_async.scenario.tables import Stop
from p2pl_async.topology.neighborhood import Neighborhood


@dataclass(frozen=True)
class RunPlan:
    """One run over a world: the main run, or a baseline.

    Attributes:
        label: its name in tables and plots.
        protocol: run by every device.
        parts: for each device, its rows of the training data.
        own_training: for each device, what it has for itself instead of keys of `[train]`.
        out_neighbors: for each device, those that can ever hear it.
        neighborhood: the neighbors at each instant; None where they never change.
        hardware: each device's, made for this run.
        stop: the conditions that end it.
        folder: where results go; None for nowhere.
        interval: virtual seconds between two evaluations; None if the scenario decides.
    """

    label: str
    protocol: Protocol
    parts: Sequence[Ints]
    own_training: Sequence[OwnTraining]
    out_neighbors: Sequence[Sequence[DeviceId]]
    neighborhood: Neighborhood | None
    hardware: Sequence[Hardware]
    stop: Stop
    folder: RunFolder | None
    interval: float | None = None


def main_plan(world: World, folder: RunFolder | None) -> RunPlan:
    """Return the plan of the scenario's own protocol.

    Raises:
        ScenarioError: if a trace of the devices' churn can't be used.
    """
    scenario = world.scenario
    return RunPlan(
        label=scenario.protocol.kind.rpartition(":")[2],  # "Gossip" of "gossip.py:Gossip"
        protocol=scenario.protocol,
        parts=world.parts,
        own_training=scenario.devices.trainings(),
        out_neighbors=world.out_neighbors,
        neighborhood=world.neighborhood,
        hardware=world.conditions.hardware(),
        stop=scenario.stop,
        folder=folder,
    )


def local_plan(plan: RunPlan, world: World, trainings: tuple[Trainings, ...], interval: float) -> RunPlan:
    """Return the plan of the same devices training alone, as much and at the instants as in the main run.

    Args:
        plan: of the main run.
        world: of both.
        trainings: each device's in the main run.
        interval: virtual seconds between two evaluations of the main run.
    """
    return replace(
        plan,
        label="local",
        protocol=Replay(trainings=trainings),
        out_neighbors=[[] for _ in plan.parts],
        neighborhood=None,
        hardware=world.conditions.hardware(),
        stop=_rounds(max((len(one.starts) for one in trainings), default=0)),
        folder=plan.folder and plan.folder.beside("local"),
        interval=interval,
    )


def central_plan(plan: RunPlan, n_samples: int, samples_trained: int, batch_size: int) -> RunPlan:
    """Return the plan of one device with all data, which goes through as many samples as all devices did.

    Its rounds are passes over the data, and the last one as much of a pass as is left, to half a mini-batch.

    Args:
        plan: of the main run.
        n_samples: training samples of the data set.
        samples_trained: samples that the devices of the main run went through, repetitions counted.
        batch_size: samples of its mini-batches.
    """
    passes, rest = divmod(samples_trained, n_samples)
    steps = [-(-n_samples // batch_size)] * passes + [round(rest / batch_size)]
    trainings = Trainings()
    trainings.steps = array("q", (count for count in steps if count))
    trainings.starts = array("d", bytes(8 * len(trainings.steps)))
    return RunPlan(
        label="central",
        protocol=Replay(trainings=(trainings,)),
        parts=[np.arange(n_samples)],
        own_training=[OwnTraining()],
        out_neighbors=[[]],
        neighborhood=None,
        hardware=[Hardware()],
        stop=_rounds(len(trainings.steps)),
        folder=plan.folder and plan.folder.beside("central"),
    )


def _rounds(rounds: int) -> Stop:
    """Return the end of a baseline, whose devices stop by themselves: how far it is shows in its rounds."""
    return Stop.model_construct(virtual_time=None, rounds=rounds or None, accuracy=None, metric=None)
