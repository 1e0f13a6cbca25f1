"""A device that lies: well-formed messages with one false field end no honest device, whatever the protocol."""

from __future__ import annotations

import io
import zlib
from typing import Any

import numpy as np
import pytest
from helpers.contract_worlds import initial, settings_under_loss
from helpers.liars import Liar, lies
from rich.console import Console

from p2pl_async.basics.settings import kind_of
from p2pl_async.device import Observer
from p2pl_async.errors import DeviceFailed
from p2pl_async.experiment import running as experiment
from p2pl_async.experiment.emulation import Emulation
from p2pl_async.link import Link, LinkSettings
from p2pl_async.protocols import PROTOCOLS, Protocol
from p2pl_async.protocols.dgd import DGD
from p2pl_async.protocols.listening import Fresh, Params
from p2pl_async.protocols.max_norm import NoSync
from p2pl_async.report.tables import final_table
from p2pl_async.scenario.scenario import Scenario
from p2pl_async.testing import FixedLearner, complete

N, ROUNDS = 3, 6


def variants(cls: type[Protocol]) -> list[dict[str, Any]]:
    """Return settings under which a protocol reads all fields of its messages."""
    found = [settings_under_loss(cls)]
    if "sync" in cls.model_fields:
        found.append({**found[0], "sync": "none"})
    if "delivery" in cls.model_fields:
        found.append({"delivery": "raw", "sync": "none"})
    return found


def run(protocol: Protocol, liar: int, seed: int) -> tuple[Emulation, list[str]]:
    """Run three devices, one of which lies; return also the metrics that were recorded."""
    measured: list[str] = []
    emulation = Emulation(
        complete(N),
        lambda src, dst: Link(src, dst, LinkSettings.model_validate({"latency": "20 ms"}), seed),
        seed,
        learner=FixedLearner(
            initial(seed)[:N], seconds=[1.0, 1.3, 0.8], gradient=lambda k, w: w - initial(seed)[k], n_samples=[5, 6, 7]
        ),
        rounds=ROUNDS,
        observer=Observer(record=lambda _, metric, value: measured.append(metric)),
    )
    try:
        emulation.run(Liar(inner=protocol, liar=liar, seed=seed, largest=protocol.largest))
    except DeviceFailed as failure:
        if failure.device != liar:  # what it does to itself is its own business
            raise
    return emulation, measured


@pytest.mark.parametrize("cls", PROTOCOLS, ids=kind_of)
def test_no_lie_ends_an_honest_device(cls: type[Protocol]) -> None:
    refused = 0
    for settings in variants(cls):
        for seed in range(4):
            liar = 0 if seed % 3 == 0 else N - 1
            emulation, measured = run(cls.model_validate(settings), liar, zlib.crc32(kind_of(cls).encode()) + seed)
            refused += measured.count("refused") + emulation.trace.malformed
            for device in emulation.devices:
                served = kind_of(cls) == "fedavg" and liar == 0  # by the liar: all that they wait for
                assert served or device.id == liar or device.round >= ROUNDS
    assert refused or cls.model_validate({}).models_per_message == 0


@pytest.mark.parametrize("kind", ["p2pl", "dgd", "sgp", "rasgp", "gossip-learning", "ad-psgd", "fedavg"])
def test_a_bound_on_entries_holds_whatever_is_sent(kind: str) -> None:
    (cls,) = [cls for cls in PROTOCOLS if kind_of(cls) == kind]
    bound = 4.0  # more than any honest device has
    refused = 0
    for seed in range(4):
        emulation, measured = run(cls.model_validate({**settings_under_loss(cls), "largest": bound}), N - 1, seed)
        refused += measured.count("too_large")
        for device in emulation.devices[: N - 1]:
            assert device.params is not None
            assert np.abs(device.params).max() <= bound
    assert refused


def test_a_run_tells_who_moved_others_most_and_what_was_refused_by_cause() -> None:
    result = experiment.run(
        Scenario.model_validate(
            {"devices": {"count": 3}, "topology": "complete", "stop": {"rounds": 3}, "data": {"train_samples": 60},
             "protocol": Liar(inner=DGD(sync=NoSync(), mode=Fresh()), liar=2, seed=4, largest=50.0)}
        )
    )  # fmt: skip
    refused, influence = result.summary["refused"], result.summary["influence"]
    assert refused["too_large"] > 0
    assert refused["unusable"] > 0
    assert influence["device"] == 2
    assert influence["distance"] > influence["median"] > 0
    said = io.StringIO()
    Console(file=said, width=200).print(final_table(result))
    assert "models of device 2 moved others most" in said.getvalue()
    assert "too large" in said.getvalue()


@pytest.mark.parametrize("cls", [cls for cls in PROTOCOLS if kind_of(cls) not in ("local", "fedavg")], ids=kind_of)
def test_the_device_whose_models_are_far_from_the_others_moves_them_most_compressed_or_not(cls) -> None:
    far = initial(0)[:N] * np.array([[1.0], [1.0], [8.0]], np.float32)
    emulation = Emulation(
        complete(N),
        lambda src, dst: Link(src, dst, LinkSettings.model_validate({"latency": "20 ms"}), 0),
        0,
        learner=FixedLearner(far, seconds=[1.0, 1.0, 1.0], gradient=lambda k, w: w - far[k], n_samples=[5, 5, 5]),
        rounds=12,
        observer=Observer(record=lambda *_: None),
    )
    emulation.run(
        cls.model_validate({**settings_under_loss(cls), **({"sync": "none"} if "sync" in cls.model_fields else {})})
    )
    moved = {
        j: sum(device.pulls[j][0] / device.pulls[j][1] for device in emulation.devices if j in device.pulls)
        for j in range(N)
    }
    assert moved[2] > max(moved[0], moved[1]) > 0


def test_every_field_is_lied_about() -> None:
    honest = Params(1, 0, 5, 2, np.ones(4, np.float32))
    changed = {
        name for lie in lies(honest) for name in honest.__slots__ if not np.array_equal(
            getattr(lie, name), getattr(honest, name)
        )
    }  # fmt: skip
    assert changed == set(honest.__slots__)
