"""Plots of a recorded run, each as PNG and SVG.

A plot without anything to show is left out. The same run gives the same files:
layouts are seeded, and nothing carries a date.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from itertools import chain, cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from p2pl_async.report.drawing import (
    GRAY,
    LEGEND,
    PALETTE,
    axes,
    bytes_unit,
    joules_unit,
    percent_axis,
    save,
    time_unit,
)
from p2pl_async.report.pictures import samples, topology
from p2pl_async.report.tables import metric_of, score_of
from p2pl_async.results.folder import PLOTS
from p2pl_async.results.groups import members
from p2pl_async.results.metrics import COSTS, METRICS, is_share, words
from p2pl_async.results.run import Run
from p2pl_async.results.table import writing

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_MOST_BARS = 48  # intervals of the plot of messages
_LOSSES = (PALETTE[3], PALETTE[1], PALETTE[5], PALETTE[6], "#000000", GRAY, PALETTE[4])
_DASHES: tuple[Any, ...] = ((0, (1, 1)), (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 3)))  # of groups; more aren't drawn
_FAINT: dict[str, Any] = {"alpha": 0.6, "linewidth": 1, "linestyle": (0, (4, 2))}


def write_plots(run: Run, folder: Path | None = None) -> list[Path]:
    """Draw a run.

    Args:
        run: a recorded run.
        folder: where to; `plots` in the run's own folder by default.

    Returns:
        The files written: for each plot a PNG and an SVG.

    Raises:
        ValueError: if neither the run nor `folder` says where to.
        ScenarioError: if the files can't be written.
    """
    if folder is None:
        if run.path is None:
            raise ValueError("the run has no folder; say where to put the plots: write_plots(run, folder)")
        folder = run.path / "plots"
    written: list[Path] = []
    for name in PLOTS:
        figure = _DRAWN[name](run)
        if figure is not None:
            with writing(folder):
                folder.mkdir(parents=True, exist_ok=True)
                written += save(figure, folder / name)
    return written


def accuracy_time(run: Run) -> Figure | None:
    """Draw the accuracy of the devices, or what else they are scored by, against virtual time."""
    metric = metric_of(run.summary)
    curve = _over_devices(run, metric)
    if curve is None:
        return None
    figure, ax = axes(run, words(metric))
    unit, second = time_unit(float(curve.index[-1]))
    _draw_accuracy(ax, run, curve, curve.index / second)
    for dashes, (group, ids) in zip(_DASHES, members(run.devices).items(), strict=False):
        own = _over_devices(run, metric, ids)
        if own is not None:
            label = f"{group}, mean of {len(ids)}"
            ax.plot(own.index / second, own["mean"] * _scale(metric), color=PALETTE[0], linestyle=dashes, label=label)
    trained = _over_devices(run, f"{metric}_trained")
    if trained is not None:
        label = "after training, before mixing, mean"
        ax.plot(trained.index / second, trained["mean"] * _scale(metric), color=PALETTE[0], label=label, **_FAINT)
    for color, (name, baseline) in zip(cycle(PALETTE[1:]), run.baselines.items(), strict=False):
        other = _over_devices(baseline, metric)
        if other is not None and len(baseline.devices) > 1:
            shown = other[other.index <= curve.index[-1] * 1.02]
            ax.plot(shown.index / second, shown["mean"] * _scale(metric), color=color, label=f"{name}, mean")
        else:  # its clock has nothing to do with this run's
            _draw_level(ax, baseline, name, color)
    ax.set_xlabel(f"virtual time ({unit})")
    ax.set_xlim(0)
    ax.legend(loc=_legend_place(run), **LEGEND)
    return figure


def accuracy_for(spending: str, run: Run) -> Figure | None:
    """Draw the accuracy of the devices, or what else they are scored by, against a cost of the whole run.

    Args:
        spending: one of `COSTS`; if it cost nothing, nothing is drawn.
        run: a recorded run.
    """
    what, unit_of = COSTS[spending].label, _UNITS[METRICS[spending].unit]
    metric = metric_of(run.summary)
    curve, spent = _over_devices(run, metric), _whole_run(run, spending)
    if curve is None or spent is None or not spent.max():
        return None
    curve = curve[curve.index.isin(spent.index)]
    figure, ax = axes(run, f"{words(metric)} for {what}")
    unit, one = unit_of(float(spent.max()))
    _draw_accuracy(ax, run, curve, spent.loc[curve.index] / one)
    for color, (name, baseline) in zip(cycle(PALETTE[1:]), run.baselines.items(), strict=False):
        other, cost = _over_devices(baseline, metric), _whole_run(baseline, spending)
        if other is not None and cost is not None and cost.max():
            other = other[other.index.isin(cost.index)]
            ax.plot(cost.loc[other.index] / one, other["mean"] * _scale(metric), color=color, label=f"{name}, mean")
        else:
            _draw_level(ax, baseline, name, color)
    ax.set_xlabel(f"{what}, all devices ({unit})")
    ax.set_xlim(0)
    ax.legend(loc=_legend_place(run), **LEGEND)
    return figure


def consensus_distance(run: Run) -> Figure | None:
    """Draw how far the devices' parameters are from their mean."""
    distance = _whole_run(run, "consensus_distance")
    if distance is None:
        return None
    distance = distance[distance > 0]
    if len(distance) < 2:
        return None
    from matplotlib.ticker import LogLocator, StrMethodFormatter

    figure, ax = axes(run, "consensus distance")
    unit, second = time_unit(float(distance.index[-1]))
    ax.plot(distance.index / second, distance, color=PALETTE[0])
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    if distance.max() < 300 * distance.min():  # else powers of ten are labels enough
        ax.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
        ax.yaxis.set_minor_formatter(StrMethodFormatter("{x:g}"))
    ax.set_xlim(0)
    ax.set_xlabel(f"virtual time ({unit})")
    ax.set_ylabel("RMS distance from the mean parameters")
    return figure


