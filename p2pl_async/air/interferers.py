"""Settings of outside interference, `[[medium.interferer]]`: other systems that send in the same band."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from p2pl_async.air.channel_settings import MOST_CHANNELS, Channel
from p2pl_async.basics.distributions import AnyDuration
from p2pl_async.basics.randomness import stream
from p2pl_async.basics.settings import OneOf, Settings, word
from p2pl_async.basics.timeline import Steps, Timeline
from p2pl_async.basics.units import DecibelMilliwatts, Meters, PositiveSeconds
from p2pl_async.link.outage import ContactPlan
from p2pl_async.link.switching import Renewal


class Activity(Settings):
    """Base of the times at which an interferer sends."""

    kind: str

    def silent(self, seed: int, number: int) -> Timeline[int]:
        """Return when the interferer of a number is silent: 1 while it is, 0 while it sends."""
        raise NotImplementedError


class Bursts(Activity):
    """It sends and is silent in turns, for random times: exponential with these means, or of any distribution.

    With two constant times it is periodic. It begins in the midst of one of them, drawn.
    """

    kind: Literal["bursts"] = "bursts"
    on: AnyDuration = Field(description="how long it sends")
    off: AnyDuration = Field(description="how long it is silent")

    def silent(self, seed: int, number: int) -> Timeline[int]:
        return Renewal(stream(seed, "interference", number), (self.on, self.off))


class RecordedActivity(Activity):
    """It sends at recorded times: a CSV file with the columns `start` and `end`."""

    kind: Literal["recorded"] = "recorded"
    path: Path = Field(description="the file")
    unit: Literal["s", "ms", "us", "µs", "ns", "min", "h"] = Field(default="s", description="unit of the file's times")
    period: PositiveSeconds | None = Field(default=None, description="after which the record begins again")

    @model_validator(mode="after")
    def _check(self) -> RecordedActivity:
        self._plan()
        return self

    def silent(self, seed: int, number: int) -> Timeline[int]:
        found = self._plan().process(seed, 0, 0)
        return Steps(np.zeros(1), [0], None) if found is None else found

    def _plan(self) -> ContactPlan:
        period = None if self.period is None else f"{self.period!r} s"
        return ContactPlan.model_validate({"path": self.path, "unit": self.unit, "period": period})


AnyActivity = Annotated[Activity, OneOf("activity", Bursts, RecordedActivity)]


class Interferer(Settings):
    """Something else that sends in the same band, such as a Wi-Fi next to 802.15.4.

    Its power falls by `[radio] path_loss`, without shadowing and fading. While it sends, it is noise to receivers, and
    devices that receive it at `sense` or above find the channel busy.
    """

    position: tuple[Meters, Meters] | tuple[Meters, Meters, Meters] = Field(description="where it is: x, y and maybe z")
    power: DecibelMilliwatts = Field(description="its transmit power within the bandwidth of a receiver")
    activity: AnyActivity = Field(description="when it sends")
    channels: Annotated[
        Annotated[tuple[Channel, ...], Field(min_length=1, max_length=MOST_CHANNELS)] | None, *word("all")
    ] = Field(default=None, description="the channels that it covers, such as four of 802.15.4's for a Wi-Fi")
