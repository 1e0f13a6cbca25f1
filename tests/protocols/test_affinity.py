"""P2PL with Affinity: P2PL to the bit without it, the pull by hand, no traffic, a smaller sawtooth."""

from __future__ import annotations

import numpy as np
from helpers.matrices import mixing_matrix
from helpers.recursions import Quadratics
from helpers.small_worlds import params_of, run_watched, small
from helpers.strategies import lossy_links, strongly_connected, undirected
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pl_async.protocols.affinity import Affinity
from p2pl_async.protocols.p2pl import P2PL
from p2pl_async.testing import FixedLearner, complete, emulate, ring


@settings(max_examples=25)
@given(
    strongly_connected(),
    lossy_links(),
    st.sampled_from(
        [
            {},
            {"mix_first": True, "mode": "cache"},
            {"mode": {"kind": "barrier", "timeout": "700 ms"}, "consensus_steps": 2},
            {"max_lead": 1, "lead_timeout": "2 s"},
        ]
    ),
    st.integers(0, 99),
)
def test_without_a_pull_it_is_p2pl_to_the_bit(graph, link, how, seed) -> None:
    task = Quadratics(len(graph), 3, seed)
    runs = [
        emulate(protocol, graph, link=link, learner=FixedLearner(list(task.x), gradient=task.of), seed=seed, rounds=4)
        for protocol in (P2PL(**how), Affinity(eta_d=0, **how))
    ]
    assert runs[0].trace.digest() == runs[1].trace.digest()
    np.testing.assert_array_equal(params_of(runs[0].devices), params_of(runs[1].devices))


def test_without_a_pull_learning_devices_are_those_of_p2pl() -> None:
    runs = [run_watched(small(protocol=protocol)) for protocol in ("p2pl", {"kind": "p2pl-affinity", "eta_d": 0})]
    (first, (p2pl,)), (second, (affinity,)) = runs
    assert first.summary["trace_digest"] == second.summary["trace_digest"]
    np.testing.assert_array_equal(params_of(p2pl), params_of(affinity))


@settings(max_examples=25)
@given(undirected(), st.sampled_from(["size", "uniform", "metropolis"]), st.sampled_from([1, 3]), st.data())
def test_without_loss_or_latency_it_is_the_matrix_recursion(neighbors, rule, steps, data) -> None:
    n = len(neighbors)
    task = Quadratics(n, 3, data.draw(st.integers(0, 99)))
    sizes = data.draw(st.lists(st.integers(1, 100), min_size=n, max_size=n))
    emulation = emulate(
        Affinity(sync="none", mode="barrier", weights=rule, steps=steps, eta_d=0.4),
        neighbors,
        learner=FixedLearner(list(task.x), gradient=task.of, learning_rate=0.05, n_samples=sizes),
        rounds=4,
    )
    a = mixing_matrix(rule, neighbors, sizes)
    b = a - np.diag(np.diag(a))
    b /= b.sum(axis=1, keepdims=True)
    w, d = task.x, 0 * task.x
    for _ in range(4):
        for _ in range(steps):
            w = w - 0.05 * task.all(w) + 0.4 * d
        w, sent = a @ w, w
        d = (b @ sent - w) / steps
    np.testing.assert_allclose(params_of(emulation.devices), w, atol=1e-11)


def test_epochs_count_as_the_steps_that_they_take() -> None:
    """Two passes of two batches each: a pull of a quarter in each of four steps."""

    class Two(FixedLearner):
        def batches_per_epoch(self, device: int) -> int:
            return 2

        async def train(self, device, w, epochs, steps, drift=None):
            return await super().train(device, w, None, 2 * epochs, drift)

    start = [np.zeros(1), np.full(1, 8.0)]
    emulation = emulate(
        Affinity(sync="none", mode="barrier", epochs=2, eta_d=0.5, weights="relative-size"),
        [[1], [0]],
        learner=Two(start, gradient=lambda k, w: 0 * w, n_samples=[1, 3]),
        rounds=2,
    )
    # Mixed: 0 -> 0.25 * 0 + 0.75 * 8 = 6, and 8 -> 0.75 * 8 = 6. Pulls: (8 - 6) / 2 and (0 - 6) / 2; then mixed again.
    pulled = np.array([6 + 1.0, 6 - 3.0])
    expected = [0.25 * pulled[0] + 0.75 * pulled[1], 0.25 * pulled[0] + 0.75 * pulled[1]]
    np.testing.assert_allclose(params_of(emulation.devices).ravel(), expected)


def test_at_consensus_nothing_pulls() -> None:
    emulation = emulate(Affinity(eta_d=0.7), complete(4), learner=FixedLearner([np.array([2.0, 5.0])] * 4), rounds=5)
    np.testing.assert_allclose(params_of(emulation.devices), [[2.0, 5.0]] * 4, rtol=1e-14)


def test_it_sends_no_more_than_p2pl() -> None:
    task = Quadratics(5, 8, 1)
    counts = []
    for protocol in (P2PL(), Affinity()):
        emulation = emulate(protocol, ring(5), learner=FixedLearner(list(task.x), gradient=task.of), rounds=6)
        counts.append((emulation.trace.sent, emulation.trace.counts.payload_bytes))
    assert counts[0] == counts[1]


def test_two_devices_with_half_the_labels_each_stray_less_while_they_train() -> None:
    """The fall of accuracy from after mixing to after training, at the end and in the mean over devices."""
    falls, ends = [], []
    for eta_d in (0.0, 1.0):
        scenario = small(
            devices={"count": 2, "compute": {"spread": 0.0, "jitter": 0.0}},
            topology="complete",
            link={"loss": "0 %", "latency": "1 ms"},
            data={"train_samples": 600, "partition": {"kind": "classes-per-device", "classes": 5}},
            model={"common_init": True},
            train={"momentum": 0.0},
            protocol={"kind": "p2pl-affinity", "mode": "barrier", "epochs": 5, "eta_d": eta_d, "sync": "none"},
            stop={"rounds": 10},
        )
        summary = run_watched(scenario)[0].summary
        ends.append(summary["accuracy"]["mean"])
        falls.append(ends[-1] - summary["accuracy_trained"]["mean"])
    assert falls[1] < 0.85 * falls[0]
    assert ends[1] > ends[0] - 0.01
