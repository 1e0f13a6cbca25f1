"""From a scenario to the devices' times: when each is down or asleep, what survives a crash, how wrong its clock is."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from heapq import merge
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from p2pl_async.errors import Problem, ScenarioError
from p2pl_async.hardware.churn import Churn, Times, read_trace
from p2pl_async.hardware.downtime import ABSENT, CRASHED, Downtime
from p2pl_async.hardware.energy import Between, Energy
from p2pl_async.hardware.local_clock import LocalClock
from p2pl_async.link.outage import DutyCycle
from p2pl_async.scenario.building.link_table import LinkTable
from p2pl_async.scenario.events_in_order import Timetable
from p2pl_async.scenario.scenario import Scenario

if TYPE_CHECKING:
    import networkx as nx


def downtimes(scenario: Scenario) -> list[Downtime] | None:
    """Return when each device is down, new for each run; None if none ever is.

    Raises:
        ScenarioError: if a trace can't be used.
    """
    devices, seed = scenario.devices, scenario.seed
    churns = devices.of_each("churn", scenario.churn)
    stays = devices.stays(seed)
    traced = _traces(churns, devices.count)
    timetable = Timetable(devices, scenario.link, scenario.event)
    energies = [energy for _, energy in devices.of_each("energy", scenario.energy)]
    result = []
    for device, ((group, churn), (join, leave)) in enumerate(zip(churns, stays, strict=True)):
        sources: dict[str, Iterable[tuple[float, float]]] = {}
        scripted = timetable.crashes(device, 0.0 if churn is None else churn.restart)
        if churn is not None and churn.crashes_by_itself:
            drawn = churn.crashes(seed, device, group, join, traced.get(churn.trace, {}))
            sources[CRASHED] = merge(drawn, scripted)
        elif scripted:
            sources[CRASHED] = scripted
        absent = [(start, end) for start, end in ((0.0, join), (leave, math.inf)) if start < end]
        if absent:
            sources[ABSENT] = absent
        mortal = energies[device] is not None and energies[device].battery is not None
        result.append(Downtime(sources, mortal=mortal))
    return result if any(downtime.causes for downtime in result) else None


def keeps_state(scenario: Scenario) -> list[bool]:
    """Return for each device whether its parameters survive a crash."""
    churns = scenario.devices.of_each("churn", scenario.churn)
    return [churn is not None and churn.on_crash == "keep_state" for _, churn in churns]


def consumption(scenario: Scenario) -> list[Energy | None] | None:
    """Return what each device draws; None if nobody asks."""
    found = [energy for _, energy in scenario.devices.of_each("energy", scenario.energy)]
    return found if any(found) else None


def sleeping(scenario: Scenario, graph: nx.DiGraph[int], links: LinkTable) -> list[Between | None]:
    """Return for each device when its radio sleeps: while none of the links to it would be heard.

    That is what outages of kind duty-cycle say; a device with a link that has none never sleeps.
    """
    result: list[Between | None] = []
    for device in range(scenario.devices.count):
        outages = {links.settings(src, device).outage for src in graph.predecessors(device)}
        plans = [outage for outage in outages if isinstance(outage, DutyCycle) and outage.of != "sender"]
        if outages and len(plans) == len(outages):
            rhythms = [(plan.wakes(scenario.seed, device), plan.awake, plan.period) for plan in plans]
            result.append(functools.partial(_asleep, sorted(rhythms)))
        else:
            result.append(None)
    return result


def _asleep(rhythms: Sequence[tuple[float, float, float]], start: float, end: float) -> NDArray[np.float64]:
    """Return when a radio is in no waking part of any rhythm (first waking, awake, period), shape (n, 2)."""
    wakes = [
        first + period * np.arange((start - first) // period, (end - first) // period + 1)
        for first, _, period in rhythms
    ]
    awake = np.concatenate([np.column_stack((w, w + r[1])) for w, r in zip(wakes, rhythms, strict=True)])
    awake = np.clip(awake[np.argsort(awake[:, 0], kind="stable")], start, end)
    gaps = np.column_stack(([start, *np.maximum.accumulate(awake[:, 1])], [*awake[:, 0], end]))
    return gaps[gaps[:, 1] > gaps[:, 0]]


def clocks(scenario: Scenario) -> list[LocalClock] | None:
    """Return each device's own clock; None if all are ideal."""
    found = [settings for _, settings in scenario.devices.of_each("clocks", scenario.clocks)]
    if not any(found):
        return None
    return [
        LocalClock() if settings is None else settings.clock(scenario.seed, device)
        for device, settings in enumerate(found)
    ]


def _traces(churns: Sequence[tuple[str, Churn | None]], count: int) -> dict[Path | None, Mapping[int, Times]]:
    """Return what is in each trace that some device has, read once."""
    found: dict[Path | None, Mapping[int, Times]] = {}
    for path in sorted({churn.trace for _, churn in churns if churn is not None and churn.trace is not None}):
        found[path] = read_trace(path)
        beyond = [device for device in found[path] if not 0 <= device < count]
        if beyond:
            text = f"there is no device {beyond[0]}; ids go from 0 to {count - 1}, as devices.count = {count}"
            raise ScenarioError(str(path), [Problem("churn.trace", text)])
    return found
