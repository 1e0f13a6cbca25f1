"""Jobs that workers compute while the emulation goes on.

    offer(job)     it is registered: with others of its kind it goes to a worker as soon as there are enough of them
       ...         virtual time passes
    take(jobs)     their results are wanted from now on; those that aren't under way set out
       ...
    job.result     waits for the worker, and computes here meanwhile what no worker has begun

`take` is called at the instants at which jobs would be computed here, so a device's momentum, and the buffers that
stay on it, change at the same instants. A job that set out from others than its device has by then sets out again.

Workers are a contract: processes of this machine fulfill it (`processes`). A work that they can't compute
(a process was killed, a model raises an error) is computed here, which gives the same bits, or the error itself.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

from p2pl_async.learning.job import Job, groups

if TYPE_CHECKING:
    from p2pl_async.learning.data import Dataset
    from p2pl_async.learning.stacked import Engine, Trained
    from p2pl_async.learning.work import Recipe, Work


class Workers(Protocol):
    """Those who compute works elsewhere, each with an engine of its own."""

    def start(self, recipe: Recipe, dataset: Dataset, engine: Engine, devices: int) -> int:
        """Begin to make engines like the one given; those that there are stay if they are like it.

        Returns:
            How many jobs a work has, at most.
        """

    def due(self, seconds: float) -> bool:
        """Tell whether to start, after so many seconds of training here."""

    @property
    def ready(self) -> bool:
        """Whether any of them can take works."""

    def submit(self, work: Work) -> int | None:
        """Give a work to one of them; return its number, or None if all have enough to do."""

    def collect(self, *, wait: bool) -> Iterable[tuple[int, Trained | None]]:
        """Return works that have ended since the last call, by number; None for one that must be computed here.

        Args:
            wait: whether to wait until there is one.
        """


class Delegation:
    """The jobs of a trainer that its workers compute.

    Args:
        workers: who computes them.
        make: returns the work of some jobs, from the momentum and buffers that their devices have now.
        here: computes a work in this process.
        size: jobs in a work, at most.

    Attributes:
        seconds: wall time spent waiting for results, and computing meanwhile.
    """

    def __init__(
        self, workers: Workers, make: Callable[[Sequence[Job]], Work], here: Callable[[Work], Trained], size: int
    ) -> None:
        self._workers = workers
        self._make = make
        self._here = here
        self._size = size
        self._offered: dict[str, list[Job]] = defaultdict(list)
        self._backlog: deque[_Errand] = deque()  # no worker has them yet
        self._under_way: dict[int, _Errand] = {}
        self.seconds = 0.0

    @property
    def ready(self) -> bool:
        """Whether a worker can take jobs, or has some."""
        return bool(self._under_way) or self._workers.ready

    def offer(self, job: Job) -> None:
        """Take a job that is registered, and may be computed from now on."""
        if not self.ready:
            return
        alike = self._offered[job.work]
        alike.append(job)
        if len(alike) == self._size:
            self._offered[job.work] = []
            self._send(alike)
            self._feed()

    def take(self, jobs: Sequence[Job], start_of: Callable[[Job], tuple[object, object]]) -> None:
        """Have jobs of one kind and different devices computed: `result` waits for them.

        Args:
            jobs: those with more steps first.
            start_of: returns the momentum and the buffers that a job's device has now.
        """
        anew = [
            job
            for job in jobs
            if job._errand is None or any(a is not b for a, b in zip(job._start, start_of(job), strict=True))
        ]
        for some in groups(anew, self._size) if anew else ():
            self._send(some)
        for job in jobs:
            job.computed = True
            if job.found is not None:
                job.release()
        self._feed()

    def forget_offers(self) -> None:
        """Forget the jobs that haven't set out: they were given up, or computed otherwise."""
        self._offered.clear()

    def finish(self, errand: _Errand) -> None:
        """Wait until an errand is done; compute here meanwhile what no worker has begun."""
        started = time.perf_counter()
        self._feed()
        while not errand.done:
            if errand.failed:
                errand.end(self._here(errand.work))
            elif self._backlog:
                mine = errand if errand in self._backlog else self._backlog[0]
                self._backlog.remove(mine)
                mine.end(self._here(mine.work))
                self._feed()
            else:
                self._collect(wait=True)
        self.seconds += time.perf_counter() - started

    def _send(self, jobs: Sequence[Job]) -> None:
        """Put jobs of one kind into the backlog, as one work."""
        jobs = sorted(jobs, key=lambda job: -job.steps)
        errand = _Errand(self, jobs, self._make(jobs))
        for job in jobs:
            job._errand, job.found = errand, None  # what an earlier errand found has started from something else
        self._backlog.append(errand)

    def _feed(self) -> None:
        """Take what workers have computed, and give them what is left to do."""
        if self._under_way:
            self._collect(wait=False)
        while self._backlog and (number := self._workers.submit(self._backlog[0].work)) is not None:
            self._under_way[number] = self._backlog.popleft()

    def _collect(self, *, wait: bool) -> None:
        for number, found in self._workers.collect(wait=wait):
            errand = self._under_way.pop(number, None)
            if errand is None:
                continue  # of a run that is over, such as the one before a baseline
            if found is None:
                errand.failed = True  # whoever needs it computes it here, and gets its error if it has one
            else:
                errand.end(found)


class _Errand:
    """A work on its way, and the jobs that get its results."""

    __slots__ = ("_delegation", "_jobs", "done", "failed", "work")

    def __init__(self, delegation: Delegation, jobs: Sequence[Job], work: Work) -> None:
        self._delegation = delegation
        self._jobs = jobs
        self.work = work
        self.done = False
        self.failed = False

    def wait(self) -> None:
        """Return when the jobs have their results."""
        if not self.done:
            self._delegation.finish(self)

    def end(self, found: Trained) -> None:
        """Hand out the results; to a job that has set out anew, none."""
        self.done = True
        for i, job in enumerate(self._jobs):
            if job._errand is self:
                job.take(found.vectors[i], found.velocity(i), found.buffers)
        self._jobs = ()
        del self.work
