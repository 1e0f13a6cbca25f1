"""The transmit queue of a link: messages that wait, and the one being sent."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Annotated, Literal

from pydantic import Field, model_validator

from p2pl_async.basics.settings import Settings, mistake
from p2pl_async.basics.units import PositiveBytes, PositiveSeconds


class Queue(Settings):
    """How much a link holds before it drops messages, and for how long.

    Messages that wait and the one being sent count, each until all of it has left; `size` counts
    their bytes with headers. A message is accepted whole or not at all.
    """

    messages: Annotated[int, Field(strict=True, ge=1)] | None = Field(default=None, description="most messages held")
    packets: Annotated[int, Field(strict=True, ge=1)] | None = Field(
        default=None, description="most packets held, the fragments of all messages together"
    )
    size: PositiveBytes | None = Field(default=None, description="most bytes held")
    drop: Literal["tail", "head"] = Field(
        default="tail", description='the message that a full queue drops: the new one ("tail") or the oldest ("head")'
    )
    lifetime: PositiveSeconds | None = Field(
        default=None, description="a message whose sending hasn't begun after this time is dropped"
    )

    @model_validator(mode="after")
    def _check(self) -> Queue:
        if self.messages is None and self.packets is None and self.size is None and self.lifetime is None:
            raise mistake('needs a limit: messages = 16, packets = 100, size = "2 MB" or lifetime = "5 s"')
        return self

    @property
    def drops_head(self) -> bool:
        """Whether later messages decide the fate of those that wait."""
        return self.drop == "head"


class Backlog:
    """The messages that a link has accepted and not yet sent."""

    __slots__ = ("_held", "_packets", "_size")

    def __init__(self) -> None:
        self._held: list[tuple[float, int, int]] = []  # a heap: (instant it has left, packets, bytes)
        self._packets = 0
        self._size = 0

    def has_room(self, limits: Queue | None, packets: int, size: int, now: float) -> bool:
        """Drop the messages that have left by `now`; return whether one of so many packets and bytes fits."""
        held = self._held
        while held and held[0][0] <= now:
            _, left, bytes_left = heappop(held)
            self._packets -= left
            self._size -= bytes_left
        if limits is None:
            return True
        if limits.messages is not None and len(held) >= limits.messages:
            return False
        if limits.packets is not None and self._packets + packets > limits.packets:
            return False
        return limits.size is None or self._size + size <= limits.size

    def add(self, packets: int, size: int, until: float) -> None:
        """Hold a message until the instant it has left."""
        heappush(self._held, (until, packets, size))
        self._packets += packets
        self._size += size
