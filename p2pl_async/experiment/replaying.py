"""Baselines train as much as the devices of the main run did: what landed there is written down, and repeated."""

from __future__ import annotations

from array import array
from bisect import bisect_left

import trio
from pydantic import InstanceOf

from p2pl_async.device import Device
from p2pl_async.protocols.base import Protocol


class Trainings:
    """The trainings of one device that came to their end, in the order in which they began.

    Attributes:
        starts: virtual second at which each began, ascending.
        steps: mini-batches of each.
    """

    __slots__ = ("starts", "steps")

    def __init__(self) -> None:
        self.starts = array("d")  # 16 bytes for a training: long runs have millions
        self.steps = array("q")

    def add(self, start: float, steps: int) -> None:
        """Write down a training."""
        at = bisect_left(self.starts, start)
        self.starts.insert(at, start)
        self.steps.insert(at, steps)


class Replay(Protocol):
    """Every device trains alone, as often, as long and at the instants at which it trained in the main run.

    So it sees as many samples, whatever a protocol calls a round, and waits while it waited for others.
    A training that the main run gave up is not repeated.
    """

    kind: str = "replay"
    trainings: tuple[InstanceOf[Trainings], ...]

    async def run(self, device: Device) -> None:
        """Run the protocol on one device."""
        mine = self.trainings[device.id]
        w = device.initial_params()
        for number in range(bisect_left(mine.starts, device.now), len(mine.starts)):  # after a crash: those left
            if mine.starts[number] > device.now:  # most begin when the one before ends
                await trio.sleep_until(mine.starts[number])
            w = await device.train(w, steps=mine.steps[number])
            device.finish_round(w)
