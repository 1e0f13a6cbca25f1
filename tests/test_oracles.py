"""Whole runs against something simpler that must give the same: plain torch, one device at a time, other weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.models import start
from helpers.small_worlds import params_of, run_watched, small
from helpers.strategies import lossy_links, undirected
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pl_async.basics.randomness import stream
from p2pl_async.learning.trainer import Trainer
from p2pl_async.protocols.p2pl import P2PL
from p2pl_async.scenario.building.world import build_world
from p2pl_async.scenario.scenario import Scenario
from p2pl_async.testing import FixedLearner, emulate, ring


def plain_sgd(scenario: Scenario, device: int, rounds: int, epochs: int) -> np.ndarray:
    """Train one device alone with torch's own optimizer and return its parameters, (n_params,)."""
    import torch

    world = build_world(scenario)
    data = world.dataset
    assert data is not None
    x, y = torch.tensor(data.x_train), torch.tensor(data.y_train)
    seed = int(stream(scenario.seed, "init", device).integers(2**63))
    model = scenario.model.module(data.x_train.shape[1:], data.n_classes, seed)
    order = stream(scenario.seed, "batches", device)
    train = scenario.train
    optimizer: Any = None
    for _ in range(rounds):
        if optimizer is None or train.momentum_across_rounds != "keep":
            optimizer = torch.optim.SGD(
                model.parameters(),
                train.learning_rate,
                momentum=train.momentum,
                nesterov=train.nesterov,
                weight_decay=train.weight_decay,
            )
        for _ in range(epochs):
            rows = order.permutation(world.parts[device])
            assert train.batch_size != "all"
            for begin in range(0, len(rows), train.batch_size):
                batch = rows[begin : begin + train.batch_size]
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
                if train.clip is not None:
                    torch.nn.utils.clip_grad_norm_(model.parameters(), train.clip)
                optimizer.step()
    return torch.cat([p.detach().flatten() for p in model.parameters()]).numpy()


@pytest.mark.parametrize(
    "train",
    [
        {"momentum": 0.0},
        {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
        {"momentum": 0.9, "momentum_across_rounds": "keep", "clip": 0.5, "batch_size": 7},
    ],
    ids=["plain", "nesterov", "keep and clip"],
)
@pytest.mark.parametrize("protocol", ["local", "p2pl"])
def test_one_device_alone_is_plain_sgd(train, protocol) -> None:
    scenario = small(
        devices={"count": 1},
        topology="complete",
        data={"train_samples": 95},
        train=train,
        protocol={"kind": protocol, "epochs": 2},
        stop={"rounds": 3},
    )
    _, (devices,) = run_watched(scenario)
    expected = plain_sgd(scenario, 0, rounds=3, epochs=2)
    np.testing.assert_allclose(params_of(devices)[0], expected, rtol=1e-4, atol=2e-6)


def test_devices_that_hear_nobody_are_plain_sgd_each() -> None:
    scenario = small(protocol="local", devices={"count": 3}, stop={"rounds": 2})
    _, (devices,) = run_watched(scenario)
    for k, w in enumerate(params_of(devices)):
        np.testing.assert_allclose(w, plain_sgd(scenario, k, rounds=2, epochs=1), rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("hidden", [[12], []], ids=["mlp", "softmax"])
def test_a_batched_run_is_the_run_computed_one_device_at_a_time(hidden, monkeypatch) -> None:
    """Devices of unequal speed and data: the batches are of all sizes, some with several jobs of a device."""
    scenario = small(
        devices={"count": 8, "compute": {"spread": 0.7}},
        data={"partition": {"kind": "dirichlet", "alpha": 0.7}},
        model={"hidden": hidden},
        train={"momentum": 0.9, "momentum_across_rounds": "keep"},
        protocol={"sync": {"kind": "max-norm", "beacon": "200 ms"}},
        stop={"rounds": 6},
    )
    together, (batched,) = run_watched(scenario)
    compute = Trainer.compute
    monkeypatch.setattr(Trainer, "compute", lambda self, jobs: [compute(self, [job]) for job in jobs])
    alone, (single,) = run_watched(scenario)

    assert together.summary["training"]["mean_batch"] > 2
    assert alone.summary["training"]["mean_batch"] == 1
    assert together.summary["trace_digest"] == alone.summary["trace_digest"]
    assert together.summary["virtual_seconds"] == alone.summary["virtual_seconds"]
    np.testing.assert_allclose(params_of(batched), params_of(single), rtol=1e-4, atol=1e-5)


@settings(max_examples=20)
@given(st.integers(3, 9), lossy_links(), st.sampled_from(["fresh", {"kind": "barrier", "timeout": "1 s"}]), st.data())
def test_equal_sizes_on_a_regular_graph_make_the_weights_rules_one(n, link, mode, data) -> None:
    size, seed = data.draw(st.integers(1, 100)), data.draw(st.integers(0, 99))
    runs = [
        emulate(
            P2PL(sync="none", mode=mode, weights=rule),
            ring(n),
            link=link,
            learner=FixedLearner(start(n, seed=seed), n_samples=[size] * n, step=lambda k, w: 0.9 * w + k),
            seed=seed,
            rounds=5,
        )
        for rule in ("size", "uniform", "metropolis")
    ]
    assert len({run.trace.digest() for run in runs}) == 1
    first, *others = (params_of(run.devices) for run in runs)
    for other in others:
        np.testing.assert_allclose(other, first, rtol=1e-12)


def test_equal_sizes_on_a_regular_graph_give_identical_runs_when_devices_learn() -> None:
    runs = [
        run_watched(small(protocol={"weights": rule}, model={"common_init": True}))
        for rule in ("size", "uniform", "metropolis")
    ]
    assert set(runs[0][0].devices["n_samples"]) == {60}
    assert len({result.summary["trace_digest"] for result, _ in runs}) == 1
    models = [params_of(devices) for _, (devices,) in runs]
    np.testing.assert_allclose(models[1], models[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(models[2], models[0], rtol=1e-4, atol=1e-5)


@settings(max_examples=30)
@given(undirected(min_size=3), lossy_links(), st.sampled_from(["size", "relative-size"]), st.data())
def test_a_common_factor_of_the_sample_counts_changes_nothing(graph, link, rule, data) -> None:
    n = len(graph)
    sizes = data.draw(st.lists(st.integers(1, 50), min_size=n, max_size=n))
    factor = data.draw(st.integers(2, 1000))
    results = [
        params_of(
            emulate(
                P2PL(sync="none", mode="fresh", weights=rule),
                graph,
                link={**link, "rate": None},
                learner=FixedLearner(start(n), n_samples=[times * size for size in sizes]),
                rounds=4,
            ).devices
        )
        for times in (1, factor)
    ]
    np.testing.assert_allclose(results[1], results[0], rtol=1e-12)


def test_unequal_sizes_make_the_weights_rules_differ() -> None:
    results = [
        params_of(
            emulate(
                P2PL(sync="none", mode="barrier", weights=rule),
                ring(4),
                learner=FixedLearner(start(4), n_samples=[1, 2, 3, 40]),
                rounds=2,
            ).devices
        )
        for rule in ("size", "uniform", "relative-size")
    ]
    assert np.abs(results[0] - results[1]).max() > 0.01
    assert np.abs(results[1] - results[2]).max() > 0.01
    assert np.abs(results[0] - results[2]).max() > 0.01
