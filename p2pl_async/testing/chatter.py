"""Devices that talk at random, in every way that a device can: a protocol for testing links, media and weather."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt

from p2pl_async.basics.units import PositiveSeconds
from p2pl_async.device import Device
from p2pl_async.messages import Message
from p2pl_async.protocols.base import STATE, Contract, Protocol


@dataclass(frozen=True, slots=True)
class Talk(Message, tag="talk"):
    """Some bytes."""

    round: int
    filling: bytes


@dataclass(frozen=True, slots=True)
class Picture(Message, tag="picture", partial=True):
    """Some entries, of which a part is of use too."""

    entries: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Question(Message, tag="question"):
    """A message that is answered at once."""

    round: int


class Chatter(Protocol):
    """Devices send messages of random lengths to some or all neighbors, answer questions, and wait by their clocks."""

    kind: str = "chatter"
    trains = False
    period: PositiveSeconds = 0.5
    most_bytes: PositiveInt = 2000

    contract: ClassVar[Contract] = STATE

    async def run(self, device: Device) -> None:
        """Talk until the rounds are over."""

        def answer(question: Question) -> None:
            if question.sender in device.out_neighbors:
                device.send(question.sender, Talk(question.round, b"yes"))

        device.answer(Question, answer)
        while device.running:
            await device.sleep(float(device.random.exponential(self.period)))
            neighbors = device.out_neighbors
            if neighbors:
                self._say(device, neighbors)
            if device.random.random() < 0.3:
                with device.timeout(self.period):
                    await device.receive(Talk)
            while (picture := device.receive_nowait(Picture)) is not None:
                assert not picture.entries[picture.mask("entries")].any()
            device.finish_round()

    def _say(self, device: Device, neighbors: tuple[int, ...]) -> None:
        length = int(device.random.integers(0, self.most_bytes))
        target = int(device.random.choice(neighbors))
        way = int(device.random.integers(0, 5))
        if way == 0:
            device.broadcast(Talk(device.round, bytes(length)))
        elif way == 1:
            device.send(target, Talk(device.round, bytes(length)))
        elif way == 2:
            device.broadcast(Picture(np.ones(length // 4, np.float32)))
        elif way == 3:
            device.send(target, Picture(np.ones(length // 4, np.float32)))
        else:
            device.send(target, Question(device.round))
