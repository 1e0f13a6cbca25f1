"""DIGing: every device tracks the gradient of all, so that a constant step size reaches the exact minimum.

Source: A. Nedic, A. Olshevsky, W. Shi, "Achieving Geometric Convergence for Distributed Optimization over
Time-Varying Graphs", SIAM J. Optim. 2017, algorithm 1. Letters follow the paper; this device is i. With
mini-batches it is stochastic gradient tracking. A message carries x and y, twice the model.

The sum of all y_i equals the sum of all latest gradients only while the mixing matrix is doubly stochastic
in every round: over two-way links, with Metropolis-Hastings weights, and without loss.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from p2pl_async.basics.settings import OneOf
from p2pl_async.protocols.averaging import average
from p2pl_async.protocols.base import STATE, Contract, Protocol
from p2pl_async.protocols.listening import Barrier, Params, Received, waiting
from p2pl_async.protocols.max_norm import MaxNormSync, Sync

if TYPE_CHECKING:
    from p2pl_async.device import Device

GRADIENTS_STAY = (
    "what one that is gone had last added to the trackers stays there, and devices converge beside the minimum"
)
_GONE = "part of the tracked gradients is lost, and devices converge near the minimum, not at it"


class DIGing(Protocol):
    """Gradient tracking: models and gradients are averaged, for the exact minimum (Nedic et al. 2017)."""

    kind: Literal["diging"] = "diging"
    sync: Sync = MaxNormSync()
    mode: Annotated[Barrier, OneOf("mode", Barrier)] = Field(
        default=Barrier(), description="A mixing step waits for all neighbors' messages, or for a timeout"
    )

    uses_momentum: ClassVar[bool] = False  # it steps along a tracker of gradients
    models_per_message: ClassVar[float] = 2

    @property
    def contract(self) -> Contract:
        """State, but only doubly stochastic weights preserve the tracked sum."""
        repair = 'use protocol "asy-sonata", which tracks gradients by running sums'
        return waiting(replace(STATE, loss=_GONE, one_way=_GONE, departures=GRADIENTS_STAY, repair=repair), self.mode)

    async def run(self, device: Device) -> None:
        """Run the protocol on device i."""
        x = await self.sync.run(device, device.initial_params())
        size = x.size
        g = await device.gradient(x)
        both = np.concatenate([x, g])  # x_i and y_i, which begins as g_i(x_i)
        received = Received(device, like=both, copies=False)
        while device.running:
            both.flags.writeable = False  # so that sending it needs no copy
            device.state = both[size:], g
            device.broadcast(Params(device.round, 0, device.n_samples, len(device.in_neighbors), both))
            heard = await self.mode.listen(received, (device.round, 0))
            y = both[size:]
            both = average(received, both, heard, "metropolis", "self")  # a new array, so it can be changed in place
            both.flags.writeable = True
            both[:size] -= y * x.dtype.type(device.learning_rate)  # x_i <- sum_j W_ij x_j - eta y_i
            x = both[:size].copy()
            x.flags.writeable = False
            old, g = g, await device.gradient(x)
            both[size:] += g  # y_i <- sum_j W_ij y_j + g_i(new) - g_i(old)
            both[size:] -= old
            device.finish_round(x)
        device.state = both[size:], g
