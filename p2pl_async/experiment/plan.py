"""Run plans: what differs between a scenario's main run and its baselines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from p2pl_async.basics.arrays import Ints
from p2pl_async.device import Neighborhood
from p2pl_async.hardware.hardware import Hardware
from p2pl_async.messages import DeviceId
from p2pl_async.protocols.base import Protocol
from p2pl_async.protocols.local import Local
from p2pl_async.results.folder import RunFolder
from p2pl_async.scenario.building.world import World
from p2pl_async.scenario.tables import Stop


@dataclass(frozen=True)
class RunPlan:
    """One run over a world: the main run, or a baseline.

    Attributes:
        label: its name in tables and plots.
        protocol: run by every device.
        parts: for each device, its rows of the training data.
        out_neighbors: for each device, those that can ever hear it.
        neighborhood: the neighbors at each instant; None where they never change.
        hardware: each device's, made for this run.
        stop: the conditions that end it.
        folder: where results go; None for nowhere.
    """

    label: str
    protocol: Protocol
    parts: Sequence[Ints]
    out_neighbors: Sequence[Sequence[DeviceId]]
    neighborhood: Neighborhood | None
    hardware: Sequence[Hardware]
    stop: Stop
    folder: RunFolder | None


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
        out_neighbors=world.out_neighbors,
        neighborhood=world.neighborhood,
        hardware=world.conditions.hardware(),
        stop=scenario.stop,
        folder=folder,
    )


def local_plan(plan: RunPlan, world: World, until: float) -> RunPlan:
    """Return the plan of the same devices training alone.

    Args:
        plan: of the main run.
        world: of both.
        until: virtual second at which it ends.
    """
    how = {name: getattr(plan.protocol, name) for name in ("epochs", "steps") if hasattr(plan.protocol, name)}
    return replace(
        plan,
        label="local",
        protocol=Local(**how),
        out_neighbors=[[] for _ in plan.parts],
        neighborhood=None,
        hardware=world.conditions.hardware(),
        stop=Stop.model_construct(virtual_time=until, rounds=plan.stop.rounds, accuracy=None),
        folder=plan.folder and plan.folder.beside("local"),
    )


def central_plan(plan: RunPlan, n_samples: int, samples_trained: int) -> RunPlan:
    """Return the plan of one device with all data, which goes through as many samples as all devices did.

    Args:
        plan: of the main run.
        n_samples: training samples of the data set.
        samples_trained: samples that the devices of the main run went through, repetitions counted.
    """
    rounds = max(1, round(samples_trained / n_samples))
    return RunPlan(
        label="central",
        protocol=Local(),
        parts=[np.arange(n_samples)],
        out_neighbors=[[]],
        neighborhood=None,
        hardware=[Hardware()],
        stop=Stop.model_construct(virtual_time=None, rounds=rounds, accuracy=None),
        folder=plan.folder and plan.folder.beside("central"),
    )
