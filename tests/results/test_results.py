"""The folder of a run: never overwritten, readable whatever ends the run."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pl_async.errors import ScenarioError
from p2pl_async.results.folder import RunFolder
from p2pl_async.results.run import Run, load_run
from p2pl_async.results.table import LINK_COLUMNS, METRIC_COLUMNS, TRACE_COLUMNS, Table

SUMMARY = {"status": "complete", "scenario": "ring", "seed": 7}
ROWS = [(0.5 * i, i % 3, "loss" if i % 2 else "accuracy", i / 10) for i in range(10)]
METRICS = st.lists(
    st.tuples(
        st.floats(allow_nan=False), st.integers(-1, 10_000), st.sampled_from(["accuracy", "ä b", ""]), st.floats()
    ),
    max_size=30,
)


def rows_of(table: Table) -> list[tuple[Any, ...]]:
    return list(table.frame().itertuples(index=False, name=None))


def finished(folder: RunFolder, rows: list[tuple[Any, ...]] = ROWS) -> Path:
    """Write a small result as a run does."""
    folder.begin('name = "ring"\n')
    folder.write_summary({**SUMMARY, "status": "running"})
    for name, columns in {"metrics": METRIC_COLUMNS, "links": LINK_COLUMNS, "devices": {"device": "int32"}}.items():
        table = Table(folder.path / name, columns)
        for row in rows if name == "metrics" else []:
            table.add(*row)
        table.close()
    folder.write_summary(SUMMARY)
    return folder.path


def test_importing_results_is_cheap() -> None:
    heavy = "{'pandas', 'pyarrow', 'matplotlib', 'torch', 'networkx'}"
    code = f"import sys, p2pl_async.results; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Tables


@given(METRICS, st.sets(st.integers(0, 29)), st.booleans())
def test_a_table_gives_back_its_rows_however_they_were_flushed(
    rows: list[tuple[Any, ...]], flushes: set[int], on_disk: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        table = Table(Path(folder) / "metrics" if on_disk else None, METRIC_COLUMNS)
        for index, row in enumerate(rows):
            table.add(*row)
            if index in flushes:
                table.flush()
        np.testing.assert_equal(rows_of(table), rows)
        table.close()
        np.testing.assert_equal(rows_of(table), rows)


def test_a_full_batch_is_written_without_a_flush(tmp_path: Path) -> None:
    table = Table(tmp_path / "metrics", METRIC_COLUMNS)
    for _ in range(1000):
        for row in ROWS:
            table.add(*row)
    assert 8000 < len(Table(tmp_path / "metrics", METRIC_COLUMNS).frame()) <= 10_000


def test_a_closed_table_is_parquet_alone(tmp_path: Path) -> None:
    table = Table(tmp_path / "metrics", METRIC_COLUMNS)
    for row in ROWS:
        table.add(*row)
    table.flush()
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.arrows"]
    table.close()
    table.close()
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.parquet"]


def test_columns_keep_their_types() -> None:
    table = Table(None, TRACE_COLUMNS)
    assert len(table.frame()) == 0
    table.add(0.5, 0, 1, 0, "params", 80_000, 54, 1, 80_100, 0.2, False, math.nan, "burst", math.nan)
    kinds = {name: str(kind) for name, kind in table.frame().dtypes.items()}
    assert kinds == TRACE_COLUMNS


@given(st.integers(0, 4000))
def test_a_stream_cut_anywhere_gives_a_prefix_of_whole_batches(cut: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "metrics"
        table = Table(path, METRIC_COLUMNS)
        for row in ROWS:
            table.add(*row)
            table.flush()
        stream = path.with_suffix(".arrows")
        whole = stream.read_bytes()
        stream.write_bytes(whole[: min(cut, len(whole))])
        read = rows_of(Table(path, METRIC_COLUMNS))
    assert read == ROWS[: len(read)]
    assert len(read) == 10 or cut < len(whole)


def test_what_was_flushed_survives_sigkill(tmp_path: Path) -> None:
    code = """
        import sys, time
        from pathlib import Path
        from p2pl_async.results.folder import RunFolder
        from p2pl_async.results.table import METRIC_COLUMNS, Table
        folder = RunFolder(Path(sys.argv[1]), "ring", 7)
        folder.begin('name = "ring"')
        folder.write_summary({"status": "running", "scenario": "ring", "seed": 7})
        metrics = Table(folder.path / "metrics", METRIC_COLUMNS)
        for i in range(5000):
            metrics.add(float(i), i, "accuracy", 0.5)
        metrics.flush()
        metrics.add(9999.0, 0, "accuracy", 0.5)
        print("flushed", flush=True)
        time.sleep(60)
    """
    out = tmp_path / "run"
    command = [sys.executable, "-c", textwrap.dedent(code), str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "flushed\n"
        process.send_signal(signal.SIGKILL)
    run = load_run(out)
    assert run.summary["status"] == "running"
    assert list(run.metrics.time_s) == list(range(5000))
    assert len(run.devices) == len(run.links) == 0
    assert run.trace is None


# Folders


def test_the_default_folder_is_named_after_scenario_and_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folders = [RunFolder(None, "ring", 7) for _ in range(3)]
    assert not Path("runs").exists()
    assert [str(folder.path) for folder in folders] == ["runs/ring/7", "runs/ring/7-2", "runs/ring/7-3"]
    assert RunFolder(None, "../a b/..", 7).path == Path("runs/a-b-../7")


def test_an_out_folder_is_made_with_its_parents(tmp_path: Path) -> None:
    out = finished(RunFolder(tmp_path / "a" / "b", "ring", 7))
    assert out == tmp_path / "a" / "b"
    assert load_run(out).scenario_text == 'name = "ring"\n'


def test_a_result_is_replaced_only_by_force_and_only_when_the_run_begins(tmp_path: Path) -> None:
    finished(RunFolder(tmp_path, "ring", 7))
    with pytest.raises(ScenarioError, match=r"contains the result of a run; .* --force"):
        RunFolder(tmp_path, "ring", 7)
    folder = RunFolder(tmp_path, "ring", 8, force=True)
    assert load_run(folder.path).summary == SUMMARY
    assert not folder.begun
    folder.begin('name = "other"\n')
    assert folder.begun
    with pytest.raises(ScenarioError, match=r"summary\.json"):
        load_run(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["scenario.toml"]


def test_force_removes_only_files_that_a_run_writes(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "ring", 7)
    finished(folder)
    finished(folder.beside("local"))
    finished(folder.beside("central"))
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "topology.png").touch()
    kept = [tmp_path / name for name in ("notes.txt", "plots/mine.png", "baselines/local/notes.txt")]
    for file in kept:
        file.touch()
    finished(RunFolder(tmp_path, "ring", 7, force=True))
    files = {file for file in tmp_path.rglob("*") if file.is_file()}
    ours = {"scenario.toml", "summary.json", "metrics.parquet", "links.parquet", "devices.parquet"}
    assert files == {*kept, *(tmp_path / name for name in ours)}
    assert not (tmp_path / "baselines" / "central").exists()


@pytest.mark.parametrize("name", ["notes.txt", "summary.json"])
def test_a_folder_with_other_files_is_refused_even_by_force(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{"status": 3}')
    with pytest.raises(ScenarioError, match="contains files that no run wrote"):
        RunFolder(tmp_path, "ring", 7, force=True)


def test_a_file_in_the_way_is_an_error_that_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs").touch()
    with pytest.raises(ScenarioError, match='"runs" is a file, not a folder'):
        RunFolder(None, "ring", 7)
    with pytest.raises(ScenarioError, match='/runs" is a file, not a folder; choose another folder with --out'):
        RunFolder(tmp_path / "runs" / "a", "ring", 7)


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write everywhere")
def test_a_folder_without_permission_is_an_error_that_names_it(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ScenarioError, match="can't be written; change its permissions"):
        RunFolder(tmp_path / "a", "ring", 7)


def test_a_folder_that_goes_away_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run", "ring", 7)
    table = Table(folder.path / "metrics", METRIC_COLUMNS)
    for row in ROWS:
        table.add(*row)
    folder.path.rmdir()
    with pytest.raises(ScenarioError, match=r"metrics\.arrows has 1 problem(?s:.)*can't be written: No such file"):
        table.flush()
    with pytest.raises(ScenarioError, match=r"summary\.json has 1 problem"):
        folder.write_summary(SUMMARY)


def test_a_second_run_can_not_begin_in_a_folder_filled_meanwhile(tmp_path: Path) -> None:
    first, second = (RunFolder(tmp_path / "run", "ring", 7) for _ in range(2))
    finished(first)
    with pytest.raises(ScenarioError, match="contains the result"):
        second.begin("")


# Reading back


def test_load_run_gives_back_what_was_written(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "ring", 7)
    finished(folder)
    finished(folder.beside("local"), rows=ROWS[:4])
    trace = Table(tmp_path / "trace", TRACE_COLUMNS)
    trace.add(0.5, 0, 1, 0, "params", 80_000, 54, 0, 80_100, 0.2, False, 0.75, "delivered", math.nan)
    trace.close()
    run = load_run(str(tmp_path))
    assert run.summary == SUMMARY
    assert list(run.metrics.itertuples(index=False, name=None)) == ROWS
    assert run.trace is not None
    assert list(run.trace.fate) == ["delivered"]
    assert list(run.baselines) == ["local"]
    assert len(run.baselines["local"].metrics) == 4
    assert repr(run) == "<Run 'ring' seed 7: complete>"


def test_a_run_in_memory_has_the_same_face() -> None:
    table = Table(None, METRIC_COLUMNS)
    for row in ROWS:
        table.add(*row)
    empty = Table(None, LINK_COLUMNS)
    run = Run(summary=dict(SUMMARY), metrics=table, devices=empty, links=empty)
    assert list(run.metrics.itertuples(index=False, name=None)) == ROWS
    assert run.metrics is run.metrics
    assert run.trace is None
    assert run.path is None
    assert run.baselines == {}


@pytest.mark.parametrize("make", [False, True])
def test_loading_what_is_no_run_is_an_error_that_names_it(tmp_path: Path, make: bool) -> None:
    folder = tmp_path / "nothing"
    if make:
        folder.mkdir()
    with pytest.raises(ScenarioError, match=r"nothing has 1 problem(?s:.)*a run's folder has a summary.json"):
        load_run(folder)


def test_a_corrupt_table_is_an_error_that_names_it(tmp_path: Path) -> None:
    finished(RunFolder(tmp_path, "ring", 7))
    (tmp_path / "metrics.parquet").write_bytes(b"PAR1 is not enough")
    with pytest.raises(ScenarioError, match=r"metrics\.parquet has 1 problem"):
        _ = load_run(tmp_path).metrics


def test_the_summary_is_plain_json(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "ring", 7)
    folder.write_summary({"a": math.nan, "b": [math.inf, np.float32(0.5)], "c": {1: np.int64(3), "d": None, "e": True}})
    text = (tmp_path / "summary.json").read_text()
    assert json.loads(text) == {"a": None, "b": [None, 0.5], "c": {"1": 3, "d": None, "e": True}}
    assert [file.name for file in tmp_path.iterdir()] == ["summary.json"]
