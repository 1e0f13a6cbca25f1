"""Sparse-Push: push-sum of compressed models, on any directed graph, also one that changes.

Source: S. A. Aketi, A. Singh, J. Rabaey, "Sparse-Push: Communication- & Energy-Efficient Decentralized
Distributed Learning over Directed & Time-Varying Graphs with non-IID Datasets", arXiv:2102.05715; the
update follows the first author's code. This device is i. The paper's links lose nothing; `compressing`
says what a message means on links that do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveInt, field_validator

from p2pl_async.basics.settings import Settings
from p2pl_async.basics.units import PositiveSeconds, Seconds
from p2pl_async.compression import AnyCompressor, Compressor, ErrorFeedback, Identity, RandomK, TopK
from p2pl_async.messages import Vector, apart, some_of
from p2pl_async.protocols.base import Contract, Protocol
from p2pl_async.protocols.compressing import CONTRACTS, Delivery, MassLinks, contraction
from p2pl_async.protocols.listening import Barrier, Fresh
from p2pl_async.protocols.max_norm import MaxNormSync, Sync
from p2pl_async.protocols.pushing import Mass, PushMode, patient
from p2pl_async.protocols.repairing import Share
from p2pl_async.protocols.silence import PATIENCE

if TYPE_CHECKING:
    from p2pl_async.device import Device

Rate = Annotated[float, Field(gt=0, le=1)]


class SkewCompensation(Settings):
    """Rounds of averaging without training, at the end: dense, with averaging rate 1, errors dropped.

    They bring devices together that sparse messages have left apart; the authors do about 50 such rounds on
    skewed labels. They last until the run ends: give `[stop]` that many rounds more than `after`.
    """

    after: PositiveInt = Field(description="Rounds that train; all later rounds only average")
    pause: Seconds = Field(default=0.0, description="How long a device waits in each such round before it sends")


class SparsePush(Protocol):
    """Push-sum of compressed models with error feedback; skew compensation (Aketi et al. 2021)."""

    kind: Literal["sparse-push"] = "sparse-push"
    sync: Sync = MaxNormSync()
    steps: PositiveInt = Field(default=1, description="Mini-batches in each round")
    compressor: AnyCompressor = Field(default=TopK(), description="What is sent of a model")
    averaging_rate: Rate | None = Field(
        default=None,
        description="Share of each message that moves (eta_a); k/d by default for top-k, 1 uncompressed",
    )
    delivery: Delivery = Field(
        default="exactly_once",
        description="What a message means: links never lose, whatever arrives counts, or later messages make up for "
        "lost ones",
    )
    mode: PushMode = Field(default=Barrier(), description="Whose messages a round waits for")
    patience: PositiveSeconds = Field(default=30.0, description=PATIENCE)
    compensation: SkewCompensation | None = Field(
        default=None, description="Rounds of dense averaging after training, for data with skewed labels"
    )

    @field_validator("compressor")
    @classmethod
    def _contracts(cls, compressor: Compressor) -> Compressor:
        return contraction(compressor)

    @property
    def contract(self) -> Contract:
        """Increments, or running sums, as the delivery says."""
        return patient(CONTRACTS[self.delivery], self.mode)

    @property
    def models_per_message(self) -> float:
        """Share of a model that the compressor keeps; repaired, times the number of messages not yet confirmed."""
        return 1.0 if self.compensation is not None else self.compressor.models_per_message

    @property
    def warnings(self) -> Sequence[str]:
        """Whether the averaging rate is likely to be unstable."""
        kept = 1 - self.compressor.sparsity if isinstance(self.compressor, TopK | RandomK) else 1.0
        if self.averaging_rate is None or self.averaging_rate <= 5 * kept:
            return ()
        return [
            f"protocol.averaging_rate = {self.averaging_rate:g} is more than 5 times the share of entries kept, "
            f"{kept:.3g}: errors are likely to outgrow the models; leave it out, or use about {kept:.3g}"
        ]

    async def run(self, device: Device) -> None:
        """Run the protocol on device i."""
        w = await self.sync.run(device, device.initial_params())
        mass = Mass(w.copy(), 1.0)  # x_i, u_i
        rate = self.averaging_rate or self.compressor.averaging_rate(device.layers)
        feedback = ErrorFeedback(self.compressor, device.layers, mass.x, device.random)
        links = MassLinks(device, self.delivery, mass.x, self.patience)
        device.state = mass, links, feedback
        z = self.model(mass)
        while device.running:
            if self.compensation is not None and device.round >= self.compensation.after:
                rate, feedback = 1.0, ErrorFeedback(Identity(), device.layers, mass.x, device.random)
                await device.sleep(self.compensation.pause)
            else:
                mass.x += await device.train(z, steps=self.steps) - z  # x_i <- x_i - eta g(z_i)
                device.steps_enter(1.0)
            push(mass, feedback, links, rate)
            await absorb(mass, links, self.mode)
            z = self.model(mass)
            device.finish_round(z)

    def model(self, mass: Mass) -> Vector:
        """Return z = x / u, read-only."""
        return mass.z


def push(mass: Mass, feedback: ErrorFeedback, links: MassLinks, rate: float) -> None:
    """Push a share to every out-neighbor: x_i <- x_i + eta_a (p_ii - 1) q_i, and u_i likewise.

    Args:
        mass: the device's mass, changed in place.
        feedback: q_i = C(x_i + e_i), e_i <- x_i + e_i - q_i.
        links: the device's links.
        rate: eta_a.
    """
    targets = links.takers()
    if links.delivery == "repaired":
        links.repeat([j for j in links.device.out_neighbors if j not in targets], len(targets))
    if targets:  # without a receiver, compressing would only grow the error that is fed back
        q = feedback.compress(mass.x)
        p = 1 / (1 + len(targets))  # p_ji = p_ii
        share = Share(q.times(rate * p), rate * p * mass.u)
        links.push(share, targets)
        share.q.add_to(mass.x, -len(targets))
        mass.u -= len(targets) * share.u


async def absorb(mass: Mass, links: MassLinks, mode: Barrier | Fresh) -> None:
    """Add the shares received: x_i <- x_i + eta_a sum_j p_ij q_j, and u_i likewise; and what is taken back."""
    shares = await links.listen(mode)
    for heard in shares:
        before = some_of(mass.x) / mass.u
        _take(mass, links, heard.share)
        links.device.pulled(heard.sender, apart(some_of(mass.x), before, mass.u))
    links.device.mixed((heard.sender, max(heard.share.u, 0.0) / mass.u) for heard in shares)
    for share in links.returned:
        _take(mass, links, share)
    links.returned = []
    links.debts = [rest for debt in links.debts if (rest := _pay(mass, debt)) is not None]
    links.device.record("push_weight", mass.u)


def _take(mass: Mass, links: MassLinks, share: Share) -> None:
    """Add a share; one to be given back, as a neighbor had given up this device, becomes a debt."""
    if share.u < 0:
        links.debts.append(share)
    else:
        share.q.add_to(mass.x)
        mass.u += share.u


def _pay(mass: Mass, debt: Share) -> Share | None:
    """Pay as much of a negative share as leaves half of the push weight; return the rest."""
    part = min(1.0, -0.5 * mass.u / debt.u)
    debt.q.add_to(mass.x, part)
    mass.u += part * debt.u
    return None if part == 1 else Share(debt.q.times(1 - part), (1 - part) * debt.u)
