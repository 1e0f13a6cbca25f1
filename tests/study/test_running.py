"""Running a study: what is done is skipped, what fails is recorded, and the rest goes on."""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest
from helpers.studies import STUDY, Recorded, write_study

from p2pl_async import ScenarioError
from p2pl_async.study import jobs
from p2pl_async.study.executing import JobOrder
from p2pl_async.study.folder import Failure, StudyFolder
from p2pl_async.study.planning import Study, load_study
from p2pl_async.study.progress import outlook_of
from p2pl_async.study.running import Tally, run_study


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return load_study(write_study(tmp_path))


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path / "results")


def failing(task: JobOrder) -> Failure | dict[str, object]:
    return Failure(task.title, "no luck", 2, 1.0) if "end = 9" in task.title and "seed 2" in task.title else {}


def test_each_job_becomes_a_folder_of_its_own(study: Study, folder: StudyFolder) -> None:
    executor = Recorded()
    tally = run_study(study, folder, executor, threads=3)
    assert (tally.done, tally.left, tally.failures) == (8, 0, {})
    assert folder.done() == {job.id for job in study.jobs}
    assert {task.threads for task in executor.tasks} == {3}
    assert (folder.job(study.jobs[0].id) / "scenario.toml").read_text() == study.jobs[0].scenario_text
    assert list((folder.path / "part").iterdir()) == []


def test_what_is_done_is_not_run_again(study: Study, folder: StudyFolder, tmp_path: Path) -> None:
    run_study(study, folder, Recorded())
    more = load_study(write_study(tmp_path, STUDY.replace("seeds = 2", "seeds = 3")))
    executor = Recorded()
    tally = run_study(more, folder, executor)
    assert (tally.total, tally.known, tally.done) == (12, 8, 4)
    assert all(task.title.endswith("seed 3") for task in executor.tasks)


def test_a_failed_job_is_recorded_and_run_again_only_when_asked(study: Study, folder: StudyFolder) -> None:
    tally = run_study(study, folder, Recorded(failing))
    assert tally.done == 6
    assert [failure.message for failure in tally.failures.values()] == ["no luck"] * 2
    assert set(folder.failures()) == set(tally.failures)
    assert (folder.path / "failed" / min(tally.failures) / "log.txt").read_text() == "said"
    assert outlook_of(study, folder).of_variants == [(2, 0, 0), (1, 1, 0)] * 2

    again = Recorded()
    assert len(run_study(study, folder, again).failures) == 2
    assert again.tasks == []
    assert run_study(study, folder, again, retry_failed=True).done == 2
    assert folder.failures() == {}


def test_a_worker_that_dies_fails_its_job_alone(study: Study, folder: StudyFolder) -> None:
    def dying(task: JobOrder) -> dict[str, object]:
        if "seed 1" in task.title:
            raise BrokenProcessPool("a process ended")
        return {}

    tally = run_study(study, folder, Recorded(dying))
    assert tally.done == 4
    assert {failure.message for failure in tally.failures.values()} == {
        "the worker failed: BrokenProcessPool: a process ended"
    }


def test_results_that_workers_send_back_are_stored(study: Study, folder: StudyFolder) -> None:
    tally = run_study(study, folder, Recorded(failing), shared=False)
    assert (tally.done, len(tally.failures)) == (6, 2)
    assert len(folder.done()) == 6
    assert (folder.path / "failed" / min(tally.failures) / "log.txt").read_text() == "said"


def test_progress_hears_of_every_job(study: Study, folder: StudyFolder) -> None:
    heard: list[tuple[int, bool]] = []
    run_study(study, folder, Recorded(), progress=lambda tally, job: heard.append((tally.left, job is None)))
    assert heard == [(8, True), *((left, False) for left in reversed(range(8)))]


def test_only_one_study_runs_in_a_folder(study: Study, folder: StudyFolder) -> None:
    folder.open()
    with pytest.raises(ScenarioError, match="in use by another `p2pl study run`"):
        run_study(study, StudyFolder(folder.path), Recorded())
    folder.close()
    assert run_study(study, StudyFolder(folder.path), Recorded()).done == 8


def test_a_folder_with_other_files_is_refused(study: Study, tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"contains files that no study wrote \(base.toml\)"):
        run_study(study, StudyFolder(tmp_path), Recorded())


def test_a_full_disk_ends_the_study_with_the_repair(study: Study, folder: StudyFolder) -> None:
    def full(task: JobOrder) -> Failure:
        return Failure(task.title, "can't be written: No space left on device", 2, 1.0)

    with pytest.raises(ScenarioError, match="No space left on device; make room"):
        run_study(study, folder, Recorded(full))


def test_the_plan_says_what_changed_and_why_it_runs_again(
    study: Study, folder: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_study(study, folder, Recorded())
    assert outlook_of(study, folder).changed == {}
    base = tmp_path / "base.toml"
    base.write_text(base.read_text().replace("count = 3", "count = 4"))
    other = load_study(tmp_path / "study.toml")
    outlook = outlook_of(other, folder)
    assert (outlook.done, outlook.waiting) == (0, 8)
    assert set(outlook.changed.values()) == {"devices.count: 3 -> 4"}

    base.write_text(base.read_text().replace("count = 4", "count = 3"))
    (tmp_path / "quiet.py").write_text((tmp_path / "quiet.py").read_text() + "\n")
    monkeypatch.setattr(jobs, "package_version", lambda: "9.9.9")
    (reason,) = set(outlook_of(load_study(tmp_path / "study.toml"), folder).changed.values())
    assert reason == f"p2pl-async {study.variants[0].version} -> 9.9.9; quiet.py has changed"


def test_what_interrupted_runs_left_is_removed(study: Study, folder: StudyFolder) -> None:
    run_study(study, folder, Recorded())
    (folder.attempt("0" * 20) / "run").mkdir()
    run_study(study, folder, Recorded())
    assert list((folder.path / "part").iterdir()) == []


def test_the_time_left_follows_from_the_jobs_that_ended() -> None:
    from p2pl_async.cli.study_progress import summary

    assert summary(Tally(10, 2, done=3, ended=4, failures={"x": Failure("t", "m", 1, 1.0)}), 60.0) == (
        "1 failed, about 1 min left"
    )
    assert summary(Tally(10, 10), 0.0) == "complete"
