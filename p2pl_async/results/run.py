"""A finished run: its summary and tables, in memory or read back from a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2pl_async.basics.tensorfiles import Tensors, files_in, read_tensors
from p2pl_async.results.lock import is_locked
from p2pl_async.results.publishing import finish, summary_of
from p2pl_async.results.table import (
    DEVICE_COLUMNS,
    LINK_COLUMNS,
    METRIC_COLUMNS,
    MIX_COLUMNS,
    POSITION_COLUMNS,
    TRACE_COLUMNS,
    Table,
    first_times,
    refuse,
    thinned,
)

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How far a run is; `run` gives it to its `progress`."""

    label: str  # the protocol, or the baseline
    now: float  # s, virtual
    wall: float  # s since this part of the run began
    metric: str  # what models are scored by, "accuracy" as a rule; "" if nothing learns
    score: tuple[float, float, float] | None  # min, mean, max over devices; None before any
    diverged: tuple[int, float] | None  # the first device whose loss wasn't finite, and when; None if none
    sent: int  # messages, one for each link that a message is sent on
    delivered: int
    lost: int
    air_bytes: int
    done: float | None  # share of the run, 0 to 1, by the stop condition that is nearest; None if unknown
    rounds: float  # mean over devices


class Run:
    """The results of a run, from `run` or `load_run`; tables are read when first asked for.

    Args:
        summary: the content of `summary.json`.
        metrics: measurements: time_s, device (-1: the whole run), metric, value.
        devices: a row per device: device, x, y (its first place: in m where there are radios, else in the unit
            square of its topology; NaN without places), n_samples, class_0, class_1, ... (training samples of each
            class), rounds, accuracy, other scores.
        links: a row per link: src, dst, messages sent, delivered, lost, partial, acknowledged, air_s, mean_delay_s.
        trace: a row per message and link, if the run kept them.
        mixes: a row per message that entered a model, if it kept them: time_s, device, src, number.
        positions: time_s, device, x, y, z (m) of the devices that move, if any do.
        path: the folder; None if none was written.
        scenario_text: the resolved scenario, as TOML.
        baselines: name -> its results.
        models: device -> its trained model, where they are kept in memory.
    """

    def __init__(
        self,
        *,
        summary: dict[str, Any],
        metrics: Table | pd.DataFrame,
        devices: Table | pd.DataFrame,
        links: Table | pd.DataFrame,
        trace: Table | pd.DataFrame | None = None,
        mixes: Table | pd.DataFrame | None = None,
        positions: Table | pd.DataFrame | None = None,
        path: Path | None = None,
        scenario_text: str = "",
        baselines: dict[str, Run] | None = None,
        models: Mapping[int, Tensors] | None = None,
    ) -> None:
        self.path = path
        self.scenario_text = scenario_text
        self.summary = summary
        self.baselines = baselines or {}
        self._models = models
        self._tables: dict[str, Table | pd.DataFrame | None] = {"metrics": metrics, "devices": devices, "links": links}
        self._tables |= {"trace": trace, "mixes": mixes, "positions": positions}

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

    def messages(self, columns: Sequence[str], most: int) -> tuple[pd.DataFrame, int] | None:
        """Return some columns of at most `most` rows of the trace, chosen at random, and how many rows it has.

        A trace in a file is read a part at a time. None if the run didn't keep one.
        """
        table = self._tables["trace"]
        if table is None:
            return None
        return table.sample(columns, most) if isinstance(table, Table) else thinned(table[list(columns)], most)

    @property
    def mixes(self) -> pd.DataFrame | None:
        """A row per message that entered a model: time_s, device, src, number; None if the run kept no trace."""
        return None if self._tables["mixes"] is None else self._frame("mixes")

    def first_mixed(self, messages: pd.DataFrame) -> NDArray[np.float64] | None:
        """Return when each of some messages first entered its receiver's model, (len(messages),); nan: never.

        None if the run didn't keep it. A table in a file is read a part at a time.

        Args:
            messages: rows of the trace, with `src`, `dst` and `number`.
        """
        table = self._tables["mixes"]
        return None if table is None else first_times(messages, table.parts() if isinstance(table, Table) else [table])

    @property
    def positions(self) -> pd.DataFrame | None:
        """Where the devices that move are: time_s, device, x, y, z in m; None if none does."""
        return None if self._tables["positions"] is None else self._frame("positions")

    def params(self, device: int) -> Tensors:
        """Return a device's trained model: the tensors of its module's `state_dict`, by name.

        Raises:
            ScenarioError: if the run didn't save models, or none of this device, or the file can't be read.
        """
        files = {} if self.path is None or self._models is not None else files_in(self.path)
        there = files if self._models is None else self._models
        place = self.path or Path("run")
        if not there:
            refuse(place, "has no models; run with --save-models (save_models=True)")
        if device not in there:
            refuse(
                place, f"has no model of device {device}; it has those of {len(there)}, {min(there)} to {max(there)}"
            )
        if self._models is not None:
            return self._models[device]
        try:
            return read_tensors(files[device])
        except ValueError as error:
            refuse(files[device], str(error))

    def move(self, path: Path) -> None:
        """Note that the folder is now at `path`."""
        self.path = path
        for name, table in self._tables.items():
            if isinstance(table, Table):
                table.path = path / name
        for name, baseline in self.baselines.items():
            baseline.move(path / "baselines" / name)

    def _frame(self, name: str) -> pd.DataFrame:
        table = self._tables[name]
        assert table is not None
        if isinstance(table, Table):
            table = self._tables[name] = table.frame()
        return table


