"""Robust push-sum, and RASGP and P2PL on it: mass is owed, never lost."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.mass_world import MassWorld
from helpers.matrices import push_matrix
from helpers.models import model_of, start, values
from helpers.strategies import lossy_links, strongly_connected, undirected
from helpers.sums import owed_totals
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pl_async.protocols.fedavg import FedAvg
from p2pl_async.protocols.p2pl_push import P2PLPush
from p2pl_async.protocols.rasgp import RASGP
from p2pl_async.protocols.running_sums import Sums
from p2pl_async.testing import FixedLearner, complete, emulate, ring

pytestmark = pytest.mark.usefixtures("inboxes_stay_open")

BARRIER = {"kind": "barrier"}
HASTY = {"kind": "barrier", "timeout": "300 ms"}
FORMS = [
    RASGP(sync="none"),
    RASGP(sync="none", grad_scale="one", u_min=0.02),
    RASGP(sync="none", mode={"kind": "fresh", "wait": "200 ms"}),
    RASGP(sync="none", mode=HASTY),
    P2PLPush(sync="none", mode="fresh"),
    P2PLPush(sync="none", mode=HASTY, grad_scale="u"),
]


# Invariants


@settings(max_examples=60)
@given(strongly_connected(), lossy_links(max_loss=0.9), st.sampled_from(FORMS), st.integers(0, 99), st.floats(1, 30))
def test_mass_with_what_is_owed_is_conserved_whatever_links_do(neighbors, link, form, seed, until) -> None:
    n = len(neighbors)
    sizes = [1 + k for k in range(n)]
    x0 = start(n, seed=seed)
    emulation = emulate(
        form,
        neighbors,
        link=link,
        learner=FixedLearner(x0, seconds=[0.3 + 0.2 * k for k in range(n)], n_samples=sizes),
        seed=seed,
        until=until,
    )
    weights = np.array(sizes, float) if isinstance(form, P2PLPush) else np.ones(n)
    x, u = owed_totals(emulation)
    np.testing.assert_allclose(x, weights @ np.stack(x0), atol=1e-10)
    assert u == pytest.approx(weights.sum(), abs=1e-10)
    z = values(emulation)
    assert all(device.state[0].u > 0 for device in emulation.devices)
    assert (z >= np.min(x0, axis=0) - 1e-9).all()
    assert (z <= np.max(x0, axis=0) + 1e-9).all()


STEPS = [
    (RASGP(sync="none", grad_scale="one", u_min=0.1), lambda k, u: 1.0),
    (RASGP(sync="none"), lambda k, u: u),
    (P2PLPush(sync="none", mode="fresh"), lambda k, u: 1.0 + k),
    (P2PLPush(sync="none", grad_scale="u"), lambda k, u: u),
]
"""A form, and the scale with which a step of device k, whose push weight is u, enters the total."""


@settings(max_examples=60)
@given(strongly_connected(), lossy_links(max_loss=0.8), st.sampled_from(STEPS), st.integers(0, 99))
def test_a_step_enters_the_total_with_its_scale(neighbors, link, case, seed) -> None:
    """Every step moves its device's model by one; the total moves by one, the push weight, or the sample count."""
    n = len(neighbors)
    form, scale = case
    sizes = [1 + k for k in range(n)]
    x0 = start(n, seed=seed)
    first = [float(size) for size in sizes] if isinstance(form, P2PLPush) else [1.0] * n
    weights = dict(enumerate(first))
    moved: list[float] = []

    def step(k: int, w: np.ndarray) -> np.ndarray:
        moved.append(scale(k, weights[k]))
        return w + 1

    def remember(k: int, metric: str, value: float) -> None:
        if metric == "push_weight":
            weights[k] = value

    emulation = emulate(
        form,
        neighbors,
        link=link,
        learner=FixedLearner(x0, step=step, n_samples=sizes),
        seed=seed,
        until=12.0,
        record=remember,
    )
    np.testing.assert_allclose(owed_totals(emulation)[0], np.array(first) @ np.stack(x0) + sum(moved), rtol=1e-9)


@settings(max_examples=6)
@given(strongly_connected(max_size=4), st.floats(0.5, 0.9), st.integers(0, 99))
def test_the_average_is_exact_though_most_messages_are_lost(neighbors, loss, seed) -> None:
    x0 = start(len(neighbors), seed=seed)
    emulation = emulate(
        RASGP(sync="none"),
        neighbors,
        link={
            "latency": {"kind": "lognormal", "mean": "300 ms", "sd": "800 ms"},
            "loss": loss,
            "order": "free",
            "duplicate": 0.2,
        },
        learner=FixedLearner(x0, seconds=[1 + 0.3 * k for k in range(len(x0))]),
        seed=seed,
        until=500,
    )
    np.testing.assert_allclose(values(emulation), np.tile(np.mean(x0, axis=0), (len(x0), 1)), atol=1e-6)


