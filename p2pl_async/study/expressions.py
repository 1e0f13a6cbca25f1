"""Expressions over what a run recorded: `accuracy.min`, `time_to(95 %)`, `100 * mean(accuracy - accuracy_trained)`.

Names are paths in `summary.json`. `time_to`, `bytes_to` and `joules_to` give when an evaluation first found that good
an accuracy, or what else the run's models are scored by first, of the worst device or, as `time_to(95 %, mean)`, of the
mean; a run that never got there gives where it ended. `mean`, `last`, `first` and `sum` are over metrics, which have
their own names inside: `last` and `first` are means over devices, and `until = 60` leaves out what was measured later
than 60 s. With `group = old` all of these are over the devices of that group.

An expression is read into a tree of its own; nothing of it is run as Python.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2pl_async.basics.settings import nearest
from p2pl_async.results.groups import members
from p2pl_async.results.metrics import METRICS
from p2pl_async.results.publishing import summary_of
from p2pl_async.results.summary_keys import SUMMARY_KEYS, is_summary_key, leaves_of
from p2pl_async.results.table import DEVICE_COLUMNS, METRIC_COLUMNS, Table, refuse
from p2pl_async.study.survival import Arrival

if TYPE_CHECKING:
    import pandas as pd

Number = float | Arrival

_OPERATORS: Mapping[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Pow: operator.pow, ast.USub: operator.neg, ast.UAdd: operator.pos,
}  # fmt: skip
_FUNCTIONS: Mapping[str, Callable[..., float]] = {
    "abs": abs, "sqrt": math.sqrt, "log": math.log, "exp": math.exp, "min": min, "max": max,
}  # fmt: skip
_COSTS = {"time_to": "virtual_seconds", "bytes_to": "bytes_on_air", "joules_to": "energy_j"}
_SERIES = ("mean", "last", "first", "sum")
_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%")


class RecordedValues:
    """What a run recorded, read when first asked for.

    Args:
        path: its folder.

    Raises:
        ScenarioError: if it contains no result.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        found = summary_of(path)
        if found is None:
            refuse(path, "has no summary that can be read; remove the folder, and the run is done again")
        self.summary = found
        self.numbers = leaves_of(found)
        self._metrics: pd.DataFrame | None = None
        self._groups: dict[str, list[int]] | None = None

    @property
    def metrics(self) -> pd.DataFrame:
        """Measurements: time_s, device (-1: the whole run), metric, value."""
        if self._metrics is None:
            self._metrics = Table(self.path / "metrics", METRIC_COLUMNS).frame()
        return self._metrics

    def devices(self, group: str) -> list[int]:
        """Return the devices of a group; none if the run has no such group."""
        if self._groups is None:
            self._groups = members(Table(self.path / "devices", DEVICE_COLUMNS).frame())
        return self._groups.get(group, [])

    def number(self, path: str) -> float:
        """Return a number of the summary; NaN if the run has none, 0 for a cause of loss that didn't occur."""
        counted = path.startswith(("messages.lost.", "messages.by_kind."))
        return self.numbers.get(path, 0.0 if counted else math.nan)


class Expression:
    """An expression, checked.

    Args:
        text: as a study file has it.

    Raises:
        ValueError: if it can't be read, or names something that no run records.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            tree = ast.parse(_PERCENT.sub(r"(\1/100)", text.strip()), mode="eval")
        except SyntaxError as error:
            raise ValueError(
                f'must be an expression such as "100 * accuracy.min" or "time_to(95 %)": {error.msg}'
            ) from None
        self._tree = tree.body
        _check(self._tree)

    @property
    def groups(self) -> set[str]:
        """The groups of devices that it names."""
        calls = (node for node in ast.walk(self._tree) if isinstance(node, ast.Call))
        return {_path(word.value) for call in calls for word in call.keywords if word.arg == "group"}

    def of(self, run: RecordedValues) -> Number:
        """Return the value for a run; NaN where it has none."""
        try:
            return _value(self._tree, run)
        except (ZeroDivisionError, OverflowError, ValueError):
            return math.nan


def _path(node: ast.AST) -> str:
    """Return "accuracy.min" of its tree, or a text in quotes; "" for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.Attribute):
        above = _path(node.value)
        return f"{above}.{node.attr}" if above else ""
    return node.id if isinstance(node, ast.Name) else ""


