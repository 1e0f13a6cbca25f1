"""DGD: average the neighbors' models, and step along the gradient at the own model. With mini-batches, D-PSGD.

Source: A. Nedic and A. Ozdaglar, "Distributed Subgradient Methods for Multi-Agent Optimization", IEEE
TAC 2009; K. Yuan, Q. Ling, W. Yin, "On the Convergence of Decentralized Gradient Descent", SIAM J.
Optim. 2016; with mini-batches X. Lian et al., "Can Decentralized Algorithms Outperform Centralized
Algorithms?", NeurIPS 2017. This device is i.

Messages travel while the gradient is computed. The gradient step is one of `device.train`: the scenario's
`[train]` sets learning rate, schedule, weight decay and clipping. Every round is one step, so momentum
acts only if it is kept across rounds. Several local steps between two averages are local DSGD, which
is `p2pl` with `sync = "none"`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from p2pl_async.protocols.averaging import Averaging
from p2pl_async.protocols.listening import Received, mixes_again

if TYPE_CHECKING:
    from p2pl_async.device import Device


class DGD(Averaging):
    """Average with neighbors and step along the gradient at once; D-PSGD (Lian et al. 2017)."""

    kind: Literal["dgd"] = "dgd"

    async def run(self, device: Device) -> None:
        """Run the protocol on device i."""
        x = await self.sync.run(device, device.initial_params())
        received = Received(device, like=x, copies=mixes_again(self.mode, self.on_missing))
        while device.running:
            self.tell(received, x)
            y = await device.train(x, steps=1)  # x_i - eta g_i(x_i)
            x = await self.mix(received, x, stepped=y)  # x_i <- sum_j W_ij x_j - eta g_i(x_i)
            device.finish_round(x)
