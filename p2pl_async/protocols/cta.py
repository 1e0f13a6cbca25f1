"""CTA, combine then adapt: average the neighbors' models, then step along the gradient at the average.

Source: A. H. Sayed, "Adaptation, Learning, and Optimization over Networks", Foundations and Trends in
Machine Learning 2014. This device is i. `dgd` says how `[train]` applies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from p2pl_async.protocols.averaging import Averaging
from p2pl_async.protocols.listening import Received, mixes_again

if TYPE_CHECKING:
    from p2pl_async.device import Device


class CTA(Averaging):
    """Average with neighbors, then step along the gradient at the average (Sayed 2014)."""

    kind: Literal["cta"] = "cta"

    async def run(self, device: Device) -> None:
        """Run the protocol on device i."""
        x = await self.sync.run(device, device.initial_params())
        received = Received(device, like=x, copies=mixes_again(self.mode, self.on_missing))
        while device.running:
            self.tell(received, x)
            y = await self.mix(received, x)  # y_i = sum_j W_ij x_j
            x = await device.train(y, steps=1)  # x_i <- y_i - eta g_i(y_i)
            device.finish_round(x)
