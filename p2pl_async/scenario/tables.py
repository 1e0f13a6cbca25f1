"""The tables of a scenario file, one class for each.

Tables that belong to a part of the program (links, data, protocols, ...) are classes beside
their implementation; here are the others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    StrictBool,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from p2pl_async.air.channel_settings import MOST_CHANNELS, Channel
from p2pl_async.basics.limits import MOST_DEVICES, MOST_ITEMS
from p2pl_async.basics.randomness import stream
from p2pl_async.basics.settings import (
    Settings,
    Short,
    line,
    marker,
    mistake,
    mistakes,
    moved,
    unknown_key,
    word,
)
from p2pl_async.basics.units import PositiveSeconds, Probability, Seconds
from p2pl_async.hardware.churn import Churn
from p2pl_async.hardware.compute import ONE_SECOND, Compute, GroupCompute
from p2pl_async.hardware.energy import Energy
from p2pl_async.hardware.local_clock import Clocks
from p2pl_async.learning.scores import AnyScore
from p2pl_async.learning.settings import OwnTraining
from p2pl_async.link import LinkSettings
from p2pl_async.radio import AnyMobility, Area, Mobility, Static
from p2pl_async.radio.settings import Position
from p2pl_async.scenario.selector import GROUP_NAME, Selector, select

Count = Annotated[int, Field(strict=True, ge=1)]


class Start(Settings):
    """When a device begins, joins or leaves: at one instant, or at one drawn uniformly between 0 and a latest."""

    at: Seconds | None = Field(default=None, description="the instant")
    uniform: PositiveSeconds | None = Field(default=None, description="the latest instant; drawn for each device")

    @model_validator(mode="after")
    def _check(self) -> Start:
        if (self.at is None) == (self.uniform is None):
            raise mistake('must be an instant such as "5 s", or { uniform = "5 s" } to draw it')
        return self

    def instant(self, seed: int, device: int, purpose: str = "start", earliest: float = 0.0) -> float:
        """Return the instant of one device, in virtual seconds.

        Args:
            seed: of the run.
            device: its stream is drawn from.
            purpose: of the stream.
            earliest: lower limit of a drawn instant.
        """
        if self.uniform is None:
            assert self.at is not None
            return self.at
        return earliest + (self.uniform - earliest) * float(stream(seed, purpose, device).random())

    @property
    def latest(self) -> float:
        """The latest instant that there can be."""
        return self.at or 0.0 if self.uniform is None else self.uniform


def _some_channels(value: Any) -> Any:
    """Refuse with one sentence what is neither a channel nor one for each of some airs."""
    for each in value.values() if isinstance(value, Mapping) and value else [value]:
        if value is not None and (type(each) is not int or not 0 <= each < MOST_CHANNELS):
            raise mistake(f"must be a channel, 0 to {MOST_CHANNELS - 1}, or one for each air: {{ ble = 3, main = 1 }}")
    return value


class Group(Settings):
    """Some devices with settings of their own; where groups overlap, the later one wins."""

    ids: Selector
    compute: Annotated[GroupCompute, Short("per_epoch")] | None = None
    start: Annotated[Start, Short("at")] | None = None
    join: Annotated[Start, Short("at")] | None = None
    leave: Annotated[Start, Short("at")] | None = None
    train: OwnTraining | None = Field(default=None, description="learning rate, batch size and epochs of its own")
    churn: Churn | None = Field(default=None, description="instead of the `[churn]` of all devices")
    clocks: Clocks | None = Field(default=None, description="instead of the `[clocks]` of all devices")
    energy: Energy | None = Field(default=None, description="instead of the `[energy]` of all devices")
    channel: Annotated[Channel | dict[str, Channel] | None, BeforeValidator(_some_channels)] = Field(
        default=None,
        description="of `medium.channels` the one that their radios listen on; with hopping, their offset. That of a "
        "further air by its name: { ble = 3, main = 1 }",
    )
    positions: Annotated[tuple[Position, ...], Field(min_length=1)] | None = Field(
        default=None, description="where each device of the group is: x, y and, if given, z, in order of id"
    )
    area: Area | None = Field(
        default=None, description="where the group's devices are: each at a place drawn in it, unless they roam it"
    )
    mobility: AnyMobility | None = Field(default=None, description="instead of the `[mobility]` of all devices")
    airs: Annotated[tuple[str, ...], Field(min_length=1, max_length=MOST_ITEMS)] | None = Field(
        default=None,
        description='which radios its devices have: "main", that of [link], [medium] and [radio], and names of '
        '[air.NAME]; of several that both its ends have, a link takes the last in the file. None given: ["main"]',
    )

    @model_validator(mode="after")
    def _check(self) -> Group:
        if self.positions is not None and self.area is not None:
            raise mistake("takes only one of positions and area")
        return self

    @property
    def channels(self) -> dict[str, int]:
        """The channel by the name of its air."""
        return {"main": self.channel} if isinstance(self.channel, int) else dict(self.channel or {})


class DeviceSettings(Settings):
    """The `[devices]` table: how many there are, how fast they compute and when they begin."""

    count: Count = Field(le=MOST_DEVICES, description="number of devices; their ids are 0 to count - 1")
    compute: Annotated[Compute, Short("per_epoch")] = ONE_SECOND
    start: Annotated[Start, Short("at")] = Start.model_validate({"at": "0 s"})
    join: Annotated[Start, Short("at")] | None = Field(
        default=None, description="when devices are switched on; the first instant by default"
    )
    leave: Annotated[Start, Short("at")] | None = Field(
        default=None, description="when they are gone for good; a drawn instant lies after they have joined"
    )
    inbox: PositiveInt | None = Field(
        default=None,
        description="unread messages that a device keeps; one that arrives at a full inbox is dropped and counted",
    )
    group: dict[str, Group] = Field(default={}, description="named groups; links can select them too")

    @model_validator(mode="after")
    def _check(self) -> DeviceSettings:
        found = []
        for name, group in self.group.items():
            if not GROUP_NAME.fullmatch(name):
                found.append(line(["group", name], "a group's name must be a letter, then letters, digits, _ and -"))
            try:
                ids = select(group.ids, self.count, {})
            except ValueError as error:
                found.append(line(["group", name, "ids"], str(error), group.ids))
                continue
            if group.positions is not None and len(group.positions) != len(ids):
                text = f"has {len(group.positions)} places, and the group has {len(ids)} devices"
                found.append(line(["group", name, "positions"], text))
        if found:
            raise mistakes("devices", found)
        for join, leave in zip(self.of_each("join", self.join), self.of_each("leave", self.leave), strict=True):
            if join[1] is not None and leave[1] is not None and leave[1].latest <= join[1].latest:
                keys = ["group", leave[0], "leave"] if leave[0] else ["leave"]
                raise mistakes("devices", [line(keys, f"must come after join, {join[1].latest:g} s at the latest")])
        return self

    def groups(self) -> dict[str, frozenset[int]]:
        """Return the ids of each group."""
        return {name: select(group.ids, self.count, {}) for name, group in self.group.items()}

    def group_names(self) -> list[str]:
        """Return the groups of each device, joined by commas, "" in none; by id."""
        members: list[list[str]] = [[] for _ in range(self.count)]
        for name, ids in self.groups().items():
            for device in ids:
                members[device].append(name)
        return [",".join(names) for names in members]

    def computes(self) -> list[Compute]:
        """Return each device's compute settings, groups applied; by id."""
        result = [self.compute] * self.count
        for name, ids in self.groups().items():
            change = self.group[name].compute
            if change is not None:
                for device in ids:
                    result[device] = change.over(result[device])
        return result

    def trainings(self) -> list[OwnTraining]:
        """Return what each device has for itself instead of keys of `[train]`, groups applied; by id."""
        result = [OwnTraining()] * self.count
        for name, ids in self.groups().items():
            change = self.group[name].train
            if change is not None:
                for device in ids:
                    result[device] = change.over(result[device])
        return result

    def of_each(self, key: str, default: Any) -> list[tuple[str, Any]]:
        """Return the value of each device for a key that groups may change, as (group, value); by id.

        Args:
            key: of `[devices.group.NAME]`.
            default: the value of devices in no group that has the key; their group is "".
        """
        result = [("", default)] * self.count
        for name, ids in self.groups().items():
            value = getattr(self.group[name], key)
            if value is not None:
                for device in ids:
                    result[device] = (name, value)
        return result

    def channels(self, air: str, default: Sequence[int]) -> list[int]:
        """Return the channel of each device's radio on an air, groups applied to the default ones; by id."""
        result = list(default)
        for name, ids in self.groups().items():
            channel = self.group[name].channels.get(air)
            if channel is not None:
                for device in ids:
                    result[device] = channel
        return result

    def places(self) -> list[Position | Area | None]:
        """Return where groups say that each device is; None where none does; by id."""
        result: list[Position | Area | None] = [None] * self.count
        for name, ids in self.groups().items():
            group = self.group[name]
            for number, device in enumerate(sorted(ids)):
                if group.positions is not None:
                    result[device] = group.positions[number]
                elif group.area is not None:
                    result[device] = group.area
        return result

    def mobilities(self, default: Mobility) -> list[Mobility]:
        """Return how each device moves; those of no group that says so as `default`; by id."""
        return [mobility for _, mobility in self.of_each("mobility", default)]

    def move(self, default: Mobility) -> bool:
        """Tell whether any device moves by a law or a record."""
        return any(not isinstance(one, Static) for one in self.mobilities(default))

    def starts(self, seed: int) -> list[float]:
        """Return the virtual second at which each device begins, groups applied; by id."""
        return [start.instant(seed, device) for device, (_, start) in enumerate(self.of_each("start", self.start))]

    def stays(self, seed: int) -> list[tuple[float, float]]:
        """Return when each device is there at all, as [join, leave); by id."""
        joins, leaves = self.of_each("join", self.join), self.of_each("leave", self.leave)
        result = []
        for device, ((_, join), (_, leave)) in enumerate(zip(joins, leaves, strict=True)):
            begin = 0.0 if join is None else join.instant(seed, device, "join")
            result.append((begin, math.inf if leave is None else leave.instant(seed, device, "leave", begin)))
        return result


