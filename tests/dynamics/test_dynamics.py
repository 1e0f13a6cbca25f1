"""The linear systems of DGD, CTA and ATC: forms, recursion, flow, spectrum, limit."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.dynamics_worlds import linear_devices, sizes_of
from helpers.matrices import mixing_matrix
from helpers.strategies import undirected
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm

from p2pl_async.dynamics.linearized import KernelForm, ParameterForm, Task, compressed, consensus_distance
from p2pl_async.dynamics.recursion import Rule, step, trajectory
from p2pl_async.dynamics.spectrum import (
    check_stable,
    curvature,
    limit,
    modes,
    real_spectrum,
    reversible,
    sensitivity,
    spectral_radius,
    stable_steps,
    system,
)
from p2pl_async.errors import PredictionError
from p2pl_async.protocols.mixing import WeightRule
from p2pl_async.testing import complete, ring

RULES: tuple[Rule, ...] = ("dgd", "cta", "atc")
WEIGHTS: tuple[WeightRule, ...] = ("metropolis", "uniform", "size", "metropolis-size", "relative-size")


@st.composite
def systems(draw: st.DrawFn) -> tuple[ParameterForm, np.ndarray, Rule, float]:
    """Draw devices, a mixing matrix, a rule, and a step size that is stable."""
    graph = draw(undirected(min_size=3, max_size=6))
    sizes = draw(sizes_of(len(graph)))
    matrix = mixing_matrix(draw(st.sampled_from(WEIGHTS)), graph, sizes)
    form = linear_devices(sizes, seed=draw(st.integers(0, 99)))
    rule = draw(st.sampled_from(RULES))
    share = draw(st.floats(0.05, 0.45))  # below 1 / L, so that eigenvalues are real
    return form, matrix, rule, share * min(stable_steps(form, rule, matrix).largest, 2 / curvature(form))


@settings(max_examples=30)
@given(systems())
def test_the_kernel_form_is_the_parameter_form(drawn) -> None:
    form, matrix, rule, eta = drawn
    kernel = KernelForm(form.task, form.kernel)
    few = compressed(form.task, form.kernel)
    at = [0, 1, 2, 7, 40]
    states = trajectory(form, rule, matrix, eta, at)
    outputs = form.outputs(states)
    for other in (kernel, few):
        found = trajectory(other, rule, matrix, eta, at)
        np.testing.assert_allclose(other.outputs(found), outputs, atol=1e-12)
        np.testing.assert_allclose(other.losses(other.outputs(found)), form.losses(outputs), rtol=1e-12)
        distance = consensus_distance(other, found, other.outputs(found))
        np.testing.assert_allclose(distance, consensus_distance(form, states, outputs), atol=3e-8)
    # The coefficients are those of the rows' gradients: u = J^T a.
    coefficients = trajectory(kernel, rule, matrix, eta, at)
    np.testing.assert_allclose(form.features.T @ coefficients, states, atol=1e-12)


@settings(max_examples=30)
@given(systems(), st.sampled_from(["recursion", "flow"]))
def test_chebyshev_sums_are_the_sums_over_powers(drawn, time) -> None:
    form, matrix, rule, eta = drawn
    assert real_spectrum(form, rule, matrix, eta)
    at = [0, 1, 2, 3, 30, 31, 400] if time == "recursion" else [0, 0.3, 2.5, 77.7]
    np.testing.assert_allclose(
        trajectory(form, rule, matrix, eta, at, time=time, chebyshev=True),
        trajectory(form, rule, matrix, eta, at, time=time),
        atol=1e-11,
    )


def test_a_start_of_ones_own_is_where_round_0_is() -> None:
    form, matrix = linear_devices([3, 4, 2]), mixing_matrix("metropolis", ring(3), [3, 4, 2])
    start = np.random.default_rng(1).standard_normal(form.shape)
    found = trajectory(form, "dgd", matrix, 0.1, [0, 1], start=start)
    np.testing.assert_array_equal(found[0], start)
    np.testing.assert_allclose(found[1], step(form, "dgd", matrix, 0.1, start))


@pytest.mark.parametrize("rule", RULES)
def test_the_flow_is_the_matrix_exponential(rule) -> None:
    form, matrix = linear_devices([3, 4, 2, 5]), mixing_matrix("metropolis", ring(4), [3, 4, 2, 5])
    a, c = system(form, rule, matrix, 0.2)
    n = len(a)
    extended = np.zeros((n + 1, n + 1))
    extended[:n, :n], extended[:n, n] = a - np.eye(n), c[:, 0]
    for instant in (0.4, 12.0):
        found = trajectory(form, rule, matrix, 0.2, [instant], time="flow")[0][..., 0]
        np.testing.assert_allclose(found.ravel(), expm(extended * instant)[:n, n], atol=1e-12)


def test_flow_and_recursion_differ_early_and_agree_late() -> None:
    form, matrix = linear_devices([3, 4, 2, 5]), mixing_matrix("metropolis", ring(4), [3, 4, 2, 5])
    at = [3, 20_000]
    flow, steps = (
        trajectory(form, "dgd", matrix, 0.1, at, time=time, chebyshev=True) for time in ("flow", "recursion")
    )
    assert np.abs(flow[0] - steps[0]).max() > 1e-3 * np.abs(steps[0]).max()
    np.testing.assert_allclose(flow[1], steps[1], atol=1e-9)


@settings(max_examples=25)
@given(systems())
def test_a_system_is_its_step(drawn) -> None:
    form, matrix, rule, eta = drawn
    a, c = system(form, rule, matrix, eta)
    state = np.random.default_rng(0).standard_normal(form.shape)
    expected = step(form, rule, matrix, eta, state).reshape(c.shape)
    np.testing.assert_allclose(a @ state.reshape(c.shape) + c, expected, atol=1e-12)
    kernel = KernelForm(form.task, form.kernel)
    a, c = system(kernel, rule, matrix, eta)
    state = np.random.default_rng(0).standard_normal(kernel.shape)
    expected = step(kernel, rule, matrix, eta, state).reshape(c.shape)
    np.testing.assert_allclose(a @ state.reshape(c.shape) + c, expected, atol=1e-12)


@settings(max_examples=25)
@given(undirected(min_size=3, max_size=6), st.sampled_from(WEIGHTS), st.sampled_from(RULES), st.data())
def test_step_sizes_below_the_bound_are_stable_and_above_an_exact_one_are_not(graph, weights, rule, data) -> None:
    sizes = data.draw(sizes_of(len(graph)))
    form = linear_devices(sizes, features=3, seed=data.draw(st.integers(0, 99)))
    matrix = mixing_matrix(weights, graph, sizes)
    for lazy in (matrix, (matrix + np.eye(len(matrix))) / 2):  # the latter has no negative eigenvalue
        bound = stable_steps(form, rule, lazy)
        assert bound.exact == (rule == "dgd" or lazy is not matrix or np.linalg.eigvals(matrix).real.min() > -1e-12)
        assert spectral_radius(form, rule, lazy, 0.999 * bound.largest) <= 1 + 1e-9
        if bound.exact:
            assert spectral_radius(form, rule, lazy, 1.01 * bound.largest) > 1
            with pytest.raises(PredictionError, match=r"unstable for .*must be below"):
                check_stable(form, rule, lazy, 1.01 * bound.largest)
        assert check_stable(form, rule, lazy, 0.9 * bound.largest) == bound


def test_the_classic_bound_of_dgd_is_never_above_the_exact_one() -> None:
    sizes = [4, 6, 5, 3, 6]
    form, matrix = linear_devices(sizes), mixing_matrix("metropolis", ring(5), sizes)
    classic = (1 + np.linalg.eigvalsh(matrix)[0]) / curvature(form)
    assert classic <= stable_steps(form, "dgd", matrix).largest * (1 + 1e-12)
    assert curvature(form) == pytest.approx(max(np.linalg.eigvalsh(form.hessian(q))[-1] for q in range(5)))


def test_one_way_links_are_checked_by_their_spectral_radius() -> None:
    directed = np.array([[0.5, 0, 0.5], [0.5, 0.5, 0], [0, 0.5, 0.5]])
    form = linear_devices([4, 4, 4])
    assert reversible(directed) is None
    bound = stable_steps(form, "dgd", directed)
    assert not bound.exact
    assert spectral_radius(form, "dgd", directed, 0.999 * bound.largest) <= 1
    assert check_stable(form, "dgd", directed, 0.5 * bound.largest) is None
    with pytest.raises(PredictionError, match=r"unstable: errors grow 1\.\d+-fold"):
        check_stable(form, "dgd", directed, 1.1 * bound.largest)
    assert not real_spectrum(form, "dgd", directed, 0.01)


def test_reversible_weights_become_symmetric() -> None:
    sizes = [1, 7, 2, 9]
    graph = [[1, 2, 3], [0, 2], [0, 1], [0]]
    for rule in WEIGHTS:
        matrix = mixing_matrix(rule, graph, sizes)
        found = reversible(matrix)
        assert found is not None
        symmetric, scale = found
        np.testing.assert_allclose(symmetric, scale[:, None] * matrix / scale, atol=1e-14)
        np.testing.assert_array_equal(symmetric, symmetric.T)
    # The stationary vector of dataset-size weights is n_i S_i.
    found = reversible(mixing_matrix("size", graph, sizes))
    assert found is not None
    expected = np.array(sizes) * [sizes[k] + sum(sizes[j] for j in near) for k, near in enumerate(graph)]
    np.testing.assert_allclose(found[1] ** 2 / (found[1] ** 2).sum(), expected / expected.sum())


@settings(max_examples=25)
@given(systems())
def test_the_limit_stays_and_is_reached(drawn) -> None:
    form, matrix, rule, eta = drawn
    end = limit(form, rule, matrix, eta)
    np.testing.assert_allclose(step(form, rule, matrix, eta, end), end, atol=1e-9)
    slowest = np.abs(modes(form, rule, matrix, eta).values)
    slowest = slowest[slowest < 1 - 1e-9].max()
    rounds = int(min(25 / -np.log(slowest), 1e6))
    reached = trajectory(form, rule, matrix, eta, [rounds], chebyshev=True)[0]
    np.testing.assert_allclose(form.outputs(reached), form.outputs(end), atol=1e-6)


@settings(max_examples=20)
@given(undirected(min_size=3, max_size=6), st.data())
def test_dgd_stops_where_the_gradients_sum_to_zero(graph, data) -> None:
    """Doubly stochastic weights: the mean doesn't move any more, though every device has a gradient."""
    sizes = data.draw(sizes_of(len(graph)))
    form = linear_devices(sizes, seed=data.draw(st.integers(0, 99)))
    matrix = mixing_matrix("metropolis", graph, sizes)
    end = limit(form, "dgd", matrix, 0.4 * stable_steps(form, "dgd", matrix).largest)
    g = form.gradient(end)
    np.testing.assert_allclose(g.sum(0), 0, atol=1e-9)


