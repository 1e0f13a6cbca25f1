"""Pictures of probed links: how long messages take on one, and what all of them do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from p2pl_async.report.drawing import GRAY, PALETTE, plain_axes

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

_MOST_LABELS = 24  # devices whose ids are all written at the axes


def delays(title: str, note: str, seconds: NDArray[np.float64]) -> Figure | None:
    """Draw a histogram of delays with their median, 90th and 99th percentile; None if there are none.

    Args:
        title: which link.
        note: the messages sent.
        seconds: the delays, shape (n,).
    """
    if not len(seconds):
        return None
    import numpy as np

    name, unit = next(((n, u) for n, u in (("s", 1.0), ("ms", 1e-3)) if np.median(seconds) >= u), ("µs", 1e-6))
    values = seconds / unit
    figure, ax = plain_axes(title, note)
    middle, spread = float(np.median(values)), float(np.ptp(values))
    limits = (values.min(), values.max()) if spread > 1e-3 * middle else (0.95 * middle, 1.05 * middle)
    ax.hist(values, bins=min(60, max(11, round(len(values) ** 0.5))), range=limits, color=PALETTE[0])
    low, high = ax.get_ylim()
    ax.set_ylim(low, high * 1.12)
    for share, height in ((50, 0.99), (90, 0.92), (99, 0.99)):
        at = float(np.percentile(values, share))
        ax.axvline(at, color=PALETTE[3], linewidth=1, linestyle="--")
        text = "median" if share == 50 else f"p{share}"
        ax.text(at, height, f" {text} {at:.3g}", transform=ax.get_xaxis_transform(), va="top", fontsize=9)
    ax.set_xlabel(f"delay from sending to arrival ({name})")
    ax.set_ylabel("messages")
    return figure


def matrix(title: str, note: str, n: int, values: Mapping[tuple[int, int], float], label: str) -> Figure:
    """Draw one number per link as a matrix: senders down, receivers across; no link is gray.

    Args:
        title: of the picture.
        note: of which scenario.
        n: number of devices.
        values: (sender, receiver) -> number.
        label: its name and unit.
    """
    import numpy as np

    table = np.full((n, n), np.nan)
    for (src, dst), value in values.items():
        table[src, dst] = value
    figure, ax = plain_axes(title, note, (6.4, 5.6))
    ax.grid(visible=False)
    from matplotlib import colormaps

    colors = colormaps["viridis_r"].with_extremes(bad="0.92")
    image = ax.imshow(table, cmap=colors, vmin=0, interpolation="nearest")
    figure.colorbar(image, ax=ax, pad=0.02, shrink=0.8).set_label(label)
    ax.set_xlabel("receiver")
    ax.set_ylabel("sender")
    if n <= _MOST_LABELS:
        ax.set_xticks(range(n))
        ax.set_yticks(range(n))
        ax.tick_params(labelsize=8, colors=GRAY)
    return figure
