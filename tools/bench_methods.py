"""What one step of each method costs outside training, against P2PL's on the same graph.

    python tools/bench_methods.py [kind ...]

100 devices, 784-200-200-10 (199,210 parameters), random 4-regular graph, one mini-batch per round,
100 ms links, no evaluation, no synchronization. At most 1.5 x for methods that send one dense model, 3 x
for those that send two or keep float64 sums. Data are random; each method runs in a process of its own.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from p2pl_async import load_scenario, run
from p2pl_async.protocols import PROTOCOLS
from p2pl_async.settings import kind_of

ROUNDS = 15
DEVICES = 100
REPEATS = 2

TEXT = """
data.dataset = {{ kind = "{bench}:RandomDigits", train = 6000 }}
devices = {{ count = {devices}, compute = "1 s" }}
topology = {{ kind = "random-regular", degree = 4 }}
link.latency = "100 ms"
model = {{ kind = "mlp", hidden = [200, 200], common_init = true }}
train = {{ batch_size = 10, learning_rate = 0.01 }}
protocol = {{ kind = "{kind}"{settings} }}
evaluate = {{ every = "1 h", samples = 1 }}
stop.rounds = {rounds}
"""


def step_ms(kind: str) -> float:
    """Return the wall time of one round of one device outside training, in ms: the least of some runs."""
    cls = next(cls for cls in PROTOCOLS if kind_of(cls) == kind)
    fields = cls.model_fields
    settings = ', sync = "none"' if "sync" in fields else ""
    settings += ", steps = 1" if "steps" in fields else ""
    settings += ', mode = "barrier"' if "mode" in fields else ""
    text = TEXT.format(
        bench=Path(__file__).resolve().with_name("bench_run.py"),
        devices=DEVICES,
        kind=kind,
        settings=settings,
        rounds=ROUNDS,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.toml"
        path.write_text(text, encoding="utf-8")
        scenario = load_scenario(path)
    seconds: float = min(run(scenario).summary["wall"]["other"] for _ in range(REPEATS))
    return 1e3 * seconds / (ROUNDS * DEVICES)


def main() -> None:
    """Measure the methods that are named, or all, each in a process of its own."""
    if len(sys.argv) == 3 and sys.argv[1] == "--one":
        print(step_ms(sys.argv[2]))
        return
    alone = {"local", "fedavg"}  # no messages, or another graph
    kinds = sys.argv[1:] or [kind_of(cls) for cls in PROTOCOLS if kind_of(cls) not in alone]
    measured: dict[str, float] = {}
    for kind in ["p2pl", *(kind for kind in kinds if kind != "p2pl")]:
        child = subprocess.run([sys.executable, __file__, "--one", kind], check=True, stdout=subprocess.PIPE, text=True)
        measured[kind] = float(child.stdout.splitlines()[-1])
        print(f"{kind:<20} {measured[kind]:6.2f} ms   {measured[kind] / measured['p2pl']:5.2f} x", flush=True)


if __name__ == "__main__":
    main()
