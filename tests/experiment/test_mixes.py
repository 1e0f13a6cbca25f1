"""The table `mixes`: which messages entered models, told by each protocol, and found again in the trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.small_worlds import small, trace_of

from p2pl_async import run
from p2pl_async.device import Device
from p2pl_async.protocols.p2pl import P2PL
from p2pl_async.results.run import Run, Snapshot, load_run
from p2pl_async.results.table import MIX_COLUMNS, Table, first_times
from p2pl_async.testing import FixedLearner, complete, emulate

LOSSLESS = {"loss": "0 %"}


def mixes_of(result: Run) -> pd.DataFrame:
    """Return the messages that entered models, with what the trace tells of them."""
    assert result.mixes is not None
    trace = trace_of(result).rename(columns={"dst": "device"})
    merged = result.mixes.merge(trace, on=["device", "src", "number"], how="left", validate="many_to_one")
    assert merged["sent_s"].notna().all()  # each is a message of the trace
    return merged


PROTOCOLS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "p2pl": ({}, {"params"}),
    "dgd": ({"mode": "fresh"}, {"params"}),
    "cta": ({"mode": {"kind": "barrier", "timeout": "1 s"}}, {"params"}),
    "qgm": ({"mode": "fresh"}, {"params"}),
    "diging": ({"mode": {"kind": "barrier", "timeout": "1 s"}}, {"params"}),
    "gossip-learning": ({}, {"aged"}),
    "ad-psgd": ({"timeout": "1 s"}, {"ask", "answer"}),
    "sgp": ({"mode": "fresh"}, {"push"}),
    "push-diging": ({"mode": "fresh"}, {"push"}),
    "rasgp": ({}, {"sums"}),
    "p2pl-push": ({}, {"sums"}),
    "sparse-push": ({"mode": "fresh", "delivery": "repaired"}, {"mass"}),
    "choco": ({"mode": "fresh", "delivery": "repaired"}, {"mass"}),
    "choco-sgp": ({"mode": "fresh", "delivery": "absolute"}, {"mass"}),
    "asy-sonata": ({}, {"params", "tracked"}),
}


@pytest.mark.parametrize("kind", PROTOCOLS)
def test_a_message_enters_a_model_after_it_has_arrived_and_once(kind) -> None:
    settings, tags = PROTOCOLS[kind]
    scenario = small(
        link={"duplicate": "20 %"}, train={"momentum": 0.0}, protocol={"kind": kind, **settings}, stop={"rounds": 6}
    )
    mixed = mixes_of(run(scenario, trace=True))
    assert set(mixed["kind"]) == tags
    assert (mixed["arrival_s"] <= mixed["time_s"]).all()
    again = set(mixed[mixed.duplicated(["device", "src", "number"])]["kind"])
    # What arrives twice adds its mass twice without running sums; and asy-sonata mixes the newest copies that it has.
    assert again == {"sgp": {"push"}, "push-diging": {"push"}, "asy-sonata": {"params"}}.get(kind, set())


def test_in_mode_fresh_it_is_the_newest_of_each_neighbor_since_the_last_mix() -> None:
    result = run(small(protocol={"mode": "fresh"}, stop={"rounds": 12}), trace=True)
    mixed, trace, rounds = mixes_of(result), trace_of(result), result.metrics.query("metric == 'round'")
    told = 0
    for device in range(5):
        came = trace[(trace["dst"] == device) & (trace["kind"] == "params") & trace["arrival_s"].notna()]
        last = -np.inf
        for at in rounds[rounds["device"] == device]["time_s"]:
            new = came[(came["arrival_s"] > last) & (came["arrival_s"] <= at)]
            # A message that was overtaken is no newer than what is known.
            known = came[came["arrival_s"] <= last].groupby("src")["number"].max()
            newest = new.groupby("src")["number"].max()
            expected = {(j, n) for j, n in newest.items() if n > known.get(j, -1)}
            here = mixed[(mixed["device"] == device) & (mixed["time_s"] == at)]
            assert set(zip(here["src"], here["number"], strict=True)) == expected
            told += len(expected)
            last = at
    assert told == len(mixed) == result.metrics.query("metric == 'neighbors_mixed'")["value"].sum()


def test_cached_copies_enter_again_and_a_servers_model_takes_the_place_of_ones_own() -> None:
    cached = mixes_of(run(small(protocol={"mode": "cache"}, stop={"rounds": 12}), trace=True))
    assert cached.duplicated(["device", "src", "number"]).any()
    star = {"topology": "star", "link": LOSSLESS, "stop": {"rounds": 3}}
    fedavg = mixes_of(run(small(**star, protocol={"kind": "fedavg"}), trace=True))
    into_server = fedavg[fedavg["device"] == 0]
    assert set(into_server["kind"]) == {"update"}
    assert len(into_server) == 3 * 4
    assert set(fedavg[fedavg["device"] > 0]["kind"]) == {"global"}
    last = {"kind": "fedavg", "timeout": "1 s", "missing": "last"}
    lossy = mixes_of(run(small(**star | {"link": {"loss": "40 %"}, "stop": {"rounds": 12}}, protocol=last), trace=True))
    assert lossy[lossy["device"] == 0].duplicated(["src", "number"]).any()  # an update stands in for one that was lost


def test_a_model_that_is_refused_enters_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[tuple[int, int]] = []
    monkeypatch.setattr(Device, "used", lambda self, found: used.extend((self.id, one.sender) for one in found))
    learner = FixedLearner([np.zeros(2)] * 3, step=lambda k, w: w * np.nan if k == 2 else w)
    emulate(P2PL(sync="none", mode="barrier"), complete(3), learner=learner, rounds=2)
    assert {sender for device, sender in used if device != 2} == {0, 1}


def test_runs_without_trace_or_mixes_have_none_and_folders_give_it_back(tmp_path: Path) -> None:
    assert run(small(stop={"rounds": 1})).mixes is None
    assert run(small(protocol={"kind": "local"}, stop={"rounds": 1}), trace=True).mixes is None
    few = run(small(), trace=10, out=tmp_path / "few")  # more messages than are kept
    assert few.trace is few.mixes is None
    assert not list((tmp_path / "few").glob("mixes*"))
    result = run(small(), trace=True, out=tmp_path / "run")
    assert result.mixes is not None
    again = load_run(tmp_path / "run").mixes
    assert again is not None
    pd.testing.assert_frame_equal(again, result.mixes)
    assert result.summary["trace_digest"] == run(small()).summary["trace_digest"]


def test_while_a_run_goes_its_folder_has_them_each_time_that_a_summary_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2pl_async.experiment.measured_run._SUMMARY_SECONDS", 0.0)
    seen: list[int] = []

    def look(snapshot: Snapshot) -> None:
        there = load_run(tmp_path).mixes
        seen.append(0 if there is None else len(there))

    result = run(small(evaluate={"every": "1 s"}, stop={"rounds": 6}), trace=True, out=tmp_path, progress=look)
    assert result.mixes is not None
    assert seen == sorted(seen)
    assert 0 < seen[-1] <= len(result.mixes)


def test_the_first_time_is_found_in_tables_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pl_async.results.table._ROW_GROUP", 2)
    monkeypatch.setattr("p2pl_async.results.table._BATCH", 2)
    table = Table(tmp_path / "mixes", MIX_COLUMNS)
    for row in [(3.0, 1, 0, 7), (4.0, 2, 0, 7), (5.0, 1, 0, 7), (6.0, 9, 0, 7), (7.0, 1, 2, 5), (2.0, 0, 1, 2**40)]:
        table.add(*row)
    messages = pd.DataFrame({"src": [0, 0, 0, 1, 2], "dst": [1, 2, 3, 0, 1], "number": [7, 7, 7, 2**40, 6]})
    expected = [3.0, 4.0, np.nan, 2.0, np.nan]
    np.testing.assert_array_equal(first_times(messages, table.parts()), expected)
    table.close()
    assert len(list(table.parts())) == 3
    np.testing.assert_array_equal(first_times(messages, table.parts()), expected)
    assert first_times(messages.iloc[:0], table.parts()).size == 0
