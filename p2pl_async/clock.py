"""Virtual time: trio's clock is the event calendar.

Theory of operation
-------------------

trio asks its clock one question, `deadline_to_sleep_time(next_deadline)`, and asks it only
when no task can run. That is the moment at which virtual time may move:

    tasks run  ->  none can run  ->  the clock jumps to the next instant   <- you are here
        ^                              1. observers due by then are called
        |                              2. weather, then every event due runs (it may wake tasks)
        +------------------------------3. trio expires deadlines, wakes their tasks

The next instant is the earliest of the calendar's first event and trio's own next deadline,
so `trio.sleep`, `trio.move_on_after` and `trio.current_time` work unchanged. Within an instant
arrivals come first, then deadlines, then tasks: a message that arrives exactly at a deadline
is in time. On shared air most events wake no task; there the clock goes on to the next instant by itself while
none is woken, since a pass through trio takes 10 µs.

An event is a call, not a task: a hop costs about 1.4 bare channel hops, while a courier task that
sleeps until each arrival costs 10. Events of one instant run in the order of their content
`(destination, source, number)`; trio runs tasks that are ready together in random order, so an
arrival counter would give another order in every run.

Observers look at the run and change nothing. They aren't events: a run whose tasks all wait is a
deadlock even if observers are left, and more observations don't change a run.

An instant is a float of 64 bits. It resolves 7 ns up to 6.7e7 s (two years), so that a slot of 9 us is right to
0.1 %, and nothing shows; at 1e8 s it resolves 15 ns, at 1e9 s 119 ns. A device that waits for less than
that would go on at the same instant: `Device.sleep`, `timeout` and `later` refuse it.

Crashes and restarts are a third kind, the weather. They run before all other events of their instant, and
there is always another one; `persists` says whether pending crashes and restarts alone keep a run going.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

import outcome
import trio

PATIENCE = 100_000  # times that time is asked for, from one look whether it moves to the next
_SLEEPS = -4  # the source of events that wake a task
_IN_A_ROW = 1000  # instants until trio has its turn, which takes note of Ctrl-C

Event = tuple[float, int, int, int, Callable[[Any], object], Any]


class VirtualClock(trio.abc.Clock, trio.abc.Instrument):
    """A trio clock that starts at 0 and jumps whenever every task waits.

    Give it to `trio.run(..., clock=clock)`; one clock serves one run.
    """

    def __init__(self) -> None:
        self.now = 0.0  # seconds of virtual time
        self.calendar: list[Event] = []  # a heap of future events
        # Whether pending crashes and restarts alone keep the run going.
        self.persists: Callable[[], bool] = lambda: False
        # Called when an instant seems to have no end: time was asked for very often.
        self.stands_still: Callable[[], object] = lambda: None
        self.moves = 0  # how often all tasks waited
        self._asked = 0  # how often time was asked for
        self._look_at = PATIENCE  # at how many times to look whether it moves
        self._looked = 0.0  # the instant at which that was looked at last
        # Whether many instants wake no task, as those of shared air: to find that out slows each wake-up.
        self.goes_on = False
        self._woken = True  # a task can run, or may; always, where that isn't looked for
        self._weather: list[tuple[float, int, int, Callable[[], object]]] = []
        self._observers: list[tuple[float, int, Callable[[], object]]] = []
        self._plain_until = math.inf  # until then, only events are due: no observers, no weather, nothing canceled
        self._cancelled = 0  # events of the calendar that wake a task which no longer waits
        self._count = itertools.count()
        self._supervisor: trio.lowlevel.Task | None = None
        self._failure: BaseException | None = None

    # What trio asks of a clock

    def start_clock(self) -> None:
        """Begin at 0; where the clock goes on by itself, have trio tell which tasks can run."""
        if self.goes_on:
            trio.lowlevel.add_instrument(self)

    def task_scheduled(self, task: trio.lowlevel.Task) -> None:
        """Take note that a task can run."""
        self._woken = True

    def pause(self) -> None:
        """Let trio have its turn at this instant: a call of the user's may have moved a deadline of trio's."""
        self._woken = True

    def current_time(self) -> float:
        """Return the virtual time in seconds; once the run is over, the moment just before its last instant.

        trio wakes every task whose deadline has come, also after the run is stopped. A task that was to wake
        at the very instant of the stop would run or not, as trio happens to order tasks.
        """
        self._asked += 1  # trio asks once in each pass over the tasks that can run
        if self._asked >= self._look_at:
            self._look_for_standstill()
        return self.now if self._failure is None else math.nextafter(self.now, -math.inf)

    def _look_for_standstill(self) -> None:
        if self.now == self._looked:
            self.stands_still()
        self._looked = self.now
        self._look_at = self._asked + PATIENCE

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Move to the next instant and run the events due there; never sleep in real time."""
        self.moves += 1
        calendar = self.calendar
        in_a_row = 0
        if self.goes_on:
            self._woken = False
        while True:
            at = calendar[0][0] if calendar else deadline
            if at > deadline:
                at = deadline
            try:
                if at >= self._plain_until:
                    at = self._beside_events(deadline)
                    if at == math.inf:
                        # Without a supervisor there is no task to tell, and others may wait for a thread.
                        return math.inf if self._failure is None else 0
                if at > self.now:
                    self.now = at  # a sum could round to just below it, and trio would ask again endlessly
                while calendar and calendar[0][0] <= at:
                    event = heappop(calendar)
                    event[4](event[5])
            except BaseException as error:
                if self._supervisor is None:
                    raise
                self.stop(error)
            if self._woken or self._failure is not None or at == deadline:
                return 0
            in_a_row += 1
            if in_a_row == _IN_A_ROW:
                return 0

    def _beside_events(self, deadline: float) -> float:
        """Return the next instant, after what comes before its events; infinite if there is none, or the run is over.

        Only called where more than events may be due: that takes a message 0.3 µs.
        """
        calendar, weather = self.calendar, self._weather
        if self._failure is not None:
            return math.inf  # time stands still while trio cancels its tasks
        while self._cancelled and calendar and calendar[0][4] is _wake and not calendar[0][5]:
            heappop(calendar)
            self._cancelled -= 1
        at = min(calendar[0][0], deadline) if calendar else deadline
        if weather and weather[0][0] <= at and (at < math.inf or self.persists()):
            at = weather[0][0]
        if at == math.inf:
            if self._supervisor is not None:
                self.stop(Idle())
            return at
        if self._observers and self._observers[0][0] <= at:
            self._look(at)
            if self._failure is not None:
                return math.inf
        self.now = max(self.now, at)
        while weather and weather[0][0] <= at:
            heappop(weather)[3]()
        self._look_ahead()
        return at

    def _look_ahead(self) -> None:
        """Set the instant before which only events of the calendar are due."""
        firsts = [queue[0][0] for queue in (self._weather, self._observers) if queue]
        always = self._cancelled or self._failure is not None
        self._plain_until = -math.inf if always else min(firsts, default=math.inf)

    def _look(self, at: float) -> None:
        """Call the observers that are due before the events of the instant `at`."""
        while self._observers and self._observers[0][0] <= at and self._failure is None:
            seen_at, _, look = heappop(self._observers)
            self.now = max(self.now, seen_at)
            look()

    # Methods for the emulation

    def schedule(
        self, at: float, destination: int, source: int, number: int, call: Callable[[Any], object], argument: Any
    ) -> Event:
        """Run `call(argument)` at the virtual instant `at`; return the event.

        Events of one instant run in the order of `(destination, source, number)`, which must be
        unique among them. The call may wake tasks and schedule events; it can't wait.
        """
        event = (at, destination, source, number, call, argument)
        heappush(self.calendar, event)
        return event

    async def sleep_until(self, at: float, device: int) -> None:
        """Have a device's task wait until the instant `at`, as `trio.sleep_until` does, in a quarter of the time.

        An event costs less than a cancel scope with a deadline. A task that is canceled before leaves an event behind
        that does nothing, and for which the clock doesn't go on.
        """
        waiting = [trio.lowlevel.current_task()]
        self.schedule(at, device, _SLEEPS, next(self._count), _wake, waiting)

        def abort(_: object) -> trio.lowlevel.Abort:
            waiting.clear()
            self._cancelled += 1
            self._look_ahead()
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def forecast(self, at: float, device: int, call: Callable[[], object]) -> None:
        """Run `call()` at the virtual instant `at`, before everything but observers.

        Calls of one instant run in the order of `device`. They can wake tasks; while only such calls are
        left, the run goes on only if `persists()`.
        """
        heappush(self._weather, (at, device, next(self._count), call))
        self._look_ahead()

    def observe(self, at: float, look: Callable[[], object]) -> None:
        """Run `look()` just before the first events at or after the instant `at`."""
        heappush(self._observers, (at, next(self._count), look))
        self._look_ahead()

    async def supervise(self) -> None:
        """Wait until `stop` is called; raise the reason given to it.

        Raises:
            Idle: if every task waits and no event is left.
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
            self._look_ahead()
            if self._supervisor is not None:
                trio.lowlevel.reschedule(self._supervisor, outcome.Value(None))
                self._supervisor = None


def _wake(waiting: list[trio.lowlevel.Task]) -> None:
    if waiting:
        trio.lowlevel.reschedule(waiting.pop(), outcome.Value(None))


class Idle(Exception):
    """Every task waits and the calendar is empty."""


class Stopped(Exception):
    """The run was ended on purpose."""
