"""Energy of devices: what their radios and processors draw in each state, and when a battery is empty.

A radio is in one state at a time; where several things happen at once the first of these counts:

    off (crashed, absent) > transmitting > asleep > receiving > idle (listening)

    E = voltage x sum over states of current x time  +  cpu x time spent training

Intervals are told when they become known, which may be ahead of time, and settled up to an instant
that has come: times of the states always add up to that instant. A battery that is empty ends its
device then and there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from p2pl_async.basics.arrays import Floats
from p2pl_async.basics.settings import Settings, mistake
from p2pl_async.basics.units import Amperes, PositiveJoules, Volts, Watts
from p2pl_async.clock import VirtualClock
from p2pl_async.hardware.downtime import Downtime

Between = Callable[[float, float], Floats]
"""(start, end) -> the intervals that lie in it, shape (n, 2)."""

STATES = ("off", "tx", "sleep", "rx", "idle")
_SETTLE = 4096  # intervals of one device in memory
_EMPTY = 1e-12  # share of a battery that counts as nothing
_STEP = 0.05  # s; what is told within it before a battery is empty may find it so by as much too late

PRESETS: dict[str, dict[str, str]] = {
    "nrf52840": {"voltage": "3 V", "tx": "4.8 mA", "rx": "4.6 mA", "idle": "4.6 mA", "sleep": "1.5 uA"},
    "cc2420": {"voltage": "3 V", "tx": "17.4 mA", "rx": "18.8 mA", "idle": "18.8 mA", "sleep": "1 uA"},
    "esp32-s2": {"voltage": "3.3 V", "tx": "135 mA", "rx": "63 mA", "idle": "63 mA", "sleep": "550 uA"},
    "sx1276": {"voltage": "3.3 V", "tx": "29 mA", "rx": "11 mA", "idle": "1.6 mA", "sleep": "0.2 uA"},
    "nrf9160": {"voltage": "3.7 V", "tx": "107.5 mA", "idle": "18 uA", "sleep": "2.7 uA"},
}
"""Radios by name. nrf52840: BLE and 802.15.4 at 0 dBm with DC/DC (Nordic's power profiler; rx from memory).
cc2420: 802.15.4 at 0 dBm (data sheet, from memory). esp32-s2: Wi-Fi HT20 MCS7 at 13 dBm, light sleep (Espressif,
ESP32-S2-WROOM data sheet v1.1, tables 7 and 8). sx1276: LoRa at 13 dBm, idle is standby (data sheet, from memory).
nrf9160: LTE-M at 23 dBm, mean of the uplink, eDRX of 82 s, PSM; the voltage is assumed (Nordic, nRF9160 product
specification), and it doesn't say what receiving takes."""

RadioName = Literal["nrf52840", "cc2420", "esp32-s2", "sx1276", "nrf9160"]


class Energy(Settings):
    """The `[energy]` table: what a device draws, and the battery that it has."""

    preset: RadioName | None = Field(default=None, description="a radio whose values hold where this table gives none")
    voltage: Volts = Field(description="of the supply")
    tx: Amperes = Field(description="current while transmitting")
    rx: Amperes = Field(description="current while receiving")
    idle: Amperes = Field(description="current while listening to nothing")
    sleep: Amperes = Field(default=0.0, description="current while asleep, as an outage of kind duty-cycle says")
    cpu: Watts = Field(default=0.0, description="power of training, on top of the radio's")
    battery: Annotated[PositiveJoules | None, Field(description="what it holds; empty, the device is gone")] = None

    @model_validator(mode="before")
    @classmethod
    def _under_preset(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and isinstance(value.get("preset"), str):
            return {**PRESETS.get(value["preset"], {}), **value}
        return value

    @model_validator(mode="after")
    def _check(self) -> Energy:
        if self.battery is not None and self.watts == 0:
            raise mistake("battery never runs out where nothing draws any current; give tx, rx, idle or cpu")
        return self

    @property
    def watts(self) -> float:
        """The most that the device can draw."""
        return self.voltage * max(self.tx, self.rx, self.idle, self.sleep) + self.cpu


class Account:
    """One device's time in each state up to an instant, and what is known beyond it.

    Args:
        settings: what the device draws.
        off: when it is off; None: never.
        asleep: when its radio sleeps; None: never.
    """

    def __init__(self, settings: Energy, off: Between | None, asleep: Between | None) -> None:
        self.settings = settings
        self.seconds = dict.fromkeys(STATES, 0.0)
        self.cpu_seconds = 0.0
        self.settled = 0.0  # the instant up to which they are counted
        self._off = off
        self._asleep = asleep
        self._told: dict[str, list[tuple[float, float]]] = {"tx": [], "rx": [], "cpu": []}

    def tell(self, state: str, start: float, end: float) -> None:
        """Take note that the device transmits ("tx"), receives ("rx") or trains ("cpu") from `start` to `end`."""
        if end > start:
            self._told[state].append((start, end))

    @property
    def told(self) -> int:
        """How many intervals are in memory."""
        return sum(map(len, self._told.values()))

    def settle(self, now: float) -> None:
        """Count everything up to the instant `now`; nothing told later may begin before it."""
        if now <= self.settled:
            return
        for state, seconds in self._spent(now).items():
            if state == "cpu":
                self.cpu_seconds += seconds
            else:
                self.seconds[state] += seconds
        for state, told in self._told.items():
            self._told[state] = [interval for interval in told if interval[1] > now]
        self.settled = now

    def crash(self, now: float) -> None:
        """Forget what was to be transmitted and trained after the instant `now`: the device has crashed."""
        for state in ("tx", "cpu"):
            self._told[state] = [(start, min(end, now)) for start, end in self._told[state] if start < now]

    def joules(self) -> dict[str, float]:
        """Return what each state, and the processor ("cpu"), has drawn so far."""
        return self._drawn({**self.seconds, "cpu": self.cpu_seconds})

    def outlook(self, until: float) -> float:
        """Return what will have been drawn by an instant, in joules, if nothing more is told."""
        spent = self._spent(until) if until > self.settled else {}
        return sum(self.joules().values()) + sum(self._drawn(spent).values())

    def _drawn(self, seconds: Mapping[str, float]) -> dict[str, float]:
        one = self.settings
        drawn = {state: one.voltage * getattr(one, state) * seconds.get(state, 0.0) for state in STATES[1:]}
        return {**drawn, "cpu": one.cpu * seconds.get("cpu", 0.0)}

    def _spent(self, now: float) -> dict[str, float]:
        """Return the time in each state from what is settled to the instant `now`, as known by now."""
        since = self.settled
        off = _NONE if self._off is None else self._off(since, now)
        asleep = _NONE if self._asleep is None else self._asleep(since, now)
        parts, covered = _NONE, [0.0]
        for more in (off, self._parts("tx", since, now), asleep, self._parts("rx", since, now)):
            parts = np.concatenate((parts, more))
            covered.append(_length(parts) if len(more) else covered[-1])
        covered.append(now - since)
        spent: dict[str, float] = dict(zip(STATES, np.diff(covered).tolist(), strict=True))
        spent["cpu"] = _length(np.concatenate((off, self._parts("cpu", since, now)))) - covered[1]
        return spent

    def _parts(self, state: str, since: float, now: float) -> Floats:
        """Return the parts of what was told that lie in [since, now)."""
        told = self._told[state]
        return np.clip(np.array(told, np.float64), since, now) if told else _NONE


class Meter:
    """The energy of all devices of a run.

    Args:
        settings: what each device draws; None for one that isn't measured.
        clock: of the run.
        downtimes: for each device, when it is off.
        asleep: for each device, when its radio sleeps; None: never.
    """

    def __init__(
        self,
        settings: Sequence[Energy | None],
        clock: VirtualClock,
        downtimes: Sequence[Downtime] | None = None,
        asleep: Sequence[Between | None] | None = None,
    ) -> None:
        self._clock = clock
        self.died: dict[int, float] = {}  # device -> the instant at which its battery was empty
        self.accounts = {
            device: Account(
                one,
                None if downtimes is None else downtimes[device].between,
                None if asleep is None else asleep[device],
            )
            for device, one in enumerate(settings)
            if one is not None
        }

    def watch(self, on_empty: Callable[[int], object]) -> None:
        """From now on have `on_empty(device)` called when a battery is empty."""
        for device, account in self.accounts.items():
            if account.settings.battery is not None:
                self._look_again(device, account, account.settings.battery, on_empty)

    def transmitting(self, device: int, start: float, end: float) -> None:
        """Take note that a device transmits."""
        self._tell(device, "tx", start, end)

    def receiving(self, device: int, start: float, end: float) -> None:
        """Take note that a device receives."""
        self._tell(device, "rx", start, end)

    def training(self, device: int, start: float, end: float) -> None:
        """Take note that a device trains."""
        self._tell(device, "cpu", start, end)

    def crash(self, device: int) -> None:
        """Take note that a device has crashed: what it was about to do, it doesn't."""
        if device in self.accounts:
            self.accounts[device].crash(self._clock.now)

    def settle(self) -> None:
        """Count everything up to now."""
        for account in self.accounts.values():
            account.settle(self._clock.now)

    def joules(self) -> float:
        """Return what all devices have drawn, as far as it is settled."""
        return sum(sum(account.joules().values()) for account in self.accounts.values())

    def _tell(self, device: int, state: str, start: float, end: float) -> None:
        account = self.accounts.get(device)
        if account is not None:
            account.tell(state, start, end)
            if account.told > _SETTLE:
                account.settle(self._clock.now)

    def _look_again(self, device: int, account: Account, battery: float, on_empty: Callable[[int], object]) -> None:
        """See how much is left, and look again when it could be empty at the earliest.

        Steps shrink with what is left. The last one, below `_STEP`, goes by what is known then.
        """
        now = self._clock.now
        account.settle(now)
        left = battery - sum(account.joules().values())
        if left <= _EMPTY * battery:
            self.died[device] = now
            on_empty(device)
            return
        at = now + left / account.settings.watts
        if at < now + _STEP:
            low, at = now, now + _STEP
            while account.outlook(at) >= battery and low < (middle := (low + at) / 2) < at:
                low, at = (low, middle) if account.outlook(middle) >= battery else (middle, at)
        self._clock.forecast(at, device, lambda: self._look_again(device, account, battery, on_empty))


_NONE: Floats = np.empty((0, 2))


def _length(intervals: Floats) -> float:
    """Return the length of the union of intervals, shape (n, 2)."""
    if not len(intervals):
        return 0.0
    intervals = intervals[np.argsort(intervals[:, 0], kind="stable")]
    reached = np.maximum.accumulate(intervals[:, 1])
    before = np.concatenate(([-np.inf], reached[:-1]))
    return float(np.maximum(0.0, reached - np.maximum(intervals[:, 0], before)).sum())
