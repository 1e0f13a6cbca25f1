"""Warnings about what a scenario says in vain: settings without effect, overrides of no link, pairs that never meet."""

from __future__ import annotations

import numpy as np

from p2pl_async.basics.units import show_seconds
from p2pl_async.link import LinkSettings
from p2pl_async.radio import RadioNeighbors
from p2pl_async.scenario.building.world import World
from p2pl_async.scenario.scenario import Scenario
from p2pl_async.topology.contacts import Contacts

_LONGEST_LOOK = 600.0  # s of virtual time, unless the run is shorter
_MOST_PAIRS = 3  # that a warning names


def warn_of_effects(world: World) -> list[str]:
    """Return a sentence for each thing that a scenario says in vain, and for a graph that connects nobody."""
    return [
        *_of_learning(world.scenario),
        *_of_evaluation(world.scenario),
        *_of_groups(world.scenario),
        *_of_overrides(world),
        *_of_links(world),
        *_of_meetings(world),
    ]


def _of_learning(scenario: Scenario) -> list[str]:
    if scenario.protocol.trains:
        return []
    said = [name for name in ("data", "model", "train", "evaluate") if name in scenario.model_fields_set]
    given = [name for name in said if getattr(scenario, name) is not None]
    return [f'[{name}] has no effect, as the protocol "{scenario.protocol.kind}" never trains' for name in given]


def _of_evaluation(scenario: Scenario) -> list[str]:
    every, end = scenario.evaluate.every, scenario.stop.virtual_time
    if every is None or end is None or every < end:
        return []
    return [
        f'evaluate.every = "{show_seconds(every)}" is not before the end, stop.virtual_time = "{show_seconds(end)}": '
        "only the final evaluation takes place"
    ]


def _of_groups(scenario: Scenario) -> list[str]:
    """Return a warning for each group that sets nothing, and that nothing names."""
    table = scenario.model_dump(mode="json", by_alias=True)
    groups = table["devices"].pop("group")
    words = set(_words(table))
    return [
        f"devices.group.{name} has no effect: it sets nothing, and nothing names it"
        for name, group in groups.items()
        if name not in words and all(value is None for key, value in group.items() if key != "ids")
    ]


def _words(value: object) -> list[str]:
    """Return every text in a table."""
    if isinstance(value, dict):
        value = [*value.values()]
    if isinstance(value, list | tuple):
        return [word for item in value for word in _words(item)]
    return [value] if isinstance(value, str) else []


def _of_overrides(world: World) -> list[str]:
    """Return a warning for each override that matches no link, or leaves all that it matches as they were."""
    matches = world.links.matches
    found = {matches.of(src, dst) for src, dst in world.direct.graph.edges}
    texts = []
    for index in range(len(world.scenario.link.override)):
        those = [match for match in found if match >> index & 1]
        if not those:
            texts.append(f"link.override[{index}] matches no link of this topology and seed")
        elif all(_settings(world, match) == _settings(world, match ^ 1 << index) for match in those):
            texts.append(f"link.override[{index}] has no effect: its links have the same settings without it")
    return texts


def _settings(world: World, match: int) -> LinkSettings:
    return LinkSettings.model_validate(world.links.matches.table(match))


def _of_links(world: World) -> list[str]:
    count = world.scenario.devices.count
    if count == 1 or world.graph.number_of_edges():
        return []
    return [
        f"the topology has no link between its {count} devices, so each is alone; a random-geometric one needs a "
        "larger radius, [radio] more power or a smaller area"
    ]


def _of_meetings(world: World) -> list[str]:
    """Return a warning about devices that are in each other's reach at no time, where links come and go."""
    neighborhood, scenario = world.neighborhood, world.scenario
    n = scenario.devices.count
    if not isinstance(neighborhood, RadioNeighbors | Contacts) or n == 1:
        return []
    end = min(scenario.stop.virtual_time or _LONGEST_LOOK, _LONGEST_LOOK)
    ever = np.zeros((n, n), np.bool_)
    for _, table in neighborhood.snapshots(end):
        ever |= table
    never = np.argwhere(np.triu(~(ever | ever.T) & (world.airs.of_devices.table >= 0), 1))
    alone = np.flatnonzero(~(ever.any(axis=0) | ever.any(axis=1)))
    if not len(never):
        return []
    some = ", ".join(f"{a} and {b}" for a, b in never[:_MOST_PAIRS].tolist())
    more = f", and {len(never) - _MOST_PAIRS} other pairs" if len(never) > _MOST_PAIRS else ""
    texts = [f"in {show_seconds(end)} these devices never meet: {some}{more}"]
    if len(alone):
        texts.append(f"in {show_seconds(end)} {len(alone)} of the devices meet no other, device {alone[0]} among them")
    return texts