def _check(node: ast.AST, *, series: bool = False) -> None:
    """Raise ValueError for what isn't part of the language; inside a series, names are metrics."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return
    if isinstance(node, ast.BinOp | ast.UnaryOp) and type(node.op) in _OPERATORS:
        for child in [node.left, node.right] if isinstance(node, ast.BinOp) else [node.operand]:
            _check(child, series=series)
    elif isinstance(node, ast.Call) and not series:
        _check_call(node)
    elif path := _path(node):
        known = list(METRICS) if series else [*SUMMARY_KEYS, "accuracy.min", "accuracy.mean", "accuracy.max"]
        if not series and not is_summary_key(path):
            guess = nearest(path, known)
            hint = f'did you mean "{guess}"?' if guess else "`p2pl guide results` has them all"
            raise ValueError(f"{path} is no number of a run's summary; {hint}")
    else:
        raise ValueError(
            f"{ast.unparse(node)} is not part of an expression; it has numbers, names, + - * / ** and functions"
        )


def _check_call(node: ast.Call) -> None:
    name = _path(node.func)
    known = [*_COSTS, *_SERIES, *_FUNCTIONS]
    if name not in known:
        guess = nearest(name, known)
        raise ValueError(
            f"{name} is no function; " + (f"did you mean {guess}?" if guess else f"known: {', '.join(known)}")
        )
    if name in _COSTS:
        words = [_path(argument) for argument in node.args[1:]]
        if not node.args or _unfit(node, "group") or words not in ([], ["mean"]):
            raise ValueError(
                f'{name} must be like "{name}(95 %)", or "{name}(95 %, mean, group = old)" for the mean over devices, '
                "of one group"
            )
        _check(node.args[0])
    elif name in _SERIES:
        if len(node.args) != 1 or _unfit(node, "until", "group"):
            raise ValueError(
                f'{name} must be like "{name}(push_weight)" or "{name}(accuracy, until = 60, group = old)"'
            )
        _check(node.args[0], series=True)
    else:
        if node.keywords or not node.args:
            raise ValueError(f"{name} takes numbers")
        for argument in node.args:
            _check(argument)


def _unfit(node: ast.Call, *known: str) -> bool:
    """Tell whether a call has a keyword that it doesn't take, or a group that isn't named."""
    words = {word.arg or "": word.value for word in node.keywords}
    return not words.keys() <= set(known) or ("group" in words and not _path(words["group"]))


def _value(node: ast.AST, run: RecordedValues) -> Number:
    if isinstance(node, ast.Constant) and not isinstance(node.value, str):
        return float(node.value)  # type: ignore[arg-type]  # checked
    if isinstance(node, ast.BinOp):
        return _combined(node.op, _value(node.left, run), _value(node.right, run))
    if isinstance(node, ast.UnaryOp):
        return float(_OPERATORS[type(node.op)](_plain(_value(node.operand, run))))
    if isinstance(node, ast.Call):
        name = _path(node.func)
        words = {word.arg: word.value for word in node.keywords}
        devices = run.devices(_path(words["group"])) if "group" in words else None
        if devices == []:
            return math.nan
        if name in _COSTS:
            level = _plain(_value(node.args[0], run))
            return _arrival(run, _COSTS[name], level, devices, mean=bool(node.args[1:]))
        if name in _SERIES:
            until = _plain(_value(words["until"], run)) if "until" in words else math.inf
            return _over_series(run, name, node.args[0], until, devices)
        return float(_FUNCTIONS[name](*(_plain(_value(argument, run)) for argument in node.args)))
    return run.number(_path(node))


def _combined(op: ast.AST, left: Number, right: Number) -> Number:
    """Return the result of an operation; an arrival in other units is still one."""
    apply = _OPERATORS[type(op)]
    if isinstance(left, Arrival) and not isinstance(right, Arrival) and isinstance(op, ast.Mult | ast.Div):
        return Arrival(float(apply(left.at, right)), left.reached)
    if isinstance(right, Arrival) and not isinstance(left, Arrival) and isinstance(op, ast.Mult):
        return Arrival(left * right.at, right.reached)
    return float(apply(_plain(left), _plain(right)))


def _plain(value: Number) -> float:
    """Return a number; NaN for a run that never arrived."""
    if isinstance(value, Arrival):
        return value.at if value.reached else math.nan
    return value


def _arrival(run: RecordedValues, cost: str, level: float, devices: list[int] | None, *, mean: bool) -> Arrival:
    """Return when a score was first found as good as `level`: by the run's own target, or by an evaluation."""
    metric, falls = run.summary.get("metric") or "accuracy", bool(run.summary.get("lower_is_better"))
    summary_path = "virtual_seconds" if cost == "virtual_seconds" else f"messages.{cost}"
    end = run.number("energy.joules" if cost == "energy_j" else summary_path)
    target = run.summary.get("target") or {}
    same = {"of": "mean" if mean else "every_device", "metric": metric, "value": level}
    asked = {"metric": "accuracy", "value": target.get("accuracy")} | target
    if devices is None and all(asked.get(key) == value for key, value in same.items()):
        return Arrival(run.number(f"target.{cost}"), True) if target["reached"] else Arrival(end, False)
    at = _first_seen(run, metric, level, devices, mean=mean, falls=falls)
    of_these = asked.get("of") == "every_device" or (mean and devices is None)
    if target.get("reached") and asked["metric"] == metric and of_these:
        # All devices were found that good, so their mean was, and so is each worse score.
        proven = asked["value"] <= level if falls else asked["value"] >= level
        if proven and run.number("target.virtual_seconds") <= at:
            return Arrival(run.number(f"target.{cost}"), True)
    if at == math.inf:
        return Arrival(end, False)
    if cost == "virtual_seconds":
        return Arrival(at, True)
    spent = run.metrics[(run.metrics["metric"] == cost) & (run.metrics["time_s"] <= at)]
    return Arrival(float(spent["value"].iloc[-1]) if len(spent) else math.nan, True)