def load_run(path: Path | str) -> Run:
    """Read the results of a run back, also those that a killed run left, or that one still writes.

    The status of a run that was killed is "killed": its summary says "running", and no process holds its folder.

    Args:
        path: the run's folder.

    Raises:
        ScenarioError: if it contains no result, or one that can't be read.
    """
    path = Path(path)
    finish(path)
    summary = summary_of(path)
    if summary is None:
        missing = "" if path.is_dir() else "there is no such folder; "
        refuse(path, f'{missing}a run\'s folder has a summary.json; look under "runs"')
    if summary["status"] == "running" and not is_locked(path):
        summary["status"] = "killed"
    held = summary.get("baselines")
    for baseline in held.values() if isinstance(held, dict) else ():
        if isinstance(baseline, dict) and baseline.get("status") == "running" and not is_locked(path):
            baseline["status"] = "killed"
    stored = {
        name: Table(path / name, columns)
        for name, columns in {
            "metrics": METRIC_COLUMNS, "devices": DEVICE_COLUMNS, "links": LINK_COLUMNS, "trace": TRACE_COLUMNS,
            "mixes": MIX_COLUMNS, "positions": POSITION_COLUMNS,
        }.items()
    }  # fmt: skip
    kept = {
        name: stored[name] if any((path / f"{name}{suffix}").exists() for suffix in (".parquet", ".arrows")) else None
        for name in ("trace", "mixes", "positions")
    }
    there = {folder.name for folder in (path / "baselines").glob("*/") if not folder.is_symlink()}
    names = [name for name in held if name in there] if isinstance(held, dict) else []  # in the order in which they ran
    names += sorted(there.difference(names))
    folders = [path / "baselines" / name for name in names]
    return Run(
        path=path,
        scenario_text=_text_of(path / "scenario.toml"),
        summary=summary,
        metrics=stored["metrics"],
        devices=stored["devices"],
        links=stored["links"],
        trace=kept["trace"],
        mixes=kept["mixes"],
        positions=kept["positions"],
        baselines={folder.name: load_run(folder) for folder in folders if summary_of(folder) is not None},
    )


def _text_of(path: Path) -> str:
    """Return the text of a file; "" if there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        refuse(path, f"can't be read: {error}")
