"""Quasi-global momentum: momentum along the path of the averaged model, for data that differ by device.

Source: T. Lin, S. P. Karimireddy, S. U. Stich, M. Jaggi, "Quasi-Global Momentum: Accelerating Decentralized
Deep Learning on Heterogeneous Data", ICML 2021. This device is i. Local momentum follows the device's own
data; this momentum is the difference of two averaged models, and needs no extra messages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from p2pl_async.messages import Vector
from p2pl_async.protocols.averaging import Averaging
from p2pl_async.protocols.listening import Received, mixes_again
from p2pl_async.protocols.mixing import BLOCK, blocks

if TYPE_CHECKING:
    from p2pl_async.device import Device


class QGM(Averaging):
    """Step with quasi-global momentum, then average with neighbors (Lin et al. 2021)."""

    kind: Literal["qgm"] = "qgm"
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.9, description="mu, the quasi-global momentum; that of [train] is separate and best left 0"
    )

    async def run(self, device: Device) -> None:
        """Run the protocol on device i."""
        x = await self.sync.run(device, device.initial_params())
        mu = self.momentum
        drift = np.zeros_like(x)  # - eta mu m_i: the momentum m_i as what it adds to the next step
        received = Received(device, like=x, copies=mixes_again(self.mode, self.on_missing))
        while device.running:
            eta = device.learning_rate
            drift.flags.writeable = False  # so that training needs no copy
            y = await device.train(x, steps=1, drift=drift)  # y_i = x_i - eta (mu m_i + g_i(x_i))
            self.tell(received, y)
            old, x = x, await self.mix(received, y)  # x_i <- sum_j W_ij y_j
            drift.flags.writeable = True
            ratio = device.learning_rate / eta if eta > 0 else 0.0  # a schedule may end at 0
            _remember(drift, old, x, mu, ratio)  # m_i <- mu m_i + (1 - mu) (x_i(old) - x_i) / eta
            device.finish_round(x)


def _remember(drift: Vector, old: Vector, x: Vector, mu: float, ratio: float) -> None:
    """Update the drift - eta mu m, in place, for m <- mu m + (1 - mu) (old - x) / eta.

    Args:
        drift: (n_params,), like the models.
        old: the model before the round.
        x: the model after it.
        mu: the momentum.
        ratio: the next step's eta, as a multiple of this one's.
    """
    change = np.empty(min(BLOCK, x.size), x.dtype)
    for block in blocks(x.size):
        part = drift[block]
        moved = np.subtract(x[block], old[block], out=change[: part.size])
        moved *= x.dtype.type(ratio * mu * (1 - mu))
        part *= x.dtype.type(ratio * mu)
        part += moved
