"""Influence: how much a sample of each device counted in a run, by the weights that its mixes gave."""

from __future__ import annotations

import numpy as np

from p2pl_async.basics.arrays import Floats
from p2pl_async.dynamics.influence import distance_from_data, sample_weight, stationary
from p2pl_async.experiment.rig import Rig

_MOST = 1000  # devices; of more, the solution takes a second


def sample_weights(rig: Rig) -> Floats | None:
    """Return how much a sample of each device counted in what all minimized together, (n,); an average one counts 1.

    Weights, steps and step sizes are those of the whole run, whatever links and speeds made of them. None where the
    protocol doesn't average models, nothing learns, or no common model forms.
    """
    n = len(rig.devices)
    if not rig.plan.protocol.averages or rig.trainer is None or not 1 < n <= _MOST or not any(rig.steps):
        return None
    given = np.zeros((n, n))
    for device in rig.devices:
        for j, weight in device.given.items():
            given[device.id, j] = weight
    pi = stationary(given)
    if pi is None:
        return None
    common = rig.world.scenario.train.learning_rate
    rates = np.array([own.learning_rate or common for own in rig.plan.own_training])
    pushes = np.array(rig.steps) * rates
    samples = np.array([len(part) for part in rig.plan.parts])
    return None if not (pi * pushes).any() else np.asarray(sample_weight(pi, pushes, samples), np.float64)


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
