"""A device that lies: some of its messages are well formed, and false in one field."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from p2pl_async.device import Device
from p2pl_async.messages import Message
from p2pl_async.protocols import Protocol
from p2pl_async.protocols.base import Contract

NUMBERS = (-1, 0, 1, 7, 10**6, 2**31, 2**63 - 1, 2**64 - 1, -(2**63))
REALS = (float("nan"), float("inf"), -float("inf"), -1.0, 0.0, 1e-320, 1e300, -1e300)


def lies(message: Message) -> Iterator[Message]:
    """Yield the message with each of its fields false in turn; every one can be sent."""
    for field in dataclasses.fields(message):  # type: ignore[arg-type]
        value = getattr(message, field.name)
        for other in _others(value):
            yield dataclasses.replace(message, **{field.name: other})  # type: ignore[type-var]
        if value is None:
            yield dataclasses.replace(message, **{field.name: np.ones((1, 6), np.int64)})  # type: ignore[type-var]
        elif "| None" in str(field.type):
            yield dataclasses.replace(message, **{field.name: None})  # type: ignore[type-var]


def _others(value: Any) -> Iterator[Any]:
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from (*NUMBERS, value + 1, value + 3)
    elif isinstance(value, float):
        yield from REALS
    elif isinstance(value, np.ndarray):
        yield value[:0]
        yield np.concatenate([value, value])
        yield np.stack([value, value])
        yield value[..., :1]
        yield np.zeros_like(value)
        info: Any = np.finfo(value.dtype) if value.dtype.kind == "f" else np.iinfo(value.dtype)
        extremes = [np.nan, np.inf, -np.inf] if value.dtype.kind == "f" else [-1 if info.min else 0]
        for each in (info.max, info.min, *extremes):
            yield np.full_like(value, each)
            if value.size:
                spoiled = value.copy()
                spoiled.flat[value.size // 2] = each
                yield spoiled


class Liar(Protocol):
    """Runs another protocol; one device adds false messages to the honest ones."""

    kind: str = "liar"
    inner: Any
    liar: int
    seed: int
    share: float = 0.5  # of its messages
    only: tuple[int, int] | None = None  # or the lie of this number, in every message

    @property
    def contract(self) -> Contract | None:
        """That of the protocol."""
        contract: Contract | None = self.inner.contract
        return contract

    async def run(self, device: Device) -> None:
        if device.id == self.liar:
            _corrupt(device, random.Random(self.seed), self.share)
        await self.inner.run(device)


def _corrupt(device: Device, draw: random.Random, share: float) -> None:
    honest: Callable[[Any, Message], None] = device.send

    def send(target: int | Sequence[int], message: Message) -> None:
        found = list(lies(message))
        if draw.random() < share:
            honest(target, draw.choice(found))
            if draw.random() < 0.5:
                return
        honest(target, message)

    device.send = send  # type: ignore[method-assign]
    device.broadcast = lambda message: send(device.out_neighbors, message)  # type: ignore[method-assign]
