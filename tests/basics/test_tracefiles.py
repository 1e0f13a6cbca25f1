"""Reading measured traces: small files of our own, and the real ones where they are."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
from helpers.measured import K7

from p2pl_async.basics.timeline import Steps
from p2pl_async.basics.tracefiles import (
    IRELAND_TIME,
    TraceError,
    header_of,
    read_columns,
    read_k7,
    read_mahimahi,
    read_steps,
    read_texts,
)


def write(folder: Path, text: str, name: str = "x.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_columns_come_by_name_whatever_the_mark_between_cells(tmp_path: Path) -> None:
    for mark in ",;\t":
        path = write(tmp_path, f"a{mark} b {mark}c\n1{mark}2{mark}x\n\n3{mark}4e-1{mark}y\n", f"{ord(mark)}.csv")
        assert {name: values.tolist() for name, values in read_columns(path, ["b", "a"]).items()} == {
            "a": [1, 3],
            "b": [2, 0.4],
        }
        assert header_of(path) == ["a", "b", "c"]
        assert read_texts(path, ["c"]) == [(2, ["x"]), (4, ["y"])]


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path, "a\n1\n")
    assert read_columns(path, ["a"])["a"].tolist() == [1]
    path.write_text("a\n2\n")
    os.utime(path, (1, 1))
    assert read_columns(path, ["a"])["a"].tolist() == [2]


def test_gzipped_files_are_read_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "x.csv.gz"
    path.write_bytes(gzip.compress(b"a\n5\n"))
    assert read_columns(path, ["a"])["a"].tolist() == [5]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", 'no column "a"; columns: none'),
        ("a,b\n", "has no rows"),
        ("a,b\n1\n", "line 2: has 1 cells, but the header 2"),
        ("a,b\n1,x\n", 'line 2: column "b" has "x", which is no number'),
        ("a,b\n1,5 ms\n", "numbers only, its unit goes into the scenario"),
        ("a,b\n1,inf\n", "must be finite"),
        ("a,b\n1,2\n3,-\n", 'line 3: column "b" has no value; fill it in, or write gaps = "hold"'),
    ],
)
def test_what_is_wrong_in_a_table_is_said_with_its_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(TraceError, match=says):
        read_columns(write(tmp_path, text), ["a", "b"])


def test_files_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b"a\n\xff\xfe\n")
    with pytest.raises(TraceError, match="must be UTF-8 text"):
        read_columns(path, ["a"])
    with pytest.raises(TraceError, match="no such file"):
        read_columns(tmp_path / "no.csv", ["a"])
    path.write_bytes(gzip.compress(b"a\n5\n")[:-6])
    with pytest.raises(TraceError, match=r"x\.csv"):
        read_columns(path, ["a"])


def test_a_gap_in_the_first_row_can_not_be_held(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"line 2: .* has no value; fill it in$"):
        read_columns(write(tmp_path, "a\n-\n1\n"), ["a"], gaps="hold")


def test_dates_are_seconds_since_the_first_and_the_last_row_of_an_instant_counts(tmp_path: Path) -> None:
    stamp = "2020.02.14_09.38."
    text = f"Timestamp,DL_bitrate\n{stamp}22,5\n{stamp}22,7\n{stamp}25,-\n{stamp}26,9\n"
    steps = read_steps(write(tmp_path, text), "DL_bitrate", *(IRELAND_TIME[0], 1.0, "hold", True), IRELAND_TIME[1])
    assert steps == Steps(np.array([0.0, 3.0, 4.0]), [7.0, 7.0, 9.0], 5.0)
    with pytest.raises(TraceError, match=r"line 2: .* is no date of the form"):
        read_steps(
            write(tmp_path, "Timestamp,a\n2020-02-14,5\n"), "a", IRELAND_TIME[0], 1.0, "hold", True, IRELAND_TIME[1]
        )
    back = f"Timestamp,a\n{stamp}22,5\n{stamp}21,7\n"
    with pytest.raises(TraceError, match="must not go back in time"):
        read_steps(write(tmp_path, back), "a", IRELAND_TIME[0], 1.0, "hold", True, IRELAND_TIME[1])


def test_skipped_rows_take_their_dates_with_them(tmp_path: Path) -> None:
    stamp = "2020.02.14_09.38."
    text = f"Timestamp,a\n{stamp}22,5\n{stamp}23,-\n{stamp}26,9\n"
    steps = read_steps(write(tmp_path, text), "a", IRELAND_TIME[0], 1.0, "skip", False, IRELAND_TIME[1])
    assert steps == Steps(np.array([0.0, 4.0]), [5.0, 9.0], None)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("5\n3\n", "line 2: 3 follows 5; sort the lines"),
        ("-1\n", "line 1: -1 must not be negative"),
        ("1.5\n", '"1.5" is no whole number of milliseconds; .* write kind = "trace"'),
        ("t,rate\n0,1\n", "is no whole number"),
        ("0\n", "at least one line above 0"),
        ("", "at least one line above 0"),
    ],
)
def test_what_is_no_mahimahi_trace_is_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(TraceError, match=says):
        read_mahimahi(write(tmp_path, text))


def test_a_k7_file_has_rows_of_links(tmp_path: Path) -> None:
    found = read_k7(write(tmp_path, K7))
    assert found.src.tolist() == [0, 4, 4]
    assert found.dst.tolist() == [4, 0, 7]
    assert found.channel.tolist() == [11, 11, -1]
    assert found.pdr.tolist() == [1.0, 0.5, 0.0]
    assert np.isnan(found.rssi_dbm).tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('{"location"', "[location", "line 1: must be the JSON object"),
        ("pdr", "prr", 'no column "pdr"'),
        ("0.5", "50", "line 4: pdr must be a share from 0 to 1; divide percent by 100"),
        ("0.5", "", 'line 4: column "pdr" has no value'),
        ("-60", "weak", 'has "weak", which is no number'),
    ],
)
def test_what_is_no_k7_file_is_refused(tmp_path: Path, old: str, new: str, says: str) -> None:
    with pytest.raises(TraceError, match=says):
        read_k7(write(tmp_path, K7.replace(old, new)))


# --- Real traces

DATA = Path(os.environ.get("P2PL_DATA", "nowhere"), "traces")
real = pytest.mark.skipif(not DATA.is_dir(), reason="needs real traces in $P2PL_DATA/traces")


@real
@pytest.mark.parametrize(
    ("name", "lines", "last", "mean", "gap"),
    [
        ("Verizon-LTE-short.down", 58655, 140000, 5.028, 1447),
        ("Verizon-LTE-short.up", 69367, 140000, 5.946, 1718),
        ("ATT-LTE-driving-2016.down", 45604, 120002, 4.560, 1123),
        ("ATT-LTE-driving-2016.up", 19101, 120002, 1.910, 4061),
    ],
)
def test_real_mahimahi_traces(name: str, lines: int, last: int, mean: float, gap: int) -> None:
    times = read_mahimahi(DATA / "mahimahi-cellular" / name)
    assert (len(times), times[-1], int(np.diff(times).max())) == (lines, last, gap)
    assert len(times) * 12e3 / (last / 1e3) / 1e6 == pytest.approx(mean, abs=5e-4)


@real
@pytest.mark.parametrize(
    ("name", "rows", "mean"),
    [("Driving_B_2020.02.14_09.38.22.csv", 1646, 31737), ("Static_B_2020.02.14_13.21.26.csv", 1013, 121021)],
)
def test_real_5g_traces(name: str, rows: int, mean: int) -> None:
    path = DATA / "5g-ireland" / name
    rates = read_columns(path, ["DL_bitrate"])["DL_bitrate"]
    assert (len(rates), round(rates.mean())) == (rows, mean)
    modes = [cells[0] for _, cells in read_texts(path, ["NetworkMode"])]
    if name.startswith("Driving"):
        assert rates.max() == 484565
        assert (modes.count("LTE"), modes.count("5G")) == (1123, 523)
    else:
        assert set(modes) == {"5G"}
    steps = read_steps(path, "DL_bitrate", IRELAND_TIME[0], 1.0, "error", True, IRELAND_TIME[1])
    assert steps.times[0] == 0
    assert (np.diff(steps.times) >= 1).all()
    assert len(steps.values) == len(steps.times)
    assert steps.period is not None
    assert steps.period > steps.times[-1]


@real
def test_a_real_mesh() -> None:
    found = read_k7(DATA / "802154-grenoble" / "grenoble_44nodes.k7.gz")
    assert len(found.pdr) == 21366
    links, index = np.unique(np.column_stack((found.src, found.dst)), axis=0, return_inverse=True)
    index = index.ravel()
    pdr = np.bincount(index, weights=found.pdr) / np.bincount(index)
    assert len(links) == 1892
    counts = [np.sum(pdr == 0), np.sum((pdr > 0) & (pdr < 0.1)), np.sum((pdr >= 0.1) & (pdr <= 0.9)), np.sum(pdr > 0.9)]
    assert counts == [1536, 46, 155, 155]
    share = {(int(a), int(b)): p for (a, b), p in zip(links, pdr, strict=True)}
    pairs = [(a, b) for a, b in share if a < b]
    assert len(pairs) == 946
    assert np.mean([abs(share[a, b] - share[b, a]) > 0.1 for a, b in pairs]) == pytest.approx(0.022, abs=5e-4)
