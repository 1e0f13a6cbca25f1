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


@pytest.mark.parametrize("protocol", [{"kind": "sgp"}, {"kind": "local"}])
def test_protocols_that_average_no_models_have_no_such_weights(protocol) -> None:
    result = run(small(link={"loss": "0 %"}, protocol=protocol, stop={"rounds": 1}))
    assert "sample_weight" not in result.devices
    assert "from_data" not in (result.summary["influence"] or {})
