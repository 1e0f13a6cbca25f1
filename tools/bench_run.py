"""What a whole run costs beside training, and how much memory; ratios where there is something to compare.

    python tools/bench_run.py [overhead] [memory] [common]

- overhead: P2PL, 100 devices, 784-200-200-10, 4-regular graph, lossy links: the share of the wall
  time that is neither training nor evaluation (at most 10 %)
- memory: P2PL, 1,000 devices, 784-50-10: peak resident memory (less than 6 GiB)
- common: 100 devices, MLP 784-64-10, 5 local steps of batch 32, ring, averaging with neighbors,
  20 repetitions, real messages over links with latency, no evaluation: device-rounds per second
  against a plain torch loop over 100 models without any network (at least 2.5 x)

Data are random and of MNIST's shape, so nothing is downloaded. Each part runs in a process of its own.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from p2pl_async import load_scenario, run
from p2pl_async.learning.data import Dataset, DataSource
from p2pl_async.scenario.schema import Scenario

ROUNDS = 20


class RandomDigits(DataSource):
    """Random images of MNIST's shape: the same work, no download."""

    kind: str = "random-digits"
    train: int = 60_000

    def load(self) -> Dataset:
        """Return the data."""
        random = np.random.default_rng(0)
        x = random.random((self.train + 10_000, 28, 28), np.float32)
        y = random.integers(10, size=len(x))
        return Dataset("random", x[: -10_000], y[: -10_000], x[-10_000:], y[-10_000:], 10)


def scenario(text: str) -> Scenario:
    """Return a scenario on the random data."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.toml"
        path.write_text(f'data.dataset = "{Path(__file__).resolve()}:RandomDigits"\n{text}', encoding="utf-8")
        return load_scenario(path)


P2PL = """
[devices]
count = {devices}
compute = {{ per_epoch = "2 s", spread = 0.4, jitter = 0.1 }}
[topology]
kind = "random-regular"
degree = 4
[link]
latency = {{ kind = "lognormal", mean = "20 ms", sd = "10 ms" }}
loss = {{ kind = "gilbert-elliott", good = "2 s", bad = "200 ms" }}
rate = "20 Mbit/s"
[model]
kind = "mlp"
hidden = {hidden}
[train]
momentum = 0.5
[protocol]
kind = "p2pl"
[stop]
virtual_time = "{until}"
"""


def overhead() -> None:
    """Print the share of the wall time outside training and evaluation."""
    summary = run(scenario(P2PL.format(devices=100, hidden="[200, 200]", until="60 s"))).summary
    wall, parts = summary["wall_seconds"], summary["wall"]
    shares = {name: f"{100 * seconds / wall:.1f} %" for name, seconds in parts.items()}
    print(f"P2PL, 100 devices, 2NN, 60 virtual s: {wall:.1f} s wall; {shares}  (other: at most 10 %)")
    print(f"  {summary['messages']['sent']} messages; mean batch {summary['training']['mean_batch']:.1f} (at least 15)")


def memory() -> None:
    """Print the peak resident memory of 1,000 devices."""
    started = time.perf_counter()
    summary = run(scenario(P2PL.format(devices=1000, hidden="[50]", until="30 s"))).summary
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    seconds = time.perf_counter() - started
    print(
        f"P2PL, 1,000 devices, 784-50-10, 30 virtual s: peak {peak:.2f} GiB (less than 6), {seconds:.0f} s wall, "
        f"{summary['messages']['sent']} messages"
    )


def common() -> None:
    """Print device-rounds per second of the common comparison job, ours and a plain loop's."""
    text = f"""
    devices = {{ count = 100, compute = "1 s" }}
    topology = "ring"
    link.latency = {{ kind = "lognormal", mean = "20 ms", sd = "10 ms" }}
    model = {{ kind = "mlp", hidden = [64], common_init = true }}
    train = {{ batch_size = 32, learning_rate = 0.05 }}
    protocol = {{ kind = "p2pl", sync = "none", steps = 5, weights = "uniform", mode = "barrier" }}
    evaluate = {{ every = "1 h", samples = 1 }}
    stop.rounds = {ROUNDS}
    """
    settings = scenario(text)
    data = settings.data.load(settings.seed) if settings.data else None
    assert data is not None
    rates: dict[str, float] = {"p2pl_async": 0.0, "plain torch loop": 0.0}
    for _ in range(3):
        summary = run(settings).summary
        seconds = summary["wall_seconds"] - summary["wall"]["evaluation"]
        rates["p2pl_async"] = max(rates["p2pl_async"], 100 * ROUNDS / seconds)
        started = time.perf_counter()
        plain_loop(data)
        rates["plain torch loop"] = max(rates["plain torch loop"], 100 * ROUNDS / (time.perf_counter() - started))
    for name, rate in rates.items():
        print(f"{name:18s} {rate:7.0f} device-rounds per second")
    print(f"ratio              {rates['p2pl_async'] / rates['plain torch loop']:7.2f}  (at least 2.5)")


def plain_loop(data: Dataset) -> None:
    """Do the common job the plain way: 100 modules one after another, no network, no messages."""
    x, y = torch.tensor(data.x_train).flatten(1), torch.tensor(data.y_train)
    modules = [nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10)) for _ in range(100)]
    optimizers = [torch.optim.SGD(module.parameters(), lr=0.05) for module in modules]
    random = np.random.default_rng(0)
    for _ in range(ROUNDS):
        for k, (module, optimizer) in enumerate(zip(modules, optimizers, strict=True)):
            for _ in range(5):
                rows = torch.from_numpy(random.integers(600 * k, 600 * (k + 1), 32))
                optimizer.zero_grad()
                nn.functional.cross_entropy(module(x[rows]), y[rows]).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
        with torch.no_grad():
            flat = [nn.utils.parameters_to_vector(module.parameters()) for module in modules]
            for k, module in enumerate(modules):
                mean = (flat[k - 1] + flat[k] + flat[(k + 1) % 100]) / 3
                nn.utils.vector_to_parameters(mean, module.parameters())


def main() -> None:
    """Run the parts that are named, or all."""
    parts = {"overhead": overhead, "memory": memory, "common": common}
    chosen = sys.argv[1:] or list(parts)
    if len(chosen) == 1:
        parts[chosen[0]]()
        return
    for name in chosen:
        subprocess.run([sys.executable, __file__, name], check=True)


if __name__ == "__main__":
    main()
