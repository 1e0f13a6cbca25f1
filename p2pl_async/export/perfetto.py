"""A run as trace events, for ui.perfetto.dev or chrome://tracing: a process per device, with tracks and counters.

    training   a slice for each training
    sending    a slice for each message, as long as it takes on air; its flow arrow leads to the receiver
    receiving  an instant for each arrival
    counters   accuracy, loss, and what else devices measure at evaluations; messages that queue or are under way

Format: "Trace Event Format" of the Chromium project, as JSON, gzipped. Instants are in microseconds of virtual time.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from p2pl_async.results.run import Run
from p2pl_async.results.table import writing

_TRAINING, _SENDING, _RECEIVING = 1, 2, 3  # tracks of a device
_TRACKS = {_TRAINING: "training", _SENDING: "sending", _RECEIVING: "receiving"}
_COUNTERS = ("loss", "push_weight", "neighbors_mixed")
_UNDER_WAY = "messages under way"
_US = 1e6

Event = dict[str, Any]


def write_perfetto(run: Run, path: Path) -> Path:
    """Write a run as gzipped trace events, and return the path.

    Raises:
        ScenarioError: if the file can't be written.
    """
    with writing(path), gzip.open(path, "wt", encoding="utf-8", compresslevel=6) as file:
        file.write('{"displayTimeUnit":"ms","traceEvents":[\n')
        for index, event in enumerate(_events(run)):
            file.write(("" if index == 0 else ",\n") + json.dumps(event, separators=(",", ":"), allow_nan=False))
        file.write("\n]}\n")
    return path


def _events(run: Run) -> Iterator[Event]:
    """Yield all events of a run."""
    for device in run.devices["device"].tolist():
        yield _meta(device, "process_name", f"device {device}")
        yield {"ph": "M", "name": "process_sort_index", "pid": device, "args": {"sort_index": device}}
        for track, name in _TRACKS.items():
            yield _meta(device, "thread_name", name, track)
    yield from _measured(run)
    yield from _sent(run)
    yield from _under_way(run)


def _meta(device: int, what: str, name: str, track: int = 0) -> Event:
    return {"ph": "M", "name": what, "pid": device, "tid": track, "args": {"name": name}}


def _measured(run: Run) -> Iterator[Event]:
    """Yield trainings, ends of rounds, crashes and counters."""
    metrics = run.metrics
    of_devices = metrics[metrics["device"] >= 0]
    counters = {*_COUNTERS, run.summary.get("metric") or "accuracy"}
    columns = [of_devices[name].tolist() for name in ("time_s", "device", "metric", "value")]
    for at, device, metric, value in zip(*columns, strict=True):
        if not math.isfinite(value):
            continue
        if metric == "training_s":
            yield {
                "ph": "X", "name": "training", "pid": device, "tid": _TRAINING, "ts": (at - value) * _US,
                "dur": value * _US,
            }  # fmt: skip
        elif metric == "round":
            name = f"round {value:.0f} ends"
            yield {"ph": "i", "s": "t", "name": name, "pid": device, "tid": _TRAINING, "ts": at * _US}
        elif metric in ("crash", "up"):
            yield {"ph": "i", "s": "p", "name": metric, "pid": device, "tid": _TRAINING, "ts": at * _US}
        elif metric in counters:
            yield {"ph": "C", "name": metric, "pid": device, "ts": at * _US, "args": {metric: value}}


def _sent(run: Run) -> Iterator[Event]:
    """Yield messages: a slice at the sender, an arrow, and an instant at the receiver."""
    trace = run.trace
    if trace is None:
        return
    names = ("sent_s", "src", "dst", "number", "kind", "size_bytes", "air_s", "arrival_s", "fate")
    mixed = run.first_mixed(trace)
    columns = [*(trace[name].tolist() for name in names), [math.nan] * len(trace) if mixed is None else mixed.tolist()]
    for index, row in enumerate(zip(*columns, strict=True)):
        sent, src, dst, number, kind, size, air, arrival, fate, entered = row
        about = {"to": dst, "number": number, "bytes": size, "fate": fate}
        if math.isfinite(entered):
            about["entered the model after (s)"] = entered - sent
        yield {
            "ph": "X", "name": kind, "cat": "message", "pid": src, "tid": _SENDING, "ts": sent * _US, "dur": air * _US,
            "args": about,
        }  # fmt: skip
        if not math.isfinite(arrival):
            continue
        flow = {"cat": "message", "name": kind, "id": index}
        yield {"ph": "s", **flow, "pid": src, "tid": _SENDING, "ts": sent * _US}
        yield {"ph": "X", **flow, "pid": dst, "tid": _RECEIVING, "ts": arrival * _US, "dur": 0, "args": {"from": src}}
        yield {"ph": "f", "bp": "e", **flow, "pid": dst, "tid": _RECEIVING, "ts": arrival * _US}


def _under_way(run: Run) -> Iterator[Event]:
    """Yield for each device, at each change, how many of its messages queue or are under way."""
    trace = run.trace
    if trace is None:
        return
    sent, arrival = trace["sent_s"].to_numpy(), trace["arrival_s"].to_numpy()
    gone = np.where(np.isfinite(arrival), arrival, sent + np.nan_to_num(trace["air_s"].to_numpy()))
    at, src = np.concatenate([sent, gone]), np.tile(trace["src"].to_numpy(), 2)
    change = np.repeat([1, -1], len(sent))
    order = np.lexsort((at, src))
    at, src, counts = at[order], src[order], np.cumsum(change[order])  # those of a device sum to 0
    last = np.append((at[1:] != at[:-1]) | (src[1:] != src[:-1]), True)[: len(at)]
    for time, device, count in zip(at[last].tolist(), src[last].tolist(), counts[last].tolist(), strict=True):
        yield {"ph": "C", "name": _UNDER_WAY, "pid": device, "ts": time * _US, "args": {"messages": count}}
