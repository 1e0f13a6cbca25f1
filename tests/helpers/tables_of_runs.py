"""A small run put together from tables, in which nothing is wrong; tests change what they are about."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from p2pl_async.results.run import Run

N, END = 6, 100.0


def small_run(**changes: Any) -> Run:
    """Return a run of six devices on a ring, 100 s long, with these tables or this summary instead of its own."""
    summary: dict[str, Any] = {
        "status": "complete", "scenario": "small", "seed": 3, "protocol": "p2pl", "virtual_seconds": END,
        "accuracy": {"min": 0.9, "mean": 0.9, "max": 0.9},
        "messages": {"sent": 240, "delivered": 228, "lost": {"loss": 12}},
        "trace_digest": "ab" * 32, "baselines": {},
    }  # fmt: skip
    tables = {"metrics": metrics(), "devices": devices(), "links": links(), "trace": trace()}
    return Run(**tables | {"summary": summary | changes.pop("summary", {})} | changes)


def devices(**columns: Any) -> pd.DataFrame:
    """Return the table of devices; all are alike."""
    angle = 2 * np.pi * np.arange(N) / N
    table = {
        "device": range(N), "x": np.cos(angle), "y": np.sin(angle), "n_samples": 50, "class_0": 25, "class_1": 25,
        "rounds": 20, "accuracy": 0.9,
    }  # fmt: skip
    return pd.DataFrame(table | columns)


def links() -> pd.DataFrame:
    """Return the table of links: both ways around a ring, a twentieth lost."""
    src = np.repeat(np.arange(N), 2)
    return pd.DataFrame(
        {
            "src": src, "dst": (src + np.tile([1, -1], N)) % N, "sent": 20, "delivered": 19, "lost": 1, "partial": 0,
            "acknowledged": 0, "air_s": 0.5, "mean_delay_s": 0.25,
        }
    )  # fmt: skip


def metrics(*more: tuple[float, int, str, float]) -> pd.DataFrame:
    """Return the table of metrics: rounds of 5 s, of which 4 s are training; `more` rows are added."""
    rows: list[tuple[float, int, str, float]] = []
    for at in np.arange(5.0, END + 1, 5.0).tolist():
        for k in range(N):
            rows += [
                (at - 1, k, "training_s", 4.0), (at, k, "neighbors_mixed", 2.0), (at, k, "staleness_rounds", 1.0),
                (at, k, "round", at / 5), (at, k, "accuracy", 0.9 * at / END),
            ]  # fmt: skip
        rows.append((at, -1, "messages_delivered", 2.28 * at))
        rows.append((at, -1, "bytes_on_air", 1000.0 * at))
    return pd.DataFrame([*rows, *more], columns=["time_s", "device", "metric", "value"])


def trace() -> pd.DataFrame:
    """Return the trace: every device sends both ways every 5 s; each twentieth message is lost."""
    rows = [
        (5.0 * turn + 0.01 * k, k, (k + side) % N, turn, turn + 20 * k + 3 * side)
        for turn in range(20)
        for k in range(N)
        for side in (1, -1)
    ]
    sent, src, dst, number, count = (np.array(column) for column in zip(*rows, strict=True))
    lost = count % 20 == 7
    return pd.DataFrame(
        {
            "sent_s": sent, "src": src, "dst": dst, "number": number, "kind": "params", "size_bytes": 1000,
            "packets": 1, "packets_lost": lost.astype(int), "air_bytes": 1000, "air_s": 0.2, "acknowledged": False,
            "arrival_s": np.where(lost, np.nan, sent + 0.25), "fate": np.where(lost, "loss", "delivered"),
            "copy_s": np.nan,
        }
    )  # fmt: skip


def mixes() -> pd.DataFrame:
    """Return the table of mixes: of the messages that arrive, each enters the receiver's model when its round ends."""
    came = trace()
    came = came[came["fate"] == "delivered"]
    ends = np.ceil(came["arrival_s"] / 5) * 5
    table = {"time_s": ends, "device": came["dst"], "src": came["src"], "number": came["number"]}
    return pd.DataFrame(table).sort_values("time_s", kind="stable").reset_index(drop=True)
