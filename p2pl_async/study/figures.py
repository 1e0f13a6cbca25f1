"""Pictures of a study's answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from p2pl_async.report.drawing import GRAY, LEGEND, PALETTE, plain_axes, save
from p2pl_async.results.table import writing
from p2pl_async.study.answers import number
from p2pl_async.study.expressions import Number
from p2pl_async.study.factors import title_of
from p2pl_async.study.results import Results
from p2pl_async.study.settings import FigureSettings
from p2pl_async.study.statistics import friedman, interval
from p2pl_async.study.survival import Arrival, curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS = "osD^vPX"


def write_figures(results: Results, folder: Path) -> list[Path]:
    """Draw every figure of a study as PNG and SVG; one without anything to show is left out."""
    written: list[Path] = []
    for count, settings in enumerate(results.settings.figure, 1):
        figure = draw(results, settings)
        if figure is not None:
            with writing(folder):
                folder.mkdir(parents=True, exist_ok=True)
                written += save(figure, folder / f"figure-{count}-{settings.kind}")
    return written


def draw(results: Results, settings: FigureSettings) -> Figure | None:
    """Return a figure; None if no run is done that it could show."""
    if not any(results.samples[settings.value.of][i] for i in results.chosen(settings.select)):
        return None
    title = settings.title or results.settings.question or results.name
    figure, ax = plain_axes(title, f"{len(results.settings.seeds)} seeds")
    _DRAWN[settings.kind](results, settings, ax)
    if settings.log:
        ax.set_yscale("log")
    return figure


def _groups(results: Results, settings: FigureSettings) -> Iterator[tuple[str, list[int]]]:
    """Yield (name of a level of `by`, its variants); all variants under "" without `by`."""
    places = results.chosen(settings.select)
    if settings.by is None:
        yield "", places
        return
    for level in dict.fromkeys(results.variants[i][settings.by] for i in places):
        yield level, [i for i in places if results.variants[i][settings.by] == level]


def _values(results: Results, settings: FigureSettings, places: list[int], text: str = "") -> list[float]:
    """Return the numbers of all runs of some variants; a target that was not reached counts as the end of the run."""
    found = [number(value) for i in places for value in results.samples[text or settings.value.of][i].values()]
    return [value for value in found if not math.isnan(value)]


def _positions(levels: list[str]) -> tuple[list[float], bool]:
    """Return where levels lie on an axis, and whether these are their numbers: "10 %" at 10, but words one by one."""
    numbers = []
    for level in levels:
        try:
            numbers.append(float(level.split()[0]))
        except (ValueError, IndexError):
            return list(map(float, range(len(levels)))), False
    units = {level.partition(" ")[2] for level in levels}
    return (numbers, True) if len(units) == 1 else (list(map(float, range(len(levels)))), False)


def _lines(results: Results, settings: FigureSettings, ax: Axes) -> None:
    assert settings.x is not None
    levels = list(dict.fromkeys(results.variants[i][settings.x] for i in results.chosen(settings.select)))
    at, numeric = _positions(levels)
    for (name, places), color, marker in zip(_groups(results, settings), cycle(PALETTE), cycle(_MARKERS)):
        points = []
        for position, level in zip(at, levels, strict=True):
            values = _values(results, settings, [i for i in places if results.variants[i][settings.x] == level])
            if values:
                points.append((position, *interval(values)))
        if not points:
            continue
        x, center, low, high = np.array(sorted(points)).T
        ax.plot(x, center, color=color, marker=marker, label=name)
        ax.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)
    _label_x(ax, settings.x, at, levels, numeric)
    ax.set_ylabel(settings.value.title)
    _legend(ax, settings)


def _heatmap(results: Results, settings: FigureSettings, ax: Axes) -> None:
    assert settings.x is not None
    assert settings.by is not None
    places = results.chosen(settings.select)
    across = list(dict.fromkeys(results.variants[i][settings.x] for i in places))
    down = list(dict.fromkeys(results.variants[i][settings.by] for i in places))
    grid = np.full((len(down), len(across)), np.nan)
    for row, of_row in enumerate(down):
        for column, of_column in enumerate(across):
            own = [
                i for i in places
                if (results.variants[i][settings.by], results.variants[i][settings.x]) == (of_row, of_column)
            ]  # fmt: skip
            values = _values(results, settings, own)
            grid[row, column] = np.mean(values) if values else np.nan
    image = ax.imshow(grid, cmap="viridis", aspect="auto", norm="log" if settings.log else "linear")
    middle = (np.nanmin(grid) + np.nanmax(grid)) / 2
    for (row, column), value in np.ndenumerate(grid):
        if not np.isnan(value):
            ax.text(column, row, f"{value:.3g}", ha="center", va="center", color="white" if value < middle else "black")
    ax.set_xticks(range(len(across)), across)
    ax.set_yticks(range(len(down)), down)
    ax.set_xlabel(settings.x)
    ax.set_ylabel(settings.by)
    ax.grid(visible=False)
    ax.figure.colorbar(image, ax=ax, label=settings.value.title)


def _box(results: Results, settings: FigureSettings, ax: Axes) -> None:
    by_variant = [(title_of(results.variants[i]), [i]) for i in results.chosen(settings.select)]
    groups = list(_groups(results, settings)) if settings.by is not None else by_variant
    shown = [(name, values) for name, places in groups if (values := _values(results, settings, places))]
    boxes = ax.boxplot(
        [values for _, values in shown], orientation="horizontal", patch_artist=True, widths=0.5,
        medianprops={"color": "black"}, flierprops={"marker": ""},
    )  # fmt: skip
    for row, (patch, color, (_, values)) in enumerate(zip(boxes["boxes"], cycle(PALETTE), shown), 1):
        patch.set(facecolor=color, alpha=0.4, edgecolor=color)
        ax.plot(values, np.linspace(row - 0.15, row + 0.15, len(values)), "o", color=color, markersize=4)
    ax.set_yticks(range(1, len(shown) + 1), [name for name, _ in shown])
    ax.invert_yaxis()
    ax.set_xlabel(settings.value.title)


def _scatter(results: Results, settings: FigureSettings, ax: Axes) -> None:
    assert settings.x is not None
    for (name, places), color, marker in zip(_groups(results, settings), cycle(PALETTE), cycle(_MARKERS)):
        pairs = [
            (number(across[seed]), number(up[seed]))
            for i in places
            for across, up in [(results.samples[settings.x][i], results.samples[settings.value.of][i])]
            for seed in up
        ]
        if pairs:
            x, y = np.array(pairs).T
            ax.scatter(x, y, color=color, marker=marker, label=name, alpha=0.8)
    ax.set_xlabel(settings.x)
    ax.set_ylabel(settings.value.title)
    _legend(ax, settings)


def _arrivals(results: Results, settings: FigureSettings, ax: Axes) -> None:
    for (name, places), color in zip(_groups(results, settings), cycle(PALETTE)):
        arrivals = [
            _arrival(value) for i in places for value in results.samples[settings.value.of][i].values()
            if not math.isnan(number(value))
        ]  # fmt: skip
        if not arrivals:
            continue
        found = curve(arrivals)
        at = np.array([0.0, *found.at])
        steps: dict[str, Any] = {"where": "post", "color": color}
        ax.step(at, 1 - np.array([1.0, *found.waiting]), label=name, **steps)
        low, high = 1 - np.array([1.0, *found.high]), 1 - np.array([1.0, *found.low])
        ax.fill_between(at, low, high, step="post", color=color, alpha=0.12, linewidth=0)
        ended = [arrival.at for arrival in arrivals if not arrival.reached]
        last = np.searchsorted(at, np.array(ended), side="right") - 1
        ax.plot(ended, 1 - np.array([1.0, *found.waiting])[last], "|", color=color, markersize=9)
    ax.set_ylim(0, 1.02)
    ax.set_xlabel(settings.value.title)
    ax.set_ylabel("share of runs that arrived")
    _legend(ax, settings)


def _arrival(value: Number) -> Arrival:
    return value if isinstance(value, Arrival) else Arrival(value, True)


def _ranks(results: Results, settings: FigureSettings, ax: Axes) -> None:
    """Draw the critical-difference diagram: mean ranks on an axis, and bars over those that can't be told apart."""
    names, blocks = rank_blocks(results, settings)
    if len(names) < 2 or not blocks:
        ax.text(0.5, 0.5, "ranks need two levels with runs of the same seeds", ha="center", transform=ax.transAxes)
        return
    found = friedman(blocks, smaller_is_better=settings.smaller_is_better)
    order = np.argsort(found.mean)
    ranks = np.array(found.mean)[order]
    for place, i in enumerate(order):
        ax.plot([ranks[place]] * 2, [0, -1 - place], color=GRAY, linewidth=1)
        ax.plot(ranks[place], 0, "o", color=PALETTE[0])
        ax.text(ranks[place], -1 - place, f" {names[i]} ({ranks[place]:.2f})", va="center")
    height = 0.4
    for place, rank in enumerate(ranks):
        last = int(np.searchsorted(ranks, rank + found.critical, side="right")) - 1
        if last > place and (place == 0 or ranks[last] - ranks[place - 1] > found.critical):
            ax.plot([rank - 0.03, ranks[last] + 0.03], [height, height], color="black", linewidth=4)
            height += 0.4
    ax.set_xlim(0.8, len(names) + 0.6)
    ax.set_ylim(-len(names) - 0.6, height + 0.2)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    p = "" if math.isnan(found.p) else f"; Friedman p = {found.p:.2g}"
    ax.set_xlabel(
        f"mean rank of {settings.value.title}, {len(blocks)} blocks; critical difference {found.critical:.2f}{p}"
    )