class LinkOverride(Settings):
    """Some links with settings of their own: the keys of `[link]`, and which links they are for.

    A table with the same `kind` as before changes that one's keys; another kind replaces it.
    """

    model_config = ConfigDict(extra="allow")  # the keys of [link], checked below
    partial: ClassVar[type[Settings]] = LinkSettings
    read_before: ClassVar[tuple[str, ...]] = ("preset",)

    src: Selector = Field(default="*", alias="from", description="the sending devices")
    dst: Selector = Field(default="*", alias="to", description="the receiving devices")
    both: StrictBool = Field(default=False, description="also the links back")

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {key: _expanded(key, item) for key, item in value.items()}

    @property
    def table(self) -> dict[str, Any]:
        """The settings of those links, as they were written."""
        return dict(self.model_extra or {})

    @model_validator(mode="after")
    def _check(self) -> LinkOverride:
        known = [*LinkSettings.model_fields, "from", "to", "both", "preset"]
        unknown = [key for key in self.table if key not in LinkSettings.model_fields]
        if unknown:
            raise mistakes("override", [line([key], unknown_key(key, known)) for key in unknown])
        if not self.table:
            raise mistake(f"changes nothing; give some of {', '.join(LinkSettings.model_fields)}")
        lines = [moved(detail, detail["loc"]) for detail in self._wrong_alone()]
        if lines:
            raise mistakes("override", lines)
        return self

    def _wrong_alone(self) -> list[ErrorDetails]:
        """Return the errors that no earlier table can repair; tables with only some keys are checked once merged."""
        whole = {key: value for key, value in self.table.items() if not isinstance(value, Mapping) or "kind" in value}
        try:
            LinkSettings.model_validate(whole)
        except ValidationError as error:
            return [detail for detail in error.errors() if detail["loc"]]
        return []


