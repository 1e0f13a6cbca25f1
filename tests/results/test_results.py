"""The folder of a run: never overwritten, readable whatever ends the run."""

from __future__ import annotations

import contextlib
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
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pl_async.errors import ScenarioError
from p2pl_async.results import table
from p2pl_async.results.folder import RunFolder
from p2pl_async.results.run import Run, load_run
from p2pl_async.results.table import LINK_COLUMNS, METRIC_COLUMNS, SIGNAL_COLUMNS, TRACE_COLUMNS, Table

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
    folder.publish()
    folder.close()
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


@given(st.data(), st.sampled_from(["category", "bool", "float64", "int32", "int64"]))
def test_columns_are_those_that_arrow_makes_of_their_values(data: st.DataObject, kind: str) -> None:
    whole = st.integers(-(2**31), 2**31 - 1)
    floats = st.floats() | whole
    values = {"category": st.text(), "bool": st.booleans(), "float64": floats, "int32": whole, "int64": whole}[kind]
    column = data.draw(st.lists(st.none() | values, max_size=30))
    plain = pa.array(column, pa.string()).dictionary_encode() if kind == "category" else pa.array(column, kind)
    found = table.column_of(column, kind)
    found.validate(full=True)
    assert found.type == plain.type
    np.testing.assert_equal(found.to_pylist(), plain.to_pylist())