def rank_blocks(results: Results, settings: FigureSettings) -> tuple[list[str], list[list[float]]]:
    """Return the levels of `by`, and their values in each block: a seed with the same levels of all other factors."""
    assert settings.by is not None
    groups = dict(_groups(results, settings))
    blocks: dict[tuple[Any, ...], dict[str, float]] = {}
    for name, places in groups.items():
        for i in places:
            others = tuple(level for factor, level in results.variants[i].items() if factor != settings.by)
            for seed, value in results.samples[settings.value.of][i].items():
                blocks.setdefault((*others, seed), {})[name] = number(value)
    whole = [
        block for block in blocks.values() if len(block) == len(groups) and not any(map(math.isnan, block.values()))
    ]
    return list(groups), [[block[name] for name in groups] for block in whole]


def _label_x(ax: Axes, name: str, at: list[float], levels: list[str], numeric: bool) -> None:
    unit = levels[0].partition(" ")[2] if numeric else ""
    ax.set_xlabel(f"{name} ({unit})" if unit else name)
    if not numeric:
        ax.set_xticks(at, levels)


def _legend(ax: Axes, settings: FigureSettings) -> None:
    if settings.by is not None:
        ax.legend(title=settings.by, **LEGEND)


_DRAWN: dict[str, Callable[[Results, FigureSettings, Any], None]] = {
    "lines": _lines, "heatmap": _heatmap, "box": _box, "scatter": _scatter, "arrivals": _arrivals, "ranks": _ranks,
}  # fmt: skip
