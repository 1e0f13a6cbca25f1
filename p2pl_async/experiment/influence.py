"""Influence: how much a sample of each device counted in a run, by the weights that its mixes gave."""

from __future__ import annotations

import numpy as np

from p2pl_async.basics.arrays import Floats
from p2pl_async.dynamics.influence import distance_from_data, sample_weight, stationary
from p2pl_async.experiment.rig import Rig

_MOST = 1000  # devices; of more, the solution takes a second


def sample_weights(rig: Rig) -> Floats | None:
    """Return how much a sample of each device counted in what all minimized together, (n,); an average one counts 1.

    Weights, steps and step sizes are those of the whole run, whatever links and speeds made of them. Where devices
    share out mass (push-sum), the model that they come to is that of all mass together, so a step counts by the factor
    with which it entered it. None where the protocol does neither, nothing learns, or no common model forms.
    """
    n = len(rig.devices)
    if rig.trainer is None or not 1 < n <= _MOST or not any(rig.steps):
        return None
    pi = _of_mass(rig) if any(device.entered[1] for device in rig.devices) else _of_mixes(rig)
    if pi is None:
        return None
    common = rig.world.scenario.train.learning_rate
    rates = np.array([own.learning_rate or common for own in rig.plan.own_training])
    pushes = np.array(rig.steps) * rates
    samples = np.array([len(part) for part in rig.plan.parts])
    return None if not (pi * pushes).any() else np.asarray(sample_weight(pi, pushes, samples), np.float64)


def _of_mass(rig: Rig) -> Floats:
    """Return the mean factor with which each device's local steps entered the mass, (n,)."""
    return np.array([total / count if count else 0.0 for total, count in (device.entered for device in rig.devices)])


def _of_mixes(rig: Rig) -> Floats | None:
    """Return how much each device's model counts in the long run, (n,)."""
    if not rig.plan.protocol.averages:
        return None
    given = np.zeros((len(rig.devices), len(rig.devices)))
    for device in rig.devices:
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
