"""Influence: how much a sample of each device counted in a run, by the weights that its mixes gave."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from p2pl_async.basics.arrays import Floats
from p2pl_async.device import Device
from p2pl_async.dynamics.influence import distance_from_data, sample_weight, stationary
from p2pl_async.experiment.rig import Rig

_MOST = 1000  # devices; of more, the solution takes a second


def sample_weights(rig: Rig) -> Floats | None:
    """Return how much a sample of each device counted in what all minimized together, (n,); an average one counts 1.

    Weights, steps and step sizes are those of the whole run, whatever links and speeds made of them. Where devices
    share out mass (push-sum), the model that they come to is that of all mass together, so a step counts by the factor
    with which it entered it. Where a server averages, a training counts by its weight there. Copies that stand for
    models in mixes (CHOCO) count as the models. None where the protocol does none of it, nothing learns, or no common
    model forms.
    """
    n = len(rig.devices)
    if rig.trainer is None or not 1 < n <= _MOST or not any(rig.steps):
        return None
    if any(device.entered[1] for device in rig.devices):
        pi: Floats | None = _of_mass(rig.devices)
    else:
        pi = of_mixes(rig.devices, rig.jobs) if rig.plan.protocol.averages else None
    if pi is None:
        return None
    common = rig.world.scenario.train.learning_rate
    rates = np.array([own.learning_rate or common for own in rig.plan.own_training])
    pushes = np.array(rig.steps) * rates
    samples = np.array([len(part) for part in rig.plan.parts])
    return None if not (pi * pushes).any() else np.asarray(sample_weight(pi, pushes, samples), np.float64)


def _of_mass(devices: Sequence[Device]) -> Floats:
    """Return the mean factor with which each device's local steps entered the mass, (n,)."""
    return np.array([total / count if count else 0.0 for total, count in (device.entered for device in devices)])


def of_mixes(devices: Sequence[Device], jobs: Sequence[int]) -> Floats | None:
    """Return how much a local step of each device counts in the long run, by the weights of mixes, (n,).

    Args:
        devices: at the end of a run.
        jobs: trainings of each; where a server averages, each has a weight there, or none if it never came.
    """
    given = np.zeros((len(devices), len(devices)))
    for device in devices:
        if device.id in device.given:  # it is a server: others take over its model
            return np.array([device.given.get(j, 0.0) / max(jobs[j], 1) for j in range(len(devices))])
        for j, weight in device.given.items():
            given[device.id, j] = weight
    pi = stationary(given)
    return None if pi is None else np.asarray(pi, np.float64)


def summary_of(weights: Floats | None, rig: Rig) -> dict[str, float]:
    """Return what `summary.json` says of these weights; nothing if there are none."""
    if weights is None:
        return {}
    samples = np.array([len(part) for part in rig.plan.parts])
    return {
        "least_sample": float(weights.min()),
        "most_sample": float(weights.max()),
        "most_sample_of": int(weights.argmax()),
        "from_data": distance_from_data(weights, samples),
    }