@settings(max_examples=6)
@given(strongly_connected(max_size=5), st.integers(0, 99), st.data())
def test_p2pl_on_push_sum_agrees_on_the_mean_by_sample_count(neighbors, seed, data) -> None:
    n = len(neighbors)
    sizes = data.draw(st.lists(st.integers(1, 100), min_size=n, max_size=n))
    x0 = start(n, seed=seed)
    emulation = emulate(
        P2PLPush(sync="none", mode="fresh"),
        neighbors,
        link={"latency": "100 ms", "loss": "30 %"},
        learner=FixedLearner(x0, n_samples=sizes),
        seed=seed,
        until=300,
    )
    np.testing.assert_allclose(values(emulation), np.tile(np.average(x0, axis=0, weights=sizes), (n, 1)), atol=1e-6)


# Exact oracles


@settings(max_examples=25)
@given(strongly_connected(), st.sampled_from(["u", "one"]), st.data())
def test_without_loss_or_latency_the_barrier_is_the_matrix_recursion(neighbors, grad_scale, data) -> None:
    n, eta = len(neighbors), 0.1
    x0 = start(n, seed=data.draw(st.integers(0, 99)))
    speeds = data.draw(st.lists(st.floats(0.1, 3), min_size=n, max_size=n))
    emulation = emulate(
        RASGP(sync="none", mode=BARRIER, grad_scale=grad_scale),
        neighbors,
        learner=FixedLearner(x0, seconds=speeds, step=lambda k, w: w - eta * (w - k)),
        rounds=5,
    )
    p, x, u, ids = push_matrix(neighbors), np.stack(x0), np.ones((n, 1)), np.arange(n)[:, None]
    for _ in range(5):
        x = p @ (x - (u if grad_scale == "u" else 1) * eta * (x / u - ids))
        u = p @ u
    np.testing.assert_allclose(values(emulation), x / u, atol=1e-12)


def test_p2pl_on_push_sum_on_a_complete_graph_is_fedavg() -> None:
    n, sizes = 5, [3, 50, 20, 1, 9]
    x0 = [start(1)[0]] * n
    learner = FixedLearner(x0, step=lambda k, w: w - 0.1 * (w - k), n_samples=sizes)
    ours = emulate(P2PLPush(sync="none", mode=BARRIER), complete(n), learner=learner, rounds=7)
    theirs = emulate(FedAvg(), complete(n), learner=learner, rounds=7)
    np.testing.assert_allclose(values(ours), values(theirs), atol=1e-12)


def test_p2pl_on_push_sum_finds_the_minimum_of_the_mean_loss_over_all_samples() -> None:
    """Losses n_k (w - k)^2 / 2 on a directed graph with unequal neighborhoods; local steps are small."""
    neighbors, sizes = [[1, 2, 3], [2], [3], [0]], [1, 10, 2, 30]
    eta = 0.01
    learner = FixedLearner([np.zeros(1)] * 4, step=lambda k, w: w - eta * (w - k), n_samples=sizes)
    best = np.average(range(4), weights=sizes)
    ours = emulate(P2PLPush(sync="none", mode=BARRIER), neighbors, learner=learner, rounds=800)
    assert np.mean(values(ours)) == pytest.approx(best, abs=0.1)
    by_push_weight = emulate(
        P2PLPush(sync="none", mode=BARRIER, grad_scale="u"), neighbors, learner=learner, rounds=800
    )
    assert abs(np.mean(values(by_push_weight)) - best) > 0.4


# Settings


def test_a_fast_device_keeps_a_push_weight_above_the_least() -> None:
    """One of four is twenty times as fast as its neighbors and hears half of what they say."""

    def least(**how) -> float:
        found: list[float] = []
        emulate(
            RASGP(sync="none", **how),
            ring(4),
            link={"loss": "50 %"},
            learner=FixedLearner(start(4), seconds=[0.05, 1, 1, 1]),
            until=60,
            record=lambda k, metric, value: found.append(value) if metric == "push_weight" else None,
        )
        return min(found)

    assert least() >= 1e-3 / 3
    assert least(u_min=0.1) >= 0.1 / 3
    assert least(u_min=0) < 1e-3 / 3


def test_scaling_by_the_push_weight_keeps_a_fast_device_from_diverging() -> None:
    def largest(**how) -> float:
        emulation = emulate(
            RASGP(sync="none", **how),
            ring(4),
            link={"loss": "50 %"},
            learner=FixedLearner(start(4), seconds=[0.05, 1, 1, 1], step=lambda k, w: w - 0.5 * (w - k)),
            until=5,
        )
        return float(np.abs(values(emulation)).max())

    assert largest() < 4
    assert largest(grad_scale="one") > 100


