"""The studies that come with the package parse, plan, and run at a tiny scale."""

from __future__ import annotations

import runpy
import tomllib
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from helpers.studies import Recorded

from p2pl_async import Scenario, run
from p2pl_async.results.summary_keys import is_summary_key
from p2pl_async.study.answers import verdicts
from p2pl_async.study.executing import JobEnd, JobOrder, store
from p2pl_async.study.folder import StudyFolder
from p2pl_async.study.planning import load_study
from p2pl_async.study.results import results_of
from p2pl_async.study.running import run_study
from p2pl_async.study.writing import sheets

SCENARIOS = Path(__file__).parents[2] / "scenarios"
FILES = sorted(path for path in SCENARIOS.rglob("*.toml") if path.parent.name == "studies")


class Tiny(Recorded):
    """Runs a job in this process, two rounds of four devices with a few digits."""

    def _end(self, order: JobOrder) -> JobEnd:
        assert order.folder is not None
        folder = StudyFolder(Path(order.folder))
        attempt = folder.attempt(order.id)
        run(Scenario.model_validate(tiny(tomllib.loads(order.scenario_text))), out=attempt / "run")
        store(folder, order.id, None, attempt)
        return JobEnd(order.id, None, 1.0)

    def submit(self, *arguments: Any, **more: Any) -> Future[Any]:
        future = super().submit(*arguments, **more)
        future.result()  # an error here is the test's
        return future


def tiny(table: dict[str, Any]) -> dict[str, Any]:
    """Return a scenario cut down."""
    count = min(4, table["devices"]["count"])
    table["devices"] = {"count": count, "compute": "1 s"}
    table["data"] |= {"dataset": {"kind": "digits"}, "train_samples": 200}
    for key in ("test_samples", "augment"):
        table["data"].pop(key, None)
    if table["data"].get("partition", {}).get("kind") == "natural":  # digits have no owners
        del table["data"]["partition"]
    table["model"] = {"kind": "mlp", "hidden": [4]}
    if "degree" in table["topology"]:
        table["topology"]["degree"] = 2
    if table["topology"]["kind"] in ("random-geometric", "erdos-renyi") and "radio" not in table:
        table["topology"] = {"kind": "ring"}
    table["link"].pop("override", None)
    table["stop"] = {"rounds": 2, "virtual_time": "10 s"}
    table["evaluate"] = {"every": "1 s"}
    if "compensation" in table["protocol"]:
        table["protocol"]["compensation"]["after"] = 1
    return table


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_shipped_study_plans_and_runs(path: Path, tmp_path: Path) -> None:
    study = load_study(path)
    assert len(study.variants) > 1
    assert study.settings.expect
    folder = StudyFolder(tmp_path / "results")
    one_seed = study.settings.model_copy(update={"seeds": (1,)})
    ends = (study.variants[0], study.variants[-1])
    small = type(study)(study.name, one_seed, study.factors, ends)
    assert run_study(small, folder, Tiny()).done == 2
    results = results_of(small, folder)
    for *_, numbers in results.runs:
        assert [name for name in numbers if name != "seed" and not is_summary_key(name)] == []
    assert all("no run" not in row for sheet in sheets(results) for row in sheet.rows)
    assert len(verdicts(results)) == len(study.settings.expect)


def test_the_study_of_wide_networks_prints_its_table(capsys: pytest.CaptureFixture[str]) -> None:
    study = runpy.run_path(str(SCENARIOS / "studies" / "wide.py"))
    study["main"](study["CASES"], [8], 6, 1, 2, ["data.train_samples=50", "devices.count=3", "evaluate.samples=20"])
    head, _, *rows = capsys.readouterr().out.splitlines()
    assert head.startswith("| hidden units | what happens | error at the end, % |")
    errors = {row.split(" | ")[1]: float(row.split(" | ")[2].split()[0]) for row in rows}
    assert list(errors) == [case.name for case in study["CASES"]]
    late = errors.pop("messages two rounds late, predicted as in time")
    assert all(0 < error < late for error in errors.values())  # what is not covered is what is wrong
