"""Influence in a run: how much samples count, by the weights that mixes gave and the steps that devices took."""

from __future__ import annotations

import io

import networkx as nx
import numpy as np
import pytest
from helpers.matrices import mixing_matrix, neighbors_of
from helpers.small_worlds import small
from rich.console import Console

from p2pl_async import run
from p2pl_async.dynamics.influence import distance_from_data, sample_weight, stationary
from p2pl_async.experiment.influence import of_mixes
from p2pl_async.protocols.ad_psgd import ADPSGD
from p2pl_async.protocols.choco import Choco
from p2pl_async.protocols.fedavg import FedAvg
from p2pl_async.protocols.gossip_learning import GossipLearning
from p2pl_async.protocols.p2pl import P2PL
from p2pl_async.report.tables import final_table
from p2pl_async.testing import FixedLearner, emulate

UNEQUAL = {
    "topology": "path",
    "link": {"loss": "0 %"},
    "data": {"train_samples": 100, "partition": {"kind": "quantity-dirichlet", "beta": 0.5, "min_size": 3}},
    "model": {"hidden": [4]},
    "train": {"batch_size": 1},
}


@pytest.mark.parametrize("rule", ["size", "uniform", "metropolis", "metropolis-size", "relative-size"])
def test_what_a_run_in_rounds_measures_is_what_theory_predicts(rule) -> None:
    result = run(small(**UNEQUAL, protocol={"weights": rule, "mode": "barrier"}))
    n = result.devices["n_samples"].to_numpy(np.float64)
    pi = stationary(mixing_matrix(rule, neighbors_of(nx.path_graph(5)), n.astype(int).tolist()))
    assert pi is not None
    expected = sample_weight(pi, n, n)  # an epoch in batches of one sample
    np.testing.assert_allclose(result.devices["sample_weight"], expected, rtol=1e-9)
    found = result.summary["influence"]
    assert found["most_sample"] == pytest.approx(expected.max())
    assert expected[int(found["most_sample_of"])] == pytest.approx(expected.max())
    assert found["least_sample"] == pytest.approx(expected.min())
    assert found["from_data"] == pytest.approx(distance_from_data(expected, n), abs=1e-12)
    assert (found["from_data"] < 1e-9) == (rule == "metropolis")
    said = io.StringIO()
    Console(file=said, width=200).print(final_table(result))
    unequal = expected.max() > 2 * expected.min()
    assert ("times as much as on average, most on device" in said.getvalue()) == unequal
    assert unequal or rule in ("uniform", "metropolis")


def test_faster_devices_count_more_and_step_sizes_of_groups_too() -> None:
    slow = {"ids": "0", "compute": {"per_epoch": "4 s"}, "train": {"learning_rate": 0.025}}
    devices = {"compute": {"per_epoch": "1 s", "spread": 0.0, "jitter": 0.0}, "group": {"slow": slow}}
    still = {
        "devices": devices,
        "link": {"loss": "0 %"},
        "data": {"partition": "iid"},
        "stop": {"virtual_time": "30 s"},
    }
    result = run(
        small(**still, topology="complete", protocol={"weights": "metropolis", "mode": "fresh", "sync": "none"})
    )
    weight = result.devices["sample_weight"].to_numpy()
    assert weight[0] < 0.5 * weight[1:].min()


@pytest.mark.parametrize("protocol", ["sgp", "rasgp", "p2pl-push", "sparse-push"])
def test_what_push_sum_shares_out_counts_steps_however_unequal_the_graph(protocol) -> None:
    settings = {"steps": 1, "mode": "barrier"} | ({"grad_scale": "one"} if protocol == "rasgp" else {})
    result = run(small(**UNEQUAL, protocol={"kind": protocol, **settings}))
    n = result.devices["n_samples"].to_numpy(np.float64)
    factors = n if protocol == "p2pl-push" else np.ones(5)  # its steps count by samples
    np.testing.assert_allclose(result.devices["sample_weight"], sample_weight(factors, np.ones(5), n), rtol=1e-6)


def test_steps_scaled_by_push_weights_count_as_the_weights_of_mixes_say() -> None:
    protocol = {"kind": "rasgp", "grad_scale": "u", "mode": "barrier", "steps": 1}
    result = run(small(**UNEQUAL, protocol=protocol, stop={"rounds": 60}))
    given = np.zeros((5, 5))
    links = result.links
    given[links["dst"], links["src"]] = links["weight_in_mixes"]
    pi = stationary(given)
    assert pi is not None
    n = result.devices["n_samples"].to_numpy(np.float64)
    np.testing.assert_allclose(result.devices["sample_weight"], sample_weight(pi, np.ones(5), n), rtol=0.03)
    assert pi.max() > 1.4 * pi.min()  # the ends of a path have one neighbor


