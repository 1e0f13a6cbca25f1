"""Files of measurements: CSV columns, Mahimahi, k7, and the 5G data set of Cork.

Each reader returns plain arrays in the units of the file, row by row; the caller decides what they
mean for a link. Every error names the file, the line and the repair.
"""

from __future__ import annotations

import csv
import gzip
import json
import math
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from p2pl_async.basics.arrays import Floats, Ints
from p2pl_async.basics.limits import MOST_TRACE_BYTES
from p2pl_async.basics.settings import nearest
from p2pl_async.basics.timeline import Steps

Gaps = Literal["error", "hold", "skip"]

_EMPTY = frozenset({"", "-", "nan", "na", "null", "none"})  # cells without a value


class TraceError(ValueError):
    """A file of measurements can't be used; the text has the place and the repair."""


def read_columns(path: Path, columns: Sequence[str], gaps: Gaps = "error") -> dict[str, Floats]:
    """Return columns of numbers of a CSV file with a header.

    Args:
        path: the file; commas, semicolons or tabs between cells.
        columns: names of the header.
        gaps: what to do if a cell is empty or "-": an error, hold the value before, or skip the row.

    Raises:
        TraceError: if the file, a column or a value is missing, or a cell is no number.
    """
    rows = _cells(path, tuple(columns), _changed(path))
    found: list[list[float]] = []
    for line, cells in rows:
        numbers = [_number(path, line, name, cell) for name, cell in zip(columns, cells, strict=True)]
        if any(map(math.isnan, numbers)):
            gap = next(name for name, number in zip(columns, numbers, strict=True) if math.isnan(number))
            if gaps == "skip":
                continue
            if gaps == "error" or not found:
                way = 'fill it in, or write gaps = "hold" to keep the value before' if gaps == "error" else "fill it in"
                raise TraceError(f'{path}, line {line}: column "{gap}" has no value; {way}')
            numbers = [old if math.isnan(new) else new for old, new in zip(found[-1], numbers, strict=True)]
        found.append(numbers)
    if not found:
        raise TraceError(f"{path} has no rows; it needs a header and at least one line of numbers")
    table = np.array(found)
    return {name: np.ascontiguousarray(table[:, i]) for i, name in enumerate(columns)}


def read_texts(path: Path, columns: Sequence[str]) -> list[tuple[int, list[str]]]:
    """Return (line, cells) of each row of a CSV file, only these columns; raises as `read_columns`."""
    return _cells(path, tuple(columns), _changed(path))


def header_of(path: Path) -> list[str]:
    """Return the names of the columns of a CSV file; TraceError if it can't be read."""
    return [name.strip() for name in next(_reader(_text(path)), [])]


def _reader(text: str) -> Any:
    """Return a reader of rows; the delimiter is the most frequent of comma, semicolon and tab in the first line."""
    head, _, _ = text.partition("\n")
    return csv.reader(text.splitlines(), delimiter=max(",;\t", key=head.count))


def _number(path: Path, line: int, column: str, cell: str) -> float:
    if cell.lower() in _EMPTY:
        return math.nan
    try:
        number = float(cell)
    except ValueError:
        hint = "; numbers only, its unit goes into the scenario: unit = ..." if cell[0].isdigit() else ""
        raise TraceError(f'{path}, line {line}: column "{column}" has "{cell}", which is no number{hint}') from None
    if not math.isfinite(number):
        raise TraceError(f'{path}, line {line}: column "{column}" must be finite, not {cell}')
    return number


