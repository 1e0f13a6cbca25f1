"""Engines that compute side by side, each in a thread of its own in which torch uses one thread.

How torch cuts a sum among its threads depends on their number, and so do the last bits: of layer norms, convolutions
and plain matrix products. Here a piece of work is computed by one thread, so bits depend neither on the number
of cores nor on what is computed beside it. Nor do threads wait for each other within a step: OpenMP's spin while they
wait, and on busy cores that took ten times the work.
"""

from __future__ import annotations

import math
import queue
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Generic, TypeVar

import torch

Engine = TypeVar("Engine")
Item = TypeVar("Item")
Result = TypeVar("Result")

SMALLEST_SHARE = 8  # devices that one thread computes at once, where another could share them: fewer cost more


class Crew(Generic[Engine]):
    """Engines that share work.

    Args:
        engines: equal ones, one for each thread; a single one works in the caller's thread.
    """

    def __init__(self, engines: Sequence[Engine]) -> None:
        self.size = len(engines)
        self._free: queue.SimpleQueue[Engine] = queue.SimpleQueue()
        for engine in engines:
            self._free.put(engine)
        self._pool = None if self.size == 1 else ThreadPoolExecutor(self.size, "p2pl_async engine")

    def share(self, count: int, largest: int) -> int:
        """Return how many of `count` devices an engine computes at once, of which it could compute `largest`."""
        return min(largest, max(math.ceil(count / self.size), SMALLEST_SHARE))

    def map(self, function: Callable[[Engine, Item], Result], items: Sequence[Item]) -> list[Result]:
        """Return the result of `function(engine, item)` for each item, in order; of errors, the first."""

        def run(item: Item) -> Result:
            engine = self._free.get()
            threads = torch.get_num_threads()
            torch.set_num_threads(1)
            try:
                return function(engine, item)
            finally:
                torch.set_num_threads(threads)
                self._free.put(engine)

        if self._pool is None or len(items) == 1:
            return [run(item) for item in items]
        threads = torch.get_num_threads()
        try:
            futures = [self._pool.submit(run, item) for item in items]
            wait(futures)
        finally:
            torch.set_num_threads(threads)  # a thread of the pool that is new takes the number that was set last
        return [future.result() for future in futures]
