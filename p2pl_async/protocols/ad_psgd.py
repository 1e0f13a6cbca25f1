"""AD-PSGD: compute a gradient, average with one random neighbor, apply the gradient; nobody waits for all.

Source: X. Lian, W. Zhang, C. Zhang, J. Liu, "Asynchronous Decentralized Parallel Stochastic Gradient
Descent", ICML 2018, algorithm 1. This device is i. The paper averages two models in one atomic step and
avoids deadlock by splitting devices into those that ask and those that answer; messages can do neither.
Here (ours) an exchange is a transaction that may be left open:

    i   asks j with a number and x_i as it is sent
    j   delta = (x_i as sent - x_j) / 2;  x_j <- x_j + delta;  answers delta, and keeps it
    i   x_i <- x_i - delta, whatever has become of x_i meanwhile

    i repeats a question that isn't answered in time; j answers a repeated one with the delta that it keeps

so that  sum_i x_i - sum of deltas answered and not yet confirmed  moves by gradient steps alone, under
loss, duplication and reordering. A device answers whatever it is doing, so no waiting can close a circle;
it has at most one open transaction with each neighbor, and picks that one up again when it next draws it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import trio
from pydantic import Field, NonNegativeInt

from p2pl_async.basics.units import PositiveSeconds
from p2pl_async.device import Device
from p2pl_async.messages import DeviceId, Message, Vector
from p2pl_async.protocols.averaging import Sync
from p2pl_async.protocols.base import REQUEST_REPLY, Contract, Protocol
from p2pl_async.protocols.max_norm import MaxNormSync
from p2pl_async.protocols.mixing import is_finite


class Pairwise(Message):
    """Base of what is said while averaging in pairs."""


@dataclass(frozen=True, slots=True)
class Ask(Pairwise, tag="ask"):
    """The sender asks to be averaged with; its model as it is now."""

    id: int  # of the transaction, counted by the sender; a repeated question has the same
    x: Vector  # (n_params,)


@dataclass(frozen=True, slots=True)
class Answer(Pairwise, tag="answer"):
    """What the sender has added to its model, and the receiver is to subtract from its own."""

    id: int
    delta: Vector  # (n_params,)


class ADPSGD(Protocol):
    """Gradient steps, each with an average with one random neighbor (Lian et al. 2018)."""

    kind: Literal["ad-psgd"] = "ad-psgd"
    sync: Sync = Field(default=MaxNormSync(), description="How devices agree on one initial model before they train")
    timeout: PositiveSeconds = Field(default=5.0, description="How long to wait for an answer before asking again")
    retries: NonNegativeInt = Field(
        default=2, description="How often to ask again in a round; a transaction that stays open is taken up later"
    )

    contract: ClassVar[Contract] = REQUEST_REPLY
    models_per_message: ClassVar[float] = 1

    async def run(self, device: Device) -> None:
        """Be device i."""
        sync = await self.sync.run(device, device.initial_params())
        pairs = Pairs(device, sync.w)
        device.state = pairs
        while device.running:
            read = pairs.x  # the gradient is of this model, which others move on while it is computed
            step = await pairs.answer_while(lambda read=read: device.train(read, steps=1)) - read  # type: ignore[misc]
            await self._average(device, pairs)  # x_i, x_j <- (x_i + x_j) / 2
            pairs.move(step)  # x_i <- x_i - eta g_i
            device.finish_round(pairs.x)
            sync.serve()
        device.passive = True  # it still answers: others may have begun transactions with it
        while True:
            pairs.hear(await device.receive(Pairwise))
            device.params = pairs.x

    async def _average(self, device: Device, pairs: Pairs) -> None:
        partners = sorted(set(device.out_neighbors) & set(device.in_neighbors))
        if not partners:
            return
        j = int(device.random.choice(partners))
        for _ in range(1 + self.retries):
            pairs.ask(j)
            with device.timeout(self.timeout):
                while j in pairs.open:
                    pairs.hear(await device.receive(Pairwise))
            if j not in pairs.open:
                return


class Pairs:
    """One device's part in averaging with one neighbor at a time.

    Args:
        device: whose.
        x: its initial model, (n_params,).

    Attributes:
        x: the model, read-only.
        open: by neighbor asked, the question that isn't answered yet.
        answered: by neighbor that asked, the newest answer given to it.
    """

    def __init__(self, device: Device, x: Vector) -> None:
        self.x = x
        self.open: dict[DeviceId, Ask] = {}
        self.answered: dict[DeviceId, Answer] = {}
        self._device = device
        self._asked = 0

    def move(self, by: Vector) -> None:
        """Add to the model."""
        self._become(self.x + by)

    def ask(self, j: DeviceId) -> None:
        """Open a transaction with a neighbor, or repeat the question of the one that is open."""
        if j not in self.open:
            self.open[j] = Ask(self._asked, self.x)
            self._asked += 1
        self._device.send(j, self.open[j])

    def hear(self, message: Pairwise) -> None:
        """Answer a question, or take an answer; refuse what can't be averaged."""
        if isinstance(message, Ask):
            self._answer(message)
        elif isinstance(message, Answer) and message.sender in self.open:
            if message.id != self.open[message.sender].id:
                return  # to an earlier question, repeated
            del self.open[message.sender]
            if self._fits(message.delta) and is_finite(message.delta):
                self._become(self.x - message.delta)
            else:
                self._device.record("refused", 1)

    async def answer_while(self, work: Callable[[], Awaitable[Vector]]) -> Vector:
        """Return what `work` does, and answer questions until then."""
        results: list[Vector] = []
        errors: list[Exception] = []
        listening = trio.CancelScope()

        async def do() -> None:
            try:
                results.append(await work())
            except Exception as error:  # raised below, outside of the nursery and its group
                errors.append(error)
            listening.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(do)
            with listening:
                while not results and not errors:
                    self.hear(await self._device.receive(Pairwise))
        if errors:
            raise errors[0]
        # What came at the very instant at which the work ended is heard, whichever task ran first.
        while (message := self._device.receive_nowait(Pairwise)) is not None:
            self.hear(message)
        return results[0]

    def _answer(self, question: Ask) -> None:
        known = self.answered.get(question.sender)
        if known is None or question.id > known.id:
            if not self._fits(question.x):
                self._device.record("refused", 1)
                return
            delta: Vector = question.x - self.x
            delta *= 0.5
            if not is_finite(delta):
                self._device.record("refused", 1)
                return
            self.move(delta)
            known = self.answered[question.sender] = Answer(question.id, delta)
            self._device.record_mix({question.sender: question})
        if question.id == known.id:
            self._device.send(question.sender, known)

    def _become(self, x: Vector) -> None:
        self.x = x
        self.x.flags.writeable = False  # so that training from it and sending it need no copy

    def _fits(self, x: Vector) -> bool:
        return x.shape == self.x.shape and x.dtype == self.x.dtype


def balance(pairs: list[Pairs]) -> Vector:
    """Return the sum over devices, by id, of their models, less what was answered and isn't confirmed: an invariant."""
    total: Vector = np.sum([own.x for own in pairs], axis=0)
    for j, own in enumerate(pairs):
        for i, answer in sorted(own.answered.items()):
            question = pairs[i].open.get(j)
            if question is not None and question.id == answer.id:
                total = total - answer.delta
    return total
