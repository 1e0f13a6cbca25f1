"""What the page of a run shows, as JSON and typed arrays.

    head     everything small, as JSON
    arrays   name -> array of float32, uint32, uint16 or uint8; a table (rows, devices) lies row by row

Times of messages and trainings are whole parts of the run's length, 2^32 of them: four bytes each, exact to a
billionth of the run.
"""

from __future__ import annotations

import math
import tomllib
from typing import TYPE_CHECKING

import numpy as np

from p2pl_async.report.layout import places
from p2pl_async.report.page.activities import add_timeline
from p2pl_async.report.page.content import Array, Content, parts
from p2pl_async.report.tables import metric_of
from p2pl_async.results.groups import members
from p2pl_async.results.metrics import COSTS, METRICS, is_share, words
from p2pl_async.results.run import Run

if TYPE_CHECKING:
    import pandas as pd

_INSTANTS = 400  # most instants of a curve
_BINS = 120  # most intervals over which rare measurements are averaged
_VALUES = 400_000  # of all devices at all instants of a curve, about
_MESSAGES = 250_000  # in the replay; of more, some are chosen at random
_CELLS = 200  # devices of a matrix, at most


def gather(run: Run) -> Content:
    """Return what the page of a run shows; parts for which it has no numbers are left out."""
    devices, links, summary = run.devices, run.links, run.summary
    n = len(devices)
    kept = run.messages(_SHOWN, _MESSAGES)
    end = _length(run, kept)
    if links.empty and kept is not None and len(kept[0]) == kept[1]:
        links = links_of(kept[0])
    content = Content({"n": n, "end": end, "title": f"{summary.get('scenario')}, seed {summary.get('seed')}"})
    _add_curves(content, run, n)
    _add_map(content, devices, links)
    content.head["groups"] = members(devices)
    content.head["unit"] = "m" if _has_area(run.scenario_text) else ""
    if n and run.positions is not None:
        _add_tracks(content, run.positions, n)
    if n:
        add_timeline(content, run.metrics, n, end)
    if kept is not None and kept[1]:
        _add_messages(content, run, *kept, end)
    _add_devices(content, devices)
    _add_baselines(content, run)
    return content


def _length(run: Run, kept: tuple[pd.DataFrame, int] | None) -> float:
    """Return the virtual seconds that the page covers: of a run that is not complete, up to the last that it has."""
    seconds = run.summary.get("virtual_seconds")
    ends = [float(seconds)] if isinstance(seconds, int | float) and seconds > 0 else []
    if run.summary.get("status") != "complete" or not ends:  # a summary is written now and then
        times = [run.metrics["time_s"]] + ([] if kept is None else [kept[0]["sent_s"]])
        ends += [float(one.max()) for one in times if len(one)]
    return max(*ends, 1e-9) if ends else 1.0


def links_of(trace: pd.DataFrame) -> pd.DataFrame:
    """Return the table of links of a run that has not ended, and so wrote none, from the trace of all its messages."""
    fate = trace["fate"].astype(str)
    told = trace[["src", "dst", "air_s"]].assign(
        sent=1, delivered=fate == "delivered", partial=fate == "partial",
        mean_delay_s=trace["arrival_s"] - trace["sent_s"],
        first_delivery_s=trace["arrival_s"], last_delivery_s=trace["arrival_s"],
    )  # fmt: skip
    causes = sorted(set(fate) - {"delivered", "partial", "in flight"})
    for cause in causes:
        told[f"lost_{cause}"] = fate == cause
    told["lost"] = told[[f"lost_{cause}" for cause in causes]].any(axis=1)
    how = dict.fromkeys(told.columns.drop(["src", "dst"]), "sum")
    how |= {"mean_delay_s": "mean", "first_delivery_s": "min", "last_delivery_s": "max"}
    return told.groupby(["src", "dst"]).agg(how).reset_index()


# Curves


