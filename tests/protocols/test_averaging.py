"""DGD, CTA and ATC: the matrix recursion in float64, the mean that they keep, what they do on bad links."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.matrices import mixing_matrix
from helpers.models import model_of
from helpers.recursions import Linear, Quadratics, models_after
from helpers.small_worlds import params_of, run_watched, small
from helpers.strategies import lossy_links, strongly_connected, undirected
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pl_async.link import LinkSettings
from p2pl_async.protocols.atc import ATC
from p2pl_async.protocols.cta import CTA
from p2pl_async.protocols.dgd import DGD
from p2pl_async.testing import FixedLearner, emulate, ring

KINDS: list[type[Any]] = [DGD, CTA, ATC]
RULES = ["metropolis", "uniform", "size", "metropolis-size", "relative-size"]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25)
@given(
    undirected(),
    st.sampled_from(RULES),
    st.sampled_from(["barrier", {"kind": "cache", "wait": "10 s"}, {"kind": "fresh", "wait": "10 s"}]),
    st.integers(0, 99),
    st.data(),
)
def test_without_loss_or_latency_it_is_the_matrix_recursion(kind, neighbors, rule, mode, seed, data) -> None:
    n = len(neighbors)
    task = Quadratics(n, 4, seed)
    sizes = data.draw(st.lists(st.integers(1, 100), min_size=n, max_size=n))
    # Whoever doesn't wait for all must be as fast as they are.
    speeds = data.draw(st.lists(st.floats(0.1, 3), min_size=n, max_size=n)) if mode == "barrier" else 1.0
    emulation = emulate(
        kind(sync="none", weights=rule, mode=mode),
        neighbors,
        learner=FixedLearner(list(task.x), gradient=task.of, learning_rate=0.05, n_samples=sizes, seconds=speeds),
        rounds=7,
    )
    expected = models_after(kind().kind, mixing_matrix(rule, neighbors, sizes), task.x, task.all, 0.05, 7)
    np.testing.assert_allclose(params_of(emulation.devices), expected, atol=1e-10)


@pytest.mark.parametrize("kind", ["dgd", "cta", "atc", "diging", "qgm"])
@pytest.mark.parametrize("topology", ["ring", "star", "complete"])
def test_linear_models_that_learn_follow_the_matrix_recursion(kind, topology) -> None:
    """Real training, gradients and messages: squared error, full batches, float64, no latency."""
    scenario = small(
        topology=topology,
        link={"latency": {"kind": "constant", "mean": "0 s"}, "loss": "0 %"},
        data={"train_samples": 95},
        model={"kind": "softmax"},
        train={"learning_rate": 0.05, "momentum": 0.0, "loss": "squared", "batch_size": "all", "precision": "float64"},
        protocol={"kind": kind, "sync": "none", "mode": "barrier"},
        stop={"rounds": 20},
    )
    result, (devices,) = run_watched(scenario)
    task = Linear(scenario)
    expected = models_after(kind, mixing_matrix("metropolis", task.out_neighbors), task.start, task.all, 0.05, 20)
    np.testing.assert_allclose(params_of(devices), expected, atol=1e-10)
    assert params_of(devices).dtype == np.float64
    assert result.summary["messages"]["sent"] == 20 * sum(map(len, task.out_neighbors))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30)
@given(undirected(), st.integers(0, 99))
def test_doubly_stochastic_weights_keep_the_mean_but_for_the_gradients(kind, neighbors, seed) -> None:
    """With constant gradients the mean moves by -eta times their mean per round, whatever the graph."""
    n = len(neighbors)
    task = Quadratics(n, 3, seed)
    emulation = emulate(
        kind(sync="none"),
        neighbors,
        learner=FixedLearner(list(task.x), gradient=lambda k, w: task.c[k], learning_rate=0.1),
        rounds=5,
    )
    moved = params_of(emulation.devices).mean(axis=0) - task.x.mean(axis=0)
    np.testing.assert_allclose(moved, -0.5 * task.c.mean(axis=0), atol=1e-12)


def test_with_a_constant_step_dgd_stops_where_its_gradients_cancel() -> None:
    """The fixed point has sum_i g_i(x_i) = 0, with a spread that the step size scales."""
    task = Quadratics(6, 3, 1)
    spreads = []
    for eta in (0.08, 0.04):
        learner = FixedLearner(list(task.x), gradient=task.of, learning_rate=eta)
        x = params_of(emulate(DGD(sync="none"), ring(6), learner=learner, rounds=600).devices)
        np.testing.assert_allclose(task.all(x).sum(axis=0), 0, atol=1e-6)
        spreads.append(np.linalg.norm(x - x.mean(axis=0)))
    assert spreads[0] / spreads[1] == pytest.approx(2, rel=0.15)
    assert spreads[1] > 1e-3


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15)
@given(
    strongly_connected(),
    lossy_links(),
    st.sampled_from(["fresh", "cache", {"kind": "barrier", "timeout": "700 ms"}]),
    st.sampled_from(["self", "renormalize", "cache"]),
    st.sampled_from(RULES),
    st.integers(0, 1000),
)
def test_without_gradients_models_stay_in_the_hull_on_any_link(kind, graph, link, mode, missing, rule, seed) -> None:
    x = np.random.default_rng(seed).normal(size=(len(graph), 3))
    emulation = emulate(
        kind(sync="none", mode=mode, on_missing=missing, weights=rule),
        graph,
        link=link,
        learner=FixedLearner(list(x)),
        seed=seed,
        until=9,
    )
    w = params_of(emulation.devices)
    assert (w >= x.min(axis=0) - 1e-12).all()
    assert (w <= x.max(axis=0) + 1e-12).all()


def test_a_lost_neighbors_weight_goes_to_oneself_or_to_all() -> None:
    """Three on a path, the middle one hears only one side: 1/3 each becomes 2/3 + 1/3, or 1/2 + 1/2."""

    def deaf(src: int, dst: int) -> LinkSettings:
        return LinkSettings.model_validate({"loss": "100 %"} if (src, dst) == (2, 1) else {})

    for kind in KINDS:
        for on_missing, expected in (("self", 1.0), ("renormalize", 1.5), ("cache", 1.5)):
            emulation = emulate(
                kind(sync="none", mode={"kind": "barrier", "timeout": "1 s"}, on_missing=on_missing),
                [[1], [0, 2], [1]],
                link=deaf,
                learner=FixedLearner([np.array([3.0]), np.array([0.0]), np.array([30.0])]),
                rounds=1,
            )
            # Of device 2's degree nothing is known: it counts as like device 1's.
            assert model_of(emulation.devices[1])[0] == pytest.approx(expected)


def test_dgd_talks_while_it_computes() -> None:
    times = {}
    for kind in KINDS:
        learner = FixedLearner(list(Quadratics(4, 2, 0).x), seconds=1.0)
        emulation = emulate(kind(sync="none"), ring(4), link={"latency": "600 ms"}, learner=learner, rounds=5)
        times[kind] = emulation.clock.now
    assert times[DGD] == pytest.approx(5)
    assert [times[CTA], times[ATC]] == pytest.approx([8, 8])


def test_devices_start_from_one_model_if_asked_to() -> None:
    x = list(np.random.default_rng(0).normal(size=(4, 3)))
    largest = max(x, key=np.linalg.norm)
    for kind in KINDS:
        w = params_of(emulate(kind(), ring(4), learner=FixedLearner(x), rounds=1).devices)
        np.testing.assert_allclose(w, [largest] * 4, rtol=1e-12)


def test_one_way_links_break_the_contract_of_metropolis_weights_alone() -> None:
    for kind in KINDS:
        assert kind().contract.one_way
        assert not kind(weights="uniform").contract.one_way
        assert kind().contract.loss
        assert not kind(mode="fresh").contract.loss