def messages(run: Run) -> Figure | None:
    """Draw how many messages per second were delivered, and lost by cause."""
    delivered = _whole_run(run, "messages_delivered")
    if delivered is None or len(delivered) < 2 or delivered.index[-1] <= delivered.index[0]:
        return None
    import numpy as np

    lost = sorted({name for name in run.metrics["metric"].unique() if name.startswith("lost_")})
    counted = {"delivered": delivered} | {f"lost: {name.removeprefix('lost_')}": _whole_run(run, name) for name in lost}
    totals = {fate: int(counts.max()) for fate, counts in counted.items() if counts is not None}
    decided = sum(totals.values())
    if not decided:
        return None
    instants = np.linspace(delivered.index[0], delivered.index[-1], min(len(delivered), _MOST_BARS + 1))
    fates = sorted(totals, key=lambda fate: (fate != "delivered", -totals[fate], fate))
    figure, ax = axes(run, "messages by fate")
    unit, second = time_unit(float(instants[-1]))
    below = np.zeros(len(instants) - 1)
    for color, fate in zip(chain([PALETTE[0]], cycle(_LOSSES)), fates, strict=False):
        counts = counted[fate]
        assert counts is not None
        cumulative = np.interp(instants, counts.index, counts, left=0.0)
        top = below + np.maximum(0, np.diff(cumulative) / np.diff(instants))
        label = f"{fate}  {totals[fate]:,} ({totals[fate] / decided * 100:.1f} %)"
        ax.stairs(top, instants / second, baseline=below, fill=True, color=color, label=label)
        below = top
    ax.set_xlim(instants[0] / second, instants[-1] / second)
    ax.set_ylim(0, float(below.max()) * 1.05 or 1)
    ax.set_xlabel(f"virtual time ({unit})")
    ax.set_ylabel("messages per second")
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, **LEGEND)
    return figure


_UNITS: dict[str, Callable[[float], tuple[str, float]]] = {"B": bytes_unit, "s": time_unit, "J": joules_unit}


_COST_PLOTS: dict[str, Callable[[Run], Figure | None]] = {
    cost.plot: functools.partial(accuracy_for, metric) for metric, cost in COSTS.items()
}


_DRAWN: dict[str, Callable[[Run], Figure | None]] = {
    **{draw.__name__: draw for draw in (accuracy_time, consensus_distance, messages, topology, samples)},
    **_COST_PLOTS,
}
assert _DRAWN.keys() == set(PLOTS), "each name in PLOTS needs a function here, and the other way round"


def _scale(metric: str) -> float:
    """Return the factor by which a score is drawn: shares in percent."""
    return 100.0 if is_share(metric) else 1.0


def _legend_place(run: Run) -> Literal["upper right", "lower right"]:
    return "upper right" if run.summary.get("lower_is_better") else "lower right"


def _over_devices(run: Run, metric: str, ids: Sequence[int] | None = None) -> pd.DataFrame | None:
    """Return the least, mean and greatest value over devices, or some, at each instant; None if there are not two."""
    metrics = run.metrics
    rows = metrics[(metrics["metric"] == metric) & (metrics["device"] >= 0)]
    rows = rows if ids is None else rows[rows["device"].isin(ids)]
    spread = rows.groupby("time_s")["value"].agg(["min", "mean", "max"])
    return spread if len(spread) > 1 else None


def _whole_run(run: Run, metric: str) -> pd.Series[float] | None:
    """Return a metric of the whole run by time; None if there is none."""
    metrics = run.metrics
    rows = metrics[(metrics["metric"] == metric) & (metrics["device"] < 0)]
    return rows.groupby("time_s")["value"].last() if len(rows) else None


def _draw_accuracy(ax: Any, run: Run, curve: pd.DataFrame, x: pd.Index | pd.Series[float]) -> None:
    """Draw the mean of the main run and the range over its devices, and the target."""
    metric = metric_of(run.summary)
    scale = _scale(metric)
    name = str(run.summary.get("protocol") or "protocol")
    ax.fill_between(x, curve["min"] * scale, curve["max"] * scale, color=PALETTE[0], alpha=0.22, linewidth=0)
    ax.plot(x, curve["mean"] * scale, color=PALETTE[0], linewidth=2, label=f"{name}, mean; worst to best shaded")
    target = run.summary.get("target")
    if target and target.get("metric", "accuracy") == metric:
        value = target["accuracy"] if target.get("value") is None else target["value"]
        ax.axhline(value * scale, color=GRAY, linestyle="--", linewidth=1, label="target")
    if is_share(metric):
        percent_axis(ax, words(metric))
    else:
        ax.set_ylabel(words(metric))


def _draw_level(ax: Any, baseline: Run, name: str, color: str) -> None:
    """Draw the score at the end as a horizontal line."""
    metric = metric_of(baseline.summary)
    found = score_of(baseline.summary, metric)
    if found.get("mean") is not None:
        ax.axhline(
            found["mean"] * _scale(metric), color=color, linewidth=1.5, linestyle="-.", label=f"{name}, at its end"
        )
