"""Influence: stationary vectors, what devices minimize together, and how fast they agree."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers.matrices import mixing_matrix, patterns
from helpers.models import start, values
from helpers.strategies import undirected
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pl_async.dynamics import influence
from p2pl_async.dynamics.failures import LossyMixing
from p2pl_async.dynamics.influence import agreement, distance_from_data, sample_weight, stationary
from p2pl_async.protocols.mixing import WeightRule
from p2pl_async.protocols.p2pl import P2PL
from p2pl_async.testing import FixedLearner, emulate, ring

RULES: tuple[WeightRule, ...] = ("size", "uniform", "metropolis", "metropolis-size", "relative-size")
GRAPH = [[1, 3], [0, 2, 3], [1, 3], [0, 1, 2]]
SIZES = [3, 40, 5, 9]


def closed_form(rule: WeightRule, neighbors: list[list[int]], sizes: list[int]) -> np.ndarray:
    """Return pi as the module's table has it, (n,)."""
    n, d = np.array(sizes, float), np.array([len(own) for own in neighbors], float)
    s = np.array([sizes[k] + sum(sizes[j] for j in own) for k, own in enumerate(neighbors)], float)
    pi = {"size": n * s, "uniform": 1 + d, "metropolis": np.ones(len(n)), "metropolis-size": n, "relative-size": n * d}
    return np.asarray(pi[rule] / pi[rule].sum())


def pi_of(weights: np.ndarray) -> np.ndarray:
    """Return the stationary vector, which there is."""
    pi = stationary(weights)
    assert pi is not None
    return pi


# Stationary vectors


@given(undirected(), st.sampled_from(RULES), st.data())
def test_the_stationary_vectors_are_those_of_the_table(neighbors, rule, data) -> None:
    sizes = data.draw(st.lists(st.integers(1, 100), min_size=len(neighbors), max_size=len(neighbors)))
    pi = pi_of(mixing_matrix(rule, neighbors, sizes))
    np.testing.assert_allclose(pi, closed_form(rule, neighbors, sizes), rtol=1e-9)


def test_a_device_with_more_rounds_takes_up_more_and_counts_less() -> None:
    rounds = np.array([1.0, 2.0, 5.0, 1.0])
    pi = pi_of(rounds[:, None] * mixing_matrix("metropolis", GRAPH))
    np.testing.assert_allclose(pi, (1 / rounds) / (1 / rounds).sum())


def test_one_that_hears_nobody_counts_alone_and_two_such_groups_have_no_common_model() -> None:
    deaf = np.array([[0.0, 0, 0], [0.5, 0, 0.5], [0, 1.0, 0]])
    np.testing.assert_allclose(pi_of(deaf), [1, 0, 0], atol=1e-15)
    assert stationary(np.kron(np.eye(2), [[0, 1], [1, 0]])) is None


def test_samples_count_alike_if_weight_times_steps_is_as_samples() -> None:
    n = np.array(SIZES, float)
    epochs = n  # batches of one sample
    np.testing.assert_allclose(sample_weight(closed_form("metropolis", GRAPH, SIZES), epochs, n), 1)
    np.testing.assert_allclose(sample_weight(closed_form("metropolis-size", GRAPH, SIZES), np.ones(4), n), 1)
    twice = sample_weight(closed_form("metropolis-size", GRAPH, SIZES), epochs, n)  # as FedAvg's: n_k squared
    np.testing.assert_allclose(twice, n * n.sum() / (n @ n))
    assert distance_from_data(np.ones(4), n) == 0
    assert distance_from_data(twice, n) == pytest.approx(np.abs(n**2 / (n @ n) - n / n.sum()).sum() / 2)


# What devices minimize, with quadratic losses f_k = |w - c_k|^2 / 2


