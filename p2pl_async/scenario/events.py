"""Scripted events at given instants, each a table `[[event]]`.

They are known before a run begins, and are compiled into what links, devices and places do over
time (`events_in_order`); a run changes none of them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StrictBool

from p2pl_async.basics.settings import OneOf, Settings, mistake, nearest
from p2pl_async.basics.units import PositiveMetersPerSecond, PositiveSeconds, Seconds, show_seconds
from p2pl_async.link import LinkSettings
from p2pl_async.radio.settings import Position
from p2pl_async.scenario.selector import Selector


def _link_keys(table: dict[str, Any]) -> dict[str, Any]:
    """Return a table of keys of `[link]`; its values are checked together with the settings of each link."""
    if not table:
        raise mistake('must change something: link = { loss = "30 %" }')
    for key in table:
        if key not in LinkSettings.model_fields:
            guess = nearest(key, LinkSettings.model_fields)
            hint = f'did you mean "{guess}"?' if guess else f"known: {', '.join(LinkSettings.model_fields)}"
            raise mistake(f'has no key "{key}"; {hint}')
    return table


LinkChange = Annotated[dict[str, Any], AfterValidator(_link_keys)]


class Event(Settings):
    """Base of every event."""

    kind: str
    at: Seconds = Field(description="the instant")

    def show(self) -> str:
        """Return the event for people, without its instant."""
        said = self.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude={"at", "kind"})
        return " ".join([self.kind, *(f"{key} = {_written(value)}" for key, value in said.items())])


def _written(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_written(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_written, value))}]"
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


class LinkEvent(Event):
    """Base of events that happen to links."""

    src: Selector = Field(default="*", alias="from", description="the sending devices")
    dst: Selector = Field(default="*", alias="to", description="the receiving devices")
    both: StrictBool = Field(default=False, description="also the links back")


class DeviceEvent(Event):
    """Base of events that happen to devices."""

    devices: Selector = Field(description="which devices")


class Set(LinkEvent):
    """Links get other settings; what is left out stays as it was."""

    kind: Literal["set"] = "set"
    link: LinkChange = Field(description="keys of [link], from then on")


class Ramp(LinkEvent):
    """Numbers of links' settings move step by step from their present values to those given here."""

    kind: Literal["ramp"] = "ramp"
    link: LinkChange = Field(description="keys of [link], as they are at the end")
    over: PositiveSeconds = Field(description="duration of the change")
    steps: Annotated[int, Field(strict=True, ge=1, le=1000)] = Field(default=10, description="in how many equal steps")


class LinkDown(LinkEvent):
    """Links carry nothing until they are up again; a message that has left its sender before still arrives."""

    kind: Literal["link-down"] = "link-down"


class LinkUp(LinkEvent):
    """Links that an event took down are up again."""

    kind: Literal["link-up"] = "link-up"


class NetworkSplit(Event):
    """Devices of different groups don't hear each other until it heals; those in no group are one more.

    A message that has left its sender before still arrives.
    """

    kind: Literal["partition"] = "partition"
    groups: Annotated[tuple[Selector, ...], Field(min_length=1)] = Field(description="devices that stay together")


class Heal(Event):
    """All partitions end."""

    kind: Literal["heal"] = "heal"


class Crash(DeviceEvent):
    """Devices crash, and stay down until they are restarted."""

    kind: Literal["crash"] = "crash"


class Restart(DeviceEvent):
    """Devices that an event has crashed are up again, after the `restart` of their churn."""

    kind: Literal["restart"] = "restart"


class Move(DeviceEvent):
    """Devices go to a place, at once or at a speed, and stay there."""

    kind: Literal["move"] = "move"
    to: Position = Field(description='the place: ["20 m", "5 m"]')
    speed: PositiveMetersPerSecond | None = Field(default=None, description="speed; at once by default")


AnyEvent = Annotated[Event, OneOf("event", Set, Ramp, LinkDown, LinkUp, NetworkSplit, Heal, Crash, Restart, Move)]


def label(index: int, event: Event) -> str:
    """Return how problems and `p2pl probe --explain` call an event."""
    return f"event[{index}] at {show_seconds(event.at)}"
