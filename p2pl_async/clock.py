"""Virtual time: trio's clock is the event calendar.

Theory of operation
-------------------

trio asks its clock one question, `deadline_to_sleep_time(next_deadline)`, and asks it only
when no task can run. That is the moment at which virtual time may move:

    tasks run  ->  none can run  ->  the clock jumps to the next instant   <- you are here
        ^                              1. observers of that instant look
        |                              2. weather, then every event due is run (it may wake tasks)
        +------------------------------3. trio expires deadlines, wakes their tasks

The next instant is the earliest of the calendar's first event and trio's own next deadline,
so `trio.sleep`, `trio.move_on_after` and `trio.current_time` work as ever. Within an instant
arrivals come first, then deadlines, then tasks: a message that arrives exactly at a deadline
is in time.

An event is a call, not a task: a hop costs about 1.4 bare channel hops, where a courier task
sleeping until each arrival costs 10. Events of one instant run in the order of their content
`(destination, source, number)`; trio runs tasks that are ready together in random order, so an
arrival counter would give another order in every run.

Observers look and touch nothing. They are no events: a run whose tasks all wait while only
observers are left is a deadlock, and observing more often moves nothing.

Crashes and restarts are a third sort: the weather. They come before all else of their instant,
and go on for ever; once nothing but weather is left, `persists` says whether the run goes on for it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

import outcome
import trio

Event = tuple[float, int, int, int, Callable[[Any], object], Any]


class VirtualClock(trio.abc.Clock):
    """A trio clock that starts at 0 and jumps whenever every task waits.

    Give it to `trio.run(..., clock=clock)`; one clock serves one run.
    """

    def __init__(self) -> None:
        self.now = 0.0  # seconds of virtual time
        self.calendar: list[Event] = []  # a heap of what is to come
        self.persists: Callable[[], bool] = lambda: False  # whether a run goes on for weather alone
        self._weather: list[tuple[float, int, int, Callable[[], object]]] = []
        self._observers: list[tuple[float, int, Callable[[], object]]] = []
        self._count = itertools.count()
        self._supervisor: trio.lowlevel.Task | None = None
        self._failure: BaseException | None = None

    # What trio asks of a clock

    def start_clock(self) -> None:
        """Do nothing: virtual time begins at 0 and stands still while tasks run."""

    def current_time(self) -> float:
        """Return the virtual time in seconds; once the run is over, of the moment just before the last instant.

        trio wakes whose deadline has come whatever it is told about sleeping. Who was to wake at the
        instant at which a run is stopped would run or not as trio happens to order tasks.
        """
        return self.now if self._failure is None else math.nextafter(self.now, -math.inf)

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Move to the next instant and run what is due there; nobody sleeps in real time."""
        if self._failure is not None:
            return 0  # the run is over: time stands still while trio tidies up
        calendar = self.calendar
        at = calendar[0][0] if calendar and calendar[0][0] <= deadline else deadline
        weather = self._weather
        if weather and weather[0][0] <= at and (at < math.inf or self.persists()):
            at = weather[0][0]
        if at == math.inf:
            if self._supervisor is None:
                return math.inf  # nobody would hear of it, and they may wait for a thread
            self.stop(Idle())
            return 0
        try:
            if self._observers and self._observers[0][0] <= at:
                self._look(at)
                if self._failure is not None:
                    return 0
            if at > self.now:  # the very float: rounding could leave `now` an ulp short, and spin for ever
                self.now = at
            while weather and weather[0][0] <= at:
                heappop(weather)[3]()
            while calendar and calendar[0][0] <= at:
                event = heappop(calendar)
                event[4](event[5])
        except BaseException as error:
            if self._supervisor is None:
                raise
            self.stop(error)
        return 0

    def _look(self, at: float) -> None:
        """Let the observers look that are due before anything happens at the instant `at`."""
        while self._observers and self._observers[0][0] <= at and self._failure is None:
            seen_at, _, look = heappop(self._observers)
            self.now = max(self.now, seen_at)
            look()

    # What the emulation asks of it

    def schedule(
        self, at: float, destination: int, source: int, number: int, call: Callable[[Any], object], argument: Any
    ) -> Event:
        """Have `call(argument)` run at the virtual instant `at`, and return the event.

        Events of one instant run in the order of `(destination, source, number)`, which must be
        unique among them. The call may wake tasks and schedule events; it can't wait.
        """
        event = (at, destination, source, number, call, argument)
        heappush(self.calendar, event)
        return event

    def forecast(self, at: float, device: int, call: Callable[[], object]) -> None:
        """Have `call()` run at the virtual instant `at`, before all else but observers.

        What is due at one instant runs in the order of `device`. It can wake tasks, but on its own it
        keeps no run going unless `persists()`.
        """
        heappush(self._weather, (at, device, next(self._count), call))

    def observe(self, at: float, look: Callable[[], object]) -> None:
        """Have `look()` run just before anything else happens at or after the instant `at`."""
        heappush(self._observers, (at, next(self._count), look))

    async def supervise(self) -> None:
        """Wait until `stop` is called; raise what it was given.

        Raises:
            Idle: if every task waits and nothing is left to happen.
        """
        if self._failure is None:
            self._supervisor = trio.lowlevel.current_task()

            def abort(_: object) -> trio.lowlevel.Abort:
                self._supervisor = None
                return trio.lowlevel.Abort.SUCCEEDED

            await trio.lowlevel.wait_task_rescheduled(abort)
        if self._failure is not None and not isinstance(self._failure, Stopped):
            raise self._failure

    def stop(self, reason: BaseException | None = None) -> None:
        """End `supervise`: raise `reason` there, or let it return. The first call decides."""
        if self._failure is None:
            self._failure = Stopped() if reason is None else reason
            if self._supervisor is not None:
                trio.lowlevel.reschedule(self._supervisor, outcome.Value(None))
                self._supervisor = None


class Idle(Exception):
    """Every task waits and the calendar is empty."""


class Stopped(Exception):
    """The run was ended on purpose."""
