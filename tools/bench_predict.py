"""What predictions cost: time and memory.

    python tools/bench_predict.py [prediction] [kernel]

- prediction: 10 devices, 500 training points of 10 classes, 1,000 rounds of DGD on a ring, 784-W-10 with W = 256 and
  2,048 hidden units, the kernel apart (at most 20 s, whatever the width)
- kernel: 1,000 x 1,000 points of 784-1024-1024-10 (at most 2 minutes, 4 GiB)

Data are random and of MNIST's shape. Each part runs in a process of its own.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from p2pl_async import load_scenario
from p2pl_async.learning.data import Dataset, DataSource

SCENARIO = """
data = {{ dataset = "{source}:RandomDigits", train_samples = 500 }}
devices.count = 10
model = {{ kind = "mlp", hidden = [{width}], common_init = true }}
train = {{ loss = "squared", batch_size = "all", learning_rate = {rate}, precision = "{precision}" }}
protocol = {{ kind = "dgd", sync = "none" }}
evaluate.samples = 500
stop.rounds = 1000
"""


class RandomDigits(DataSource):
    """Random images of MNIST's shape."""

    kind: str = "random-digits"

    def load(self) -> Dataset:
        """Return the data."""
        random = np.random.default_rng(0)
        x = random.random((1500, 28, 28), np.float32)
        y = random.integers(10, size=len(x))
        return Dataset("random", x[:1000], y[:1000], x[1000:], y[1000:], 10)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def prediction() -> None:
    """Print the time of a prediction, without and with its kernel."""
    from p2pl_async.prediction.linearizing import linearize, method, mixing
    from p2pl_async.prediction.predicting import MOST_BYTES, predict_linearized
    from p2pl_async.scenario.building.world import build_world

    for width, precision in ((256, "float64"), (2048, "float64"), (2048, "float32")):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "bench.toml"
            source = Path(__file__).resolve()
            path.write_text(SCENARIO.format(source=source, width=width, rate=0.5 / width, precision=precision))
            scenario = load_scenario(path)
        world, how = build_world(scenario), method(scenario)
        started = time.perf_counter()
        devices = linearize(world, most_bytes=MOST_BYTES)
        middle = time.perf_counter()
        found = predict_linearized(world, devices, how, mixing(world, world.graph, how))
        end = time.perf_counter()
        print(
            f"10 devices, 500 points, 10 classes, {found.rounds[-1]} rounds, 784-{width}-10, {precision}: "
            f"{end - middle:.1f} s (at most 20), its kernels {middle - started:.1f} s, peak {_peak():.2f} GiB so far"
        )


def kernel() -> None:
    """Print the time and memory of a kernel."""
    import torch

    from p2pl_async.dynamics.kernels import gradient_gram
    from p2pl_async.learning.models import Mlp

    x = np.random.default_rng(0).random((1000, 28, 28))
    for dtype in (torch.float32, torch.float64):
        module = Mlp(hidden=(1024, 1024)).module((28, 28), 10, 0).to(dtype)
        started = time.perf_counter()
        gram = gradient_gram(module, x)
        seconds = time.perf_counter() - started
        print(
            f"kernel {gram.values.shape} of 784-1024-1024-10 on 1,000 points, {gram.values.dtype}: {seconds:.1f} s "
            f"(at most 120), peak {_peak():.2f} GiB (at most 4)"
        )
        del gram


def main() -> None:
    """Run the parts that are named, or all."""
    parts = {"prediction": prediction, "kernel": kernel}
    chosen = sys.argv[1:] or list(parts)
    if len(chosen) == 1:
        parts[chosen[0]]()
        return
    for name in chosen:
        subprocess.run([sys.executable, __file__, name], check=True)


if __name__ == "__main__":
    main()
