"""The trainer against a plain torch.optim.SGD loop, and what batching must not change."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import nn

from p2pl_async.basics.randomness import stream
from p2pl_async.errors import ProtocolError, ScenarioError
from p2pl_async.learning import group_size, networks
from p2pl_async.learning.data import Dataset
from p2pl_async.learning.dense import DenseNetwork
from p2pl_async.learning.job import Job
from p2pl_async.learning.models import LeNet, Mlp, Model, Softmax
from p2pl_async.learning.settings import Cosine, Inverse, Step, TrainSettings
from p2pl_async.learning.trainer import Trainer
from p2pl_async.messages import Vector

SEED = 3
SHAPE = (4, 4)
CLASSES = 3


def make_data(samples: int = 120, shape: tuple[int, ...] = SHAPE) -> Dataset:
    random = np.random.default_rng(0)
    centers = random.normal(size=(CLASSES, *shape))
    y = random.integers(CLASSES, size=samples + 30)
    x = (centers[y] + 0.5 * random.normal(size=(samples + 30, *shape))).astype(np.float32)
    return Dataset("blobs", x[30:], y[30:], x[:30], y[:30], CLASSES)


DATA = make_data()


def parts_of(sizes: list[int]) -> list[NDArray[np.int64]]:
    return np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])


def make(sizes: list[int], model: Model | None = None, *, subset: int = 0, **train: Any) -> Trainer:
    model = model or Mlp(hidden=(8,))
    options = {"learning_rate": 0.1, "batch_size": 4, "precision": "float64"} | train
    return Trainer(DATA, parts_of(sizes), model, TrainSettings(**options), SEED, subset=subset)


def train_once(trainer: Trainer, device: int, w: Vector, **how: Any) -> Vector:
    job = trainer.job(device, w, **how)
    trainer.compute([job])
    return result_of(job)


def gradient_once(trainer: Trainer, device: int, w: Vector) -> Vector:
    job = trainer.gradient_job(device, w)
    trainer.compute([job])
    return result_of(job)


def result_of(job: Job) -> Vector:
    assert job.result is not None
    return job.result


def plain_sgd(
    model: Model,
    w: Vector,
    part: NDArray[np.int64],
    device: int,
    epochs: int,
    *,
    batch_size: int = 4,
    clip: float | None = None,
    loss: str = "cross-entropy",
    rate_factors: list[float] | None = None,
    **options: Any,
) -> Vector:
    """What one device does when written as everybody writes it."""
    module = model.build(SHAPE, CLASSES).double()
    nn.utils.vector_to_parameters(torch.tensor(w), module.parameters())
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, **options)
    random = stream(SEED, "batches", device)
    for epoch in range(epochs):
        optimizer.param_groups[0]["lr"] = 0.1 * (rate_factors[epoch] if rate_factors else 1)
        order = random.permutation(part)
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            optimizer.zero_grad()
            x, y = torch.tensor(DATA.x_train[rows]).double(), torch.tensor(DATA.y_train[rows])
            if loss == "squared":
                (0.5 * (module(x) - nn.functional.one_hot(y, CLASSES)).square().sum(1).mean()).backward()
            else:
                nn.functional.cross_entropy(module(x), y).backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(module.parameters(), clip)
            optimizer.step()
    return np.asarray(nn.utils.parameters_to_vector(module.parameters()).detach().numpy())


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Keep torch from waiting for cores that other tests use: these computations are tiny."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Convolution(Model):
    """A convolutional network; a CPU trains a wide one device at a time."""

    kind: str = "convolution"
    channels: int = 2

    def build(self, shape: tuple[int, ...], n_classes: int) -> nn.Module:
        return nn.Sequential(
            nn.Unflatten(1, (1, shape[0])),
            nn.Conv2d(1, self.channels, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(4 * self.channels, n_classes),
        )


class Temperature(nn.Module):
    """Divides by a scalar parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(0.7))
        self.unused = nn.Parameter(torch.zeros(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / self.value


class Normalized(Model):
    """A network that no hand-written backward pass covers."""

    kind: str = "normalized"

    def build(self, shape: tuple[int, ...], n_classes: int) -> nn.Module:
        width = math.prod(shape)
        layers = [nn.Flatten(), nn.Linear(width, 5), nn.LayerNorm(5), nn.GELU(), nn.Linear(5, n_classes)]
        return nn.Sequential(*layers, Temperature())


MODELS: list[tuple[Model, type[Any]]] = [
    (Softmax(), DenseNetwork),
    (Mlp(hidden=(8,)), DenseNetwork),
    (Mlp(hidden=(8, 6), activation="tanh"), DenseNetwork),
    (Normalized(), networks.Vmapped),
    (Convolution(), networks.Vmapped),
    (Convolution(channels=64), networks.ModuleItself),
]


@pytest.mark.parametrize(("model", "network"), MODELS, ids=lambda value: getattr(value, "kind", ""))
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"momentum": 0.9},
        {"momentum": 0.9, "nesterov": True},
        {"weight_decay": 0.1},
        {"clip": 0.2},
        {"loss": "squared"},
        {"momentum": 0.5, "nesterov": True, "weight_decay": 0.1, "clip": 0.2},
    ],
    ids=" ".join,
)
def test_one_device_is_plain_sgd(model: Model, network: type[Any], options: dict[str, Any]) -> None:
    trainer = make([10, 11], model, **options)
    assert type(trainer.engine.network) is network
    w = trainer.initial_params(1)
    expected = plain_sgd(model, w, parts_of([10, 11])[1], 1, 2, **options)
    np.testing.assert_allclose(train_once(trainer, 1, w, epochs=2), expected, atol=1e-10)


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        (Step(every=2, by=0.5), [1, 1, 0.5, 0.5]),
        (Cosine(epochs=2, final=0.1), [1, 0.55, 0.1, 0.1]),
        (Inverse(decay=0.5), [1, 1 / 1.5, 1 / 2, 1 / 2.5]),
    ],
)
def test_a_schedule_counts_the_devices_own_epochs_over_its_jobs(schedule: Any, factors: list[float]) -> None:
    trainer = make([10, 11], schedule=schedule)
    w = trainer.initial_params(0)
    expected = plain_sgd(Mlp(hidden=(8,)), w, parts_of([10, 11])[0], 0, 4, rate_factors=factors)
    for _ in range(4):
        # The other device is ahead: two learning rates in one batch.
        jobs = [trainer.job(0, w, epochs=1), trainer.job(1, trainer.initial_params(1), epochs=2)]
        trainer.compute(jobs)
        w = result_of(jobs[0])
    np.testing.assert_allclose(w, expected, atol=1e-10)