def test_below_the_least_weight_a_device_still_repeats_what_it_owes() -> None:
    """After two losses each way both are below it; silence from then on would be for ever."""
    emulation = emulate(
        RASGP(sync="none", u_min=0.3),
        ring(2),
        link={"loss": "90 %"},
        learner=FixedLearner([np.zeros(1), np.ones(1)]),
        until=500,
    )
    np.testing.assert_allclose(values(emulation), 0.5, atol=1e-6)


def test_sums_that_can_not_be_right_are_refused() -> None:
    account = MassWorld([[1], [0]], np.random.default_rng(0)).up[1]
    header, x = np.array([[1, 0, 0, 1, 0, 0, 0]]), np.ones(3)
    assert account.fits(Sums(0, 0, 0.5, 0.5, x, header))
    assert account.fits(Sums(0, 0, 0.0, 0.0, x[:0], header))
    for u, wrong in ((-1.0, x), (np.inf, x), (1.0, np.ones(2)), (1.0, np.ones(3, np.int64))):
        assert not account.fits(Sums(0, 0, u, u, wrong, header))  # type: ignore[arg-type]
    for links in (header[:, :3], header + 1, np.vstack([header, header]), -header, header[0]):
        assert not account.fits(Sums(0, 0, 0.5, 0.5, x, links))


def test_a_neighbor_whose_sums_are_not_finite_is_refused_and_counted() -> None:
    refused: list[int] = []
    for form in (RASGP, P2PLPush):
        emulation = emulate(
            form(sync="none", mode=HASTY),
            [[1], [0], [0]],
            learner=FixedLearner([np.zeros(4), np.ones(4), np.full(4, np.nan)]),
            rounds=1,
            record=lambda k, metric, value: refused.append(k) if metric == "refused" else None,
        )
        np.testing.assert_allclose(model_of(emulation.devices[0]), 0.5)
    assert refused == [0, 0]


# Departures and returns


@settings(max_examples=25)
@given(undirected(max_size=6), st.integers(0, 10**6))
def test_mass_is_conserved_through_crashes_restarts_partitions_and_heals(neighbors, seed) -> None:
    """Whatever happens, no mass comes or goes but that of crashes; once all is quiet, all of it is held, and agreed."""
    random = np.random.default_rng(seed)
    world, n = MassWorld(neighbors, random), len(neighbors)
    loss, repeat, wait = random.choice([0, 0.3, 0.6]), random.choice([0, 0.3]), random.choice([0, 0.5, 0.9])
    for _ in range(100):
        world.storm()
        world.deliver(loss, repeat, wait)
        world.check()
    world.calm()
    for _ in range(400):
        world.now += 1
        for k in range(n):
            world.round(k, step=0)
        world.deliver(0, 0, 0)
        z = np.stack([account.z for account in world.up.values()])
        if world.now > 100 and np.ptp(z, axis=0).max() < 1e-9:
            break
    world.check()
    assert not any(account.debt.u for account in world.up.values())
    np.testing.assert_allclose(z, np.broadcast_to(world.x / world.u, z.shape), atol=1e-5)


def test_links_with_one_sum_share_one_encoding() -> None:
    sent: list[tuple[int, int]] = []
    emulate(
        RASGP(sync="none"),
        complete(4),
        learner=FixedLearner(start(4)),
        rounds=3,
        sink=lambda record: sent.append((record[1], record[3])),
    )
    assert max(number for _, number in sent) == 2  # one message a round, to three receivers
    assert len(sent) == 4 * 3 * 3


@pytest.mark.parametrize(("form", "default"), [(RASGP, (None, 1)), (P2PLPush, (1, None))])
def test_steps_or_epochs_of_local_training(form, default) -> None:
    asked: list[tuple[int | None, int | None]] = []

    class Spy(FixedLearner):
        async def train(self, device, w, epochs, steps, drift=None):
            asked.append((epochs, steps))
            return await super().train(device, w, epochs, steps, drift)

    for how in ({}, {"steps": 3}, {"epochs": 2} if form is P2PLPush else {}):
        emulate(form(sync="none", **how), complete(2), learner=Spy(start(2)), rounds=1)
    assert asked == [default] * 2 + [(None, 3)] * 2 + [(2, None) if form is P2PLPush else default] * 2


@pytest.mark.parametrize("form", [RASGP, P2PLPush])
def test_devices_agree_on_one_initial_model_first(form) -> None:
    x0 = start(4)
    emulation = emulate(form(), [[1], [2], [3], [0]], learner=FixedLearner(x0), rounds=1)
    np.testing.assert_allclose(values(emulation), np.tile(max(x0, key=np.linalg.norm), (4, 1)), atol=1e-12)
