"""Checks of overrides of links, and of changes of their settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails, InitErrorDetails

from p2pl_async.air.refusals import refusals, refused
from p2pl_async.basics.settings import line, moved, unknown_key
from p2pl_async.link import LinkSettings
from p2pl_async.link.outage import ContactPlan
from p2pl_async.scenario.link_matches import LinkMatches, changed_settings
from p2pl_async.scenario.reading.plain import Table
from p2pl_async.scenario.reading.schema_walk import child, fields_of
from p2pl_async.scenario.selector import select
from p2pl_async.scenario.tables import DeviceSettings, LinkTableSettings
from p2pl_async.topology.contacts import Contacts


def check_changes(matches: LinkMatches, contacts: Contacts, path: Path) -> Iterator[InitErrorDetails]:
    """Yield the problems of the changes of settings that the topology's file at `path` asks for."""
    wrong = set()
    for src, dst in contacts.links:
        try:
            match, changes = matches.of(src, dst), contacts.settings_changes(src, dst)
            changed_settings(matches.table(match), changes, path.parent, matches.medium(match))
        except ValueError as error:
            wrong.add(str(error))
    for text in sorted(wrong):
        yield line(["topology", "path"], f"{path}, {text}")


def check_selectors(devices: DeviceSettings, link: LinkTableSettings) -> Iterator[InitErrorDetails]:
    """Yield the selectors of overrides that name devices or groups that aren't there."""
    groups = devices.groups()
    for index, override in enumerate(link.override):
        for key, selector in (("from", override.src), ("to", override.dst)):
            try:
                select(selector, devices.count, groups)
            except ValueError as error:
                yield line(["link", "override", index, key], str(error), selector)


def _unknown_contacts(
    settings: LinkSettings, match: int, rules: Mapping[str, str], count: int
) -> Iterator[InitErrorDetails]:
    """Yield a contact plan that names a device that isn't there."""
    if isinstance(settings.outage, ContactPlan) and settings.outage.latest_device >= count:
        latest = settings.outage.latest_device
        text = f"{settings.outage.path} has contacts of device {latest}; ids are 0 to {count - 1}"
        keys: list[str | int] = ["outage", "path"]
        where: list[str | int] = ["override", _culprit(tuple(keys), rules, match)] if rules else []
        yield line(["link", *where, *keys], text)


def check_overrides(matches: LinkMatches, link: LinkTableSettings) -> Iterator[InitErrorDetails]:
    """Yield the problems of overrides, alone and where several meet, for any topology."""
    yield from _unknown_contacts(link, 0, {}, matches.count)
    possible = matches.all()
    for index in range(len(link.override)):
        if not any(match >> index & 1 for match in possible):
            yield line(["link", "override", index], "matches no link, as no device links to itself")
    seen: set[tuple[int, tuple[str | int, ...]]] = set()
    for match in sorted(possible):
        rules: dict[str, str] = {}
        overrides = match & (1 << len(link.override)) - 1
        try:
            settings = LinkSettings.model_validate(matches.table(match, rules))
        except ValidationError as error:
            for detail in error.errors():
                index = _culprit(detail["loc"], rules, overrides)
                if (index, detail["loc"]) not in seen:
                    seen.add((index, detail["loc"]))
                    yield _blame(detail, index, matches.table(match))
            continue
        medium, unchanged = matches.medium(match), matches.unchanged(match)
        if settings.outage != link.outage:
            yield from _unknown_contacts(settings, overrides, rules, matches.count)
        known = {refusal.keys for refusal in refusals(medium, unchanged)}  # of [link] itself
        for refusal in refused(medium, settings, unchanged):
            index = _culprit(refusal.keys, rules, overrides)
            if refusal.keys in known and not _sets(refusal.keys, rules):
                continue
            if (index, refusal.keys) not in seen:
                seen.add((index, refusal.keys))
                yield line(["link", "override", index, *refusal.keys], refusal.text, refusal.value)


def _sets(keys: tuple[str | int, ...], rules: Mapping[str, str]) -> bool:
    """Return whether an override sets a key, or a part of it."""
    path = ".".join(map(str, keys))
    return any(key == path or key.startswith(f"{path}.") for key in rules)


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
