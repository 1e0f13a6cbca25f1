"""Mixing when messages get lost, devices sleep or copies are old: means, covariances, second moments."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from helpers.dynamics_worlds import linear_devices, mixing_matrix, sizes_of
from helpers.strategies import undirected
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pl_async import Device, PredictionError, Protocol
from p2pl_async.dynamics.failures import (
    LossyMixing,
    step_with_sleepers,
    trajectory_with_delay,
    trajectory_with_sleepers,
)
from p2pl_async.dynamics.linearized import consensus_distance
from p2pl_async.dynamics.moments import second_moments
from p2pl_async.dynamics.recursion import combine, trajectory
from p2pl_async.protocols.listening import Params
from p2pl_async.protocols.p2pl import P2PL
from p2pl_async.testing import FixedLearner, complete, emulate, ring

RULES = ("dgd", "cta", "atc")
SIZES = [3, 40, 5, 9]
GRAPH = [[1, 3], [0, 2, 3], [1, 3], [0, 1, 2]]


def patterns(mixing: LossyMixing):
    """Yield every matrix that losses can make, with its probability."""
    n = len(mixing.weights)
    links = [
        (i, j)
        for i, j in itertools.product(range(n), repeat=2)
        if mixing.links[i, j] and (i < j or not mixing.undirected)
    ]
    for lost in itertools.product((False, True), repeat=len(links)):
        matrix, chance = mixing.weights.copy(), 1.0
        for (i, j), gone in zip(links, lost, strict=True):
            chance *= mixing.loss[i, j] if gone else 1 - mixing.loss[i, j]
            if gone:
                matrix[i, j] = 0
                if mixing.undirected:
                    matrix[j, i] = 0
        if mixing.on_missing == "renormalize":
            matrix /= matrix.sum(1, keepdims=True)
        else:
            matrix += np.diag(1 - matrix.sum(1))
        yield matrix, chance


@settings(max_examples=12)
@given(
    undirected(min_size=2, max_size=4),
    st.booleans(),
    st.sampled_from(["self", "renormalize"]),
    st.sampled_from(["metropolis", "size", "uniform"]),
    st.data(),
)
def test_mean_and_covariance_are_those_over_all_patterns(graph, both, on_missing, rule, data) -> None:
    n = len(graph)
    weights = mixing_matrix(graph, rule, data.draw(sizes_of(n)))
    loss = np.random.default_rng(data.draw(st.integers(0, 99))).random((n, n))
    if both:
        loss = np.triu(loss) + np.triu(loss, 1).T
    if on_missing == "renormalize" and (np.diag(weights) <= 0).any():
        return
    mixing = LossyMixing(weights, loss, both, on_missing)
    mean, second = np.zeros((n, n)), np.zeros((n, n, n, n))
    for matrix, chance in patterns(mixing):
        mean += chance * matrix
        second += chance * np.einsum("ia,jb->iajb", matrix, matrix)
    np.testing.assert_allclose(mixing.mean, mean, atol=1e-12)
    np.testing.assert_allclose(mixing.covariance, second - np.einsum("ia,jb->iajb", mean, mean), atol=1e-12)


@pytest.mark.parametrize("on_missing", ["self", "renormalize"])
@pytest.mark.parametrize("both", [False, True])
def test_slopes_are_differences(both, on_missing) -> None:
    weights = mixing_matrix(GRAPH, "size", SIZES)
    loss = np.full((4, 4), 0.3)
    more = loss.copy()
    more[1, 3] = 0.8
    if both:
        more[3, 1] = 0.8
    before, after = (LossyMixing(weights, p, both, on_missing) for p in (loss, more))
    np.testing.assert_allclose(after.mean - before.mean, 0.5 * before.slopes(1, 3), atol=1e-12)


def test_symmetric_failures_keep_the_mean_matrix_of_the_books() -> None:
    weights = mixing_matrix(ring(5), "metropolis", [1] * 5)
    for both in (False, True):
        mixing = LossyMixing(weights, np.full((5, 5), 0.2), both, "self")
        np.testing.assert_allclose(mixing.mean, 0.8 * weights + 0.2 * np.eye(5), atol=1e-15)


def test_draws_have_that_mean_and_covariance() -> None:
    random = np.random.default_rng(0)
    for both, on_missing in itertools.product((False, True), ("self", "renormalize")):
        mixing = LossyMixing(mixing_matrix(GRAPH, "size", SIZES), np.full((4, 4), 0.4), both, on_missing)
        drawn = np.array([mixing.draw(random) for _ in range(4000)])
        assert np.abs(drawn.mean(0) - mixing.mean).max() < 4 * 0.5 / np.sqrt(4000)
        centered = drawn - mixing.mean
        covariance = np.einsum("kia,kjb->iajb", centered, centered) / len(drawn)
        assert np.abs(covariance - mixing.covariance).max() < 0.02


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"loss": np.full((4, 4), 1.2)}, "between 0 and 1"),
        ({"loss": np.arange(16).reshape(4, 4) / 20, "undirected": True}, "same in both directions"),
        ({"weights": 1 - np.eye(4)}, "positive weight of every device for itself"),
    ],
)
def test_what_makes_no_sense_is_refused(changes, text) -> None:
    good = {"weights": np.full((4, 4), 0.25), "loss": np.full((4, 4), 0.1)}
    with pytest.raises(ValueError, match=text):
        LossyMixing(**good | changes)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("both", [False, True], ids=["each direction", "edges"])
def test_second_moments_are_those_over_all_patterns(rule, both) -> None:
    """Two rounds of two devices, every pattern of losses enumerated."""
    form = linear_devices([3, 4])
    weights = mixing_matrix(complete(2), "size", [3, 4])
    loss = np.full((2, 2), 0.3) if both else np.array([[0, 0.3], [0.6, 0]])
    mixing = LossyMixing(weights, loss, both, "renormalize")
    found = second_moments(form, rule, mixing, 0.3, np.array([0, 2]))
    mean, square, distance, loss_mean = 0.0, 0.0, 0.0, 0.0
    for (first, p), (second, q) in itertools.product(patterns(mixing), repeat=2):
        state = trajectory(form, rule, lambda k, both=(first, second): both[k], 0.3, [2])[0]
        outputs = form.outputs(state)
        mean = mean + p * q * state
        square = square + p * q * (outputs**2).sum((1, 2))
        distance += p * q * float(consensus_distance(form, state, outputs)) ** 2
        loss_mean = loss_mean + p * q * form.losses(outputs)
    np.testing.assert_allclose(found.mean[1], mean, atol=1e-12)
    deviation = square - (form.outputs(mean) ** 2).sum((1, 2))
    np.testing.assert_allclose(found.square(form.features)[1], deviation, atol=1e-12)
    np.testing.assert_allclose(found.consensus_square, [0, distance], atol=1e-12)
    expected = form.losses(form.outputs(found.mean[1])) + found.square(form.features)[1] / (2 * 7)
    np.testing.assert_allclose(expected, loss_mean, atol=1e-12)
    assert (deviation > 1e-6).all()


def test_without_losses_nothing_scatters() -> None:
    form, weights = linear_devices([3, 4, 5]), mixing_matrix(ring(3), "metropolis", [3, 4, 5])
    found = second_moments(form, "dgd", LossyMixing(weights, np.zeros((3, 3))), 0.2, np.array([0, 9]))
    np.testing.assert_allclose(found.mean, trajectory(form, "dgd", weights, 0.2, [0, 9]), atol=1e-12)
    assert np.abs(found.covariance).max() < 1e-15


def test_too_many_moments_are_refused_with_their_size() -> None:
    form = linear_devices([40] * 30, features=40)
    weights = mixing_matrix(ring(30), "metropolis", [1] * 30)
    with pytest.raises(PredictionError, match=r"1,440,000 entries .*GiB.*rank"):
        second_moments(form, "dgd", LossyMixing(weights, np.zeros((30, 30))), 0.01, np.array([1]))


@pytest.mark.parametrize("rule", RULES)
def test_sleepers_mean_is_that_over_all_who_is_awake(rule) -> None:
    form, weights = linear_devices([3, 4, 5]), mixing_matrix(ring(3), "metropolis", [3, 4, 5])
    awake = np.array([0.3, 0.9, 1.0])
    eta, n = 0.2, 3

    def round_of(state: np.ndarray, up: np.ndarray) -> np.ndarray:
        mix = np.where(up[:, None], weights, np.eye(n))
        working = up[:, None, None] * eta
        if rule == "dgd":
            return combine(mix, state) - working * form.gradient(state)
        if rule == "cta":
            mixed = combine(mix, state)
            return mixed - working * form.gradient(mixed)
        return combine(mix, state - working * form.gradient(state))

    state = np.random.default_rng(0).standard_normal(form.shape)
    expected = 0.0
    for up in itertools.product((False, True), repeat=n):
        chance = np.where(up, awake, 1 - awake).prod()
        expected = expected + chance * round_of(state, np.array(up))
    np.testing.assert_allclose(step_with_sleepers(form, rule, weights, eta, state, awake), expected, atol=1e-12)
    at = np.array([0, 1, 5])
    found = trajectory_with_sleepers(form, rule, weights, eta, at, np.ones(3))
    np.testing.assert_allclose(found, trajectory(form, rule, weights, eta, at), atol=1e-12)
    slow = trajectory_with_sleepers(form, rule, weights, eta, at, awake)
    np.testing.assert_allclose(slow[1], step_with_sleepers(form, rule, weights, eta, form.zeros(), awake))


@pytest.mark.parametrize("rule", RULES)
def test_fresh_copies_are_no_delay(rule) -> None:
    form, weights = linear_devices([3, 4, 5]), mixing_matrix(ring(3), "metropolis", [3, 4, 5])
    at = np.array([0, 1, 5])
    found = trajectory_with_delay(form, rule, weights, 0.2, at, np.array([1.0]))
    np.testing.assert_allclose(found, trajectory(form, rule, weights, 0.2, at), atol=1e-12)


@pytest.mark.parametrize("rule", RULES)
def test_old_copies_are_a_stacked_system(rule) -> None:
    """One matrix on the last three states, powers of which are the rounds after the first two."""
    form, weights = linear_devices([3, 4, 5]), mixing_matrix(ring(3), "metropolis", [3, 4, 5])
    ages, eta = np.array([0.5, 0.2, 0.3]), 0.2
    at = np.arange(12)
    states = trajectory_with_delay(form, rule, weights, eta, at, ages)
    own = np.diag(np.diag(weights))

    def said(k: int) -> np.ndarray:
        return states[k] - eta * form.gradient(states[k]) if rule == "atc" else states[k]

    for k in range(2, 11):
        mixed = combine(own, said(k)) + sum(combine(a * (weights - own), said(k - t)) for t, a in enumerate(ages))
        if rule != "atc":
            mixed = mixed - eta * form.gradient(states[k] if rule == "dgd" else mixed)
        np.testing.assert_allclose(states[k + 1], mixed, atol=1e-12)
    # In round 0 a copy of age 1 or 2 doesn't exist; its weight is kept.
    early = own + 0.5 * (weights - own) + 0.5 * np.diag((weights - own).sum(1))
    first = trajectory(form, rule, early, eta, [1])[0]
    np.testing.assert_allclose(states[1], first, atol=1e-12)


@pytest.mark.parametrize(("latency", "age"), [("500 ms", 1), ("1500 ms", 2), ("2500 ms", 3)])
def test_slow_links_age_copies_as_an_emulated_run_has_them(latency, age) -> None:
    """P2PL that mixes cached copies, a step of 1 s each: a copy sent after step k is mixed `age` rounds later."""
    sizes = [3, 4, 5]
    form, weights, eta = linear_devices(sizes, columns=1), mixing_matrix(ring(3), "uniform", sizes), 0.2

    def descend(k: int, w: np.ndarray) -> np.ndarray:
        state = form.zeros()
        state[k, :, 0] = w
        return w - eta * form.gradient(state)[k, :, 0]

    for rounds in (2, 9):
        emulation = emulate(
            P2PL(sync="none", mode="cache", weights="uniform", steps=1),
            ring(3),
            link={"latency": latency},
            learner=FixedLearner([np.zeros(4)] * 3, step=descend),
            rounds=rounds,
        )
        ages = np.eye(age + 1)[age]
        found = trajectory_with_delay(form, "atc", weights, eta, np.array([rounds]), ages)[0, :, :, 0]
        np.testing.assert_allclose(found, np.stack([device.params for device in emulation.devices]), atol=1e-12)


class Dozing(Protocol):
    """DGD whose devices sleep in some rounds; whoever finishes a round says where it is."""

    kind: str = "dozing"
    trains = False
    awake: float = 0.6

    async def run(self, device: Device) -> None:
        form, weights = _DOZING
        known = {j: np.zeros(4) for j in range(3)}
        while device.running:
            await device.sleep(0.5)
            while (heard := device.receive_nowait(Params)) is not None:
                known[heard.sender] = heard.w
            await device.sleep(0.5)
            if device.random.random() < self.awake:
                state = form.zeros()
                state[device.id, :, 0] = known[device.id]
                step = 0.2 * form.gradient(state)[device.id, :, 0]
                known[device.id] = sum(weights[device.id, j] * known[j] for j in range(3)) - step
                device.broadcast(Params(device.round, 0, 1, 2, known[device.id]))
            device.finish_round(known[device.id])


_DOZING = (linear_devices([3, 4, 5], columns=1), mixing_matrix(ring(3), "metropolis", [3, 4, 5]))


def test_emulated_sleepers_have_the_predicted_mean() -> None:
    form, weights = _DOZING
    rounds, runs = 4, 250
    ends = np.array(
        [
            [device.params for device in emulate(Dozing(), ring(3), seed=seed, rounds=rounds).devices]
            for seed in range(runs)
        ]
    )
    at = np.array([rounds])
    predicted = trajectory_with_sleepers(form, "dgd", weights, 0.2, at, np.full(3, 0.6))[0, :, :, 0]
    error = ends.std(0) / np.sqrt(runs)
    assert np.abs((ends.mean(0) - predicted) / error).max() < 3.5
    always = trajectory(form, "dgd", weights, 0.2, [rounds])[0, :, :, 0]
    assert np.abs((ends.mean(0) - always) / error).max() > 5


@pytest.mark.parametrize("ages", [[0.5, 0.4], [1.5, -0.5]])
def test_ages_must_be_probabilities(ages) -> None:
    with pytest.raises(ValueError, match="ages must be probabilities"):
        trajectory_with_delay(linear_devices([2, 2]), "dgd", np.full((2, 2), 0.5), 0.1, np.array([1]), np.array(ages))
