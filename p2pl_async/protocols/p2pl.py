"""P2PL: every device trains on its own data, then mixes with the neighbors it hears.

Source: S. Pranav and J. M. F. Moura, "Peer-to-Peer Deep Learning for Beyond-5G IoT",
arXiv:2310.18861. Letters follow the paper; this device is k. The paper's rounds are synchronous and
its links drop whole exchanges. The listening modes and the rules for missing messages are additions for
asynchronous, lossy links. With `sync = "none"` this is local DSGD.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from p2pl_async.basics.units import PositiveSeconds
from p2pl_async.messages import Vector
from p2pl_async.protocols.averaging import average
from p2pl_async.protocols.base import AVERAGED, Contract, Protocol
from p2pl_async.protocols.listening import Barrier, Fresh, Mode, Params, Received, mixes_again, waiting
from p2pl_async.protocols.max_norm import MaxNormSync, Sync
from p2pl_async.protocols.mixing import OnMissing, WeightRule

if TYPE_CHECKING:
    from p2pl_async.device import Device


class P2PL(Protocol):
    """Max-norm start, then local SGD and mixing with neighbors (arXiv:2310.18861)."""

    kind: Literal["p2pl"] = "p2pl"
    sync: Sync = MaxNormSync()
    epochs: PositiveInt = Field(default=1, description="Passes over the local data in each round")
    steps: PositiveInt | None = Field(
        default=None, description="Or a number of mini-batches in each round, instead of epochs"
    )
    consensus_steps: PositiveInt = Field(default=1, description="Mixes in each round; each sends the parameters anew")
    weights: WeightRule = Field(
        default="size",
        description="Mixing weights: dataset size, uniform, Metropolis-Hastings (devices count alike, or by dataset "
        "size), or relative dataset size",
    )
    mode: Mode = Field(default=Fresh(), description="Which neighbors' messages a mixing step waits for")
    on_missing: OnMissing = Field(
        default="renormalize",
        description="Where the weight of a neighbor not heard goes: to all, to this device, or its old copy stands in",
    )
    mix_first: bool = Field(
        default=False, description="Mix, then train (combine-then-adapt), instead of train, then mix"
    )
    max_lead: NonNegativeInt | None = Field(
        default=None,
        description="Rounds that a device may be ahead of a neighbor before it waits for it; no limit by default",
    )
    lead_timeout: PositiveSeconds = Field(default=10.0, description="How long a device that is ahead waits at most")

    @model_validator(mode="after")
    def _steps_need_time(self) -> P2PL:
        if self.consensus_steps > 1 and not isinstance(self.mode, Barrier) and self.mode.wait == 0:
            raise ValueError(
                f'consensus_steps={self.consensus_steps} with mode "{self.mode.kind}" needs time to listen between '
                f'steps; write mode = {{ kind = "{self.mode.kind}", wait = "100 ms" }}'
            )
        return self

    models_per_message: ClassVar[float] = 1
    averages: ClassVar[bool] = True

    @property
    def contract(self) -> Contract:
        """State: old models are mixed like new ones."""
        return waiting(AVERAGED, self.mode)

    async def run(self, device: Device) -> None:
        """Run the protocol on device k."""
        w = await self.sync.run(device, device.initial_params())
        received = Received(device, like=w, copies=mixes_again(self.mode, self.on_missing))
        while device.running:
            if not self.mix_first:
                w = await self._train(device, w)  # w_k <- w_k - eta v, epoch after epoch
            for step in range(self.consensus_steps):
                self._tell(received, step, w)
                heard = await self.mode.listen(received, (device.round, step))
                w = average(received, w, heard, self.weights, self.on_missing)  # w_k <- sum_j a_kj w_j
                del heard  # or the neighbors' models stay in memory during the next training
            if self.mix_first:
                w = await self._train(device, w)
            device.finish_round(w)
            if self.max_lead is not None:
                await self._let_others_catch_up(device, received, self.max_lead)

    async def _train(self, device: Device, w: Vector, drift: Vector | None = None) -> Vector:
        if self.steps is not None:
            return await device.train(w, steps=self.steps, drift=drift)
        return await device.train(w, epochs=self.epochs, drift=drift)

    def _tell(self, received: Received, step: int, w: Vector) -> None:
        device = received.device
        device.broadcast(Params(device.round, step, device.n_samples, received.degree, w))

    async def _let_others_catch_up(self, device: Device, received: Received, max_lead: int) -> None:
        with device.timeout(self.lead_timeout):
            received.drain()
            while received.lead() > max_lead + 1:  # + 1: a neighbor's message names a round it has since finished
                received.add(await device.receive(Params))
