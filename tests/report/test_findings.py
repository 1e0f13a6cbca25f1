"""What held devices back: each finding where it must be told, and none where nothing is wrong."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers.tables_of_runs import END, N, devices, links, metrics, mixes, small_run, trace

from p2pl_async.report.findings import RULES, Finding, findings
from p2pl_async.results.run import Run

BEHIND = [0.9] * (N - 1) + [0.8]  # device 5, by 8.3 points


def only(run: Run, rule: str) -> Finding:
    """Return the only finding of a run, which must be of this rule."""
    (found,) = findings(run)
    assert found.rule == rule
    return found


def unheard() -> Run:
    """Return a run whose device 5 hears little from device 4 and is behind."""
    table, kept = links(), trace()
    table.loc[(table["src"] == 4) & (table["dst"] == 5), ["delivered", "lost"]] = 2, 18
    on_link = (kept["src"] == 4) & (kept["dst"] == 5)
    kept.loc[on_link, "arrival_s"] = np.nan
    kept.loc[on_link, "fate"] = "burst"
    measured = metrics()
    measured.loc[(measured["device"] == 5) & (measured["metric"] == "neighbors_mixed"), "value"] = 1.1
    return small_run(devices=devices(accuracy=BEHIND), links=table, trace=kept, metrics=measured)


def test_nothing_is_told_of_a_run_in_which_nothing_is_wrong() -> None:
    assert findings(small_run()) == []


def test_every_rule_is_tried_here() -> None:
    assert {rule.__name__ for rule in RULES} == {
        "disagreement", "cut_off", "few_neighbors", "little_data", "losses", "slow_devices", "old_models", "unused",
        "waiting", "long_sync", "batteries", "down", "refused",
    }  # fmt: skip


def test_the_worst_device_hears_few_neighbors() -> None:
    found = only(unheard(), "few_neighbors")
    assert found.text == (
        "Device 5 heard 1.1 neighbors per round (median 2.0) and is 8.3 points below the mean: "
        "90 % of what 4 sent it was lost, mostly by burst."
    )
    assert found.devices == (5,)


def test_a_device_that_predicts_numbers_is_behind_by_its_error() -> None:
    run = unheard()
    table = run.devices.assign(accuracy=np.nan, rmse=[0.5] * (N - 1) + [0.8])
    summary = run.summary | {"metric": "rmse", "lower_is_better": True}
    worse = small_run(devices=table, summary=summary, links=run.links, trace=run.trace, metrics=run.metrics)
    assert "and is 0.25 above the mean rmse of 0.55" in only(worse, "few_neighbors").text


def test_devices_began_from_different_models() -> None:
    run = small_run(summary={"sync": {"completed_s": 1.0, "agreed": False}})
    assert "different models" in only(run, "disagreement").text
    assert findings(small_run(summary={"sync": {"completed_s": 1.0, "agreed": True}})) == []


def test_a_device_heard_nothing() -> None:
    table = links()
    table.loc[table["dst"] == 2, ["delivered", "lost"]] = 0, 20
    assert only(small_run(links=table), "cut_off").text == "Device 2 heard nothing: none of 40 messages arrived there."


def test_the_worst_device_has_little_data() -> None:
    held = [50] * (N - 1) + [12]
    found = only(small_run(devices=devices(accuracy=BEHIND, n_samples=held)), "little_data")
    assert found.text == "Device 5 has 12 training samples (median 50) and is 8.3 points below the mean."
    assert findings(small_run(devices=devices(n_samples=held))) == []  # it isn't behind


@pytest.mark.parametrize(("lost", "told"), [(71, False), (96, True)])
def test_many_messages_are_lost(lost, told) -> None:
    run = small_run(summary={"messages": {"sent": 240, "lost": {"collision": lost - 20, "loss": 20}}})
    assert [one.rule for one in findings(run)] == ["losses"] * told
    if told:
        assert findings(run)[0].text == "40 % of 240 messages were lost, 79 % of those by collision."


def test_some_devices_are_slow() -> None:
    run = small_run(devices=devices(rounds=[320] * (N - 1) + [60]))
    assert only(run, "slow_devices").text == "Device 5 did 60 rounds where the median device did 320."


def test_mixed_models_are_old() -> None:
    measured = metrics()
    old = np.flatnonzero(measured["metric"] == "staleness_rounds")[::2]
    measured.loc[old, "value"] = 30.0
    text = only(small_run(metrics=measured), "old_models").text
    assert text == "In 50 % of mixing steps the models were on average more than 20 rounds behind."


def test_models_arrive_that_no_mix_uses() -> None:
    arrived = trace()
    arrived = arrived[arrived["arrival_s"].notna()]
    sync = arrived.assign(kind="norm", number=10**6 + np.arange(len(arrived)))  # of a kind that enters no model
    every = pd.concat([trace(), sync])
    some, few = mixes().iloc[: int(0.6 * len(arrived))], mixes().iloc[: int(0.4 * len(arrived))]
    assert findings(small_run(trace=every, mixes=some)) == []
    text = only(small_run(trace=every, mixes=few), "unused").text
    assert text == "60 % of the bytes of models that arrived entered no mix: newer ones came before it."


def test_the_others_wait_for_one() -> None:
    measured = metrics()
    measured.loc[(measured["metric"] == "training_s") & (measured["device"] != 3), "value"] = 1.0
    text = only(small_run(metrics=measured), "waiting").text
    assert text == "Devices waited 80 % of the time (median), device 3 only 20 %: the others waited for it."
    alike = metrics()
    alike.loc[alike["metric"] == "training_s", "value"] = 1.0
    assert findings(small_run(metrics=alike)) == []  # all pace themselves


def test_the_synchronization_takes_long() -> None:
    run = small_run(summary={"sync": {"completed_s": 40.0, "agreed": True}})
    assert only(run, "long_sync").text == "The synchronization of initial models took 40 s, 40 % of the run."


def test_batteries_run_empty() -> None:
    run = small_run(devices=devices(battery_empty_s=[np.nan] * 4 + [30.0, 20.0]))
    found = only(run, "batteries")
    assert found.text == "The batteries of 2 devices ran empty, the first after 20 s (last: 30 s)."
    assert found.devices == (5, 4)


def test_devices_are_down() -> None:
    run = small_run(
        metrics=metrics((10.0, 1, "crash", 2), (35.0, 1, "up", 1), (90.0, 4, "crash", 9), (5.0, 2, "up", 0))
    )
    text = only(run, "down").text
    assert text == "Devices 1 and 4 were down 25 % of the time at most."
    assert END == 100.0


def test_messages_are_refused() -> None:
    run = small_run(metrics=metrics((10.0, 1, "refused", 1), (12.0, 1, "refused", 1)))
    assert only(run, "refused").text == "Device 1 refused 2 messages that could not be used."


def test_the_strongest_come_first_and_a_killed_run_is_no_trouble() -> None:
    run = small_run(
        summary={"sync": {"completed_s": 21.0, "agreed": True}, "messages": {"sent": 240, "lost": {"loss": 200}}}
    )
    assert [one.rule for one in findings(run)] == ["losses", "long_sync"]
    bare = {"status": "killed", "virtual_seconds": None, "messages": None, "sync": None}
    assert findings(small_run(summary=bare, trace=None, links=links().iloc[:0])) == []
