"""Tables that are written while a run goes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from p2pl_async.errors import Problem, ScenarioError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

METRIC_COLUMNS = {"time_s": "float64", "device": "int32", "metric": "category", "value": "float64"}


TRACE_COLUMNS = {
    "sent_s": "float64", "src": "int32", "dst": "int32", "number": "int64", "kind": "category",
    "size_bytes": "int64", "packets": "int64", "packets_lost": "int64", "air_bytes": "int64",
    "air_s": "float64", "acknowledged": "bool", "arrival_s": "float64", "fate": "category", "copy_s": "float64",
}  # fmt: skip


MIX_COLUMNS = {"time_s": "float64", "device": "int32", "src": "int32", "number": "int64"}
"""Of mixes.parquet: a message of `src` that entered the model of `device`."""


SIGNAL_COLUMNS = {
    "rssi_dbm": "float64", "sinr_db": "float64", "distance_m": "float64", "rate_bps": "float64", "tries": "int64",
}  # fmt: skip
"""Of trace.parquet, where a scenario has `[radio]` or shared air: the last frame of a message at its receiver."""


CHANNEL_COLUMNS = {"channel": "int64"}
"""Of trace.parquet, where a medium has several channels: that of the last frame of a message; -1 if it sent none."""


WAY_COLUMNS = {"hops": "int64", "path": "string"}
"""Of trace.parquet, where a scenario has `[relay]`: the devices that a message was at, "0-3-7", the last missing it
if it was lost."""


PAYLOAD_COLUMNS = {"payload": "binary"}
"""Of trace.parquet, where a run keeps payloads: the first bytes of a message."""


LINK_COLUMNS = {
    "src": "int32", "dst": "int32", "sent": "int64", "delivered": "int64", "lost": "int64", "partial": "int64",
    "acknowledged": "int64", "air_s": "float64", "mean_delay_s": "float64",
}  # fmt: skip


DELIVERY_COLUMNS = {"first_delivery_s": "float64", "last_delivery_s": "float64"}
"""Of links.parquet too, and `lost_burst`, ..., for each cause of loss that the run had."""


WEIGHT_COLUMN = "weight_in_mixes"
"""Of links.parquet, where models are averaged."""


DEVICE_COLUMNS = {
    "device": "int32", "x": "float64", "y": "float64", "n_samples": "int64", "rounds": "int64", "accuracy": "float64",
}  # fmt: skip
"""Those that every run has; `group`; `class_0`, ... come with data, `sample_weight` where models are averaged, and
`ENERGY_COLUMNS` with `[energy]`."""


POSITION_COLUMNS = {"time_s": "float64", "device": "int32", "x": "float64", "y": "float64", "z": "float64"}


PLACE = {"x": "m", "y": "m", "z": "m"}
"""Units of places where there are radios; without, topologies place devices in the unit square."""


RHYTHM_COLUMNS = ("awake_from_s", "awake_s", "awake_every_s")
"""Of devices.parquet, where radios sleep: when it first wakes, for how long, and the period."""


ENERGY_COLUMNS = (
    "off_s", "tx_s", "sleep_s", "rx_s", "idle_s", "training_s",
    "tx_j", "sleep_j", "rx_j", "idle_j", "training_j", "energy_j", "battery_empty_s",
)  # fmt: skip
"""Of devices.parquet, where a scenario has `[energy]`: times in each state, joules, when the battery was empty."""


_BATCH = 4096  # rows in memory before they become a batch


_ROW_GROUP = 1 << 20  # rows of one Parquet row group, and most that closing a table holds in memory


class Table:
    """Rows appended while a run goes; flushed rows survive a kill.

    Args:
        path: where to write, without suffix: `path.arrows` while rows come, `path.parquet`
            once closed. None keeps the table in memory. Nothing is made before the first flush.
        columns: name -> Arrow's name of the type: "float64", "int64", ...; "category" for a text
            that is one of a few.
        units: of columns whose names don't tell it, for the metadata of their fields: `{"unit": "m"}`.
    """

    def __init__(self, path: Path | None, columns: Mapping[str, str], units: Mapping[str, str] | None = None) -> None:
        self.path = path
        self.columns = dict(columns)
        self._units = {} if units is None else units
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
        """Turn the stream into `path.parquet`; the table can be read but takes no more rows.

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
                for batch in batches_of(stream):
                    group.append(batch)
                    if sum(map(len, group)) >= _ROW_GROUP:
                        writer.write_table(pa.Table.from_batches(group).unify_dictionaries())
                        group = []
                if group:
                    writer.write_table(pa.Table.from_batches(group).unify_dictionaries())
            temporary.replace(parquet)
            stream.unlink(missing_ok=True)

    def discard(self) -> None:
        """Take all rows back, also those in a file."""
        self._closed = True
        self._rows, self._batches = [], []
        if self._stream is not None:
            self._stream.close()
            self._sink.close()
        if self.path is not None:
            self.path.with_suffix(".arrows").unlink(missing_ok=True)

    def frame(self) -> pd.DataFrame:
        """Return all rows."""
        self.flush()
        if self.path is not None:
            frame = read_table(self.path)
            if frame is not None:
                lacks = ", ".join(name for name in self.columns if name not in frame.columns)
                if lacks:
                    refuse(self.path, f"can't be read: it has no column {lacks}")
                return frame
        return _frame(self._batches, self._schema())

    def sample(self, columns: Sequence[str], most: int) -> tuple[pd.DataFrame, int]:
        """Return some columns of at most `most` rows, chosen at random and in order, and how many rows there are.

        Of a closed table no more than a row group is in memory beside the rows that are returned.
        """
        parquet = self.path and self.path.with_suffix(".parquet")
        if parquet is None or not parquet.exists():
            return thinned(self.frame()[list(columns)], most)
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            file = pq.ParquetFile(parquet)
            total = file.metadata.num_rows
            chosen = _some_of(total, most)
            parts, begin = [], 0
            for index in range(file.num_row_groups):
                group = file.read_row_group(index, columns=list(columns))
                group.validate(full=True)
                inside = chosen[(chosen >= begin) & (chosen < begin + len(group))] - begin
                parts.append(group.take(inside))
                begin += len(group)
            whole = pa.concat_tables(parts).unify_dictionaries() if parts else file.read(columns=list(columns))
            return pandas(whole), total
        except Exception as error:  # a damaged file makes the library raise whatever it likes
            refuse(parquet, f"can't be read: {error}")

    def parts(self) -> Iterator[pd.DataFrame]:
        """Yield all rows; of a closed table a row group at a time, so that no more than one is in memory."""
        parquet = self.path and self.path.with_suffix(".parquet")
        if parquet is None or not parquet.exists():
            yield self.frame()
            return
        import pyarrow.parquet as pq

        try:
            file = pq.ParquetFile(parquet)
            for index in range(file.num_row_groups):
                group = file.read_row_group(index)
                group.validate(full=True)
                yield pandas(group)
        except Exception as error:  # a damaged file makes the library raise whatever it likes
            refuse(parquet, f"can't be read: {error}")

    def _schema(self) -> Any:
        import pyarrow as pa

        text = pa.dictionary(pa.int32(), pa.string())
        types = {name: text if kind == "category" else pa.type_for_alias(kind) for name, kind in self.columns.items()}
        units = {name: {"unit": unit} for name, unit in self._units.items()}
        return pa.schema([pa.field(name, kind, metadata=units.get(name)) for name, kind in types.items()])

    def _batch(self, rows: list[tuple[Any, ...]]) -> Any:
        import pyarrow as pa

        columns = zip(zip(*rows, strict=True), self.columns.values(), strict=True)
        return pa.RecordBatch.from_arrays([column_of(*column) for column in columns], schema=self._schema())


