"""ASY-SONATA: gradient tracking without rounds, to the exact minimum over one-way links that lose messages.

Models are pulled: a device averages the newest ones that it has heard, however old. Trackers are pushed by
running sums, so no part of a gradient is ever lost (see `tracking`):

    v_i <- x_i - eta y_i;                          v_i goes to the out-neighbors
    x_i <- mean of v_i and the newest v_j heard
    y_i <- what is left of y_i + what is new in the neighbors' sums + g_i(new x_i) - g_i(old x_i)
    y_i / (d + 1) is left;                         each of d out-neighbors is promised the same share

so  sum_i y_i, with what is owed, = sum_i g_i(x_i)  at all times, whatever links do; and over the devices
present, where links go both ways, whoever leaves or returns. In the paper the step goes along what is left; here
it goes along all of y_i, the mean gradient if all are alike, so that eta means what it means elsewhere. A
neighbor that is silent, or doesn't hear this device, is not averaged with.

Source: Y. Tian, Y. Sun, G. Scutari, "Achieving Linear Convergence in Distributed Asynchronous Multiagent
Optimization", IEEE TAC 2020. This device is i; the tracker z of the paper is y, as in DIGing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from p2pl_async.basics.settings import OneOf
from p2pl_async.basics.units import PositiveSeconds
from p2pl_async.protocols.averaging import average
from p2pl_async.protocols.base import CUMULATIVE, Contract, Protocol
from p2pl_async.protocols.diging import GRADIENTS_STAY
from p2pl_async.protocols.listening import Cache, Fresh, Params, Received
from p2pl_async.protocols.max_norm import MaxNormSync, Sync
from p2pl_async.protocols.mixing import stepped
from p2pl_async.protocols.pushing import ReceivedPushes
from p2pl_async.protocols.silence import PATIENCE, Silence
from p2pl_async.protocols.tracking import Tracked, Tracker

if TYPE_CHECKING:
    from p2pl_async.device import Device


class AsySonata(Protocol):
    """Gradient tracking by running sums: the exact minimum over any links (Tian et al. 2020)."""

    kind: Literal["asy-sonata"] = "asy-sonata"
    sync: Sync = MaxNormSync()
    mode: Annotated[Cache, OneOf("mode", Cache)] = Field(
        default=Cache(), description="Which copies of neighbors' models are averaged; a device never waits"
    )
    patience: PositiveSeconds = Field(default=30.0, description=PATIENCE)

    contract: ClassVar[Contract] = replace(CUMULATIVE, one_way_departures=GRADIENTS_STAY)
    uses_momentum: ClassVar[bool] = False  # it steps along a tracker of gradients
    models_per_message: ClassVar[float] = 2  # of the larger of two messages, a float64 sum of trackers

    async def run(self, device: Device) -> None:
        """Run the protocol on device i."""
        x = await self.sync.run(device, device.initial_params())
        g = await device.gradient(x)
        silence = Silence(device, self.patience)
        tracker = Tracker(device, g, silence)  # y_i(0) = g_i(x_i(0))
        models, sums = Received(device, like=x, copies=True), ReceivedPushes(device, Tracked, tracker.fits, silence)
        device.state = tracker, sums
        while device.running:
            v = stepped(x, tracker.direction, device.learning_rate)
            device.broadcast(Params(device.round, 0, device.n_samples, len(device.in_neighbors), v))
            heard = await self.mode.listen(models, (device.round, 0))
            for j, model in heard.items():
                silence.hear(j, model.round)
            heard = {j: model for j, model in heard.items() if tracker.hears(j)}
            x = average(models, v, heard, "uniform", "renormalize")
            g = await device.gradient(x)
            tracker.take_and_push(await sums.listen(Fresh()), g)
            device.finish_round(x)
