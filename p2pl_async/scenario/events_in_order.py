"""Scripted events in order, and their effect on links, devices and places, worked out before a run begins.

set, ramp                          ->  changes   (instant, settings) of each link
link-down, link-up, partition, heal ->  down      [start, end) of each link
crash, restart                     ->  crashes   [start, end) of each device
move                               ->  motion    where devices are
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import ValidationError

from p2pl_async.air import Medium
from p2pl_async.air.refusals import refused
from p2pl_async.basics.settings import Settings
from p2pl_async.hardware.downtime import Downtime
from p2pl_async.link import LinkSettings
from p2pl_async.link.loss.independent import NoLoss
from p2pl_async.radio import Motion, Track
from p2pl_async.scenario.events import (
    Crash,
    DeviceEvent,
    Event,
    Heal,
    LinkDown,
    LinkEvent,
    LinkUp,
    Move,
    NetworkSplit,
    Ramp,
    Restart,
    Set,
    label,
)
from p2pl_async.scenario.link_matches import LinkMatches
from p2pl_async.scenario.reading.plain import Table, merge
from p2pl_async.scenario.reading.schema_walk import expand
from p2pl_async.scenario.selector import select
from p2pl_async.scenario.tables import DeviceSettings, LinkTableSettings

Interval = tuple[float, float]


S = TypeVar("S", bound=Settings)


class EventError(ValueError):
    """An impossible event; `index` is its place in the file."""

    def __init__(self, index: int, text: str, key: str = "") -> None:
        super().__init__(text)
        self.index = index
        self.key = key


class EventsInOrder:
    """All events of a scenario, in order of their instants.

    Args:
        devices: the `[devices]` table, whose groups events can name.
        matches: the overrides that each link matches, and the settings that follow.
        events: in the order of the file, which is kept among those of one instant.

    Raises:
        EventError: if an event names devices that don't exist.
    """

    def __init__(self, devices: DeviceSettings, matches: LinkMatches, events: Sequence[Event]) -> None:
        self.events = sorted(enumerate(events), key=lambda item: item[1].at)
        self._devices = devices
        self._matches = matches
        self._who: dict[int, list[frozenset[int]]] = {}  # index -> the devices of each of its selectors
        groups = devices.groups()
        for index, event in self.events:
            self._who[index] = []
            for key, selector in _selectors(event):
                try:
                    self._who[index].append(select(selector, devices.count, groups))
                except ValueError as error:
                    raise EventError(index, str(error), key) from error
        self._settings: dict[tuple[Any, ...], list[tuple[float, LinkSettings]]] = {}

    def changes(self, src: int, dst: int) -> list[tuple[float, LinkSettings]]:
        """Return (instant, settings of the link from then on), in order of time; equal links share them.

        Raises:
            EventError: if a change is impossible.
        """
        touching = [
            (index, event)
            for index, event in self.events
            if isinstance(event, Set | Ramp) and self._is_about(index, event, src, dst)
        ]
        if not touching:
            return []
        match = self._matches.of(src, dst)
        key = (match, *(index for index, _ in touching))
        if key not in self._settings:
            self._settings[key] = _changes(self._matches.table(match), touching, self._matches.medium(match))
        return self._settings[key]

    @property
    def cut_links(self) -> bool:
        """Whether any event takes links down or parts devices."""
        return any(isinstance(event, LinkDown | NetworkSplit) for _, event in self.events)

    def down(self, src: int, dst: int) -> Downtime:
        """Return when the link is down, and for which cause: "down" or "partition"."""
        found: dict[str, list[Interval]] = {"down": [], "partition": []}
        since: float | None = None
        for index, event in self.events:
            if isinstance(event, LinkDown | LinkUp) and self._is_about(index, event, src, dst):
                if isinstance(event, LinkUp) and since is not None:
                    found["down"].append((since, event.at))
                since = None if isinstance(event, LinkUp) else event.at if since is None else since
        found["down"] += [] if since is None else [(since, math.inf)]
        since = None
        for index, event in self.events:
            if isinstance(event, NetworkSplit) and since is None and self._is_cut(index, src, dst):
                since = event.at
            elif isinstance(event, Heal) and since is not None:
                found["partition"].append((since, event.at))
                since = None
        found["partition"] += [] if since is None else [(since, math.inf)]
        return Downtime({cause: times for cause, times in found.items() if times})

    def crashes(self, device: int, restart: float = 0.0) -> list[Interval]:
        """Return when events have the device crashed, its `restart` time included."""
        found: list[Interval] = []
        since: float | None = None
        for index, event in self.events:
            if isinstance(event, Crash | Restart) and device in self._who[index][0]:
                if isinstance(event, Crash):
                    since = event.at if since is None else since
                elif since is not None:
                    # A restart at the instant of the crash still is one: the device is down for the least time.
                    found.append((since, max(event.at + restart, math.nextafter(since, math.inf))))
                    since = None
        return found + ([] if since is None else [(since, math.inf)])

    def moved(self, motion: Motion) -> Motion:
        """Return the motion of devices, with the moves of events."""
        tracks = list(motion.tracks)
        for index, event in self.events:
            if isinstance(event, Move):
                for device in sorted(self._who[index][0]):
                    tracks[device] = _moved(tracks[device], event)
        return Motion(tracks)

    def touching(self, src: int, dst: int) -> list[tuple[str, str]]:
        """Return (which event, what happens) of those that touch a link or a device at its ends."""
        found = []
        for index, event in self.events:
            if isinstance(event, LinkEvent):
                touches = self._is_about(index, event, src, dst)
            elif isinstance(event, DeviceEvent):
                touches = bool({src, dst} & self._who[index][0])
            else:
                touches = isinstance(event, Heal) or self._is_cut(index, src, dst)
            if touches:
                found.append((label(index, event), event.show()))
        return found

    def check(self) -> Iterator[EventError]:
        """Yield the events that don't fit together, for any topology."""
        down: set[tuple[int, int]] = set()
        crashed: set[int] = set()
        split = False
        for index, event in self.events:
            who = self._who[index]
            if isinstance(event, NetworkSplit):
                split = True
                seen: set[int] = set()
                for group in who:
                    if group & seen:
                        yield EventError(index, f"device {min(group & seen)} is in two of the groups", "groups")
                    seen |= group
                if len(who) == 1 and len(who[0]) == self._devices.count:
                    yield EventError(index, "one group of all devices separates none", "groups")
            elif isinstance(event, Heal):
                if not split:
                    yield EventError(index, 'there is no partition to heal; put one of kind "partition" before it')
                split = False
            elif isinstance(event, Crash):
                if who[0] & crashed:
                    yield EventError(index, f"device {min(who[0] & crashed)} has crashed already", "devices")
                crashed |= who[0]
            elif isinstance(event, Restart):
                if who[0] - crashed:
                    text = f'device {min(who[0] - crashed)} has not crashed by an event of kind "crash" before'
                    yield EventError(index, text, "devices")
                crashed -= who[0]
            elif isinstance(event, LinkDown):
                down |= self._links(index, event)
            elif isinstance(event, LinkUp):
                if not down & self._links(index, event):
                    yield EventError(index, 'no link of these is down by an event of kind "link-down" before')
                down -= self._links(index, event)
        yield from self._impossible()

    def _impossible(self) -> Iterator[EventError]:
        """Yield impossible changes of settings; links with the same overrides and events are looked at once."""
        seen: dict[tuple[Any, ...], int] = {}
        for device in range(self._devices.count):
            signature = (
                self._matches.signature(device),
                *(tuple(device in group for group in self._who[index]) for index, _ in self.events),
            )
            seen.setdefault((signature, 0), device)
            if seen[signature, 0] != device:
                seen.setdefault((signature, 1), device)  # two of one signature also have links to each other
        seen_texts = set()
        for src in seen.values():
            for dst in seen.values():
                if src != dst and self._matches.airs.between(src, dst) is not None:
                    try:
                        self.changes(src, dst)
                    except EventError as error:
                        if (error.index, str(error)) not in seen_texts:
                            seen_texts.add((error.index, str(error)))
                            yield error

    def _links(self, index: int, event: LinkEvent) -> set[tuple[int, int]]:
        senders, receivers = self._who[index]
        there = {(src, dst) for src in senders for dst in receivers if src != dst}
        return there | {(dst, src) for src, dst in there} if event.both else there

    def _is_about(self, index: int, event: LinkEvent, src: int, dst: int) -> bool:
        senders, receivers = self._who[index]
        return (src in senders and dst in receivers) or (event.both and dst in senders and src in receivers)

    def _is_cut(self, index: int, src: int, dst: int) -> bool:
        """Tell whether a partition has the two devices in different groups."""
        groups = self._who[index]
        return any((src in group) != (dst in group) for group in groups)