def test_momentum_is_kept_across_jobs_or_reset() -> None:
    part = parts_of([10, 11])[0]
    together = plain_sgd(Mlp(hidden=(8,)), make([10, 11]).initial_params(0), part, 0, 2, momentum=0.9)
    ends = {}
    for choice in ("keep", "reset"):
        trainer = make([10, 11], momentum=0.9, momentum_across_rounds=choice)
        w = train_once(trainer, 0, trainer.initial_params(0), epochs=1)
        ends[choice] = train_once(trainer, 0, w, epochs=1)
    np.testing.assert_allclose(ends["keep"], together, atol=1e-10)
    assert np.abs(ends["reset"] - together).max() > 1e-3


def test_kept_momentum_passes_between_jobs_of_a_device_computed_together() -> None:
    one, other = (make([10], momentum=0.9, momentum_across_rounds="keep") for _ in range(2))
    w = one.initial_params(0)
    jobs = [one.job(0, w, epochs=1) for _ in range(2)]
    one.compute(list(reversed(jobs)))
    np.testing.assert_array_equal(train_once(other, 0, w, epochs=1), result_of(jobs[0]))
    np.testing.assert_array_equal(train_once(other, 0, w, epochs=1), result_of(jobs[1]))


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 13), min_size=2, max_size=9),
    model=st.sampled_from([model for model, _ in MODELS]),
    steps=st.lists(st.integers(1, 7), min_size=9, max_size=9),
    options=st.fixed_dictionaries(
        {"batch_size": st.integers(1, 6)},
        optional={
            "momentum": st.sampled_from([0.0, 0.9]),
            "weight_decay": st.sampled_from([0.0, 0.1]),
            "clip": st.sampled_from([None, 0.3]),
            "loss": st.sampled_from(["cross-entropy", "squared"]),
            "schedule": st.sampled_from([Inverse(decay=0.5), Step(every=1, by=0.5)]),
        },
    ),
    drifting=st.sets(st.integers(0, 8)),
    order=st.randoms(use_true_random=False),
)
def test_batched_is_one_at_a_time_in_any_order(
    sizes: list[int], model: Model, steps: list[int], options: dict[str, Any], drifting: set[int], order: Any
) -> None:
    batched, single = make(sizes, model, **options), make(sizes, model, **options)
    devices = range(len(sizes))
    w = [batched.initial_params(device) for device in devices]
    drift = {device: 0.01 * batched.initial_params(device) for device in devices if device in drifting}
    for _ in range(2):
        jobs = [batched.job(device, w[device], steps=steps[device], drift=drift.get(device)) for device in devices]
        jobs += [batched.gradient_job(device, w[device]) for device in devices]
        shuffled = list(jobs)
        order.shuffle(shuffled)
        batched.compute(shuffled)
        alone = [
            train_once(single, device, w[device], steps=steps[device], drift=drift.get(device)) for device in devices
        ]
        gradients = [gradient_once(single, device, w[device]) for device in devices]
        np.testing.assert_allclose([result_of(job) for job in jobs], alone + gradients, atol=1e-9)
        w = alone