def test_a_table_needs_no_pandas_while_rows_come() -> None:
    rows = "table.add(0.5, 0, 1, 0, 'params', 80, 1, 0, 100, 0.2, False, 0.7, 'delivered', math.nan); table.flush()"
    code = (
        "import math, sys; from p2pl_async.results.table import TRACE_COLUMNS, Table; "
        f"table = Table(None, TRACE_COLUMNS); {rows}; sys.exit('pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


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
        from p2pl_async.results.run import load_run
        from p2pl_async.results.table import METRIC_COLUMNS, Table
        folder = RunFolder(Path(sys.argv[1]), "ring", 7)
        folder.begin('name = "ring"')
        folder.write_summary({"status": "running", "scenario": "ring", "seed": 7})
        metrics = Table(folder.path / "metrics", METRIC_COLUMNS)
        for i in range(5000):
            metrics.add(float(i), i, "accuracy", 0.5)
        metrics.flush()
        metrics.add(9999.0, 0, "accuracy", 0.5)
        print(load_run(folder.path).summary["status"], flush=True)
        time.sleep(60)
    """
    out = tmp_path / "run"
    command = [sys.executable, "-c", textwrap.dedent(code), str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        with pytest.raises(ScenarioError, match="is in use by another run"):
            RunFolder(out, "ring", 7, force=True)
        process.send_signal(signal.SIGKILL)
    run = load_run(out)
    assert run.summary["status"] == "killed"
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


def test_a_result_is_replaced_only_by_force_and_only_when_the_new_one_stands(tmp_path: Path) -> None:
    finished(RunFolder(tmp_path, "ring", 7))
    with pytest.raises(ScenarioError, match=r"contains the result of a run; .* --force"):
        RunFolder(tmp_path, "ring", 7)
    folder = RunFolder(tmp_path, "ring", 8, force=True)
    assert not folder.begun
    folder.begin('name = "other"\n')
    assert folder.begun
    assert load_run(tmp_path).summary == SUMMARY
    assert len(load_run(tmp_path).metrics) == len(ROWS)
    assert load_run(folder.path).summary["status"] == "running"
    with pytest.raises(ScenarioError, match="is in use by another run; wait until that ends"):
        RunFolder(tmp_path, "ring", 9, force=True).begin("")
    folder.write_summary({**SUMMARY, "seed": 8})
    folder.publish()
    folder.close()
    assert folder.path == tmp_path
    assert load_run(tmp_path).summary == {**SUMMARY, "seed": 8}
    assert load_run(tmp_path).scenario_text == 'name = "other"\n'
    assert sorted(file.name for file in tmp_path.iterdir()) == ["scenario.toml", "summary.json"]


def test_what_a_replacing_run_left_when_it_was_cut_short_gives_way_to_the_next(tmp_path: Path) -> None:
    finished(RunFolder(tmp_path, "ring", 7))
    cut = RunFolder(tmp_path, "ring", 7, force=True)
    cut.begin("")
    cut.close()
    assert load_run(tmp_path / ".new").summary["status"] == "killed"
    (tmp_path / "summary.json").unlink()  # as if it had been cut while taking the place of the old result
    finished(RunFolder(tmp_path, "ring", 7, force=True), ROWS[:3])
    assert len(load_run(tmp_path).metrics) == 3
    assert not (tmp_path / ".new").exists()


def test_a_link_in_a_result_is_not_followed(tmp_path: Path) -> None:
    elsewhere, out = tmp_path / "elsewhere", tmp_path / "out"
    finished(RunFolder(elsewhere, "ring", 7))
    (elsewhere / "topology.png").touch()
    folder = RunFolder(out, "ring", 7)
    finished(folder)
    (out / "baselines").mkdir()
    (out / "baselines" / "local").symlink_to(elsewhere)
    (out / "plots").symlink_to(elsewhere)
    assert load_run(out).baselines == {}
    finished(RunFolder(out, "ring", 7, force=True))
    assert {file.name for file in elsewhere.iterdir()} >= {"summary.json", "metrics.parquet", "topology.png"}
    assert not (out / "plots").exists()


def test_no_name_in_a_summary_leads_out_of_the_folder(tmp_path: Path) -> None:
    finished(RunFolder(tmp_path / "other", "ring", 7))
    finished(RunFolder(tmp_path / "run", "ring", 7))
    spoiled: list[Any] = [{"../../other": {}}, {str(tmp_path / "other"): {}}, ["../../other"], 3, "x"]
    for baselines in spoiled:
        (tmp_path / "run" / "summary.json").write_text(json.dumps({**SUMMARY, "baselines": baselines}))
        assert load_run(tmp_path / "run").baselines == {}


def test_a_folder_whose_run_was_killed_before_its_first_summary_can_be_used(tmp_path: Path) -> None:
    (tmp_path / "summary.json.part").touch()
    assert len(load_run(finished(RunFolder(tmp_path, "ring", 7))).metrics) == len(ROWS)


def test_a_summary_that_can_not_be_written_says_failed_where_it_lies(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "ring", 7)
    folder.begin("")
    size = (tmp_path / "summary.json").stat().st_size
    folder.fail()
    assert load_run(tmp_path).summary["status"] == "failed"
    assert (tmp_path / "summary.json").stat().st_size == size


@pytest.mark.parametrize("suffix", [".arrows", ".parquet"])
@given(data=st.data())
def test_a_damaged_table_is_read_in_part_or_is_an_error(data: st.DataObject, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "metrics"
        table = Table(path, METRIC_COLUMNS)
        for row in ROWS:
            table.add(*row)
        table.flush()
        if suffix == ".parquet":
            table.close()
        file = path.with_suffix(suffix)
        whole = bytearray(file.read_bytes())
        for _ in range(data.draw(st.integers(1, 3))):
            whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
        file.write_bytes(whole)
        with contextlib.suppress(ScenarioError):
            assert len(rows_of(Table(path, METRIC_COLUMNS))) <= len(ROWS)


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


def test_a_sample_of_a_trace_is_some_of_its_rows_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "_ROW_GROUP", 100)  # so that it has several
    monkeypatch.setattr(table, "_BATCH", 50)
    columns = {"at": "float64", "kind": "category"}
    written = Table(tmp_path / "rows", columns)
    for k in range(1000):
        written.add(k / 10, "even" if k % 2 == 0 else "odd")
    open_sample = written.sample(["at"], 30)
    written.close()
    found, total = Table(tmp_path / "rows", columns).sample(["at", "kind"], 30)
    assert total == 1000
    assert len(found) == 30
    assert found["at"].is_monotonic_increasing
    assert found["at"].max() > 60
    assert all(
        (round(at * 10) % 2 == 0) == (kind == "even") for at, kind in zip(found["at"], found["kind"], strict=True)
    )
    assert open_sample[0]["at"].tolist() == found["at"].tolist()
    assert len(written.sample(["at"], 5000)[0]) == 1000


def test_a_trace_of_radios_is_read_with_the_columns_that_it_has(tmp_path: Path) -> None:
    finished(RunFolder(tmp_path, "ring", 7))
    trace = Table(tmp_path / "trace", TRACE_COLUMNS | SIGNAL_COLUMNS)
    row = (0.5, 0, 1, 0, "params", 100, 1, 0, 117, 0.2, False, 0.75, "delivered", math.nan)
    trace.add(*row, -70.5, 30.5, 12.0, 250e3, 1)
    trace.close()
    read = load_run(str(tmp_path)).trace
    assert read is not None
    assert read[list(SIGNAL_COLUMNS)].iloc[0].tolist() == [-70.5, 30.5, 12.0, 250e3, 1]
