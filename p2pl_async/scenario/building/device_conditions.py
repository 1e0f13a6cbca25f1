"""From a scenario to its devices: how fast each computes, how wrong its clock is, when it is down or asleep."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import merge
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from p2pl_async.air import BleAdvertising, BleConnections, Medium, Tsch
from p2pl_async.air.advertising import scan_phase
from p2pl_async.air.connections import idle_shares
from p2pl_async.air.slotframes import listening_share
from p2pl_async.basics.arrays import Floats
from p2pl_async.errors import Problem, ScenarioError
from p2pl_async.hardware.churn import Churn, Times, read_trace
from p2pl_async.hardware.downtime import ABSENT, CRASHED, Downtime
from p2pl_async.hardware.energy import Between, Doze, Energy
from p2pl_async.hardware.hardware import Hardware, OwnRadio
from p2pl_async.hardware.local_clock import IDEAL, LocalClock
from p2pl_async.link.outage import DrawnOutage, DutyCycle, NoOutage
from p2pl_async.scenario.airs import AirsOfDevices
from p2pl_async.scenario.building.airs import seed_of_air
from p2pl_async.scenario.building.link_table import LinkTable
from p2pl_async.scenario.events_in_order import EventsInOrder
from p2pl_async.scenario.scenario import Scenario

if TYPE_CHECKING:
    import networkx as nx

Interval = tuple[float, float]


class Rhythm(NamedTuple):
    """A radio is awake for `awake` seconds from the instants first, first + period, ... on."""

    first: float
    awake: float
    period: float


class DeviceConditions:
    """The hardware of each device of a scenario, and the times at which it is down: drawn once for all runs.

    Args:
        scenario: a valid scenario.
        events: its events, of which some crash devices.
        graph: every link that there ever is, and that messages go over.
        links: settings of those links; their duty cycles say when a radio sleeps.
    """

    def __init__(self, scenario: Scenario, events: EventsInOrder, graph: nx.DiGraph[int], links: LinkTable) -> None:
        self._scenario = scenario
        self._events = events
        self._graph = graph
        self._links = links

    def hardware(self) -> list[Hardware]:
        """Return each device's hardware, by id; its downtime is new for each run, which uses it up.

        Raises:
            ScenarioError: if a trace of churn can't be used.
        """
        lasting, absences = self._drawn
        if not any(absence.possible for absence in absences):
            return list(lasting)
        return [replace(one, downtime=absence.downtime()) for one, absence in zip(lasting, absences, strict=True)]

    @functools.cached_property
    def measures_energy(self) -> bool:
        """Whether any device has an `[energy]` table."""
        return any(energy for _, energy in self._scenario.devices.of_each("energy", self._scenario.energy))

    @functools.cached_property
    def _drawn(self) -> tuple[list[Hardware], list[_Absence]]:
        """Each device's hardware without its downtime, and what that downtime comes from."""
        scenario, devices = self._scenario, self._scenario.devices
        energies = [energy for _, energy in devices.of_each("energy", scenario.energy)]
        churns = devices.of_each("churn", scenario.churn)
        starts = devices.starts(scenario.seed)
        lasting = [
            Hardware(compute, start, clock, None, churn is not None and churn.on_crash == "keep_state", *radios)
            for compute, start, clock, (_, churn), radios in zip(
                devices.computes(), starts, self._clocks(), churns, self._radios(energies), strict=True
            )
        ]
        return lasting, list(
            self._absences(churns, [energy is not None and energy.battery is not None for energy in energies])
        )

    def _absences(self, churns: Sequence[tuple[str, Churn | None]], mortal: Sequence[bool]) -> Iterator[_Absence]:
        devices, seed = self._scenario.devices, self._scenario.seed
        traced = _traces(churns, devices.count)
        for device, ((group, churn), (join, leave)) in enumerate(zip(churns, devices.stays(seed), strict=True)):
            drawn = None
            if churn is not None and churn.crashes_by_itself:
                drawn = functools.partial(churn.crashes, seed, device, group, join, traced.get(churn.trace, {}))
            yield _Absence(
                drawn,
                self._events.crashes(device, 0.0 if churn is None else churn.restart),
                [(start, end) for start, end in ((0.0, join), (leave, math.inf)) if start < end],
                mortal[device],
            )

    def _clocks(self) -> list[LocalClock]:
        scenario = self._scenario
        found = [settings for _, settings in scenario.devices.of_each("clocks", scenario.clocks)]
        return [
            IDEAL if settings is None else settings.clock(scenario.seed, device)
            for device, settings in enumerate(found)
        ]

    def _radios(
        self, energies: Sequence[Energy | None]
    ) -> Iterator[tuple[Energy | None, Between | None, Doze | None, tuple[OwnRadio, ...]]]:
        """Yield what the radios of each device draw, when they sleep and what they do in between."""
        measures = self.measures_energy
        billed = [
            self._airs.of_device[device] if energy is not None and energy.radio else ()
            for device, energy in enumerate(energies)
        ]
        of_radios = {(device, air) for device, airs in enumerate(billed) for air in airs}
        for device in range(len(energies)) if measures else ():
            numbers = self._airs.of_device[device]
            if len(numbers) == 1:  # else, its radios listen as long as one of them does
                of_radios.add((device, numbers[0]))
        dozes = self._dozes(of_radios) if measures else {}
        for device, (energy, airs) in enumerate(zip(energies, billed, strict=True)):
            numbers = self._airs.of_device[device]
            asleep = _sleep(self.rhythms[device]) if measures else None
            doze = dozes.get((device, numbers[0])) if len(numbers) == 1 else None
            radios = []
            for air in airs:
                assert energy is not None
                draws = energy.radio.get(self._airs.names[air], energy)
                radios.append(OwnRadio(air, draws, _sleep(self._rhythms(device, air)), dozes.get((device, air))))
            yield energy, asleep, doze, tuple(radios)

    def _dozes(self, radios: Collection[tuple[int, int]]) -> dict[tuple[int, int], Doze]:
        """Return what radios do while there is nothing to send or receive, by device and air; others listen."""
        found = {}
        for device, air in sorted(radios):
            medium, _ = self._radio(air)
            if isinstance(medium, Tsch):
                found[device, air] = Doze(0.0, 0.0, listening_share(medium, device, self._senders(device, air)))
            elif isinstance(medium, BleConnections):
                found[device, air] = Doze(0.0, 0.0)
        if not found:
            return found
        for pair in sorted({(min(link), max(link)) for link in self._graph.edges}):
            air = self._airs.between(*pair) or 0
            medium, seed = self._radio(air)
            for device, idle in idle_shares(pair, medium, seed).items() if isinstance(medium, BleConnections) else ():
                before = found.get((device, air))
                if before is not None:
                    found[device, air] = Doze(before.tx + idle.tx, before.rx + idle.rx)
        return found

    def _senders(self, device: int, air: int) -> Iterable[int]:
        """Return who may send to a device on an air."""
        senders = self._graph.predecessors(device)
        return senders if not self._airs.several else [one for one in senders if self._airs.between(one, device) == air]

    @property
    def _airs(self) -> AirsOfDevices:
        return self._links.matches.airs

    def _only_radio(self, device: int) -> tuple[Medium | None, int]:
        """Return the medium of a device's radio, and the seed of what is drawn for it; (None, 0) if it has several."""
        numbers = self._airs.of_device[device]
        return self._radio(numbers[0]) if len(numbers) == 1 else (None, 0)

    def _radio(self, number: int) -> tuple[Medium, int]:
        name = self._airs.names[number]
        return self._scenario.media[number], seed_of_air(self._scenario.seed, name)

    @functools.cached_property
    def rhythms(self) -> list[list[Rhythm]]:
        """The rhythms in which each device's radio wakes, by id; none if it never sleeps."""
        return [self._rhythms(device, None) for device in range(self._scenario.devices.count)]

    @functools.cached_property
    def _cycles(self) -> bool:
        """Whether any link may have a duty cycle."""
        link = self._scenario.link
        outages_of = [link.outage, *(air.link.outage for air in self._scenario.air.values())]
        cycles = any(isinstance(one, DutyCycle) for one in outages_of)
        return cycles or any("outage" in one.table for one in link.override)

    def _rhythms(self, device: int, air: int | None) -> list[Rhythm]:
        """Return the rhythms in which a device's radio on an air wakes; None: all of its radios together."""
        medium, seed = self._only_radio(device) if air is None else self._radio(air)
        if isinstance(medium, BleAdvertising) and medium.window is not None:
            return [Rhythm(scan_phase(medium, seed, device), medium.window, medium.scan_interval)]
        if not self._cycles:
            return []  # without a look at each of a million links
        senders = self._graph.predecessors(device) if air is None else self._senders(device, air)
        outages = {self._links.settings(src, device).outage for src in senders}
        plans = [outage for outage in outages if isinstance(outage, DutyCycle) and outage.of != "sender"]
        sleeps = bool(outages) and len(plans) == len(outages)
        found = [Rhythm(plan.wakes(self._scenario.seed, device), plan.awake, plan.period) for plan in plans]
        return sorted(found) if sleeps else []

    def deaf(self, until: float, most: int) -> Iterator[tuple[int, float, float]]:
        """Yield (device, from, to) of each time at which random outages keep a device from hearing anyone.

        Args:
            until: the end of the last one, in virtual seconds.
            most: of them, for each device; the first.
        """
        link = self._scenario.link
        outages_of = [link.outage, *(air.link.outage for air in self._scenario.air.values())]
        written = any("outage" in one.table for one in link.override)
        if not written and all(isinstance(one, NoOutage) for one in outages_of):
            return
        for device in range(self._scenario.devices.count):
            medium, seed = self._only_radio(device)
            if medium is None:  # several radios, which are deaf at times of their own
                continue
            outages = {self._links.settings(src, device).outage for src in self._graph.predecessors(device)}
            outage = outages.pop() if len(outages) == 1 else None
            process = outage.deafness(seed, device) if isinstance(outage, DrawnOutage) else None
            if process is None:
                continue
            now, found = 0.0, 0
            while now < until and found < most:
                is_deaf, end = process.at(now)
                if is_deaf:
                    yield device, now, min(end, until)
                    found += 1
                now = end


