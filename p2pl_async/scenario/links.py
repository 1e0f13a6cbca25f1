"""Which settings each directed link has once all overrides are applied, and which rule set each value.

    [link]  ->  each [[link.override]] that matches src -> dst, in order  ->  LinkSettings

Links that match the same overrides share one settings object, so 10,000 links have few.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails, InitErrorDetails

from p2pl_async.contacts import Change, Contacts
from p2pl_async.errors import Problem
from p2pl_async.link import LinkSettings
from p2pl_async.scenario.load import toml_value
from p2pl_async.scenario.schema import DeviceSettings, LinkTableSettings, Scenario, unknown_key
from p2pl_async.scenario.selector import select
from p2pl_async.scenario.tables import Table, leaves, merge, without_none
from p2pl_async.scenario.walk import child, expand, fields_of
from p2pl_async.settings import line, moved

if TYPE_CHECKING:
    import networkx as nx


class LinkTable:
    """The links of a scenario.

    Args:
        scenario: a valid scenario.
        origins: key path such as "link.loss.p" -> who set it, as `load.read_scenario` returns
            it; makes `explain` tell files and presets apart.
    """

    def __init__(self, scenario: Scenario, origins: Mapping[str, str] | None = None) -> None:
        if origins is None:
            origins = {f"link.{key}": "" for key in scenario.link.model_fields_set}
        self._overrides = scenario.link.override
        self._matches = LinkMatches(scenario.devices, scenario.link)
        self._origins = origins
        self._settings: dict[int, LinkSettings] = {}

    def settings(self, src: int, dst: int) -> LinkSettings:
        """Return what the link from device `src` to device `dst` does; equal links share one object."""
        match = self._matches.of(src, dst)
        if match not in self._settings:
            self._settings[match] = LinkSettings.model_validate(self._matches.table(match))
        return self._settings[match]

    def changes(self, src: int, dst: int, changes: Sequence[Change], folder: Path) -> list[tuple[float, LinkSettings]]:
        """Return (instant, what the link does from then on), in order of time.

        Args:
            src: the device that sends.
            dst: the device that hears it.
            changes: of its settings, in order of time; each comes on top of those before.
            folder: what relative paths in them are relative to.

        Raises:
            ValueError: if one can't be; says in which line.
        """
        return _changed(self._matches.table(self._matches.of(src, dst)), changes, folder)

    def explain(self, src: int, dst: int) -> list[tuple[str, object, str]]:
        """Return (key path, value, rule) of everything that the link from `src` to `dst` has.

        A rule is "default", "link", "preset NAME", "link.override[2]", the name of the file that
        the scenario extends, or "--set KEY".
        """
        table = without_none(self.settings(src, dst).model_dump(mode="json"))
        found = {key: origin_of(self._origins, f"link.{key}", "link") for key, _ in leaves(table)}
        rules = {key: rule for key, rule in found.items() if rule is not None}
        self._matches.table(self._matches.of(src, dst), rules)
        rows: list[tuple[str, object, str]] = []
        for key, value in leaves(table):
            rule = rules.get(key)
            if rule is not None and rule.startswith("link.override["):
                origin = self._origins.get(f"{rule}.{key}")
                rule = f"{rule} ({origin})" if origin else rule
            rows.append((key, value, rule or "default"))
        return rows

    def problems(self, graph: nx.DiGraph) -> list[Problem]:
        """Return a problem for every override that matches no link of the topology."""
        used = 0
        for src, dst in graph.edges:
            used |= self._matches.of(src, dst)
        return [
            Problem(f"link.override[{index}]", "matches no link of this topology and seed")
            for index in range(len(self._overrides))
            if not used >> index & 1
        ]


def _changed(table: Table, changes: Sequence[Change], folder: Path) -> list[tuple[float, LinkSettings]]:
    """Return (instant, settings) of a link with the settings `table`, as its changes come one after another."""
    found: list[tuple[float, LinkSettings]] = []
    for change in changes:
        layer: Any = toml_value(change.value)
        for key in reversed(change.what.split(".")):
            layer = {key: layer}
        table = merge(table, expand({"link": layer}, folder, set())["link"])
        try:
            found.append((change.at, LinkSettings.model_validate(table)))
        except ValidationError as error:
            detail = error.errors()[0]
            text = "unknown key of [link]" if detail["type"] == "extra_forbidden" else detail["msg"]
            shown = f"{change.what}={change.value}"
            raise ValueError(f'line {change.line}: "{shown}": {text}') from error
    return found


def change_mistakes(
    devices: DeviceSettings, link: LinkTableSettings, contacts: Contacts, path: Path
) -> Iterator[InitErrorDetails]:
    """Yield what is wrong with the changes of settings that the topology's file at `path` asks for."""
    matches = LinkMatches(devices, link)
    wrong = set()
    for src, dst in contacts.links:
        try:
            _changed(matches.table(matches.of(src, dst)), contacts.settings_changes(src, dst), path.parent)
        except ValueError as error:
            wrong.add(str(error))
    for text in sorted(wrong):
        yield line(["topology", "path"], f"{path}, {text}")


