"""The reproduction studies: every scenario and change is valid, and what their tables say."""

from __future__ import annotations

import pytest
import reproduce

from p2pl_async import load_scenario
from p2pl_async.results.run import Run

CASES = [
    pytest.param(study, variant, id=f"{study.id}-{variant}")
    for study in reproduce.STUDIES
    for variant in study.variants
]


@pytest.mark.parametrize(("study", "variant"), CASES)
def test_every_variant_is_a_valid_scenario(study, variant) -> None:
    scenario = load_scenario(reproduce.FOLDER / study.scenario, study.variants[variant], 1)
    assert scenario.seed == 1


def test_ids_are_unique_and_variants_differ() -> None:
    assert len({study.id for study in reproduce.STUDIES}) == len(reproduce.STUDIES)
    for study in reproduce.STUDIES:
        assert len({tuple(changes) for changes in study.variants.values()}) == len(study.variants)


def test_every_study_has_its_committed_section_and_no_other() -> None:
    known = {f"## {study.id}: {study.question}" for study in reproduce.STUDIES}
    lines = reproduce.RESULTS.read_text(encoding="utf-8").splitlines()
    assert {line for line in lines if line.startswith("## ")} == known


def study(holds: bool = True) -> reproduce.Study:
    columns = [reproduce.Column("a", lambda found: 1.0, 2), reproduce.Column("b", lambda found: 2.0)]
    return reproduce.Study("R0", "what?", "Small.", "Much.", "x.toml", {"v": []}, columns, lambda numbers: holds)


def test_a_section_tells_mean_and_spread_and_whether_it_holds() -> None:
    numbers = {"v": {"a": [1.0, 2.0, 3.0], "b": [5.0, float("nan"), 5.0]}}
    text = reproduce.section(study(), numbers, [1, 2, 3], 4.2)
    assert "| v | 2.00 ± 1.00 | - |" in text
    assert text.endswith("Expected: Much. It does.\n")
    assert "does not" in reproduce.section(study(holds=False), numbers, [1, 2, 3], 4.2)
    assert reproduce.cell([3.0], 1) == "3.0"


def test_a_section_replaces_its_old_one_and_leaves_the_others() -> None:
    text = reproduce.merged(reproduce.merged(reproduce.HEAD, "R5", "## R5: b\n\nold\n"), "R4", "## R4: a\n")
    text = reproduce.merged(text, "R5", "## R5: b\n\nnew\n")
    assert text == reproduce.HEAD + "\n## R4: a\n\n## R5: b\n\nnew\n"


def test_measures() -> None:
    import pandas as pd

    rows = [(t, k, "accuracy", value) for t, k, value in [(1, 0, 0.5), (1, 1, 0.9), (2, 0, 0.8), (2, 1, 0.9)]]
    metrics = pd.DataFrame(rows, columns=["time_s", "device", "metric", "value"])

    found = Run(
        summary={"accuracy": {"min": 0.8, "mean": 0.85, "max": 0.9}}, metrics=metrics, devices=metrics, links=metrics
    )
    assert reproduce.accuracy("min")(found) == 80
    assert reproduce.time_to(0.75)(found) == 2
    assert str(reproduce.time_to(0.95)(found)) == "nan"
    assert reproduce.final("accuracy", 100)(found) == pytest.approx(85)
