"""FedAvg: a server sends the model to devices, they train it, and the server takes the mean by sample count.

Source: B. McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized
Data", AISTATS 2017. The server is one of the devices (the hub of a star), trains like the others,
and talks over the same links.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from p2pl_async.basics.units import PositiveSeconds, Probability
from p2pl_async.errors import ProtocolError
from p2pl_async.messages import DeviceId, Message, Vector
from p2pl_async.protocols.base import STATE, Contract, Protocol
from p2pl_async.protocols.mixing import is_count, is_finite, is_like, mix

if TYPE_CHECKING:
    from p2pl_async.device import Device

_SERVERS_MODEL: DeviceId = -1  # stands for the server's model of before among those that are averaged


@dataclass(frozen=True, slots=True)
class Global(Message, tag="global"):
    """The server's model at the start of a round."""

    round: int
    train: bool  # whether the receiver takes part in the round
    w: Vector  # (n_params,)


@dataclass(frozen=True, slots=True)
class Update(Message, tag="update"):
    """A device's model after its local training."""

    round: int
    n_samples: int
    w: Vector  # (n_params,)


class FedAvg(Protocol):
    """A server averages what devices train, by sample count (McMahan et al. 2017)."""

    kind: Literal["fedavg"] = "fedavg"
    server: NonNegativeInt = Field(
        default=0, description="The device that averages; it must have links to and from every other: a star's hub"
    )
    fraction: Probability = Field(
        default=1.0, description="Share of the devices that train in a round, drawn anew each round; at least one"
    )
    epochs: PositiveInt = Field(default=1, description="Passes over the local data in each round")
    timeout: PositiveSeconds | None = Field(
        default=None,
        description="How long the server waits after its own training; without a timeout a lost update is a deadlock",
    )

    missing: Literal["renormalize", "last", "inverse-probability"] = Field(
        default="renormalize",
        description="What stands for an update that did not come: nothing, so that the others weigh more (biased "
        "towards devices that get through, unless all lose alike); the device's last one (unbiased, but old); or "
        "nothing, with each that comes weighed by how seldom its device gets through (unbiased on average, noisier)",
    )

    models_per_message: ClassVar[float] = 1
    averages: ClassVar[bool] = True

    @property
    def contract(self) -> Contract:
        """State, of rounds; without a timeout the server waits for every update."""
        one_way = "the server must hear every device that it can reach"
        if self.timeout is not None:
            biased = "devices whose updates get through more often weigh more than their data"
            if self.missing != "renormalize":
                return replace(STATE, one_way=one_way)
            return replace(
                STATE, loss=biased, one_way=one_way, repair='write missing = "last", or "inverse-probability"'
            )
        waits = "the server never stops waiting for an update that was lost, and the run ends as a deadlock"
        return replace(STATE, loss=waits, one_way=one_way, repair='write timeout = "10 s"')

    async def run(self, device: Device) -> None:
        """Run the protocol on the server, or on one of the other devices."""
        if device.id == self.server:
            await self._serve(device)
        else:
            await self._follow(device)

    async def _serve(self, device: Device) -> None:
        if set(device.all_in_neighbors) != set(device.all_out_neighbors):
            raise ProtocolError(f"server={device.id} must hear every device that it can reach; use a star topology")
        everybody = sorted({device.id, *device.all_out_neighbors})
        w: Vector = device.initial_params()
        past = Past()
        while device.running:
            count = max(1, math.floor(self.fraction * len(everybody) * (1 + 1e-12)))  # 0.29 of 100 is 29
            chosen = sorted(device.random.choice(everybody, size=count, replace=False).tolist())
            self._send_model(device, chosen, w)
            updates: dict[DeviceId, Update] = {}
            if device.id in chosen:
                mine = await device.train(w, epochs=self.epochs)
                updates[device.id] = Update(device.round, device.n_samples, mine)
            await self._gather(device, chosen, updates, w)
            device.record_mix({j: update for j, update in updates.items() if j != device.id})
            past.note(chosen, updates)
            w = self._average(device, updates, chosen, past, w)
            device.finish_round(w)
        self._send_model(device, [], w)

    def _send_model(self, device: Device, chosen: list[DeviceId], w: Vector) -> None:
        """Send the model to all devices: those chosen train it, the others are evaluated with it."""
        device.send([j for j in device.all_out_neighbors if j in chosen], Global(device.round, True, w))
        device.send([j for j in device.all_out_neighbors if j not in chosen], Global(device.round, False, w))

    async def _gather(self, device: Device, chosen: list[DeviceId], updates: dict[DeviceId, Update], w: Vector) -> None:
        answered = set(updates)
        with device.timeout(math.inf if self.timeout is None else self.timeout):
            while len(answered) < len(chosen):
                update = await device.receive(Update)
                usable = update.sender in chosen and update.n_samples > 0 and _fits(update.w, w)
                if not usable or not device.takes(update.w):
                    device.record("refused", 1)
                elif update.round == device.round:  # not a late one
                    updates[update.sender] = update
                if update.round == device.round and update.sender in chosen:
                    answered.add(update.sender)  # a model that can't be used is an answer: no other will come

    def _average(
        self, device: Device, updates: dict[DeviceId, Update], chosen: list[DeviceId], past: Past, w: Vector
    ) -> Vector:
        """Return sum_k (n_k / n) w_k over the updates that arrived, or `w` if there are none; see `missing`."""
        if self.missing == "last":
            updates = {j: past.last[j] for j in chosen if j in past.last}
        if not updates:
            return w
        models = {j: update.w for j, update in updates.items()}
        device.used(update for j, update in updates.items() if j != device.id)
        if self.missing == "inverse-probability":
            # w + sum_j (n_j / n) (w_j - w) / p_j: right on average, whatever the p_j.
            known = [j for j in chosen if j in past.last]
            total = sum(past.last[j].n_samples for j in known)
            weights = {j: past.last[j].n_samples / total / past.share(j) for j in updates}
            device.mixed(weights.items())
            return mix(w, models, {**weights, _SERVERS_MODEL: 1 - sum(weights.values())}, _SERVERS_MODEL)
        total = sum(update.n_samples for update in updates.values())
        weights = {j: update.n_samples / total for j, update in updates.items()}
        device.mixed(weights.items())
        first = min(updates)
        return mix(models[first], models, weights, first)

    async def _follow(self, device: Device) -> None:
        if self.server not in device.all_in_neighbors or self.server not in device.all_out_neighbors:
            raise ProtocolError(
                f"server={self.server} must have links to and from every device; use a star, whose hub is device 0"
            )
        mine = device.initial_params()
        device.passive = True  # the server's last model may get lost
        newest = -1  # round of the newest model; late and repeated ones are ignored
        while device.running:
            model = await self._hear_model(device, mine)
            if model is None or model.round <= newest:
                continue
            newest = model.round
            device.used([model])  # which takes the place of this device's own
            device.mixed([(self.server, 1.0)])
            if model.round > 0:
                device.finish_round(model.w, count=model.round - device.round)
            if model.train and device.running:
                trained = await device.train(model.w, epochs=self.epochs)
                device.send(self.server, Update(model.round, device.n_samples, trained))

    async def _hear_model(self, device: Device, mine: Vector) -> Global | None:
        """Wait for models; return the server's newest, or None if none is usable."""
        message: Global | None = await device.receive(Global)
        models = []
        while message is not None:
            told = message.sender == self.server and is_count(message.round)
            if told and _fits(message.w, mine) and device.takes(message.w):
                models.append(message)
            else:
                device.record("refused", 1)
            message = device.receive_nowait(Global)
        return max(models, key=lambda model: model.round, default=None)


class Past:
    """What the server remembers of earlier rounds.

    Attributes:
        last: each device's latest update.
    """

    def __init__(self) -> None:
        self.last: dict[DeviceId, Update] = {}
        self._chosen: Counter[DeviceId] = Counter()
        self._came: Counter[DeviceId] = Counter()

    def note(self, chosen: Sequence[DeviceId], updates: Mapping[DeviceId, Update]) -> None:
        """Count who was chosen in a round, and whose update came."""
        self._chosen.update(chosen)
        self._came.update(updates.keys())
        self.last.update(updates)

    def share(self, device: DeviceId) -> float:
        """Return how often a device's update came, as a share of the rounds for which it was chosen."""
        return self._came[device] / self._chosen[device]


def _fits(w: Vector, like: Vector) -> bool:
    return is_like(w, like) and is_finite(w)