def origin_of(origins: Mapping[str, str], path: str, main: str) -> str | None:
    """Return who set a key, or the table around it; None if nobody did."""
    while path != main:
        if path in origins:
            return origins[path] or main
        path = path.rpartition(".")[0]
    return None


class LinkMatches:
    """Which overrides each link matches, as a number with bit i set for `override[i]`."""

    def __init__(self, devices: DeviceSettings, link: LinkTableSettings) -> None:
        self._base: Table = without_none(link.model_dump(mode="json", exclude={"override"}))
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

    def sort(self, device: int) -> tuple[int, int]:
        """Return what tells a device apart: the overrides for what it sends, and for what it hears."""
        return self._sends[device], self._hears[device]

    def of(self, src: int, dst: int) -> int:
        """Return the overrides that the link from `src` to `dst` matches."""
        back = self._sends[dst] & self._hears[src] & self._both
        return self._sends[src] & self._hears[dst] | back

    def all(self) -> set[int]:
        """Return every set of overrides that a link can match, whatever the topology."""
        # Devices that no override tells apart are of one sort; two of a sort also have links to each other.
        sorts = Counter(zip(self._sends, self._hears, strict=True))
        some = dict(zip(zip(self._sends, self._hears, strict=True), range(len(self._sends)), strict=True))
        return {
            self.of(some[a], some[b])
            for a in sorts
            if a[0] | a[1] & self._both
            for b in sorts
            if a != b or sorts[a] > 1
        }

    def table(self, match: int, rules: dict[str, str] | None = None) -> Table:
        """Return the merged table of links that match these overrides; notes in `rules` who set what."""
        table = self._base
        for index, change in enumerate(self._tables):
            if match >> index & 1:
                table = merge(table, change, f"link.override[{index}]", rules)
        return table


def override_mistakes(devices: DeviceSettings, link: LinkTableSettings) -> Iterator[InitErrorDetails]:
    """Yield what is wrong with overrides, alone and where several meet, for any topology."""
    groups = devices.groups()
    wrong = set()
    for index, override in enumerate(link.override):
        for key, selector in (("from", override.src), ("to", override.dst)):
            try:
                select(selector, devices.count, groups)
            except ValueError as error:
                wrong.add(index)
                yield line(["link", "override", index, key], str(error), selector)
    if wrong:
        return
    matches = LinkMatches(devices, link)
    possible = matches.all()
    for index in range(len(link.override)):
        if not any(match >> index & 1 for match in possible):
            yield line(["link", "override", index], "matches no link, as no device links to itself")
    seen = set()
    for match in sorted(possible):
        rules: dict[str, str] = {}
        try:
            LinkSettings.model_validate(matches.table(match, rules))
        except ValidationError as error:
            for detail in error.errors():
                index = _culprit(detail["loc"], rules, match)
                if (index, detail["loc"]) not in seen:
                    seen.add((index, detail["loc"]))
                    yield _blame(detail, index, matches.table(match))


def _blame(detail: ErrorDetails, index: int, table: Table) -> InitErrorDetails:
    """Return a mistake in the merged `table` as one of `override[index]`."""
    keys = ["link", "override", index, *detail["loc"]]
    if detail["type"] != "extra_forbidden" or len(detail["loc"]) != 2:
        return moved(detail, keys)
    outer, key = map(str, detail["loc"])
    cls = child(LinkSettings, outer, table[outer])
    kind = f'; the {outer} of such a link is of kind "{table[outer]["kind"]}"' if "kind" in table[outer] else ""
    return line(keys, unknown_key(key, fields_of(cls) if isinstance(cls, type) else []) + kind)


def _culprit(loc: tuple[str | int, ...], rules: Mapping[str, str], match: int) -> int:
    """Return the override to blame: the last that set the key, or something in its table, or anything."""
    for length in range(len(loc), -1, -1):
        path = ".".join(map(str, loc[:length]))
        found = [rule for key, rule in rules.items() if key == path or key.startswith(f"{path}.") or not path]
        if found:
            return max(int(rule.removeprefix("link.override[").removesuffix("]")) for rule in found)
    return match.bit_length() - 1
