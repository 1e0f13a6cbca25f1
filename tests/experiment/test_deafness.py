"""Random outages that all links to a device share: a run tells when it heard nobody."""

from __future__ import annotations

import pytest
from helpers.small_worlds import small

from p2pl_async import run

OFTEN = {"kind": "on-off", "up": "2 s", "down": "500 ms"}


@pytest.mark.parametrize("of", ["receiver", "storm"])
def test_messages_are_lost_to_outages_exactly_in_the_times_that_are_recorded(of) -> None:
    result = run(small(link={"loss": "0 %", "outage": {**OFTEN, "of": of}}, stop={"rounds": 12}), trace=True)
    deaf, trace = result.metrics.query("metric == 'deaf_s'"), result.trace
    assert trace is not None
    assert set(deaf["device"]) == set(range(5))
    spans = {device: rows[["time_s", "value"]].to_numpy() for device, rows in deaf.groupby("device")}
    lost = [
        any(end - length <= sent < end for end, length in spans[dst])
        for dst, sent in zip(trace["dst"], trace["sent_s"], strict=True)
    ]
    assert (trace["fate"] == "outage").tolist() == lost
    assert 0.05 < sum(lost) / len(lost) < 0.5


@pytest.mark.parametrize("of", ["link", "pair", "sender"])
def test_outages_of_single_links_leave_no_device_deaf(of) -> None:
    result = run(small(link={"outage": {**OFTEN, "of": of}}, stop={"rounds": 2}))
    assert "deaf_s" not in set(result.metrics["metric"])


def test_so_many_outages_that_no_page_can_show_them_are_recorded_for_each_device_from_its_first_on(monkeypatch) -> None:
    monkeypatch.setattr("p2pl_async.experiment.rig._MOST_DEAF", 10)
    result = run(small(link={"outage": {**OFTEN, "of": "device"}}, stop={"rounds": 12}))
    assert (result.metrics.query("metric == 'deaf_s'")["device"].value_counts() == 2).all()
