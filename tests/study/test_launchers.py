"""Where jobs run: any executor, a real Ray on this machine, and Slurm's stand-in."""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from helpers.studies import write_study

from p2pl_async import ScenarioError
from p2pl_async.study.folder import StudyFolder
from p2pl_async.study.launchers import RayExecutor, SlurmExecutor, launcher
from p2pl_async.study.planning import load_study
from p2pl_async.study.running import Tally, run_study

TEXT = 'base = "base.toml"\nseeds = 1\nvary.protocol.end = [0, 9]\n'


def told(tally: Tally) -> tuple[int, list[str]]:
    return tally.done, [failure.message.partition(";")[0] for failure in tally.failures.values()]


def test_any_executor_runs_a_study_and_a_killed_job_does_not_break_its_pool(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "results")
    with ProcessPoolExecutor(1) as pool:
        assert told(run_study(load_study(write_study(tmp_path, TEXT)), folder, pool)) == (1, ["ended by SIGKILL"])


@pytest.mark.parametrize(("package", "on"), [("ray", "ray"), ("submitit", "slurm")])
def test_a_launcher_without_its_package_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, on: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ScenarioError, match=rf"needs the package {package}: pip install 'p2pl-async\[{on}\]'"):
        launcher(on, 1, tmp_path)


def test_an_unknown_launcher_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="must be local, ray, ray://host:port or slurm"):
        launcher("cloud", 1, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.filterwarnings("default")  # Ray's own
def test_a_real_ray_runs_a_study(tmp_path: Path, shared: bool) -> None:
    pytest.importorskip("ray", reason="needs the extra `ray`")
    folder = StudyFolder(tmp_path / "results")
    study = load_study(write_study(tmp_path, TEXT))
    executor = RayExecutor(None)
    try:
        tally = run_study(study, folder, executor, shared=shared)
    finally:
        executor.stop()
    assert told(tally) == (1, ["ended by SIGKILL"])
    assert len(folder.done()) == len(folder.failures()) == 1


@pytest.mark.slow
def test_submitit_runs_a_study_on_its_local_stand_in_for_slurm(tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="needs the extra `slurm`")
    folder = StudyFolder(tmp_path / "results")
    study = load_study(write_study(tmp_path, TEXT))
    executor = SlurmExecutor(tmp_path / "slurm", cluster="local")
    try:
        assert told(run_study(study, folder, executor)) == (1, ["ended by SIGKILL"])
    finally:
        executor.stop()