def column_of(values: Sequence[Any], kind: str) -> Any:
    """Return a column as an Arrow array.

    Numbers and categories go to Arrow as they lie in memory: `pa.array` imports pandas, 0.2 s in each run.
    """
    import numpy as np
    import pyarrow as pa

    if None in values or kind not in ("category", "bool", "float64", "int32", "int64"):
        return pa.array(values, pa.string()).dictionary_encode() if kind == "category" else pa.array(values, kind)
    if kind != "category":
        numbers = np.array(values, kind)
        held = np.packbits(numbers, bitorder="little") if kind == "bool" else numbers
        return pa.Array.from_buffers(pa.type_for_alias(kind), len(values), [None, pa.py_buffer(held)])
    places: dict[str, int] = {}
    indices = column_of([places.setdefault(value, len(places)) for value in values], "int32")
    encoded = [name.encode() for name in places]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    names = pa.StringArray.from_buffers(len(encoded), pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded)))
    return pa.DictionaryArray.from_arrays(indices, names)


# Reading tables


def pandas(table: Any) -> pd.DataFrame:
    """Return an Arrow table as a data frame."""
    frame: pd.DataFrame = table.to_pandas()
    return frame


def thinned(frame: pd.DataFrame, most: int) -> tuple[pd.DataFrame, int]:
    """Return at most `most` rows of a table, chosen at random and in order, and how many rows it has."""
    return (frame if len(frame) <= most else frame.iloc[_some_of(len(frame), most)]), len(frame)


