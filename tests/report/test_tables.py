"""The table that a run ends with, and the table of samples."""

from __future__ import annotations

from typing import Any

import networkx as nx
import pytest
from helpers.recorded_run import recorded_run
from helpers.tables_of_runs import devices, small_run
from rich.console import Console, RenderableType

from p2pl_async.report.tables import final_table
from p2pl_async.results.run import Run


def text_of(table: RenderableType | None, width: int = 100) -> str:
    assert table is not None
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def line_of(text: str, name: str) -> str:
    """Return the line that begins with `name`, blanks run together."""
    return next(" ".join(line.split()) for line in text.splitlines() if line.split()[:1] == [name])


@pytest.fixture(scope="module")
def run() -> Run:
    return recorded_run(n=20)


def test_protocol_and_baselines_are_rows_with_the_range_of_accuracy(run: Run) -> None:
    text = text_of(final_table(run))
    assert line_of(text, "p2pl") == "p2pl 92.50 % 96.77 % 97.89 % 2 min 1.72 GB"
    assert line_of(text, "local").startswith("local 35.11 % 51.46 % 70.31 %")
    assert line_of(text, "central").startswith("central 98.10 %")
    assert text.startswith("synthetic, seed 1")


def test_groups_of_devices_are_rows_of_their_own() -> None:
    accuracy = [0.8, 0.9, 0.9, 0.95, 0.95, 1.0]
    run = small_run(devices=devices(group=["old", "old,odd", "", "", "", ""], accuracy=accuracy))
    text = text_of(final_table(run))
    assert line_of(text, "old,") == "old, 2 devices 80.00 % 85.00 % 90.00 %"
    assert line_of(text, "odd,") == "odd, 1 device 90.00 % 90.00 % 90.00 %"
    assert line_of(text, "others,") == "others, 4 devices 90.00 % 95.00 % 100.00 %"
    assert "others" not in text_of(final_table(small_run()))


def test_the_lines_below_tell_what_it_cost(run: Run) -> None:
    text = text_of(final_table(run))
    assert line_of(text, "messages") == (
        "messages 21,186 sent, 18,006 delivered (85.0 %), 3,173 lost (15.0 %), 7 in flight"
    )
    for expected in (
        "lost by cause: burst 2,221 (10.5 %), queue 635 (3.0 %), outage 317 (1.5 %)",
        "1.2 s or 0.41 rounds old on average, 9.7 s or 5 rounds at most",
        "complete after 1.93 s, all devices agree, 2 joined later; 1,234 messages, 98.8 kB",
        "every device at least 95 %: not reached",
        "34.2 s: training 70 %, evaluation 19 %, other 10 %; 15.2 devices trained together",
        "virtual time",
        "3f2a9c0000000000",
    ):
        assert expected in text


def test_a_target_reached_says_when_and_at_what_cost() -> None:
    run = recorded_run(n=5, target=0.5)
    assert run.summary["target"]["reached"]
    assert "every device at least 50 %: reached after" in text_of(final_table(run))
    run.summary["target"].update(of="mean", virtual_seconds=90.0, bytes_on_air=2e6)
    assert "mean at least 50 %: reached after 1.5 min, 2 MB on air" in text_of(final_table(run))


@pytest.mark.parametrize("width", [100, 80])
def test_it_fits_the_terminal(run: Run, width: int) -> None:
    assert max(map(len, text_of(final_table(run), width).splitlines())) <= width
    big = recorded_run(graph=nx.complete_graph(60))
    assert max(map(len, text_of(final_table(big), width).splitlines())) <= width


def test_a_run_without_learning_has_no_accuracy_columns() -> None:
    text = text_of(final_table(recorded_run(n=5, learning=False)))
    assert "accuracy" not in text
    assert line_of(text, "gossip").startswith("gossip 2 min")


@pytest.mark.parametrize("missing", [*recorded_run(n=3).summary])
def test_any_part_of_the_summary_can_be_missing(missing: str) -> None:
    for change in ("none", "gone"):
        run = recorded_run(n=3)
        run.summary[missing] = None
        if change == "gone":
            del run.summary[missing]
        assert "synthetic" in text_of(final_table(run)) or missing == "scenario"


def test_a_run_that_failed_says_so_and_why() -> None:
    run = recorded_run(n=3)
    run.summary.update(status="failed", accuracy=None, error="device 2 failed at 3 s: [bold]")
    text = text_of(final_table(run))
    assert "seed 1  failed" in text
    assert "error       device 2 failed at 3 s: [bold]" in text


def test_warnings_and_the_folder_are_shown(tmp_path: Any) -> None:
    run = recorded_run(tmp_path / "run", n=3)
    run.summary["warnings"] = ["device 2 hears nobody"]
    text = text_of(final_table(run), width=300)
    assert "device 2 hears nobody" in text
    assert str(tmp_path / "run") in text


def test_compression_is_told_in_its_three_ratios() -> None:
    run = recorded_run(n=3)
    assert "compression" not in text_of(final_table(run))
    run.summary["compression"] = {"payload_ratio": 494.3, "codec_ratio": 673.04, "on_air_ratio": 61.25}
    text = " ".join(text_of(final_table(run)).split())
    assert "494.3 times as papers count, 673 times as encoded, 61.25 times on air" in text
