"""Emulation: a protocol runs on every device over emulated links, in virtual time.

Scenarios, results and accuracy have no part in it: devices are trio tasks, the clock moves when
all of them wait, and a run can end in several ways.

    start --> up: protocol.run(device) --> it returns: the device has ended
               ^             | crash: the task is cut off where it waits, the inbox is emptied
               |  restart    v
               +----------- down --------> it is down for good: the device is gone

The run goes on for a device that is down and will be back, unless only passive devices are left.
"""

from __future__ import annotations

import functools
import gc
import math
import os
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

import numpy as np
import outcome
import trio

from p2pl_async.air.airs import AnyAir
from p2pl_async.basics.randomness import stream
from p2pl_async.clock import Idle, VirtualClock
from p2pl_async.device import NO_OBSERVER, Device, Observer
from p2pl_async.errors import Deadlock, DeviceFailed, Livelock
from p2pl_async.experiment.watchdog import tells_of_standstill
from p2pl_async.hardware.downtime import Downtime
from p2pl_async.hardware.hardware import Hardware, downtimes_of
from p2pl_async.hardware.meter import Meter
from p2pl_async.learner import Learner
from p2pl_async.link import Link
from p2pl_async.messages import DeviceId
from p2pl_async.protocols.base import Protocol
from p2pl_async.topology.diameter import hops_needed
from p2pl_async.topology.neighborhood import Neighborhood
from p2pl_async.trace import Trace
from p2pl_async.transport.emulated import EmulatedTransport
from p2pl_async.transport.relaying import Relaying, RelayingTransport

MakeAir = Callable[[VirtualClock, Callable[[DeviceId], int], Callable[[DeviceId, DeviceId], Link]], AnyAir]

STEPS_AT_AN_INSTANT = 10_000
"""Passes over all tasks that can run, after which an instant is taken for one without end."""
_GARBAGE = 20_000  # objects between two looks for cyclic garbage