def _add_curves(content: Content, run: Run, n: int) -> None:
    """Add the instants of evaluation, each device's scores at them, and what the whole run had spent by then."""
    metrics = run.metrics
    whole = metrics[metrics["device"] == -1]
    names = [name for name in whole["metric"].unique() if whole["metric"].eq(name).any()]
    known = _scores_of(run)
    of_devices = metrics[metrics["metric"].isin(known) & (metrics["device"] >= 0)]
    instants = np.union1d(whole["time_s"].unique(), of_devices["time_s"].unique())
    if not len(instants):
        return
    most = min(_INSTANTS, max(_VALUES // max(n, 1), 30))
    if len(instants) > most:
        instants = instants[np.unique(np.linspace(0, len(instants) - 1, most).astype(int))]
    content.arrays["time"] = instants.astype(np.float32)
    series = {}
    for name in names:
        rows = whole[whole["metric"] == name]
        content.arrays[f"whole:{name}"] = _held(rows["time_s"], rows["value"], instants)
        series[name] = {"unit": METRICS[name].unit if name in METRICS else ""}
    content.head["whole"] = series
    content.head["costs"] = [
        {"metric": name, "label": cost.label, "unit": METRICS[name].unit}
        for name, cost in COSTS.items()
        if name in names
    ]
    scores = {}
    for name in known:
        scale = _scale(name)
        rows = of_devices[of_devices["metric"] == name]
        if len(rows):
            table = rows.pivot_table(index="time_s", columns="device", values="value", aggfunc="last")
            held = table.reindex(index=instants, columns=range(n)).to_numpy(np.float32) * scale
            content.arrays[f"score:{name}"] = held
            scores[name] = {"label": _label(name), "unit": "%" if is_share(name) else ""}
    content.head["scores"] = scores
    rounds = metrics[metrics["metric"] == "round"]
    by_device = [np.sort(rows["time_s"].to_numpy()) for _, rows in rounds.groupby("device", sort=True)]
    if by_device:
        finished = np.zeros(len(instants))
        for times in by_device:
            finished += np.searchsorted(times, instants, side="right")
        content.arrays["whole:rounds"] = (finished / max(n, 1)).astype(np.float32)
        content.head["costs"].insert(0, {"metric": "rounds", "label": "rounds of a device, on average", "unit": ""})
    _add_averages(content, metrics, n)


def _scores_of(run: Run) -> list[str]:
    """Return what models are scored by, the first of `evaluate.metrics` first, and their loss."""
    names = [metric_of(run.summary), *(run.summary.get("scores") or ()), *_SCORES]
    names += [f"own_{name}" for name in names]
    there = set(run.metrics["metric"].unique())
    return [name for name in dict.fromkeys([*names, "loss"]) if name in there]


def _label(score: str) -> str:
    """Return the name of a score for people."""
    own = score.startswith("own_")
    name = score.removeprefix("own_")
    return _SCORES.get(name, words(name)) + (" on own data" if own else "")


def _scale(score: str) -> float:
    """Return the factor by which a score is shown: shares in percent."""
    return 100.0 if is_share(score) else 1.0


_SCORES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "f1": "F1",
    "rmse": "root mean square error",
}  # those that a killed run, whose summary doesn't tell them yet, may have
_AVERAGED = {
    "staleness_s": ("age of the messages mixed", "s"),
    "neighbors_mixed": ("neighbors mixed", ""),
    "push_weight": ("push weight", ""),
}


def _add_averages(content: Content, metrics: pd.DataFrame, n: int) -> None:
    """Add means over short intervals of what devices measure as they go; NaN where there was nothing."""
    bins = min(_BINS, max(_VALUES // max(n, 1), 30))
    edges = np.linspace(0, content.head["end"], bins + 1)
    found = {}
    for name, (label, unit) in _AVERAGED.items():
        rows = metrics[(metrics["metric"] == name) & (metrics["device"] >= 0)]
        if not len(rows):
            continue
        which = np.clip(np.searchsorted(edges, rows["time_s"].to_numpy(), side="right") - 1, 0, bins - 1)
        cell = which * n + rows["device"].to_numpy()
        counts = np.bincount(cell, minlength=bins * n)
        sums = np.bincount(cell, weights=rows["value"].to_numpy(), minlength=bins * n)
        means = np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)
        content.arrays[f"average:{name}"] = means.astype(np.float32).reshape(bins, n)
        found[name] = {"label": label, "unit": unit}
    content.arrays["average_time"] = ((edges[1:] + edges[:-1]) / 2).astype(np.float32)
    content.head["averages"] = found


def _held(times: pd.Series[float], values: pd.Series[float], instants: Array) -> Array:
    """Return the latest value at each instant; NaN before the first."""
    at = np.searchsorted(times.to_numpy(), instants, side="right") - 1
    found = values.to_numpy(np.float64)[np.maximum(at, 0)]
    return np.where(at >= 0, found, np.nan).astype(np.float32)


# Map


def _has_area(scenario_text: str) -> bool:
    """Tell whether places are in meters; else they are in a unit square."""
    try:
        radio = tomllib.loads(scenario_text).get("radio")
    except tomllib.TOMLDecodeError:  # cut off
        return False
    return isinstance(radio, dict) and not {"area", "positions"}.isdisjoint(radio)


def _add_map(content: Content, devices: pd.DataFrame, links: pd.DataFrame) -> None:
    if devices.empty:
        return
    where = places(devices, links)
    content.head["placed"] = bool(np.isfinite(devices[["x", "y"]].to_numpy(float)).all())
    content.arrays["x"], content.arrays["y"] = where.T.astype(np.float32)
    if links.empty:
        return
    wide = np.uint16 if len(devices) <= 65536 else np.uint32
    for name in ("src", "dst"):
        content.arrays[f"link_{name}"] = links[name].to_numpy().astype(wide)
    for name in ("sent", "delivered", "lost"):
        content.arrays[f"link_{name}"] = links[name].to_numpy().astype(np.uint32)
    times = [name for name in ("first_delivery_s", "last_delivery_s") if name in links.columns]  # not of older versions
    for name in ("air_s", "mean_delay_s", *times):
        content.arrays[f"link_{name}"] = links[name].to_numpy().astype(np.float32)
    if "weight_in_mixes" in links.columns:
        content.arrays["link_weight"] = links["weight_in_mixes"].to_numpy().astype(np.float32)
    causes = [name.removeprefix("lost_") for name in links.columns if name.startswith("lost_")]
    for cause in causes:
        content.arrays[f"link_lost:{cause}"] = links[f"lost_{cause}"].to_numpy().astype(np.uint32)
    content.head["causes"] = causes
    content.head["cells"] = len(devices) <= _CELLS


_PLACES = 200  # instants of tracks, at most


def _add_tracks(content: Content, positions: pd.DataFrame, n: int) -> None:
    """Add where devices are over time; those that don't move stay where they are."""
    if positions.empty:
        return
    tables = positions.pivot_table(index="time_s", columns="device", values=["x", "y"], aggfunc="last").ffill().bfill()
    if len(tables) > _PLACES:
        tables = tables.iloc[np.unique(np.linspace(0, len(tables) - 1, _PLACES).astype(int))]
    content.arrays["track_time"] = tables.index.to_numpy(np.float32)
    for name in ("x", "y"):
        places = np.tile(content.arrays[name], (len(tables), 1))
        moving = tables[name].columns.to_numpy()
        places[:, moving] = tables[name].to_numpy(np.float32)
        content.arrays[f"track_{name}"] = places


# Messages


_SHOWN = ("sent_s", "src", "dst", "number", "kind", "size_bytes", "air_s", "arrival_s", "fate")


def _add_messages(content: Content, run: Run, trace: pd.DataFrame, total: int, end: float) -> None:
    """Add messages, their fates, and when mixes used them, by the instant of sending: all, or of very many some."""
    content.head["messages"] = {"total": total}
    trace = trace.sort_values("sent_s", kind="stable")
    sent = trace["sent_s"].to_numpy()
    arrival = trace["arrival_s"].to_numpy()
    gone = np.where(np.isfinite(arrival), arrival, sent + trace["air_s"].to_numpy())
    gone[(trace["fate"].astype(str) == "in flight").to_numpy()] = end
    wide = np.uint16 if content.head["n"] <= 65536 else np.uint32
    content.arrays["sent"] = parts(sent, end)
    content.arrays["gone"] = parts(gone, end)
    if (air := np.nan_to_num(trace["air_s"].to_numpy())).any():
        content.arrays["air"] = parts(air, end)
    if (mixed := run.first_mixed(trace)) is not None:  # 0: never
        at = np.maximum(parts(np.nan_to_num(mixed), end), 1)
        content.arrays["mixed"] = np.where(np.isnan(mixed), 0, at).astype(np.uint32)
    content.arrays["from"] = trace["src"].to_numpy().astype(wide)
    content.arrays["to"] = trace["dst"].to_numpy().astype(wide)
    content.arrays["size"] = trace["size_bytes"].to_numpy().astype(np.uint32)
    fates, kinds = trace["fate"].astype("category"), trace["kind"].astype("category")
    content.arrays["fate"] = fates.cat.codes.to_numpy().astype(np.uint8)
    content.arrays["kind"] = kinds.cat.codes.to_numpy().astype(np.uint8)
    content.head["messages"] |= {
        "shown": len(trace), "fates": [str(name) for name in fates.cat.categories],
        "kinds": [str(name) for name in kinds.cat.categories],
    }  # fmt: skip


# Devices and baselines


def _add_devices(content: Content, devices: pd.DataFrame) -> None:
    """Add the table of devices, column by column; numbers that are not there are null."""
    shown = devices if len(devices) <= 2000 else devices.head(2000)
    content.head["devices"] = {
        name: [None if isinstance(one, float) and not math.isfinite(one) else one for one in shown[name].tolist()]
        for name in shown.columns
    }
    classes = [name for name in devices.columns if name.startswith("class_")]
    if classes and len(devices) <= _CELLS and len(classes) <= _CELLS:
        content.arrays["samples"] = devices[classes].to_numpy().astype(np.uint32)
        content.head["classes"] = len(classes)


def _add_baselines(content: Content, run: Run) -> None:
    """Add the mean score of each baseline over time."""
    metric = metric_of(run.summary)
    content.head["metric"] = {
        "name": metric, "label": _label(metric), "unit": "%" if is_share(metric) else "",
        "falls": bool(run.summary.get("lower_is_better")),
    }  # fmt: skip
    content.head["baselines"] = []
    for name, baseline in run.baselines.items():
        metrics = baseline.metrics
        rows = metrics[(metrics["metric"] == metric) & (metrics["device"] >= 0)]
        if not len(rows):
            continue
        mean = rows.groupby("time_s")["value"].mean() * _scale(metric)
        content.arrays[f"baseline_time:{name}"] = mean.index.to_numpy().astype(np.float32)
        content.arrays[f"baseline:{name}"] = mean.to_numpy().astype(np.float32)
        content.head["baselines"].append({"name": name, "alone": len(baseline.devices) == 1})
