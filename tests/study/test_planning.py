"""Study files: what they expand to, what is wrong with them, and the identity of a job."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from helpers.studies import BASE, STUDY, write_study

from p2pl_async import ScenarioError
from p2pl_async.study import jobs
from p2pl_async.study.factors import title_of
from p2pl_async.study.planning import Study, load_study


def titles(study: Study) -> list[str]:
    return [title_of(variant.labels) for variant in study.variants]


def plan(folder: Path, text: str) -> Study:
    return load_study(write_study(folder, text))


def problems(folder: Path, text: str) -> list[tuple[str, str]]:
    with pytest.raises(ScenarioError) as caught:
        plan(folder, text)
    return [(problem.path, problem.text) for problem in caught.value.problems]


def test_every_combination_is_a_variant_and_every_seed_a_run(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path))
    assert titles(study) == [
        "link.loss = 0 %, protocol.end = 0", "link.loss = 0 %, protocol.end = 9",
        "link.loss = 30 %, protocol.end = 0", "link.loss = 30 %, protocol.end = 9",
    ]  # fmt: skip
    assert [job.seed for job in study.jobs] == [1, 1, 1, 1, 2, 2, 2, 2]
    assert study.variants[3].scenario.protocol.model_dump()["end"] == 9
    assert "seed = 2" in study.jobs[4].scenario_text


def test_tables_named_variants_and_nested_keys_are_levels_too(tmp_path: Path) -> None:
    study = plan(
        tmp_path,
        'base = "base.toml"\nseeds = [7, 3]\n'
        'vary.link.latency = ["1 ms", { name = "slow", kind = "constant", mean = "1 s" }, '
        '{ kind = "normal", mean = "9 ms", sd = "1 ms" }]\n'
        '[[variant]]\nname = "few"\n[[variant]]\nname = "many"\nset = { devices.count = 9, link.loss = "2 %" }\n',
    )
    assert [level.name for level in study.factors[0].levels] == ["1 ms", "slow", "normal"]
    assert titles(study)[:2] == ["link.latency = 1 ms, variant = few", "link.latency = 1 ms, variant = many"]
    many = study.variants[1].scenario
    assert (many.devices.count, many.seed) == (9, 7)
    assert many.link.model_dump(mode="json")["loss"]["p"] == 0.02
    assert [job.seed for job in study.jobs[:1] + study.jobs[-1:]] == [7, 3]


def test_skipped_combinations_are_left_out(tmp_path: Path) -> None:
    skip = '[[skip]]\nlink.loss = ["0 %", "30 %"]\n"protocol.end" = "9"\n'
    assert titles(plan(tmp_path, STUDY + skip)) == [
        "link.loss = 0 %, protocol.end = 0", "link.loss = 30 %, protocol.end = 0"
    ]  # fmt: skip
    assert problems(tmp_path, STUDY + '[[skip]]\n"link.loss" = ["0 %", "30 %"]\n') == [
        ("skip", "leaves no combination; leave out fewer")
    ]


def test_all_that_is_wrong_with_a_variant_is_told_with_its_name_before_anything_runs(tmp_path: Path) -> None:
    found = problems(tmp_path, 'base = "base.toml"\n[vary]\nlink.loss = ["0 %", 1.5]\nprotocol.end = [0, "x", 1]\n')
    assert [path for path, _ in found] == [
        "variant link.loss = 0 %, protocol.end = x (and 1 more): protocol.end",
        "variant link.loss = 1.5, protocol.end = 0 (and 2 more): link.loss",
    ]
    assert found[1][1].startswith("must be a probability")
    key = problems(tmp_path, 'base = "base.toml"\n[vary]\nlink.lss = ["0 %"]\n')
    assert key == [("variant link.lss = 0 %: link.lss", 'unknown key; did you mean "loss"?')]


def test_a_wrong_file_is_told_with_key_and_repair(tmp_path: Path) -> None:
    assert problems(tmp_path, 'base = "base.toml"\nsed = 3\n') == [("sed", 'unknown key; did you mean "seeds"?')]
    assert problems(tmp_path, "seeds = 2\n") == [("base", "is missing; it has no default")]
    assert problems(tmp_path, 'base = "bse.toml"\n')[0][1].endswith(f'did you mean "{tmp_path / "base.toml"}"?')
    assert "must be a count from 1" in problems(tmp_path, 'base = "base.toml"\nseeds = 0\n')[0][1]
    assert "must be different seeds" in problems(tmp_path, 'base = "base.toml"\nseeds = [1, 1]\n')[0][1]
    twice = problems(tmp_path, 'base = "base.toml"\nvary.protocol = ["quiet.py:Quiet", { kind = "quiet.py:Quiet" }]\n')
    assert twice == [("vary.protocol", 'must have different names; give tables a "name" each (2 values)')]
    skip = problems(tmp_path, STUDY + '[[skip]]\nlink.los = "0 %"\n[[skip]]\nlink.loss = "3 %"\n')
    assert [path for path, _ in skip] == ["skip[0].link.los", "skip[1].link.loss"]
    assert 'did you mean "link.loss"?' in skip[0][1]
    assert "known: 0 %, 30 %" in skip[1][1]
    by = problems(tmp_path, STUDY + '[[table]]\nvalue = "accuracy.min"\nby = ["link.los"]\n')
    assert [path for path, _ in by] == ["table[0].by"]
    assert 'did you mean "link.loss"?' in by[0][1]


def test_the_identity_of_a_run_is_what_determines_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_study(tmp_path)
    ids = [job.id for job in load_study(file).jobs]
    assert len(set(ids)) == 8
    moved = tmp_path / "elsewhere"
    shutil.copytree(tmp_path, moved)
    assert [job.id for job in load_study(moved / "study.toml").jobs] == ids
    (moved / "base.toml").write_text("# A comment\n" + BASE.replace('"10 %"', "0.1") + 'name = "other"\n')
    assert [job.id for job in load_study(moved / "study.toml").jobs] == ids
    (moved / "base.toml").write_text(BASE + "evaluate.samples = 500\n")  # what it is anyway
    assert [job.id for job in load_study(moved / "study.toml").jobs] == ids
    (moved / "quiet.py").write_text((moved / "quiet.py").read_text() + "\n")
    assert not set(ids) & {job.id for job in load_study(moved / "study.toml").jobs}
    monkeypatch.setattr(jobs, "package_version", lambda: "9.9.9")
    assert not set(ids) & {job.id for job in load_study(file).jobs}


def test_variants_that_mean_the_same_run_once(tmp_path: Path) -> None:
    study = plan(tmp_path, 'base = "base.toml"\nseeds = 2\nvary."link.loss" = ["10 %", 0.1]\n')
    assert len(study.variants) == 2
    assert len(study.jobs) == 2


def test_a_recorded_trace_that_changes_makes_other_runs(tmp_path: Path) -> None:
    text = 'base = "base.toml"\nvary.link.loss = [{ kind = "trace", path = "losses.csv" }]\n'
    found = []
    for lost in (0, 1):
        (tmp_path / "losses.csv").write_text(f"lost\n{lost}\n")
        found.append(plan(tmp_path, text).jobs[0].id)
    assert found[0] != found[1]