class Emulation:
    """Devices, links and a clock, ready to run a protocol once.

    Args:
        out_neighbors: for each device, those that it can send to, in order of id.
        make_link: returns the link from one device to another.
        seed: of the devices' own random streams.
        clock: the clock of this run, new.
        make_air: returns the medium that the devices share, given the clock, and functions that return the
            round of a device and the link from one device to another; None if every link is dedicated.
        neighborhood: the neighbors at each instant, where they change; `out_neighbors` is then their union.
        hardware: each device's; by default always up, with an ideal clock. The links that `make_link`
            returns must be down with it.
        learner: trains the devices; None for protocols that don't train.
        rounds: number of rounds of each device; None for no end.
        meter: of the devices' energy, made from the same hardware.
        inbox: unread messages that a device keeps; None for all.
        relaying: how devices pass messages on; None: links go to all out-neighbors.
        observer: its functions are called as the devices run.

    Attributes:
        devices: as they are now, by id.
        clock: virtual time.
        transport: links and counters of their messages.
        trace: counts and digest of all messages.
        downtimes: for each device, when it is down; None: never.
        gone: devices that are down for good.
        learner: trains the devices; None for protocols that don't train.
        witness: of a test, if one watches (`p2pl_async.testing`).
    """

    def __init__(
        self,
        out_neighbors: Sequence[Sequence[DeviceId]],
        make_link: Callable[[DeviceId, DeviceId], Link],
        seed: int,
        *,
        clock: VirtualClock | None = None,
        make_air: MakeAir | None = None,
        neighborhood: Neighborhood | None = None,
        hardware: Sequence[Hardware] | None = None,
        learner: Learner | None = None,
        rounds: int | None = None,
        meter: Meter | None = None,
        inbox: int | None = None,
        relaying: Relaying | None = None,
        observer: Observer = NO_OBSERVER,
    ) -> None:
        n = len(out_neighbors)
        in_neighbors: list[list[DeviceId]] = [[] for _ in range(n)]
        for source, targets in enumerate(out_neighbors):
            for target in targets:
                in_neighbors[target].append(source)
        self.clock = VirtualClock() if clock is None else clock
        self.learner = learner
        self.trace = Trace(observer.sink)
        self._hardware = [Hardware()] * n if hardware is None else hardware
        self.downtimes = downtimes_of(self._hardware)
        air = None if make_air is None else functools.partial(make_air, self.clock, self._round_of)
        carries = self.clock, out_neighbors, make_link, self.trace, air, self.downtimes, meter, inbox
        self.transport = EmulatedTransport(*carries) if relaying is None else RelayingTransport(*carries, relaying)
        roams = neighborhood is not None and neighborhood.roams
        hops = functools.cache(lambda: n - 1 if roams else hops_needed(out_neighbors))
        self.devices: list[Device] = [
            Device(
                k,
                self.transport,
                in_neighbors[k],
                out_neighbors[k],
                functools.partial(stream, seed, "protocol", k),
                hops=hops,
                neighborhood=neighborhood,
                clock=self._hardware[k].clock,
                learner=learner,
                rounds=rounds,
                observer=observer,
            )
            for k in range(n)
        ]
        if meter is not None:
            meter.watch(self.end)
        self._observer = observer
        self._lives: dict[DeviceId, trio.CancelScope] = {}  # of the devices that are up
        self.gone: set[DeviceId] = set()
        self._active = list(self.devices)
        self.clock.persists = lambda: not all(device.passive for device in self._active)
        self.clock.stands_still = lambda: trio.lowlevel.add_instrument(_Standstill(self.clock))
        self._failures: list[DeviceFailed] = []
        self.witness: Any = None

    def run(self, protocol: Protocol, *, until: float | None = None) -> None:
        """Run the protocol on every device until all have ended, or `until`, or `clock.stop()`.

        Args:
            protocol: its `run` is called once per device.
            until: virtual second at which the run is cut off, before any other event of that instant.

        Raises:
            DeviceFailed: if a device's protocol raises; of several at one instant, the lowest id.
            Deadlock: if every device waits and no event is pending.
            Livelock: if devices go on and on at one instant.
        """
        for device in self.devices:
            device.largest = protocol.largest
        if until is not None:
            self.clock.observe(until, self.clock.stop)
        # Messages are many and free themselves; looking for cycles among 10,000 devices after every 700
        # of them, Python's default, was 40 % of a hop.
        thresholds = gc.get_threshold()
        gc.set_threshold(_GARBAGE, *thresholds[1:])
        try:
            # What overflows is a peer's number, which its receiver refuses, or a model that the evaluation names.
            watch = tells_of_standstill(self.clock, Emulation._run_device.__code__)
            with np.errstate(over="ignore", invalid="ignore"), watch:
                trio.run(self._main, protocol, clock=self.clock, strict_exception_groups=True)
        except BaseExceptionGroup as group:
            if group.subgroup(KeyboardInterrupt):
                raise KeyboardInterrupt from group
            raise
        finally:
            gc.set_threshold(*thresholds)
            self.transport.finish()
            self.trace.flush()
        self.transport.check()

    async def _main(self, protocol: Protocol) -> None:
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            for device in self.devices:
                nursery.start_soon(self._run_device, protocol, device, name=f"device {device.id}")
            try:
                await self.clock.supervise()
            except Idle:
                if not all(device.passive for device in self._active):
                    failure = Deadlock(self._who_waits())
            except Exception as error:
                failure = error
            nursery.cancel_scope.cancel()
        if self._failures:
            failure = min(self._failures, key=lambda failed: failed.device)
        if failure is not None:
            raise failure

    async def _run_device(self, protocol: Protocol, device: Device) -> None:
        try:
            await trio.sleep_until(self._hardware[device.id].start)
            if self.downtimes is None:
                await protocol.run(device)
            else:
                await self._live(protocol, device, self.downtimes[device.id])
        except Exception as error:
            # Others of this instant still run before the supervisor does, whatever their order.
            failure = DeviceFailed(device.id, self.clock.now, error)
            failure.__cause__ = error
            self._failures.append(failure)
            self.clock.stop()
            return
        self.transport.inbox(device.id).close()
        self._active.remove(device)
        if not self._active:
            self.clock.stop()

    async def _live(self, protocol: Protocol, device: Device, downtime: Downtime) -> None:
        """Run the protocol from each restart to the next crash, until it has ended or the device is gone."""
        while await self._up_again(device, downtime):
            crash = downtime.next(self.clock.now)
            with trio.CancelScope() as life:
                self._lives[device.id] = life
                if crash is not None:
                    self.clock.forecast(crash.start, device.id, life.cancel)
                await protocol.run(device)
            del self._lives[device.id]
            if not life.cancelled_caught:
                return
            stay = downtime.at(self.clock.now)
            self.transport.crash(device.id, stay.value)
            # The last model of a device that is gone for good is its result; it won't start from it again.
            device.crash(keep_state=self._hardware[device.id].keeps_state or stay.until == math.inf)
            if self._observer.on_crash is not None:
                self._observer.on_crash(device)
        self.gone.add(device.id)
        if self._observer.on_gone is not None:
            self._observer.on_gone(device)

    async def _up_again(self, device: Device, downtime: Downtime) -> bool:
        """Wait until the device is up; return False if it is down for good."""
        while (stay := downtime.at(self.clock.now)).value:
            if stay.until == math.inf:
                return False
            wake = functools.partial(trio.lowlevel.reschedule, trio.lowlevel.current_task(), outcome.Value(None))
            self.clock.forecast(stay.until, device.id, wake)
            await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.SUCCEEDED)
            device.boot()
            if self._observer.on_up is not None:
                self._observer.on_up(device)
        return True

    def end(self, device: DeviceId) -> None:
        """Take a device down for good at this instant: its battery is empty."""
        assert self.downtimes is not None
        self.downtimes[device].end(self.clock.now)
        if device in self._lives:
            self._lives[device].cancel()

    def _round_of(self, device: DeviceId) -> int:
        return self.devices[device].round

    def _who_waits(self) -> str:
        waits = []
        for device in self._active:
            if device.waiting_for:
                kinds = " or ".join(
                    "any message" if kind.__name__ == "Message" else kind.tag for kind in device.waiting_for
                )
                heard = ", ".join(map(str, device.in_neighbors[:8])) or "no device"
                waits.append(f"  device {device.id} (round {device.round}) waits for {kinds}; it hears {heard}")
        if not waits:
            waits = ["  no device waits for a message, and no pending event can wake any of them"]
        elif len(waits) > 10:
            waits[10:] = [f"  ... and {len(waits) - 10} more"]
        if self.gone:
            waits.append(f"  gone for good: {', '.join(map(str, sorted(self.gone)[:20]))}")
        lost = self.trace.counts.n_lost
        why = f"{lost} messages were lost so far; " if lost else ""
        return "\n".join(
            [
                f"deadlock at {self.clock.now:.6g} s: every device waits and nothing is left to happen",
                *waits,
                f"  {why}give the wait a timeout, or the links an arq that repeats what is lost",
            ]
        )


