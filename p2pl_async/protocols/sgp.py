"""Stochastic Gradient Push: SGD on directed graphs, with push-sum in place of averaging.

Source: M. Assran, N. Loizou, N. Ballas, M. Rabbat, "Stochastic Gradient Push for Distributed Deep
Learning", ICML 2019, algorithm 1. Letters follow the paper, except that its push weight w is u here;
this device is k. The paper's rounds are synchronous; `fresh`, a timeout, and more than one local step
are additions for asynchronous devices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, PositiveInt

from p2pl_async.basics.units import PositiveSeconds
from p2pl_async.protocols.base import Contract, Protocol
from p2pl_async.protocols.listening import Barrier
from p2pl_async.protocols.max_norm import MaxNormSync, Sync
from p2pl_async.protocols.pushing import PUSH_CONTRACT, GradScale, PushMode, patient
from p2pl_async.protocols.sharing import Shares
from p2pl_async.protocols.silence import PATIENCE

if TYPE_CHECKING:
    from p2pl_async.device import Device


class SGP(Protocol):
    """Local SGD at z = x / u, then push-sum: averages on any directed graph (Assran et al. 2019)."""

    kind: Literal["sgp"] = "sgp"
    sync: Sync = MaxNormSync()
    steps: PositiveInt = Field(default=1, description="Mini-batches in each round")
    mode: PushMode = Field(default=Barrier(), description="Whose messages a round waits for")
    grad_scale: GradScale = "one"
    patience: PositiveSeconds = Field(default=30.0, description=PATIENCE)

    models_per_message: ClassVar[float] = 1

    @property
    def contract(self) -> Contract:
        """Increments: mass that is lost or arrives twice is never corrected."""
        return patient(PUSH_CONTRACT, self.mode)

    async def run(self, device: Device) -> None:
        """Run the protocol on device k."""
        w = await self.sync.run(device, device.initial_params())
        shares = Shares(device, w, self.patience)
        while device.running:
            w = await device.train(shares.z, steps=self.steps)
            # x_k <- p_kk (x_k - eta g(z_k)),  u_k <- p_kk u_k
            shares.learn_and_push(w, self.grad_scale)
            # x_k <- sum_j p_kj x_j,  u_k <- sum_j p_kj u_j,  z_k <- x_k / u_k
            device.finish_round(await shares.absorb(self.mode))
