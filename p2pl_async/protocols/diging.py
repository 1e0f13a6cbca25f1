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

from p2pl_async.basics.settings import OneOf
from p2pl_async.device import Device
from p2pl_async.protocols.averaging import Sync, average
from p2pl_async.protocols.base import STATE, Contract, Protocol
from p2pl_async.protocols.listening import Barrier, Ears, Params, waiting
from p2pl_async.protocols.max_norm import MaxNormSync

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
        repair = 'use protocol "asy-sonata", which tracks gradients by running sums'
        return waiting(replace(STATE, loss=_GONE, one_way=_GONE, repair=repair), self.mode)

    async def run(self, device: Device) -> None:
        """Be device i."""
        sync = await self.sync.run(device, device.initial_params())
        x = sync.w
        size = x.size
        g = await device.gradient(x)
        both = np.concatenate([x, g])  # x_i and y_i, which begins as g_i(x_i)
        ears = Ears(device, like=both)
        while device.running:
            both.flags.writeable = False  # so that sending it needs no copy
            device.state = both[size:], g
            device.broadcast(Params(device.round, 0, device.n_samples, len(device.in_neighbors), both))
            heard = await self.mode.listen(ears, (device.round, 0))
            y = both[size:]
            both = average(ears, both, heard, "metropolis", "self")  # a new array, of nobody else
            both.flags.writeable = True
            both[:size] -= y * x.dtype.type(device.learning_rate)  # x_i <- sum_j W_ij x_j - eta y_i
            x = both[:size].copy()
            x.flags.writeable = False
            old, g = g, await device.gradient(x)
            both[size:] += g  # y_i <- sum_j W_ij y_j + g_i(new) - g_i(old)
            both[size:] -= old
            device.finish_round(x)
            sync.serve()
        device.state = both[size:], g
