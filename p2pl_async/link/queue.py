"""The transmit queue of a link: what waits for the radio, and what it is sending."""

from __future__ import annotations

from collections import deque
from typing import Annotated

from pydantic import Field, model_validator

from p2pl_async.settings import Settings, mistake
from p2pl_async.units import PositiveBytes


class Queue(Settings):
    """How much a link holds before it refuses the next message (tail drop).

    Counted are the messages that wait and the one being sent; `size` counts their bytes with
    headers. A message is taken whole or not at all.
    """

    messages: Annotated[int, Field(strict=True, ge=1)] | None = Field(default=None, description="most messages held")
    size: PositiveBytes | None = Field(default=None, description="most bytes held")

    @model_validator(mode="after")
    def _check(self) -> Queue:
        if self.messages is None and self.size is None:
            raise mistake('needs a limit: messages = 16, size = "2 MB", or both')
        return self


class Backlog:
    """What a link has accepted and not yet sent."""

    __slots__ = ("_held", "_size")

    def __init__(self) -> None:
        self._held: deque[tuple[float, int]] = deque()  # (instant it has left, bytes), in order
        self._size = 0

    def has_room(self, limits: Queue | None, size: int, now: float) -> bool:
        """Forget what has left by `now`, then tell whether `size` more bytes fit."""
        held = self._held
        while held and held[0][0] <= now:
            self._size -= held.popleft()[1]
        if limits is None:
            return True
        if limits.messages is not None and len(held) >= limits.messages:
            return False
        return limits.size is None or self._size + size <= limits.size

    def add(self, size: int, until: float) -> None:
        """Hold a message of `size` bytes until the instant it has left."""
        self._held.append((until, size))
        self._size += size
