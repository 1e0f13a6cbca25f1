"""A run's results: the folder they lie in, the tables written as a run goes, and reading them back.

    runs/<scenario>/<seed>/
        scenario.toml       the resolved scenario; running it again gives the same digest
        summary.json        the results in numbers; status "running" until the end
        metrics.parquet     time_s, device (-1: the whole run), metric, value
        devices.parquet     one row per device: position, samples by class, rounds, scores, energy
        links.parquet       one row per link: messages sent, delivered, lost, ...; air time, mean delay
        trace.parquet       one row per message and link, if the run keeps a trace
        mixes.parquet       one row per message that entered a model, if it does: time_s, device, src, number
        positions.parquet   time_s, device, x, y, z in m, if devices move
        models/             one safetensors file per device, if the run saves models
        plots/              written by `p2pl_async.report`
        report.html         the page of the run, by it too
        baselines/<name>/   the same for each baseline
        .new/               the same, of a run that is to replace the one above, until it is complete

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
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from p2pl_async.basics.tensorfiles import FOLDER, Tensors, file_name, write_tensors
from p2pl_async.errors import ScenarioError
from p2pl_async.results.lock import FolderLock, is_locked
from p2pl_async.results.metrics import COSTS
from p2pl_async.results.publishing import NEW, finish, move, summary_of
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


_IN_USE = "is in use by another run; wait until that ends, or choose another folder"
_TABLES = (
    "metrics",
    "devices",
    "links",
    "trace",
    "mixes",
    "positions",
    "predicted",
    "measured",
    "topologies",
    "link_effects",
)


class RunFolder:
    """The folder of a run; no result is ever overwritten unasked.

    Without `out` it is the first free one of `runs/<scenario>/<seed>`, `runs/<scenario>/<seed>-2`,
    `-3`, ... The folder is made when `path` is first asked for, so that a scenario that can't be
    run leaves none behind.

    Args:
        out: the folder to use: new, empty, or with `force` one that contains a result.
        scenario_name: for the default.
        seed: for the default.
        force: replace the result in `out`: the new one is written into `out/.new`, and takes the
            place of the old one when `publish` is called.

    Raises:
        ScenarioError: if `out` can't be used.
    """

    def __init__(self, out: Path | None, scenario_name: str, seed: int, *, force: bool = False) -> None:
        self._chosen: Path | None = out
        self._made: Path | None = None
        self._force = force
        self._name, self._seed = scenario_name, seed
        self._locks = [FolderLock(), FolderLock()]  # of the folder, and of the one inside it
        self.begun = False  # whether the files there are of this run
        name = re.sub(r"[^\w.-]+", "-", scenario_name).lstrip(".-") or "scenario"
        self._default = Path("runs") / name / str(seed)
        if out is None:
            _check_place(self._default)
        else:
            _check_place(out)
            if out.is_dir() and is_locked(out):
                refuse(out, _IN_USE)
            finish(out)
            _check_free(out, force=force)

    @property
    def path(self) -> Path:
        """The folder to write into; it exists.

        Raises:
            ScenarioError: if it can't be made.
        """
        if self._made is None:
            if self._chosen is None:
                self._made = self._make_default()
            else:
                with writing(self._chosen):
                    self._made = self._chosen / NEW if _has_result(self._chosen) else self._chosen
                    self._made.mkdir(parents=True, exist_ok=True)
        return self._made

    def begin(self, scenario_text: str) -> None:
        """Take the folder's lock, and write a first summary and the resolved scenario.

        Raises:
            ScenarioError: if the folder can't be written, or another run writes or has written into it.
        """
        path = self.path
        with writing(path):
            whole = path.parent if path.name == NEW else path
            if not all(lock.take(place) for lock, place in zip(self._locks, {whole, path}, strict=False)):
                refuse(whole, _IN_USE)
            _check_free(whole, force=self._force)
            _remove_result(path)
        self.begun = True
        self.write_summary({"status": "running", "scenario": self._name, "seed": self._seed})
        try:
            self.write_text("scenario.toml", scenario_text)
        except ScenarioError:
            self.fail()
            raise

    def publish(self) -> None:
        """Put the result where the one is that it replaces, if any.

        Raises:
            ScenarioError: if a file can't be moved.
        """
        if self._made is None or self._made.name != NEW:
            return
        new, self._made = self._made, self._made.parent
        with writing(self._made):
            _remove_result(self._made)
            move(new, self._made)

    def close(self) -> None:
        """Give the folder's lock back: the run is over."""
        for lock in self._locks:
            lock.release()

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

    def write_models(self, models: Iterable[tuple[int, Tensors]], about: Mapping[str, str]) -> None:
        """Write trained models, one file per device.

        Args:
            models: device, and its tensors by name.
            about: texts that each file carries along.

        Raises:
            ScenarioError: if one can't be written.
        """
        place = self.path / FOLDER
        with writing(place):
            place.mkdir(exist_ok=True)
            for device, tensors in models:
                write_tensors(place / file_name(device), tensors, {**about, "device": str(device)})

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write `summary.json`; numbers that aren't finite become null."""
        self.write_text("summary.json", json.dumps(_plain(summary), indent=2, allow_nan=False) + "\n")

    def fail(self) -> None:
        """Write "failed" over the "running" in the summary where it lies, for which a full disk has room."""
        running, failed = b'"status": "running"', b'"status": "failed" '
        with contextlib.suppress(OSError), (self.path / "summary.json").open("r+b") as file:
            at = file.read().find(running)
            if at >= 0:
                file.seek(at)
                file.write(failed)

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
    if not path.is_dir() or {item.name for item in path.iterdir()} <= {"summary.json.part"}:  # killed at once
        return
    if not _has_result(path):
        refuse(path, "contains files that no run wrote; choose a folder that is new or empty")
    if not force:
        refuse(
            path,
            "contains the result of a run; choose another folder, or replace the result with --force (force=True)",
        )


def _has_result(path: Path) -> bool:
    return summary_of(path) is not None or summary_of(path / NEW) is not None


def _remove_result(path: Path) -> None:
    """Remove the files that a run writes, and nothing else; a link in the place of a folder is not followed."""
    for folder in (path / "plots", path / "models", path / "baselines", *(path / "baselines").glob("*")):
        if folder.is_symlink():
            folder.unlink()
    names = [
        "summary.json",
        "scenario.toml",
        "scenario.toml.part",
        "summary.json.part",
        "report.txt",
        "report.html",
        "report.part",
    ]
    names += [f"{table}.{suffix}" for table in _TABLES for suffix in ("parquet", "arrows", "parquet.part")]
    names += [f"plots/{plot}.{suffix}" for plot in (*PLOTS, *PREDICTED_PLOTS) for suffix in ("png", "svg")]
    for name in names:
        (path / name).unlink(missing_ok=True)
    for model in (path / "models").glob("device-*.safetensors*"):
        model.unlink()
    for baseline in (path / "baselines").glob("*/"):
        if summary_of(baseline) is not None:
            _remove_result(baseline)
            _remove_if_empty(baseline)
    _remove_if_empty(path / "plots")
    _remove_if_empty(path / "models")
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
