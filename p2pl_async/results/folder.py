"""A run's results: the folder they lie in, the tables written as a run goes, and reading them back.

    runs/<scenario>/<seed>/
        scenario.toml       the resolved scenario; running it again gives the same digest
        summary.json        the results in numbers; status "running" until the end
        metrics.parquet     time_s, device (-1: the whole run), metric, value
        devices.parquet     one row per device: position, samples by class, rounds, accuracy, energy
        links.parquet       one row per link: messages sent, delivered, lost, ...; air time, mean delay
        trace.parquet       one row per message and link, if the run keeps a trace
        plots/              written by `p2pl_async.report`
        baselines/<name>/   the same for each baseline

While a run goes, a table is a stream of batches (`metrics.arrows`, Arrow IPC). Every batch is
complete in itself, so that all batches written before the process is killed are
readable; closing the table turns the stream into Parquet.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from p2pl_async.results.metrics import COSTS
from p2pl_async.results.run import summary_of
from p2pl_async.results.table import refuse, writing

PLOTS = (
    "accuracy_time",
    *(cost.plot for cost in COSTS.values()),
    "consensus_distance",
    "messages",
    "topology",
    "samples",
)
"""Names of the plots of a run, in the order in which they are drawn."""


PREDICTED_PLOTS = ("predicted_loss", "predicted_accuracy", "predicted_consensus", "relative_error")


_TABLES = ("metrics", "devices", "links", "trace", "predicted", "measured", "topologies", "link_effects")


class RunFolder:
    """The folder of a run; no result is ever overwritten unasked.

    Without `out` it is the first free one of `runs/<scenario>/<seed>`, `runs/<scenario>/<seed>-2`,
    `-3`, ... The folder is made when `path` is first asked for, so that a scenario that can't be
    run leaves none behind.

    Args:
        out: the folder to use: new, empty, or with `force` one that contains a result.
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
        self.begun = False  # whether the files there are of this run
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
        """Write a file in one step: a reader, and a kill, find the old one or the new one.

        Raises:
            ScenarioError: if it can't be written.
        """
        target = self.path / name
        temporary = target.with_name(f"{name}.part")
        with writing(target):
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(target)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write `summary.json`; numbers that aren't finite become null."""
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


# Folders


def _check_place(path: Path) -> None:
    """Refuse a folder that can't be made or written."""
    place = path
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    if not place.is_dir():
        refuse(path, f'"{place}" is a file, not a folder; choose another folder with --out')
    if not os.access(place, os.W_OK | os.X_OK):
        refuse(path, f'"{place}" can\'t be written; change its permissions or choose another folder with --out')


def _check_free(path: Path, *, force: bool) -> None:
    """Refuse a folder with something in it, unless it is a result and to be replaced."""
    if not path.is_dir() or not any(path.iterdir()):
        return
    if summary_of(path) is None:
        refuse(path, "contains files that no run wrote; choose a folder that is new or empty")
    if not force:
        refuse(path, "contains the result of a run; choose another folder, or replace the result with --force")


def _remove_result(path: Path) -> None:
    """Remove the files that a run writes, and nothing else."""
    names = ["scenario.toml", "summary.json", "scenario.toml.part", "summary.json.part", "report.txt"]
    names += [f"{table}.{suffix}" for table in _TABLES for suffix in ("parquet", "arrows", "parquet.part")]
    names += [f"plots/{plot}.{suffix}" for plot in (*PLOTS, *PREDICTED_PLOTS) for suffix in ("png", "svg")]
    for name in names:
        (path / name).unlink(missing_ok=True)
    for baseline in (path / "baselines").glob("*/"):
        if summary_of(baseline) is not None:
            _remove_result(baseline)
            _remove_if_empty(baseline)
    _remove_if_empty(path / "plots")
    _remove_if_empty(path / "baselines")


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def _plain(value: Any) -> Any:
    """Return a value that JSON can hold."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):  # a numpy scalar
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
