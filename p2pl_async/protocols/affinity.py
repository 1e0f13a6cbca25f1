"""P2PL with Affinity: local training is pulled towards the neighbors' models, so it drifts less.

Source: S. Pranav and J. M. F. Moura, "Peer-to-Peer Learning + Consensus with Non-IID Data",
arXiv:2312.13602. Letters follow the paper; this device is k.

On data that differ by device, accuracy falls while devices train and rises when they mix. The paper adds
a term to the local steps that damps this sawtooth without any traffic. Its full text wasn't available: the
equations below are our reading of its abstract.

    learning    w_k <- w_k - eta v + eta_d d_k                       in each of T local steps
    consensus   w_k <- sum_j a_kj w_j                                as in P2PL
    after it    d_k <- 1/T (sum_j b_kj w_j - w_k)                    over the neighbors heard, b without k itself

w_j are the models that the mix just used, so no extra message is sent. With eta_d = 0 this is P2PL, bit for
bit. The paper also has a term in the consensus phase; the abstract doesn't define it, so it is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, NonNegativeFloat

from p2pl_async.messages import Vector
from p2pl_async.protocols.averaging import averaged
from p2pl_async.protocols.listening import Received, mixes_again
from p2pl_async.protocols.p2pl import P2PL

if TYPE_CHECKING:
    from p2pl_async.device import Device


class Affinity(P2PL):
    """P2PL whose local steps are pulled towards the neighbors (our reading of arXiv:2312.13602)."""

    kind: Literal["p2pl-affinity"] = "p2pl-affinity"  # type: ignore[assignment]
    eta_d: NonNegativeFloat = Field(
        default=0.5, description="Strength of the pull: 1 moves a device in a round by its distance from its neighbors"
    )

    async def run(self, device: Device) -> None:
        """Run the protocol on device k."""
        w = await self.sync.run(device, device.initial_params())
        drift: Vector | None = None  # eta_d d_k
        received = Received(device, like=w, copies=mixes_again(self.mode, self.on_missing))
        while device.running:
            if not self.mix_first:
                w = await self._train(device, w, drift)  # w_k <- w_k - eta v + eta_d d_k, step after step
            for step in range(self.consensus_steps):
                self._tell(received, step, w)
                heard = await self.mode.listen(received, (device.round, step))
                told = w
                w, own = averaged(received, w, heard, self.weights, self.on_missing)  # w_k <- sum_j a_kj w_j
                del heard  # or the neighbors' models stay in memory during the next training
            drift = self._drift(device, told, w, own)
            if self.mix_first:
                w = await self._train(device, w, drift)
            device.finish_round(w)
            if self.max_lead is not None:
                await self._let_others_catch_up(device, received, self.max_lead)

    def _drift(self, device: Device, told: Vector, w: Vector, own: float) -> Vector | None:
        """Return eta_d / T (sum_j b_kj w_j - w_k), or None if that is 0.

        The mean of the neighbors alone needs no second mix: with own weight a, the mix is
        a told + (1 - a) mean, so mean - mix = a / (1 - a) (mix - told).

        Args:
            device: k.
            told: its model before the mix, as sent to the neighbors.
            w: its model after the mix.
            own: the weight of `told` in the mix.
        """
        if own == 1 or self.eta_d == 0:
            return None
        steps = self.steps or self.epochs * device.batches_per_epoch
        drift: Vector = w - told
        drift *= self.eta_d / steps * own / (1 - own)
        return drift
