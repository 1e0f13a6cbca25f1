"""Averaging against its closed forms: how fast each graph agrees, and on what."""

from __future__ import annotations

import math

import networkx as nx
import numpy as np
import pytest
from helpers.matrices import neighbors_of
from helpers.models import start, values
from helpers.strategies import undirected
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pl_async.protocols.p2pl import P2PL
from p2pl_async.protocols.rasgp import RASGP
from p2pl_async.protocols.sgp import SGP
from p2pl_async.testing import FixedLearner, complete, emulate


def p2pl(weights: str) -> P2PL:
    return P2PL(sync="none", mode="barrier", weights=weights)


def torus(m: int) -> nx.Graph:
    return nx.grid_2d_graph(m, m, periodic=True)


def directed_ring(n: int) -> list[list[int]]:
    return [[(k + 1) % n] for k in range(n)]


PUSHES = [SGP(sync="none"), RASGP(sync="none", mode="barrier")]
REGULAR = {
    "ring": (neighbors_of(nx.cycle_graph(9)), 1 / 3 + 2 / 3 * math.cos(2 * math.pi / 9)),
    "torus": (neighbors_of(torus(5)), (3 + 2 * math.cos(2 * math.pi / 5)) / 5),
    "hypercube": (neighbors_of(nx.convert_node_labels_to_integers(nx.hypercube_graph(3))), 1 - 2 / 4),
}
CASES = [
    *[
        pytest.param(protocol, *REGULAR[name], id=f"{name}-{protocol.kind}")
        for name in REGULAR
        for protocol in (p2pl("metropolis"), p2pl("uniform"), p2pl("size"), *PUSHES)
    ],
    pytest.param(
        p2pl("metropolis"), neighbors_of(nx.path_graph(6)), 1 - 2 / 3 * (1 - math.cos(math.pi / 6)), id="path"
    ),
    pytest.param(p2pl("metropolis"), neighbors_of(nx.star_graph(7)), 1 - 1 / 8, id="star"),
    pytest.param(p2pl("uniform"), neighbors_of(nx.star_graph(7)), 1 / 2, id="star-uniform"),
    pytest.param(p2pl("size"), neighbors_of(nx.star_graph(7)), 1 / 2, id="star-size"),
    *[
        pytest.param(protocol, directed_ring(8), math.cos(math.pi / 8), id=f"directed-ring-{protocol.kind}")
        for protocol in (p2pl("uniform"), *PUSHES)
    ],
]


@pytest.mark.parametrize(("protocol", "neighbors", "slem"), CASES)
def test_disagreement_shrinks_by_the_second_largest_eigenvalue(protocol, neighbors, slem) -> None:
    """Measured over the steps in which it falls from 1e-3 to about 1e-7; the lower eigenvalues are gone by then."""
    first, last = (math.ceil(math.log(level) / math.log(slem)) for level in (1e-3, 1e-7))
    models: list[list[np.ndarray]] = [[] for _ in neighbors]  # of each device, from round to round

    def step(k: int, w: np.ndarray) -> np.ndarray:
        models[k].append(w)
        return w

    learner = FixedLearner(start(len(neighbors), seed=5), step=step)
    emulate(protocol, neighbors, learner=learner, rounds=last + 1)
    before, after = (np.stack([own[round] for own in models]) for round in (first, last))
    fallen = np.linalg.norm(after - after.mean(axis=0)) / np.linalg.norm(before - before.mean(axis=0))
    assert fallen ** (1 / (last - first)) == pytest.approx(slem, rel=0.01)


@pytest.mark.parametrize("protocol", [p2pl("metropolis"), p2pl("uniform"), p2pl("size"), *PUSHES], ids=str)
def test_on_the_complete_graph_one_step_is_enough(protocol) -> None:
    x0 = start(6)
    emulation = emulate(protocol, complete(6), learner=FixedLearner(x0), rounds=1)
    np.testing.assert_allclose(values(emulation), np.tile(np.mean(x0, axis=0), (6, 1)), atol=1e-14)


@settings(max_examples=10)
@given(undirected(max_size=5), st.integers(0, 99), st.data())
def test_size_weights_agree_on_the_mean_by_n_times_what_the_neighborhood_holds(neighbors, seed, data) -> None:
    """The stationary vector of a_kj = n_j / S_k is n_k S_k over its sum; only equal S_k make it the mean by n_k."""
    n = len(neighbors)
    sizes = np.array(data.draw(st.lists(st.integers(1, 20), min_size=n, max_size=n)))
    held = np.array([sizes[k] + sizes[neighbors[k]].sum() for k in range(n)])
    x0 = start(n, seed=seed)
    emulation = emulate(p2pl("size"), neighbors, learner=FixedLearner(x0, n_samples=sizes.tolist()), rounds=200)
    expected = np.average(x0, axis=0, weights=sizes * held)
    np.testing.assert_allclose(values(emulation), np.tile(expected, (n, 1)), atol=1e-6)
