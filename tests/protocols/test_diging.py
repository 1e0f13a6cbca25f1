"""DIGing and quasi-global momentum: matrix recursions, the tracked sum, exact minima, and what loss does to them."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.matrices import mixing_matrix
from helpers.recursions import Quadratics, models_after
from helpers.small_worlds import params_of
from helpers.strategies import lossy_links, strongly_connected, undirected
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pl_async.protocols.atc import ATC
from p2pl_async.protocols.dgd import DGD
from p2pl_async.protocols.diging import DIGing
from p2pl_async.protocols.qgm import QGM
from p2pl_async.testing import FixedLearner, emulate, ring


def learner(task: Quadratics, eta: float = 0.05, **how) -> FixedLearner:
    return FixedLearner(list(task.x), gradient=task.of, learning_rate=eta, **how)


@pytest.mark.parametrize("kind", [DIGing, QGM])
@settings(max_examples=25)
@given(undirected(), st.integers(0, 99), st.data())
def test_without_loss_or_latency_it_is_the_matrix_recursion(kind, neighbors, seed, data) -> None:
    n = len(neighbors)
    task = Quadratics(n, 4, seed)
    speeds = data.draw(st.lists(st.floats(0.1, 3), min_size=n, max_size=n))
    emulation = emulate(kind(sync="none"), neighbors, learner=learner(task, seconds=speeds), rounds=7)
    expected = models_after(kind().kind, mixing_matrix("metropolis", neighbors), task.x, task.all, 0.05, 7)
    np.testing.assert_allclose(params_of(emulation.devices), expected, atol=1e-10)


def tracked(emulation) -> tuple[np.ndarray, np.ndarray]:
    """Return the sum of what devices track, and of their latest gradients."""
    states = [device.state for device in emulation.devices]
    return np.sum([y for y, _ in states], axis=0), np.sum([g for _, g in states], axis=0)


@settings(max_examples=25)
@given(undirected(), st.integers(0, 99), st.booleans())
def test_the_sum_of_all_y_is_the_sum_of_the_latest_gradients(neighbors, seed, repeated) -> None:
    task = Quadratics(len(neighbors), 3, seed)
    link = {"latency": "50 ms", "duplicate": 0.5 if repeated else 0.0}
    emulation = emulate(DIGing(sync="none"), neighbors, link=link, learner=learner(task), rounds=9, seed=seed)
    sums = tracked(emulation)
    np.testing.assert_allclose(sums[0], sums[1], atol=1e-12)


def test_a_lost_message_breaks_the_tracked_sum_as_the_contract_says() -> None:
    protocol = DIGing(sync="none", mode={"kind": "barrier", "timeout": "1 s"})
    assert protocol.contract.loss
    emulation = emulate(protocol, ring(5), link={"loss": "20 %"}, learner=learner(Quadratics(5, 3, 1)), rounds=9)
    sums = tracked(emulation)
    assert np.abs(sums[0] - sums[1]).max() > 0.01


def test_gradient_tracking_reaches_the_minimum_that_dgd_stays_beside() -> None:
    task = Quadratics(6, 3, 1)
    away = {}
    for kind in (DGD, DIGing):
        emulation = emulate(kind(sync="none"), ring(6), learner=learner(task, 0.04), rounds=500)
        away[kind] = np.abs(params_of(emulation.devices) - task.minimum()).max()
    assert away[DIGing] < 1e-6
    assert away[DGD] > 1e-2


@settings(max_examples=20)
@given(strongly_connected(), lossy_links(), st.integers(0, 99))
def test_equal_models_without_gradients_stay_where_they_are_on_any_link(graph, link, seed) -> None:
    for kind in (DIGing, QGM):
        emulation = emulate(
            kind(sync="none", mode={"kind": "barrier", "timeout": "700 ms"}),
            graph,
            link=link,
            learner=FixedLearner([np.array([3.0, -1.0])] * len(graph)),
            seed=seed,
            rounds=4,
        )
        np.testing.assert_allclose(params_of(emulation.devices), [[3.0, -1.0]] * len(graph), rtol=1e-12)


def test_a_gradient_tracker_waits_for_gradients_in_virtual_time() -> None:
    emulation = emulate(DIGing(sync="none"), ring(3), learner=learner(Quadratics(3, 2, 0), seconds=2.0), rounds=4)
    assert emulation.clock.now == 2 * (1 + 4)


def test_without_momentum_it_is_atc() -> None:
    task = Quadratics(5, 3, 2)
    runs = [
        params_of(emulate(protocol, ring(5), learner=learner(task), rounds=6).devices)
        for protocol in (QGM(sync="none", momentum=0.0), ATC(sync="none"))
    ]
    np.testing.assert_allclose(runs[0], runs[1], atol=1e-13)


def test_momentum_makes_a_shallow_valley_short() -> None:
    task = Quadratics(5, 3, 2)
    task.h *= 0.05
    away = []
    for momentum in (0.0, 0.9):
        emulation = emulate(QGM(sync="none", momentum=momentum), ring(5), learner=learner(task, 0.1), rounds=60)
        away.append(np.linalg.norm(params_of(emulation.devices).mean(axis=0) - task.minimum()))
    assert away[1] < 0.7 * away[0]
