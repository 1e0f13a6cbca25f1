"""Pictures of what a run ran on: its topology with the quality of links, and who holds which data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from p2pl_async.report.drawing import GRAY, axes, write_many
from p2pl_async.report.layout import places
from p2pl_async.results.run import Run

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

_LOST = ("#5c0011", "#c8401a", "#f0a04b", "#c3ccd6")  # 0 % to 100 % delivered; darker is worse, also in gray
_MOST_LINKS = 20_000  # drawn; of more, some are chosen at random
_MOST_ARROWS = 500  # above, a link is half a line
_MOST_LABELS = 60


def topology(run: Run) -> Figure | None:
    """Draw devices and links: each direction on its own, colored by the share of messages delivered."""
    links, devices = run.links, run.devices
    if devices.empty or links.empty:
        return None
    import numpy as np
    from matplotlib.colors import LinearSegmentedColormap

    n = len(devices)
    where = places(devices, links)
    shown = links
    if len(links) > _MOST_LINKS:
        shown = links.iloc[np.sort(np.random.default_rng(0).choice(len(links), _MOST_LINKS, replace=False))]
    decided = (shown["delivered"] + shown["lost"]).to_numpy(float)
    share = (
        np.divide(shown["delivered"].to_numpy(float), decided, out=np.full(len(shown), np.nan), where=decided > 0) * 100
    )
    order = np.argsort(-np.nan_to_num(share, nan=101.0), kind="stable")  # the worst on top
    src, dst, share = shown["src"].to_numpy()[order], shown["dst"].to_numpy()[order], share[order]

    figure, ax = axes(run, "links", size=(7.2, 6.2))
    ax.set_axis_off()
    ax.set_aspect("equal")
    ax.margins(0.05)
    colors = LinearSegmentedColormap.from_list("delivered", _LOST).with_extremes(bad="0.9")  # nothing was sent
    draw = _arrows if len(shown) <= _MOST_ARROWS else _halves
    drawn = draw(ax, where, src, dst, share, colors)
    if np.isfinite(share).any():
        _bar(figure, ax, drawn, 0.53, "messages delivered on the link (%)")
    _draw_devices(figure, ax, devices, where)
    note = "" if len(shown) == len(links) else f"; {len(shown):,} drawn"
    half = "" if draw is _arrows else "; half a line is the link from the device at its end"
    figure.supxlabel(f"{n:,} devices, {len(links):,} links{note}{half}", x=0.02, ha="left", fontsize=9, color=GRAY)
    return figure


def samples(run: Run) -> Figure | None:
    """Draw how many training samples of each class each device has."""
    classes = [name for name in run.devices.columns if name.startswith("class_")]
    if not classes or run.devices.empty:
        return None
    counts = run.devices[classes].to_numpy(float)
    n, n_classes = counts.shape
    figure, ax = axes(
        run, "training samples", size=(max(5.5, min(9.0, 3 + 0.4 * n_classes)), max(3.2, min(7.0, 1.5 + 0.25 * n)))
    )
    ax.grid(visible=False)
    image = ax.imshow(counts, aspect="auto", cmap="Blues", vmin=0, interpolation="nearest")
    bar = figure.colorbar(image, ax=ax, pad=0.02)
    bar.set_label("samples")
    ax.set_xlabel("class")
    ax.set_ylabel("device")
    if n_classes <= 20:
        ax.set_xticks(range(n_classes), [name.removeprefix("class_") for name in classes])
    if n <= 20:
        ax.set_yticks(range(n), [str(device) for device in run.devices["device"]])
        if n_classes <= 20:
            dark = counts.max() / 2
            texts = (
                (column, row, f"{count:.0f}", "white" if count > dark else "black")
                for (row, column), count in _cells(counts)
            )
            write_many(ax, texts, fontsize=8)
    return figure


def _bar(figure: Figure, ax: Axes, drawn: Any, bottom: float, label: str) -> None:
    """Draw a color bar beside the axes, half as high, from `bottom` (a share of the height) up."""
    figure.colorbar(drawn, cax=ax.inset_axes((1.02, bottom, 0.03, 0.44)), label=label)


def _cells(counts: NDArray[np.float64]) -> list[tuple[tuple[int, int], float]]:
    """Return the cells that hold something, as ((row, column), count)."""
    return [((row, column), counts[row, column]) for row, column in zip(*counts.nonzero(), strict=True)]


def _arrows(ax: Axes, where: NDArray[np.float64], src: Any, dst: Any, share: Any, colors: Any) -> Any:
    """Draw each link as an arrow, a little to the right of the straight line, so that both directions show."""
    import numpy as np

    along = where[dst] - where[src]
    length = np.hypot(*along.T)[:, None]
    unit = np.divide(along, length, out=np.zeros_like(along), where=length > 0)
    span = float(np.ptp(where, axis=0).max()) or 1.0
    beside = 0.006 * span * np.column_stack([unit[:, 1], -unit[:, 0]])
    room = np.minimum(0.02 * span, 0.2 * length) * unit  # for the devices at both ends
    start, along = where[src] + beside + room, along - 2 * room
    return ax.quiver(
        *start.T, *along.T, np.ma.masked_invalid(share), cmap=colors, clim=(0, 100), angles="xy", scale_units="xy",
        scale=1, units="inches", width=0.018, headwidth=5, headlength=6, headaxislength=5.5, minlength=0, zorder=2,
    )  # fmt: skip


def _halves(ax: Axes, where: NDArray[np.float64], src: Any, dst: Any, share: Any, colors: Any) -> Any:
    """Draw each link as the half of a line on the side of its sender."""
    import numpy as np
    from matplotlib.collections import LineCollection

    middle = (where[src] + where[dst]) / 2
    width = float(np.clip(40 / np.sqrt(len(src)), 0.25, 1.4))
    lines = LineCollection(list(np.stack([where[src], middle], axis=1)), cmap=colors, linewidths=width, zorder=2)
    lines.set_array(np.ma.masked_invalid(share))
    lines.set_clim(0, 100)
    lines.set_rasterized(True)  # in an SVG, thousands of lines would weigh megabytes
    ax.add_collection(lines)
    return lines


def _draw_devices(figure: Figure, ax: Axes, devices: pd.DataFrame, where: NDArray[np.float64]) -> None:
    """Draw devices, colored by accuracy where there is one and sized by samples where they have some."""
    import numpy as np

    n = len(devices)
    size: Any = 260 if n <= _MOST_LABELS else float(np.clip(6000 / n, 8, 60))
    held = devices["n_samples"].to_numpy(float)
    if held.max() > held.min():
        size = size * np.clip(held / held.mean(), 0.35, 3)
    accuracy = devices["accuracy"].to_numpy(float) * 100
    known = np.isfinite(accuracy).any()
    color: Any = np.ma.masked_invalid(accuracy) if known else GRAY
    x, y = where.T
    look: dict[str, Any] = {
        "edgecolors": "white",
        "linewidths": 0.8 if n <= _MOST_ARROWS else 0.2,
        "zorder": 3,
        "rasterized": n > _MOST_ARROWS,
    }
    dots = ax.scatter(x, y, s=size, c=color, cmap="viridis" if known else None, **look)
    if known:
        _bar(figure, ax, dots, 0.03, "accuracy of the device (%)")
    if n <= _MOST_LABELS:
        middle = float(np.nanmean([np.nanmin(accuracy), np.nanmax(accuracy)])) if known else np.inf
        texts = (
            (x, y, str(device), "black" if known and level > middle else "white")
            for (x, y), device, level in zip(where, devices["device"], accuracy, strict=True)
        )
        write_many(ax, texts, fontsize=7, zorder=4)
