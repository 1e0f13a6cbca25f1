"""The `[link]` table of a scenario: everything that one direction between two devices does."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, SerializerFunctionWrapHandler, WrapSerializer, model_validator

from p2pl_async.link.arq import Arq
from p2pl_async.link.latency import AnyLatency, Constant
from p2pl_async.link.loss import AnyLoss, NoLoss
from p2pl_async.link.outage import AnyOutage, NoOutage
from p2pl_async.link.queue import Queue
from p2pl_async.settings import Settings
from p2pl_async.units import BitsPerSecond, Bytes, PositiveBytes, Probability


def _off(word: str) -> tuple[BeforeValidator, WrapSerializer]:
    """Return the metadata of an optional value that a scenario switches off with a word."""

    def write(value: Any, handler: SerializerFunctionWrapHandler) -> Any:
        return word if value is None else handler(value)

    return BeforeValidator(lambda value: None if value == word else value), WrapSerializer(write)


class LinkSettings(Settings):
    """One direction between two devices; the default is a perfect link.

    Each key can be overridden for some links alone; `"unlimited"` and `"none"` switch off what
    the default has.
    """

    latency: AnyLatency = Constant()
    loss: AnyLoss = NoLoss()
    rate: Annotated[BitsPerSecond | None, *_off("unlimited")] = None
    queue: Annotated[Queue | None, *_off("unlimited")] = None
    mtu: Annotated[PositiveBytes | None, *_off("unlimited")] = None
    header: Bytes = 0
    arq: Annotated[Arq | None, *_off("none")] = None
    outage: AnyOutage = NoOutage()
    order: Literal["fifo", "free"] = "fifo"
    duplicate: Probability = 0.0

    @model_validator(mode="after")
    def _check(self) -> LinkSettings:
        if self.queue is not None and self.rate is None:
            raise ValueError('queue needs a rate; without one nothing ever waits. Add rate = "2 Mbit/s"')
        if self.mtu is not None and self.header >= self.mtu:
            raise ValueError(
                f"header ({self.header} B) must be smaller than mtu ({self.mtu} B), which counts header and content"
            )
        return self
