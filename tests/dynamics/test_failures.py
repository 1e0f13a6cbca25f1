"""Mixing when messages get lost: means, covariances, second moments."""

from __future__ import annotations

import itertools
from typing import Any, Literal

import numpy as np
import pytest
from helpers.dynamics_worlds import linear_devices, sizes_of
from helpers.matrices import mixing_matrix, patterns
from helpers.strategies import undirected
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pl_async import PredictionError
from p2pl_async.dynamics.failures import LossyMixing
from p2pl_async.dynamics.linearized import consensus_distance
from p2pl_async.dynamics.moments import second_moments
from p2pl_async.dynamics.recursion import trajectory
from p2pl_async.testing import complete, ring

RULES = ("dgd", "cta", "atc")
SIZES = [3, 40, 5, 9]
SHARES: tuple[Literal["self", "renormalize"], ...] = ("self", "renormalize")
GRAPH = [[1, 3], [0, 2, 3], [1, 3], [0, 1, 2]]


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
    weights = mixing_matrix(rule, graph, data.draw(sizes_of(n)))
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
    weights = mixing_matrix("size", GRAPH, SIZES)
    loss = np.full((4, 4), 0.3)
    more = loss.copy()
    more[1, 3] = 0.8
    if both:
        more[3, 1] = 0.8
    before, after = (LossyMixing(weights, p, both, on_missing) for p in (loss, more))
    np.testing.assert_allclose(after.mean - before.mean, 0.5 * before.slopes(1, 3), atol=1e-12)


def test_symmetric_failures_keep_the_mean_matrix_of_the_books() -> None:
    weights = mixing_matrix("metropolis", ring(5), [1] * 5)
    for both in (False, True):
        mixing = LossyMixing(weights, np.full((5, 5), 0.2), both, "self")
        np.testing.assert_allclose(mixing.mean, 0.8 * weights + 0.2 * np.eye(5), atol=1e-15)


def test_draws_have_that_mean_and_covariance() -> None:
    random = np.random.default_rng(0)
    for both, on_missing in itertools.product((False, True), SHARES):
        mixing = LossyMixing(mixing_matrix("size", GRAPH, SIZES), np.full((4, 4), 0.4), both, on_missing)
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
    weights = mixing_matrix("size", complete(2), [3, 4])
    loss = np.full((2, 2), 0.3) if both else np.array([[0, 0.3], [0.6, 0]])
    mixing = LossyMixing(weights, loss, both, "renormalize")
    found = second_moments(form, rule, mixing, 0.3, np.array([0, 2]))
    mean: Any = 0.0
    square: Any = 0.0
    loss_mean: Any = 0.0
    distance = 0.0
    for (first, p), (second, q) in itertools.product(patterns(mixing), repeat=2):
        state = trajectory(form, rule, (first, second).__getitem__, 0.3, [2])[0]
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
    form, weights = linear_devices([3, 4, 5]), mixing_matrix("metropolis", ring(3), [3, 4, 5])
    found = second_moments(form, "dgd", LossyMixing(weights, np.zeros((3, 3))), 0.2, np.array([0, 9]))
    np.testing.assert_allclose(found.mean, trajectory(form, "dgd", weights, 0.2, [0, 9]), atol=1e-12)
    assert np.abs(found.covariance).max() < 1e-15


def test_too_many_moments_are_refused_with_their_size() -> None:
    form = linear_devices([40] * 30, features=40)
    weights = mixing_matrix("metropolis", ring(30), [1] * 30)
    with pytest.raises(PredictionError, match=r"1,440,000 entries .*GiB.*rank"):
        second_moments(form, "dgd", LossyMixing(weights, np.zeros((30, 30))), 0.01, np.array([1]))