def test_devices_beyond_one_group_are_trained_as_well() -> None:
    trainer, single = make([3] * 20), make([3] * 20)
    trainer.engine.group = 6
    w = [trainer.initial_params(device) for device in range(20)]
    jobs = [trainer.job(device, w[device], epochs=2) for device in range(20)]
    trainer.compute(jobs)
    alone = [train_once(single, device, w[device], epochs=2) for device in range(20)]
    np.testing.assert_allclose([result_of(job) for job in jobs], alone, atol=1e-10)
    assert (trainer.jobs, trainer.batches) == (20, 1)
    assert (single.jobs, single.batches) == (20, 20)
    assert trainer.training_seconds > 0


def test_an_epoch_visits_every_sample_once_and_the_next_one_in_another_order() -> None:
    trainer = make([10], batch_size=4)
    job = trainer.job(0, trainer.initial_params(0), epochs=2)
    assert job.samples == 20
    assert trainer.batches_per_epoch(0) == 3
    assert job._sizes is not None
    assert job._batches is not None
    assert job._sizes.tolist() == [4, 4, 2, 4, 4, 2]
    rows = [batch[:size].tolist() for batch, size in zip(job._batches, job._sizes, strict=True)]
    epochs = [[row for batch in epoch for row in batch] for epoch in (rows[:3], rows[3:])]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(10))
    assert epochs[0] != epochs[1]


def test_steps_continue_through_the_epochs() -> None:
    by_steps, by_epochs = make([10]), make([10])
    w = by_steps.initial_params(0)
    for steps in (2, 3, 1):
        w = train_once(by_steps, 0, w, steps=steps)
    np.testing.assert_allclose(w, train_once(by_epochs, 0, by_epochs.initial_params(0), epochs=2), atol=1e-12)


def test_steps_charge_the_samples_of_their_batches() -> None:
    trainer = make([10], batch_size=4)
    w = trainer.initial_params(0)
    assert [trainer.job(0, w, steps=steps).samples for steps in (1, 2, 4)] == [4, 6, 14]


@pytest.mark.parametrize(
    "options",
    [{}, {"weight_decay": 0.1}, {"clip": 0.2}, {"loss": "squared"}, {"momentum": 0.9, "nesterov": True}],
    ids=" ".join,
)
@pytest.mark.parametrize("model", [model for model, _ in MODELS], ids=lambda model: model.kind)
def test_a_gradient_is_what_a_step_without_momentum_descends_along(model: Model, options: dict[str, Any]) -> None:
    plain = {key: value for key, value in options.items() if key not in ("momentum", "nesterov")}
    trainer, other = make([10, 11], model, **options), make([10, 11], model, **plain)
    w = trainer.initial_params(1)
    for _ in range(4):  # the next batch each time, the short one of the epoch too
        stepped = train_once(other, 1, w, steps=1)
        gradient = gradient_once(trainer, 1, w)
        np.testing.assert_allclose(w - 0.1 * gradient, stepped, atol=1e-10)
        assert not gradient.flags.writeable
        w = stepped


