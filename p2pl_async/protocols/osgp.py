"""Overlap Stochastic Gradient Push: messages travel while devices continue to train.

Source: M. Assran, N. Loizou, N. Ballas, M. Rabbat, "Stochastic Gradient Push for Distributed Deep
Learning", ICML 2019, overlap SGP. A neighbor's push may come up to `overlap` rounds late; a device
waits only for older ones. Here every round pushes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, PositiveInt

from p2pl_async.basics.units import PositiveSeconds
from p2pl_async.protocols.base import Contract, Protocol
from p2pl_async.protocols.max_norm import MaxNormSync, Sync
from p2pl_async.protocols.pushing import PUSH_CONTRACT, GradScale
from p2pl_async.protocols.sharing import Shares
from p2pl_async.protocols.silence import PATIENCE

if TYPE_CHECKING:
    from p2pl_async.device import Device


class OSGP(Protocol):
    """SGP whose pushes may come some rounds late, hidden behind training (Assran et al. 2019)."""

    kind: Literal["osgp"] = "osgp"
    sync: Sync = MaxNormSync()
    steps: PositiveInt = Field(default=1, description="Mini-batches in each round")
    overlap: PositiveInt = Field(default=1, description="Rounds that a neighbor's push may be late (tau in the paper)")
    timeout: PositiveSeconds | None = Field(
        default=None,
        description="How long a round waits for later pushes at most; by default until neighbors are silent for the "
        "patience",
    )
    grad_scale: GradScale = "one"
    patience: PositiveSeconds = Field(default=30.0, description=PATIENCE)

    models_per_message: ClassVar[float] = 1
    contract: ClassVar[Contract] = PUSH_CONTRACT

    async def run(self, device: Device) -> None:
        """Run the protocol on device k."""
        w = await self.sync.run(device, device.initial_params())
        shares = Shares(device, w, self.patience, overlap=self.overlap)
        while device.running:
            w = await device.train(shares.z, steps=self.steps)
            # x_k <- p_kk (x_k - eta g(z_k)),  u_k <- p_kk u_k
            shares.learn_and_push(w, self.grad_scale)
            device.finish_round(await shares.absorb_late(self.timeout, self.overlap))
