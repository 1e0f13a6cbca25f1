"""A protocol whose devices talk and never train: for runs that are about links."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from p2pl_async.device import Device
from p2pl_async.messages import Message
from p2pl_async.protocols.base import Protocol


@dataclass(frozen=True, slots=True)
class Spoken(Message, tag="spoken"):
    """The round in which it was said."""

    n: int


class Speakers(Protocol):
    """Everyone says something every second."""

    kind: str = "speakers"
    trains: ClassVar[bool] = False

    async def run(self, device: Device) -> None:
        while device.running:
            await device.sleep(1.0)
            device.record("out", len(device.out_neighbors))
            device.record("in", len(device.in_neighbors))
            device.broadcast(Spoken(device.round))
            device.finish_round()
