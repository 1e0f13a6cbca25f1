"""What each device did when, for the timeline of a page: trainings, ends of rounds, times down, times without links."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from p2pl_async.report.page.content import Array, Content, parts

if TYPE_CHECKING:
    import pandas as pd

_SPANS = 200_000  # trainings in the timeline, and ends of rounds; of more, those closest to each other are one


def add_timeline(content: Content, metrics: pd.DataFrame, n: int, end: float) -> None:
    """Add when each device trained, finished rounds, was down, and heard nobody."""
    trained = metrics[metrics["metric"] == "training_s"].sort_values(["device", "time_s"], kind="stable")
    ends, device = trained["time_s"].to_numpy(), trained["device"].to_numpy()
    starts, ends, device = _joined(ends - trained["value"].to_numpy(), ends, device)
    content.arrays["train_from"] = parts(starts, end)
    content.arrays["train_to"] = parts(ends, end)
    content.arrays["train_first"] = _firsts(device, n)
    content.head["trainings"] = {"total": len(trained), "shown": len(starts)}
    rounds = metrics[metrics["metric"] == "round"].sort_values(["device", "time_s"], kind="stable")
    at, device, every = rounds["time_s"].to_numpy(), rounds["device"].to_numpy(), 1
    number = 1 + np.arange(len(device)) - np.searchsorted(device, device)
    while (number % every == 0).sum() > _SPANS:
        every *= 10
    content.head["round_every"] = every
    content.arrays["round_at"] = parts(at[number % every == 0], end)
    content.arrays["round_first"] = _firsts(device[number % every == 0], n)
    content.head["down"] = _down(metrics, end)
    deaf = metrics[metrics["metric"] == "deaf_s"].sort_values(["device", "time_s"], kind="stable")
    if len(deaf):
        content.arrays["deaf_from"] = parts((deaf["time_s"] - deaf["value"]).to_numpy(), end)
        content.arrays["deaf_to"] = parts(deaf["time_s"].to_numpy(), end)
        content.arrays["deaf_first"] = _firsts(deaf["device"].to_numpy(), n)


def _joined(starts: Array, ends: Array, device: Array) -> tuple[Array, Array, Array]:
    """Return spans, sorted by device; of too many, those with the shortest pauses between them are joined.

    A device keeps one span at least.
    """
    over = len(starts) - _SPANS
    if over <= 0:
        return starts, ends, device
    pauses = np.where(device[1:] == device[:-1], starts[1:] - ends[:-1], np.inf)
    begins = np.ones(len(starts), bool)
    begins[1 + np.argpartition(pauses, over - 1)[:over]] = False
    begins[1:] |= np.isinf(pauses)
    last = np.append(begins[1:], True)
    return starts[begins], ends[last], device[begins]


def _down(metrics: pd.DataFrame, end: float) -> list[tuple[int, float, float]]:
    """Return (device, from, to) of each time that a device was down, in seconds."""
    rows = metrics[metrics["metric"].isin(("crash", "up"))].sort_values(["device", "time_s"], kind="stable")
    found, since, last = [], 0.0, -1
    is_down = False
    for device, metric, at in zip(
        rows["device"].tolist(), rows["metric"].tolist(), rows["time_s"].tolist(), strict=True
    ):
        if device != last:
            if is_down:
                found.append((last, since, end))
            last, since, is_down = device, 0.0, metric == "up"
        if metric == "crash":
            since, is_down = at, True
        elif is_down:
            found.append((device, since, at))
            is_down = False
    if is_down:
        found.append((last, since, end))
    return found


def _firsts(devices: Array, n: int) -> Array:
    """Return where the rows of each device begin, and where the last ends, shape (n + 1,)."""
    return np.searchsorted(devices, np.arange(n + 1)).astype(np.uint32)
