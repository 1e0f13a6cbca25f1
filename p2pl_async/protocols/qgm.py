"""Quasi-global momentum: momentum along the way that the averaged model goes, for data that differ by device.

Source: T. Lin, S. P. Karimireddy, S. U. Stich, M. Jaggi, "Quasi-Global Momentum: Accelerating Decentralized
Deep Learning on Heterogeneous Data", ICML 2021. This device is i. Local momentum points where the device's
own data pull; here it is made from the difference of two averaged models, at no traffic.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from p2pl_async.device import Device
from p2pl_async.messages import Vector
from p2pl_async.protocols.averaging import Averaging
from p2pl_async.protocols.listening import Ears


class QGM(Averaging):
    """Step with quasi-global momentum, then average with neighbors (Lin et al. 2021)."""

    kind: Literal["qgm"] = "qgm"
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.9, description="mu, of the quasi-global momentum; that of [train] is another and best left 0"
    )

    async def run(self, device: Device) -> None:
        """Be device i."""
        sync = await self.sync.run(device, device.initial_params())
        x = sync.w
        mu = x.dtype.type(self.momentum)
        m: Vector = x * 0
        ears = Ears(device, like=x)
        while device.running:
            eta = x.dtype.type(device.learning_rate)
            drift = m * (-eta * mu)
            drift.flags.writeable = False  # so that training needs no copy
            y = await device.train(x, steps=1, drift=drift)  # y_i = x_i - eta (mu m_i + g_i(x_i))
            self.tell(device, y)
            old, x = x, await self.mix(ears, y)  # x_i <- sum_j W_ij y_j
            way = old - x
            way *= (1 - mu) / eta
            m *= mu
            m += way  # m_i <- mu m_i + (1 - mu) (x_i(old) - x_i) / eta
            device.finish_round(x)
            sync.serve()