@pytest.mark.parametrize("protocol", ["sgp", "rasgp"])
def test_on_a_ring_of_one_direction_half_of_each_mix_comes_from_the_neighbor(protocol) -> None:
    ring = {**UNEQUAL, "topology": "directed-ring"}
    result = run(small(**ring, protocol={"kind": protocol, "mode": "barrier"}, stop={"rounds": 5}))
    assert result.links["weight_in_mixes"].to_numpy() == pytest.approx(np.full(5, 0.5), abs=1e-9)


@pytest.mark.parametrize(
    "protocol", [{"kind": "diging"}, {"kind": "local"}, {"kind": "gossip-learning", "variant": "update"}]
)
def test_protocols_that_average_no_models_have_no_such_weights(protocol) -> None:
    result = run(small(link={"loss": "0 %"}, train={"momentum": 0.0}, protocol=protocol, stop={"rounds": 1}))
    assert "sample_weight" not in result.devices
    assert "from_data" not in (result.summary["influence"] or {})


CENTERS = np.array([0.0, 0.0, 0.0, 0.0, 10.0])  # of the losses |w - c|^2 / 2; only device 4 wants another model
STAR = [[1, 2, 3, 4], [0], [0], [0], [0]]
SLOW = {"link": {"latency": "50 ms"}, "until": 400.0}
LOSSY = {"link": {"latency": "50 ms", "loss": "20 %"}, "until": 400.0}


@pytest.mark.parametrize(
    ("protocol", "how"),
    [
        (ADPSGD(sync="none"), SLOW),
        (Choco(sync="none", mode="fresh"), SLOW),
        (Choco(sync="none", mode="fresh", weights="uniform", delivery="repaired"), LOSSY),
        (Choco(sync="none", mode="fresh", weights="uniform", delivery="absolute"), LOSSY),
        (GossipLearning(sync="none"), SLOW | {"until": 2000.0}),
        (P2PL(sync="none", mode="cache", weights="uniform"), SLOW),
        (FedAvg(fraction=0.6, timeout="2 s"), LOSSY | {"until": 4000.0}),
        (FedAvg(timeout="2 s", missing="inverse-probability"), LOSSY | {"until": 4000.0}),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)  # fmt: skip
def test_devices_settle_where_their_influence_says_on_losses_of_known_minima(protocol, how) -> None:
    """In the long run the gradients of unequally fast devices, weighed by influence and steps, cancel out."""
    seen: list[list[float]] = [[] for _ in CENTERS]

    def slope(k: int, w: np.ndarray) -> np.ndarray:
        seen[k].append(float(w[0]))
        return w - CENTERS[k]

    learner = FixedLearner(
        [np.zeros(4)] * 5, gradient=slope, seconds=[1, 1, 1, 1, 0.4], learning_rate=0.05, n_samples=[1, 2, 3, 4, 5]
    )
    emulation = emulate(protocol, STAR, learner=learner, seed=1, **how)
    steps = [len(own) for own in seen]
    pi = of_mixes(emulation.devices, steps)
    assert pi is not None
    shares = pi * steps / (pi @ steps)
    models = np.array([np.mean(own[len(own) // 4 :]) for own in seen])
    assert shares @ models == pytest.approx(shares @ CENTERS, rel=0.02)
    assert abs(np.mean(models - CENTERS)) > 0.2  # alike they don't


@pytest.mark.parametrize("protocol", ["ad-psgd", "choco", "fedavg"])
def test_where_models_are_averaged_in_pairs_or_by_a_server_samples_count_by_what_is_known(protocol) -> None:
    result = run(small(**UNEQUAL | {"topology": "star"}, protocol={"kind": protocol}, stop={"rounds": 30}))
    n, rounds = (result.devices[name].to_numpy(np.float64) for name in ("n_samples", "rounds"))
    # Pairs keep the mean, so steps count alike. A server weighs by samples, and each sample is a step of a round.
    expected = sample_weight(n, n, n) if protocol == "fedavg" else sample_weight(np.ones(5), rounds, n)
    np.testing.assert_allclose(result.devices["sample_weight"], expected, rtol=0.05)
    assert result.summary["influence"]["most_sample"] == result.devices["sample_weight"].max()
    into_leaves = result.links[result.links["src"] == 0]["weight_in_mixes"]
    assert into_leaves.to_numpy() == pytest.approx({"ad-psgd": 0.5, "fedavg": 1.0}.get(protocol, into_leaves.iloc[0]))