def test_a_gradient_is_charged_one_batch_and_moves_the_order_on() -> None:
    trainer = make([10], batch_size=4)
    w = trainer.initial_params(0)
    assert [trainer.gradient_job(0, w).samples for _ in range(4)] == [4, 4, 2, 4]
    assert trainer.job(0, w, steps=2).samples == 6


def test_a_gradient_leaves_kept_momentum_alone() -> None:
    ends = []
    for look in (False, True):
        trainer = make([4], momentum=0.9, momentum_across_rounds="keep", batch_size="all")
        w = train_once(trainer, 0, trainer.initial_params(0), steps=2)
        if look:
            gradient_once(trainer, 0, w)
        ends.append(train_once(trainer, 0, w, steps=2))
    np.testing.assert_array_equal(ends[0], ends[1])


def test_a_drift_is_added_after_every_step() -> None:
    trainer, other = make([10, 7], momentum=0.9), make([10, 7], momentum=0.9, momentum_across_rounds="keep")
    w = trainer.initial_params(0)
    drift = np.linspace(-0.01, 0.02, trainer.n_params)
    expected = w
    for _ in range(5):
        expected = train_once(other, 0, expected, steps=1) + drift
    np.testing.assert_allclose(train_once(trainer, 0, w, steps=5, drift=drift), expected, atol=1e-12)


def test_changing_a_drift_after_registering_changes_nothing() -> None:
    trainer, other = make([10]), make([10])
    w, drift = trainer.initial_params(0), np.full(trainer.n_params, 0.1)
    expected = train_once(other, 0, w, epochs=1, drift=drift)
    job = trainer.job(0, w, epochs=1, drift=drift)
    drift[:] = 0
    trainer.compute([job])
    np.testing.assert_array_equal(result_of(job), expected)


def test_the_whole_data_is_one_batch() -> None:
    trainer, plain = make([10, 3, 7], batch_size="all"), make([10, 3, 7], batch_size=10)
    w = [trainer.initial_params(device) for device in range(3)]
    jobs = [trainer.job(device, w[device], epochs=3) for device in range(3)]
    assert [(job.steps, job.samples) for job in jobs] == [(3, 30), (3, 9), (3, 21)]
    trainer.compute(jobs)
    for device in range(3):
        np.testing.assert_allclose(result_of(jobs[device]), train_once(plain, device, w[device], epochs=3), atol=1e-12)
    np.testing.assert_array_equal(gradient_once(trainer, 0, w[0]), gradient_once(trainer, 0, w[0]))


def test_wide_batches_make_small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(group_size._BATCH_BYTES, "cpu", 5 * 4 * 16 * 8)
    assert make([40] * 9, batch_size=4).engine.group == 5
    assert make([40] * 9, batch_size=2).engine.group == 10


def test_the_learning_rate_is_that_of_the_next_step() -> None:
    trainer = make([10], schedule=Step(every=2, by=0.5))
    rates = []
    for _ in range(9):
        rates.append(trainer.learning_rate(0))
        train_once(trainer, 0, trainer.initial_params(0), steps=1)
    assert rates == [0.1] * 6 + [0.05] * 3


def test_a_batch_larger_than_a_devices_data_is_all_of_it() -> None:
    trainer = make([3, 9], batch_size=100)
    assert trainer.job(0, trainer.initial_params(0), epochs=2).samples == 6


def test_changing_parameters_after_registering_changes_nothing() -> None:
    trainer, other = make([10]), make([10])
    w = np.array(trainer.initial_params(0))
    view = w[:]
    view.setflags(write=False)
    expected = train_once(other, 0, w, epochs=1)
    job = trainer.job(0, view, epochs=1)
    w[:] = 0
    trainer.compute([job])
    np.testing.assert_array_equal(result_of(job), expected)