@dataclass(frozen=True, slots=True)
class _Absence:
    """Why one device is down at times.

    Attributes:
        drawn: begins its random or recorded crashes anew; None if it has none.
        scripted: its crashes by events.
        absent: before it joins, after it leaves.
        mortal: whether it has a battery.
    """

    drawn: Callable[[], Iterator[Interval]] | None
    scripted: Sequence[Interval]
    absent: Sequence[Interval]
    mortal: bool

    @property
    def possible(self) -> bool:
        return self.drawn is not None or bool(self.scripted or self.absent) or self.mortal

    def downtime(self) -> Downtime:
        sources: dict[str, Iterable[Interval]] = {}
        if self.drawn is not None:
            sources[CRASHED] = merge(self.drawn(), self.scripted)
        elif self.scripted:
            sources[CRASHED] = self.scripted
        if self.absent:
            sources[ABSENT] = self.absent
        return Downtime(sources, mortal=self.mortal)


def _sleep(rhythms: Sequence[Rhythm]) -> Between | None:
    """Return when a radio sleeps: while none of the links to it would be heard; None: never.

    Outages of kind duty-cycle say so; a radio with a link that has none never sleeps.
    """
    return functools.partial(_asleep, rhythms) if rhythms else None


def _asleep(rhythms: Sequence[Rhythm], start: float, end: float) -> Floats:
    """Return when a radio is in no waking part of any rhythm (first waking, awake, period), shape (n, 2)."""
    wakes = [
        first + period * np.arange((start - first) // period, (end - first) // period + 1)
        for first, _, period in rhythms
    ]
    awake = np.concatenate([np.column_stack((w, w + r.awake)) for w, r in zip(wakes, rhythms, strict=True)])
    awake = np.clip(awake[np.argsort(awake[:, 0], kind="stable")], start, end)
    gaps = np.column_stack(([start, *np.maximum.accumulate(awake[:, 1])], [*awake[:, 0], end]))
    return gaps[gaps[:, 1] > gaps[:, 0]]


def _traces(churns: Sequence[tuple[str, Churn | None]], count: int) -> dict[Path | None, Mapping[int, Times]]:
    """Return the content of each trace that some device has, read once."""
    found: dict[Path | None, Mapping[int, Times]] = {}
    for path in sorted({churn.trace for _, churn in churns if churn is not None and churn.trace is not None}):
        found[path] = read_trace(path)
        beyond = [device for device in found[path] if not 0 <= device < count]
        if beyond:
            text = f"there is no device {beyond[0]}; ids go from 0 to {count - 1}, as devices.count = {count}"
            raise ScenarioError(str(path), [Problem("churn.trace", text)])
    return found
