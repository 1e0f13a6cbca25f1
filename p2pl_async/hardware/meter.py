"""Energy meter: the time that each device spends in each state, in joules, and when a battery is empty.

A radio, or all radios of a device that are billed together, is in one state at a time; where several things happen at
once the first of these counts:

    off (crashed, absent) > transmitting > asleep > receiving > idle (listening)

    E = sum over radios billed apart, and states, of voltage x current x time  +  cpu x time spent training

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
from p2pl_async.hardware.energy import STATES, Between, Currents, Doze, Energy
from p2pl_async.hardware.hardware import Hardware

_SETTLE = 4096  # intervals of one device in memory
_FEW = 8  # intervals; numpy adds fewer than these one after another, so both ways give the same sum
_EMPTY = 1e-12  # share of a battery that counts as nothing
_STEP = 0.05  # s; a battery's end may be noticed up to this much late


class Ledger:
    """One radio's time in each state up to an instant, its device's training, and the intervals known beyond it.

    Args:
        settings: currents that the radio draws; of an `Energy`, also the power of training.
        off: when it is off; None: never.
        asleep: when its radio sleeps; None: never.
        doze: what its radio does while there is nothing to send or receive; None: it listens.
    """

    def __init__(
        self, settings: Currents, off: Between | None, asleep: Between | None, doze: Doze | None = None
    ) -> None:
        self.settings = settings
        self._watts = {state: settings.voltage * getattr(settings, state) for state in STATES[1:]}
        self._watts["cpu"] = settings.cpu if isinstance(settings, Energy) else 0.0
        self.watts = settings.most + self._watts["cpu"]  # that it may draw at any moment
        self.seconds = dict.fromkeys(STATES, 0.0)
        self.cpu_seconds = 0.0
        self.settled = 0.0  # the instant up to which they are counted
        self._off = off
        self._asleep = asleep
        self._doze = doze
        self._noted: dict[str, list[tuple[float, float]]] = {"tx": [], "rx": [], "cpu": []}
        self.noted = 0  # intervals in memory, at most

    def note(self, state: str, start: float, end: float, air: int = 0) -> None:
        """Note that the device transmits ("tx"), receives ("rx") or trains ("cpu") between two instants, on any air."""
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
        return {"tx": sent, "rx": busy - sent, "idle": now - since - busy, "cpu": _length_of_few(cpu)}

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


class LedgerOfRadios:
    """The ledgers of a device whose radios are billed each by itself; the first bills training too.

    Args:
        parts: number of an air -> the ledger of the device's radio on it.
    """

    def __init__(self, parts: Mapping[int, Ledger]) -> None:
        self._of_air = parts
        self._parts = list(parts.values())
        self.watts = sum(part.watts for part in self._parts)

    def note(self, state: str, start: float, end: float, air: int = 0) -> None:
        """Note that the radio on an air transmits ("tx") or receives ("rx"), or that the device trains ("cpu")."""
        (self._parts[0] if state == "cpu" else self._of_air[air]).note(state, start, end)

    def settle(self, now: float) -> None:
        """Count everything up to the instant `now`; no interval noted later may begin before it."""
        for part in self._parts:
            part.settle(now)

    def crash(self, now: float) -> None:
        """Drop transmissions and trainings after the instant `now`: the device has crashed."""
        for part in self._parts:
            part.crash(now)

    def joules(self) -> dict[str, float]:
        """Return the joules that each state, and the processor ("cpu"), has drawn so far, in all radios."""
        drawn = [part.joules() for part in self._parts]
        return {state: sum(one[state] for one in drawn) for state in drawn[0]}

    def outlook(self, until: float) -> float:
        """Return the energy drawn by an instant, if no more intervals are noted."""
        return sum(part.outlook(until) for part in self._parts)

    @property
    def seconds(self) -> dict[str, float]:
        """The time in each state, of all radios together."""
        return {state: sum(part.seconds[state] for part in self._parts) for state in STATES}

    @property
    def cpu_seconds(self) -> float:
        """The time spent training."""
        return self._parts[0].cpu_seconds

    @property
    def noted(self) -> int:
        """Intervals in memory, at most."""
        return sum(part.noted for part in self._parts)


class Meter:
    """The energy of all devices of a run.

    Args:
        hardware: each device; those without `energy` are not measured.
        clock: of the run.
        air: (src, dst) -> the number of the air of their link; None: there is only one.
    """

    def __init__(
        self, hardware: Sequence[Hardware], clock: VirtualClock, air: Callable[[int, int], int] | None = None
    ) -> None:
        self._clock = clock
        self._air = air
        self.died: dict[int, float] = {}  # device -> the instant at which its battery was empty
        self.ledgers = {device: _ledger(one) for device, one in enumerate(hardware) if one.energy is not None}
        self._batteries = {
            device: one.energy.battery
            for device, one in enumerate(hardware)
            if one.energy is not None and one.energy.battery is not None
        }

    def watch(self, on_empty: Callable[[int], object]) -> None:
        """Call `on_empty(device)` from now on when a battery is empty."""
        for device, battery in self._batteries.items():
            self._look_again(device, self.ledgers[device], battery, on_empty)

    def transmitting(self, device: int, start: float, end: float, air: int = 0) -> None:
        """Called with an interval in which a device transmits on an air."""
        self._note(device, "tx", start, end, air)

    def receiving(self, devices: Iterable[int], start: float, end: float, air: int = 0) -> None:
        """Called with an interval in which devices receive on an air."""
        note = self._note
        for device in devices:
            note(device, "rx", start, end, air)

    def on_link(self, src: int, dst: int, start: float, end: float, *, heard: bool) -> None:
        """Called with an interval in which a device transmits to another over a link, which may hear it."""
        air = 0 if self._air is None else self._air(src, dst)
        self._note(src, "tx", start, end, air)
        if heard:
            self._note(dst, "rx", start, end, air)

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

    def _note(self, device: int, state: str, start: float, end: float, air: int = 0) -> None:
        ledger = self.ledgers.get(device)
        if ledger is not None:
            ledger.note(state, start, end, air)
            if ledger.noted > _SETTLE:
                ledger.settle(self._clock.now)

    def _look_again(
        self, device: int, ledger: Ledger | LedgerOfRadios, battery: float, on_empty: Callable[[int], object]
    ) -> None:
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
        at = now + left / ledger.watts
        if at < now + _STEP:
            low, at = now, now + _STEP
            while ledger.outlook(at) >= battery and low < (middle := (low + at) / 2) < at:
                low, at = (low, middle) if ledger.outlook(middle) >= battery else (middle, at)
        self._clock.forecast(at, device, lambda: self._look_again(device, ledger, battery, on_empty))


_NONE: Floats = np.empty((0, 2))


def _ledger(device: Hardware) -> Ledger | LedgerOfRadios:
    """Return the account of a device that is measured: one for all of its radios, or one for each."""
    assert device.energy is not None
    off = None if device.downtime is None else device.downtime.between
    if not device.radios:
        return Ledger(device.energy, off, device.asleep, device.doze)
    parts: dict[int, Ledger] = {}
    for radio in device.radios:
        draws: Currents = radio.draws
        if not parts:  # with the power of training, which is the device's
            draws = device.energy.model_copy(update={key: getattr(draws, key) for key in Currents.model_fields})
        parts[radio.air] = Ledger(draws, off, radio.asleep, radio.doze)
    return LedgerOfRadios(parts)


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
