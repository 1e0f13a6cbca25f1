"""P2PL on push-sum: the mean of models by sample count, without bias, on directed graphs too.

P2PL's mixing weights n_j / S_k have a stationary vector proportional to n_k S_k (on undirected
graphs), so devices agree on the mean by sample count only if all neighborhoods hold equally many samples.
Here a device starts with the push weight n_k and the numerator n_k w_k, and its local steps enter with
weight n_k:

    learning    x_k <- x_k + n_k (w' - z_k),   w' trained from z_k = x_k / u_k
    consensus   robust push-sum of x and u

Devices agree on sum_k n_k w_k / sum_k n_k on any strongly connected graph, over lossy links too, and a
round on a complete graph without loss is one of FedAvg. A device with more samples than its neighbors
moves its own z by n_k / u_k times a local step, which bounds the learning rate. Without rounds u_k varies
much more, so the default is a barrier.

Source: arXiv:2310.18861 (P2PL), Hadjicostis, Vaidya, Dominguez-Garcia 2016 (robust push-sum); the
combination is ours. Letters follow P2PL; this device is k.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt

from p2pl_async.basics.units import PositiveSeconds
from p2pl_async.messages import Vector
from p2pl_async.protocols.base import CUMULATIVE, Contract, Protocol
from p2pl_async.protocols.listening import Barrier
from p2pl_async.protocols.max_norm import MaxNormSync, Sync
from p2pl_async.protocols.pushing import PushMode, ReceivedPushes, patient
from p2pl_async.protocols.running_sums import Account, Sums
from p2pl_async.protocols.silence import PATIENCE, Silence

if TYPE_CHECKING:
    from p2pl_async.device import Device


class P2PLPush(Protocol):
    """P2PL on robust push-sum: the mean by sample count, on directed and lossy links too (ours)."""

    kind: Literal["p2pl-push"] = "p2pl-push"
    sync: Sync = MaxNormSync()
    epochs: PositiveInt = Field(default=1, description="Passes over the local data in each round")
    steps: PositiveInt | None = Field(
        default=None, description="Or a number of mini-batches in each round, instead of epochs"
    )
    mode: PushMode = Field(
        default=Barrier.model_validate({"timeout": "5 s"}), description="Whose messages a round waits for"
    )
    grad_scale: Literal["size", "u"] = Field(
        default="size",
        description="Factor of a local step as it enters x: the sample count, for the mean loss over all samples; "
        "or the push weight, so that no device's own model moves by more than its local step",
    )
    u_min: NonNegativeFloat = Field(
        default=1e-3,
        description="Share of its first push weight below which a device repeats its sums instead of splitting again",
    )
    patience: PositiveSeconds = Field(default=30.0, description=PATIENCE)

    models_per_message: ClassVar[float] = 2

    @property
    def contract(self) -> Contract:
        """Running sums: a later message makes up for lost ones."""
        return patient(CUMULATIVE, self.mode)

    async def run(self, device: Device) -> None:
        """Run the protocol on device k."""
        w = await self.sync.run(device, device.initial_params())
        n = float(device.n_samples)
        silence = Silence(device, self.patience)
        account = Account(device, w, silence, n)
        received = ReceivedPushes(device, Sums, account.fits, silence)
        device.state = account, received
        z = account.z
        while device.running:
            w = await self._train(device, z)  # epoch after epoch
            scale = account.u if self.grad_scale == "u" else n * account.left
            account.learn_and_push(device, w, z, scale, self.u_min * n * account.left)
            device.record_mix(account.take(device, await received.listen(self.mode)))
            device.record("push_weight", account.u)
            z = account.z
            device.finish_round(z)

    async def _train(self, device: Device, z: Vector) -> Vector:
        if self.steps is not None:
            return await device.train(z, steps=self.steps)
        return await device.train(z, epochs=self.epochs)