def test_results_are_read_only_arrays_of_their_own() -> None:
    trainer = make([10] * 3)
    jobs = [trainer.job(device, trainer.initial_params(device), epochs=1) for device in range(3)]
    trainer.compute(jobs)
    for job in jobs:
        assert result_of(job).base is None
        assert not result_of(job).flags.writeable
    first = np.array(result_of(jobs[0]))
    trainer.compute([trainer.job(0, result_of(jobs[0]), epochs=1)])
    np.testing.assert_array_equal(result_of(jobs[0]), first)


def test_a_job_is_computed_once() -> None:
    trainer = make([10])
    job = trainer.job(0, trainer.initial_params(0), epochs=1)
    trainer.compute([job])
    result = job.result
    trainer.compute([job])
    assert job.result is result
    assert trainer.jobs == trainer.batches == 1


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_the_same_run_twice_gives_the_same_bits(precision: Any) -> None:
    ends = []
    for _ in range(2):
        options = TrainSettings(momentum=0.9, batch_size=4, precision=precision)
        trainer = Trainer(DATA, parts_of([7, 20, 9]), Mlp(hidden=(16,)), options, SEED)
        jobs = [trainer.job(device, trainer.initial_params(device), epochs=2) for device in range(3)]
        trainer.compute(jobs)
        ends.append([result_of(job) for job in jobs])
        assert ends[0][0].dtype == trainer.initial_params(0).dtype == precision
    np.testing.assert_array_equal(np.concatenate(ends[0]), np.concatenate(ends[1]))


@pytest.mark.skipif("BLAS_INFO=mkl" not in torch.__config__.show(), reason="other BLAS libraries promise less")
@pytest.mark.parametrize(
    "model", [Mlp(hidden=(30, 20)), Normalized(), Convolution(), Convolution(channels=64)], ids=lambda model: model.kind
)
@pytest.mark.parametrize("train", [{}, {"momentum": 0.9}, {"schedule": Step(every=1, by=0.5)}], ids=" ".join)
def test_bits_do_not_depend_on_what_is_computed_together(model: Model, train: dict[str, Any]) -> None:
    ends = []
    for group, together in ((64, 9), (64, 1), (64, 2), (4, 9), (3, 5)):
        options = TrainSettings(batch_size=7, **train)
        trainer = Trainer(DATA, parts_of([5, 12, 20, 7, 8, 3, 25, 19, 21]), model, options, SEED)
        trainer.engine.group = min(group, trainer.engine.group)
        w = [trainer.initial_params(device) for device in range(9)]
        jobs = [trainer.job(device, w[device], steps=3 + device % 4) for device in range(9)]
        jobs += [trainer.job(device, w[device], steps=2, drift=w[0] if device % 3 else None) for device in range(9)]
        jobs += [trainer.gradient_job(device, w[device]) for device in range(9)]
        for start in range(0, len(jobs), together):
            trainer.compute(jobs[start : start + together])
        ends.append(np.stack([result_of(job) for job in jobs]))
    for other in ends[1:]:
        np.testing.assert_array_equal(other, ends[0])


def test_initial_parameters_differ_by_device_and_seed_and_leave_torch_alone() -> None:
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    trainer = make([5, 5])
    first, second = trainer.initial_params(0), trainer.initial_params(1)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert np.abs(first - second).max() > 0.01
    torch.manual_seed(6)
    np.testing.assert_array_equal(trainer.initial_params(0), first)
    other = Trainer(DATA, parts_of([5, 5]), Mlp(hidden=(8,)), TrainSettings(), SEED + 1)
    assert np.abs(other.initial_params(0) - first).max() > 0.01


def test_common_init_starts_all_devices_alike() -> None:
    trainer = make([5, 5], Mlp(hidden=(8,), common_init=True))
    np.testing.assert_array_equal(trainer.initial_params(0), trainer.initial_params(1))


