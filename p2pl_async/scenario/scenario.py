"""The whole scenario file, and the checks between its tables.

Tables that belong to a part of the program (links, data, protocols, ...) are classes beside
their implementation; here are the others, and `Scenario`, which holds them all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails

from p2pl_async.air import AnyMedium, Dedicated, Medium
from p2pl_async.basics.limits import MOST_ITEMS
from p2pl_async.basics.randomness import stream
from p2pl_async.basics.settings import Settings, line, mistake, mistakes
from p2pl_async.hardware.churn import Churn
from p2pl_async.hardware.energy import Energy
from p2pl_async.hardware.local_clock import Clocks
from p2pl_async.learning.data_settings import DataSettings
from p2pl_async.learning.models import AnyModel, Mlp
from p2pl_async.learning.settings import TrainSettings
from p2pl_async.protocols import AnyProtocol
from p2pl_async.radio import AnyMobility, Static
from p2pl_async.relay import AnyRelay
from p2pl_async.scenario.airs import AirSettings, RadioTableSettings
from p2pl_async.scenario.events import AnyEvent
from p2pl_async.scenario.link_matches import LinkMatches
from p2pl_async.scenario.tables import Baselines, DeviceSettings, Evaluate, LinkTableSettings, Stop
from p2pl_async.topology.from_file import RecordedLinks
from p2pl_async.topology.kinds import AnyTopology
from p2pl_async.topology.shapes import Ring


def _folder_name(name: str) -> str:
    if not re.fullmatch(r"[\w][\w .+-]*", name) or len(name) > 100:
        raise mistake("must be letters, digits, spaces and . + - _ (results go into a folder of this name)")
    return name


class Scenario(Settings):
    """A scenario: everything that, with its seed, determines a run."""

    read_before: ClassVar[tuple[str, ...]] = ("extends",)

    name: Annotated[str, Field(strict=True), AfterValidator(_folder_name)] = "scenario"
    seed: Annotated[int, Field(strict=True, ge=0)] = 1
    devices: DeviceSettings
    topology: AnyTopology = Ring()
    link: LinkTableSettings = LinkTableSettings()
    churn: Churn | None = Field(default=None, description="when devices crash; none: never by themselves")
    clocks: Clocks | None = Field(default=None, description="errors of the devices' own clocks; none: ideal")
    energy: Energy | None = Field(default=None, description="current and power that devices draw; none: not measured")
    event: tuple[AnyEvent, ...] = Field(default=(), max_length=MOST_ITEMS, description="events at given instants")
    radio: RadioTableSettings | None = Field(
        default=None, description="positions, power and noise, from which losses follow; none: only [link] counts"
    )
    mobility: AnyMobility = Static()
    medium: AnyMedium = Dedicated()
    air: Annotated[dict[str, AirSettings], Field(max_length=MOST_ITEMS)] = Field(
        default={}, description="further radios by name, which groups of devices may have"
    )
    relay: AnyRelay | None = Field(
        default=None, description="how devices pass messages on; none: neighbors have a link of their own"
    )
    protocol: AnyProtocol
    data: DataSettings | None = Field(default=None, validate_default=True)
    model: AnyModel = Mlp()
    train: TrainSettings = TrainSettings()
    baselines: Baselines = Baselines()
    evaluate: Evaluate = Evaluate()
    stop: Stop

    @field_validator("data", mode="before")
    @classmethod
    def _digits_unless_nothing_learns(cls, value: object, info: ValidationInfo) -> object:
        protocol = info.data.get("protocol")
        return {} if value is None and protocol is not None and protocol.trains else value

    @property
    def media(self) -> list[Medium]:
        """Every medium: that of "main", then those of the other airs."""
        return [self.medium, *(air.medium for air in self.air.values())]

    @model_validator(mode="after")
    def _check(self) -> Scenario:
        found = list(check_tables(dict(self)))
        if found:
            raise mistakes("scenario", found)
        return self


def topology_of_links(tables: Mapping[str, Any]) -> Any:
    """Return the topology whose links messages go over: `relay.over`, or `topology`; None if it is absent."""
    relay = tables.get("relay")
    return tables.get("topology") if relay is None else relay.over


def check_tables(tables: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
    """Yield the problems between tables.

    Args:
        tables: the valid tables of a scenario by name; checks that need another one are left out,
            so that a file with a mistake in one table hears about the others too.
    """
    from p2pl_async.scenario.checks.airs import check_airs
    from p2pl_async.scenario.checks.events import check_events
    from p2pl_async.scenario.checks.links import check_changes, check_overrides, check_selectors
    from p2pl_async.scenario.checks.medium import check_medium
    from p2pl_async.scenario.checks.places import check_places
    from p2pl_async.scenario.checks.relay import check_relay
    from p2pl_async.scenario.checks.sizes import check_links

    devices, topology, link, protocol = (tables.get(name) for name in ("devices", "topology", "link", "protocol"))
    if devices is not None and topology is not None:
        yield from check_links(topology, devices.count)
        for text in topology.check(devices.count):
            yield line(["topology"], text)
    yield from check_medium(tables)
    yield from check_airs(tables)
    yield from check_relay(tables)
    matches: LinkMatches | None = None
    if devices is not None and link is not None:
        mistaken = list(check_selectors(devices, link))
        if not mistaken:
            matches = LinkMatches(devices, link, tables.get("medium", Dedicated()), tables.get("air"))
            mistaken = list(check_overrides(matches, link))
        yield from mistaken
        direct = topology_of_links(tables)
        if matches and not mistaken and isinstance(direct, RecordedLinks) and not direct.check(devices.count):
            contacts = direct.neighborhood(devices.count, stream(0, "topology"))
            yield from check_changes(matches, contacts, direct.path)
    yield from check_places(tables)
    if matches is not None:
        yield from check_events(tables, matches)
    train, stop = tables.get("train"), tables.get("stop")
    metrics = [score.kind for score in getattr(tables.get("evaluate"), "metrics", ())]
    if stop is not None and stop.accuracy is not None and metrics and "accuracy" not in metrics:
        yield line(["stop", "accuracy"], f"is not among evaluate.metrics, {metrics}; add it, or write stop.metric")
    if protocol is not None and train is not None and protocol.trains and not protocol.uses_momentum and train.momentum:
        text = f'must be 0, as the protocol "{protocol.kind}" steps along gradients and has no use for momentum'
        yield line(["train", "momentum"], text, train.momentum)
    if protocol is not None and not protocol.trains:
        baselines = tables.get("baselines")
        for name in ("local", "central"):
            if baselines is not None and getattr(baselines, name):
                yield line(["baselines", name], f'must be false, as the protocol "{protocol.kind}" never trains', True)
        for name in ("accuracy", "metric"):
            if stop is not None and getattr(stop, name) is not None:
                yield line(["stop", name], f'must be left out, as the protocol "{protocol.kind}" never trains')
