"""Push-DIGing: its recursion, what its trackers add up to, and the exact minimum."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.bowls import DIRECTED, BowlLearner
from helpers.matrices import push_matrix
from helpers.models import start, values
from helpers.strategies import lossy_links, strongly_connected
from helpers.sums import totals
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pl_async.protocols.push_diging import PushDIGing
from p2pl_async.protocols.sgp import SGP
from p2pl_async.testing import FixedLearner, emulate, ring

pytestmark = pytest.mark.usefixtures("inboxes_stay_open")


@settings(max_examples=25)
@given(strongly_connected(), st.integers(0, 99), st.data())
def test_without_loss_or_latency_the_barrier_is_the_matrix_recursion(neighbors, seed, data) -> None:
    n, eta = len(neighbors), 0.02
    speeds = data.draw(st.lists(st.floats(0.1, 3), min_size=n, max_size=n))
    x0 = start(n, seed=seed)
    emulation = emulate(
        PushDIGing(sync="none"), neighbors, learner=BowlLearner(x0, seconds=speeds, learning_rate=eta), rounds=6
    )
    p, x, u, ids = push_matrix(neighbors), np.stack(x0), np.ones((n, 1)), np.arange(n)[:, None]
    g = y = (1 + ids) * (x - ids)
    for _ in range(6):
        x, u = p @ (x - eta * y), p @ u
        new = (1 + ids) * (x / u - ids)
        y, g = p @ y + new - g, new
    np.testing.assert_allclose(values(emulation), x / u, atol=1e-10)


@settings(max_examples=40)
@given(
    strongly_connected(),
    lossy_links(duplicate=False),
    st.sampled_from([PushDIGing(sync="none"), PushDIGing(sync="none", mode="fresh")]),
    st.integers(0, 99),
    st.integers(2, 20),
)
def test_trackers_with_what_is_afloat_add_up_to_the_latest_gradients(neighbors, link, form, seed, until) -> None:
    n = len(neighbors)
    learner = BowlLearner(start(n, seed=seed), seconds=[0.3 + 0.2 * k for k in range(n)], learning_rate=0.01)
    emulation = emulate(form, neighbors, link=link | {"loss": 0.0}, learner=learner, seed=seed, until=until)
    held, u = totals(emulation)
    np.testing.assert_allclose(held[1], sum(learner.latest.values()), atol=1e-9)
    assert u == pytest.approx(n, abs=1e-10)


def test_the_minimum_is_exact_where_sgp_with_the_same_step_stays_away() -> None:
    best = np.average(range(4), weights=[1, 2, 3, 4])
    learner = BowlLearner([np.zeros(1)] * 4, learning_rate=0.02)
    exact = emulate(PushDIGing(sync="none"), DIRECTED, learner=learner, rounds=800)
    np.testing.assert_allclose(values(exact), best, atol=1e-9)
    biased = emulate(SGP(sync="none"), DIRECTED, learner=learner, rounds=800)
    assert np.abs(values(biased) - best).max() > 0.02


def test_devices_agree_on_one_initial_model_and_fresh_does_not_wait() -> None:
    x0 = start(4)
    emulation = emulate(PushDIGing(), ring(4), learner=FixedLearner(x0), rounds=1)
    np.testing.assert_allclose(values(emulation), np.tile(max(x0, key=np.linalg.norm), (4, 1)), atol=1e-12)
    for mode, seconds in (("fresh", 11.0), ("barrier", 31.0)):  # a gradient to begin with, and one a round
        form = PushDIGing(sync="none", mode=mode)
        assert emulate(
            form, ring(4), link={"latency": "2 s"}, learner=FixedLearner(x0), rounds=10
        ).clock.now == pytest.approx(seconds)
