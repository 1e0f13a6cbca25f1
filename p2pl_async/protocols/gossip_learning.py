"""Gossip learning: send the model to a random neighbor every period; merge models that arrive, then train.

Source: R. Ormandi, I. Hegedus, M. Jelasity, "Gossip Learning with Linear Models on Fully Distributed
Data", Concurrency and Computation 2013, algorithms 1 and 2; merging by age: I. Hegedus, G. Danner, M.
Jelasity, "Decentralized Learning Works: An Empirical Comparison of Gossip Learning and Federated
Learning", JPDC 2021. No device waits for another, and a lost message costs one merge. A round is a
period; one message arrives in each on average, so a round has about one training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, PositiveInt

from p2pl_async.basics.units import PositiveSeconds
from p2pl_async.messages import DeviceId, Message, Vector
from p2pl_async.protocols.base import STATE, Contract, Protocol
from p2pl_async.protocols.max_norm import MaxNormSync, Sync
from p2pl_async.protocols.mixing import is_count, is_finite, is_like, mix

if TYPE_CHECKING:
    from p2pl_async.device import Device


@dataclass(frozen=True, slots=True)
class Aged(Message, tag="aged"):
    """The sender's model and its age, in local steps."""

    age: int
    w: Vector  # (n_params,)


class GossipLearning(Protocol):
    """A model to one random neighbor each period; merge those that arrive, then train (Ormandi et al. 2013)."""

    kind: Literal["gossip-learning"] = "gossip-learning"
    sync: Sync = MaxNormSync()
    period: PositiveSeconds = Field(
        default=1.0, description="Mean time between two messages of a device; each is drawn within 50 % of it"
    )
    steps: PositiveInt = Field(default=1, description="Mini-batches in each training")
    variant: Literal["merge-update", "update-merge", "update"] = Field(
        default="merge-update",
        description="Merge, then train; train both models, then merge; or train the one that arrived: models that walk",
    )
    merging: Literal["age", "mean"] = Field(
        default="age", description="Weights of a merge: in proportion to the models' ages, or equal"
    )

    contract: ClassVar[Contract] = STATE
    models_per_message: ClassVar[float] = 1

    @property
    def averages(self) -> bool:
        """Whether each local step stays: else one on a model is gone where another takes its place meanwhile."""
        return self.variant == "merge-update"

    async def run(self, device: Device) -> None:
        """Run the protocol on one device."""
        w = await self.sync.run(device, device.initial_params())
        model = AgedModel(device, w)
        device.state = model
        tick = device.now + self.period * float(device.random.random())  # so that devices don't send all at once
        while device.running:
            await self._learn_until(device, model, tick)
            # From now, not from the last tick: after a training that outlasts a period, two would go at one instant
            # else. And never in step with others, whose messages would meet on shared air each time.
            tick = device.now + self.period * float(device.random.uniform(0.5, 1.5))
            if device.out_neighbors:
                device.send(int(device.random.choice(device.out_neighbors)), Aged(model.age, model.w))
            device.finish_round(model.w)

    async def _learn_until(self, device: Device, model: AgedModel, tick: float) -> None:
        """Merge and train on models that arrive, until it is time to send; a training that has begun is finished."""
        while device.now < tick:
            with device.timeout(tick - device.now) as scope:
                model.hear(await device.receive(Aged))
            if scope.cancelled_caught:
                return
            heard = model.take()
            if heard:
                await self._update(device, model, heard)

    async def _update(self, device: Device, model: AgedModel, heard: dict[DeviceId, Aged]) -> None:
        if self.variant == "merge-update":
            weights: dict[DeviceId, float] = {}  # in what becomes of the model, merge after merge
            for j, message in heard.items():
                share = model.merge(message, message.w, message.age, self.merging)
                weights = {**{i: (1 - share) * weight for i, weight in weights.items()}, j: share}
            device.mixed(weights.items())
            model.become(await device.train(model.w, steps=self.steps), model.age + self.steps)
            return
        for message in heard.values():
            if not is_finite(message.w):
                device.record("refused", 1)
                continue
            theirs = await device.train(message.w, steps=self.steps)
            if self.variant == "update":
                model.become(theirs, message.age + self.steps)
                device.used([message])
                share = 1.0
            else:
                model.become(await device.train(model.w, steps=self.steps), model.age + self.steps)
                share = model.merge(message, theirs, message.age + self.steps, self.merging)
            device.mixed([(message.sender, share)])


class AgedModel:
    """A device's model and its age, and each neighbor's newest model that is not merged yet.

    Args:
        device: the device.
        w: its initial model, (n_params,).
    """

    def __init__(self, device: Device, w: Vector) -> None:
        self.w = w
        self.age = 0  # local steps behind it
        self._device = device
        self._waiting: dict[DeviceId, Aged] = {}
        self._newest: dict[DeviceId, int] = {}  # number of the newest message of each neighbor

    def become(self, w: Vector, age: int) -> None:
        """Replace the model."""
        self.w, self.age = w, age

    def hear(self, message: Aged) -> None:
        """Keep a message until it is taken; drop it if a newer one came from its sender, refuse it if it can't fit."""
        if not is_like(message.w, self.w) or not is_count(message.age) or not self._device.takes(message.w):
            self._device.record("refused", 1)
        elif message.number > self._newest.get(message.sender, -1):
            self._newest[message.sender] = message.number
            self._waiting[message.sender] = message

    def take(self) -> dict[DeviceId, Aged]:
        """Return the messages that have arrived, in order of sender, and forget them."""
        while (message := self._device.receive_nowait(Aged)) is not None:
            self.hear(message)
        taken, self._waiting = dict(sorted(self._waiting.items())), {}
        if taken:
            self._device.record_mix(taken)
        return taken

    def merge(self, message: Aged, w: Vector, age: int, merging: str) -> float:
        """Replace the model by its mean with another, `w` of age `age`, that came from the message's sender.

        Returns:
            The weight of the other model: 0 if it is refused.
        """
        me, j, total = self._device.id, message.sender, self.age + age
        share = age / total if merging == "age" and total else 0.5
        mixed = mix(self.w, {j: w}, {me: 1 - share, j: share}, me)
        if not is_finite(mixed):
            self._device.record("refused", 1)
            return 0.0
        self.become(mixed, max(self.age, age))
        self._device.used([message])
        return share
