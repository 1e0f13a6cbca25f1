"""The clock as event calendar, and the behavior of trio that it stands on."""

from __future__ import annotations

import math

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from p2pl_async.clock import Idle, VirtualClock


def run(main, clock: VirtualClock | None = None):
    return trio.run(main, clock=clock or VirtualClock())


def test_trio_asks_the_clock_only_when_no_task_can_run() -> None:
    """The guard: if trio ever asks earlier, virtual time would move under running tasks."""
    runnable = 0

    class Watching(VirtualClock):
        def deadline_to_sleep_time(self, deadline: float) -> float:
            assert runnable == 0, "trio asked the clock while a task could run"
            return super().deadline_to_sleep_time(deadline)

    async def spin(n: int) -> None:
        nonlocal runnable
        for _ in range(n):
            runnable += 1
            for _ in range(3):
                await trio.lowlevel.checkpoint()
            runnable -= 1
            await trio.sleep(1)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for n in range(1, 6):
                nursery.start_soon(spin, n)

    run(main, Watching())


def test_a_task_woken_by_an_event_is_in_time_at_its_deadline() -> None:
    """The other guard: an event of the instant of a deadline wakes the task before the deadline does."""
    clock = VirtualClock()

    async def main() -> None:
        task = trio.lowlevel.current_task()
        clock.schedule(5.0, 0, 0, 0, lambda _: trio.lowlevel.reschedule(task), None)
        with trio.move_on_after(5) as scope:
            await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.SUCCEEDED)
            assert trio.current_time() == 5
        assert not scope.cancelled_caught

    run(main, clock)


def test_sleep_takes_exactly_its_virtual_time() -> None:
    async def main() -> list[float]:
        seen = []
        for seconds in (0.1, 0.2, 1e6, 1e-9):
            before = trio.current_time()
            await trio.sleep(seconds)
            assert trio.current_time() == before + seconds
            seen.append(trio.current_time())
        return seen

    assert run(main)[-1] > 1e6


def test_a_sleep_as_an_event_takes_exactly_its_virtual_time() -> None:
    clock = VirtualClock()

    async def main() -> list[float]:
        seen = []
        for seconds in (0.1, 0.2, 1e6):
            await clock.sleep_until(trio.current_time() + seconds, 0)
            seen.append(trio.current_time())
        return seen

    assert run(main, clock) == [0.1, 0.1 + 0.2, 0.1 + 0.2 + 1e6]


def test_a_sleep_as_an_event_that_is_cut_short_keeps_no_run_alive() -> None:
    """Its event is left in the calendar; time doesn't go on for it."""
    clock = VirtualClock()

    async def sleeper() -> None:
        with trio.move_on_after(3):
            await clock.sleep_until(100.0, 0)
        assert trio.current_time() == 3
        await trio.sleep_forever()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sleeper)
            with pytest.raises(Idle):
                await clock.supervise()
            nursery.cancel_scope.cancel()

    run(main, clock)
    assert clock.now == 3.0


def test_move_on_after_and_fail_after_are_virtual() -> None:
    async def main() -> None:
        with trio.move_on_after(3600):
            await trio.sleep_forever()
        assert trio.current_time() == 3600
        with pytest.raises(trio.TooSlowError), trio.fail_after(1):
            await trio.sleep(2)
        assert trio.current_time() == 3601

    run(main)


@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 1.0, 2.5]), st.integers(0, 3), st.integers(0, 3)),
        min_size=1,
        max_size=20,
    ),
    st.randoms(),
)
def test_events_run_in_the_order_of_their_content(events: list[tuple[float, int, int]], random) -> None:
    keyed = [(*event, number) for number, event in enumerate(events)]
    shuffled = list(keyed)
    random.shuffle(shuffled)
    clock = VirtualClock()
    seen: list[tuple[float, tuple[float, int, int, int]]] = []
    for event in shuffled:
        clock.schedule(*event, lambda event: seen.append((clock.now, event)), event)

    async def main() -> None:
        await trio.sleep(10)

    run(main, clock)
    assert [event for _, event in seen] == sorted(keyed)
    assert all(now == event[0] for now, event in seen)


def test_events_scheduled_by_an_event_of_the_same_instant_run_in_that_instant() -> None:
    clock = VirtualClock()
    seen: list[float] = []
    clock.schedule(1.0, 0, 0, 0, lambda _: clock.schedule(1.0, 0, 0, 1, lambda _: seen.append(clock.now), None), None)

    async def main() -> None:
        await trio.sleep(1.5)

    run(main, clock)
    assert seen == [1.0]


def test_supervise_raises_idle_when_nothing_is_left() -> None:
    clock = VirtualClock()
    clock.observe(1e9, lambda: pytest.fail("an observer alone must not keep a run alive"))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            with pytest.raises(Idle):
                await clock.supervise()
            nursery.cancel_scope.cancel()

    run(main, clock)


def test_an_error_in_an_event_reaches_the_supervisor() -> None:
    clock = VirtualClock()
    clock.schedule(1.0, 0, 0, 0, lambda _: 1 / 0, None)

    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            await clock.supervise()

    run(main, clock)


def test_observers_see_the_instant_before_its_events_and_move_nothing() -> None:
    def times(observe: bool) -> list[float]:
        clock = VirtualClock()
        seen: list[float] = []
        looks: list[tuple[float, int]] = []
        for at in (1.0, 2.0, 3.0):
            clock.schedule(at, 0, 0, int(at), lambda _: seen.append(clock.now), None)
            if observe:
                clock.observe(at, lambda: looks.append((clock.now, len(seen))))
                clock.observe(at - 0.5, lambda: looks.append((clock.now, len(seen))))

        async def main() -> None:
            await trio.sleep(3.5)
            seen.append(trio.current_time())

        run(main, clock)
        if observe:
            assert looks == [(0.5, 0), (1.0, 0), (1.5, 1), (2.0, 1), (2.5, 2), (3.0, 2)]
        return seen

    assert times(observe=True) == times(observe=False)


def test_time_stands_still_after_stop() -> None:
    clock = VirtualClock()
    clock.observe(2.0, clock.stop)
    clock.schedule(3.0, 0, 0, 0, lambda _: pytest.fail("ran after the end"), None)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 100)
            await clock.supervise()
            nursery.cancel_scope.cancel()

    run(main, clock)
    assert clock.now == 2.0
    assert math.isclose(clock.current_time(), 2.0)


def test_a_clock_that_goes_on_passes_instants_at_which_no_task_is_woken() -> None:
    """Every task runs at the instant at which it would run otherwise, and trio has fewer turns."""

    def seen(*, goes_on: bool) -> tuple[list[float], int]:
        clock, times = VirtualClock(), []
        clock.goes_on = goes_on

        async def main() -> None:
            woken = trio.Event()
            for k in range(100):
                clock.schedule(0.1 * (k + 1), 0, 0, k, lambda k: woken.set() if k == 70 else None, k)
            with trio.move_on_after(2.05):
                await trio.sleep_forever()
            times.append(trio.current_time())
            await woken.wait()
            times.append(trio.current_time())
            await trio.sleep(0.25)
            times.append(trio.current_time())

        run(main, clock)
        return times, clock.moves

    (quick, few), (plain, many) = seen(goes_on=True), seen(goes_on=False)
    assert quick == plain == pytest.approx([2.05, 7.1, 7.35])
    assert many - few > 60