def test_on_the_complete_graph_everything_is_gradient_descent_on_the_mean_loss() -> None:
    sizes = [4, 4, 4]
    form, matrix = linear_devices(sizes), np.full((3, 3), 1 / 3)
    u = np.zeros(form.shape[1:])
    for _ in range(10):
        u = u - 0.3 * form.gradient(np.stack([u] * 3)).mean(0)
    np.testing.assert_allclose(trajectory(form, "atc", matrix, 0.3, [10])[0], np.stack([u] * 3), atol=1e-12)


@settings(max_examples=20)
@given(systems())
def test_modes_are_eigenvectors_and_their_sensitivity_is_the_slope(drawn) -> None:
    form, matrix, rule, eta = drawn
    found = modes(form, rule, matrix, eta)
    a, _ = system(form, rule, matrix, eta)
    n = len(a)
    right, left = found.right.reshape(n, n).T, found.left.reshape(n, n)
    np.testing.assert_allclose(a @ right, right * found.values, atol=1e-8)
    np.testing.assert_allclose(left @ right, np.eye(n), atol=1e-8)
    assert (np.diff(np.abs(found.values)) <= 1e-12).all()
    assert found.share.sum() == pytest.approx(1)
    index = found.dominant()
    gaps = np.abs(np.delete(found.values, index) - found.values[index])
    if gaps.min() > 1e-3:  # else eigenvalues that cross have no slope
        change = 1e-6 * np.random.default_rng(0).standard_normal(matrix.shape)
        moved = np.linalg.eigvals(system(form, rule, matrix + change, eta)[0])
        nearest = moved[np.argmin(np.abs(moved - found.values[index]))].real
        predicted = (sensitivity(found, form, index) * change).sum()
        assert nearest - found.values[index] == pytest.approx(predicted, rel=0.02, abs=1e-9)


