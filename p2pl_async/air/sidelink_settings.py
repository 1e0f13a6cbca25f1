"""Settings of NR sidelink, mode 2."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from p2pl_async.air.channel_settings import Channels
from p2pl_async.air.settings import Contended
from p2pl_async.basics.settings import Short, mistake, word
from p2pl_async.basics.units import DecibelMilliwatts, PositiveSeconds, Probability, show_seconds


class NrMode2(Contended):
    """NR sidelink, mode 2: devices reserve resources, one frame each, among those that nobody was heard to reserve.

    A resource is a subchannel of a slot, and comes again in each period. Its reservation lasts for a number of frames
    that is drawn; then the device keeps it or selects another. A receiver hears all subchannels, but nothing in slots
    in which it sends.

    Sources: 3GPP TS 38.214, 8.1.4; TS 38.321, 5.22.1.1.
    """

    kind: Literal["nr-mode2"] = "nr-mode2"
    slot: PositiveSeconds = Field(default=0.5e-3, description="length of a slot: 1 ms at 15 kHz, 0.5 ms at 30 kHz")
    period: PositiveSeconds = Field(
        default=20e-3, description="from one use of a resource to the next (resource reservation interval)"
    )
    window: Annotated[PositiveSeconds | None, *word("longest")] = Field(
        default=None,
        description='selection window: how far ahead a resource may be; "longest": as far as reservations are known, '
        "a period less two slots",
    )
    reservations: Annotated[int, Field(strict=True, ge=1, le=16)] = Field(
        default=1, description="most resources that a device reserves in each period"
    )
    counter: Annotated[tuple[PositiveInt, PositiveInt] | None, *word("auto")] = Field(
        default=None,
        description='fewest and most frames of a reservation; "auto": 5 to 15, as many times more as a period is '
        "shorter than 100 ms, at most 5 times",
    )
    keep: Probability = Field(default=0.0, description="probability that a resource is kept then; 0 to 80 %")
    unused: Annotated[int, Field(strict=True, ge=1, le=9)] = Field(
        default=1, description="uses in a row without a frame after which a resource is given up"
    )
    threshold: DecibelMilliwatts = Field(
        default=-110.0,
        description="power from which on a reservation of another is respected, if there is a [radio]; it is raised "
        "by 3 dB until enough resources are left",
    )
    least_free: Probability = Field(default=0.2, description="share of the resources that must be left to choose from")
    channels: Annotated[Annotated[Channels, Short("count")] | None, *word("one")] = Field(
        default=Channels(count=5), description="subchannels; the rate of links is that of one"
    )

    @property
    def subchannels(self) -> int:
        """Number of subchannels."""
        return 1 if self.channels is None else self.channels.count

    @property
    def counts(self) -> tuple[int, int]:
        """Fewest and most frames of a reservation."""
        if self.counter is not None:
            return self.counter
        times = math.ceil(0.1 / max(0.02, self.period) - 1e-9) if self.period < 0.1 else 1
        return 5 * times, 15 * times

    @property
    def window_slots(self) -> int:
        """Number of slots from the choice of a resource to the last that may be chosen."""
        return self.slots_of(self.period) - 2 if self.window is None else self.slots_of(self.window)

    def slots_of(self, seconds: float) -> int:
        """Return the number of slots in a time."""
        return round(seconds / self.slot)

    @model_validator(mode="after")
    def _check(self) -> NrMode2:
        for key, seconds in (("period", self.period), ("window", self.window or self.period)):
            if abs(seconds / self.slot - self.slots_of(seconds)) > 1e-6:
                raise mistake(f"{key} must be a whole number of slots of {show_seconds(self.slot)}")
        slots, longest = self.window_slots, self.slots_of(self.period) - 2
        if slots > longest:
            raise mistake("window must be shorter than period by two slots: beyond, reservations aren't known")
        if slots < self.reservations + 3:
            raise mistake(f"window has {slots} slots; {self.reservations} reservations need {self.reservations + 3}")
        if self.counter is not None and self.counter[0] > self.counter[1]:
            raise mistake("counter must be the fewest frames, then the most")
        if self.channels is not None and (self.channels.own != "same" or self.channels.hopping is not None):
            raise mistake("channels takes only a count, as receivers hear all of them; leave own and hopping out")
        if self.ack is not None or self.spacing:
            key = "ack" if self.ack is not None else "spacing"
            raise mistake(f"{key} has no effect, as each frame has a slot of its own; leave it out")
        return self
