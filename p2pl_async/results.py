"""A run's results: the folder they lie in, the tables written as a run goes, and reading them back.

    runs/<scenario>/<seed>/
        scenario.toml       the resolved scenario; running it again gives the same digest
        summary.json        what happened, in numbers; status "running" until the end
        metrics.parquet     time_s, device (-1: the whole run), metric, value
        devices.parquet     one row per device: position, samples by class, rounds, accuracy, energy
        links.parquet       one row per link: messages sent, delivered, lost, ...; air time, mean delay
        trace.parquet       one row per message and link, if the run keeps a trace
        plots/              written by `p2pl_async.report`
        baselines/<name>/   the same for each baseline

While a run goes, a table is a stream of batches (`metrics.arrows`, Arrow IPC). Every batch is
complete in itself, so that whatever kills the process, all batches before that moment are
readable; closing the table turns the stream into Parquet.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from p2pl_async.errors import Problem, ScenarioError

if TYPE_CHECKING:
    import pandas as pd

METRIC_COLUMNS = {"time_s": "float64", "device": "int32", "metric": "category", "value": "float64"}
TRACE_COLUMNS = {
    "sent_s": "float64", "src": "int32", "dst": "int32", "number": "int64", "kind": "category",
    "size_bytes": "int64", "packets": "int64", "packets_lost": "int64", "air_bytes": "int64",
    "air_s": "float64", "acknowledged": "bool", "arrival_s": "float64", "fate": "category", "copy_s": "float64",
}  # fmt: skip
PLOTS = (
    "accuracy_time",
    "accuracy_bytes",
    "accuracy_air",
    "accuracy_energy",
    "consensus_distance",
    "messages",
    "topology",
    "samples",
)

PREDICTED_PLOTS = ("predicted_loss", "predicted_accuracy", "predicted_consensus", "relative_error")

_TABLES = ("metrics", "devices", "links", "trace", "predicted", "measured", "topologies", "link_effects")
_BATCH = 4096  # rows in memory before they become a batch
_ROW_GROUP = 1 << 20  # rows of one Parquet row group, and most that closing a table holds in memory


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How far a run is; what `run` hands to its `progress`."""

    label: str  # the protocol, or the baseline
    now: float  # s, virtual
    wall: float  # s since this part of the run began
    accuracy: tuple[float, float, float] | None  # min, mean, max over devices; None before any
    sent: int  # messages, one for each link that a message is sent on
    delivered: int
    lost: int
    air_bytes: int
    done: float | None  # share of the run, 0 to 1, by the stop condition that is nearest; None if unknown
    rounds: float  # mean over devices


