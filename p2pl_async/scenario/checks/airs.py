"""Checks of `[air.NAME]`, and of the groups that have these radios."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic_core import InitErrorDetails

from p2pl_async.basics.settings import line, nearest
from p2pl_async.scenario.airs import MAIN
from p2pl_async.scenario.checks.medium import check_medium
from p2pl_async.scenario.selector import GROUP_NAME, select


def check_airs(tables: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
    """Yield airs that don't fit together in themselves, or that no device has; absent tables are not looked at."""
    airs, devices = tables.get("air"), tables.get("devices")
    if airs is None:
        return
    for name, air in airs.items():
        if name == MAIN or not GROUP_NAME.fullmatch(name):
            text = f'must be a letter, then letters, digits, _ and -, and not "{MAIN}", which [medium] is'
            yield line(["air", name], f"the name of an air {text}")
        yield from check_medium(dict(air), ("air", name))
        if air.radio is not None and "radio" in tables and tables["radio"] is None:
            yield line(["air", name, "radio"], "needs [radio], which says where devices are; add one")
        if air.radio is not None and air.link.latency.distance != 0:
            text = "must be left out: with a radio, the places say how far it is"
            yield line(["air", name, "link", "latency", "distance"], text)
    if devices is None:
        return
    known = [MAIN, *airs]
    for name, group in devices.group.items():
        for air in group.airs or ():
            if air not in known:
                guess = nearest(air, known)
                hint = f'did you mean "{guess}"?' if guess else f"known: {', '.join(known)}"
                yield line(["devices", "group", name, "airs"], f'unknown air "{air}"; {hint}', list(group.airs))
        if len(set(group.airs or ())) < len(group.airs or ()):
            yield line(["devices", "group", name, "airs"], "has an air twice", list(group.airs))
    had = {air for _, airs in devices.of_each("airs", (MAIN,)) for air in airs}
    for name, air in airs.items():
        if name not in had:
            yield line(["air", name], f'is on no device: write airs = ["{name}"] in a [devices.group.NAME]')
        for index, override in enumerate(() if air.radio is None else air.radio.override):
            try:
                select(override.devices, devices.count, devices.groups())
            except ValueError as error:
                yield line(["air", name, "radio", "override", index, "devices"], str(error), override.devices)