@lru_cache(maxsize=32)
def _cells(path: Path, columns: tuple[str, ...], changed: float) -> list[tuple[int, list[str]]]:
    """Return (line, cells) of each row that isn't empty; the file is read again only if it has changed."""
    reader = _reader(_text(path))
    header = [name.strip() for name in next(reader, [])]
    for name in columns:
        if name not in header:
            guess = nearest(name, header)
            hint = f'did you mean "{guess}"?' if guess else f"columns: {', '.join(header) or 'none'}"
            raise TraceError(f'{path} has no column "{name}"; {hint}')
    places = [header.index(name) for name in columns]
    rows = []
    for row in reader:
        if any(cell.strip() for cell in row):
            if len(row) <= max(places):
                raise TraceError(f"{path}, line {reader.line_num}: has {len(row)} cells, but the header {len(header)}")
            rows.append((reader.line_num, [row[place].strip() for place in places]))
    return rows


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError as error:
        raise TraceError(f"{path}: {(error.strerror or str(error)).lower()}") from error


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_TRACE_BYTES + 1)
        if data[:2] == b"\x1f\x8b":
            with gzip.open(path) as unpacked:  # read no further than the limit, whatever it unpacks to
                data = unpacked.read(MOST_TRACE_BYTES + 1)
        if len(data) > MOST_TRACE_BYTES:
            raise TraceError(f"{path}: holds more than {MOST_TRACE_BYTES} bytes; thin it out, or cut it")
        return data.decode("utf-8-sig")
    except (OSError, EOFError) as error:
        raise TraceError(f"{path}: {(getattr(error, 'strerror', None) or str(error)).lower()}") from error
    except UnicodeDecodeError as error:
        raise TraceError(f"{path}: must be UTF-8 text") from error


def read_steps(
    path: Path, column: str, time: str, time_unit: float, gaps: Gaps, loop: bool, timestamps: str | None = None
) -> Steps[float]:
    """Return a column of a CSV file as a function of time; its first row is at 0 s.

    Args:
        path: the file.
        column: the column of values.
        time: the column of instants.
        time_unit: unit of that column, in seconds.
        gaps: as in `read_columns`.
        loop: begin again after the end; the last value lasts as long as the one before it.
        timestamps: the form of instants that are dates, as `datetime.strptime` takes it. Of rows
            with the same date the last one counts.

    Raises:
        TraceError: as `read_columns`; if instants are negative or don't ascend.
    """
    if timestamps is None:
        table = read_columns(path, [time, column], gaps)
        times, values = table[time], table[column]
        if times.min() < 0:
            line = next(line for line, (cell,) in read_texts(path, [time]) if cell.startswith("-"))
            raise TraceError(f'{path}, line {line}: column "{time}" must not be negative; a trace begins at 0')
        falls = np.flatnonzero(np.diff(times) <= 0)
        if len(falls):
            first = int(falls[0])
            raise TraceError(
                f'{path}: column "{time}" must ascend, but {times[first + 1]:g} follows {times[first]:g}; '
                "sort the rows, and keep one of those with the same time"
            )
        times = (times - times[0]) * time_unit
    else:
        values = read_columns(path, [column], gaps)[column]
        rows = read_texts(path, [time, column])
        dates = [(line, date) for line, (date, cell) in rows if gaps != "skip" or cell.lower() not in _EMPTY]
        times = _dates(path, time, dates, timestamps)
        last = np.append(np.diff(times) > 0, True)
        times, values = times[last], values[last]
    period = None
    if loop:
        if len(times) < 2:
            raise TraceError(f'{path} needs at least two rows for end = "loop"; write end = "hold"')
        period = float(2 * times[-1] - times[-2])
    return Steps(times, values.tolist(), period)


def _dates(path: Path, column: str, dates: Sequence[tuple[int, str]], form: str) -> Floats:
    """Return the seconds since the first of some (line, date), shape (n,)."""
    found = []
    for line, cell in dates:
        try:
            found.append(datetime.strptime(cell, form))
        except ValueError:
            text = f'column "{column}" has "{cell}", which is no date of the form {form}'
            raise TraceError(f"{path}, line {line}: {text}") from None
    times = np.array([(date - found[0]).total_seconds() for date in found])
    if len(times) > 1 and np.diff(times).min() < 0:
        raise TraceError(f'{path}: column "{column}" must not go back in time; sort the rows')
    return times


