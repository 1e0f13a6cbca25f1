"""Checks of `[air.NAME]`, and of the groups that have these radios."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic_core import InitErrorDetails

from p2pl_async.air import Medium
from p2pl_async.basics.settings import line, nearest
from p2pl_async.hardware.energy import Energy
from p2pl_async.scenario.airs import MAIN, AirsOfDevices
from p2pl_async.scenario.checks.medium import check_channel, check_medium
from p2pl_async.scenario.selector import GROUP_NAME, select
from p2pl_async.scenario.tables import DeviceSettings


def check_airs(tables: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
    """Yield airs that don't fit together in themselves, or that no device has; absent tables are not looked at."""
    airs, devices = tables.get("air"), tables.get("devices")
    if airs is None:
        return
    yield from _check_energy(airs, devices, tables.get("energy"))
    if devices is not None:
        yield from _check_channels(airs, devices, tables.get("medium"))
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
                yield line(["devices", "group", name, "airs"], _unknown(air, known), list(group.airs))
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


def _check_channels(
    airs: Mapping[str, Any], devices: DeviceSettings, main: Medium | None
) -> Iterator[InitErrorDetails]:
    """Yield the groups whose channel isn't there, or is on an air that none of their devices has."""
    media = {MAIN: main, **{name: air.medium for name, air in airs.items()}}
    on = AirsOfDevices(devices, airs)
    for name, ids in devices.groups().items():
        group = devices.group[name]
        for air, channel in group.channels.items():
            keys = ["devices", "group", name, "channel", *([] if isinstance(group.channel, int) else [air])]
            had = {on.names[number] for device in ids for number in on.of_device[device]}
            if air not in media:
                yield line(keys, _unknown(air, list(media)))
            elif air not in had:
                other = min(had - {MAIN}, default="")
                hint = f"; write channel = {{ {other} = {channel} }}" if other else ""
                yield line(keys, f'has no effect, as the group has no radio on "{air}"{hint}', channel)
            elif (medium := media[air]) is not None:
                yield from check_channel(medium, channel, keys, () if air == MAIN else ("air", air))


def _check_energy(
    airs: Mapping[str, Any], devices: DeviceSettings | None, energy: Energy | None
) -> Iterator[InitErrorDetails]:
    """Yield radios of `[energy]`, of all devices or of a group, that are on no air."""
    known = [MAIN, *airs]
    tables = [(["energy"], energy)]
    for name, group in () if devices is None else devices.group.items():
        tables.append((["devices", "group", name, "energy"], group.energy))
    for keys, table in tables:
        for air in () if table is None else table.radio:
            if air not in known:
                yield line([*keys, "radio", air], _unknown(air, known))


def _unknown(air: str, known: Sequence[str]) -> str:
    guess = nearest(air, known)
    hint = f'did you mean "{guess}"?' if guess else f"known: {', '.join(known)}"
    return f'unknown air "{air}"; {hint}'
