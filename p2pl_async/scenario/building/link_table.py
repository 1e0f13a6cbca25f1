"""The settings of each directed link once all overrides are applied, and the rule that set each value.

    [link]  ->  each [[link.override]] that matches src -> dst, in order  ->  LinkSettings

Links that match the same overrides share one settings object, so 10,000 links have few.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from p2pl_async.errors import Problem
from p2pl_async.link import LinkSettings
from p2pl_async.scenario.link_matches import LinkMatches, changed_settings
from p2pl_async.scenario.reading.plain import leaves, origin_of, without_none
from p2pl_async.scenario.scenario import Scenario
from p2pl_async.topology.contacts import Change

if TYPE_CHECKING:
    import networkx as nx


class LinkTable:
    """The links of a scenario.

    Args:
        scenario: a valid scenario.
        origins: key path such as "link.loss.p" -> who set it, as `load.read_scenario` returns
            it; makes `explain` tell files and presets apart.

    Attributes:
        matches: the overrides that each link matches.
    """

    def __init__(self, scenario: Scenario, origins: Mapping[str, str] | None = None) -> None:
        if origins is None:
            origins = {f"link.{key}": "" for key in scenario.link.model_fields_set}
        self._overrides = scenario.link.override
        self.matches = LinkMatches(scenario.devices, scenario.link, scenario.medium, scenario.air)
        self._origins = origins
        self._settings: dict[int, LinkSettings] = {}

    def settings(self, src: int, dst: int) -> LinkSettings:
        """Return the settings of the link from device `src` to device `dst`; equal links share one object."""
        match = self.matches.of(src, dst)
        if match not in self._settings:
            self._settings[match] = LinkSettings.model_validate(self.matches.table(match))
        return self._settings[match]

    def changes(self, src: int, dst: int, changes: Sequence[Change], folder: Path) -> list[tuple[float, LinkSettings]]:
        """Return (instant, settings of the link from then on), in order of time.

        Args:
            src: the device that sends.
            dst: the device that hears it.
            changes: of its settings, in order of time; each comes on top of those before.
            folder: relative paths in them are relative to this one.

        Raises:
            ValueError: if a change is impossible; it names the line.
        """
        match = self.matches.of(src, dst)
        return changed_settings(self.matches.table(match), changes, folder, self.matches.medium(match))

    def explain(self, src: int, dst: int) -> list[tuple[str, object, str]]:
        """Return (key path, value, rule) of everything that the link from `src` to `dst` has.

        A rule is "default", "link", "preset NAME", "link.override[2]", the name of the file that
        the scenario extends, or "--set KEY".
        """
        table = without_none(self.settings(src, dst).model_dump(mode="json"))
        match = self.matches.of(src, dst)
        air = self.matches.air(match)
        base = f"air.{self.matches.airs.names[air]}.link" if air else "link"
        found = {key: origin_of(self._origins, f"{base}.{key}", base) for key, _ in leaves(table)}
        rules = {key: rule for key, rule in found.items() if rule is not None}
        self.matches.table(match, rules)
        rows: list[tuple[str, object, str]] = []
        for key, value in leaves(table):
            rule = rules.get(key)
            if rule is not None and rule.startswith("link.override["):
                origin = self._origins.get(f"{rule}.{key}")
                rule = f"{rule} ({origin})" if origin else rule
            rows.append((key, value, rule or "default"))
        return rows

    def check(self, graph: nx.DiGraph) -> list[Problem]:
        """Return a problem for every override that matches no link of the topology."""
        used = 0
        for src, dst in graph.edges:
            used |= self.matches.of(src, dst)
        return [
            Problem(f"link.override[{index}]", "matches no link of this topology and seed")
            for index in range(len(self._overrides))
            if not used >> index & 1
        ]
