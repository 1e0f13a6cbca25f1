"""The tables of devices and links, against the trace of the same run."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.small_worlds import small

from p2pl_async import Run
from p2pl_async.experiment import running
from p2pl_async.results.groups import members
from p2pl_async.scenario.scenario import Scenario
from p2pl_async.testing.chatter import Chatter


@pytest.fixture(scope="module")
def result() -> Run:
    """Six devices that talk over links with two causes of loss; some begin when the run is over, and send nothing."""
    table = {
        "devices": {
            "count": 6,
            "group": {"old": {"ids": "0-2"}, "left": {"ids": [2, 5], "start": "50 s"}, "odd": {"ids": [1]}},
        },
        "topology": {"kind": "ring"},
        "link": {"latency": "20 ms", "loss": "20 %", "outage": {"kind": "on-off", "up": "5 s", "down": "1 s"}},
        "protocol": {"kind": "p2pl"},
        "stop": {"virtual_time": "40 s"},
    }
    scenario = Scenario.model_validate(table)
    return running.run(scenario.model_copy(update={"protocol": Chatter()}), trace=True)


def test_devices_have_their_groups(result: Run) -> None:
    assert result.devices["group"].tolist() == ["old", "old,odd", "old,left", "", "", "left"]
    assert members(result.devices) == {"old": [0, 1, 2], "odd": [1], "left": [2, 5], "others": [3, 4]}


def test_without_groups_there_are_none(result: Run) -> None:
    assert members(result.devices.assign(group="")) == {}
    assert members(result.devices.drop(columns="group")) == {}


def test_links_have_their_first_and_last_delivery_and_losses_by_cause(result: Run) -> None:
    assert result.trace is not None
    links = result.links.set_index(["src", "dst"])
    whole = result.trace[result.trace["fate"] == "delivered"].groupby(["src", "dst"])["arrival_s"]
    used = links[links["delivered"] > 0].sort_index()
    assert used["first_delivery_s"].tolist() == whole.min().sort_index().tolist()
    assert used["last_delivery_s"].tolist() == whole.max().sort_index().tolist()
    assert links[links["delivered"] == 0][["first_delivery_s", "last_delivery_s"]].isna().all(axis=None)
    causes = [name for name in links.columns if name.startswith("lost_")]
    assert causes == ["lost_loss", "lost_outage"]
    assert (links[causes].sum(axis=1) == links["lost"]).all()
    for cause in causes:
        assert links[cause].sum() == result.summary["messages"]["lost"][cause.removeprefix("lost_")] > 0
    assert not links.loc[[2, 5], "sent"].any()


def test_links_have_the_weights_of_a_run_that_averages() -> None:
    result = running.run(small(link={"loss": "0 %"}, protocol={"weights": "uniform", "mode": "barrier"}))
    np.testing.assert_allclose(result.links["weight_in_mixes"], 1 / 3, rtol=1e-6)


def test_devices_that_sleep_have_their_rhythm(result: Run) -> None:
    outage = {"kind": "duty-cycle", "awake": "200 ms", "period": "1 s", "of": "receiver"}
    table = {"devices": {"count": 3}, "link": {"outage": outage}, "stop": {"rounds": 3}, "protocol": {"kind": "p2pl"}}
    scenario = Scenario.model_validate(table).model_copy(update={"protocol": Chatter()})
    sleepers = running.run(scenario).devices
    assert sleepers["awake_s"].tolist() == [0.2] * 3
    assert sleepers["awake_every_s"].tolist() == [1.0] * 3
    assert sleepers["awake_from_s"].between(0, 1).all()
    assert "awake_s" not in result.devices.columns
