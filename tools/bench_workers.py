"""What worker processes gain: wall and CPU time per device-round with and without, in interleaved processes.

    python tools/bench_workers.py [--workers 0 2] [--times 5] [--rounds 40] [common] [wide] [conv]

- common: 100 devices, MLP 784-64-10, 5 steps of 32, ring, averaging with neighbors, real messages over links with
  latency. Goal on two idle cores: 0.7 ms of wall time.
- wide: the same with 784-200-200-10, of which few devices are computed at once: a message holds more.
- conv: 10 devices, a CNN of 16 and 32 channels on 28 x 28 pixels, which doesn't batch: one device per core at a time.

Measured from the first instant to the last, without evaluation and without the workers' start, which each run waits
for. CPU time is that of all processes together; medians, and in brackets the least and the greatest. Each number of
workers must give the same digests. Linux only: workers' CPU time is read from /proc.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import bench_run

from p2pl_async import run
from p2pl_async.experiment.emulation import Emulation
from p2pl_async.learning.processes import WorkerProcesses

TEXT = """
data.test_samples = 100
devices = {{ count = {devices}, compute = {{ per_epoch = "2 s", spread = 0.4, jitter = 0.1 }} }}
topology.kind = "ring"
link.latency = {{ kind = "lognormal", mean = "20 ms", sd = "10 ms" }}
model = {model}
train = {{ batch_size = 32, workers = {workers} }}
protocol = {{ kind = "p2pl", sync = "none", steps = 5, weights = "uniform" }}
evaluate = {{ every = "1 h", samples = 1 }}
stop.rounds = {rounds}
"""
JOBS = {
    "common": (100, '{ kind = "mlp", hidden = [64] }'),
    "wide": (100, '{ kind = "mlp", hidden = [200, 200] }'),
    "conv": (10, '{ kind = "cnn", channels = [16, 32], norm = "batch" }'),
}
TICK = os.sysconf("SC_CLK_TCK")


def cpu_of(pid: int) -> float:
    """Return the seconds of CPU time that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def measured(job: str, workers: int, rounds: int) -> dict[str, Any]:
    """Run a job; return its milliseconds per device-round and its digests."""
    pids: list[int] = []
    start, emulate = WorkerProcesses.start, Emulation.run
    spent = 0.0

    def start_all(self: WorkerProcesses, *given: Any) -> int:
        size = start(self, *given)
        while not all(worker.ready for worker in self._workers):
            list(self.collect(wait=True))
        pids.extend(worker.process.pid for worker in self._workers)
        return size

    def cpu() -> float:
        return time.process_time() + sum(map(cpu_of, pids))

    def timed(self: Emulation, *given: Any, **more: Any) -> None:
        nonlocal spent
        before = cpu()
        emulate(self, *given, **more)
        spent = cpu() - before

    WorkerProcesses.start = start_all  # type: ignore[assignment, method-assign]
    Emulation.run = timed  # type: ignore[method-assign]
    devices, model = JOBS[job]
    text = TEXT.format(devices=devices, model=model, workers=workers, rounds=rounds)
    summary = run(bench_run.scenario(text)).summary
    wall = summary["wall"]["training"] + summary["wall"]["other"]
    each = 1e3 / (rounds * devices)
    return {"wall": wall * each, "cpu": spent * each, "digest": summary["trace_digest"] + summary["params_digest"]}


def shown(values: list[float]) -> str:
    """Return the median of values, and their range."""
    return f"{statistics.median(values):6.2f} ({min(values):.2f} .. {max(values):.2f})"


def main() -> None:
    """Print a line per job and number of workers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("jobs", nargs="*", choices=[[], *JOBS], help="all if none is given")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--times", type=int, default=5, help="processes of each kind")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--one", action="store_true", help="only print the figures of one process, as JSON")
    chosen = parser.parse_args()
    jobs = chosen.jobs or list(JOBS)
    if chosen.one:
        print(json.dumps(measured(jobs[0], chosen.workers[0], chosen.rounds)))
        return
    print(f"{'ms per device-round':>20} {'wall':>22} {'CPU':>22}")
    for job in jobs:
        found: dict[int, list[dict[str, Any]]] = {count: [] for count in chosen.workers}
        for _ in range(chosen.times):
            for count in chosen.workers:
                command = [sys.executable, __file__, job, "--workers", str(count), "--rounds", str(chosen.rounds)]
                done = subprocess.run([*command, "--one"], check=True, capture_output=True, text=True)
                found[count].append(json.loads(done.stdout))
        for count, runs in found.items():
            wall, cpu = ([one[key] for one in runs] for key in ("wall", "cpu"))
            print(f"{job:>10} {count} workers {shown(wall):>22} {shown(cpu):>22}", flush=True)
        assert len({one["digest"] for runs in found.values() for one in runs}) == 1, "digests differ"


if __name__ == "__main__":
    main()
