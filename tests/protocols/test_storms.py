"""Crashes, restarts, partitions and losses at any instant: what is shared out is conserved, and copies come right."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from helpers.models import start, values
from helpers.sums import transfer_totals

from p2pl_async.compression import Int8, TopK
from p2pl_async.device import Device
from p2pl_async.experiment.emulation import Emulation
from p2pl_async.hardware.downtime import CRASHED, Downtime
from p2pl_async.hardware.hardware import Hardware
from p2pl_async.link import LinkSettings
from p2pl_async.protocols.ad_psgd import ADPSGD
from p2pl_async.protocols.asy_sonata import AsySonata
from p2pl_async.protocols.base import Protocol
from p2pl_async.protocols.choco import Choco
from p2pl_async.protocols.choco_sgp import ChocoSGP
from p2pl_async.protocols.deepsqueeze import DeepSqueeze
from p2pl_async.protocols.dgd import DGD
from p2pl_async.protocols.p2pl import P2PL
from p2pl_async.protocols.quantized_push_sum import QuantizedPushSum
from p2pl_async.protocols.sparse_push import SparsePush
from p2pl_async.testing import FixedLearner, emulate, ring

HALF = TopK(sparsity=0.5)
STORM = 60.0  # s
REPAIRED: dict[str, Any] = {"sync": "none", "delivery": "repaired", "mode": "fresh", "patience": "6 s"}


def storm(
    protocol: Protocol,
    neighbors: list[list[int]],
    seed: int,
    until: float,
    *,
    crashes: bool = True,
    record: Any = None,
) -> tuple[Emulation, list[float]]:
    """Run devices that don't train through a storm; return also the instants of crashes and restarts, in order."""
    n, random = len(neighbors), np.random.default_rng(seed)
    loss, repeat = random.choice([0.0, 0.3, 0.5]), random.choice([0.0, 0.3])
    far = random.random(n) < 0.5
    since, length = random.uniform(5, 25), random.choice([4.0, 12.0, 25.0])
    both = random.random() < 0.6
    down: dict[int, list[tuple[float, float]]] = {k: [] for k in range(n)}
    for k in np.flatnonzero(random.random(n) < 0.5).tolist() if crashes else ():
        at = random.uniform(2, 40)
        down[k] = [(at, at + random.choice([0.5, 5.0, 18.0]))]

    def link(src: int, dst: int) -> LinkSettings:
        cut = far[src] != far[dst] and (both or far[src])
        steps = [["0 s", loss]]
        if cut:
            steps += [[f"{since} s", 1.0], [f"{since + length} s", loss]]
        lossy = {"kind": "schedule", "steps": [*steps, [f"{STORM} s", 0.0]]} if loss or cut else 0
        return LinkSettings.model_validate(
            {
                "latency": {"kind": "uniform", "low": "10 ms", "high": "900 ms"},
                "order": "free",
                "duplicate": repeat,
                "loss": {"kind": "bernoulli", "p": lossy} if lossy else "0 %",
            }
        )

    emulation = emulate(
        protocol,
        neighbors,
        link=link,
        learner=FixedLearner(start(n, seed=seed, size=6), seconds=[0.7 + 0.2 * (k % 4) for k in range(n)]),
        hardware=[Hardware(downtime=Downtime({CRASHED: down[k]})) for k in range(n)],
        seed=seed,
        until=until,
        record=record,
    )
    return emulation, sorted(itertools.chain(*itertools.chain(*down.values())))


class WatchedChoco(ChocoSGP):
    """Tells its devices."""

    devices: Any = None

    async def run(self, device: Device) -> None:
        self.devices[device.id] = device
        await super().run(device)


@pytest.mark.parametrize("compressor", [HALF, Int8()], ids=lambda compressor: str(compressor.kind))
@pytest.mark.parametrize(("neighbors", "seed"), [(ring(2), 2), (ring(3), 3), ([[1], [0, 2], [1]], 1), (ring(3), 2)])
def test_transfers_of_copies_conserve_mass_through_crashes_partitions_and_heals(neighbors, seed, compressor) -> None:
    """Between two crashes or restarts nothing comes or goes, whatever is lost, overtaken, taken back or settled.

    What a device had sent before it crashed arrives within a second and is taken within two, and carries mass too.
    """
    gamma = 0.2
    devices: dict[int, Device] = {}
    seen: list[tuple[float, np.ndarray, float]] = []

    def look(k: int, metric: str, value: float) -> None:
        if metric == "push_weight":
            states = {k: device.state for k, device in devices.items() if device.state is not None}
            seen.append((devices[k].now, *transfer_totals(states, gamma)))

    form = WatchedChoco(**REPAIRED, compressor=compressor, gamma=gamma, devices=devices)
    _, changes = storm(form, neighbors, seed, 60.0, record=look)
    quiet = [found for found in seen if not any(at <= found[0] < at + 2.5 for at in changes)]
    for _, stretch in itertools.groupby(quiet, key=lambda found: sum(at <= found[0] for at in changes)):
        (_, x, u), *others = stretch
        for _, later_x, later_u in others:
            np.testing.assert_allclose(later_x, x, atol=1e-9)
            np.testing.assert_allclose(later_u, u, atol=1e-9)


FORMS: dict[str, tuple[Protocol, float]] = {
    "choco": (Choco(**REPAIRED, compressor=HALF, gamma=0.3), 0.01),
    "choco absolute": (Choco(**REPAIRED | {"delivery": "absolute"}, compressor=HALF, gamma=0.3, resync=5), 0.01),
    "choco-sgp": (ChocoSGP(**REPAIRED, compressor=HALF, gamma=0.3), 0.2),
    "quantized-push-sum": (QuantizedPushSum(**REPAIRED, gamma=0.2), 0.2),
    "sparse-push": (SparsePush(**REPAIRED, compressor=HALF, averaging_rate=0.3), 0.6),
    "deepsqueeze": (DeepSqueeze(**REPAIRED, compressor=HALF, averaging_rate=0.2), 1.0),
    "ad-psgd": (ADPSGD(sync="none"), 0.01),
    "p2pl, cached": (P2PL(sync="none", mode="cache"), 0.01),
    "dgd, cached": (DGD(sync="none", mode={"kind": "cache", "max_age": 5}, on_missing="cache"), 0.01),
    "asy-sonata, cached": (AsySonata(sync="none", mode="cache", patience="6 s"), 0.01),
}
"""Protocols, and how far devices that agree may be apart: transfers and errors that are fed back keep them moving."""


@pytest.mark.parametrize("name", FORMS)
def test_after_a_storm_devices_agree_and_copies_equal_what_they_copy(name: str) -> None:
    form, off = FORMS[name]
    for seed in (1, 2):
        emulation, changes = storm(form, ring(4), seed, 110.0)
        assert changes
        assert np.ptp(values(emulation), axis=0).max() < off
        for device in emulation.devices:
            for j, copy in getattr(replicas_of(device), "of", {}).items():
                np.testing.assert_allclose(copy.x, replicas_of(emulation.devices[j]).own.x, atol=off)


def replicas_of(device: Device) -> Any:
    return device.state[1] if isinstance(device.state, tuple) else device.state
