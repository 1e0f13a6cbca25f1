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

from p2pl_async import load_scenario, run
from p2pl_async.learning.data import Dataset, DataSource
from p2pl_async.scenario.scenario import Scenario

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
        return Dataset("random", x[:-10_000], y[:-10_000], x[-10_000:], y[-10_000:], 10)


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
    ours = 0.0
    for _ in range(3):
        wall = run(settings).summary["wall"]
        ours = max(ours, 100 * ROUNDS / (wall["training"] + wall["other"]))
    plain = [sys.executable, str(Path(__file__).with_name("plain_loop.py"))]
    theirs = float(subprocess.run(plain, check=True, capture_output=True, text=True).stdout)
    print(f"p2pl_async         {ours:7.0f} device-rounds per second")
    print(f"plain torch loop   {theirs:7.0f} device-rounds per second")
    print(f"ratio              {ours / theirs:7.2f}  (at least 2.5)")


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
