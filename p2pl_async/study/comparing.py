"""Finished runs beside each other: what differs in their settings, and what came out."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from p2pl_async.errors import Problem, ScenarioError
from p2pl_async.report.drawing import LEGEND, PALETTE, percent_axis, plain_axes, save, time_unit
from p2pl_async.report.tables import metric_of
from p2pl_async.results.metrics import is_share, words
from p2pl_async.results.run import load_run
from p2pl_async.results.table import writing as folder_errors
from p2pl_async.scenario.reading.plain import leaves
from p2pl_async.study.answers import Sheet
from p2pl_async.study.expressions import Expression, RecordedValues
from p2pl_async.study.factors import Labels, title_of
from p2pl_async.study.results import Results, usual_table
from p2pl_async.study.settings import StudySettings
from p2pl_async.study.writing import terminal, terminal_sheet

_MOST_FACTORS = 3
_RUN = "run"


class Comparison:
    """Some runs; those with the same settings and different seeds are one variant.

    Args:
        paths: folders of runs, two or more.

    Raises:
        ScenarioError: if there are fewer, or if one contains no result.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        if len(paths) < 2:
            raise ScenarioError("p2pl compare", [Problem("RUN", "must be two folders of runs, or more")])
        self.runs = [(path, load_run(path)) for path in paths]
        texts = [dict(leaves(tomllib.loads(run.scenario_text))) for _, run in self.runs]
        keys = dict.fromkeys(key for text in texts for key in text)
        self.differing = [
            key for key in keys
            if key not in ("seed", "name") and len({repr(text.get(key)) for text in texts}) > 1
        ]  # fmt: skip
        self.settings = [{key: _shown(text.get(key)) for key in self.differing} for text in texts]
        self.labels = self._labels()

    def _labels(self) -> list[Labels]:
        """Return each run's variant: what differs in its settings, or its folder if that is much or nothing."""
        seeds = [
            (tuple(one.values()), run.summary["seed"]) for one, (_, run) in zip(self.settings, self.runs, strict=True)
        ]
        if len(set(seeds)) < len(seeds):  # the same run twice
            return [{_RUN: str(path)} for path, _ in self.runs]
        if 0 < len(self.differing) <= _MOST_FACTORS:
            return self.settings
        first: dict[tuple[str, ...], str] = {}
        for (path, _), one in zip(self.runs, self.settings, strict=True):
            first.setdefault(tuple(one.values()), str(path))
        return [{_RUN: first[tuple(one.values())]} for one in self.settings]

    def results(self) -> Results:
        """Return the runs as the results of a study, whose baseline is the first run's variant."""
        variants: list[Labels] = []
        for labels in self.labels:
            if labels not in variants:
                variants.append(labels)
        usual = usual_table(run.summary for _, run in self.runs)
        samples: dict[str, list[dict[int, Any]]] = {value.of: [{} for _ in variants] for value in usual.value}
        runs = []
        for (path, run), labels in zip(self.runs, self.labels, strict=True):
            recorded, seed = RecordedValues(path), int(run.summary["seed"])
            runs.append((labels, seed, str(path), recorded.numbers))
            for text, of_variants in samples.items():
                of_variants[variants.index(labels)][seed] = Expression(text).of(recorded)
        seeds = tuple(sorted({seed for _, seed, *_ in runs}))
        settings = StudySettings(base=Path("runs"), seeds=seeds, baseline=variants[0], table=(usual,))
        return Results("comparison", settings, variants, samples, runs, len(runs))

    def answer(self) -> Any:
        """Return settings that differ, and the tables, for a terminal."""
        from rich.console import Group
        from rich.text import Text

        if not self.differing:
            return Group(Text("the settings are the same, but for the seed"), terminal(self.results()))
        rows = [[key, *(settings[key] for settings in self.settings)] for key in self.differing]
        sheet = Sheet("settings that differ", ["key", *(str(path) for path, _ in self.runs)], rows)
        return Group(terminal_sheet(sheet), Text(), terminal(self.results()))

    def draw(self, path: Path) -> list[Path]:
        """Draw the first run's score over virtual time, mean and range over devices, of all runs; return the files."""
        metric = metric_of(self.runs[0][1].summary)
        scale = 100 if is_share(metric) else 1
        figure, ax = plain_axes(words(metric), f"{len(self.runs)} runs: mean and range over devices")
        curves = []
        for _, run in self.runs:
            rows = run.metrics[run.metrics["metric"] == metric]
            curves.append(rows.groupby("time_s")["value"].agg(["min", "mean", "max"]))
        unit, second = time_unit(max((float(curve.index[-1]) for curve in curves if len(curve)), default=0.0))
        colors = dict(zip(dict.fromkeys(map(title_of, self.labels)), cycle(PALETTE)))
        told = set()
        for curve, labels in zip(curves, self.labels, strict=True):
            name = title_of(labels)
            at = curve.index / second
            ax.plot(at, scale * curve["mean"], color=colors[name], label=None if name in told else name)
            low, high = scale * curve["min"], scale * curve["max"]
            ax.fill_between(at, low, high, color=colors[name], alpha=0.12, linewidth=0)
            told.add(name)
        ax.set_xlabel(f"virtual time ({unit})")
        if is_share(metric):
            percent_axis(ax, words(metric))
        else:
            ax.set_ylabel(words(metric))
        ax.legend(loc="lower right", **LEGEND)
        with folder_errors(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            return save(figure, path)


def _shown(value: object) -> str:
    return "none" if value is None else str(value)
