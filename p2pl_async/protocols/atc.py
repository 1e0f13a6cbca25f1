"""ATC, adapt then combine: step along the gradient, then average the neighbors' models.

Source: A. H. Sayed, "Adaptation, Learning, and Optimization over Networks", Foundations and Trends in
Machine Learning 2014. This device is i. `dgd` says how `[train]` applies. With more
local steps before each average this is local DSGD: `p2pl` with `sync = "none"`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from p2pl_async.protocols.averaging import Averaging
from p2pl_async.protocols.listening import Received, mixes_again

if TYPE_CHECKING:
    from p2pl_async.device import Device


class ATC(Averaging):
    """Step along the gradient, then average with neighbors (Sayed 2014)."""

    kind: Literal["atc"] = "atc"

    async def run(self, device: Device) -> None:
        """Run the protocol on device i."""
        x = await self.sync.run(device, device.initial_params())
        received = Received(device, like=x, copies=mixes_again(self.mode, self.on_missing))
        while device.running:
            y = await device.train(x, steps=1)  # y_i = x_i - eta g_i(x_i)
            self.tell(received, y)
            x = await self.mix(received, y)  # x_i <- sum_j W_ij y_j
            device.finish_round(x)
