"""The common comparison job the plain way: 100 torch modules one after another, no network, no messages.

    python tools/plain_loop.py

Prints device-rounds per second; `tools/bench_run.py common` calls it in a process of its own, in which
nothing of this package has touched torch's settings.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import nn

DEVICES, ROUNDS, STEPS, BATCH = 100, 20, 5, 32


def main() -> None:
    """Time it three times; print the best."""
    random = np.random.default_rng(0)
    x = torch.from_numpy(random.random((60_000, 784), np.float32))
    y = torch.from_numpy(random.integers(10, size=60_000))
    best = 0.0
    for _ in range(3):
        modules = [nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10)) for _ in range(DEVICES)]
        optimizers = [torch.optim.SGD(module.parameters(), lr=0.05) for module in modules]
        started = time.perf_counter()
        for _ in range(ROUNDS):
            for k, (module, optimizer) in enumerate(zip(modules, optimizers, strict=True)):
                for _ in range(STEPS):
                    rows = torch.from_numpy(random.integers(600 * k, 600 * (k + 1), BATCH))
                    optimizer.zero_grad()
                    nn.functional.cross_entropy(module(x[rows]), y[rows]).backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
            with torch.no_grad():
                flat = [nn.utils.parameters_to_vector(module.parameters()) for module in modules]
                for k, module in enumerate(modules):
                    mean = (flat[k - 1] + flat[k] + flat[(k + 1) % DEVICES]) / 3
                    nn.utils.vector_to_parameters(mean, module.parameters())
        best = max(best, DEVICES * ROUNDS / (time.perf_counter() - started))
    print(best)


if __name__ == "__main__":
    main()
