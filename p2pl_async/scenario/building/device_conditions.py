"""From a scenario to its devices: how fast each computes, how wrong its clock is, when it is down or asleep."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
from p2pl_async.hardware.energy import Between, Doze
from p2pl_async.hardware.hardware import Hardware
from p2pl_async.hardware.local_clock import IDEAL, LocalClock
from p2pl_async.link.outage import DrawnOutage, DutyCycle, NoOutage
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
        asleep = self._sleeps() if self.measures_energy else [None] * devices.count
        radios = zip(energies, asleep, self._dozes(), strict=True)
        starts = devices.starts(scenario.seed)
        lasting = [
            Hardware(compute, start, clock, None, churn is not None and churn.on_crash == "keep_state", *radio)
            for compute, start, clock, (_, churn), radio in zip(
                devices.computes(), starts, self._clocks(), churns, radios, strict=True
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

    def _sleeps(self) -> list[Between | None]:
        """Return for each device when its radio sleeps: while none of the links to it would be heard.

        Outages of kind duty-cycle say so; a device with a link that has none never sleeps.
        """
        return [functools.partial(_asleep, rhythms) if rhythms else None for rhythms in self.rhythms]

    def _dozes(self) -> list[Doze | None]:
        """Return for each device what its radio does while there is nothing to send or receive; None: it listens."""
        radios = [self._only_radio(device) for device in range(self._scenario.devices.count)]
        found = [Doze(0.0, 0.0) if isinstance(medium, BleConnections | Tsch) else None for medium, _ in radios]
        if not self.measures_energy or all(one is None for one in found):
            return [None] * len(found)
        for device, (medium, _) in enumerate(radios):
            if isinstance(medium, Tsch):
                senders = self._graph.predecessors(device)
                found[device] = Doze(0.0, 0.0, listening_share(medium, device, senders))
        for pair in sorted({(min(link), max(link)) for link in self._graph.edges}):
            medium, seed = self._radio(self._links.matches.airs.between(*pair) or 0)
            for device, idle in idle_shares(pair, medium, seed).items() if isinstance(medium, BleConnections) else ():
                before = found[device]
                if before is not None:
                    found[device] = Doze(before.tx + idle.tx, before.rx + idle.rx)
        return found

    def _only_radio(self, device: int) -> tuple[Medium | None, int]:
        """Return the medium of a device's radio, and the seed of what is drawn for it; (None, 0) if it has several."""
        numbers = self._links.matches.airs.of_device[device]
        return self._radio(numbers[0]) if len(numbers) == 1 else (None, 0)

    def _radio(self, number: int) -> tuple[Medium, int]:
        name = self._links.matches.airs.names[number]
        return self._scenario.media[number], seed_of_air(self._scenario.seed, name)

    @functools.cached_property
    def rhythms(self) -> list[list[Rhythm]]:
        """The rhythms in which each device's radio wakes, by id; none if it never sleeps."""
        link, result = self._scenario.link, list[list[Rhythm]]()
        outages_of = [link.outage, *(air.link.outage for air in self._scenario.air.values())]
        cycles = any(isinstance(one, DutyCycle) for one in outages_of) or any(
            "outage" in one.table for one in link.override
        )
        for device in range(self._scenario.devices.count):
            medium, seed = self._only_radio(device)
            if isinstance(medium, BleAdvertising) and medium.window is not None:
                result.append([Rhythm(scan_phase(medium, seed, device), medium.window, medium.scan_interval)])
                continue
            if not cycles:
                result.append([])  # without a look at each of a million links
                continue
            outages = {self._links.settings(src, device).outage for src in self._graph.predecessors(device)}
            plans = [outage for outage in outages if isinstance(outage, DutyCycle) and outage.of != "sender"]
            sleeps = bool(outages) and len(plans) == len(outages)
            found = [Rhythm(plan.wakes(self._scenario.seed, device), plan.awake, plan.period) for plan in plans]
            result.append(sorted(found) if sleeps else [])
        return result

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
