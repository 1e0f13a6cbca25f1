"""Baselines that runs share: computed once, the same as if each run had its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from helpers.small_worlds import small

from p2pl_async.errors import ScenarioError
from p2pl_async.experiment import running
from p2pl_async.experiment.measured_run import MeasuredRun
from p2pl_async.results.run import Run, load_run
from p2pl_async.scenario.scenario import Scenario


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The labels of all runs that were really computed."""
    labels: list[str] = []
    original = MeasuredRun.run

    def noting(self: MeasuredRun) -> Run:
        labels.append(self.rig.plan.label)
        return original(self)

    monkeypatch.setattr(MeasuredRun, "run", noting)
    return labels


def lossy(loss: str, **changes: Any) -> Scenario:
    return small(link={"loss": loss}, baselines={"central": True, "local": True}, stop={"rounds": 2}, **changes)


def test_a_baseline_is_computed_once_and_equals_that_of_a_run_alone(tmp_path: Path, computed: list[str]) -> None:
    shared = tmp_path / "shared"
    for name, loss in (("a", "0 %"), ("b", "30 %")):
        running.run(lossy(loss, name=name), out=tmp_path / name, share_baselines=shared)
    assert computed.count("central") == 1
    alone = running.run(lossy("30 %", name="b"))
    taken = load_run(tmp_path / "b")
    assert taken.summary["baselines"] == alone.summary["baselines"]
    for label, own in alone.baselines.items():
        found = taken.baselines[label]
        differ = {key for key in own.summary if found.summary[key] != own.summary[key]}
        assert differ <= {"wall", "wall_seconds"}
        assert found.scenario_text == own.scenario_text
        for table in ("metrics", "devices", "links"):
            pd.testing.assert_frame_equal(getattr(found, table), getattr(own, table), check_categorical=False)


@pytest.mark.parametrize(
    "changes",
    [{"seed": 6}, {"train": {"learning_rate": 0.2}}, {"model": {"hidden": [13]}}, {"data": {"train_samples": 290}}],
)
def test_another_seed_training_model_or_data_has_a_baseline_of_its_own(
    tmp_path: Path, computed: list[str], changes: dict[str, Any]
) -> None:
    for name, differing in (("a", {}), ("b", changes)):
        running.run(lossy("0 %", **differing), out=tmp_path / name, share_baselines=tmp_path / "shared")
    assert computed.count("central") == computed.count("local") == 2


def test_other_devices_share_the_central_baseline_and_not_the_local_one(tmp_path: Path, computed: list[str]) -> None:
    for name, pace in (("a", "1 s"), ("b", "3 s")):
        scenario = lossy("0 %", devices={"compute": {"per_epoch": pace}})
        running.run(scenario, out=tmp_path / name, share_baselines=tmp_path / "shared")
    assert (computed.count("central"), computed.count("local")) == (1, 2)


def test_a_baseline_that_failed_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = MeasuredRun.run

    def failing(self: MeasuredRun) -> Run:
        if self.rig.plan.label == "central":
            raise KeyboardInterrupt
        return original(self)

    monkeypatch.setattr(MeasuredRun, "run", failing)
    with pytest.raises(KeyboardInterrupt):
        running.run(lossy("0 %"), out=tmp_path / "a", share_baselines=tmp_path / "shared")
    kept = [path for path in (tmp_path / "shared").iterdir() if path.is_dir()]
    assert [load_run(path).summary["protocol"] for path in kept] == ["local"]


def test_a_folder_that_can_not_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "shared").write_text("")
    with pytest.raises(ScenarioError, match="shared"):
        running.run(lossy("0 %"), out=tmp_path / "a", share_baselines=tmp_path / "shared")


def test_it_needs_a_folder_of_results(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="needs a folder of results"):
        running.run(lossy("0 %"), share_baselines=tmp_path)
