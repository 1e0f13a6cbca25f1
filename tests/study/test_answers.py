"""The answer of a study: tables, differences, expectations, and how they are written."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from helpers.studies import Recorded, write_study
from scipy import stats

from p2pl_async import ScenarioError
from p2pl_async.study import writing
from p2pl_async.study.answers import Sheet, verdicts
from p2pl_async.study.executing import JobOrder
from p2pl_async.study.figures import rank_blocks, write_figures
from p2pl_async.study.folder import StudyFolder
from p2pl_async.study.planning import load_study
from p2pl_async.study.results import Results, all_runs, recorded_results, results_of
from p2pl_async.study.running import run_study

TEXT = """
question = "Which survives?"
base = "base.toml"
seeds = 4
baseline = { protocol.end = "0" }
[vary]
link.loss = ["0 %", "30 %"]
protocol.end = [0, 15]
"""


def answer(order: JobOrder) -> dict[str, Any]:
    """Accuracy 0.9, less 0.1 at 30 % loss, 0.01 more for each seed and for `end = 15`; which misses at 30 % loss."""
    loss, end, seed = "30 %" in order.title, "end = 15" in order.title, int(order.title[-1])
    accuracy = 0.9 - 0.1 * loss + 0.01 * seed + 0.01 * end + 0.002 * end * (seed % 2)
    missed = loss and end and seed > 2
    target = {
        "of": "every_device",
        "accuracy": 0.8,
        "reached": not missed,
        "virtual_seconds": None if missed else 10.0 * seed,
    }
    messages = {"bytes_on_air": 5e6, "lost": {"loss": 3}}
    return {
        "accuracy": {"min": accuracy, "mean": accuracy},
        "target": target,
        "virtual_seconds": 50.0,
        "messages": messages,
    }


def results(folder: Path, text: str, seeds: int | None = None) -> Results:
    study = load_study(write_study(folder, TEXT + text))
    executor = Recorded(answer)
    run_study(study, StudyFolder(folder / "results"), executor)
    return results_of(study, StudyFolder(folder / "results"))


def sheets(folder: Path, text: str) -> list[Sheet]:
    return writing.sheets(results(folder, text))


def test_a_table_has_factors_and_means_with_intervals(tmp_path: Path) -> None:
    (table, _) = sheets(tmp_path, '[[table]]\nvalue = "accuracy.min"\ncolumns = "link.loss"\n')
    half = 0.01 * stats.t.ppf(0.975, 3) * stats.tstd([1, 2, 3, 4]) / 2
    assert table.header == ["protocol.end", "link.loss = 0 %", "link.loss = 30 %"]
    assert table.rows[0] == ["0", f"0.925 ± {half:.3f}", f"0.825 ± {half:.3f}"]
    assert table.notes == ["mean ± half of the 95 % t interval over seeds; 4 seeds"]


def test_without_tables_the_usual_one_is_shown(tmp_path: Path) -> None:
    (table, differences) = sheets(tmp_path, "")
    values = ["worst accuracy, %", "mean accuracy, %", "virtual time, s", "bytes on air"]
    assert table.header == ["link.loss", "protocol.end", *values]
    assert len(table.rows) == 4
    assert len(differences.rows) == 2


@pytest.mark.parametrize(
    ("summary", "header", "worst"),
    [
        (
            {"metric": "rmse", "lower_is_better": True},
            [f"{one} rmse (less is better)" for one in ("worst", "mean")],
            0.4,
        ),
        ({"metric": "f1", "lower_is_better": False}, ["worst f1, %", "mean f1, %"], 10),
        ({"metric": "my-score"}, ["worst my-score", "mean my-score"], 0.1),
        ({"metric": None}, [], None),
    ],
)
def test_the_usual_table_has_what_models_are_scored_by_the_worst_device_first(
    tmp_path: Path, summary: dict[str, Any], header: list[str], worst: float | None
) -> None:
    scores = {str(summary["metric"]): {"min": 0.1, "mean": 0.2, "max": 0.4}}
    recorded = {**summary, "accuracy": None, "scores": scores, "virtual_seconds": 50.0}
    study = load_study(write_study(tmp_path, TEXT))
    folder = StudyFolder(tmp_path / "results")
    run_study(study, folder, Recorded(lambda order: recorded))
    (table, _) = writing.sheets(results_of(study, folder))
    assert table.header == ["link.loss", "protocol.end", *header, "virtual time, s", "bytes on air"]
    assert worst is None or table.rows[0][2] == f"{worst:g} ± 0"


def test_differences_are_by_seed_and_say_what_so_few_seeds_can_show(tmp_path: Path) -> None:
    text = '[[table]]\nvalue = { of = "100 * accuracy.min", name = "accuracy, %", digits = 2 }\ntest = "TEST"\n'
    (_, exact) = sheets(tmp_path, text.replace("TEST", "permutation"))
    assert exact.header == ["link.loss", "protocol.end", "accuracy, %", "p"]
    d = [1.2, 1.0, 1.2, 1.0]
    half = stats.t.ppf(0.975, 3) * stats.sem(d)
    assert exact.rows[0] == ["0 %", "15", f"+1.10 ± {half:.2f}", "0.25"]  # 2 * 2^(1-4)
    assert "with 4 seeds the smallest exact two-sided p is 0.12, before correction" in exact.notes
    (_, t) = sheets(tmp_path, text.replace("TEST", "t"))
    assert (
        t.rows[0][-1] == "< 0.0001"
        if 2 * stats.ttest_1samp(d, 0).pvalue < 1e-4
        else f"{2 * stats.ttest_1samp(d, 0).pvalue:.2g}"
    )


def test_times_that_some_runs_never_reach_are_censored_not_averaged(tmp_path: Path) -> None:
    (table, differences) = sheets(tmp_path, '[[table]]\nvalue = "time_to(80 %)"\n')
    assert [row[-1] for row in table.rows][::3] == ["25 ± 21", "20, 2 of 4 reached it"]
    assert any("Kaplan" in note for note in table.notes)
    assert differences.rows[1][2] == "+7.5 (restricted)"  # areas up to 50 s: 32.5 and 25
    assert any("log-rank" in note for note in differences.notes)


def test_a_cost_that_no_run_measured_is_a_dash_also_where_targets_were_missed(tmp_path: Path) -> None:
    (table, differences) = sheets(tmp_path, '[[table]]\nvalue = "joules_to(80 %)"\n')
    assert {row[-1] for row in table.rows} == {"-"}
    assert {row[2] for row in differences.rows} == {"-"}


def test_a_table_by_some_factors_averages_over_the_others_seed_by_seed(tmp_path: Path) -> None:
    (loss,) = sheets(tmp_path, '[[table]]\nvalue = "accuracy.min"\nby = ["link.loss"]\n')  # no baseline among these
    of_seeds = [0.9 + 0.01 * seed + (0.01 + 0.002 * (seed % 2)) / 2 for seed in (1, 2, 3, 4)]
    half = stats.t.ppf(0.975, 3) * stats.sem(of_seeds)
    assert loss.header == ["link.loss", "accuracy.min"]
    center = sum(of_seeds) / 4
    assert loss.rows == [["0 %", f"{center:.3f} ± {half:.3f}"], ["30 %", f"{center - 0.1:.3f} ± {half:.3f}"]]


def test_a_main_effect_is_the_mean_difference_over_all_other_factors(tmp_path: Path) -> None:
    text = '[[table]]\nvalue = ["100 * accuracy.min", "time_to(80 %)"]\nby = ["protocol.end"]\n'
    (table, effects) = sheets(tmp_path, text)
    assert effects.header == ["protocol.end", "100 * accuracy.min", "p", "time_to(80 %)", "p"]
    ((level, difference, p, time, _),) = effects.rows
    assert (level, p) == ("15", "0.12")  # 2^(1-4)
    assert difference == "+1.10 ± 0.18"
    assert time == "+3.75 (restricted)"  # of eight runs up to 50 s, two of which never arrived: 28.75 - 25
    assert table.rows[1][2] == "20, 6 of 8 reached it"


def test_other_statistics_are_not_symmetric(tmp_path: Path) -> None:
    (table, _) = sheets(tmp_path, '[[table]]\nvalue = "accuracy.min"\nstatistic = "bootstrap"\n')
    assert table.rows[0][-1].startswith("0.925 [0.91")
    (median, _) = sheets(tmp_path, '[[table]]\nvalue = "accuracy.min"\nstatistic = "median"\n')
    assert median.rows[0][-1] == "0.925"  # four seeds give no interval


def test_missing_runs_are_told(tmp_path: Path) -> None:
    found = results(tmp_path, '[[table]]\nvalue = ["accuracy.min", "energy.joules"]\n')
    found.samples["accuracy.min"][0].pop(1)
    found.samples["accuracy.min"][1].clear()
    (table, differences) = writing.sheets(found)
    assert table.rows[0][2].endswith("(n=3)")
    assert table.rows[1][2:] == ["no run", "-"]
    assert differences.rows[0][2:] == ["-", "-", "-", "-"]


def test_expectations_are_met_or_not_with_numbers(tmp_path: Path) -> None:
    found = results(
        tmp_path,
        '[[expect]]\nclaim = "a"\nvalue = "100 * accuracy.min"\nof = { link.loss = "0 %" }\nabove = 90\n'
        '[[expect]]\nclaim = "b"\nvalue = "accuracy.min"\nof = { protocol.end = "15" }\n'
        'minus = { protocol.end = "0" }\n'
        "above = 0.02\nbelow = 1\n"
        '[[expect]]\nclaim = "c"\nvalue = "time_to(80 %)"\nbelow = 100\n',
    )
    told = verdicts(found)
    assert [verdict.met for verdict in told] == [True, False, None]
    assert told[0].lines[0] == "link.loss = 0 %, protocol.end = 0: 92.5 ± 2.1 with 4 seeds"
    assert told[1].lines[0].startswith("link.loss = 0 %, protocol.end = 15: difference 0.0110 ± 0.0018")
    text = writing.markdown(found)
    assert "- **met**: a; 100 * accuracy.min above 90" in text
    assert "- **not met**: b; accuracy.min above 0.02 and below 1" in text
    assert "- **not known**: c" in text


def test_the_answer_as_markdown_latex_and_csv(tmp_path: Path) -> None:
    found = results(tmp_path, '[[table]]\ntitle = "T_1"\nvalue = "accuracy.min"\ncolumns = "link.loss"\n')
    assert writing.markdown(found).startswith(
        "## Which survives?\n\n**T_1**\n\n| protocol.end | link.loss = 0 % | link.loss = 30 % |\n"
        "| --- | --- | --- |\n| 0 |"
    )
    assert r"protocol.end & link.loss = 0 \% & link.loss = 30 \% \\" in writing.latex(found)
    assert r"\caption{T\_1. mean $\pm$ half" in writing.latex(found)
    head, *lines = writing.csv(found).splitlines()
    assert head.startswith('"link.loss","protocol.end","seed","run","accuracy.min"')
    assert len(lines) == 16
    assert all_runs(found).column("messages.lost.loss").to_pylist() == [3.0] * 16


def test_a_folder_shows_the_study_as_it_ran_and_a_file_as_it_is_now(tmp_path: Path) -> None:
    results(tmp_path, '[[table]]\ntitle = "then"\nvalue = "accuracy.min"\n')
    folder = StudyFolder(tmp_path / "results")
    file = write_study(tmp_path, TEXT + '[[table]]\ntitle = "now"\nvalue = "accuracy.min"\n')
    assert writing.sheets(recorded_results(folder))[0].title == "then"
    now = results_of(load_study(file), folder)
    assert (writing.sheets(now)[0].title, len(now.runs)) == ("now", 16)
    with pytest.raises(ScenarioError, match=r"has no study\.json"):
        recorded_results(StudyFolder(tmp_path))


FIGURES = """
figure = [
  { value = "accuracy.min", x = "link.loss", by = "protocol.end" },
  { kind = "heatmap", value = "accuracy.min", x = "link.loss", by = "protocol.end" },
  { kind = "box", value = "accuracy.min" },
  { kind = "scatter", value = "accuracy.min", x = "messages.bytes_on_air", by = "link.loss" },
  { kind = "arrivals", value = "time_to(80 %)", by = "protocol.end", select = { link.loss = "30 %" } },
  { kind = "ranks", value = "accuracy.min", by = "protocol.end" },
]
"""


def test_every_kind_of_figure_is_drawn(tmp_path: Path) -> None:
    file = write_study(tmp_path, FIGURES + TEXT)
    study, folder = load_study(file), StudyFolder(tmp_path / "results")
    assert write_figures(results_of(study, folder), tmp_path / "none") == []
    run_study(study, folder, Recorded(answer))
    found = results_of(study, folder)
    written = write_figures(found, tmp_path / "figures")
    assert [path.stem for path in written[::2]] == [
        f"figure-{i}-{kind}" for i, kind in enumerate(["lines", "heatmap", "box", "scatter", "arrivals", "ranks"], 1)
    ]
    names, blocks = rank_blocks(found, study.settings.figure[5])
    assert (names, len(blocks)) == (["0", "15"], 8)


@pytest.mark.parametrize(
    ("text", "path", "said"),
    [
        ('[[table]]\nvalue = "acuracy.min"', "table[0].value", 'did you mean "accuracy.min"?'),
        ('[[table]]\nvalue = "accuracy.min"\ncolumns = "los"', "table[0].columns", "unknown factor"),
        ('[[table]]\nvalue = "last(accuracy, group = odl)"', "table[0].value", "unknown group of devices"),
        ('[[figure]]\nvalue = "accuracy.min"', "figure[0].x", "is missing; a figure of kind lines needs it"),
        ('[[figure]]\nkind = "scatter"\nvalue = "accuracy.min"\nx = "no"', "figure[0].x", "no is no number of a run's"),
        ('[[expect]]\nclaim = "x"\nvalue = "accuracy.min"', "expect[0]", "needs a bound"),
        (
            '[[expect]]\nclaim = "x"\nvalue = "accuracy.min"\nabove = 1\nof.link.loss = "3"',
            "expect[0].of.link.loss", "known: 0 %",
        ),
    ],
)  # fmt: skip
def test_what_an_answer_can_not_show_is_told_before_anything_runs(
    tmp_path: Path, text: str, path: str, said: str
) -> None:
    with pytest.raises(ScenarioError) as caught:
        load_study(write_study(tmp_path, TEXT + text + "\n"))
    (problem,) = caught.value.problems
    assert problem.path == path
    assert said in problem.text


def test_a_damaged_result_says_how_to_repair_it(tmp_path: Path) -> None:
    found = results(tmp_path, "")
    folder = StudyFolder(tmp_path / "results")
    (folder.job(found.runs[0][2]) / "summary.json").write_text(json.dumps({"status": 3}))
    with pytest.raises(ScenarioError, match="remove the folder, and the run is done again"):
        recorded_results(folder)
    assert not math.isnan(found.runs[0][3]["virtual_seconds"])