def first_times(messages: pd.DataFrame, mixes: Iterable[pd.DataFrame]) -> NDArray[np.float64]:
    """Return when each message first entered a model, (len(messages),); nan where it never did.

    Args:
        messages: with `src`, `dst` and `number`.
        mixes: parts of a table with `MIX_COLUMNS`.
    """
    import numpy as np

    n = 1 + int(max(messages["src"].max(), messages["dst"].max(), 0)) if len(messages) else 1
    keys = _keys(messages["number"], messages["src"], messages["dst"], n)
    order = np.argsort(keys, kind="stable")
    ordered, first = keys[order], np.full(len(keys), np.inf)
    for part in mixes if len(keys) else ():
        mixed = _keys(part["number"], part["src"], part["device"], n)
        at = np.searchsorted(ordered, mixed)
        known = (at < len(keys)) & (part["src"] < n).to_numpy() & (part["device"] < n).to_numpy()
        known[known] = ordered[at[known]] == mixed[known]
        np.minimum.at(first, at[known], part["time_s"].to_numpy()[known])
    found = np.empty(len(keys))
    found[order] = np.where(np.isfinite(first), first, np.nan)
    return found


def _keys(number: pd.Series[int], src: pd.Series[int], dst: pd.Series[int], n: int) -> NDArray[np.int64]:
    """Return one number for each message on a link, of devices below n."""
    import numpy as np

    parts = (one.to_numpy().astype(np.int64) for one in (number, src, dst))
    count, source, target = parts
    return (count * n + source) * n + target


def _some_of(total: int, most: int) -> NDArray[np.int64]:
    """Return at most `most` of the numbers below `total`, in order; the same each time."""
    import numpy as np

    if total <= most:
        return np.arange(total)
    return np.sort(np.random.default_rng(0).choice(total, most, replace=False, shuffle=False))


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an error of the system while writing into one that names the place and the repair."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        refuse(
            path,
            f"can't be written: {reason}; make room or change its permissions, or choose another folder with --out",
        )


def refuse(path: Path, text: str) -> NoReturn:
    """Raise the error that a folder or file of results can't be used."""
    raise ScenarioError(str(path), [Problem("results", text)])


def read_table(path: Path) -> pd.DataFrame | None:
    """Return the rows of a closed table, or those that an open one has flushed; None if there is no file."""
    parquet, stream = path.with_suffix(".parquet"), path.with_suffix(".arrows")
    if parquet.exists():
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(parquet)
            table.validate(full=True)
            return pandas(table)
        except Exception as error:  # a damaged file makes the library raise whatever it likes
            refuse(parquet, f"can't be read: {error}")
    batches = list(batches_of(stream))
    try:
        return _frame(batches, batches[0].schema) if batches else None
    except Exception as error:  # the same
        refuse(stream, f"can't be read: {error}")


def batches_of(stream: Path) -> Iterator[Any]:
    """Yield the batches of a stream up to its end, or to where a kill or damage cut it off.

    A batch is checked in full: pyarrow trusts offsets and indices that it reads, and ends the process with a wrong one.
    """
    import pyarrow as pa

    if not stream.exists():
        return
    with pa.OSFile(str(stream)) as source:
        try:
            for batch in pa.ipc.open_stream(source):
                batch.validate(full=True)
                yield batch
        except (pa.ArrowException, OSError, ValueError):
            return  # cut off inside a batch


def _frame(batches: list[Any], schema: Any) -> pd.DataFrame:
    import pyarrow as pa

    return pandas(pa.Table.from_batches(batches, schema).unify_dictionaries())
