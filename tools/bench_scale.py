"""What many devices cost: set-up, CPU time per device-round and peak memory, each size in a process of its own.

    python tools/bench_scale.py [100 1000 10000] [--gossip 1000 100000]

- Learning: P2PL, MLP 784-50-10, random graph with 4 neighbors, 10 samples per step and 60 per device. At most 20 s
  of set-up and 8 GiB for 10,000 devices, and 1.15 x the CPU time per device-round of 100 devices.
- Gossip: `scenarios/gossip.toml`. At most 30 s of set-up and 6 GiB for 100,000 devices.

Set-up is everything before the first instant: the world, the trainer and the devices. Data are random and of
MNIST's shape. A device-round is the difference of two runs, so that set-up and the last evaluation don't count. The
peak is that of the larger one, which is the first.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from p2pl_async import load_scenario, run
from p2pl_async.scenario.scenario import Scenario

GOSSIP = Path(__file__).parents[1] / "scenarios" / "gossip.toml"
ROUNDS = (6, 2)
LEARNING = """
devices = {{ count = {devices}, compute = {{ per_epoch = "2 s", spread = 0.4, jitter = 0.1 }} }}
topology = {{ kind = "random-regular", degree = 4 }}
link.latency = {{ kind = "lognormal", mean = "20 ms", sd = "10 ms" }}
data = {{ dataset = {{ kind = "{data}", train = {samples} }}, test_samples = 100 }}
model = {{ kind = "mlp", hidden = [50] }}
protocol = {{ kind = "p2pl", sync = "none" }}
evaluate = {{ every = "1 h", samples = 1 }}
stop.rounds = {rounds}
"""


def scenario(text: str) -> Scenario:
    """Return the scenario in a text."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.toml"
        path.write_text(text, encoding="utf-8")
        return load_scenario(path)


def measured(settings: Scenario) -> dict[str, float]:
    """Run a scenario; return its seconds of set-up and of CPU time, and the peak memory up to now in GiB."""
    gc.collect()  # of the run before
    started = time.process_time()
    built = time.perf_counter()
    summary = run(settings).summary
    return {
        "setup": time.perf_counter() - built - sum(summary["wall"].values()) + summary["wall"]["setup"],
        "cpu": time.process_time() - started,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def learning(devices: int) -> dict[str, float]:
    """Return what a learning run of so many devices costs."""
    data = f"{Path(__file__).resolve().with_name('bench_run.py')}:RandomDigits"
    found = []
    for count, rounds in ((5, 1), *((devices, rounds) for rounds in ROUNDS)):  # the first imports what all need
        text = LEARNING.format(devices=count, data=data, samples=max(6_000, 60 * devices), rounds=rounds)
        found.append(measured(scenario(text)))
    many, few = found[1:]
    per_round = (many["cpu"] - few["cpu"]) / (ROUNDS[0] - ROUNDS[1]) / devices
    return {**many, "ms": 1e3 * per_round}


def gossip(devices: int) -> dict[str, float]:
    """Return what gossip among so many devices costs, up to half a virtual second."""
    found = measured(load_scenario(GOSSIP, [f"devices.count={devices}", 'stop.virtual_time="0.5 s"']))
    return {**found, "ms": 1e3 * found["cpu"] / devices}


def main() -> None:
    """Print a line per size."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("devices", type=int, nargs="*", default=[100, 1000, 10_000])
    parser.add_argument("--gossip", type=int, nargs="*", default=[])
    parser.add_argument("--one", choices=("learning", "gossip"), help="only print the figures of one size, as JSON")
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps((learning if chosen.one == "learning" else gossip)(chosen.devices[0])))
        return
    print(f"{'':>10} {'devices':>9} {'set-up':>9} {'CPU per device(-round)':>24} {'peak':>10}")
    for kind, sizes in (("learning", chosen.devices), ("gossip", chosen.gossip)):
        for devices in sizes:
            command = [sys.executable, __file__, str(devices), "--one", kind]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            print(
                f"{kind:>10} {devices:>9,} {found['setup']:>7.1f} s {found['ms']:>21.2f} ms {found['peak']:>6.2f} GiB",
                flush=True,
            )


if __name__ == "__main__":
    main()