def test_layers_are_slices_of_the_flat_vector() -> None:
    trainer = make([5], Mlp(hidden=(8,)))
    assert trainer.n_params == 16 * 8 + 8 + 8 * 3 + 3
    lengths = [part.stop - part.start for part in trainer.layers]
    assert lengths == [128, 8, 24, 3]
    assert trainer.n_samples(0) == 5


@pytest.mark.parametrize("kind", ["cross-entropy", "squared"])
@pytest.mark.parametrize("model", [model for model, _ in MODELS], ids=lambda model: model.kind)
def test_scores_are_those_of_the_module(model: Model, kind: str) -> None:
    trainer = make([5] * 9, model, subset=11, loss=kind)
    trainer.engine._rows = 7  # several pieces of the test set, several groups of devices
    trainer.engine.group = min(trainer.engine.group, 4)
    params = [trainer.initial_params(device) for device in range(9)]
    scores = trainer.evaluate(params)
    module = model.build(SHAPE, CLASSES).double()
    x, y = torch.tensor(DATA.x_test).double(), torch.tensor(DATA.y_test)
    for w, accuracy, loss in zip(params, scores.accuracy, scores.loss, strict=True):
        nn.utils.vector_to_parameters(torch.tensor(w), module.parameters())
        logits = module(x)
        assert accuracy == (logits.argmax(1) == y).double().mean().item()
        expected = nn.functional.cross_entropy(logits, y)
        if kind == "squared":
            expected = 0.5 * (logits - nn.functional.one_hot(y, CLASSES)).square().sum(1).mean()
        assert loss == pytest.approx(expected.item(), rel=1e-9)
    assert trainer.evaluation_seconds > 0


def test_the_subset_is_fixed_and_of_the_size_asked_for() -> None:
    trainer = make([5], subset=11)
    w = trainer.initial_params(0)
    again = make([5], subset=11)
    assert trainer.evaluate([w], "subset").loss == again.evaluate([w], "subset").loss
    assert trainer.evaluate([w], "subset").loss != trainer.evaluate([w], "test").loss
    assert (trainer.evaluate([w], "subset").accuracy * 11) % 1 == pytest.approx(0, abs=1e-9)
    whole = make([5], subset=0)
    assert whole.evaluate([w], "subset").loss == whole.evaluate([w], "test").loss


def test_parameters_that_are_not_finite_do_not_crash() -> None:
    trainer = make([10, 10], momentum=0.9, clip=1.0)
    broken = np.full(trainer.n_params, np.nan)
    healthy = trainer.initial_params(1)
    jobs = [trainer.job(0, broken, epochs=1), trainer.job(1, healthy, epochs=1)]
    trainer.compute(jobs)
    assert np.isnan(result_of(jobs[0])).any()
    assert np.isfinite(result_of(jobs[1])).all()
    scores = trainer.evaluate([broken, healthy])
    accuracy, loss = scores.accuracy, scores.loss
    assert 0 <= accuracy[0] <= 1
    assert not np.isfinite(loss[0])
    assert np.isfinite(loss[1])


@pytest.mark.parametrize("guess", [None, "true", "wrong"])
def test_reach_agrees_with_the_accuracies(guess: str | None) -> None:
    trainer = make([12] * 7)
    jobs = [trainer.job(device, trainer.initial_params(device), steps=1 + 3 * device) for device in range(7)]
    trainer.compute(jobs)
    params = [result_of(job) for job in jobs]
    accuracy = trainer.evaluate(params).accuracy
    guesses = {None: None, "true": accuracy, "wrong": -accuracy}[guess]
    for target in np.linspace(0, 1, 31):
        assert trainer.scoring.attains(params, target, guess=guesses) == (accuracy.min() >= target)
        assert trainer.scoring.attains(params, target, of="mean", guess=guesses) == (accuracy.sum() / 7 >= target)


