"""Push-DIGing: gradient tracking on directed graphs, exact with a constant step size.

Beside its model every device carries y, an estimate of the mean gradient over all devices: y is pushed
like the model, and corrected by the change of the device's own gradient. So devices whose data differ
still step in a common direction, and a constant step size reaches the minimum itself.

    x_k <- sum_j p_kj (x_j - eta y_j);   u_k <- sum_j p_kj u_j;   z_k <- x_k / u_k
    y_k <- sum_j p_kj y_j + g_k(new z_k) - g_k(old z_k)

so  sum_k y_k, with what is in flight, = sum_k g_k(z_k)  at all times.

Source: A. Nedic, A. Olshevsky, W. Shi, "Achieving Geometric Convergence for Distributed Optimization
over Time-Varying Graphs", SIAM J. Optim. 2017. Letters follow the paper, except that its model x is z
here and its numerator u is x, as in the other push-sum protocols. This device is k.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from p2pl_async.basics.units import PositiveSeconds
from p2pl_async.protocols.base import Contract, Protocol
from p2pl_async.protocols.diging import GRADIENTS_STAY
from p2pl_async.protocols.listening import Barrier
from p2pl_async.protocols.max_norm import MaxNormSync, Sync
from p2pl_async.protocols.pushing import PUSH_CONTRACT, PushMode, patient
from p2pl_async.protocols.sharing import Shares
from p2pl_async.protocols.silence import PATIENCE

if TYPE_CHECKING:
    from p2pl_async.device import Device


class PushDIGing(Protocol):
    """Gradient tracking by push-sum: the exact minimum on any directed graph (Nedic et al. 2017)."""

    kind: Literal["push-diging"] = "push-diging"
    sync: Sync = MaxNormSync()
    mode: PushMode = Field(default=Barrier(), description="Whose messages a round waits for")
    patience: PositiveSeconds = Field(default=30.0, description=PATIENCE)

    uses_momentum: ClassVar[bool] = False  # it steps along a tracker of gradients
    models_per_message: ClassVar[float] = 2

    @property
    def contract(self) -> Contract:
        """Increments: mass and tracked gradients that are lost or arrive twice are never corrected."""
        return patient(
            replace(
                PUSH_CONTRACT,
                departures=GRADIENTS_STAY,
                repair='use protocol "asy-sonata", whose running sums repair both',
            ),
            self.mode,
        )

    async def run(self, device: Device) -> None:
        """Run the protocol on device k."""
        z = await self.sync.run(device, device.initial_params())
        g = await device.gradient(z)
        shares = Shares(device, z, self.patience, tracker=g)  # x and y are split, pushed and added alike
        mass = shares.mass
        while device.running:
            x, y = mass.x
            x -= x.dtype.type(device.learning_rate) * y
            shares.push()
            z = await shares.absorb(self.mode)
            old, g = g, await device.gradient(z)
            mass.x[1] += g - old
            device.finish_round(z)