IRELAND_TIME = ("Timestamp", "%Y.%m.%d_%H.%M.%S")
"""Column and form of the dates in the 5G data set of Cork (Raca et al., MMSys 2020)."""


@lru_cache(maxsize=8)
def _mahimahi(path: Path, changed: float) -> Ints:
    found = []
    for number, text in enumerate(_text(path).splitlines(), 1):
        if not text.strip():
            continue
        if not text.strip().isascii() or not text.strip().lstrip("+-").isdigit():
            raise TraceError(
                f'{path}, line {number}: "{text.strip()}" is no whole number of milliseconds; a Mahimahi trace has '
                'one per line, for a CSV file write kind = "trace"'
            )
        found.append(int(text))
        if found[-1] < 0:
            raise TraceError(f"{path}, line {number}: {found[-1]} must not be negative; milliseconds count from 0")
        if len(found) > 1 and found[-1] < found[-2]:
            raise TraceError(f"{path}, line {number}: {found[-1]} follows {found[-2]}; sort the lines")
    if not found or found[-1] == 0:
        raise TraceError(f"{path} must have at least one line above 0, in milliseconds, as it repeats after the last")
    times = np.array(found)
    times.setflags(write=False)
    return times


def read_mahimahi(path: Path) -> Ints:
    """Return the instants at which 1500 bytes may leave, in milliseconds, ascending; shape (n,).

    Source: Winstein, Sivaraman, Balakrishnan, NSDI 2013; the format of its cellsim and of mm-link.

    Raises:
        TraceError: if a line is no whole number, is negative, or comes before its predecessor.
    """
    return _mahimahi(path, _changed(path))


class K7(NamedTuple):
    """Link quality of a mesh as Mercator measures it: a row per link, channel and time."""

    src: Ints  # (n,)
    dst: Ints
    channel: Ints  # -1: not given
    rssi_dbm: Floats  # nan where nothing was received
    pdr: Floats  # share of frames delivered, 0 to 1


def read_k7(path: Path) -> K7:
    """Return the rows of a k7 file, plain or gzipped: a JSON line, then CSV.

    Raises:
        TraceError: if the head is no JSON, or a column or value is missing.
    """
    text = _text(path)
    head, _, body = text.partition("\n")
    try:
        json.loads(head)
    except ValueError:
        raise TraceError(f"{path}, line 1: must be the JSON object that a k7 file begins with") from None
    rows = list(csv.DictReader(body.splitlines()))
    names = ("src", "dst", "channel", "mean_rssi", "pdr")
    missing = [name for name in names if not rows or name not in rows[0]]
    if missing:
        raise TraceError(f'{path}, line 2: has no column "{missing[0]}"; k7 needs {", ".join(names)}')
    numbers = [[_number(path, line, name, row[name] or "") for name in names] for line, row in enumerate(rows, 3)]
    table = np.array(numbers)
    for i, name in ((0, "src"), (1, "dst"), (4, "pdr")):
        if np.isnan(table[:, i]).any():
            line = int(np.argmax(np.isnan(table[:, i]))) + 3
            raise TraceError(f'{path}, line {line}: column "{name}" has no value')
    if table[:, 4].min() < 0 or table[:, 4].max() > 1:
        line = int(np.argmax((table[:, 4] < 0) | (table[:, 4] > 1))) + 3
        raise TraceError(f"{path}, line {line}: pdr must be a share from 0 to 1; divide percent by 100")
    whole = [np.nan_to_num(table[:, i], nan=-1).astype(np.int64) for i in (0, 1, 2)]
    return K7(whole[0], whole[1], whole[2], table[:, 3], table[:, 4])


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line number, text) of each line of a file that isn't empty; TraceError if it can't be read."""
    for number, text in enumerate(_text(path).splitlines(), 1):
        if text.strip():
            yield number, text.strip()
