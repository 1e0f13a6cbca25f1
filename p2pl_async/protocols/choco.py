"""CHOCO-SGD: neighbors keep copies of each other, updated by compressed differences, and mix the copies.

Source: A. Koloskova, S. Stich, M. Jaggi, "Decentralized Stochastic Optimization and Gossip Algorithms
with Compressed Communication", ICML 2019. Letters follow the paper, except that the public copy x hat
is h here; this device is i. The paper's rounds are synchronous, and no message is lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from p2pl_async.messages import DeviceId, Vector
from p2pl_async.protocols.base import Contract
from p2pl_async.protocols.compressing import Heard
from p2pl_async.protocols.exchanging import Told
from p2pl_async.protocols.mixing import FEW, blocks
from p2pl_async.protocols.replicas import CopyProtocol, Rate, Replicas

if TYPE_CHECKING:
    from p2pl_async.device import Device

Pair = tuple[DeviceId, Told, Told]
"""A neighbor j, its copy h_j, and the own copy h_i that is mixed with it."""


class Choco(CopyProtocol):
    """Mixes copies updated by compressed differences: CHOCO-SGD, on two-way links (Koloskova et al. 2019)."""

    kind: Literal["choco"] = "choco"
    gamma: Rate | None = Field(
        default=None, description="Consensus step size; the share of a norm that the compressor keeps by default"
    )
    weights: Literal["metropolis", "uniform"] = Field(default="metropolis", description="Mixing weights")

    averages: ClassVar[bool] = True  # copies, whose differences from the models cancel out

    @property
    def contract(self) -> Contract:
        """Increments, or running sums, as the delivery says."""
        contract = super().contract
        return replace(
            contract,
            one_way="weights are doubly stochastic on two-way links only, so the mean of all models drifts",
            repair=contract.repair or 'use protocol "choco-sgp"',
        )

    async def run(self, device: Device) -> None:
        """Run the protocol on device i."""
        x = await self.sync.run(device, device.initial_params())
        gamma = self.gamma or self.compressor.quality(device.layers)
        replicas = Replicas(device, self, x, paired=True)
        device.state = replicas
        while device.running:
            x = await device.train(x, steps=self.steps)  # x_i <- x_i - eta g(x_i)
            replicas.tell(x)  # q_i = C(x_i - h_i),  h_i <- h_i + q_i
            heard = await replicas.listen(self.mode)
            x = self._mix(device, x, list(self._copies(device, replicas, heard)), gamma)  # h_j <- h_j + q_j
            device.finish_round(x)

    def _copies(self, device: Device, replicas: Replicas, heard: list[Heard]) -> Iterator[Pair]:
        """Yield j, h_j and h_i to mix: those of complete exchanges, or the present ones."""
        if self.delivery != "absolute":
            yield from replicas.exchange(heard)
            return
        for _ in replicas.add(heard):
            pass  # absolute messages are no exchanges
        own = Told(replicas.own.x, 0.0, len(device.out_neighbors))
        for j in device.in_neighbors:
            if j in replicas.of and replicas.links.hears(j):
                yield j, Told(replicas.of[j].x, 0.0, replicas.of[j].degree), own

    def _mix(self, device: Device, x: Vector, copies: Sequence[Pair], gamma: float) -> Vector:
        """Return x_i + gamma sum_j w_ij (h_j - h_i)."""
        weights = []
        for j, theirs, ours in copies:
            degree = max(theirs.degree, ours.degree) if self.weights == "metropolis" else ours.degree
            weights.append((j, gamma / (1 + degree)))
        device.mixed(weights)
        rates = [x.dtype.type(weight) for _, weight in weights]
        mixed, change = np.empty_like(x), np.empty(min(FEW, x.size), x.dtype)
        for block in blocks(x.size, FEW):
            part = mixed[block]
            part[:] = x[block]
            for rate, (_, theirs, ours) in zip(rates, copies, strict=True):
                step = np.subtract(theirs.x[block], ours.x[block], out=change[: part.size])
                step *= rate
                part += step
        mixed.flags.writeable = False  # so that training from it needs no copy
        return mixed
