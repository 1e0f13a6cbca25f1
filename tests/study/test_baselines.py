"""A study's runs share their baselines: real processes, two variants, one computation."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pl_async import load_run, load_scenario, run
from p2pl_async.study.folder import StudyFolder
from p2pl_async.study.local import LocalProcesses
from p2pl_async.study.planning import load_study
from p2pl_async.study.running import run_study

BASE = """
devices.count = 2
data.train_samples = 100
model.kind = "softmax"
protocol.kind = "local"
baselines.central = true
stop.rounds = 2
"""


@pytest.mark.slow
def test_two_variants_compute_the_central_baseline_once_and_as_runs_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text(BASE)
    (tmp_path / "study.toml").write_text('base = "base.toml"\nseeds = 1\n[vary]\n"link.loss" = ["0 %", "30 %"]\n')
    folder = StudyFolder(tmp_path / "results")
    executor = LocalProcesses(1)
    try:
        assert run_study(load_study(tmp_path / "study.toml"), folder, executor).done == 2
    finally:
        executor.stop()
    kept = [path for path in (folder.path / "baselines").iterdir() if path.is_dir()]
    assert len(kept) == 1
    alone = run(load_scenario(tmp_path / "base.toml")).summary["baselines"]
    runs = [load_run(folder.job(id)) for id in folder.done()]
    assert [one.summary["baselines"] for one in runs] == [alone, alone]
    walls = {one.baselines["central"].summary["wall_seconds"] for one in runs}
    assert walls == {load_run(kept[0]).summary["wall_seconds"]}  # of the one that was computed
