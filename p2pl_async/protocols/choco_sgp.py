"""CHOCO-SGP: CHOCO's compressed differences under push-sum, for one-way links.

Sources: A. Koloskova, S. Stich, M. Jaggi, ICML 2019, for the copies; H. Taheri, A. Mokhtari,
H. Hassani, R. Pedarsani, "Quantized Decentralized Stochastic Learning over Directed Graphs",
ICML 2020, for push-sum on them, which is gamma = 1. The public copy is h, this device i; a device
pushes p_ji = 1 / (1 + number of its out-neighbors) to each of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from p2pl_async.messages import DeviceId, Vector
from p2pl_async.protocols.compressing import Heard
from p2pl_async.protocols.exchanging import Told
from p2pl_async.protocols.mixing import add_difference, add_scaled, scaled_sum
from p2pl_async.protocols.pushing import Mass, reciprocal
from p2pl_async.protocols.replicas import CopyProtocol, Rate, Replicas

if TYPE_CHECKING:
    from p2pl_async.device import Device


class ChocoSGP(CopyProtocol):
    """Push-sum of copies updated by compressed differences, on one-way links (Koloskova 2019, Taheri 2020)."""

    kind: Literal["choco-sgp"] = "choco-sgp"
    gamma: Rate | None = Field(
        default=None, description="Consensus step size; k/d by default for top-k, 1 uncompressed or as int8"
    )

    @property
    def warnings(self) -> Sequence[str]:
        """Whether gamma is likely to overshoot copies that lag behind."""
        if self.delivery != "repaired" or self.gamma is None or self.gamma <= 0.5:
            return super().warnings
        return [
            f"protocol.gamma = {self.gamma:g} moves large shares of copies, which lag behind when deliveries are "
            "repaired: push weights may fall below 0, which ends the run; use 0.2"
        ]

    async def run(self, device: Device) -> None:
        """Run the protocol on device i."""
        w = await self.sync.run(device, device.initial_params())
        mass = Mass(w.copy(), 1.0)
        gamma = self.gamma or self.compressor.averaging_rate(device.layers)
        replicas = Replicas(device, self, mass.x, paired=False)
        debts: list[Told] = []
        device.state = mass, replicas, debts
        device.holds = lambda: mass.u
        z = mass.z
        while device.running:
            add_difference(mass.x, await device.train(z, steps=self.steps), z)  # x_i <- x_i - eta g(z_i)
            device.steps_enter(1.0)
            # q_i = C(x_i - h_i),  h_i <- h_i + q_i;  x_i <- x_i - gamma sum_j p_ji h_i,  u_i likewise
            told, targets = replicas.tell(mass.x, mass.u)
            _take_out(mass, told, gamma * len(targets))
            # h_j <- h_j + q_j;  x_i <- x_i + gamma sum_j p_ij h_j,  u_i likewise
            copies = list(self._copies(device, replicas, await replicas.listen(self.mode), debts))
            z = _add(mass, [copy for _, copy in copies], gamma)
            if debts:
                debts[:] = [rest for debt in debts if (rest := _pay(mass, debt, gamma)) is not None]
                z = mass.z
            device.record("push_weight", mass.u)
            device.mixed((j, gamma / (1 + copy.degree) * copy.u / mass.u) for j, copy in copies if j != device.id)
            device.finish_round(z)

    def _copies(
        self, device: Device, replicas: Replicas, heard: list[Heard], debts: list[Told]
    ) -> Iterator[tuple[DeviceId, Told]]:
        """Yield j and h_j to add: with each message, or the present ones; and own ones that didn't arrive.

        Own ones that were taken back, and did arrive, become debts.
        """
        yield from replicas.add(heard)
        for _, told, fate in replicas.fates():
            if fate == "returned":
                yield device.id, told
            elif fate == "owed":
                debts.append(told)
        if self.delivery == "absolute":
            for j in device.in_neighbors:
                if j in replicas.of and replicas.links.hears(j):
                    yield j, Told(replicas.of[j].x, replicas.of[j].u, replicas.of[j].degree)


def _add(mass: Mass, copies: Sequence[Told], gamma: float) -> Vector:
    """Add `gamma` times the sender's share p = 1 / (1 + its number of out-neighbors) of each copy; return z."""
    shares = [gamma / (1 + copy.degree) for copy in copies]
    for share, copy in zip(shares, copies, strict=True):
        mass.u += share * copy.u
    return scaled_sum(mass.x, [(share, copy.x) for share, copy in zip(shares, copies, strict=True)], reciprocal(mass.u))


def _take_out(mass: Mass, copy: Told, gamma: float) -> None:
    """Subtract `gamma` times the sender's share of a copy."""
    share = -gamma / (1 + copy.degree)
    add_scaled(mass.x, [(share, copy.x)])
    mass.u += share * copy.u


def _pay(mass: Mass, debt: Told, gamma: float) -> Told | None:
    """Subtract a copy's share, or as much as leaves half of the push weight; return what is still owed of the copy."""
    owed = gamma * debt.u / (1 + debt.degree)
    part = min(1.0, 0.5 * mass.u / owed) if owed > 0 else 1.0
    _take_out(mass, debt, gamma * part)
    return None if part == 1 else Told(debt.x * debt.x.dtype.type(1 - part), debt.u * (1 - part), debt.degree)
