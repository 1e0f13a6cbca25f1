"""Energy meter: the time that each device spends in each state, in joules, and when a battery is empty.

A radio is in one state at a time; where several things happen at once the first of these counts:

    off (crashed, absent) > transmitting > asleep > receiving > idle (listening)

    E = voltage x sum over states of current x time  +  cpu x time spent training

Intervals are noted when they become known, which may be ahead of time, and settled up to an instant
that has come: times of the states always add up to that instant. A battery that is empty ends its
device then and there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from operator import itemgetter

import numpy as np

from p2pl_async.basics.arrays import Floats
from p2pl_async.clock import VirtualClock
from p2pl_async.hardware.energy import STATES, Between, Doze, Energy
from p2pl_async.hardware.hardware import Hardware

_SETTLE = 4096  # intervals of one device in memory
_FEW = 8  # intervals; numpy adds fewer than these one after another, so both ways give the same sum
_EMPTY = 1e-12  # share of a battery that counts as nothing
_STEP = 0.05  # s; a battery's end may be noticed up to this much late


class Ledger:
    """One device's time in each state up to an instant, and the intervals known beyond it.

    Args:
        settings: current and power that the device draws.
        off: when it is off; None: never.
        asleep: when its radio sleeps; None: never.
        doze: what its radio does while there is nothing to send or receive; None: it listens.
    """

    def __init__(self, settings: Energy, off: Between | None, asleep: Between | None, doze: Doze | None = None) -> None:
        self.settings = settings
        self._watts = {state: settings.voltage * getattr(settings, state) for state in STATES[1:]}
        self._watts["cpu"] = settings.cpu
        self.seconds = dict.fromkeys(STATES, 0.0)
        self.cpu_seconds = 0.0
        self.settled = 0.0  # the instant up to which they are counted
        self._off = off
        self._asleep = asleep
        self._doze = doze
        self._noted: dict[str, list[tuple[float, float]]] = {"tx": [], "rx": [], "cpu": []}
        self.noted = 0  # intervals in memory, at most

    def note(self, state: str, start: float, end: float) -> None:
        """Note that the device transmits ("tx"), receives ("rx") or trains ("cpu") from `start` to `end`."""
        if end > start:
            self._noted[state].append((start, end))
            self.noted += 1

    def settle(self, now: float) -> None:
        """Count everything up to the instant `now`; no interval noted later may begin before it."""
        if now <= self.settled:
            return
        for state, seconds in self._spent(now).items():
            if state == "cpu":
                self.cpu_seconds += seconds
            else:
                self.seconds[state] += seconds
        for state, noted in self._noted.items():
            if noted:
                self._noted[state] = [interval for interval in noted if interval[1] > now]
        self.noted = sum(map(len, self._noted.values()))
        self.settled = now

    def crash(self, now: float) -> None:
        """Drop transmissions and trainings after the instant `now`: the device has crashed."""
        for state in ("tx", "cpu"):
            self._noted[state] = [(start, min(end, now)) for start, end in self._noted[state] if start < now]

    def joules(self) -> dict[str, float]:
        """Return the joules that each state, and the processor ("cpu"), has drawn so far."""
        return self._drawn({**self.seconds, "cpu": self.cpu_seconds})

    def outlook(self, until: float) -> float:
        """Return the energy drawn by an instant, if no more intervals are noted."""
        spent = self._spent(until) if until > self.settled else {}
        return sum(self.joules().values()) + sum(self._drawn(spent).values())

    def _drawn(self, seconds: Mapping[str, float]) -> dict[str, float]:
        return {state: watts * seconds.get(state, 0.0) for state, watts in self._watts.items()}

    def _spent(self, now: float) -> dict[str, float]:
        """Return the time in each state from the settled instant to the instant `now`, as far as it is known."""
        since = self.settled
        off = _NONE if self._off is None else self._off(since, now)
        awake = self._asleep is None and self._doze is None and not len(off)
        if awake and self.noted < _FEW:
            return self._spent_on_few(since, now)
        asleep = _NONE if self._asleep is None else self._asleep(since, now)
        parts, covered = _NONE, [0.0]
        for more in (off, self._parts("tx", since, now), asleep, self._parts("rx", since, now)):
            if len(more):
                parts = np.concatenate((parts, more)) if len(parts) else more
            covered.append(_length(parts) if len(more) else covered[-1])
        covered.append(now - since)
        spent = {state: after - before for state, (before, after) in zip(STATES, pairwise(covered), strict=True)}
        if self._doze is not None:
            quiet, doze = spent["idle"], self._doze
            spent["idle"] = doze.idle * quiet
            for state, share in (("tx", doze.tx), ("rx", doze.rx), ("sleep", 1 - sum(doze))):
                spent[state] += share * quiet
        trained = self._parts("cpu", since, now)
        spent["cpu"] = _length(np.concatenate((off, trained))) - covered[1] if len(trained) else 0.0
        return spent

    def _spent_on_few(self, since: float, now: float) -> dict[str, float]:
        """Return the same for a device that was on and awake, and did little: arrays would take ten times as long."""
        tx, rx, cpu = self._few("tx", since, now), self._few("rx", since, now), self._few("cpu", since, now)
        sent, busy = _length_of_few(tx), _length_of_few(tx + rx)
        spent = dict.fromkeys(STATES, 0.0)
        spent.update(tx=sent, rx=busy - sent, idle=now - since - busy, cpu=_length_of_few(cpu))
        return spent

    def _few(self, state: str, since: float, now: float) -> list[tuple[float, float]]:
        """Return the parts of a few noted intervals that lie in [since, now); `min` and `max` take twice as long."""
        return [
            (
                since if start < since else now if start > now else start,
                since if end < since else now if end > now else end,
            )
            for start, end in self._noted[state]
        ]

    def _parts(self, state: str, since: float, now: float) -> Floats:
        """Return the parts of the noted intervals that lie in [since, now)."""
        noted = self._noted[state]
        return np.clip(np.array(noted, np.float64), since, now) if noted else _NONE


class Meter:
    """The energy of all devices of a run.

    Args:
        hardware: each device; those without `energy` are not measured.
        clock: of the run.
    """

    def __init__(self, hardware: Sequence[Hardware], clock: VirtualClock) -> None:
        self._clock = clock
        self.died: dict[int, float] = {}  # device -> the instant at which its battery was empty
        self.ledgers = {
            device: Ledger(one.energy, None if one.downtime is None else one.downtime.between, one.asleep, one.doze)
            for device, one in enumerate(hardware)
            if one.energy is not None
        }

    def watch(self, on_empty: Callable[[int], object]) -> None:
        """Call `on_empty(device)` from now on when a battery is empty."""
        for device, ledger in self.ledgers.items():
            if ledger.settings.battery is not None:
                self._look_again(device, ledger, ledger.settings.battery, on_empty)

    def transmitting(self, device: int, start: float, end: float) -> None:
        """Called with an interval in which a device transmits."""
        self._note(device, "tx", start, end)

    def receiving(self, devices: Iterable[int], start: float, end: float) -> None:
        """Called with an interval in which devices receive."""
        note = self._note
        for device in devices:
            note(device, "rx", start, end)

    def training(self, device: int, start: float, end: float) -> None:
        """Called with an interval in which a device trains."""
        self._note(device, "cpu", start, end)

    def crash(self, device: int) -> None:
        """Called when a device crashes: transmissions and trainings that lie ahead don't take place."""
        if device in self.ledgers:
            self.ledgers[device].crash(self._clock.now)

    def settle(self) -> None:
        """Count everything up to now."""
        for ledger in self.ledgers.values():
            ledger.settle(self._clock.now)

    def joules(self) -> float:
        """Return the joules that all devices have drawn up to the settled instant."""
        return sum(sum(ledger.joules().values()) for ledger in self.ledgers.values())

    def _note(self, device: int, state: str, start: float, end: float) -> None:
        ledger = self.ledgers.get(device)
        if ledger is not None:
            ledger.note(state, start, end)
            if ledger.noted > _SETTLE:
                ledger.settle(self._clock.now)

    def _look_again(self, device: int, ledger: Ledger, battery: float, on_empty: Callable[[int], object]) -> None:
        """Check how much is left, and check again at the earliest instant at which it could be empty.

        Steps shrink with the energy left. The last one, below `_STEP`, uses the intervals known by then.
        """
        now = self._clock.now
        ledger.settle(now)
        left = battery - sum(ledger.joules().values())
        if left <= _EMPTY * battery:
            self.died[device] = now
            on_empty(device)
            return
        at = now + left / ledger.settings.watts
        if at < now + _STEP:
            low, at = now, now + _STEP
            while ledger.outlook(at) >= battery and low < (middle := (low + at) / 2) < at:
                low, at = (low, middle) if ledger.outlook(middle) >= battery else (middle, at)
        self._clock.forecast(at, device, lambda: self._look_again(device, ledger, battery, on_empty))


_NONE: Floats = np.empty((0, 2))


def _length(intervals: Floats) -> float:
    """Return the length of the union of intervals, shape (n, 2)."""
    if not len(intervals):
        return 0.0
    intervals = intervals[np.argsort(intervals[:, 0], kind="stable")]
    reached = np.maximum.accumulate(intervals[:, 1])
    before = np.concatenate(([-np.inf], reached[:-1]))
    return float(np.maximum(0.0, reached - np.maximum(intervals[:, 0], before)).sum())


def _length_of_few(intervals: list[tuple[float, float]]) -> float:
    """Return the length of the union of a few intervals."""
    length, reached = 0.0, -math.inf
    for start, end in sorted(intervals, key=itemgetter(0)):
        if end > reached:
            length += end - (start if start > reached else reached)
            reached = end
    return length
