"""Averaging with neighbors: the step that DGD, CTA, ATC and their relatives share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from p2pl_async.messages import DeviceId, Vector
from p2pl_async.protocols.base import AVERAGED, Contract, Protocol
from p2pl_async.protocols.listening import Barrier, Mode, Params, Received, waiting
from p2pl_async.protocols.max_norm import MaxNormSync, Sync
from p2pl_async.protocols.mixing import OnMissing, Peer, WeightRule, is_finite, mix, row, unsound, without_missing


def average(
    received: Received,
    w: Vector,
    heard: Mapping[DeviceId, Params],
    rule: WeightRule,
    on_missing: OnMissing,
    *,
    stepped: Vector | None = None,
) -> Vector:
    """Return this device's model averaged with those heard: one row of the mixing matrix.

    Models that aren't finite are refused, counted, and left out. Records how many were mixed, how old they were, and
    the lead over the slowest neighbor.

    Args:
        received: messages that the device received.
        w: its model, (n_params,).
        heard: neighbor -> its message.
        rule: how mixing weights are chosen.
        on_missing: where the weight of a neighbor not heard goes; "cache" mixes its newest copy instead.
        stepped: `w` after a local step, (n_params,); the step is added to the mean.
    """
    return averaged(received, w, heard, rule, on_missing, stepped)[0]


def averaged(
    received: Received,
    w: Vector,
    heard: Mapping[DeviceId, Params],
    rule: WeightRule,
    on_missing: OnMissing,
    stepped: Vector | None = None,
) -> tuple[Vector, float]:
    """Return the average (see `average`), and the weight that the device's own model had in it."""
    device = received.device
    if on_missing == "cache":
        heard = {**{j: received.copies[j] for j in device.in_neighbors if j in received.copies}, **heard}
    device.record_mix(heard)
    device.record("lead", received.lead())
    mixed, weights = _mean(received, w, heard, rule, on_missing, stepped)
    if not is_finite(mixed) and is_finite(
        w if stepped is None else stepped
    ):  # checking the sum alone is cheaper than checking each term
        while not is_finite(mixed) and (j := unsound({i: message.w for i, message in heard.items()})) is not None:
            received.refuse(j)
            heard = {i: message for i, message in heard.items() if i != j}
            mixed, weights = _mean(received, w, heard, rule, on_missing, stepped)
    device.mixed((j, weight) for j, weight in weights.items() if j != device.id)
    device.used(heard.values())
    return mixed, weights[device.id]


def _mean(
    received: Received,
    w: Vector,
    heard: Mapping[DeviceId, Params],
    rule: WeightRule,
    on_missing: OnMissing,
    stepped: Vector | None,
) -> tuple[Vector, Mapping[DeviceId, float]]:
    device = received.device
    peers = received.peers(heard)
    full = row(rule, device.id, Peer(device.n_samples, len(peers)), peers)
    weights = without_missing(full, device.id, heard, on_missing)
    models = {j: message.w for j, message in heard.items()}
    return mix(w, models, weights, device.id, stepped=stepped), weights


class Averaging(Protocol):
    """Settings of protocols that average whole models with all neighbors, once per local step."""

    sync: Sync = MaxNormSync()
    weights: WeightRule = Field(
        default="metropolis",
        description="Mixing weights: Metropolis-Hastings (devices count alike, or by dataset size), uniform, dataset "
        "size, or relative dataset size",
    )
    mode: Mode = Field(default=Barrier(), description="Which neighbors' messages a mixing step waits for")
    on_missing: OnMissing = Field(
        default="self",
        description="Where the weight of a neighbor not heard goes: to this device, to all, or its old copy stands in",
    )

    models_per_message: ClassVar[float] = 1
    averages: ClassVar[bool] = True

    @property
    def contract(self) -> Contract:
        """State; Metropolis-Hastings weights preserve the mean of all models only on two-way links."""
        one_way = {
            "one_way": "Metropolis-Hastings weights are balanced on two-way links only: the mean of models drifts, and "
            "some devices count for more",
            "repair": 'use protocol "sgp" or "rasgp", made for one-way links, or write weights = "uniform"',
        }
        return waiting(replace(AVERAGED, **one_way) if self.weights.startswith("metropolis") else AVERAGED, self.mode)

    def tell(self, received: Received, w: Vector) -> None:
        """Send this round's model to all neighbors."""
        device = received.device
        device.broadcast(Params(device.round, 0, device.n_samples, received.degree, w))

    async def mix(self, received: Received, w: Vector, *, stepped: Vector | None = None) -> Vector:
        """Listen as the mode says; return `w` averaged with the neighbors' models, plus the step to `stepped`."""
        heard = await self.mode.listen(received, (received.device.round, 0))
        return average(received, w, heard, self.weights, self.on_missing, stepped=stepped)