class _Standstill(trio.abc.Instrument):
    """Ends a run whose devices go on at one instant: they wait for nothing, or for messages that take no time.

    It looks at the instant that it is made in, and goes when that is over.
    """

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._at = clock.now
        self._tasks: dict[int, trio.lowlevel.Task] = {}
        self._passes = 0

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Note a device whose task has made a step."""
        if task.name.startswith("device "):
            self._tasks[int(task.name.removeprefix("device "))] = task

    def before_io_wait(self, timeout: float) -> None:
        """Count a pass over all tasks that can run; end the run after the last."""
        if self._clock.now != self._at:
            trio.lowlevel.remove_instrument(self)
            return
        self._passes += 1
        if self._passes == STEPS_AT_AN_INSTANT and self._tasks:
            device = min(self._tasks)
            others = f", and {len(self._tasks) - 1} more," if len(self._tasks) > 1 else ""
            self._clock.stop(
                Livelock(
                    f"device {device}{others} went on {STEPS_AT_AN_INSTANT} times at {self._at:.6g} s without virtual "
                    f"time passing ({_place(self._tasks[device])}); wait, train or sleep there, or give links a latency"
                )
            )


def _place(task: trio.lowlevel.Task) -> str:
    """Return where a task waits: the innermost line of its protocol."""
    found: list[FrameType] = []
    coroutine: Any = task.coro
    while coroutine is not None and getattr(coroutine, "cr_frame", None) is not None:
        found.append(coroutine.cr_frame)
        coroutine = coroutine.cr_await
    trios = os.path.dirname(trio.__file__)
    own = [
        frame
        for frame in found
        if not frame.f_code.co_filename.startswith(trios) and os.path.basename(frame.f_code.co_filename) != _OWN
    ]
    frame = own[0] if own else found[-1]
    for inner in own:
        if inner.f_code.co_filename == frame.f_code.co_filename:
            frame = inner
    return f"{frame.f_code.co_filename}, line {frame.f_lineno}"


_OWN = os.path.basename(__file__)
