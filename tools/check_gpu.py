"""Is a GPU right, and how fast is it? Below 5 minutes on one.

    python tools/check_gpu.py

Runs eight devices that learn the digits on the CPU and twice on the GPU: the network's digests are equal, both GPU
runs end with the same models, and accuracies differ by a point at most. Then device-steps per second (a batch of
32 samples of one of 100 devices) of a 2NN, a CNN and ResNet-20. Exit code 0: all right; 1: a check fails; 2: no GPU.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
import torch

from p2pl_async.experiment.running import run
from p2pl_async.learning.data import Dataset
from p2pl_async.learning.models import Cnn, Mlp, Model, ResNet20
from p2pl_async.learning.settings import TrainSettings
from p2pl_async.learning.trainer import Trainer
from p2pl_async.scenario.scenario import Scenario

DEVICES, BATCH, CLASSES, CLOSE = 100, 32, 10, 0.01
SPEEDS: dict[str, tuple[Model, tuple[int, ...], int]] = {
    "2NN, 784-200-200-10": (Mlp(hidden=(200, 200)), (28, 28), 50),
    "CNN 32-64, 28 x 28": (Cnn(), (28, 28), 10),
    "ResNet-20, 3 x 32 x 32": (ResNet20(), (3, 32, 32), 5),
}


def learn(accelerator: str, rounds: int = 10) -> dict[str, Any]:
    """Return the summary of eight devices that learn the digits."""
    table = {
        "devices": {"count": 8},
        "protocol": "p2pl",
        "model": {"kind": "mlp", "hidden": [64]},
        "train": {"learning_rate": 0.1, "accelerator": accelerator},
        "stop": {"rounds": rounds},
    }
    return run(Scenario.model_validate(table)).summary


def speed(model: Model, shape: tuple[int, ...], steps: int, accelerator: Any, devices: int = DEVICES) -> float:
    """Return device-steps per second, after one turn to warm up."""
    random = np.random.default_rng(0)
    x = random.normal(size=(devices * BATCH, *shape)).astype(np.float32)
    y = random.integers(CLASSES, size=len(x))
    data = Dataset("noise", x, y, x[:BATCH], y[:BATCH], CLASSES)
    settings = TrainSettings(learning_rate=0.01, batch_size=BATCH, accelerator=accelerator)
    trainer = Trainer(data, np.split(np.arange(len(x)), devices), model, settings, 1)
    params = [trainer.initial_params(device) for device in range(devices)]
    for _ in range(2):
        jobs = [trainer.job(device, w, steps=steps) for device, w in enumerate(params)]
        started = time.perf_counter()
        trainer.compute(jobs)
        seconds = time.perf_counter() - started
    return devices * steps / seconds


def checks(cpu: dict[str, Any], gpu: dict[str, Any], again: dict[str, Any]) -> dict[str, bool]:
    """Return what must hold of a run on the CPU and two on the GPU, and whether it does."""
    away = abs(cpu["accuracy"]["mean"] - gpu["accuracy"]["mean"])
    return {
        "network digest equal on CPU and GPU": cpu["trace_digest"] == gpu["trace_digest"],
        "network digest equal in two GPU runs": gpu["trace_digest"] == again["trace_digest"],
        "models equal in two GPU runs": gpu["params_digest"] == again["params_digest"],
        f"accuracy {gpu['accuracy']['mean']:.2%} within a point of the CPU's {cpu['accuracy']['mean']:.2%}": away
        <= CLOSE,
    }


def main() -> int:
    """Check and measure; return the exit code."""
    if not torch.cuda.is_available():
        print(
            f"there is no CUDA GPU that this PyTorch ({torch.__version__}) can use, so nothing was checked; "
            'run it where python -c "import torch; print(torch.cuda.is_available())" prints True',
            file=sys.stderr,
        )
        return 2
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    found = checks(learn("cpu"), learn("cuda"), learn("cuda"))
    for what, holds in found.items():
        print(f"  {'ok  ' if holds else 'FAIL'} {what}")
    print(f"device-steps per second, {DEVICES} devices, batches of {BATCH}")
    for name, (model, shape, steps) in SPEEDS.items():
        print(f"  {name:<24} {speed(model, shape, steps, 'cuda'):10.0f}")
    return 0 if all(found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