def _expanded(key: str, value: Any) -> Any:
    """Return a value of `[link]` with its shorthand written out, so that tables can be merged."""
    found = marker(LinkSettings.model_fields[key]) if key in LinkSettings.model_fields else None
    try:
        return value if found is None else found.table(value)
    except ValueError:
        return value  # an error, found when it is checked


class LinkTableSettings(LinkSettings):
    """The `[link]` table: settings of all links, then changes for some of them, in order."""

    read_before: ClassVar[tuple[str, ...]] = ("preset",)

    override: tuple[LinkOverride, ...] = Field(default=(), max_length=MOST_ITEMS)


class Baselines(Settings):
    """The `[baselines]` table: other runs on the same data and devices, to compare with."""

    local: StrictBool = Field(default=False, description="every device trains alone")
    central: StrictBool = Field(default=False, description="one device trains on all data pooled")


class Evaluate(Settings):
    """The `[evaluate]` table: how often models are tested while running; at the end they always are."""

    every: Annotated[PositiveSeconds | None, *word("auto")] = Field(
        default=None, description='virtual time between two evaluations; "auto" chooses it'
    )
    samples: Annotated[int, Field(strict=True, ge=0)] = Field(
        default=500, description="test samples used while running, the same ones each time; 0: all"
    )
    metrics: tuple[AnyScore, ...] = Field(
        default=(),
        max_length=MOST_ITEMS,
        description='what models are scored by, such as ["accuracy", "f1"], or of your own, "file.py:Class"; targets '
        "and plots take the first. None given: accuracy, or rmse where numbers are to be predicted",
    )
    on: Literal["all", "own"] = Field(
        default="all",
        description="own: also the scores of each device's model on test data distributed as its training data: those "
        "of its owners where data have owners, else by its shares of the classes",
    )


