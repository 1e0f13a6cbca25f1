"""Sparse-Push: push-sum of compressed models, on any directed graph, also one that changes.

Source: S. A. Aketi, A. Singh, J. Rabaey, "Sparse-Push: Communication- & Energy-Efficient Decentralized
Distributed Learning over Directed & Time-Varying Graphs with non-IID Datasets", arXiv:2102.05715; the
update follows the first author's code. This device is i. What a message means on links that lose is
not in the paper; see `compressing`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, field_validator

from p2pl_async.basics.settings import OneOf, Settings
from p2pl_async.basics.units import Seconds
from p2pl_async.compression import AnyCompressor, Compressor, ErrorFeedback, Identity, RandomK, TopK
from p2pl_async.device import Device
from p2pl_async.messages import Vector
from p2pl_async.protocols.base import Contract, Protocol
from p2pl_async.protocols.compressing import CONTRACTS, Delivery, MassLinks, absorb, contraction, push
from p2pl_async.protocols.listening import Barrier, waiting
from p2pl_async.protocols.max_norm import MaxNormSync, NoSync
from p2pl_async.protocols.pushing import Mass, PushMode

Rate = Annotated[float, Field(gt=0, le=1)]


class SkewCompensation(Settings):
    """Rounds of averaging alone, after training: dense, with averaging rate 1, errors dropped.

    What sparse messages have left apart comes together; the authors do about 50 such rounds where labels
    are skewed. They end with the run: give `[stop]` that many rounds more than `after`.
    """

    after: PositiveInt = Field(description="Rounds that train; all later ones only average")
    pause: Seconds = Field(default=0.0, description="How long a device waits in each of them before it sends")


class SparsePush(Protocol):
    """Push-sum of compressed models with error feedback; skew compensation (Aketi et al. 2021)."""

    kind: Literal["sparse-push"] = "sparse-push"
    sync: Annotated[MaxNormSync | NoSync, OneOf("synchronization", MaxNormSync, NoSync)] = Field(
        default=MaxNormSync(), description="How devices agree on one initial model before they train"
    )
    steps: PositiveInt = Field(default=1, description="Mini-batches in each round")
    compressor: AnyCompressor = Field(default=TopK(), description="What is sent of a model")
    averaging_rate: Rate | None = Field(
        default=None,
        description="Share of what is sent that moves (eta_a); k/d by default for top-k, 1 uncompressed",
    )
    delivery: Delivery = Field(
        default="exactly_once",
        description="What a message means: links never lose, whatever arrives counts, or later ones make up for it",
    )
    mode: PushMode = Field(default=Barrier(), description="Whom a round waits for")
    compensation: SkewCompensation | None = Field(
        default=None, description="Rounds of dense averaging after training, for data with skewed labels"
    )

    @field_validator("compressor")
    @classmethod
    def _contracts(cls, compressor: Compressor) -> Compressor:
        return contraction(compressor)

    @property
    def contract(self) -> Contract:
        """Increments, or running sums, as the delivery says."""
        return waiting(CONTRACTS[self.delivery], self.mode)

    @property
    def models_per_message(self) -> float:
        """What the compressor leaves; repaired, as many times more as there are messages not yet confirmed."""
        return 1.0 if self.compensation is not None else self.compressor.models_per_message

    @property
    def warnings(self) -> Sequence[str]:
        """Whether the averaging rate is likely to be unstable."""
        kept = 1 - self.compressor.sparsity if isinstance(self.compressor, TopK | RandomK) else 1.0
        if self.averaging_rate is None or self.averaging_rate <= 5 * kept:
            return ()
        return [
            f"protocol.averaging_rate = {self.averaging_rate:g} is more than 5 times the share of entries that is "
            f"kept, {kept:.3g}: errors are likely to outgrow the models; leave it out, or use about {kept:.3g}"
        ]

    async def run(self, device: Device) -> None:
        """Be device i."""
        sync = await self.sync.run(device, device.initial_params())
        mass = Mass(sync.w.copy(), 1.0)  # x_i, u_i
        rate = self.averaging_rate or self.compressor.averaging_rate(device.layers)
        feedback = ErrorFeedback(self.compressor, device.layers, mass.x, device.random)
        links = MassLinks(device, self.delivery, mass.x)
        device.state = mass, links, feedback
        z = self.model(mass)
        while device.running:
            if self.compensation is not None and device.round >= self.compensation.after:
                rate, feedback = 1.0, ErrorFeedback(Identity(), device.layers, mass.x, device.random)
                await device.sleep(self.compensation.pause)
            else:
                mass.x += await device.train(z, steps=self.steps) - z  # x_i <- x_i - eta g(z_i)
            push(mass, feedback, links, rate)
            await absorb(mass, links, self.mode)
            z = self.model(mass)
            device.finish_round(z)
            sync.serve()

    def model(self, mass: Mass) -> Vector:
        """Return z = x / u, read-only."""
        return mass.z