@pytest.mark.parametrize("rule", RULES)
def test_p2pl_minimizes_the_losses_weighed_by_its_stationary_vector_at_the_predicted_rate(rule) -> None:
    eta, c, first = 0.1, np.stack(start(4, seed=1)), start(4, seed=2)

    def after(rounds: int) -> np.ndarray:
        learner = FixedLearner(first, gradient=lambda k, w: w - c[k], learning_rate=eta, n_samples=SIZES)
        protocol = P2PL(sync="none", mode="barrier", weights=rule)
        return values(emulate(protocol, GRAPH, learner=learner, rounds=rounds))

    a = mixing_matrix(rule, GRAPH, SIZES)
    pi = pi_of(a)
    best = pi @ c
    np.testing.assert_allclose(pi @ after(12) - best, (1 - eta) ** 12 * (pi @ np.stack(first) - best), atol=1e-9)
    end = after(400)
    np.testing.assert_allclose(pi @ end, best, atol=1e-9)
    at_rest = np.linalg.solve(np.eye(4) - (1 - eta) * a, eta * a @ c)  # devices stay apart by the order of eta
    np.testing.assert_allclose(end, at_rest, atol=1e-9)
    left = np.linalg.eig(a.T)
    order = np.argsort(-np.abs(left.eigenvalues))
    second, slowest = left.eigenvalues[order[1]].real, left.eigenvectors[:, order[1]].real
    assert agreement(LossyMixing(a, np.zeros((4, 4)))).mean == pytest.approx(abs(second), abs=1e-12)
    moved = slowest @ (np.stack(first) - at_rest) * ((1 - eta) * second) ** 12
    np.testing.assert_allclose(slowest @ (after(12) - at_rest), moved, atol=1e-9)


def test_with_epochs_the_steps_of_devices_count_too() -> None:
    eta, c, n = 2e-3, np.stack(start(4, seed=1)), np.array(SIZES)
    kept = (1 - eta) ** n  # what is left of the way to c_k after n_k steps
    learner = FixedLearner(start(4, seed=2), step=lambda k, w: c[k] + kept[k] * (w - c[k]), n_samples=SIZES)
    protocol = P2PL(sync="none", mode="barrier", weights="metropolis")
    end = values(emulate(protocol, GRAPH, learner=learner, rounds=800))
    np.testing.assert_allclose((1 - kept) @ (end - c), 0, atol=1e-9)  # the steps of all cancel, weighed by pi
    np.testing.assert_allclose(end.mean(0), n @ c / n.sum(), atol=0.05)  # the pooled minimum, up to eta


# Agreement


def test_without_losses_devices_agree_by_the_second_eigenvalue() -> None:
    found = agreement(LossyMixing(mixing_matrix("metropolis", ring(9)), np.zeros((9, 9))))
    second = 1 / 3 + 2 / 3 * math.cos(2 * math.pi / 9)
    assert found == pytest.approx((second, second), abs=1e-12)


@settings(max_examples=10)
@given(st.booleans(), st.sampled_from(["self", "renormalize"]), st.sampled_from(RULES))
def test_with_losses_the_mean_square_rate_is_that_over_all_patterns(both, on_missing, rule) -> None:
    loss = np.full((4, 4), 0.3)
    mixing = LossyMixing(mixing_matrix(rule, GRAPH, SIZES), loss, both, on_missing)
    center = np.eye(4) - 1 / 4
    matrix = sum(p * np.kron(center @ w, center @ w) for w, p in patterns(mixing))
    found = agreement(mixing)
    assert found.mean_square == pytest.approx(math.sqrt(np.abs(np.linalg.eigvals(matrix)).max()), abs=1e-9)
    assert found.mean_square >= found.mean - 1e-12


def test_many_devices_are_solved_without_the_whole_matrix(monkeypatch) -> None:
    mixing = LossyMixing(mixing_matrix("size", GRAPH, SIZES), np.full((4, 4), 0.4))
    dense = agreement(mixing)
    monkeypatch.setattr(influence, "_DENSE", 0)
    assert agreement(mixing) == pytest.approx(dense, abs=1e-9)


def test_losses_alike_on_all_links_leave_the_stationary_vector_if_their_weight_stays_at_home() -> None:
    a, loss = mixing_matrix("metropolis-size", GRAPH, SIZES), np.full((4, 4), 0.4)
    at_home = pi_of(LossyMixing(a, loss, on_missing="self").mean)
    np.testing.assert_allclose(at_home, pi_of(a), rtol=1e-9)
    to_others = pi_of(LossyMixing(a, loss, on_missing="renormalize").mean)
    assert np.abs(to_others - at_home).max() > 0.01