class Table:
    """Rows appended while a run goes; what was flushed survives a kill.

    Args:
        path: where to write, without suffix: `path.arrows` while rows come, `path.parquet`
            once closed. None keeps the table in memory. Nothing is made before the first flush.
        columns: name -> type, as Arrow calls it: "float64", "int64", ...; "category" for a text
            that is one of a few.
    """

    def __init__(self, path: Path | None, columns: Mapping[str, str]) -> None:
        self.path = path
        self.columns = dict(columns)
        self._rows: list[tuple[Any, ...]] = []
        self._batches: list[Any] = []  # pyarrow.RecordBatch; only without a path
        self._stream: Any = None
        self._sink: Any = None
        self._closed = False

    def add(self, *row: Any) -> None:
        """Append a row, its values in the order of the columns."""
        self._rows.append(row)
        if len(self._rows) >= _BATCH:
            self.flush()

    def add_many(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Append rows."""
        self._rows.extend(rows)
        if len(self._rows) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """Make the rows added so far survive a kill.

        Raises:
            ScenarioError: if the file can't be written.
        """
        if not self._rows:
            return
        rows, self._rows = self._rows, []
        batch = self._batch(rows)
        if self.path is None:
            self._batches.append(batch)
            return
        import pyarrow as pa

        stream = self.path.with_suffix(".arrows")
        with writing(stream):
            if self._stream is None:
                self._sink = pa.OSFile(str(stream), "wb")
                self._stream = pa.ipc.new_stream(self._sink, self._schema())
            self._stream.write_batch(batch)

    def close(self) -> None:
        """Turn what was written into `path.parquet`; the table can be read but takes no more rows.

        Raises:
            ScenarioError: if the file can't be written.
        """
        if self._closed:
            return
        self.flush()
        self._closed = True
        if self.path is None:
            return
        import pyarrow as pa
        import pyarrow.parquet as pq

        stream, parquet = self.path.with_suffix(".arrows"), self.path.with_suffix(".parquet")
        temporary = parquet.with_suffix(".parquet.part")
        with writing(parquet):
            if self._stream is not None:
                self._stream.close()
                self._sink.close()
            with pq.ParquetWriter(temporary, self._schema()) as writer:
                group: list[Any] = []
                for batch in _batches_of(stream):
                    group.append(batch)
                    if sum(map(len, group)) >= _ROW_GROUP:
                        writer.write_table(pa.Table.from_batches(group).unify_dictionaries())
                        group = []
                if group:
                    writer.write_table(pa.Table.from_batches(group).unify_dictionaries())
            temporary.replace(parquet)
            stream.unlink(missing_ok=True)

    def frame(self) -> pd.DataFrame:
        """Return all rows."""
        self.flush()
        if self.path is not None:
            frame = _read_table(self.path)
            if frame is not None:
                return frame
        return _frame(self._batches, self._schema())

    def _schema(self) -> Any:
        import pyarrow as pa

        text = pa.dictionary(pa.int32(), pa.string())
        types = {name: text if kind == "category" else pa.type_for_alias(kind) for name, kind in self.columns.items()}
        return pa.schema(types.items())

    def _batch(self, rows: list[tuple[Any, ...]]) -> Any:
        import pyarrow as pa

        arrays = [
            pa.array(values, pa.string()).dictionary_encode() if kind == "category" else pa.array(values, kind)
            for values, kind in zip(zip(*rows, strict=True), self.columns.values(), strict=True)
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema())


class RunFolder:
    """Chooses the folder of a run, and sees to it that no result is overwritten.

    Without `out` it is `runs/<scenario>/<seed>`, or with `-2`, `-3`, ... behind it the first
    that is free. The folder is made when `path` is first asked for, so that a scenario that
    can't be run leaves none behind.

    Args:
        out: the folder to use: new, empty, or with `force` one that holds a result.
        scenario_name: for the default.
        seed: for the default.
        force: replace the result in `out`; its files are removed when the run begins to write.

    Raises:
        ScenarioError: if `out` can't be used.
    """

    def __init__(self, out: Path | None, scenario_name: str, seed: int, *, force: bool = False) -> None:
        self._chosen: Path | None = out
        self._made: Path | None = None
        self._force = force
        self.begun = False  # whether what lies there is of this run
        name = re.sub(r"[^\w.-]+", "-", scenario_name).lstrip(".-") or "scenario"
        self._default = Path("runs") / name / str(seed)
        if out is None:
            _check_place(self._default)
        else:
            _check_place(out)
            _check_free(out, force=force)

    @property
    def path(self) -> Path:
        """The folder; it exists.

        Raises:
            ScenarioError: if it can't be made.
        """
        if self._made is None:
            if self._chosen is None:
                self._made = self._make_default()
            else:
                with writing(self._chosen):
                    self._chosen.mkdir(parents=True, exist_ok=True)
                self._made = self._chosen
        return self._made

    def begin(self, scenario_text: str) -> None:
        """Remove the result that is to be replaced, if any, and write the resolved scenario.

        Raises:
            ScenarioError: if the folder can't be written, or has been filled by another run since.
        """
        _check_free(self.path, force=self._force)
        with writing(self.path):
            _remove_result(self.path)
        self.begun = True
        self.write_text("scenario.toml", scenario_text)

    def beside(self, name: str) -> RunFolder:
        """Return the folder of a baseline of this run."""
        return RunFolder(self.path / "baselines" / name, name, 0)

    def write_text(self, name: str, text: str) -> None:
        """Write a file at once: a reader, or a kill, finds the old one or the new one.

        Raises:
            ScenarioError: if it can't be written.
        """
        target = self.path / name
        temporary = target.with_name(f"{name}.part")
        with writing(target):
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(target)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write `summary.json`; what is not a finite number becomes null."""
        self.write_text("summary.json", json.dumps(_plain(summary), indent=2, allow_nan=False) + "\n")

    def _make_default(self) -> Path:
        path, count = self._default, 1
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            while True:
                try:
                    path.mkdir()  # fails for all but one of several runs that begin at once
                    return path
                except FileExistsError:
                    count += 1
                    path = self._default.with_name(f"{self._default.name}-{count}")


class Run:
    """The results of a run, from `run` or `load_run`; tables are read when first asked for.

    Args:
        summary: what happened, in numbers: the content of `summary.json`.
        metrics: measurements: time_s, device (-1: the whole run), metric, value.
        devices: a row per device: device, x, y (m; NaN without positions), n_samples,
            class_0, class_1, ... (training samples of each class), rounds, accuracy.
        links: a row per link: src, dst, messages sent, delivered, lost, partial, acknowledged, air_s, mean_delay_s.
        trace: a row per message and link, if the run kept them.
        path: the folder; None if nothing was written.
        scenario_text: the resolved scenario, as TOML.
        baselines: name -> its results.
    """

    def __init__(
        self,
        *,
        summary: dict[str, Any],
        metrics: Table | pd.DataFrame,
        devices: Table | pd.DataFrame,
        links: Table | pd.DataFrame,
        trace: Table | pd.DataFrame | None = None,
        path: Path | None = None,
        scenario_text: str = "",
        baselines: dict[str, Run] | None = None,
    ) -> None:
        self.path = path
        self.scenario_text = scenario_text
        self.summary = summary
        self.baselines = baselines or {}
        self._tables = {"metrics": metrics, "devices": devices, "links": links, "trace": trace}

    def __repr__(self) -> str:
        what = f"{self.summary.get('scenario')!r} seed {self.summary.get('seed')}"
        return f"<Run {what}: {self.summary.get('status')}>"

    @property
    def metrics(self) -> pd.DataFrame:
        """Measurements: time_s, device (-1: the whole run), metric, value."""
        return self._frame("metrics")

    @property
    def devices(self) -> pd.DataFrame:
        """A row per device."""
        return self._frame("devices")

    @property
    def links(self) -> pd.DataFrame:
        """A row per link."""
        return self._frame("links")

    @property
    def trace(self) -> pd.DataFrame | None:
        """A row per message and link; None if the run didn't keep them."""
        return None if self._tables["trace"] is None else self._frame("trace")

    def _frame(self, name: str) -> pd.DataFrame:
        table = self._tables[name]
        assert table is not None
        if isinstance(table, Table):
            table = self._tables[name] = table.frame()
        return table


def load_run(path: Path | str) -> Run:
    """Read the results of a run back, also those that a killed run left, or that one still writes.

    Args:
        path: the run's folder.

    Raises:
        ScenarioError: if it holds no result, or one that can't be read.
    """
    path = Path(path)
    summary = _summary_of(path)
    if summary is None:
        missing = "" if path.is_dir() else "there is no such folder; "
        _refuse(path, f'{missing}a run\'s folder has a summary.json; look under "runs"')
    scenario = path / "scenario.toml"
    stored = {
        name: Table(path / name, columns)
        for name, columns in {
            "metrics": METRIC_COLUMNS, "devices": _DEVICE_COLUMNS, "links": LINK_COLUMNS, "trace": TRACE_COLUMNS,
        }.items()
    }  # fmt: skip
    traced = any((path / f"trace{suffix}").exists() for suffix in (".parquet", ".arrows"))
    names = list(summary.get("baselines") or ())  # in the order in which they ran; others behind them
    names += sorted({folder.name for folder in (path / "baselines").glob("*/")} - set(names))
    folders = [path / "baselines" / name for name in names]
    return Run(
        path=path,
        scenario_text=scenario.read_text(encoding="utf-8") if scenario.exists() else "",
        summary=summary,
        metrics=stored["metrics"],
        devices=stored["devices"],
        links=stored["links"],
        trace=stored["trace"] if traced else None,
        baselines={folder.name: load_run(folder) for folder in folders if _summary_of(folder) is not None},
    )


# Reading tables


LINK_COLUMNS = {"src": "int32", "dst": "int32", "sent": "int64", "delivered": "int64", "lost": "int64"}
ENERGY_COLUMNS = (
    "off_s", "tx_s", "sleep_s", "rx_s", "idle_s", "training_s",
    "tx_j", "sleep_j", "rx_j", "idle_j", "training_j", "energy_j", "battery_empty_s",
)  # fmt: skip
"""Of devices.parquet, where a scenario has `[energy]`: times in each state, joules, when the battery was empty."""
LINK_COLUMNS |= {"partial": "int64", "acknowledged": "int64", "air_s": "float64", "mean_delay_s": "float64"}
_DEVICE_COLUMNS = {"device": "int32", "x": "float64", "y": "float64", "n_samples": "int64"}
_DEVICE_COLUMNS |= {"rounds": "int32", "accuracy": "float64"}  # of a run that was killed before it wrote any


def _read_table(path: Path) -> pd.DataFrame | None:
    """Return the rows of a closed table, or those that an open one has flushed; None if there is no file."""
    parquet, stream = path.with_suffix(".parquet"), path.with_suffix(".arrows")
    if parquet.exists():
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return _pandas(pq.read_table(parquet))
        except (pa.ArrowException, OSError) as error:
            _refuse(parquet, f"can't be read: {error}")
    batches = list(_batches_of(stream))
    return _frame(batches, batches[0].schema) if batches else None


def _batches_of(stream: Path) -> Iterator[Any]:
    """Yield the batches of a stream up to its end, or to where a kill cut it off."""
    import pyarrow as pa

    if not stream.exists():
        return
    with pa.OSFile(str(stream)) as source:
        try:
            yield from pa.ipc.open_stream(source)
        except (pa.ArrowInvalid, OSError):
            return  # cut off inside a batch


def _frame(batches: list[Any], schema: Any) -> pd.DataFrame:
    import pyarrow as pa

    return _pandas(pa.Table.from_batches(batches, schema).unify_dictionaries())


def _pandas(table: Any) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas()
    return frame


# Folders


def _check_place(path: Path) -> None:
    """Refuse a folder that can't be made or written."""
    place = path
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    if not place.is_dir():
        _refuse(path, f'"{place}" is a file, not a folder; choose another folder with --out')
    if not os.access(place, os.W_OK | os.X_OK):
        _refuse(path, f'"{place}" can\'t be written; change its permissions or choose another folder with --out')


def _check_free(path: Path, *, force: bool) -> None:
    """Refuse a folder with something in it, unless it is a result and to be replaced."""
    if not path.is_dir() or not any(path.iterdir()):
        return
    if _summary_of(path) is None:
        _refuse(path, "holds files that are not a run's; choose a folder that is new or empty")
    if not force:
        _refuse(path, "holds the result of a run; choose another folder, or replace the result with --force")


def _remove_result(path: Path) -> None:
    """Remove the files that a run writes, and nothing else."""
    names = ["scenario.toml", "summary.json", "scenario.toml.part", "summary.json.part", "report.txt"]
    names += [f"{table}.{suffix}" for table in _TABLES for suffix in ("parquet", "arrows", "parquet.part")]
    names += [f"plots/{plot}.{suffix}" for plot in (*PLOTS, *PREDICTED_PLOTS) for suffix in ("png", "svg")]
    for name in names:
        (path / name).unlink(missing_ok=True)
    for baseline in (path / "baselines").glob("*/"):
        if _summary_of(baseline) is not None:
            _remove_result(baseline)
            _remove_if_empty(baseline)
    _remove_if_empty(path / "plots")
    _remove_if_empty(path / "baselines")


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def _summary_of(path: Path) -> dict[str, Any] | None:
    """Return the summary in a folder; None if it holds no result of a run."""
    try:
        summary = json.loads((path / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    ours = isinstance(summary, dict) and {"status", "scenario", "seed"} <= summary.keys()
    return summary if ours else None


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):  # a numpy scalar
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the system's refusal to write into an error that says where and what to do."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        _refuse(
            path,
            f"can't be written: {reason}; make room or change its permissions, or choose another folder with --out",
        )


def _refuse(path: Path, text: str) -> NoReturn:
    raise ScenarioError(str(path), [Problem("results", text)])
