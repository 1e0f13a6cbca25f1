"""Random worlds on all cores: `python tools/soak.py [WORLDS] [SEED] [PROCESSES]`; 100,000 worlds, seed 1 by default.

Each process takes worlds of its own over all protocols and the chatter, checks the laws, and goes on after a failure:
its world is shrunk and written into `.hypothesis/worlds`, and what `p2pl run` repeats is printed. Ends with an error
if there was a failure.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor, as_completed

BATCH = 200  # worlds that a process draws at once


def soak(seed: int, worlds: int) -> list[str]:
    """Try some worlds; return what failed, as text."""
    from hypothesis import HealthCheck, given, settings
    from hypothesis import seed as seeded

    from p2pl_async.protocols import Protocol
    from p2pl_async.testing import RandomWorld, check_laws
    from p2pl_async.testing.shipped import inhabited

    @seeded(seed)
    @settings(max_examples=worlds, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(inhabited())
    def laws(case: tuple[RandomWorld, Protocol]) -> None:
        world, protocol = case
        with world.run(protocol) as emulation:
            check_laws(emulation)

    try:
        laws()
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return ["".join(traceback.format_exception(error))]
    return []


def main(worlds: int, seed: int, processes: int) -> int:
    """Try worlds in batches; return the number of failures."""
    began, done, failures = time.monotonic(), 0, 0
    sizes = [BATCH] * (worlds // BATCH) + ([worlds % BATCH] if worlds % BATCH else [])
    with ProcessPoolExecutor(processes) as pool:
        jobs = {pool.submit(soak, seed + number, size): size for number, size in enumerate(sizes)}
        for job in as_completed(jobs):
            done += jobs[job]
            for text in job.result():
                failures += 1
                print(text, flush=True)
            print(f"{done} worlds, {failures} failures, {time.monotonic() - began:.0f} s", flush=True)
    return failures


if __name__ == "__main__":
    numbers = [int(text) for text in sys.argv[1:]] + [100_000, 1, os.cpu_count() or 1][len(sys.argv) - 1 :]
    sys.exit(main(*numbers) > 0)
