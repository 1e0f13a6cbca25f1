"""P2PL with Affinity: local training is pulled towards where the neighbors are, so that it strays less.

Source: S. Pranav and J. M. F. Moura, "Peer-to-Peer Learning + Consensus with Non-IID Data",
arXiv:2312.13602. Letters follow the paper; this device is k.

On data that differ by device, accuracy falls while devices train and rises when they mix. The paper adds
a term to the local steps that damps this sawtooth without any traffic. Its text wasn't at hand: what
follows is our reading of its purpose and abstract, not its letter.

    learning    w_k <- w_k - eta v + eta_d d_k                       in each of T local steps
    consensus   w_k <- sum_j a_kj w_j                                as in P2PL
    after it    d_k <- 1/T (sum_j b_kj w_j - w_k)                    over the neighbors heard, b without k itself

w_j are the models that the mix just used, so nothing more is sent. With eta_d = 0 this is P2PL to the bit.
A term of the consensus phase, which the paper has too, is left out: nothing says what it would be.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat

from p2pl_async.device import Device
from p2pl_async.messages import Vector
from p2pl_async.protocols.averaging import averaged
from p2pl_async.protocols.listening import Ears
from p2pl_async.protocols.p2pl import P2PL


class Affinity(P2PL):
    """P2PL whose local steps are pulled towards the neighbors (our reading of arXiv:2312.13602)."""

    kind: Literal["p2pl-affinity"] = "p2pl-affinity"  # type: ignore[assignment]
    eta_d: NonNegativeFloat = Field(
        default=0.5, description="Strength of the pull: 1 moves a device in a round by its distance from its neighbors"
    )

    async def run(self, device: Device) -> None:
        """Be device k."""
        sync = await self.sync.run(device, device.initial_params())
        w = sync.w
        drift: Vector | None = None  # eta_d d_k
        ears = Ears(device, like=w)
        while device.running:
            if not self.mix_first:
                w = await self._train(device, w, drift)  # w_k <- w_k - eta v + eta_d d_k, step after step
            for step in range(self.consensus_steps):
                self._tell(device, step, w)
                heard = await self.mode.listen(ears, (device.round, step))
                told = w
                w, own = averaged(ears, w, heard, self.weights, self.on_missing)  # w_k <- sum_j a_kj w_j
            drift = self._drift(device, told, w, own)
            if self.mix_first:
                w = await self._train(device, w, drift)
            device.finish_round(w)
            sync.serve()
            if self.max_lead is not None:
                await self._let_others_catch_up(device, ears, self.max_lead)

    def _drift(self, device: Device, told: Vector, w: Vector, own: float) -> Vector | None:
        """Return eta_d / T (sum_j b_kj w_j - w_k); None if there is nothing to add.

        The mean of the neighbors alone needs no second mix: with own weight a, the mix is
        a told + (1 - a) mean, so that mean - mix = a / (1 - a) (mix - told).

        Args:
            device: k.
            told: its model before the mix, which the neighbors heard.
            w: its model after it.
            own: the weight of `told` in the mix.
        """
        if own == 1 or self.eta_d == 0:
            return None
        steps = self.steps or self.epochs * device.batches_per_epoch
        drift: Vector = w - told
        drift *= self.eta_d / steps * own / (1 - own)
        return drift
