"""Models of devices: where they start, and where a run has left them."""

from __future__ import annotations

import numpy as np

from p2pl_async.device import Device
from p2pl_async.experiment.emulation import Emulation
from p2pl_async.messages import Vector


def start(n: int, size: int = 4, seed: int = 0) -> list[np.ndarray]:
    """Draw the initial models of n devices, each (size,)."""
    return list(np.random.default_rng(seed).normal(size=(n, size)))


def values(emulation: Emulation) -> np.ndarray:
    """Return the models of all devices, (n, size)."""
    return np.stack([model_of(device) for device in emulation.devices])


def model_of(device: Device) -> Vector:
    """Return the model of a device, which has one by now."""
    assert device.params is not None
    return device.params


def top_half(v: np.ndarray) -> np.ndarray:
    """Return v with the smaller half of the entries of each of its two halves set to 0."""
    q = np.zeros_like(v)
    for part in np.split(np.arange(v.size), 2):
        best = sorted(part, key=lambda i: (-abs(v[i]), i))[: part.size // 2]
        q[best] = v[best]
    return q
