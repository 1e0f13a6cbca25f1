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
from p2pl_async.report.tables import final_table

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


@pytest.mark.parametrize("protocol", [{"kind": "diging"}, {"kind": "local"}])
def test_protocols_that_average_no_models_have_no_such_weights(protocol) -> None:
    result = run(small(link={"loss": "0 %"}, train={"momentum": 0.0}, protocol=protocol, stop={"rounds": 1}))
    assert "sample_weight" not in result.devices
    assert "from_data" not in (result.summary["influence"] or {})
