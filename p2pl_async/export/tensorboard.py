"""A run's measurements as TensorBoard events; the wall time of an event is its virtual time."""

from __future__ import annotations

import math
from contextlib import closing
from pathlib import Path
from typing import Any

from p2pl_async.errors import Problem, ScenarioError
from p2pl_async.results.run import Run
from p2pl_async.results.table import writing

_MOST_DEVICES = 50  # with curves of their own


def write_tensorboard(run: Run, folder: Path) -> Path:
    """Write the measurements of a run into a folder for `tensorboard --logdir`, and return it.

    Steps are milliseconds of virtual time. Measurements of devices are told by their mean, least and most at each
    instant of evaluation, and, of up to 50 devices, each.

    Raises:
        ScenarioError: if TensorBoard isn't installed, or the folder can't be written.
    """
    try:
        from tensorboard.summary import Writer
    except ImportError:
        text = "needs the package tensorboard: pip install 'p2pl-async[tensorboard]'"
        raise ScenarioError("p2pl export", [Problem("--tensorboard", text)]) from None
    metrics = run.metrics
    whole = metrics[metrics["device"] == -1]
    first = run.summary.get("metric") or "accuracy"
    scores = metrics[(metrics["device"] >= 0) & metrics["metric"].isin((first, "loss", f"{first}_trained"))]
    with writing(folder), closing(Writer(str(folder))) as writer:
        for at, metric, value in zip(*(whole[name].tolist() for name in ("time_s", "metric", "value")), strict=True):
            _add(writer, f"run/{metric}", value, at)
        grouped = scores.groupby(["metric", "time_s"], observed=True)["value"].agg(["mean", "min", "max"]).reset_index()
        for which in ("mean", "min", "max"):
            columns = (grouped[name].tolist() for name in ("time_s", "metric", which))
            for at, metric, value in zip(*columns, strict=True):
                _add(writer, f"devices/{metric}/{which}", value, at)
        if len(run.devices) <= _MOST_DEVICES:
            names = ("time_s", "device", "metric", "value")
            for at, device, metric, value in zip(*(scores[name].tolist() for name in names), strict=True):
                _add(writer, f"device {device}/{metric}", value, at)
    return folder


def _add(writer: Any, tag: str, value: float, at: float) -> None:
    if math.isfinite(value):
        writer.add_scalar(tag, value, round(at * 1e3), wall_time=at)
