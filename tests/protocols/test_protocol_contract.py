"""What every protocol must do, on every topology it can have; a new file in `protocols/` joins by itself.

A protocol that needs a certain topology says so in `ONLY_ON`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import trio

from p2pl_async.basics.randomness import stream
from p2pl_async.basics.settings import kind_of
from p2pl_async.experiment.emulation import Emulation
from p2pl_async.link import Link, LinkSettings
from p2pl_async.protocols import PROTOCOLS, Protocol
from p2pl_async.testing import FixedLearner, complete
from p2pl_async.topology.base import TopologySettings, neighbors
from p2pl_async.topology.kinds import AnyTopology
from p2pl_async.trace import Record

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
    if cls().contract is None or not cls().contract.loss:
        return {}
    if "timeout" in cls.model_fields:
        return {"timeout": "5 s"}
    return {"mode": {"kind": "barrier", "timeout": "1 s"}} if "mode" in cls.model_fields else {}


CASES = [
    pytest.param(cls, topology, id=f"{kind_of(cls)}-{topology}")
    for cls in PROTOCOLS
    for topology in ONLY_ON.get(kind_of(cls), TOPOLOGIES)
]


def initial(seed: int) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).normal(size=(N, 6)).astype(np.float32))


def make(kind: str) -> TopologySettings:
    from pydantic import TypeAdapter

    topology: TopologySettings = TypeAdapter(AnyTopology).validate_python({"kind": kind, **TOPOLOGIES[kind]})
    return topology


def run(
    cls: type[Protocol], topology: str, link: dict[str, Any], *, seed: int = 3, backwards: bool = False
) -> Emulation:
    """Run a protocol with devices of unequal speed; training pulls each model a bit towards its device."""
    settings = settings_under_loss(cls) if link is LOSSY else {}
    random = np.random.default_rng(seed)
    targets = initial(seed)
    emulation = Emulation(
        neighbors(make(topology).build(N, stream(1, "topology"))).outgoing,
        lambda src, dst: Link(src, dst, LinkSettings.model_validate(link), seed),
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
        starts=random.uniform(0, 1, N).tolist(),
    )
    if backwards:
        emulation.devices.reverse()  # the order in which their tasks start
    emulation.run(cls.model_validate(settings))
    return emulation


def spread(params: list[np.ndarray]) -> float:
    return float(np.linalg.norm(np.stack(params) - np.mean(params, axis=0)))


def outcome(emulation: Emulation) -> tuple[str, float, list[bytes]]:
    devices = sorted(emulation.devices, key=lambda device: device.id)
    return emulation.trace.digest(), emulation.clock.now, [device.params.tobytes() for device in devices]


@pytest.mark.parametrize("link", [LOSSLESS, LOSSY], ids=["lossless", "lossy"])
@pytest.mark.parametrize(("cls", "topology"), CASES)
def test_it_ends_and_those_who_talk_agree_more_than_before(cls, topology, link) -> None:
    emulation = run(cls, topology, link)
    if link is LOSSLESS:
        assert all(device.round == ROUNDS for device in emulation.devices)
    params = [device.params for device in emulation.devices]
    assert all(np.isfinite(w).all() for w in params)
    assert all(w.dtype == np.float32 and w.shape == (6,) for w in params)
    if emulation.trace.delivered:
        assert spread(params) < spread(initial(3))


@pytest.mark.parametrize("link", [LOSSLESS, LOSSY], ids=["lossless", "lossy"])
@pytest.mark.parametrize(("cls", "topology"), CASES)
def test_only_the_seed_decides(cls, topology, link) -> None:
    """Neither the order in which tasks start, nor trio's own dice."""
    first = outcome(run(cls, topology, link))
    for dice in (1, 2):
        trio._core._run._r.seed(dice)  # type: ignore[attr-defined]
        assert outcome(run(cls, topology, link, backwards=dice == 2)) == first
    if run(cls, topology, link).trace.counts.sent and link is LOSSY:
        assert outcome(run(cls, topology, link, seed=4))[0] != first[0]


@pytest.mark.parametrize("cls", PROTOCOLS, ids=kind_of)
def test_it_is_described_and_its_name_is_its_own(cls) -> None:
    assert cls.__doc__
    assert cls.__doc__.splitlines()[0].endswith((".", ")."))
    assert [other for other in PROTOCOLS if kind_of(other) == kind_of(cls)] == [cls]
    assert cls().kind == kind_of(cls)


@pytest.mark.parametrize("cls", PROTOCOLS, ids=kind_of)
def test_its_largest_message_is_of_the_size_that_it_says(cls) -> None:
    protocol = cls(sync="none") if "sync" in cls.model_fields else cls()  # which sends whole models
    assert protocol.contract is not None
    assert protocol.models_per_message is not None
    size = 20_000
    records: list[Record] = []
    emulation = Emulation(
        complete(N),
        lambda src, dst: Link(src, dst, LinkSettings(), 0),
        0,
        learner=FixedLearner(list(np.random.default_rng(1).normal(size=(N, size)).astype(np.float32))),
        rounds=3,
        sink=records.append,
    )
    emulation.run(protocol)
    largest = max((record.size for record in records), default=0)
    assert largest / (4 * size) == pytest.approx(protocol.models_per_message, rel=0.05, abs=0.005)


@pytest.mark.parametrize("cls", PROTOCOLS, ids=kind_of)
def test_neighbors_that_send_nonsense_are_refused_and_counted(cls) -> None:
    """Models that aren't finite, of another shape, of another precision: nobody healthy ends or is spoiled."""
    models = [np.full(6, float(k), np.float32) for k in range(5)]
    bad = [np.full(6, np.nan, np.float32), np.ones(5, np.float32), np.ones(6)]
    refused: list[int] = []
    protocol = cls.model_validate(settings_under_loss(cls) | ({"sync": "none"} if "sync" in cls.model_fields else {}))
    emulation = Emulation(
        complete(N),
        lambda src, dst: Link(src, dst, LinkSettings(), 0),
        0,
        learner=FixedLearner(models + bad),
        rounds=ROUNDS,
        record=lambda k, metric, value: refused.append(k) if metric == "refused" else None,
    )
    emulation.run(protocol)
    for k, model in enumerate(models):
        w = emulation.devices[k].params
        assert w.dtype == np.float32
        assert w.shape == model.shape
        assert np.isfinite(w).all()
    if protocol.models_per_message:
        assert refused


@pytest.mark.parametrize("cls", PROTOCOLS, ids=kind_of)
def test_one_device_alone_ends_too(cls) -> None:
    emulation = Emulation(
        [[]],
        lambda src, dst: Link(src, dst, LinkSettings(), 0),
        0,
        learner=FixedLearner(initial(0)[:1]),
        rounds=2,
    )
    emulation.run(cls())
    assert emulation.devices[0].round == 2
