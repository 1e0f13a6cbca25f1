"""Public copies that are told by compressed differences: the ground of the CHOCO family.

Device i has a public copy h_i of its parameters, which its neighbors keep replicas of. It tells them
q_i = C(x_i - h_i), and everybody adds that: h_i <- h_i + q_i. Where a difference is lost the replicas
drift apart for good, unless deliveries are `repaired`: then each link has a copy of its own, which
advances when the receiver has confirmed (see `repairing`), and both ends of a link mix with what
they know the other to have.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from p2pl_async.compression import Compressor
from p2pl_async.device import Device
from p2pl_async.errors import ProtocolError
from p2pl_async.messages import DeviceId, Vector
from p2pl_async.protocols.compressing import CONTRACTS, Delivery, Heard, MassLinks
from p2pl_async.protocols.listening import Barrier, Fresh
from p2pl_async.protocols.repairing import Share

DIFFERENCES = {
    delivery: dataclasses.replace(contract, loss=contract.loss and "copies that missed a difference are wrong for good")
    for delivery, contract in CONTRACTS.items()
}
"""What each delivery needs of the links, where differences are told."""


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


class Replicas:
    """A device's public copy, and its replicas of its neighbors' copies.

    Args:
        device: whose.
        compressor: C, a contraction.
        delivery: what a difference means.
        like: a vector of the shape and dtype of the parameters.

    Attributes:
        own: this device's public copy h_i.
        of: neighbor j -> replica of its h_j; those never heard of are missing.
    """

    def __init__(self, device: Device, compressor: Compressor, delivery: Delivery, like: Vector) -> None:
        self.own = Copy(like)
        self.of: dict[DeviceId, Copy] = {}
        self.links = MassLinks(device, delivery, like, signed=True)
        self._device = device
        self._compressor = compressor
        self._layers = device.layers

    def tell(self, x: Vector, u: float = 0.0) -> None:
        """Send q_i = C(x_i - h_i), and h_i <- h_i + q_i.

        Raises:
            ProtocolError: if a neighbor is away just now and would never hear of it.
        """
        targets = self._device.out_neighbors
        absent = [j for j in self._device.all_out_neighbors if j not in targets]
        if absent and self.links.delivery != "repaired":
            raise ProtocolError(
                f"device {absent[0]} is out of reach just now and would miss a difference for good; on a topology "
                'that changes set delivery = "repaired"'
            )
        q = self._compressor.compress(x - self.own.x, self._layers, self._device.random)
        share = Share(q, u - self.own.u)
        self.links.push(share, targets, absent)
        self.own.add(share)

    async def listen(self, mode: Barrier | Fresh) -> list[Heard]:
        """Return differences that have come; `add` adds them."""
        return await self.links.listen(mode)

    def add(self, heard: list[Heard]) -> None:
        """Add differences to replicas: h_j <- h_j + q_j."""
        for sender, degree, share in heard:
            replica = self.of.get(sender)
            if replica is None:
                replica = self.of[sender] = Copy(self.own.x)
            replica.add(share)
            replica.degree = degree

    def at(self, j: DeviceId) -> tuple[Vector, float]:
        """Return the copy of this device that neighbor j has, as far as known: parameters and push weight."""
        owed = self.links.owed.get(j)
        outstanding = None if owed is None else owed.outstanding()
        if outstanding is None:
            return self.own.x, self.own.u
        x = self.own.x.copy()
        outstanding.q.add_to(x, -1.0)
        return x, self.own.u - outstanding.u
