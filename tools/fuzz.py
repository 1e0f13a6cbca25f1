"""Hostile input for as long as one likes: `python tools/fuzz.py [SECONDS]`; ends with an error at the first crash.

Frames and scenarios that are random, or honest ones with bytes changed, must give a message or a `RemoteError`, a
scenario or a `ScenarioError`. The seed of a crash is printed; `python tools/fuzz.py 1 SEED` repeats it.
"""

from __future__ import annotations

import contextlib
import random
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from p2pl_async.errors import RemoteError, ScenarioError
from p2pl_async.protocols.listening import Params
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


def main(seconds: float, seed: int) -> None:
    """Try inputs until the time is over."""
    frame = encode(Params(1, 0, 2, 3, np.arange(8, dtype=np.float32)), 3, 4)
    end, tried = time.monotonic() + seconds, 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.toml"
        while tried == 0 or time.monotonic() < end:
            draw = random.Random(seed + tried)
            try:
                for _ in range(1000):
                    with contextlib.suppress(RemoteError):
                        decode(spoiled(frame, draw))
                path.write_bytes(spoiled(draw.choice(SCENARIOS), draw))
                with contextlib.suppress(ScenarioError):
                    load_scenario(path)
            except Exception:
                print(f"crash of seed {seed + tried}", file=sys.stderr)
                raise
            tried += 1
    print(f"{1000 * tried} frames and {tried} scenarios")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0, int(sys.argv[2]) if len(sys.argv) > 2 else 1)
