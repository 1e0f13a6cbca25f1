"""From a scenario to the devices' times: when each is down, what survives a crash, how wrong its clock is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from p2pl_async.churn import Churn, Times, read_trace
from p2pl_async.clocks import LocalClock
from p2pl_async.downtime import ABSENT, CRASHED, Downtime
from p2pl_async.errors import Problem, ScenarioError
from p2pl_async.scenario.schema import Scenario


def downtimes(scenario: Scenario) -> list[Downtime] | None:
    """Return when each device is down, new for each run; None if none ever is.

    Raises:
        ScenarioError: if a trace can't be used.
    """
    devices, seed = scenario.devices, scenario.seed
    churns = devices.of_each("churn", scenario.churn)
    stays = devices.stays(seed)
    traced = _traces(churns, devices.count)
    result = []
    for device, ((group, churn), (join, leave)) in enumerate(zip(churns, stays, strict=True)):
        sources: dict[str, Times] = {}
        if churn is not None and churn.crashes_by_itself:
            sources[CRASHED] = churn.crashes(seed, device, group, join, traced.get(churn.trace, {}))
        absent = [(start, end) for start, end in ((0.0, join), (leave, math.inf)) if start < end]
        if absent:
            sources[ABSENT] = absent
        result.append(Downtime(sources))
    return result if any(downtime.causes for downtime in result) else None


def keeps_state(scenario: Scenario) -> list[bool]:
    """Return for each device whether its parameters survive a crash."""
    churns = scenario.devices.of_each("churn", scenario.churn)
    return [churn is not None and churn.on_crash == "keep_state" for _, churn in churns]


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
