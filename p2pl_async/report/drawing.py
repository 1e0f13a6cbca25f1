"""The look of all plots, and saving them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2pl_async.results.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito, "Color Universal Design": told apart by color-blind readers.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#F0E442")
GRAY = "#6b6b6b"
LEGEND: dict[str, Any] = {"frameon": False, "fontsize": 9}
_DPI = 150
_COMPRESSED = 3  # of 9: half the time of 6, which is usual, and files 6 % larger


def axes(run: Run, title: str, size: tuple[float, float] = (7.0, 4.2)) -> tuple[Figure, Axes]:
    """Return a new figure and its axes, with a title and the name of the run.

    Args:
        run: the run shown.
        title: of the plot.
        size: width and height in inches.
    """
    return plain_axes(title, f"{run.summary.get('scenario')}, seed {run.summary.get('seed')}", size)


def plain_axes(title: str, note: str, size: tuple[float, float] = (7.0, 4.2)) -> tuple[Figure, Axes]:
    """Return a new figure and its axes, with a title on the left and a note on the right."""
    # The object interface: pyplot would keep figures in a global list and ask for a window system.
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
    ax = figure.add_subplot()
    # y as it is by default, but said: else each drawing looks for ticks above the axes, a fifth of all its time.
    ax.set_title(title, loc="left", y=1.0, fontsize=11, fontweight="bold")
    ax.set_title(note, loc="right", y=1.0, fontsize=9, color=GRAY)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    ax.grid(color="0.9", linewidth=0.8)
    ax.set_axisbelow(True)
    return figure, ax


def save(figure: Figure, path: Path) -> list[Path]:
    """Write a figure as `path.png` and `path.svg`; the same figure gives the same bytes."""
    import matplotlib

    png, svg = path.with_suffix(".png"), path.with_suffix(".svg")
    layout = figure.get_layout_engine()
    if layout is not None:
        # `savefig` would draw everything once more for it, each time.
        layout.execute(figure)
        figure.set_layout_engine("none")
    figure.savefig(png, dpi=_DPI, pil_kwargs={"compress_level": _COMPRESSED})
    with matplotlib.rc_context({"svg.hashsalt": "p2pl_async"}):  # ids in the file come from it
        figure.savefig(svg, dpi=_DPI, metadata={"Date": None})
    return [png, svg]


def write_many(ax: Axes, texts: Iterable[tuple[float, float, str, str]], fontsize: float, zorder: float = 3) -> None:
    """Write many short texts, each centered where it is.

    They are markers: the outline of each text is made once. As texts of matplotlib, each of which is laid out anew
    whenever it is drawn, the numbers in the cells of 20 devices took a third of the time of all plots of a run.

    Args:
        ax: where to.
        texts: x, y, text and color of each, in units of the axes.
        fontsize: in points.
        zorder: what is higher lies above.
    """
    import numpy as np
    from matplotlib.path import Path as Outline
    from matplotlib.textpath import TextPath

    places: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for x, y, text, color in texts:
        places[text, color].append((x, y))
    outlines: dict[str, Outline] = {}
    for (text, color), where in places.items():
        if text not in outlines:
            path = TextPath((0, 0), text, size=fontsize)
            middle = (path.vertices.min(0) + path.vertices.max(0)) / 2
            outlines[text] = Outline(path.vertices - middle, path.codes)
        outline = outlines[text]
        points = 2 * float(np.abs(outline.vertices).max())  # a marker is scaled to its size
        ax.plot(
            *zip(*where, strict=True), linestyle="", marker=outline, markersize=points, color=color, zorder=zorder,
            markeredgewidth=0, scalex=False, scaley=False, clip_on=False,
        )  # fmt: skip


def percent_axis(ax: Axes, name: str) -> None:
    """Label the y axis as percent, and end it at 100 where values come near."""
    ax.set_ylabel(f"{name} (%)")
    low, high = ax.get_ylim()
    ax.set_ylim(max(0.0, low), 100.5 if high > 95 else high)


def time_unit(longest: float) -> tuple[str, float]:
    """Return the unit to show times up to `longest` seconds in, and its seconds."""
    return next(((name, unit) for name, unit in (("h", 3600.0), ("min", 60.0)) if longest >= 3 * unit), ("s", 1.0))


def joules_unit(most: float) -> tuple[str, float]:
    """Return the unit to show energies up to `most` joules in, and its joules."""
    units = (("MJ", 1e6), ("kJ", 1e3), ("J", 1.0))
    return next(((name, unit) for name, unit in units if most >= 2 * unit), ("mJ", 1e-3))


def bytes_unit(most: float) -> tuple[str, float]:
    """Return the unit to show sizes up to `most` bytes in, and its bytes."""
    units = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3))
    return next(((name, unit) for name, unit in units if most >= 2 * unit), ("B", 1.0))
