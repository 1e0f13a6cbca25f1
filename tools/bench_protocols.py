"""What a step of each protocol costs beside training, relative to P2PL on the same graph.

    python tools/bench_protocols.py [PROTOCOL ...] [--repeat 3]

100 devices, models of 199,210 float32 parameters (784-200-200-10), a 4-regular graph, perfect links with
latency; training and gradients are given vectors and cost nothing. Counted is the processor time of a round
of all devices, the first rounds left out, the best of some repetitions, each protocol in a process of its
own. At most 1.5 x P2PL for a protocol that sends one dense model, 3 x for one that sends two of them
or keeps float64 sums; compressed ones have no limit here, their compressor is measured alone.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import subprocess
import sys
import time

import numpy as np

from p2pl_async.basics.randomness import stream
from p2pl_async.basics.settings import kind_of
from p2pl_async.messages import DeviceId, Vector
from p2pl_async.protocols import PROTOCOLS, Protocol
from p2pl_async.testing import FixedLearner, emulate
from p2pl_async.topology.base import neighbors
from p2pl_async.topology.random_graphs import RandomRegular

DEVICES, SIZE = 100, 199_210
ENDS = (0, 156_800, 157_000, 197_000, 197_200, 199_200, SIZE)
LAYERS = tuple(slice(start, end) for start, end in itertools.pairwise(ENDS))
FIRST, ROUNDS = 3, 8  # rounds left out, rounds measured
BARRIER = {"mode": "barrier"}
SETTINGS = {"p2pl": BARRIER, "p2pl-affinity": BARRIER, "p2pl-push": BARRIER, "rasgp": BARRIER}
EXCHANGED = {"ad-psgd": 2, "asy-sonata": 2}  # a question and an answer, a model each; a model, and sums of trackers


class Given(FixedLearner):
    """Gives vectors instead of training."""

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        # One for each device, as training gives: a few shared by all would stay in the cache, for P2PL above all.
        given = [random.normal(scale=0.05, size=SIZE).astype(np.float32) for _ in range(DEVICES)]
        for vector in given:
            vector.flags.writeable = False
        super().__init__(given, learning_rate=0.01)

    @property
    def layers(self) -> tuple[slice, ...]:
        """Return those of 784-200-200-10."""
        return LAYERS

    async def train(
        self, device: DeviceId, w: Vector, epochs: int | None, steps: int | None, drift: Vector | None = None
    ) -> Vector:
        """Return one of the vectors, later."""
        return await self.gradient(device, w)

    async def gradient(self, device: DeviceId, w: Vector) -> Vector:
        """Return one of the vectors, later."""
        return await super().train(device, self._params[(device + 1) % DEVICES], None, None)


def seconds(protocol: Protocol, rounds: int) -> float:
    """Return the processor time of a run."""
    graph = RandomRegular(degree=4).build(DEVICES, stream(1, "topology"))
    learner = Given()
    gc.collect()
    started = time.process_time()
    emulate(protocol, neighbors(graph).outgoing, link={"latency": "10 ms"}, learner=learner, rounds=rounds)
    return time.process_time() - started


def per_round(protocol: Protocol, repeat: int) -> float:
    """Return the processor time of a round of all devices, in seconds."""
    short = min(seconds(protocol, FIRST) for _ in range(repeat))
    return (min(seconds(protocol, FIRST + ROUNDS) for _ in range(repeat)) - short) / ROUNDS


def protocol_of(cls: type[Protocol]) -> Protocol:
    """Return the protocol as it is measured: without synchronization, and waiting for everybody."""
    plain = {"sync": "none"} if "sync" in cls.model_fields else {}
    return cls.model_validate(plain | SETTINGS.get(kind_of(cls), {}))


def main() -> None:
    """Print a line per protocol."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("protocol", nargs="*", help="kinds; all by default but those that need a server")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--one", action="store_true", help="only say the seconds per round of the one protocol")
    chosen = parser.parse_args()
    classes = {kind_of(cls): cls for cls in PROTOCOLS if kind_of(cls) != "fedavg"}
    if chosen.one:
        print(per_round(protocol_of(classes[chosen.protocol[0]]), chosen.repeat))
        return
    print(f"{'protocol':<20} {'ms/round':>9} {'x P2PL':>7} {'limit':>6}")
    base = None
    for kind in ["p2pl", *(kind for kind in chosen.protocol or classes if kind != "p2pl")]:
        protocol = protocol_of(classes[kind])
        command = [sys.executable, __file__, kind, "--one", "--repeat", str(chosen.repeat)]
        spent = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        base = spent if base is None else base
        size = EXCHANGED.get(kind, protocol.models_per_message or 0)
        limit = {True: "1.5", False: "3"}[size <= 1] if size >= 1 else "-"
        told = "" if limit == "-" or spent <= float(limit) * base else "  over the limit"
        print(f"{kind:<20} {1e3 * spent:9.1f} {spent / base:7.2f} {limit:>6}{told}", flush=True)


if __name__ == "__main__":
    main()
