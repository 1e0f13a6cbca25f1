"""FedAvg: P2PL on the complete graph is the same thing; who trains, who waits, and what gets lost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers.models import model_of
from helpers.small_worlds import params_of, run_watched, small

from p2pl_async.device import Device
from p2pl_async.errors import Deadlock, DeviceFailed
from p2pl_async.experiment.emulation import Emulation
from p2pl_async.link import LinkSettings
from p2pl_async.messages import Vector
from p2pl_async.protocols.fedavg import FedAvg, Global, Update
from p2pl_async.testing import FixedLearner, complete, emulate


def star(n: int, hub: int = 0) -> list[list[int]]:
    return [[j for j in range(n) if j != hub] if k == hub else [hub] for k in range(n)]


def start(n: int, seed: int = 0) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).normal(size=(n, 4)))


def fedavg(n: int, rounds: int = 3, **how: Any) -> tuple[Emulation, list[tuple[int, str, float]]]:
    """Run FedAvg on a star where training adds 1 + id to the model."""
    measured: list[tuple[int, str, float]] = []
    settings = {key: how.pop(key) for key in list(how) if key in FedAvg.model_fields}
    x = how.pop("x", None) or start(n)
    emulation = emulate(
        how.pop("protocol", FedAvg).model_validate(settings),
        how.pop("graph", star(n)),
        learner=FixedLearner(
            x,
            step=how.pop("step", lambda k, w: w + 1 + k),
            n_samples=how.pop("n_samples", None),
            seconds=how.pop("seconds", 1.0),
        ),
        rounds=rounds,
        record=lambda k, metric, value: measured.append((k, metric, value)),
        **how,
    )
    return emulation, measured


# The oracle


@pytest.mark.parametrize("partition", ["iid", {"kind": "quantity-dirichlet", "beta": 1.0}], ids=["equal", "unequal"])
@pytest.mark.parametrize("epochs", [1, 2])
def test_p2pl_on_the_complete_graph_is_fedavg_with_full_participation(partition, epochs) -> None:
    world = {
        "link": {"loss": "0 %"},
        "data": {"partition": partition},
        "model": {"common_init": True},
        "train": {"momentum_across_rounds": "reset"},
        "stop": {"rounds": 3},
    }
    peer = {"kind": "p2pl", "sync": "none", "mode": "barrier", "consensus_steps": 1, "epochs": epochs}
    _, (peers,) = run_watched(small(topology="complete", protocol=peer, **world))
    result, (fed,) = run_watched(small(topology="star", protocol={"kind": "fedavg", "epochs": epochs}, **world))

    sizes = result.devices["n_samples"]
    assert (sizes.max() > 2 * sizes.min()) == (partition != "iid")
    assert [device.round for device in peers] == [device.round for device in fed] == [3] * 5
    w, model = params_of(peers), params_of(fed)
    np.testing.assert_allclose(w, np.broadcast_to(w[0], w.shape), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model, np.broadcast_to(w[0], w.shape), rtol=1e-5, atol=1e-6)
    assert np.abs(w[0] - peers[0].initial_params()).max() > 0.01  # it has learned


def test_a_round_is_the_mean_by_sample_count() -> None:
    sizes = [1, 2, 3, 6]
    emulation, _ = fedavg(4, n_samples=sizes, step=lambda k, w: np.full(4, float(k)), rounds=1)
    expected = np.average(range(4), weights=sizes)
    for device in emulation.devices:
        np.testing.assert_allclose(model_of(device), expected)
    assert emulation.clock.now == 1.0


def test_everybody_is_given_the_servers_model() -> None:
    x = start(5)
    emulation, _ = fedavg(5, x=x, rounds=3, link={"latency": "100 ms"})
    for device in emulation.devices:
        np.testing.assert_allclose(model_of(device), x[0] + 3 * np.mean([1, 2, 3, 4, 5]))
        assert device.round == 3


# Settings


def test_fraction_draws_so_many_devices_anew_in_each_round() -> None:
    trained: list[tuple[int, float]] = []

    class Spy(FixedLearner):
        async def train(self, device: int, w: Any, epochs: int | None, steps: int | None, drift: Any = None) -> Any:
            result = await super().train(device, w, epochs, steps)
            trained.append((device, round(float(w[0]))))
            return result

    for fraction, count in ((1.0, 10), (0.5, 5), (0.25, 2), (0.0, 1)):
        trained.clear()
        emulation = emulate(
            FedAvg(fraction=fraction),
            star(10),
            learner=Spy([np.zeros(4)] * 10, step=lambda k, w: w + 1),
            rounds=8,
            seed=2,
        )
        rounds = [{k for k, w in trained if w == r} for r in range(8)]
        assert [len(chosen) for chosen in rounds] == [count] * 8
        assert model_of(emulation.devices[3])[0] == pytest.approx(8)  # those that weren't drawn have it too
        if fraction < 1:
            assert len(set(map(frozenset, rounds))) > 1


def test_server_names_the_device_that_averages() -> None:
    emulation, _ = fedavg(5, server=3, graph=star(5, hub=3), rounds=2)
    np.testing.assert_allclose(model_of(emulation.devices[0]), start(5)[3] + 2 * 3)
    emulation, _ = fedavg(5, server=2, graph=complete(5), rounds=2)
    np.testing.assert_allclose(model_of(emulation.devices[0]), start(5)[2] + 2 * 3)


@pytest.mark.parametrize(
    ("graph", "server"),
    [
        ([[1], [2], [0]], 0),  # a directed ring
        ([[1, 3], [0, 2], [1, 3], [2, 0]], 0),  # a ring: device 2 is no neighbor of the server
        (star(4), 2),
        (star(4), 9),
        ([[1, 2], [0], []], 0),  # device 2 is not heard
    ],
    ids=["directed ring", "ring", "not the hub", "no such device", "one way"],
)
def test_a_topology_without_links_to_the_server_is_an_error(graph, server) -> None:
    with pytest.raises(DeviceFailed, match=rf"server={server} must .*star"):
        fedavg(len(graph), graph=graph, server=server)


def test_epochs_are_asked_of_the_learner() -> None:
    asked = set()

    class Spy(FixedLearner):
        async def train(self, device: int, w: Any, epochs: int | None, steps: int | None, drift: Any = None) -> Any:
            asked.add((epochs, steps))
            return await super().train(device, w, epochs, steps)

    emulate(FedAvg(epochs=4), star(3), learner=Spy(start(3)), rounds=1)
    assert asked == {(4, None)}


# Losses


def test_without_a_timeout_a_lost_update_is_a_deadlock_that_says_so() -> None:
    with pytest.raises(Deadlock, match=r"device 0 .* waits for update"):
        fedavg(4, link={"loss": "50 %"})


def test_with_a_timeout_the_server_goes_on_with_what_came() -> None:
    emulation, _ = fedavg(6, rounds=10, timeout="5 s", link={"loss": "30 %", "latency": "50 ms"})
    assert emulation.devices[0].round == 10
    assert emulation.trace.counts.n_lost > 10
    assert emulation.clock.now <= 10 * (1 + 5) + 1


def test_the_timeout_runs_from_the_end_of_the_servers_own_training() -> None:
    seconds = [2.0, 1.0, 100.0]
    for timeout in (3, 8):
        emulation, _ = fedavg(3, rounds=1, seconds=seconds, timeout=f"{timeout} s")
        assert emulation.devices[0].params == pytest.approx(start(3)[0] + 1.5)  # of devices 0 and 1
    emulation, _ = fedavg(3, rounds=4, seconds=seconds, timeout="3 s", until=99)
    assert emulation.devices[0].round == 4


def test_nothing_heard_changes_nothing() -> None:
    """Only the rounds in which the server draws itself change the model."""
    trained: list[int] = []

    def step(k: int, w: np.ndarray) -> np.ndarray:
        trained.append(k)
        return w + 1

    emulation, _ = fedavg(
        3,
        rounds=6,
        fraction=0.4,
        timeout="1 s",
        link={"loss": "100 %"},
        step=step,
    )
    assert emulation.devices[0].round == 6
    assert 0 < len(trained) < 6
    assert set(trained) == {0}
    np.testing.assert_allclose(model_of(emulation.devices[0]), start(3)[0] + len(trained))


def test_a_lost_last_model_does_not_hang_the_run() -> None:
    def link(src: int, dst: int) -> LinkSettings:
        return LinkSettings.model_validate({"loss": "100 %"} if (src, dst) == (0, 2) else {})

    emulation, _ = fedavg(3, rounds=2, timeout="1 s", link=link)
    assert [device.round for device in emulation.devices] == [2, 2, 0]


@pytest.mark.parametrize("seed", range(4))
def test_copies_and_late_models_make_nobody_train_twice_or_go_back(seed) -> None:
    counts: dict[int, int] = {}

    def step(k: int, w: np.ndarray) -> np.ndarray:
        counts[k] = counts.get(k, 0) + 1
        return w + 1

    emulation, measured = fedavg(
        5,
        rounds=6,
        step=step,
        seconds=[0.1] * 5,
        timeout="300 ms",
        seed=seed,
        link={"latency": {"kind": "uniform", "low": "0 s", "high": "1 s"}, "order": "free", "duplicate": 0.7},
    )
    assert emulation.trace.duplicates > 10
    assert all(count <= 6 for count in counts.values())
    assert all(device.round <= 6 for device in emulation.devices)
    assert not [metric for _, metric, _ in measured if metric == "refused"]


def test_rounds_of_a_device_only_grow() -> None:
    rounds: dict[int, list[int]] = {}

    class Spy(FedAvg):
        kind: Any = "spy"

        async def run(self, device: Device) -> None:
            finish = device.finish_round

            def watched(*args: Any, **kwargs: Any) -> None:
                finish(*args, **kwargs)
                rounds.setdefault(device.id, []).append(device.round)

            device.finish_round = watched  # type: ignore[method-assign]
            await super().run(device)

    fedavg(
        4,
        rounds=8,
        protocol=Spy,
        seconds=[0.05] * 4,
        timeout="100 ms",
        link={"latency": {"kind": "uniform", "low": "0 s", "high": "2 s"}, "order": "free", "duplicate": 0.5},
    )
    assert len(rounds) == 4
    assert all(list(seen) == sorted(set(seen)) for seen in rounds.values())


# Hostile peers


@pytest.mark.parametrize(
    "spoil",
    [
        lambda update: replace(update, w=np.full(4, np.nan)),
        lambda update: replace(update, w=np.full(4, np.inf)),
        lambda update: replace(update, w=np.zeros(5)),
        lambda update: replace(update, w=np.zeros((2, 2))),
        lambda update: replace(update, w=np.zeros(4, np.float32)),
        lambda update: replace(update, n_samples=0),
        lambda update: replace(update, n_samples=-3),
    ],
    ids=["nan", "inf", "size", "shape", "dtype", "no samples", "negative samples"],
)
def test_an_update_that_cannot_be_averaged_is_refused(spoil) -> None:
    class Hostile(FedAvg):
        kind: Any = "hostile"

        async def run(self, device: Device) -> None:
            if device.id != 2:
                return await super().run(device)
            device.passive = True
            while True:
                model = await device.receive(Global)
                device.send(0, spoil(Update(model.round, 1, model.w + 100)))

    emulation, measured = fedavg(3, protocol=Hostile, timeout="1 s", rounds=2)
    np.testing.assert_allclose(model_of(emulation.devices[0]), start(3)[0] + 2 * 1.5)  # of devices 0 and 1
    assert [(k, metric) for k, metric, _ in measured if metric == "refused"] == [(0, "refused")] * 2


def test_only_the_servers_model_counts() -> None:
    class Usurper(FedAvg):
        kind: Any = "usurper"

        async def run(self, device: Device) -> None:
            if device.id == 2:
                device.send(1, Global(99, True, np.full(4, 1e6)))
                device.send(1, Global(0, True, np.full(4, np.nan)))
            await super().run(device)

    emulation, measured = fedavg(3, protocol=Usurper, graph=complete(3), rounds=2)
    np.testing.assert_allclose(model_of(emulation.devices[1]), start(3)[0] + 2 * 2)
    assert [(k, metric) for k, metric, _ in measured if metric == "refused"] == [(1, "refused")] * 2


def test_an_update_of_another_round_is_late_and_ignored() -> None:
    class Hasty(FedAvg):
        kind: Any = "hasty"

        async def run(self, device: Device) -> None:
            if device.id == 1:
                device.send(0, Update(1, 1, np.full(4, 1e6)))
                device.send(0, Update(-1, 1, np.full(4, 1e6)))
            await super().run(device)

    emulation, _ = fedavg(2, protocol=Hasty, rounds=1)
    np.testing.assert_allclose(model_of(emulation.devices[0]), start(2)[0] + 1.5)


@pytest.mark.parametrize(("missing", "settles"), [("renormalize", 0.54), ("last", 2.5), ("inverse-probability", 2.5)])
def test_what_stands_for_a_missing_update_decides_where_it_settles(missing, settles) -> None:
    """Device 3 wants 10 and the others 0, so the optimum is 2.5; 80 % of what device 3 uploads is lost."""

    def link(src: int, dst: int) -> LinkSettings:
        return LinkSettings.model_validate({"loss": "80 %" if src == 3 else "0 %"})

    targets = [0.0, 0.0, 0.0, 10.0]
    seen: list[float] = []

    class Spy(FedAvg):
        def _average(self, *what: Any) -> Vector:
            w = super()._average(*what)
            seen.append(float(w[0]))
            return w

    emulate(
        Spy.model_validate({"timeout": "3 s", "missing": missing}),
        star(4),
        link=link,
        learner=FixedLearner([np.zeros(1)] * 4, gradient=lambda k, w: w - targets[k], learning_rate=0.1),
        rounds=600,
    )
    assert np.mean(seen[100:]) == pytest.approx(settles, abs=0.35 if missing == "inverse-probability" else 0.15)


def test_a_fraction_that_floats_round_down_trains_as_many_as_it_says() -> None:
    chosen: list[int] = []

    class Spy(FedAvg):
        def _send_model(self, device: Device, who: list[int], w: Vector) -> None:
            chosen.append(len(who))
            super()._send_model(device, who, w)

    emulate(Spy(fraction=0.29), star(100), learner=FixedLearner([np.zeros(1)] * 100), rounds=2)
    assert chosen[:2] == [29, 29]
