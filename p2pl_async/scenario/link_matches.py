"""Which overrides of `[link]` each directed link matches, and the settings that follow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from p2pl_async.air import Medium
from p2pl_async.air.refusals import refused
from p2pl_async.link import LinkSettings
from p2pl_async.scenario.airs import AirSettings, AirsOfDevices
from p2pl_async.scenario.reading.plain import Table, merge, toml_value, without_none
from p2pl_async.scenario.reading.schema_walk import expand
from p2pl_async.scenario.selector import select
from p2pl_async.scenario.tables import DeviceSettings, LinkTableSettings
from p2pl_async.topology.contacts import Change


def changed_settings(
    table: Table, changes: Sequence[Change], folder: Path, medium: Medium
) -> list[tuple[float, LinkSettings]]:
    """Return (instant, settings) of a link with the settings `table`, as its changes come one after another.

    Raises:
        ValueError: if a change is impossible, or the medium can't follow it; it names the line.
    """
    found: list[tuple[float, LinkSettings]] = []
    first = LinkSettings.model_validate(table)
    for change in changes:
        layer: Any = toml_value(change.value)
        for key in reversed(change.what.split(".")):
            layer = {key: layer}
        table = merge(table, expand(LinkTableSettings, layer, folder, set()))
        where = f'line {change.line}: "{change.what}={change.value}":'
        try:
            settings = LinkSettings.model_validate(table)
        except ValidationError as error:
            detail = error.errors()[0]
            text = "unknown key of [link]" if detail["type"] == "extra_forbidden" else detail["msg"]
            raise ValueError(f"{where} {text}") from error
        for refusal in refused(medium, settings, first):
            raise ValueError(f"{where} {refusal.text}")
        found.append((change.at, settings))
    return found


class LinkMatches:
    """Which overrides each link matches, as a number with bit i set for `override[i]`; above them, that of its air.

    Args:
        devices: the `[devices]` table, whose groups overrides can name.
        link: the `[link]` table.
        medium: the one that the devices share, which can't follow all settings.
        airs: further airs, each with links and a medium of its own; none by default.
    """

    def __init__(
        self,
        devices: DeviceSettings,
        link: LinkTableSettings,
        medium: Medium,
        airs: Mapping[str, AirSettings] | None = None,
    ) -> None:
        others = airs or {}
        self.airs = AirsOfDevices(devices, others)
        self.count = devices.count
        self._links: list[LinkSettings] = [link, *(air.link for air in others.values())]
        self._media = [medium, *(air.medium for air in others.values())]
        self._bases: list[Table] = [
            without_none(one.model_dump(mode="json", exclude={"override"})) for one in self._links
        ]
        self._bits = len(link.override)
        self._tables = [override.table for override in link.override]
        self._sends = [0] * devices.count  # for each device, the overrides whose `from` has it
        self._hears = [0] * devices.count
        self._both = 0
        groups = devices.groups()
        for index, override in enumerate(link.override):
            for device in select(override.src, devices.count, groups):
                self._sends[device] |= 1 << index
            for device in select(override.dst, devices.count, groups):
                self._hears[device] |= 1 << index
            self._both |= override.both << index

    def signature(self, device: int) -> tuple[int, int, tuple[int, ...]]:
        """Return the overrides of the links from a device and of those to it, and its airs: equal ones, equal links."""
        return self._sends[device], self._hears[device], self.airs.of_device[device]

    def of(self, src: int, dst: int) -> int:
        """Return the overrides that the link from `src` to `dst` matches, and its air."""
        back = self._sends[dst] & self._hears[src] & self._both
        air = (self.airs.between(src, dst) or 0) << self._bits if self.airs.several else 0
        return self._sends[src] & self._hears[dst] | back | air

    def air(self, match: int) -> int:
        """Return the number of the air of links that match this."""
        return match >> self._bits

    def medium(self, match: int) -> Medium:
        """Return the medium of links that match this."""
        return self._media[self.air(match)]

    def unchanged(self, match: int) -> LinkSettings:
        """Return the settings of links that match this, before any override."""
        return self._links[self.air(match)]

    def all(self) -> set[int]:
        """Return every set of overrides that a link can match, whatever the topology."""
        # Devices that no override tells apart are of one sort; two of a sort also have links to each other.
        sorts = Counter(map(self.signature, range(self.count)))
        some = {self.signature(device): device for device in range(self.count)}
        return {
            self.of(some[a], some[b])
            for a in sorts
            if a[0] | a[1] & self._both
            for b in sorts
            if (a != b or sorts[a] > 1) and self.airs.between(some[a], some[b]) is not None
        }

    def table(self, match: int, rules: dict[str, str] | None = None) -> Table:
        """Return the merged table of links that match these overrides; `rules` takes which override set each key."""
        table = self._bases[self.air(match)]
        for index, change in enumerate(self._tables):
            if match >> index & 1:
                table = merge(table, change, f"link.override[{index}]", rules)
        return table
