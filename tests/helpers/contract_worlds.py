"""The worlds of the protocol contract: every protocol on every topology it can have, with and without losses.

A protocol that needs a certain topology says so in `ONLY_ON`.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
import trio
from pydantic import TypeAdapter

from p2pl_async.basics.randomness import stream
from p2pl_async.basics.settings import kind_of
from p2pl_async.experiment.emulation import Emulation
from p2pl_async.hardware.hardware import Hardware
from p2pl_async.link import Link, LinkSettings
from p2pl_async.messages import Vector
from p2pl_async.protocols import PROTOCOLS, Protocol
from p2pl_async.testing import FixedLearner
from p2pl_async.topology.base import TopologySettings, neighbors
from p2pl_async.topology.kinds import AnyTopology

N = 8
ROUNDS = 6
TOPOLOGIES: dict[str, dict[str, Any]] = {
    "complete": {},
    "ring": {},
    "directed-ring": {},
    "path": {},
    "star": {},
    "grid": {"rows": 2, "columns": 4},
    "hypercube": {},
    "exponential": {},
    "erdos-renyi": {"p": 0.4},
    "random-geometric": {"radius": 0.6},
    "one-peer-exponential": {},  # these change with each round
    "random-matchings": {},
}
LASTING = [kind for kind in TOPOLOGIES if kind not in ("one-peer-exponential", "random-matchings")]
ONLY_ON = {
    "fedavg": ["star", "complete"],  # its server needs a link to everybody
    # Every neighbor has to hear every difference; over one-way links CHOCO's mean drifts.
    "choco": [kind for kind in LASTING if kind not in ("directed-ring", "exponential")],
    "choco-sgp": LASTING,
    "quantized-push-sum": LASTING,
    # As many neighbors for everyone.
    "deepsqueeze": [
        kind for kind in TOPOLOGIES if kind not in ("path", "star", "grid", "erdos-renyi", "random-geometric")
    ],
}
SETTINGS_UNDER_LOSS: dict[str, dict[str, Any]] = {
    "asy-sonata": {},
    "sparse-push": {"delivery": "repaired", "mode": "fresh"},
    "deepsqueeze": {"delivery": "repaired", "mode": "fresh"},
    "choco": {"delivery": "repaired", "mode": "fresh"},
    "choco-sgp": {"delivery": "repaired", "mode": "fresh"},
    "quantized-push-sum": {"delivery": "repaired", "mode": "fresh", "gamma": 0.1},
}
"""Where waiting no longer than a timeout isn't enough."""

SYNCHRONIZED = ("path", "directed-ring", "random-matchings")
"""On these every protocol begins with the synchronization, which is the same for all; P2PL does on every topology."""

LOSSLESS = {"latency": "20 ms"}
LOSSY = {
    "latency": {"kind": "uniform", "low": "10 ms", "high": "400 ms"},
    "loss": {"kind": "gilbert-elliott", "good": "2 s", "bad": "500 ms"},
    "order": "free",
    "duplicate": 0.2,
}


def settings_under_loss(cls: type[Protocol]) -> dict[str, Any]:
    """Return settings with which a protocol waits for no lost message."""
    if kind_of(cls) in SETTINGS_UNDER_LOSS:
        return SETTINGS_UNDER_LOSS[kind_of(cls)]
    contract = cls.model_validate({}).contract
    if contract is None or not contract.loss:
        return {}
    if "timeout" in cls.model_fields:
        return {"timeout": "5 s"}
    return {"mode": {"kind": "barrier", "timeout": "1 s"}} if "mode" in cls.model_fields else {}


CASES = [(cls, topology) for cls in PROTOCOLS for topology in ONLY_ON.get(kind_of(cls), TOPOLOGIES)]
"""Every protocol, on every topology that it can have."""


def initial(seed: int) -> list[Vector]:
    """Draw the initial model of each device, (6,)."""
    return list(np.random.default_rng(seed).normal(size=(N, 6)).astype(np.float32))


def make(kind: str) -> TopologySettings:
    """Return the settings of one of `TOPOLOGIES`."""
    topology: TopologySettings = TypeAdapter(AnyTopology).validate_python({"kind": kind, **TOPOLOGIES[kind]})
    return topology


def run(
    cls: type[Protocol],
    topology: str,
    link: dict[str, Any],
    *,
    seed: int = 3,
    backwards: bool = False,
    settings: dict[str, Any] | None = None,
) -> Emulation:
    """Run a protocol with devices of unequal speed; training pulls each model a bit towards its device."""
    if settings is None:
        settings = dict(settings_under_loss(cls)) if link is LOSSY else {}
        if "sync" in cls.model_fields and topology not in SYNCHRONIZED and kind_of(cls) != "p2pl":
            settings["sync"] = "none"
    random = np.random.default_rng(seed)
    targets = initial(seed)
    of_links = LinkSettings.model_validate(link)
    emulation = Emulation(
        neighbors(make(topology).build(N, stream(1, "topology"))).outgoing,
        lambda src, dst: Link(src, dst, of_links, seed),
        seed,
        neighborhood=make(topology).neighborhood(N, stream(1, "topology")),
        learner=FixedLearner(
            initial(seed),
            seconds=random.lognormal(0, 0.4, N).tolist(),
            gradient=lambda k, w: w - targets[k],
            learning_rate=0.01,
            n_samples=random.integers(1, 50, N).tolist(),
        ),
        rounds=ROUNDS,
        hardware=[Hardware(start=start) for start in random.uniform(0, 1, N).tolist()],
    )
    if backwards:
        emulation.devices.reverse()  # the order in which their tasks start
    emulation.run(cls.model_validate(settings))
    return emulation


class Observed(NamedTuple):
    """What is seen of a run: counts of messages, the rounds of each device, and the outcome."""

    sent: int
    delivered: int
    rounds: list[int]
    outcome: tuple[str, float, list[bytes]]


@functools.cache
def _observed(cls: type[Protocol], topology: str, lossy: bool, backwards: bool) -> Observed:
    trio._core._run._r.seed(2 if backwards else 1)
    emulation = run(cls, topology, LOSSY if lossy else LOSSLESS, backwards=backwards)
    rounds = [device.round for device in emulation.devices]
    return Observed(emulation.trace.sent, emulation.trace.delivered, rounds, outcome(emulation))


def observed(cls: type[Protocol], topology: str, link: dict[str, Any], *, backwards: bool = False) -> Observed:
    """Return what is seen of a protocol's run with its usual settings; each is run once in a process.

    Args:
        cls: the protocol.
        topology: one of `TOPOLOGIES`.
        link: `LOSSLESS` or `LOSSY`.
        backwards: whether tasks start in the opposite order, and trio throws its own dice in another way.
    """
    return _observed(cls, topology, link is LOSSY, backwards)


def outcome(emulation: Emulation) -> tuple[str, float, list[bytes]]:
    """Return the digest of the trace, the time of the end, and the bytes of every model, in order of device."""
    devices = sorted(emulation.devices, key=lambda device: device.id)
    return (
        emulation.trace.digest(),
        emulation.clock.now,
        [device.params.tobytes() for device in devices if device.params is not None],
    )
