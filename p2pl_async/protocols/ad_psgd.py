"""AD-PSGD: compute a gradient, average with one random neighbor, apply the gradient; no device waits for all.

Source: X. Lian, W. Zhang, C. Zhang, J. Liu, "Asynchronous Decentralized Parallel Stochastic Gradient
Descent", ICML 2018, algorithm 1. This device is i. The paper averages two models in one atomic step and
avoids deadlock by splitting devices into those that ask and those that answer; messages can do neither.
Here (our addition) an exchange is a transaction that may be left open:

    i   asks j, with a number and x_i as it is now
    j   delta = (x_i as sent - x_j) / 2;  x_j <- x_j + delta;  answers delta, and keeps it
    i   x_i <- x_i - delta, even if x_i has changed meanwhile

    i repeats a question that isn't answered in time; j answers a repeated question with the delta it kept

so  sum_i x_i - sum of deltas answered and not yet confirmed  moves by gradient steps alone, under
loss, duplication and reordering. A device answers while it trains, so devices can't wait for each other
in a circle. It has at most one open transaction with each neighbor, and resumes it when it next draws
that neighbor.

Numbers begin at 0 again when a device restarts, so they come with the number of its restarts. A question is for
one life of j: a later one says that it has restarted, and i asks anew.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import trio
from pydantic import Field, NonNegativeInt

from p2pl_async.basics.units import PositiveSeconds
from p2pl_async.messages import DeviceId, Message, Vector
from p2pl_async.protocols.base import REQUEST_REPLY, Contract, Protocol
from p2pl_async.protocols.max_norm import MaxNormSync, Sync
from p2pl_async.protocols.mixing import is_count, is_finite, is_like

if TYPE_CHECKING:
    from p2pl_async.device import Device


class Pairwise(Message):
    """Base of the two messages of an exchange."""


@dataclass(frozen=True, slots=True)
class Ask(Pairwise, tag="ask"):
    """A request to average with the sender's model, as it is now."""

    boot: int  # how often the sender has restarted
    id: int  # of the transaction, counted by the sender since then; a repeated question has the same
    life: int  # how often the receiver has restarted, as the sender knows it
    x: Vector  # (n_params,)


@dataclass(frozen=True, slots=True)
class Answer(Pairwise, tag="answer"):
    """The difference that the sender has added to its model and the receiver subtracts from its own."""

    asked_boot: int
    id: int
    boot: int  # how often the sender has restarted
    delta: Vector  # (n_params,); (0,) if the question was for a former life


class ADPSGD(Protocol):
    """Gradient steps, each with an average with one random neighbor (Lian et al. 2018)."""

    kind: Literal["ad-psgd"] = "ad-psgd"
    sync: Sync = MaxNormSync()
    timeout: PositiveSeconds = Field(
        default=5.0, description="Mean time to wait for an answer before asking again; each is drawn within 25 % of it"
    )
    retries: NonNegativeInt = Field(
        default=2, description="How often to ask again in a round; a transaction that stays open is resumed later"
    )

    contract: ClassVar[Contract] = REQUEST_REPLY
    models_per_message: ClassVar[float] = 1
    averages: ClassVar[bool] = True

    async def run(self, device: Device) -> None:
        """Run the protocol on device i."""
        w = await self.sync.run(device, device.initial_params())
        transactions = Transactions(device, w)
        device.state = transactions
        while device.running:
            read = transactions.x  # the gradient is taken here; answers move the model while it is computed
            step = await transactions.answer_while(lambda read=read: device.train(read, steps=1)) - read  # type: ignore[misc]
            await self._average(device, transactions)  # x_i, x_j <- (x_i + x_j) / 2
            transactions.move(step)  # x_i <- x_i - eta g_i
            device.finish_round(transactions.x)
        device.passive = True  # it keeps answering: neighbors may have open transactions with it
        while True:
            transactions.hear(await device.receive(Pairwise))
            device.params = transactions.x

    async def _average(self, device: Device, transactions: Transactions) -> None:
        partners = sorted(set(device.out_neighbors) & set(device.in_neighbors))
        if not partners:
            return
        j = int(device.random.choice(partners))
        for _ in range(1 + self.retries):
            transactions.ask(j)
            # Drawn anew: questions that met on shared air must not meet again when they are repeated.
            with device.timeout(self.timeout * float(device.random.uniform(0.75, 1.25))):
                while j in transactions.open:
                    transactions.hear(await device.receive(Pairwise))
            if j not in transactions.open:
                return