def test_shares_tell_how_the_loss_falls() -> None:
    """On one device, modes are those of its Hessian: the loss above its limit is the sum of their squares."""
    form = linear_devices([8], features=3)
    matrix, eta = np.ones((1, 1)), 0.2
    found = modes(form, "dgd", matrix, eta)
    losses = form.losses(form.outputs(trajectory(form, "dgd", matrix, eta, [0, 5, 5000])))[:, 0]
    expected = (found.share * found.values**10).sum()
    assert (losses[1] - losses[2]) / (losses[0] - losses[2]) == pytest.approx(expected, rel=1e-9)
    assert found.time_constants[0] == pytest.approx(-1 / np.log(found.values[0]))


def test_too_many_states_are_refused_with_their_size() -> None:
    sizes = [40] * 30
    form = linear_devices(sizes, features=40)
    matrix = mixing_matrix("metropolis", complete(30), sizes)
    with pytest.raises(PredictionError, match=r"1,200 states; a dense one is for up to 1,000 .*GiB"):
        limit(form, "dgd", matrix, 0.01)
    assert spectral_radius(form, "dgd", matrix, 0.01) <= 1 + 1e-9  # that one needs no dense matrix


def test_the_strongest_features_come_close_to_the_kernel() -> None:
    form = linear_devices([30, 30], features=8)
    exact = compressed(form.task, form.kernel)
    assert exact.shape == (2, 8, 2)
    np.testing.assert_allclose(exact.kernel, form.kernel, atol=1e-12)
    values, vectors = np.linalg.eigh(form.kernel)
    best = (vectors[:, -5:] * values[-5:]) @ vectors[:, -5:].T
    np.testing.assert_allclose(compressed(form.task, form.kernel, rank=5).kernel, best, atol=1e-8)


@pytest.mark.parametrize(
    ("owner", "residual", "text"),
    [([0, 2, 2], (3, 1), "ascending"), ([1, 1, 2], (3, 1), "ascending"), ([0, 1, 2], (2, 1), r"\(3, m\)")],
)
def test_rows_out_of_order_are_refused(owner, residual, text) -> None:
    with pytest.raises(ValueError, match=text):
        Task(np.array(owner), np.array([1, 1, 1]), np.zeros(residual))


@pytest.mark.parametrize("at", [[2, 1], [-1], [0.5]])
def test_instants_must_be_ascending_rounds(at) -> None:
    form = linear_devices([2, 2])
    with pytest.raises(ValueError, match="instants"):
        trajectory(form, "dgd", np.full((2, 2), 0.5), 0.1, at)