def _selectors(event: Event) -> list[tuple[str, Any]]:
    if isinstance(event, LinkEvent):
        return [("from", event.src), ("to", event.dst)]
    if isinstance(event, DeviceEvent):
        return [("devices", event.devices)]
    return [("groups", group) for group in event.groups] if isinstance(event, NetworkSplit) else []


def _changes(
    table: Table, events: Sequence[tuple[int, Set | Ramp]], medium: Medium
) -> list[tuple[float, LinkSettings]]:
    """Return (instant, settings) of a link that starts with the settings `table`."""
    found: list[tuple[float, LinkSettings]] = []
    first = now = LinkSettings.model_validate(table)
    busy, until = 0, -math.inf
    for index, event in events:
        if event.at < until:
            raise EventError(index, f"comes while event[{busy}] still changes some of these links")
        layer = expand(LinkTableSettings, event.link, Path.cwd(), set())
        table = merge(table, layer)
        try:
            goal = LinkSettings.model_validate(table)
        except ValidationError as error:
            detail = error.errors()[0]
            where = ".".join(map(str, detail["loc"]))
            raise EventError(index, f"link{where and '.'}{where}: {detail['msg']}", "link") from error
        for refusal in refused(medium, goal, first):
            raise EventError(index, f"link.{'.'.join(refusal.keys)}: {refusal.text}", "link")
        if isinstance(event, Set):
            found.append((event.at, goal))
        else:
            for step in range(1, event.steps + 1):
                share = step / event.steps
                try:
                    between = goal if step == event.steps else _between(now, goal, share, "link")
                except ValueError as error:
                    raise EventError(index, str(error), "link") from error
                found.append((event.at + share * event.over, between))
            busy, until = index, event.at + event.over
        now = goal
    return found