def _first_seen(
    run: RecordedValues, metric: str, level: float, devices: list[int] | None, *, mean: bool, falls: bool
) -> float:
    """Return when an evaluation first found a score that good, in virtual seconds; inf if none did."""
    rows = run.metrics[run.metrics["metric"] == metric]
    rows = rows if devices is None else rows[rows["device"].isin(devices)]
    over_devices = rows.groupby("time_s")["value"].agg("mean" if mean else "max" if falls else "min")
    reached = over_devices[over_devices <= level if falls else over_devices >= level]
    return float(reached.index[0]) if len(reached) else math.inf


def _over_series(run: RecordedValues, how: str, node: ast.AST, until: float, devices: list[int] | None) -> float:
    names = sorted({_path(part) for part in ast.walk(node) if isinstance(part, ast.Name)})
    rows = run.metrics[run.metrics["metric"].isin(names) & (run.metrics["time_s"] <= until)]
    rows = rows if devices is None else rows[rows["device"].isin(devices)]
    if how == "sum" and isinstance(node, ast.Name):  # with every row, also where two fall on one instant
        return float(rows["value"].sum())
    table = rows.pivot_table(
        index=["time_s", "device"], columns="metric", values="value", aggfunc="last", observed=True
    )
    if set(names) - set(table.columns):
        return math.nan
    series = _of_series(node, table)
    series = series[series.notna()]
    if how in ("last", "first"):
        series = getattr(series.groupby("device"), how)()
    return float(series.sum() if how == "sum" else series.mean())


def _of_series(node: ast.AST, table: pd.DataFrame) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.BinOp):
        return _OPERATORS[type(node.op)](_of_series(node.left, table), _of_series(node.right, table))
    if isinstance(node, ast.UnaryOp):
        return _OPERATORS[type(node.op)](_of_series(node.operand, table))
    return table[_path(node)]
