"""Mixing weights and the mix: rows that sum to 1, hulls, means, closed-form spectra."""

from __future__ import annotations

import math

import networkx as nx
import numpy as np
import pytest
from helpers.matrices import mixing_matrix, neighbors_of
from helpers.strategies import undirected
from hypothesis import given
from hypothesis import strategies as st

from p2pl_async.errors import ProtocolError
from p2pl_async.protocols.mixing import Peer, mix, row, scaled_sum, without_missing

RULES = ["size", "uniform", "metropolis", "metropolis-size", "relative-size"]


@given(undirected(), st.sampled_from(RULES), st.data())
def test_rows_sum_to_one_and_are_not_negative(neighbors, rule, data) -> None:
    sizes = data.draw(st.lists(st.integers(1, 1000), min_size=len(neighbors), max_size=len(neighbors)))
    a = mixing_matrix(rule, neighbors, sizes)
    np.testing.assert_allclose(a.sum(axis=1), 1, rtol=1e-15)
    assert (a >= 0).all()
    assert (np.diag(a) > 0).all()


@given(undirected())
def test_metropolis_weights_are_doubly_stochastic(neighbors) -> None:
    a = mixing_matrix("metropolis", neighbors)
    np.testing.assert_array_equal(a, a.T)


@given(undirected(), st.data())
def test_metropolis_weights_by_size_balance_every_pair_so_each_device_counts_by_its_samples(neighbors, data) -> None:
    sizes = data.draw(st.lists(st.integers(1, 1000), min_size=len(neighbors), max_size=len(neighbors)))
    a = mixing_matrix("metropolis-size", neighbors, sizes)
    flow = np.array(sizes)[:, None] * a
    np.testing.assert_allclose(flow, flow.T, rtol=1e-12, atol=1e-15)  # n_k a_kj = n_j a_jk
    np.testing.assert_allclose(np.array(sizes) @ a, sizes, rtol=1e-12)
    d = np.array([len(own) for own in neighbors])
    assert (np.diag(a) >= 1 / (1 + d) - 1e-12).all()


@given(undirected())
def test_with_equal_sizes_they_are_metropolis_weights(neighbors) -> None:
    sizes = [7] * len(neighbors)
    np.testing.assert_allclose(
        mixing_matrix("metropolis-size", neighbors, sizes), mixing_matrix("metropolis", neighbors), rtol=1e-12
    )


@given(undirected(), st.data())
def test_size_weights_have_the_stationary_vector_n_i_s_i(neighbors, data) -> None:
    sizes = data.draw(st.lists(st.integers(1, 100), min_size=len(neighbors), max_size=len(neighbors)))
    a = mixing_matrix("size", neighbors, sizes)
    s = [sizes[k] + sum(sizes[j] for j in neighbors[k]) for k in range(len(neighbors))]
    pi = np.array([n * total for n, total in zip(sizes, s, strict=True)], float)
    np.testing.assert_allclose(pi @ a, pi, rtol=1e-12)


def test_equal_sizes_on_a_regular_graph_give_one_matrix_for_every_rule_but_the_relative() -> None:
    neighbors = neighbors_of(nx.random_regular_graph(4, 12, seed=1))
    for rule in ("uniform", "metropolis", "metropolis-size"):
        own = mixing_matrix("size", neighbors, [60] * 12)
        np.testing.assert_allclose(mixing_matrix(rule, neighbors), own, atol=1e-16)


def test_a_common_factor_of_all_sizes_changes_nothing() -> None:
    neighbors, sizes = neighbors_of(nx.path_graph(5)), [3, 1, 4, 1, 5]
    for rule in ("size", "metropolis-size", "relative-size"):
        scaled = mixing_matrix(rule, neighbors, [7 * n for n in sizes])
        np.testing.assert_allclose(mixing_matrix(rule, neighbors, sizes), scaled, rtol=1e-15)


