"""Public copies updated by compressed differences: what the CHOCO family shares.

Device i has a public copy h_i of its parameters, and its neighbors keep replicas of it. The device sends
q_i = C(x_i - h_i), and all of them add it: h_i <- h_i + q_i. A lost difference would leave the replica
wrong from then on, so there are two repairs:

    absolute   the message has the values of h_i where q_i changed it, and now and then all of h_i; the
               newest message wins. There are no confirmations, and one broadcast serves all. While replicas
               are wrong, the mean of all models drifts.
    repaired   each link has a copy of its own, which advances when the receiver has confirmed (see
               `repairing`); each end of a link mixes with the copy that the other is known to have.

Source: A. Koloskova, S. Stich, M. Jaggi, ICML 2019, for the copies; they assume that no message is lost.
The repairs are ours.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, PositiveInt, field_validator, model_validator

from p2pl_async.compression import AnyCompressor, Compressor, Dense, Payload, RandomK, Sparse, TopK
from p2pl_async.device import Device
from p2pl_async.errors import ProtocolError
from p2pl_async.messages import DeviceId, Vector
from p2pl_async.protocols.base import STATE, Contract, Protocol
from p2pl_async.protocols.compressing import CONTRACTS, Delivery, Heard, MassLinks, contraction
from p2pl_async.protocols.listening import Barrier, Fresh, waiting
from p2pl_async.protocols.max_norm import MaxNormSync, Sync
from p2pl_async.protocols.pushing import PushMode
from p2pl_async.protocols.repairing import Share

_RESYNC = 100  # messages

Telling = Delivery | Literal["absolute"]
Rate = Annotated[float, Field(gt=0, le=1)]

DIFFERENCES = {
    delivery: dataclasses.replace(contract, loss=contract.loss and "a copy that missed a difference stays wrong")
    for delivery, contract in CONTRACTS.items()
} | {"absolute": STATE}
"""What each delivery requires of the links, for protocols that send differences."""


class CopyProtocol(Protocol):
    """Settings of protocols whose devices keep copies of each other."""

    sync: Sync = MaxNormSync()
    steps: PositiveInt = Field(default=1, description="Mini-batches in each round")
    compressor: AnyCompressor = Field(default=TopK(), description="What is sent of a difference")
    delivery: Telling = Field(
        default="exactly_once",
        description="What a message means: links never lose, whatever arrives counts, values instead of differences, "
        "or later messages make up for lost ones",
    )
    resync: PositiveInt | None = Field(
        default=None, description="Absolute: every so many messages, one holds the whole copy; 100 by default"
    )
    mode: PushMode = Field(default=Barrier(), description="Whose messages a round waits for")

    @field_validator("compressor")
    @classmethod
    def _contracts(cls, compressor: Compressor) -> Compressor:
        return contraction(compressor)

    @model_validator(mode="after")
    def _absolute(self) -> Self:
        absolute = self.delivery == "absolute"
        if absolute and not isinstance(self.compressor, TopK | RandomK):
            raise ValueError(
                f'delivery="absolute" sends the changed entries, and "{self.compressor.kind}" changes '
                'every entry; use compressor "top-k" or "random-k", or delivery = "repaired"'
            )
        if not absolute and self.resync is not None:
            raise ValueError(f'resync={self.resync} applies to delivery = "absolute" only; leave it out')
        return self

    @property
    def contract(self) -> Contract:
        """Increments, running sums, or state, as the delivery says."""
        return waiting(DIFFERENCES[self.delivery], self.mode)

    @property
    def models_per_message(self) -> float:
        """Share of a model that the compressor keeps; repaired, times the number of messages not yet confirmed."""
        return 1.0 if self.delivery == "absolute" else self.compressor.models_per_message


class Copy:
    """A copy of a device's parameters and push weight.

    Attributes:
        x: parameters, shape (n_params,).
        u: push weight.
        degree: number of that device's out-neighbors, as last heard.
    """

    __slots__ = ("degree", "u", "x")

    def __init__(self, like: Vector) -> None:
        self.x = np.zeros_like(like)
        self.u = 0.0
        self.degree = 0

    def add(self, share: Share) -> None:
        """Add a difference."""
        share.q.add_to(self.x)
        self.u += share.u

    def take_over(self, share: Share) -> None:
        """Replace entries by the values of an absolute message."""
        if isinstance(share.q, Sparse):
            self.x[share.q.indices] = share.q.values
        else:
            self.x = share.q.dense()
        self.u = share.u


class Replicas:
    """A device's public copy, and its replicas of its neighbors' copies.

    Args:
        device: the device.
        settings: the compressor, the delivery, and how often the whole copy is sent.
        like: a vector of the shape and dtype of the parameters.

    Attributes:
        own: this device's public copy h_i.
        of: neighbor j -> replica of its h_j; neighbors never heard are missing.
    """

    def __init__(self, device: Device, settings: CopyProtocol, like: Vector) -> None:
        self.own = Copy(like)
        self.of: dict[DeviceId, Copy] = {}
        self.links = MassLinks(device, settings.delivery, like, signed=True)
        self._device = device
        self._settings = settings
        self._layers = device.layers
        self._told = 0  # messages

    def tell(self, x: Vector, u: float = 0.0) -> None:
        """Send q_i = C(x_i - h_i), and h_i <- h_i + q_i.

        Raises:
            ProtocolError: if a neighbor is out of range and would miss the difference for good.
        """
        targets = self._device.out_neighbors
        absent = [j for j in self._device.all_out_neighbors if j not in targets]
        if absent and self._settings.delivery in ("exactly_once", "raw"):
            raise ProtocolError(
                f"device {absent[0]} is out of range now and would never receive this difference; on a topology "
                'that changes set delivery = "repaired"'
            )
        q = self._settings.compressor.compress(x - self.own.x, self._layers, self._device.random)
        share = Share(q, u - self.own.u)
        self.own.add(share)
        self._told += 1
        if self._settings.delivery == "absolute":
            share = Share(self._values(q), u)
        self.links.push(share, targets, absent)

    def _values(self, q: Payload) -> Payload:
        """Return h_i where q has just changed it, or all of it every `resync` messages."""
        if isinstance(q, Sparse) and self._told % (self._settings.resync or _RESYNC):
            return Sparse(q.size, q.indices, self.own.x[q.indices])
        return Dense(self.own.x.copy())

    async def listen(self, mode: Barrier | Fresh) -> list[Heard]:
        """Return the shares that have come; `add` adds them."""
        return await self.links.listen(mode)

    def add(self, heard: list[Heard]) -> None:
        """Bring replicas up to date: h_j <- h_j + q_j."""
        for sender, degree, share in heard:
            replica = self.of.get(sender)
            if replica is None:
                replica = self.of[sender] = Copy(self.own.x)
            if self._settings.delivery == "absolute":
                replica.take_over(share)
            else:
                replica.add(share)
            replica.degree = degree

    def at(self, j: DeviceId) -> tuple[Vector, float]:
        """Return the copy of this device that neighbor j is known to have: parameters and push weight."""
        owed = self.links.owed.get(j)
        outstanding = None if owed is None else owed.outstanding()
        if outstanding is None:
            return self.own.x, self.own.u
        x = self.own.x.copy()
        outstanding.q.add_to(x, -1.0)
        return x, self.own.u - outstanding.u
