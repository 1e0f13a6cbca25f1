"""Settings of channels, `[medium] channels`: how many there are, and which one each radio listens on."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from p2pl_async.basics.randomness import stream
from p2pl_async.basics.settings import Settings, mistake, word
from p2pl_async.basics.units import PositiveSeconds

MOST_CHANNELS = 1024
Channel = Annotated[int, Field(strict=True, ge=0, lt=MOST_CHANNELS)]


class Hopping(Settings):
    """Radios change their channels together: after each `dwell`, to the next of the sequence.

    In the n-th dwell since the run began, a radio whose own channel is `offset` listens on
    sequence[(n + offset) mod length], as in TSCH. A frame stays on the channel on which it began.

    Source: IEEE 802.15.4-2020, 6.2.10 (channel hopping).
    """

    dwell: PositiveSeconds = Field(description="time on one channel")
    sequence: Annotated[
        Annotated[tuple[Channel, ...], Field(min_length=1, max_length=MOST_CHANNELS)] | None, *word("ascending")
    ] = Field(default=None, description='channels in the order of hops; "ascending": 0, 1, 2, ...')


class Channels(Settings):
    """Orthogonal channels: frames on different ones don't collide, and who listens on one hears no other.

    A radio listens on one channel at a time, its own. To send, it tunes to that of the receiver, looks whether that is
    free if it looks at all, and awaits the acknowledgment there. A message to several devices is sent once on each
    channel on which some of them listen.
    """

    count: Annotated[int, Field(strict=True, ge=1, le=MOST_CHANNELS)] = Field(
        description="number of channels; they are 0 to count - 1"
    )
    own: Literal["same", "by-id", "random"] = Field(
        default="same",
        description="the channel that a device listens on, if its group says nothing: 0 for all; its id modulo "
        "`count`; or one drawn for each. With hopping, its offset",
    )
    hopping: Annotated[Hopping | None, *word("none")] = Field(
        default=None, description="how radios change their channels"
    )

    @model_validator(mode="after")
    def _check(self) -> Channels:
        sequence = () if self.hopping is None else self.hopping.sequence or ()
        if max(sequence, default=0) >= self.count:
            raise mistake(f"hopping.sequence has channel {max(sequence)}; with count = {self.count} the last is "
                          f"{self.count - 1}")  # fmt: skip
        return self

    def owned(self, n: int, seed: int) -> list[int]:
        """Return the own channel of each of n devices, where no group says otherwise."""
        if self.own == "by-id":
            return [device % self.count for device in range(n)]
        if self.own == "random":
            return [int(stream(seed, "channel", device).integers(self.count)) for device in range(n)]
        return [0] * n
