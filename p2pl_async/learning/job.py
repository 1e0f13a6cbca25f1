"""One training, or one gradient, of one device; and the grouping of jobs that are computed at once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from p2pl_async.basics.arrays import Vector
from p2pl_async.learning.batches import Rows

Item = TypeVar("Item")


@dataclass(slots=True, eq=False)
class Job:
    """One device's training, or gradient, registered now and computed when its result is needed."""

    device: int
    number: int  # how many jobs the device had before
    samples: int  # samples processed, repeats counted; compute time is charged for them
    steps: int
    keeps: bool = False  # whether it goes on with the momentum of the device's last training, and leaves its own
    gradient: bool = False  # whether the result is the gradient of one batch
    computed: bool = False  # whether `Trainer.compute` has been told to: its result is there, or on its way
    found: Vector | None = None  # parameters after training or gradient, read-only, (n_params,)
    velocity: Vector | None = None  # that it leaves on its device, (n_params,); None if there is none
    buffers: Any = None  # that it leaves on its device, as tensors; None if there are none
    _w: Vector | None = None
    _batches: Rows | None = None  # rows of the training data, (steps, batch)
    _sizes: Rows | None = None  # rows of a batch that count, (steps,)
    _rates: NDArray[np.float64] | None = None
    _drift: Vector | None = None
    _shifts: NDArray[np.int64] | None = None  # augmentation of each sample, (steps, batch, 3); None for none
    _start: tuple[object, object] = (None, None)  # momentum and buffers of the device from which it has set out
    _errand: Any = None  # that it is on, to a worker

    @property
    def result(self) -> Vector | None:
        """The result, for which it waits if it is on its way; None until `Trainer.compute` has been told to."""
        if not self.computed:
            return None
        if self.found is None:
            self._errand.wait()
        return self.found

    def take(self, found: Vector, velocity: Vector | None, buffers: Any) -> None:
        """Take what was computed."""
        self.found, self.velocity, self.buffers = found, velocity if self.keeps else None, buffers
        if self.computed:
            self.release()

    def release(self) -> None:
        """Free the inputs, as the job needn't be computed again."""
        self._w = self._batches = self._sizes = self._rates = self._drift = self._shifts = self._errand = None

    @property
    def work(self) -> str:
        """The kind of computation; jobs of one kind are computed together."""
        return "gradient" if self.gradient else "train" if self._drift is None else "drift"


def frozen(w: Vector, dtype: np.dtype[Any]) -> Vector:
    """Return parameters that can't change any more: `w` itself if it and its bases are read-only, else a copy."""
    base: Any = w
    while isinstance(base, np.ndarray) and not base.flags.writeable:
        base = base.base
    if w.dtype == dtype and (base is None or isinstance(base, bytes)):
        return w
    copy = np.array(w, dtype)
    copy.setflags(write=False)
    return copy


def waves(jobs: Sequence[Job]) -> list[list[Job]]:
    """Return jobs in waves: each device at most once in a wave, a device's jobs in their order."""
    waves: list[list[Job]] = []
    seen: dict[int, int] = {}
    for job in sorted(jobs, key=lambda job: job.number):
        wave = seen.get(job.device, 0)
        seen[job.device] = wave + 1
        if wave == len(waves):
            waves.append([])
        waves[wave].append(job)
    return waves


def groups(items: Sequence[Item], largest: int) -> Iterator[Sequence[Item]]:
    """Yield items in as few groups as possible, whose sizes differ by at most one."""
    count = math.ceil(len(items) / largest)
    ends = [len(items) * i // max(count, 1) for i in range(count + 1)]
    for start, end in itertools.pairwise(ends):
        yield items[start:end]
