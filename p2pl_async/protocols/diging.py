"""DIGing: every device tracks the gradient of all, so that a constant step size reaches the exact minimum.

Source: A. Nedic, A. Olshevsky, W. Shi, "Achieving Geometric Convergence for Distributed Optimization over
Time-Varying Graphs", SIAM J. Optim. 2017, algorithm 1. Letters follow the paper; this device is i. With
mini-batches it is stochastic gradient tracking. A message carries x and y, twice the model.

The sum of all y_i is the sum of all latest gradients only while the mixing matrix is doubly stochastic in
every round: over two-way links, with Metropolis-Hastings weights, and with nothing lost.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from p2pl_async.device import Device
from p2pl_async.messages import Vector
from p2pl_async.protocols.averaging import Sync, average
from p2pl_async.protocols.base import STATE, Contract, Protocol
from p2pl_async.protocols.listening import Barrier, Ears, Params, waiting
from p2pl_async.protocols.max_norm import MaxNormSync
from p2pl_async.settings import OneOf

_GONE = "part of the tracked gradients is gone for good, and devices settle beside the minimum"


class DIGing(Protocol):
    """Gradient tracking: models and gradients are averaged, for the exact minimum (Nedic et al. 2017)."""

    kind: Literal["diging"] = "diging"
    sync: Sync = Field(default=MaxNormSync(), description="How devices agree on one initial model before they train")
    mode: Annotated[Barrier, OneOf("mode", Barrier)] = Field(
        default=Barrier(), description="Whom a mix waits for: everybody, or a timeout"
    )

    models_per_message: ClassVar[float] = 2

    @property
    def contract(self) -> Contract:
        """Its sums are kept by doubly stochastic weights alone."""
        repair = 'use protocol "rasgp", or give the links an arq that repeats what is lost'
        return waiting(replace(STATE, loss=_GONE, one_way=_GONE, repair=repair), self.mode)

    async def run(self, device: Device) -> None:
        """Be device i."""
        sync = await self.sync.run(device, device.initial_params())
        x = sync.w
        g = y = await device.gradient(x)  # y_i(0) = g_i(x_i(0))
        device.state = y, g
        ears = Ears(device, like=np.concatenate([x, y]))
        while device.running:
            both = np.concatenate([x, y])
            both.flags.writeable = False
            device.broadcast(Params(device.round, 0, device.n_samples, len(device.in_neighbors), both))
            heard = await self.mode.listen(ears, (device.round, 0))
            mixed_x, mixed_y = np.split(average(ears, both, heard, "metropolis", "self"), 2)
            x = _frozen(mixed_x - x.dtype.type(device.learning_rate) * y)  # x_i <- sum_j W_ij x_j - eta y_i
            before, g = g, await device.gradient(x)
            y = _frozen(mixed_y + (g - before))  # y_i <- sum_j W_ij y_j + g_i(new) - g_i(old)
            device.state = y, g
            device.finish_round(x)
            sync.serve()


def _frozen(x: Vector) -> Vector:
    x.flags.writeable = False  # so that nobody need copy it
    return x
