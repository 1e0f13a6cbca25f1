"""Robust Asynchronous Stochastic Gradient Push: SGD on directed graphs whose links lose messages.

Source: A. Spiridonoff, A. Olshevsky, I. Ch. Paschalidis, "Robust Asynchronous Stochastic
Gradient-Push: Asymptotically Optimal and Network-Independent Performance for Strongly Convex
Functions", JMLR 21(58), 2020. This device is k; the paper's step sizes n / (mu k) are the schedule
"inverse" of `train`.

In the paper a gradient moves the numerator x by eta g, and so the model z = x / u by eta g / u. A
device that pushes more often than its neighbors, or receives little, has a small u and diverges.
By default a gradient is therefore scaled by u: z moves by eta g, whatever u is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt

from p2pl_async.basics.units import PositiveSeconds
from p2pl_async.protocols.base import CUMULATIVE, Contract, Protocol
from p2pl_async.protocols.listening import Fresh
from p2pl_async.protocols.max_norm import MaxNormSync, Sync
from p2pl_async.protocols.pushing import PushMode, ReceivedPushes, patient
from p2pl_async.protocols.running_sums import Account, Sums
from p2pl_async.protocols.silence import PATIENCE, Silence

if TYPE_CHECKING:
    from p2pl_async.device import Device


class RASGP(Protocol):
    """Push-sum SGD by running sums: exact under loss, duplication, reordering (Spiridonoff et al. 2020)."""

    kind: Literal["rasgp"] = "rasgp"
    sync: Sync = MaxNormSync()
    steps: PositiveInt = Field(default=1, description="Mini-batches in each round")
    mode: PushMode = Field(default=Fresh(), description="Whose messages a round waits for")
    grad_scale: Literal["u", "one"] = Field(
        default="u",
        description="Factor of a local step as it enters x: the push weight, or one (paper)",
    )
    u_min: NonNegativeFloat = Field(
        default=1e-3,
        description="Push weight below which a device repeats its sums instead of splitting its mass again",
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
        silence = Silence(device, self.patience)
        account = Account(device, w, silence)
        received = ReceivedPushes(device, Sums, account.fits, silence)
        device.state = account, received
        z = account.z
        while device.running:
            w = await device.train(z, steps=self.steps)
            scale = account.u if self.grad_scale == "u" else account.left
            account.learn_and_push(device, w, z, scale, self.u_min * account.left)  # w - z_k = - eta g(z_k)
            device.record_mix(account.take(device, await received.listen(self.mode)))
            device.record("push_weight", account.u)
            z = account.z
            device.finish_round(z)
