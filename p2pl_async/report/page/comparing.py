"""One page for several runs: a table with differences from the first, the settings that differ, and curves laid over
each other, against time or any cost.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from p2pl_async.basics.units import show_bytes, show_seconds
from p2pl_async.errors import Problem, ScenarioError
from p2pl_async.report.findings import findings
from p2pl_async.report.page.content import Array, Content
from p2pl_async.report.page.gathering import gather
from p2pl_async.report.page.writing import rendered, write_text
from p2pl_async.report.tables import metric_of, score_columns, score_of, show_score
from p2pl_async.results.metrics import is_share
from p2pl_async.results.run import Run
from p2pl_async.scenario.reading.plain import leaves

_SCRIPTS = ("uplot", "data", "curves", "comparing")
_WHOLE = ("consensus_distance", "bytes_on_air", "energy_j")


def write_comparison(runs: Mapping[str, Run], path: Path) -> Path:
    """Write the page that compares runs, and return its path.

    Args:
        runs: two or more, by the names to show.
        path: of the file.

    Raises:
        ScenarioError: if there are fewer, or the file can't be written.
    """
    if len(runs) < 2:
        raise ScenarioError("p2pl report", [Problem("RUN", "must be two or more different runs to compare")])
    return write_text(path, comparison_of(runs))


def comparison_of(runs: Mapping[str, Run]) -> str:
    """Return the page that compares runs as HTML."""
    content = Content({"n": 0, "end": 1.0, "runs": list(runs), "costs": [], "baselines": []})
    costs: dict[str, dict[str, str]] = {}
    metrics: dict[str, dict[str, Any]] = {}
    for index, run in enumerate(runs.values()):
        single = gather(run)
        content.head["end"] = max(content.head["end"], single.head["end"])
        costs |= {cost["metric"]: cost for cost in single.head.get("costs", ())}
        content.arrays |= _curves_of(single, index)
        metrics[single.head["metric"]["name"]] = single.head["metric"]
    content.head["costs"], content.head["metrics"] = list(costs.values()), list(metrics.values())
    titles = score_columns(next(iter(runs.values())).summary).values()
    return rendered(
        "comparing.html",
        _SCRIPTS,
        content,
        title="runs compared",
        columns=("run", *titles, "virtual time", "bytes on air"),
        rows=_rows(runs),
        names=list(runs),
        settings=_differing(list(runs.values())),
        findings={name: [one.text for one in findings(run)] for name, run in runs.items()},
    )


def _curves_of(content: Content, index: int) -> dict[str, Array]:
    """Return one run's curves: what its devices reach at each instant, and what it has spent by then."""
    found = {}
    arrays, n = content.arrays, content.head["n"]
    if "time" in arrays:
        found[f"{index}:time"] = arrays["time"]
    for name in content.head.get("scores", ()):
        values = arrays[f"score:{name}"].reshape(-1, n)
        known = np.isfinite(values).any(axis=1)
        for which, reduce in (("mean", np.nanmean), ("min", np.nanmin), ("max", np.nanmax)):
            curve = np.full(len(values), np.nan, np.float32)
            curve[known] = reduce(values[known], axis=1)
            found[f"{index}:{name}:{which}"] = curve
    for name in ("rounds", *_WHOLE, *(cost["metric"] for cost in content.head.get("costs", ()))):
        if f"whole:{name}" in arrays:
            found[f"{index}:{name}"] = arrays[f"whole:{name}"]
    return found


def _rows(runs: Mapping[str, Run]) -> list[list[str]]:
    """Return a row for each run; scores after those of the first run tell the difference from them."""
    rows: list[list[str]] = []
    first: Mapping[str, Any] = {}
    leading = next(iter(runs.values())).summary
    metric = metric_of(leading)
    for name, run in runs.items():
        summary = run.summary
        found = score_of(summary, metric)
        first = first or found
        seconds, sent = summary.get("virtual_seconds"), (summary.get("messages") or {}).get("bytes_on_air")
        rows.append(
            [
                name if summary["status"] == "complete" else f"{name} ({summary['status']})",
                *(_with_difference(metric, found.get(which), first.get(which)) for which in score_columns(leading)),
                "-" if seconds is None else show_seconds(seconds),
                "-" if sent is None else show_bytes(sent),
            ]
        )
    return rows


def _with_difference(metric: str, value: float | None, first: float | None) -> str:
    shown = show_score(metric, value)
    if value is None or first is None or value == first:
        return shown
    return f"{shown} ({100 * (value - first):+.2f})" if is_share(metric) else f"{shown} ({value - first:+.3g})"


def _differing(runs: Sequence[Run]) -> list[list[str]]:
    """Return the settings that are not the same in all runs: the key, then each run's value."""
    texts = [dict(leaves(_table(run))) for run in runs]
    keys = dict.fromkeys(key for text in texts for key in text)
    rows = [[key, *("-" if key not in text else str(text[key]) for text in texts)] for key in keys]
    return [row for row in rows if len(set(row[1:])) > 1]


def _table(run: Run) -> dict[str, Any]:
    try:
        return tomllib.loads(run.scenario_text)
    except tomllib.TOMLDecodeError:  # cut off
        return {}
