"""Training in virtual time: when jobs land, what is computed together, what a cancelled one leaves."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from p2pl_async.clock import VirtualClock
from p2pl_async.device import Device
from p2pl_async.errors import DeviceFailed, ProtocolError
from p2pl_async.experiment.emulation import Emulation
from p2pl_async.experiment.lookahead import LookaheadLearner
from p2pl_async.hardware.hardware import Hardware
from p2pl_async.link import Link, LinkSettings
from p2pl_async.protocols.base import Protocol

Vector = np.ndarray


class FakeJob:
    """Adds one per epoch or step to frozen parameters."""

    def __init__(self, device: int, w: Vector, epochs: int | None, steps: int | None) -> None:
        self.device = device
        self.steps = epochs or steps or 0
        self.samples = 10 * self.steps
        self.result: Vector | None = None
        self.w = w.copy()
        self.w.flags.writeable = False


class FakeTrainer:
    """Remembers who was computed with whom, and when."""

    layers = (slice(0, 1), slice(1, 2))

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.fails_for: int | None = None

    def n_samples(self, device: int) -> int:
        return 10 + device

    def initial_params(self, device: int) -> Vector:
        return np.full(2, float(device))

    def batches_per_epoch(self, device: int) -> int:
        return 3 + device

    def learning_rate(self, device: int) -> float:
        return 0.5 + device

    def job(
        self,
        device: int,
        w: Vector,
        *,
        epochs: int | None = None,
        steps: int | None = None,
        drift: Vector | None = None,
    ) -> FakeJob:
        return FakeJob(device, w if drift is None else w + drift, epochs, steps)

    def gradient_job(self, device: int, w: Vector) -> FakeJob:
        return FakeJob(device, -w, None, 1)

    def land(self, job: FakeJob) -> None:
        assert job.result is not None

    def compute(self, jobs: Sequence[FakeJob]) -> None:
        self.batches.append([job.device for job in jobs])
        if self.fails_for in self.batches[-1]:
            raise MemoryError("no room")
        for job in jobs:
            job.result = job.w + job.samples / 10


def run(
    n: int,
    body: Callable[[Device], Any],
    seconds: Callable[[int, int], float] = lambda device, samples: samples / 10,
    trainer: FakeTrainer | None = None,
    starts: Sequence[float] | None = None,
) -> tuple[FakeTrainer, Emulation, LookaheadLearner]:
    """Run `body` on n devices; training takes `seconds(device, samples)`, by default a second per epoch."""

    class Ad(Protocol):
        kind: str = "ad"

        async def run(self, device: Device) -> None:
            await body(device)

    trainer = FakeTrainer() if trainer is None else trainer
    clock = VirtualClock()
    learner = LookaheadLearner(clock, trainer, seconds)
    emulation = Emulation(
        [[] for _ in range(n)],
        lambda src, dst: Link(src, dst, LinkSettings(), 0),
        0,
        clock=clock,
        learner=learner,
        hardware=None if starts is None else [Hardware(start=one) for one in starts],
    )
    emulation.run(Ad())
    return trainer, emulation, learner


@given(
    st.lists(st.tuples(st.floats(0, 10), st.lists(st.floats(0, 5), min_size=1, max_size=4)), min_size=1, max_size=5),
)
def test_jobs_land_exactly_at_their_virtual_end(plans) -> None:
    landed: dict[int, list[float]] = {}
    takes = {k: iter(durations) for k, (_, durations) in enumerate(plans)}

    async def body(device: Device) -> None:
        for _ in plans[device.id][1]:
            await device.train(device.initial_params())
            landed.setdefault(device.id, []).append(device.now)

    run(len(plans), body, lambda k, _: next(takes[k]), starts=[start for start, _ in plans])
    for k, (start, durations) in enumerate(plans):
        expected, now = [], start
        for duration in durations:
            now += duration
            expected.append(now)
        assert landed[k] == expected


def test_one_call_computes_all_jobs_registered_by_then() -> None:
    """Devices begin at 0, 1, 2, ... and train 2.5 s: when the first ends, three have begun."""

    async def body(device: Device) -> None:
        w = await device.train(device.initial_params(), epochs=1)
        np.testing.assert_allclose(w, device.id + 1)

    trainer, _, _ = run(6, body, lambda *_: 2.5, starts=[0, 1, 2, 3, 4, 5])
    assert trainer.batches == [[0, 1, 2], [3, 4, 5]]


def test_a_batch_is_in_order_of_device_whatever_the_order_of_tasks() -> None:
    for seed in range(5):
        trio._core._run._r.seed(seed)
        trainer, _, _ = run(12, lambda device: device.train(device.initial_params()))
        assert trainer.batches == [list(range(12))]


def test_a_result_that_is_computed_early_lands_late_all_the_same() -> None:
    seen = {}

    async def body(device: Device) -> None:
        await device.train(np.zeros(2))
        seen[device.id] = device.now

    trainer, _, _ = run(2, body, lambda k, _: [1.0, 7.0][k])
    assert trainer.batches == [[0, 1]]
    assert seen == {0: 1.0, 1: 7.0}


def test_a_cancelled_training_is_dropped() -> None:
    async def body(device: Device) -> None:
        with trio.move_on_after(1.0) as scope:
            await device.train(np.zeros(2), epochs=5)
        assert scope.cancelled_caught == (device.id == 0)
        assert device.now == (1.0 if device.id == 0 else 0.5)
        w = await device.train(np.zeros(2), epochs=1)
        assert w.tolist() == [1, 1]

    trainer, _, learner = run(2, body, lambda k, samples: 0.5 if k else samples / 10)
    # Device 0's first job was computed with device 1's, which needed its result before the other was cancelled.
    assert trainer.batches == [[0, 1], [1], [0]]
    assert learner.samples == 10 * (1 + 5 + 1)

    trainer, emulation, learner = run(1, body)
    assert trainer.batches == [[0]]
    assert learner.samples == 10
    assert emulation.clock.now == 2.0


def test_two_tasks_of_one_device_may_train_at_once() -> None:
    results = []

    async def body(device: Device) -> None:
        async def one(epochs: int) -> None:
            results.append((await device.train(np.zeros(2), epochs=epochs)).tolist())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one, 1)
            nursery.start_soon(one, 2)

    run(1, body)
    assert results == [[1, 1], [2, 2]]


def test_an_exception_while_computing_fails_the_device_that_needed_the_result() -> None:
    trainer = FakeTrainer()
    trainer.fails_for = 3
    with pytest.raises(DeviceFailed, match="device 1 failed at 2 s: MemoryError: no room"):
        run(5, lambda device: device.train(np.zeros(2)), lambda k, _: 2.0 if k == 1 else 3.0, trainer)


def test_inputs_are_frozen_when_training_begins() -> None:
    """The array is overwritten while the training goes on, as a protocol must not do with its own."""

    async def body(device: Device) -> None:
        w = np.zeros(2)

        async def spoil() -> None:
            await trio.sleep(0.5)
            w[:] = 1e9

        async with trio.open_nursery() as nursery:
            nursery.start_soon(spoil)
            assert (await device.train(w)).tolist() == [1, 1]

    run(1, body)


def test_epochs_and_steps_reach_the_trainer_and_only_one_of_them() -> None:
    async def body(device: Device) -> None:
        assert (await device.train(np.zeros(2))).tolist() == [1, 1]
        assert (await device.train(np.zeros(2), epochs=3)).tolist() == [3, 3]
        assert (await device.train(np.zeros(2), steps=4)).tolist() == [4, 4]
        assert device.now == 8
        assert device.trained is not None
        with pytest.raises(ProtocolError, match=r"train\(epochs=1, steps=2\) takes one of the two"):
            await device.train(np.zeros(2), epochs=1, steps=2)

    _, _, learner = run(1, body)
    assert learner.samples == 80


def test_a_gradient_takes_the_time_of_one_step_and_is_not_what_was_trained() -> None:
    async def body(device: Device) -> None:
        assert (await device.gradient(np.array([2.0, 3.0]))).tolist() == [-1, -2]
        assert device.now == 1
        assert device.trained is None

    trainer, _, learner = run(2, body)
    assert trainer.batches == [[0, 1]]
    assert learner.samples == 20


def test_a_drift_reaches_the_trainer() -> None:
    async def body(device: Device) -> None:
        assert (await device.train(np.zeros(2), steps=1, drift=np.array([5.0, 7.0]))).tolist() == [6, 8]

    run(1, body)


def test_a_device_knows_its_samples_layers_and_initial_parameters() -> None:
    async def body(device: Device) -> None:
        assert device.n_samples == 10 + device.id
        assert device.layers == (slice(0, 1), slice(1, 2))
        assert device.learning_rate == 0.5 + device.id
        assert device.batches_per_epoch == 3 + device.id
        assert device.initial_params().tolist() == [device.id] * 2
        assert device.params is not None

    run(3, body)


def test_on_batch_is_called_after_each_batch() -> None:
    calls = []
    clock = VirtualClock()
    trainer = FakeTrainer()
    learner = LookaheadLearner(clock, trainer, lambda *_: 1.0, lambda: calls.append(len(trainer.batches)))

    async def main() -> None:
        for _ in range(3):
            await learner.train(0, np.zeros(2), 1, None)

    trio.run(main, clock=clock)
    assert calls == [1, 2, 3]
    assert math.isclose(clock.now, 3.0)
