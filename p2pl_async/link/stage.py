"""The settings of a link between two changes of them, ready for use."""

from __future__ import annotations

import math

import numpy as np

from p2pl_async.basics.randomness import stream
from p2pl_async.link.arq import Paces
from p2pl_async.link.latency import Draw
from p2pl_async.link.loss.base import LossProcess
from p2pl_async.link.outage import NoOutage
from p2pl_async.link.sending.outcome import Cut
from p2pl_async.link.settings import LinkSettings


class Stage:
    """The settings of a link from one change to the next, and the streams that belong to them."""

    __slots__ = (
        "_full", "copy_latency", "drops", "duplicate", "fec", "fifo", "header", "latency", "loss", "opened", "paces",
        "payload", "seconds_per_byte", "settings", "simple", "spoils",
    )  # fmt: skip

    latency: Draw
    copy_latency: Draw
    loss: LossProcess | None  # for most messages; the channel has it otherwise

    def __init__(self, settings: LinkSettings) -> None:
        rate = settings.rate
        self.settings = settings
        self.header = settings.header
        self.payload = math.inf if settings.mtu is None else settings.mtu - settings.header
        self._full = 0 if settings.mtu is None else settings.mtu
        self.seconds_per_byte = 8 / rate if isinstance(rate, float) else 0.0
        self.paces = None if settings.arq is None else Paces(settings.arq)
        self.fec = settings.fec
        self.duplicate = settings.duplicate
        self.drops = 0.0 if settings.deliver_corrupted else settings.corrupt
        self.spoils = settings.corrupt if settings.deliver_corrupted else 0.0
        self.fifo = settings.order == "fifo"
        self.opened = False
        once = settings.arq is None and settings.fec is None and settings.queue is None
        clean = not settings.duplicate and not settings.corrupt and isinstance(settings.outage, NoOutage)
        self.simple = once and clean and (rate is None or isinstance(rate, float))

    def open(self, seed: int, owner: tuple[int, int], number: int, before: Stage | None = None) -> None:
        """Make the streams of latencies as they are after `number` messages."""
        latency = self.settings.latency
        if before is not None and before.opened and before.settings.latency == latency:
            self.latency = before.latency
        else:
            self.latency = latency.process(_generator(latency.random, seed, "latency", owner, number))
        if self.duplicate:
            generator = _generator(latency.random, seed, "duplicate-latency", owner, number)
            self.copy_latency = latency.process(generator)
        self.opened = True

    def cut(self, size: int) -> Cut:
        """Return the packets of a message."""
        if size <= self.payload:
            return Cut(1, 0, size + self.header)
        packets = math.ceil(size / self.payload)
        return Cut(packets, self._full, size + packets * self.header - (packets - 1) * self._full)

    def load(self, cut: Cut) -> tuple[int, int]:
        """Return how many packets and bytes the queue holds for a message."""
        air_bytes = (cut.packets - 1) * cut.full + cut.last
        if self.fec is None:
            return cut.packets, air_bytes
        parity = self.fec.parity * -(-cut.packets // self.fec.data)
        return cut.packets + parity, air_bytes + parity * (cut.full or cut.last)


_UNUSED = np.random.Generator(np.random.Philox(0))


def _generator(used: bool, seed: int, purpose: str, owner: tuple[int, int], numbers: int) -> np.random.Generator:
    """Return a stream as it is after some numbers have been drawn; any generator if nothing is ever drawn from it."""
    if not used:
        return _UNUSED
    generator = stream(seed, purpose, *owner)
    generator.random(numbers)
    return generator
