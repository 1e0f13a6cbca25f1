"""P2PL on push-sum: sample counts weigh the models without bias, on directed graphs too.

P2PL's mixing weights n_j / S_k have a stationary vector proportional to n_k S_k (on undirected
graphs), so what devices agree on is the mean by sample count only where all neighborhoods hold equally
much. Here a device starts with the push weight n_k and the numerator n_k w_k, and what it learns
enters with weight n_k:

    learning    x_k <- x_k + n_k (w' - z_k),   w' trained from z_k = x_k / u_k
    consensus   robust push-sum of x and u

The model agreed on is sum_k n_k w_k / sum_k n_k on any strongly connected graph and over lossy
links, and a round on a complete graph without loss is FedAvg's. A device with more samples than its
neighbors moves its own z by n_k / u_k times a local step, which bounds the learning rate. Without
rounds u_k varies much more, so the default is a barrier.

Source: arXiv:2310.18861 (P2PL), Hadjicostis, Vaidya, Dominguez-Garcia 2016 (robust push-sum); putting
them together is ours. Letters follow P2PL; this device is k.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt

from p2pl_async.basics.settings import OneOf
from p2pl_async.device import Device
from p2pl_async.messages import Vector
from p2pl_async.protocols.base import CUMULATIVE, Contract, Protocol
from p2pl_async.protocols.listening import Barrier, waiting
from p2pl_async.protocols.max_norm import MaxNormSync, NoSync
from p2pl_async.protocols.pushing import Intake, PushMode
from p2pl_async.protocols.running_sums import Account, Sums


class P2PLPush(Protocol):
    """P2PL on robust push-sum: the mean by sample count, on directed and lossy links too (ours)."""

    kind: Literal["p2pl-push"] = "p2pl-push"
    sync: Annotated[MaxNormSync | NoSync, OneOf("synchronization", MaxNormSync, NoSync)] = Field(
        default=MaxNormSync(), description="How devices agree on one initial model before they train"
    )
    epochs: PositiveInt = Field(default=1, description="Passes over the local data in each round")
    steps: PositiveInt | None = Field(
        default=None, description="Or a number of mini-batches in each round, instead of epochs"
    )
    mode: PushMode = Field(default=Barrier.model_validate({"timeout": "5 s"}), description="Whom a mix waits for")
    grad_scale: Literal["size", "u"] = Field(
        default="size",
        description="What a local step is multiplied by before it enters x: the sample count, for the mean loss over "
        "all samples; or the push weight, so that no device's own model moves by more than its local step",
    )
    u_min: NonNegativeFloat = Field(
        default=1e-3,
        description="Share of its first push weight below which a device repeats its sums instead of splitting again",
    )

    models_per_message: ClassVar[float] = 2

    @property
    def contract(self) -> Contract:
        """Running sums: a later message brings what was lost."""
        return waiting(CUMULATIVE, self.mode)

    async def run(self, device: Device) -> None:
        """Be device k."""
        sync = await self.sync.run(device, device.initial_params())
        n = float(device.n_samples)
        account = Account(sync.w, n, device.round)
        intake = Intake(device, Sums, account.fits)
        device.state = account, intake
        z = account.z
        while device.running:
            w = await self._train(device, z)  # epoch after epoch
            scale = n if self.grad_scale == "size" else account.u
            account.learn_and_push(device, w, z, scale, self.u_min * n)
            device.record_mix(account.take(device, await intake.listen(self.mode)))
            device.record("push_weight", account.u)
            z = account.z
            device.finish_round(z)
            sync.serve()

    async def _train(self, device: Device, z: Vector) -> Vector:
        if self.steps is not None:
            return await device.train(z, steps=self.steps)
        return await device.train(z, epochs=self.epochs)
