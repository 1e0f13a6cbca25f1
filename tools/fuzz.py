"""Hostile input for as long as one likes: `python tools/fuzz.py [SECONDS]`; ends with an error at the first crash.

Frames, payloads, scenarios and results folders are honest ones with bytes changed. They must give a message, a payload,
a scenario or a run, or else a `RemoteError` or a `ScenarioError`. The seed of a crash is printed; `python tools/fuzz.py
1 SEED` repeats it.
"""

from __future__ import annotations

import contextlib
import math
import random
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from p2pl_async.compression import Identity, Int8, TopK
from p2pl_async.compression import decode as decode_payload
from p2pl_async.errors import RemoteError, ScenarioError
from p2pl_async.protocols.listening import Params
from p2pl_async.results.folder import RunFolder
from p2pl_async.results.run import load_run
from p2pl_async.results.table import LINK_COLUMNS, METRIC_COLUMNS, Table
from p2pl_async.scenario.reading.load import load_scenario
from p2pl_async.transport.wire import decode, encode

ROOT = Path(__file__).parents[1]
SCENARIOS = [path.read_bytes() for path in sorted((ROOT / "scenarios").glob("*.toml"))]


def spoiled(honest: bytes, draw: random.Random) -> bytes:
    """Return bytes with some changed, cut, or repeated."""
    data = bytearray(honest)
    for _ in range(draw.randint(1, 4)):
        data[draw.randrange(len(data))] = draw.randrange(256)
    cut = draw.randint(0, len(data))
    return bytes(data if draw.random() < 0.7 else data[:cut] if draw.random() < 0.5 else data + data[:cut])


def honest_run(folder: Path) -> dict[str, bytes]:
    """Return the files of a small result: summary, scenario, a closed table and an open one."""
    RunFolder(folder, "honest", 1).begin('name = "honest"\n')
    for name, columns in (("metrics", METRIC_COLUMNS), ("links", LINK_COLUMNS)):
        table = Table(folder / name, columns)
        for i in range(20):
            table.add(*(["a" if kind == "category" else i for kind in columns.values()]))
        table.flush()
        if name == "links":
            table.close()
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def read_run(folder: Path) -> None:
    """Read everything in a folder of results."""
    run = load_run(folder)
    for name in ("metrics", "links", "devices", "trace"):
        with contextlib.suppress(ScenarioError):
            getattr(run, name)


def main(seconds: float, seed: int, rounds: float = math.inf) -> None:
    """Try inputs until the time is over, or for so many rounds."""
    frame = encode(Params(1, 0, 2, 3, np.arange(8, dtype=np.float32)), 3, 4)
    x, layers = np.linspace(-1, 1, 40, dtype=np.float32), [slice(0, 30), slice(30, 40)]
    payloads = [
        kind().compress(x, layers, np.random.default_rng(0)).encode().tobytes() for kind in (Identity, TopK, Int8)
    ]
    end, tried = time.monotonic() + seconds, 0
    with tempfile.TemporaryDirectory() as folder:
        path, results = Path(folder) / "s.toml", Path(folder) / "run"
        files = honest_run(results)
        while tried == 0 or (tried < rounds and time.monotonic() < end):
            draw = random.Random(seed + tried)
            try:
                for _ in range(1000):
                    with contextlib.suppress(RemoteError):
                        decode(spoiled(frame, draw))
                for _ in range(200):
                    with contextlib.suppress(RemoteError):
                        spoiled_payload = np.frombuffer(spoiled(draw.choice(payloads), draw), np.uint8)
                        decode_payload(spoiled_payload, x.size, layers, x.dtype)
                name = draw.choice(sorted(files))
                (results / name).write_bytes(spoiled(files[name], draw))
                with contextlib.suppress(ScenarioError):
                    read_run(results)
                (results / name).write_bytes(files[name])
                path.write_bytes(spoiled(draw.choice(SCENARIOS), draw))
                with contextlib.suppress(ScenarioError):
                    load_scenario(path)
            except Exception:
                print(f"crash of seed {seed + tried}", file=sys.stderr)
                raise
            tried += 1
    print(f"{1000 * tried} frames, {200 * tried} payloads, {tried} scenarios and results")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0, int(sys.argv[2]) if len(sys.argv) > 2 else 1)
