"""How long compressing and encoding a model takes, and how many bytes come out.

    python tools/bench_compression.py            # 784-200-200-10, 199,210 parameters
    OMP_NUM_THREADS=1 taskset -c 0 python tools/bench_compression.py     # on one core

The vector is the same random one for all; times are the best of 20.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable

import numpy as np

from p2pl_async.compression import Compressor, Identity, Int8, Qsgd, RandomK, Sign, TopK, decode


def best_ms(call: Callable[[], object], repeats: int) -> float:
    """Return the shortest of several wall times, in milliseconds."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return 1e3 * min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=[784, 200, 200, 10], help="of the layers")
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()
    sizes = [n for a, b in itertools.pairwise(options.widths) for n in (a * b, b)]
    ends = [0, *itertools.accumulate(sizes)]
    layers = [slice(start, end) for start, end in itertools.pairwise(ends)]
    v = np.random.default_rng(1).normal(size=ends[-1]).astype(np.float32)
    random = np.random.default_rng(2)
    compressors: list[tuple[str, Compressor]] = [
        ("none", Identity()),
        *((f"top-k {100 * s:g} %", TopK(sparsity=s)) for s in (0.9, 0.99, 0.999)),
        ("random-k 99 %", RandomK(sparsity=0.99)),
        ("qsgd 16", Qsgd(levels=16)),
        ("int8", Int8()),
        ("sign", Sign()),
    ]
    print(f"{v.size:,} parameters, {v.nbytes:,} bytes")
    print(f"{'':14}{'to bytes':>12}{'back':>12}{'bytes':>12}{'ratio':>9}{'as papers count':>17}")
    for name, compressor in compressors:
        data = compressor.compress(v, layers, random).encode()
        there = best_ms(lambda c=compressor: c.compress(v, layers, random).encode(), options.repeats)  # type: ignore[misc]
        back = best_ms(lambda d=data: decode(d, v.size, layers, v.dtype), options.repeats)  # type: ignore[misc]
        paper = (v.nbytes + 4) / (compressor.compress(v, layers, random).paper_bytes + 4)
        print(f"{name:14}{there:9.2f} ms{back:9.2f} ms{data.size:12,}{v.nbytes / data.size:9.1f}{paper:17.1f}")


if __name__ == "__main__":
    main()
