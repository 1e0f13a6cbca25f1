"""Deep networks: time per sample in a run's trainer, against the leanest plain torch loop, one process and one thread.

    python tools/bench_networks.py                    # cnn 32-64 and ResNet-20, batches of 32
    python tools/bench_networks.py --batch 128 --options

The plain loop has no DataLoader and no optimizer object: it takes rows of a tensor, and subtracts gradients. It is
timed with images in both memory formats, and the faster one counts. Loops take turns, and the least time of each
counts, so that a busy machine slows all of them. With `--options` the trainer is also timed with lower precision.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from p2pl_async.learning.data import Dataset
from p2pl_async.learning.models import Cnn, Model, ResNet20
from p2pl_async.learning.settings import TrainSettings
from p2pl_async.learning.trainer import Trainer

SHAPE, CLASSES, RATE = (3, 32, 32), 10, 0.01
MODELS: dict[str, Model] = {"cnn 32-64": Cnn(kernel=3, hidden=(64,)), "resnet-20": ResNet20()}


def plain(model: Model, data: Dataset, batch: int, memory: torch.memory_format) -> Callable[[int], None]:
    """Return the leanest loop: a function that trains so many steps."""
    module = model.module(SHAPE, CLASSES, 1).train()
    x = torch.tensor(data.x_train).contiguous(memory_format=memory)
    y = torch.tensor(data.y_train)
    parameters: list[Tensor] = list(module.parameters())

    def steps(count: int) -> None:
        for step in range(count):
            rows = torch.arange(step * batch, (step + 1) * batch) % len(x)
            loss = nn.functional.cross_entropy(module(x[rows]), y[rows])
            gradients = torch.autograd.grad(loss, parameters)
            with torch.no_grad():
                torch._foreach_add_(parameters, gradients, alpha=-RATE)

    return steps


def trainer(model: Model, data: Dataset, batch: int, **options: Any) -> Callable[[int], None]:
    """Return the same work as one device's job."""
    settings = TrainSettings.model_validate({"learning_rate": RATE, "batch_size": batch, **options})
    made = Trainer(data, [np.arange(len(data.y_train))], model, settings, 1)
    w = made.initial_params(0)
    return lambda count: made.compute([made.job(0, w, steps=count)])


def measure(loops: dict[str, Callable[[int], None]], steps: int, turns: int) -> dict[str, float]:
    """Return the least seconds per step of each loop."""
    least = dict.fromkeys(loops, float("inf"))
    for _ in range(turns):
        for name, loop in loops.items():
            start = time.perf_counter()
            loop(steps)
            least[name] = min(least[name], (time.perf_counter() - start) / steps)
    return least


def main() -> None:
    """Print a line per model."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--options", action="store_true", help="also with lower precision")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    x = random.normal(size=(512, *SHAPE)).astype(np.float32)
    y = random.integers(CLASSES, size=len(x))
    data = Dataset("noise", x, y, x[:32], y[:32], CLASSES)
    for name, model in MODELS.items():
        loops = {
            "plain": plain(model, data, arguments.batch, torch.contiguous_format),
            "plain, channels last": plain(model, data, arguments.batch, torch.channels_last),
            "trainer": trainer(model, data, arguments.batch),
        }
        if arguments.options:
            loops["trainer, matmul medium"] = trainer(model, data, arguments.batch, matmul="medium")
            loops["trainer, autocast bfloat16"] = trainer(model, data, arguments.batch, autocast="bfloat16")
        found = measure(loops, arguments.steps, arguments.turns)
        best = min(found["plain"], found["plain, channels last"])
        print(f"{name}, batch {arguments.batch}, one thread")
        for loop, seconds in found.items():
            print(f"  {loop:<28} {seconds / arguments.batch * 1e6:8.0f} us a sample   {seconds / best:5.2f} x")


if __name__ == "__main__":
    main()