class Transactions:
    """A device's model, and its exchanges with neighbors: questions still open, answers already given.

    Args:
        device: the device.
        x: its initial model, (n_params,).

    Attributes:
        x: the model, read-only.
        open: neighbor asked -> the question that isn't answered yet.
        answered: neighbor that asked -> the newest answer given to it.
        boots: neighbor -> how often it has restarted, as far as known.
    """

    def __init__(self, device: Device, x: Vector) -> None:
        self.x = x
        self.open: dict[DeviceId, Ask] = {}
        self.answered: dict[DeviceId, Answer] = {}
        self.boots: dict[DeviceId, int] = {}
        self._device = device
        self._asked = 0

    def move(self, by: Vector) -> None:
        """Add to the model."""
        self._become(self.x + by)

    def ask(self, j: DeviceId) -> None:
        """Open a transaction with a neighbor; if one is open already, repeat its question."""
        if j not in self.open:
            self.open[j] = Ask(self._device.boots, self._asked, self.boots.get(j, 0), self.x)
            self._asked += 1
        self._device.send(j, self.open[j])

    def hear(self, message: Pairwise) -> None:
        """Answer a question, or apply an answer; refuse a model that can't be averaged."""
        if not isinstance(message, Ask | Answer):
            return
        j = message.sender
        if not is_count(message.boot, message.id):
            self._device.record("refused", 1)
            return
        if message.boot > self.boots.get(j, 0):
            self.boots[j] = message.boot
            self.open.pop(j, None)  # a former life was asked
        if isinstance(message, Ask):
            self._answer(message)
        elif self.awaits(j, message):
            del self.open[j]
            usable = is_like(message.delta, self.x) and is_finite(message.delta)
            if usable and self._device.takes(self.x - message.delta):
                self._become(self.x - message.delta)
                self._averaged(message)
            else:
                self._device.record("refused", 1)

    def awaits(self, j: DeviceId, answer: Answer) -> bool:
        """Tell whether neighbor j's answer is still to be applied."""
        known = self._device.boots, self.boots.get(j, 0)
        return j in self.open and (answer.asked_boot, answer.boot) == known and answer.id == self.open[j].id

    async def answer_while(self, work: Callable[[], Awaitable[Vector]]) -> Vector:
        """Return the result of `work`, answering questions until it is there."""
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
        # Messages of the instant at which the work ended count, whichever task trio happened to run first.
        while (message := self._device.receive_nowait(Pairwise)) is not None:
            self.hear(message)
        return results[0]

    def _answer(self, question: Ask) -> None:
        own = self._device.boots
        if question.life != own:
            self._device.send(question.sender, Answer(question.boot, question.id, own, question.x[:0]))
            return
        known = self.answered.get(question.sender)
        if known is None or (question.boot, question.id) > (known.asked_boot, known.id):
            if not is_like(question.x, self.x) or not self._device.takes(question.x):
                self._device.record("refused", 1)
                return
            delta: Vector = question.x - self.x
            delta *= 0.5
            if not is_finite(delta):
                self._device.record("refused", 1)
                return
            self.move(delta)
            delta.flags.writeable = False  # so that sending it needs no copy
            known = self.answered[question.sender] = Answer(question.boot, question.id, own, delta)
            self._device.record_mix({question.sender: question})
            self._averaged(question)
        if (question.boot, question.id) == (known.asked_boot, known.id):
            self._device.send(question.sender, known)

    def _averaged(self, message: Pairwise) -> None:
        """Note that half of the sender's model has taken the place of half of this one."""
        self._device.mixed([(message.sender, 0.5)])
        self._device.used([message])

    def _become(self, x: Vector) -> None:
        self.x = x
        self.x.flags.writeable = False  # so that training from it and sending it need no copy


def balance(transactions: Mapping[DeviceId, Transactions]) -> Vector:
    """Return the sum of all devices' models less the deltas answered and not applied: an invariant of exchanges."""
    total: Vector = np.sum([own.x for own in transactions.values()], axis=0)
    for j, own in sorted(transactions.items()):
        for i, answer in sorted(own.answered.items()):
            if i in transactions and transactions[i].awaits(j, answer):
                total = total - answer.delta
    return total
