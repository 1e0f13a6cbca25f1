"""Worker processes: they train beside the emulation, on the same data, and end with it.

    this process                                        each worker (`worker`)
    the data set, copied once into shared memory   -->  mapped, not copied
    a tray of the arena: parameters                -->  read where they lie
                                                   <--  results, in the same tray
    socket: rows of batches, rates, which tray     -->
                                                   <--  done, or failed

A worker is `python -c` with this interpreter and its search path; `multiprocessing` would run the user's script
again. It computes in one thread, with one thread of torch, and reads the socket in another: when that is closed, as
the run is over or this process was killed, it ends at once. So nothing is left behind, not even a file.
A worker that dies is told of in a warning; its works are computed here, and another takes its place. That happens a
few times at most: what kills workers may go on. One that can't make the model has no successor.

Workers begin while the run does, which goes on without them until they are ready: torch takes seconds to import.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import pickle
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from p2pl_async.basics.machine import IdleCores
from p2pl_async.learning.arena import Shared, Tray, tray_memory, trays
from p2pl_async.learning.worker import Order, Reply, Tools

if TYPE_CHECKING:
    from p2pl_async.learning.data import Dataset
    from p2pl_async.learning.stacked import Engine, Trained
    from p2pl_async.learning.work import Recipe, Work

_AHEAD = 4  # works that a worker has at once, so that it needn't wait for this process
_TRAY_BYTES = 64 << 20  # of parameters in all trays, unless workers would run out of them
_CHILD = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from p2pl_async.learning.worker import main; main()"
_BEFORE_AUTO = 10.0  # s of training, after which workers begin where cores are idle
_SUCCESSORS = 3  # processes that take the place of dead ones, at most
_PATIENCE = 5.0  # s after which a worker that should have ended is killed


class _Worker:
    """A process, the socket to it, and the works that it has: number -> (tray, jobs)."""

    def __init__(self, process: subprocess.Popen[bytes], socket: Connection) -> None:
        self.process = process
        self.socket = socket
        self.ready = False
        self.has: dict[int, tuple[int, int]] = {}


class WorkerProcesses:
    """Processes that compute works: they fulfill `Workers`.

    Args:
        count: how many; "auto": none during the first seconds of training, then as many as cores are idle.
    """

    def __init__(self, count: int | Literal["auto"]) -> None:
        self._count = count
        self._idle = IdleCores()
        self._workers: list[_Worker] = []
        self._recipe: dict[str, Any] | None = None  # of their engines
        self._shared: list[Shared] = []
        self._trays: list[Tray] = []
        self._free: list[int] = []  # trays; the last was used last, so its memory is in a cache
        self._number = 0
        self._size = 0  # jobs of a work, at most
        self._tools = b""  # what each worker is told first
        self._successors = 0  # that may still begin

    def due(self, seconds: float) -> bool:
        """Tell whether to start, after so many seconds of training in this process."""
        return self._count != "auto" or (seconds > _BEFORE_AUTO and self._idle.count() > 0)

    @property
    def ready(self) -> bool:
        """Whether any of them can take works."""
        if any(worker.ready for worker in self._workers):
            return True
        for _ in self.collect(wait=False):  # that one is ready: a work comes only from a ready one
            raise AssertionError("a worker that isn't ready has a work")
        return any(worker.ready for worker in self._workers)

    def start(self, recipe: Recipe, dataset: Dataset, engine: Engine, devices: int) -> int:
        """Begin to make engines like the one given; workers that have such engines stay.

        Returns:
            How many jobs a work has, at most.
        """
        from p2pl_async.learning.work import jobs_in_work

        written = recipe.written()
        if written == self._recipe:
            return self._size
        self.close()
        self._recipe = written
        count = max(1, self._idle.count()) if self._count == "auto" else self._count
        rows = self._size = jobs_in_work(engine, devices, count)
        dtype = np.dtype(recipe.settings.precision)
        fitting = _TRAY_BYTES // (rows * engine.n_params * dtype.itemsize)
        most = max(count * _AHEAD, min(fitting, math.ceil(devices / rows)))
        arena = tray_memory(most, rows, engine.n_params, dtype)
        data = Shared.of({name: getattr(dataset, name) for name in ("x_train", "y_train", "x_test", "y_test")})
        self._shared = [arena, data]
        self._trays = trays(arena)
        self._free = list(range(most))
        self._tools = pickle.dumps(Tools(written, dataset.name, dataset.n_classes, data, arena))
        self._successors = _SUCCESSORS
        for _ in range(count):
            self._begin()
        return rows

    def _begin(self) -> None:
        here, there = Pipe()
        with there:
            process = subprocess.Popen(
                [sys.executable, "-c", _CHILD, json.dumps(sys.path), str(there.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[there.fileno(), *(shared.file for shared in self._shared)],
                env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
                process_group=0,  # Ctrl-C is for this process, which ends the workers
            )
        self._workers.append(_Worker(process, here))
        with contextlib.suppress(OSError):  # it is dead, which `collect` finds
            here.send_bytes(self._tools)

    def submit(self, work: Work) -> int | None:
        """Give a work to the worker that has least to do; return its number, or None if all have enough."""
        able = [worker for worker in self._workers if worker.ready and len(worker.has) < _AHEAD]
        if not able or not self._free:
            return None
        worker = min(able, key=lambda each: len(each.has))
        self._number += 1
        place, count = self._free.pop(), len(work.params)
        self._trays[place].put(work.params, work.velocities, work.drifts)
        worker.has[self._number] = place, count
        there = [velocity is not None for velocity in work.velocities]
        rest = replace(work, params=(), velocities=(), drifts=())
        with contextlib.suppress(OSError):  # it is dead, which `collect` finds
            worker.socket.send_bytes(pickle.dumps(Order(self._number, place, count, there, len(work.drifts), rest)))
        return self._number

    def collect(self, *, wait: bool) -> Iterable[tuple[int, Trained | None]]:
        """Return works that have ended since the last call, by number; None for one that must be computed here.

        Args:
            wait: whether to wait until there is one, or until a worker becomes ready or dies.
        """
        found: list[tuple[int, Trained | None]] = []
        by_socket = {worker.socket: worker for worker in self._workers}
        for socket in _readable(list(by_socket), None if wait else 0.0):
            found += self._hear(by_socket[socket])
        return found

    def _hear(self, worker: _Worker) -> Iterator[tuple[int, Trained | None]]:
        """Yield the works that a worker has said it is done with; of one that has ended, all that it had."""
        while True:
            try:
                reply: Reply = pickle.loads(worker.socket.recv_bytes())
            except (EOFError, OSError):
                yield from self._lose(worker)
                return
            if reply.number:
                place, count = worker.has.pop(reply.number)
                yield reply.number, None if reply.error else self._results(place, count, reply)
                self._free.append(place)
            elif reply.error:
                self._successors = 0  # they couldn't either
                yield from self._lose(worker, f"can't make the model: {reply.error}")
                return
            else:
                worker.ready = True
            if not worker.socket.poll():
                return

    def _results(self, place: int, count: int, reply: Reply) -> Trained:
        from p2pl_async.learning.stacked import Trained

        tray = self._trays[place]
        vectors = [_own(row) for row in tray.params(count)]
        velocities = [_own(row) for row in tray.velocities([True] * count) if row is not None]
        return Trained(vectors, velocities if reply.velocities else None, reply.buffers)

    def _lose(self, worker: _Worker, why: str = "") -> Iterator[tuple[int, None]]:
        """Yield the works of a worker that has ended, or is of no use."""
        self._workers.remove(worker)
        worker.socket.close()
        worker.process.kill()
        code = worker.process.wait()
        why = why or (f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit status {code}")
        count = len(self._workers)
        left = "training goes on in this process"
        if self._succeeded():
            left = "another takes its place"
        elif count:
            left = "1 worker is left" if count == 1 else f"{count} workers are left"
        for number, (place, _) in worker.has.items():
            self._free.append(place)
            yield number, None
        warnings.warn(f"a worker process {why}; its trainings are computed again, and {left}", RuntimeWarning, 2)

    def _succeeded(self) -> bool:
        """Start a process in the place of a dead one; tell whether one has begun."""
        if not self._successors:
            return False
        self._successors -= 1
        try:
            self._begin()
        except OSError:  # the system has no room for one
            self._successors = 0
            return False
        return True

    def close(self) -> None:
        """End the workers, and free the memory."""
        for worker in self._workers:
            worker.socket.close()
        for worker in self._workers:
            try:
                worker.process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
        for shared in self._shared:
            shared.close()
        self._workers, self._shared, self._trays, self._free, self._recipe = [], [], [], [], None


def _readable(sockets: list[Connection], timeout: float | None) -> list[Any]:
    return wait(sockets, timeout) if sockets else []


def _own(row: np.ndarray[Any, np.dtype[Any]]) -> np.ndarray[Any, np.dtype[Any]]:
    """Return a read-only copy.

    Results could be used where they lie, but a tray would then be free again only when nobody has them any more: trays
    that are in no cache cost more than the copy. 784-200-200-10 with two workers took 8 to 27 % longer, 784-64-10 the
    same time.
    """
    copy = row.copy()
    copy.setflags(write=False)
    return copy
