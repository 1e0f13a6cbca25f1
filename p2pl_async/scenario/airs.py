"""The airs of a scenario: that of `[link]`, `[medium]` and `[radio]`, "main", and those by name, `[air.NAME]`."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field, model_validator

from p2pl_async.air import AnyMedium, Dedicated
from p2pl_async.basics.arrays import Ints
from p2pl_async.basics.limits import MOST_ITEMS
from p2pl_async.basics.settings import Settings, mistake
from p2pl_async.basics.units import DecibelMilliwatts, Decibels, SpreadDecibels
from p2pl_async.link import LinkSettings
from p2pl_async.radio import RadioModel, RadioSettings
from p2pl_async.scenario.selector import Selector
from p2pl_async.scenario.tables import DeviceSettings

MAIN = "main"


class RadioOverride(Settings):
    """Some devices with a radio of their own; where overrides overlap, the later one wins."""

    devices: Selector = Field(description="the devices that have this radio")
    power: DecibelMilliwatts | None = Field(default=None, description="transmit power")
    noise_figure: SpreadDecibels | None = Field(default=None, description="noise that the receiver adds")
    antenna_gain: Decibels | None = Field(default=None, description="gain of the antenna, sending and receiving")

    @model_validator(mode="after")
    def _check(self) -> RadioOverride:
        if self.power is None and self.noise_figure is None and self.antenna_gain is None:
            raise mistake("changes nothing; give some of power, noise_figure, antenna_gain")
        return self


class RadioTableSettings(RadioSettings):
    """The `[radio]` table: all radios, the space between them, and then changes for some devices."""

    override: tuple[RadioOverride, ...] = Field(default=(), max_length=MOST_ITEMS)


class AirLink(LinkSettings):
    """The `[air.NAME.link]` table: settings of the links that go over this air, before `[[link.override]]`."""

    read_before: ClassVar[tuple[str, ...]] = ("preset",)


class AirRadio(RadioModel):
    """The `[air.NAME.radio]` table: radios of another kind, at the places that `[radio]` gives."""

    override: tuple[RadioOverride, ...] = Field(default=(), max_length=MOST_ITEMS)


class AirSettings(Settings):
    """The `[air.NAME]` table: further radios, which the groups have that name it in their `airs`.

    It has links, a medium and a radio as the scenario has them in `[link]`, `[medium]` and `[radio]`, which are those
    of the air "main". A link takes the last air in the file that both its ends have; devices that have none in common
    have no link. What goes over one air disturbs nothing on another, and a device may send on both at once. Its one
    `[energy]` says what it draws while any of its radios sends or receives, or, with `energy.radio`, what each draws.
    Without a radio, links are as `link` says, at any distance.
    """

    link: AirLink = AirLink()
    medium: AnyMedium = Dedicated()
    radio: AirRadio | None = Field(default=None, description="power and noise, from which losses follow")


class AirsOfDevices:
    """Which devices are on which air, and the air of each link: numbers, 0 for "main", then in the file's order.

    Args:
        devices: the `[devices]` table, whose groups say it.
        names: of the airs by name.
    """

    def __init__(self, devices: DeviceSettings, names: Mapping[str, object]) -> None:
        self.names = (MAIN, *names)
        numbers = {name: number for number, name in enumerate(self.names)}
        said = devices.of_each("airs", (MAIN,)) if names else [("", (MAIN,))] * devices.count
        self.of_device = [tuple(sorted({numbers[name] for name in airs if name in numbers})) for _, airs in said]

    @property
    def several(self) -> bool:
        """Whether there is any but "main"."""
        return len(self.names) > 1

    def between(self, src: int, dst: int) -> int | None:
        """Return the last air that both ends of a link are on; None if they have none in common, and so no link."""
        return _last_common(self.of_device[src], self.of_device[dst])

    def members(self, air: int) -> frozenset[int]:
        """Return the devices that are on an air."""
        return frozenset(device for device, airs in enumerate(self.of_device) if air in airs)

    @functools.cached_property
    def table(self) -> Ints:
        """The air of each link, shape (n, n): row src, column dst; -1 where there is none, and on the diagonal."""
        kinds = sorted(set(self.of_device))
        common = {(a, b): _last_common(a, b) for a in kinds for b in kinds}
        between = {ends: -1 if air is None else air for ends, air in common.items()}
        rows = {a: np.array([between[a, b] for b in self.of_device], np.int64) for a in kinds}
        table = np.array([rows[a] for a in self.of_device])
        np.fill_diagonal(table, -1)
        return table


def _last_common(some: Sequence[int], others: Sequence[int]) -> int | None:
    return next((air for air in reversed(some) if air in others), None)


def has_radio(airs: Mapping[str, AirSettings], numbers: Collection[int]) -> bool:
    """Tell whether a device that is on airs of these numbers has a radio, where there is a `[radio]`: needs a place."""
    radios = [True, *(air.radio is not None for air in airs.values())]
    return any(radios[number] for number in numbers)
