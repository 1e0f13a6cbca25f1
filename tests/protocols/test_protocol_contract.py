"""What every protocol must do, on every topology it can have; a new file in `protocols/` joins by itself.

`helpers/contract_worlds.py` says which topologies each can have.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from goldens import differences, observe_protocol
from helpers import contract_worlds
from helpers.contract_worlds import (
    CASES,
    LOSSLESS,
    LOSSY,
    ROUNDS,
    N,
    initial,
    observed,
    outcome,
    run,
    settings_under_loss,
)
from helpers.models import model_of
from helpers.recorded import GOLDENS, SAME_MACHINE

from p2pl_async.basics.settings import kind_of
from p2pl_async.device import Observer
from p2pl_async.experiment.emulation import Emulation
from p2pl_async.link import Link, LinkSettings
from p2pl_async.messages import DeviceId, Message, Vector
from p2pl_async.protocols import PROTOCOLS
from p2pl_async.testing import FixedLearner, complete
from p2pl_async.trace import Record
from p2pl_async.transport import emulated
from p2pl_async.transport.wire import SharedBytes, encode_and_read

EVERY_CASE = pytest.mark.parametrize(
    ("cls", "topology"), CASES, ids=[f"{kind_of(cls)}-{topology}" for cls, topology in CASES]
)


class ReadOnly(FixedLearner):
    """Gives vectors that can't change, as learners do that train."""

    def initial_params(self, device: DeviceId) -> Vector:
        return read_only(super().initial_params(device))

    async def train(self, *arguments: Any) -> Vector:
        return read_only(await super().train(*arguments))


def read_only(w: Vector) -> Vector:
    w = w.copy()
    w.flags.writeable = False
    return w


def spread(params: list[Vector]) -> float:
    return float(np.linalg.norm(np.stack(params) - np.mean(params, axis=0)))


@pytest.mark.parametrize("link", [LOSSLESS, LOSSY], ids=["lossless", "lossy"])
@EVERY_CASE
def test_it_ends_in_more_agreement(cls, topology, link) -> None:
    seen = observed(cls, topology, link, backwards=True)
    assert link is LOSSY or seen.rounds == [ROUNDS] * N
    models = [np.frombuffer(one, np.float32) for one in seen.outcome[2]]
    assert len(models) == N
    assert all(np.isfinite(w).all() and w.shape == (6,) for w in models)
    if seen.delivered:
        assert spread(models) < spread(initial(3))


@pytest.mark.parametrize("cls", PROTOCOLS, ids=kind_of)
def test_it_does_what_was_recorded_and_the_order_of_tasks_decides_nothing(cls) -> None:
    """What was recorded began with the first device, and the worlds of the tests above with the last.

    So what is as recorded depends neither on the order in which tasks start nor on trio's own dice. Where it isn't,
    both orders are run, to tell which of the two facts is broken.
    """
    name = f"protocol {kind_of(cls)}"
    found = {name: observe_protocol(cls, backwards=True)}
    if found == {name: GOLDENS[name]}:  # on other machines too, where no product of matrices is in it
        return
    for topology in (topology for case, topology in CASES if case is cls):
        for link in (LOSSLESS, LOSSY):
            orders = [observed(cls, topology, link, backwards=backwards) for backwards in (False, True)]
            assert orders[0].outcome == orders[1].outcome, f"{topology}, {link}"
    if SAME_MACHINE:
        assert differences({name: GOLDENS[name]}, found) == []


@pytest.mark.parametrize("cls", PROTOCOLS, ids=kind_of)
def test_sending_a_model_copies_none(cls, monkeypatch) -> None:
    copied: list[Message] = []

    def encode(message: Message, sender: int, number: int, sent: float) -> tuple[bytes | SharedBytes, Message | None]:
        encoded, read = encode_and_read(message, sender, number, sent)
        arrays = [getattr(message, name) for name in message.__slots__ if name in dir(message)]
        if type(encoded) is bytes and any(isinstance(array, np.ndarray) and array.size >= 6 for array in arrays):
            copied.append(message)
        return encoded, read

    monkeypatch.setattr(emulated, "encode_and_read", encode)
    monkeypatch.setattr(contract_worlds, "FixedLearner", ReadOnly)
    topology = next(topology for case, topology in CASES if case is cls)
    run(cls, topology, LOSSLESS)
    assert copied == []


@pytest.mark.parametrize("cls", PROTOCOLS, ids=kind_of)
def test_the_seed_of_lossy_links_changes_what_happens(cls) -> None:
    topology = next(topology for case, topology in CASES if case is cls)
    before = observed(cls, topology, LOSSY, backwards=True)
    if before.sent:
        assert outcome(run(cls, topology, LOSSY, seed=4))[0] != before.outcome[0]


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
        observer=Observer(sink=records.append),
    )
    emulation.run(protocol)
    largest = max((record.size for record in records), default=0)
    assert largest / (4 * size) == pytest.approx(protocol.models_per_message, rel=0.05, abs=0.005)


@pytest.mark.parametrize("cls", PROTOCOLS, ids=kind_of)
def test_neighbors_that_send_nonsense_are_refused_and_counted(cls) -> None:
    """Models that aren't finite, of another shape, of another precision: nobody healthy ends or is spoiled."""
    models: list[Vector] = [np.full(6, float(k), np.float32) for k in range(5)]
    bad: list[Vector] = [np.full(6, np.nan, np.float32), np.ones(5, np.float32), np.ones(6)]
    refused: list[int] = []
    protocol = cls.model_validate(settings_under_loss(cls) | ({"sync": "none"} if "sync" in cls.model_fields else {}))
    emulation = Emulation(
        complete(N),
        lambda src, dst: Link(src, dst, LinkSettings(), 0),
        0,
        learner=FixedLearner(models + bad),
        rounds=ROUNDS,
        observer=Observer(record=lambda k, metric, value: refused.append(k) if metric == "refused" else None),
    )
    emulation.run(protocol)
    for k, model in enumerate(models):
        w = model_of(emulation.devices[k])
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
