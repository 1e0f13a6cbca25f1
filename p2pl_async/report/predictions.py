"""Reports of a prediction: plots, tables, and a report in plain words."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from p2pl_async.basics.units import show_seconds
from p2pl_async.errors import PredictionError
from p2pl_async.prediction.comparing import Report
from p2pl_async.prediction.measuring import Measurement, Repetitions
from p2pl_async.prediction.predicting import Curves, Prediction
from p2pl_async.report.drawing import LEGEND, PALETTE, percent_axis, plain_axes, save
from p2pl_async.results.folder import RunFolder
from p2pl_async.results.table import writing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Measured = Measurement | Repetitions

_MOST_LINKS = 5  # of those that count most
_MARKS = 16  # of measured values along a curve


def write_prediction(
    folder: RunFolder,
    prediction: Prediction,
    measured: Measured | None = None,
    report: Report | None = None,
    *,
    plots: bool = True,
) -> None:
    """Write a prediction's folder: scenario, summary, tables, report.txt and plots, and the same of what was measured.

    Raises:
        ScenarioError: if the folder can't be written.
    """
    from p2pl_async.scenario.reading.load import dump

    folder.begin(dump(prediction.scenario))
    with writing(folder.path):
        prediction.frame().to_parquet(folder.path / "predicted.parquet")
        if measured is not None:
            measured.frame().to_parquet(folder.path / "measured.parquet")
        if report is not None:
            report.topologies.to_parquet(folder.path / "topologies.parquet")
            report.links.to_parquet(folder.path / "link_effects.parquet")
    folder.write_summary(summary(prediction, measured, report))
    written = io.StringIO()
    Console(width=110, file=written).print(text(prediction, measured, report))
    folder.write_text("report.txt", written.getvalue())
    if plots:
        with writing(folder.path / "plots"):
            (folder.path / "plots").mkdir(exist_ok=True)
            for name, figure in figures(prediction, measured):
                save(figure, folder.path / "plots" / name)
    folder.publish()
    folder.close()


def summary(prediction: Prediction, measured: Measured | None = None, report: Report | None = None) -> dict[str, Any]:
    """Return a prediction in numbers."""
    steps = prediction.steps
    found: dict[str, Any] = {
        "status": "predicted",
        "scenario": prediction.scenario.name,
        "seed": prediction.scenario.seed,
        "method": prediction.method.rule,
        "learning_rate": prediction.method.eta,
        "stable_below": None if steps is None else steps.largest,
        "stable_below_is_exact": None if steps is None else steps.exact,
        "time": prediction.time,
        "exact": prediction.exact,
        "mean_over_losses": prediction.lossy,
        "rounds": int(prediction.rounds[-1]),
        "predicted": _ends(prediction),
        "sample_weight": None if prediction.sample_weight is None else prediction.sample_weight.tolist(),
        "agreement": None if prediction.agreement is None else prediction.agreement._asdict(),
    }
    if measured is not None:
        found["measured"] = _ends(measured)
    if isinstance(measured, Measurement):
        error = measured.relative_error(prediction)
        found["relative_error"] = {"largest": float(np.nanmax(error)), "end": float(error[-1])}
    if isinstance(measured, Repetitions):
        deviation = measured.deviation(prediction)
        found["runs"] = measured.runs
        found["deviation_in_standard_errors"] = None if np.isnan(deviation).all() else float(np.nanmax(deviation))
    if report is not None:
        found["target"] = {"of": report.of, "value": report.target}
        found["topologies"] = report.topologies.to_dict("records")
        found["notes"] = report.notes
    return found


def _ends(curves: Curves) -> dict[str, Any]:
    return {
        "accuracy": _range(curves.accuracy[-1]),
        "loss": _range(curves.loss[-1]),
        "train_loss": _range(curves.train_loss[-1]),
        "consensus_distance": float(curves.consensus_distance[-1]),
    }


def _range(values: Any) -> dict[str, float]:
    return {"min": float(values.min()), "mean": float(values.mean()), "max": float(values.max())}


# Words


def text(prediction: Prediction, measured: Measured | None = None, report: Report | None = None) -> RenderableType:
    """Return a prediction as tables and sentences, for a terminal of 100 columns."""
    parts: list[RenderableType] = [_ends_table(prediction, measured), Text("\n".join(_sentences(prediction, measured)))]
    if report is not None:
        parts += [_topologies(report), *_links(report), Text("\n".join(f"note: {note}" for note in report.notes))]
    return Group(*parts)


def _table(title: str, *columns: str) -> Table:
    from rich.box import SIMPLE_HEAD

    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column(columns[0], no_wrap=True)
    for name in columns[1:]:
        table.add_column(name, justify="right")
    return table


def _ends_table(prediction: Prediction, measured: Measured | None) -> Table:
    scenario = prediction.scenario
    title = f"{scenario.name}, seed {scenario.seed}: after {prediction.rounds[-1]} rounds of {prediction.method.rule}"
    table = _table(title, "", "worst accuracy", "mean", "test loss", "training loss", "consensus distance")
    rows: list[tuple[str, Curves]] = [("predicted (mean outputs)" if prediction.lossy else "predicted", prediction)]
    if measured is not None:
        name = f"mean of {measured.runs} runs" if isinstance(measured, Repetitions) else "emulated"
        rows.append((name, measured))
    for name, curves in rows:
        table.add_row(
            name,
            f"{100 * curves.accuracy[-1].min():.2f} %",
            f"{100 * curves.accuracy[-1].mean():.2f} %",
            f"{curves.loss[-1].mean():.5g}",
            f"{curves.train_loss[-1].mean():.5g}",
            f"{curves.consensus_distance[-1]:.4g}",
        )
    return table


def _sentences(prediction: Prediction, measured: Measured | None) -> Iterator[str]:
    yield (
        "The model is affine, so the prediction is exact."
        if prediction.exact
        else "The model is a network, taken as linear in its parameters: the wider, the truer."
    )
    if prediction.time == "flow":
        yield "This is the gradient flow; a run takes steps, and differs by some percent early."
    steps = prediction.steps
    if steps is None:
        yield "The stable step sizes are not known for these weights; this one is stable."
    else:
        how = "stable exactly" if steps.exact else "stable at least"
        yield f"Step size {prediction.method.eta:g}; {how} below {steps.largest:.4g}."
    yield from _influence(prediction)
    if prediction.lossy:
        if prediction.method.window is None:
            yield (
                "Warning: who has waited for a lost message is late for others, so more is missed than is lost; "
                'that is left out. In lock step it can\'t happen: mode = { kind = "fresh", wait = ... }.'
            )
        yield "Messages get lost: these are the exact means over runs of outputs, and errors of those mean outputs."
        try:
            expected = prediction.expected_loss[-1].mean()
            yield f"The mean over runs of the test loss is {expected:.5g}, more than that of the mean outputs."
        except PredictionError as reason:
            yield f"How far runs scatter isn't known: {reason}."
    if isinstance(measured, Measurement):
        error = measured.relative_error(prediction)
        yield (
            f"Predicted and emulated change of the test outputs differ by {100 * float(np.nanmax(error)):.2g} % "
            f"at most, {100 * float(error[-1]):.2g} % at the end."
        )
    if isinstance(measured, Repetitions):
        deviation = measured.deviation(prediction)
        if not np.isnan(deviation).all():
            most = np.nanmax(deviation)
            yield f"Mean outputs of the runs are {most:.2f} standard errors from the prediction at most."


def _influence(prediction: Prediction) -> Iterator[str]:
    weight, agreement = prediction.sample_weight, prediction.agreement
    if weight is not None and weight.max() > 1.005 * weight.min():
        yield (
            f"In what devices minimize together a sample counts {weight.min():.2g} times as much as on average (device "
            f"{weight.argmin()}) to {weight.max():.2g} times (device {weight.argmax()})."
        )
    if agreement is not None:
        square = f", root mean squares over runs by {agreement.mean_square:.4g}" if prediction.lossy else ""
        yield f"Distances between devices that only mix shrink by the factor {agreement.mean:.4g} a round{square}."


def _topologies(report: Report) -> Table:
    goal = f"{100 * report.target:g} % accuracy" if report.of == "accuracy" else f"a test loss of {report.target:.4g}"
    table = _table(
        f"until every device has {goal}",
        "topology",
        "links",
        "SLEM",
        "rounds",
        "virtual time",
        "per round",
        "worst accuracy",
    )
    for row in report.topologies.to_dict("records"):
        reached = not math.isnan(row["rounds"])
        table.add_row(
            row["topology"],
            f"{row['links']}",
            f"{row['slem']:.4f}",
            f"{row['rounds']:.0f}" if reached else "not reached",
            show_seconds(row["seconds"]) if reached and not math.isnan(row["seconds"]) else "-",
            show_seconds(row["seconds_per_round"]) if not math.isnan(row["seconds_per_round"]) else "-",
            f"{100 * row['accuracy']:.2f} %",
        )
    return table


def _links(report: Report) -> Iterator[RenderableType]:
    if len(report.links):
        table = _table("links that count most", "from -> to", "if it loses 10 % of its messages, learning takes")
        for row in report.links.head(_MOST_LINKS).to_dict("records"):
            longer = 100 * row["slower"]
            table.add_row(f"{row['src']} -> {row['dst']}", f"{abs(longer):.2g} % {'longer' if longer >= 0 else 'less'}")
        yield table
    if len(report.loss):
        table = _table("loss on all links", "loss", "dominant eigenvalue", "rounds to 1/e")
        for row in report.loss.to_dict("records"):
            table.add_row(f"{100 * row['p']:g} %", f"{row['eigenvalue']:.6f}", f"{row['time_constant']:.5g}")
        yield table


# Pictures


def figures(prediction: Prediction, measured: Measured | None = None) -> Iterator[tuple[str, Figure]]:
    """Yield the plots of a prediction, by the name of their file."""
    yield "predicted_loss", loss_plot(prediction, measured)
    yield "predicted_accuracy", accuracy_plot(prediction, measured)
    if prediction.consensus_distance.any():
        yield "predicted_consensus", consensus_plot(prediction, measured)
    if isinstance(measured, Measurement):
        yield "relative_error", error_plot(prediction, measured)


def _new(prediction: Prediction, title: str) -> tuple[Figure, Axes]:
    scenario = prediction.scenario
    figure, ax = plain_axes(title, f"{scenario.name}, seed {scenario.seed}")
    ax.set_xlabel("round")
    ax.set_xlim(0, float(prediction.rounds[-1]))
    return figure, ax


def _draw(
    ax: Axes, prediction: Prediction, measured: Measured | None, name: str, color: str, label: str, factor: float
) -> None:
    """Draw the mean over devices as a line, their range as a shade, and what was measured as dots."""
    values = factor * np.asarray(getattr(prediction, name), np.float64)
    x = prediction.rounds
    ax.fill_between(x, values.min(1), values.max(1), color=color, alpha=0.18, linewidth=0)
    ax.plot(x, values.mean(1), color=color, linewidth=2, label=f"{label}, predicted; all devices shaded")
    if measured is not None:
        found = factor * np.asarray(getattr(measured, name), np.float64).mean(1)
        how = f"mean of {measured.runs} runs" if isinstance(measured, Repetitions) else "emulated"
        every = max(1, len(x) // _MARKS)
        ax.plot(x[::every], found[::every], "o", color=color, markersize=5, mfc="none", label=f"{label}, {how}")


def loss_plot(prediction: Prediction, measured: Measured | None) -> Figure:
    """Draw training and test loss of the devices."""
    figure, ax = _new(prediction, "squared loss")
    _draw(ax, prediction, measured, "train_loss", PALETTE[0], "training", 1)
    _draw(ax, prediction, measured, "loss", PALETTE[3], "test", 1)
    if prediction.lossy:
        with contextlib.suppress(PredictionError):
            mean = prediction.expected_loss.mean(1)
            ax.plot(prediction.rounds, mean, "--", color="black", linewidth=1, label="test, predicted mean over runs")
    plain_log_axis(ax)
    ax.set_ylabel("squared loss")
    ax.legend(loc="upper right", **LEGEND)
    return figure


def accuracy_plot(prediction: Prediction, measured: Measured | None) -> Figure:
    """Draw the test accuracy of the devices."""
    figure, ax = _new(prediction, "accuracy")
    _draw(ax, prediction, measured, "accuracy", PALETTE[0], "test", 100)
    percent_axis(ax, "accuracy")
    ax.legend(loc="lower right", **LEGEND)
    return figure


def consensus_plot(prediction: Prediction, measured: Measured | None) -> Figure:
    """Draw how far the devices' parameters are from their mean."""
    figure, ax = _new(prediction, "consensus distance")
    x, distance = prediction.rounds, prediction.consensus_distance
    some = distance > 0
    label = "predicted, of the mean parameters" if prediction.lossy else "predicted"
    if prediction.lossy:
        with contextlib.suppress(PredictionError):
            moments = prediction.moments
            assert moments is not None
            distance, label = np.sqrt(moments.consensus_square), "predicted, root mean square over runs"
    ax.plot(x[some], distance[some], color=PALETTE[0], linewidth=2, label=label)
    if measured is not None:
        every = max(1, int(some.sum()) // _MARKS)
        found = measured.consensus_distance[some][::every]
        how = f"mean of {measured.runs} runs" if isinstance(measured, Repetitions) else "emulated"
        ax.plot(x[some][::every], found, "o", color=PALETTE[0], markersize=5, mfc="none", label=how)
    plain_log_axis(ax)
    ax.set_ylabel("RMS distance from the mean parameters")
    ax.legend(loc="upper right", **LEGEND)
    return figure


def error_plot(prediction: Prediction, measured: Measurement) -> Figure:
    """Draw the relative error of the predicted change of outputs."""
    figure, ax = _new(prediction, "error of the prediction")
    error = 100 * measured.relative_error(prediction)
    shown = np.nan_to_num(error) > 0
    ax.plot(prediction.rounds[shown], error[shown], color=PALETTE[0], linewidth=2)
    ax.set_yscale("log")
    ax.set_ylim(10.0 ** np.floor(np.log10(error[shown].min())), 10.0 ** np.ceil(np.log10(error[shown].max())))
    ax.set_ylabel("error of the change of test outputs (%)")
    return figure


def plain_log_axis(ax: Axes) -> None:
    """Make the y axis logarithmic, with plain numbers, also between the powers of ten where there are few of them."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    ax.set_yscale("log")
    low, high = ax.get_ylim()
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    if high < 300 * low:
        subs = (2, 5) if high > 12 * low else (2, 3, 4, 5, 6, 8)
        ax.yaxis.set_minor_locator(LogLocator(subs=subs))
        ax.yaxis.set_minor_formatter(StrMethodFormatter("{x:g}"))
    else:
        ax.yaxis.set_minor_formatter(NullFormatter())