@pytest.mark.parametrize(
    ("graph", "rule", "slem"),
    [
        (nx.complete_graph(8), "metropolis", 0.0),
        (nx.cycle_graph(9), "metropolis", 1 / 3 + 2 / 3 * math.cos(2 * math.pi / 9)),
        (nx.path_graph(7), "metropolis", 1 - 2 / 3 * (1 - math.cos(math.pi / 7))),
        (nx.star_graph(6), "metropolis", 1 - 1 / 7),
        (nx.star_graph(6), "size", 1 / 2),
        (nx.grid_2d_graph(5, 5, periodic=True), "uniform", (3 + 2 * math.cos(2 * math.pi / 5)) / 5),
        (nx.hypercube_graph(4), "size", 1 - 2 / 5),
    ],
)
def test_second_largest_eigenvalues_are_the_closed_forms(graph, rule, slem) -> None:
    eigenvalues = np.sort(np.abs(np.linalg.eigvals(mixing_matrix(rule, neighbors_of(graph)))))
    assert eigenvalues[-2] == pytest.approx(slem, abs=1e-12)


@given(undirected(min_size=3), st.sampled_from(RULES), st.sampled_from(["renormalize", "self"]), st.data())
def test_weights_of_those_heard_still_sum_to_one(neighbors, rule, on_missing, data) -> None:
    k = data.draw(st.integers(0, len(neighbors) - 1))
    peers = {j: Peer(data.draw(st.integers(1, 50)), len(neighbors[j])) for j in neighbors[k]}
    full = row(rule, k, Peer(5, len(peers)), peers)
    heard = data.draw(st.sets(st.sampled_from(neighbors[k])))
    left = without_missing(full, k, dict.fromkeys(heard), on_missing)
    assert set(left) == {k, *heard}
    assert math.fsum(left.values()) == pytest.approx(1, abs=1e-15)
    missing = sum(weight for j, weight in full.items() if j not in left)
    if on_missing == "self":
        assert left[k] == pytest.approx(full[k] + missing)
    else:
        assert left[k] == pytest.approx(full[k] / (1 - missing))


@given(st.integers(1, 70_000), st.integers(0, 5), st.integers(0, 2**32 - 1))
def test_mix_is_the_weighted_sum(size, n_heard, seed) -> None:
    random = np.random.default_rng(seed)
    own = random.normal(size=size)
    heard = {j + 1: random.normal(size=size) for j in range(n_heard)}
    weights = dict(enumerate(random.dirichlet(np.ones(n_heard + 1)).tolist()))
    mixed = mix(own, heard, weights, 0)
    expected = weights[0] * own + sum(weights[j] * heard[j] for j in heard)
    np.testing.assert_allclose(mixed, expected, atol=1e-15)
    everything = np.stack([own, *heard.values()])
    assert (mixed >= everything.min(axis=0) - 1e-15).all()
    assert (mixed <= everything.max(axis=0) + 1e-15).all()


def test_equal_inputs_are_a_fixed_point_and_inputs_are_left_alone() -> None:
    own = np.full(5, 0.25, np.float32)
    mixed = mix(own, {1: own, 3: own}, {0: 0.5, 1: 0.25, 3: 0.25}, 0)
    np.testing.assert_array_equal(mixed, own)
    assert mixed is not own
    assert mixed.dtype == np.float32
    assert not mixed.flags.writeable


def test_a_device_without_a_weight_or_with_another_shape_is_an_error() -> None:
    own = np.zeros(3)
    with pytest.raises(ProtocolError, match="device 2 was heard and has no mixing weight"):
        mix(own, {2: own}, {0: 1.0}, 0)
    with pytest.raises(ProtocolError, match=r"device 2 sent parameters of shape \(4,\)"):
        mix(own, {2: np.zeros(4)}, {0: 0.5, 2: 0.5}, 0)


def test_a_local_step_is_added_to_the_mean() -> None:
    random = np.random.default_rng(0)
    own, other, stepped = random.normal(size=(3, 100_000))
    plain = mix(own, {4: other}, {2: 0.25, 4: 0.75}, 2)
    np.testing.assert_allclose(mix(own, {4: other}, {2: 0.25, 4: 0.75}, 2, stepped=stepped), plain + (stepped - own))


def test_a_scaled_sum_is_the_sum_and_its_multiple_block_by_block() -> None:
    x, *terms = np.random.default_rng(0).normal(size=(4, 70_000)).astype(np.float32)
    plain = x.copy()
    for factor, v in zip((0.5, -2.0, 0.1), terms, strict=True):
        plain += np.float32(factor) * v
    z = scaled_sum(x, list(zip((0.5, -2.0, 0.1), terms, strict=True)), 0.3)
    np.testing.assert_array_equal(x, plain)
    np.testing.assert_array_equal(z, plain * np.float32(0.3))
    assert not z.flags.writeable