def test_reach_stops_at_the_first_device_that_does_not() -> None:
    trainer = make([12] * 8)
    params = [trainer.initial_params(device) for device in range(8)]
    looked_at = []
    guess, score = trainer.evaluate(params).accuracy, trainer.scoring.evaluate

    def count(vectors: list[Vector], which: Any = "test", **options: Any) -> Any:
        looked_at.append(len(vectors))
        return score(vectors, which, **options)

    trainer.scoring.evaluate = count  # type: ignore[assignment, method-assign]
    assert not trainer.scoring.attains(params, 0.999, guess=guess)
    assert looked_at == [1]
    assert trainer.scoring.attains(params, 0.0)
    assert looked_at == [1, 1, 2, 4, 1]


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ({}, "either epochs or steps"),
        ({"epochs": 1, "steps": 1}, "either epochs or steps"),
        ({"epochs": 0}, "at least one step"),
        ({"steps": -1}, "at least one step"),
    ],
)
def test_a_job_needs_one_positive_length(call: dict[str, Any], text: str) -> None:
    trainer = make([5])
    with pytest.raises(ProtocolError, match=text):
        trainer.job(0, trainer.initial_params(0), **call)


def test_a_job_needs_parameters_of_the_model() -> None:
    trainer = make([5])
    text = r"of shape \(3,\), this model has \(163,\)"
    with pytest.raises(ProtocolError, match="parameters " + text):
        trainer.job(0, np.zeros(3), epochs=1)
    with pytest.raises(ProtocolError, match="parameters " + text):
        trainer.gradient_job(0, np.zeros(3))
    with pytest.raises(ProtocolError, match="a drift " + text):
        trainer.job(0, trainer.initial_params(0), epochs=1, drift=np.zeros(3))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_an_error_unless_auto() -> None:
    with pytest.raises(ScenarioError, match="no CUDA GPU"):
        make([5], accelerator="cuda")
    assert make([5], accelerator="auto").engine.device.type == "cpu"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("model", [model for model, _ in MODELS], ids=lambda model: model.kind)
def test_a_gpu_computes_what_the_cpu_does(model: Model) -> None:
    ends = []
    for accelerator in ("cpu", "cuda"):
        trainer = make([5, 9, 12], model, accelerator=accelerator, momentum=0.9)
        assert trainer.engine.device.type == accelerator
        jobs = [trainer.job(device, trainer.initial_params(device), epochs=2) for device in range(3)]
        trainer.compute(jobs)
        ends.append([result_of(job) for job in jobs])
        assert isinstance(ends[-1][0], np.ndarray)
    np.testing.assert_allclose(np.array(ends[0]), np.array(ends[1]), atol=1e-8)


class Narrow(Model):
    """Wrong: its output isn't one logit per class."""

    kind: str = "narrow"
    outputs: int = 2

    def build(self, shape: tuple[int, ...], n_classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(16, self.outputs))


class Misfit(Model):
    """Wrong: it takes other samples."""

    kind: str = "misfit"

    def build(self, shape: tuple[int, ...], n_classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(5, n_classes))


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (Narrow(), r"take samples \(batch, 4, 4\) and give \(batch, 3\); it gives 4 samples outputs of shape \(4, 2\)"),
        (Narrow(outputs=4), r"outputs of shape \(4, 4\)"),
        (Misfit(), r"must take samples \(batch, 4, 4\).*test_trainer.py, line \d+: RuntimeError: mat1 and mat2"),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_a_model_that_does_not_fit_is_an_error(model: Model, text: str) -> None:
    with pytest.raises(ScenarioError, match=text):
        make([5], model)


def test_nesterov_needs_momentum() -> None:
    with pytest.raises(ValidationError, match=r"set train\.momentum"):
        TrainSettings(nesterov=True)


def test_training_learns() -> None:
    trainer = make([40, 40], Softmax())
    jobs = [trainer.job(device, trainer.initial_params(device), epochs=5) for device in range(2)]
    trainer.compute(jobs)
    assert trainer.evaluate([result_of(job) for job in jobs]).accuracy.min() > 0.9


def test_a_convolutional_network_fits_its_images() -> None:
    data = make_data(shape=(8, 8))
    trainer = Trainer(data, parts_of([30]), LeNet(), TrainSettings(momentum=0.9, learning_rate=0.02), SEED)
    w = train_once(trainer, 0, trainer.initial_params(0), epochs=30)
    assert trainer.evaluate([w]).accuracy > 0.9