class MetricTarget(Settings):
    """A value of a metric to reach: by every device, or by their mean."""

    alternatives: ClassVar[tuple[tuple[str, ...], ...]] = (("every_device", "mean"),)

    every_device: float | None = None
    mean: float | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.every_device is None) == (self.mean is None):
            raise mistake("needs exactly one of every_device = 0.5 and mean = 0.5")
        return self


class Target(Settings):
    """An accuracy to reach: by every device, or by their mean."""

    alternatives: ClassVar[tuple[tuple[str, ...], ...]] = (("every_device", "mean"),)

    every_device: Probability | None = None
    mean: Probability | None = None

    @model_validator(mode="after")
    def _check(self) -> Target:
        if (self.every_device is None) == (self.mean is None):
            raise mistake('needs exactly one of every_device = "97 %" and mean = "97 %"')
        return self


class Stop(Settings):
    """The `[stop]` table: the run ends with whichever comes first."""

    virtual_time: PositiveSeconds | None = Field(default=None, description="stop at this virtual time")
    rounds: Count | None = Field(default=None, description="stop when every device has finished this many rounds")
    accuracy: Annotated[Target, Short("every_device")] | None = Field(
        default=None, description="stop when an evaluation reaches this accuracy"
    )
    metric: Annotated[MetricTarget, Short("every_device")] | None = Field(
        default=None,
        description="stop when an evaluation reaches this value of the first of evaluate.metrics; of an error such as "
        "rmse, a value that isn't above it",
    )

    @model_validator(mode="after")
    def _check(self) -> Stop:
        if self.accuracy is not None and self.metric is not None:
            raise mistake("takes one target, accuracy or metric; remove the other")
        if self.virtual_time is None and self.rounds is None and self.accuracy is None and self.metric is None:
            raise mistake('needs a condition: virtual_time = "10 min", rounds = 100, or accuracy = "97 %"')
        return self
