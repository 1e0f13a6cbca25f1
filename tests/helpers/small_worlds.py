"""Scenarios that run in a moment, and looking at the devices of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from p2pl_async.device import Device
from p2pl_async.experiment import running as experiment
from p2pl_async.experiment.emulation import Emulation
from p2pl_async.results.run import Run
from p2pl_async.scenario.scenario import Scenario


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table with another one over it; a `kind` that changes replaces the whole table."""
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        same = isinstance(value, Mapping) and isinstance(old, Mapping) and value.get("kind") in (None, old.get("kind"))
        result[key] = merged(old or {}, value) if same else value
    return result


def small(**changes: Any) -> Scenario:
    """Return a scenario of five devices on a ring that learn a part of the digits, with tables changed."""
    base = {
        "name": "small",
        "seed": 5,
        "devices": {"count": 5, "compute": {"per_epoch": "1 s", "spread": 0.3, "jitter": 0.1}},
        "topology": {"kind": "ring"},
        "link": {"latency": {"kind": "uniform", "low": "10 ms", "high": "60 ms"}, "loss": "10 %"},
        "data": {"dataset": "digits", "train_samples": 300},
        "model": {"kind": "mlp", "hidden": [12]},
        "train": {"learning_rate": 0.1, "batch_size": 10, "momentum": 0.5},
        "protocol": {"kind": "p2pl", "mode": "fresh"},
        "evaluate": {"samples": 100},
        "stop": {"rounds": 4},
    }
    return Scenario.model_validate(merged(base, changes))


def run_watched(scenario: Scenario, **how: Any) -> tuple[Run, list[list[Device]]]:
    """Run a scenario; return the results, and the devices of the main run and of each baseline."""
    seen: list[list[Device]] = []
    original: Callable[..., None] = Emulation.run

    def watch(self: Emulation, *args: Any, **kwargs: Any) -> None:
        seen.append(self.devices)
        original(self, *args, **kwargs)

    Emulation.run = watch  # type: ignore[method-assign]
    try:
        return experiment.run(scenario, **how), seen
    finally:
        Emulation.run = original  # type: ignore[method-assign]


def trace_of(run: Run) -> pd.DataFrame:
    """Return the trace of a run that kept one."""
    assert run.trace is not None
    return run.trace


def params_of(devices: list[Device]) -> NDArray[np.floating[Any]]:
    """Return the parameters of devices, stacked: (n, n_params)."""
    return np.stack([device.params for device in devices if device.params is not None])