def _between(start: S, goal: S, share: float, path: str) -> S:
    """Return settings on the way from one to another, a share of the way.

    Raises:
        ValueError: if they differ in what isn't a number.
    """
    changed: dict[str, Any] = {}
    for name in type(goal).model_fields:
        old, new = getattr(start, name), getattr(goal, name)
        if old == new:
            continue
        here = f"{path}.{name}"
        if isinstance(old, Settings) and type(old) is type(new):
            changed[name] = _between(old, new, share, here)
        elif _is_number(old) and _is_number(new):
            value = old + share * (new - old)
            changed[name] = round(value) if isinstance(new, int) else value
        else:
            cure = '; write loss = "0 %" in [link]' if here == "link.loss" and isinstance(old, NoLoss) else ""
            cure = cure or "; use an event of kind set"
            raise ValueError(f"{here} has no numbers between {_shown(old)} and {_shown(new)}{cure}")
    return goal.model_copy(update=changed)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(value: object) -> str:
    return f'"{getattr(value, "kind", value)}"' if value is not None else "none"


def _moved(track: Track, event: Move) -> Track:
    corners = track.corners_until(event.at)
    here = corners[-1][1:]
    x, y, z = (*event.to, here[2])[:3]
    if event.speed is None:
        return Track([*corners, (event.at, x, y, z)])
    duration = float(np.linalg.norm(np.subtract((x, y, z), here))) / event.speed
    return Track([*corners, (event.at + duration, x, y, z)])
