"""Runs as an experiment would record them, made up: for the tests of what reads runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from p2pl_async.results.folder import RunFolder
from p2pl_async.results.run import Run
from p2pl_async.results.table import DEVICE_COLUMNS, LINK_COLUMNS, METRIC_COLUMNS, Table

Curve = NDArray[np.float64]


def recorded_run(
    path: Path | None = None,
    *,
    n: int = 20,
    seed: int = 1,
    learning: bool = True,
    graph: nx.Graph | None = None,
    baselines: bool = True,
    seconds: float = 120.0,
    target: float | None = 0.95,
) -> Run:
    """Return a run with bursty links, written to `path` if given; on a geometric graph by default."""
    random = np.random.default_rng(seed)
    if graph is None:
        radius = 1.6 * np.sqrt(np.log(n) / np.pi / n) if n > 1 else 1.0
        graph = nx.random_geometric_graph(n, radius, seed=seed)
    graph = graph.to_directed()
    n = len(graph)
    pos = nx.get_node_attributes(graph, "pos")
    folder = None if path is None else RunFolder(path, "synthetic", seed)
    if folder is not None:
        folder.begin('name = "synthetic"\n')

    times = np.linspace(0, seconds, 61)
    quality = random.beta(5, 1.2, graph.number_of_edges())
    sent = random.integers(200, 260, graph.number_of_edges())
    lost = random.binomial(sent, 1 - quality)
    links = Table(path and path / "links", LINK_COLUMNS)
    for (src, dst), s, lo in zip(sorted(graph.edges), sent.tolist(), lost.tolist(), strict=True):
        links.add(src, dst, s, s - lo, lo, 0, 0, 0.01 * s, 0.02 if s > lo else float("nan"))
    n_sent, n_lost = int(sent.sum()), int(lost.sum())
    causes = {"burst": n_lost * 7 // 10, "outage": n_lost // 10, "queue": n_lost - n_lost * 7 // 10 - n_lost // 10}
    in_flight = min(7, n_sent - n_lost)

    metrics = Table(path and path / "metrics", METRIC_COLUMNS)
    level = 0.965 + 0.012 * random.random(n)
    speed = 14 * random.lognormal(0, 0.35, n)
    accuracy = level - (level - 0.1) * np.exp(-times[:, None] / speed) + 0.006 * random.standard_normal((61, n))
    trained = accuracy - 0.25 * np.exp(-times[:, None] / 40) * random.random((61, n)) - 0.01
    total_bytes = n_sent * 81_000
    for i, now in enumerate(times.tolist()):
        share = now / seconds
        metrics.add(now, -1, "messages_sent", round(share * n_sent))
        metrics.add(now, -1, "messages_delivered", round(share * (n_sent - n_lost)) - in_flight * (i > 0))
        metrics.add(now, -1, "messages_lost", round(share * n_lost))
        for cause, count in causes.items():
            metrics.add(now, -1, f"lost_{cause}", round(share**1.3 * count))
        metrics.add(now, -1, "bytes_on_air", share * total_bytes)
        metrics.add(now, -1, "seconds_on_air", share * total_bytes * 8 / 2e6)
        metrics.add(now, -1, "energy_j", share * (total_bytes * 8 / 2e6 * 0.4 + n * 0.2 * seconds))
        if learning:
            metrics.add(now, -1, "consensus_distance", 12 * np.exp(-now / 15) + 0.4 * (1 + 0.1 * random.random()))
            for k in range(n):
                metrics.add(now, k, "accuracy", min(1.0, accuracy[i, k]))
                metrics.add(now, k, "accuracy_trained", min(1.0, trained[i, k]))

    counts = np.round(random.dirichlet(np.full(10, 0.3), n) * 70 * random.lognormal(0, 0.3, (n, 1))).astype(int)
    columns = {"device": "int32", "x": "float64", "y": "float64", "n_samples": "int64"}
    columns |= {f"class_{c}": "int64" for c in range(10)} if learning else {}
    columns |= {"rounds": "int32", "accuracy": "float64"}
    devices = Table(path and path / "devices", columns)
    for k in range(n):
        x, y = pos.get(k, (float("nan"), float("nan")))
        held = counts[k].tolist() if learning else []
        devices.add(k, x, y, sum(held), *held, 55 + k % 9, accuracy[-1, k] if learning else float("nan"))

    summary: dict[str, Any] = {
        "status": "complete",
        "error": None,
        "scenario": "synthetic",
        "protocol": "p2pl" if learning else "gossip",
        "seed": seed,
        "versions": {"python": "3.11.7"},
        "trace_digest": "3f2a9c" + 58 * "0",
        "virtual_seconds": seconds,
        "wall_seconds": 34.2,
        "wall": {"training": 24.1, "evaluation": 6.6, "other": 3.5},
        "stopped_by": "virtual time",
        "accuracy": spread(accuracy[-1]) if learning else None,
        "accuracy_trained": spread(trained[-1]) if learning else None,
        "target": (learning and target and target_reached(accuracy, times, target, total_bytes)) or None,
        "rounds": spread(np.array([55.0 + k % 9 for k in range(n)])),
        "messages": {
            "sent": n_sent, "delivered": n_sent - n_lost - in_flight, "in_flight": in_flight, "lost": causes,
            "duplicates": 0, "malformed": 0, "packets": 54 * n_sent, "packets_lost": 60 * n_lost,
            "payload_bytes": n_sent * 79_500, "bytes_on_air": total_bytes,
        },
        "staleness": {"rounds_mean": 0.41, "rounds_max": 5, "seconds_mean": 1.2, "seconds_max": 9.7},
        "sync": {"completed_s": 1.93, "agreed": True, "joined": 2, "messages": 1234, "payload_bytes": 98765},
        "consensus_distance": 0.43,
        "training": {"jobs": 60 * n, "batches": 60 * n // 15, "mean_batch": 15.2},
        "warnings": [],
        "baselines": {},
    }  # fmt: skip
    run = Run(summary=summary, metrics=metrics, devices=devices, links=links, path=path, scenario_text="")
    if baselines and learning:
        best, worst = np.full(1, 0.981), random.uniform(0.35, 0.72, n)
        for name, final, of in (("local", worst, seconds), ("central", best, 25.0)):
            run.baselines[name] = baseline(folder and folder.beside(name), name, final, of)
            summary["baselines"][name] = {key: run.baselines[name].summary[key] for key in ("accuracy", "messages")}
    for table in (metrics, devices, links):
        table.close()
    if folder is not None:
        folder.write_summary(summary)
    return run


def baseline(folder: RunFolder | None, name: str, final: Curve, seconds: float) -> Run:
    """Return a run without messages that ends at the `final` accuracy of each device."""
    path = None if folder is None else folder.path
    metrics = Table(path and path / "metrics", METRIC_COLUMNS)
    for now in np.linspace(0, seconds, 30).tolist():
        for k, level in enumerate(final.tolist()):
            metrics.add(now, k, "accuracy", level - (level - 0.1) * float(np.exp(-now / 6)))
    nothing = Table(path and path / "links", LINK_COLUMNS)
    devices = Table(path and path / "devices", DEVICE_COLUMNS)
    for k, level in enumerate(final.tolist()):
        devices.add(k, 0.0, 0.0, 100, 0, level)
    summary = {"status": "complete", "scenario": "synthetic", "seed": 1, "protocol": name, "accuracy": spread(final)}
    summary |= {"virtual_seconds": seconds, "messages": {"sent": 0, "bytes_on_air": 0}}
    for table in (metrics, nothing, devices):
        table.close()
    if folder is not None:
        folder.write_summary(summary)
    return Run(summary=summary, metrics=metrics, devices=devices, links=nothing, path=path)


def spread(values: Curve) -> dict[str, float]:
    return {"min": float(values.min()), "mean": float(values.mean()), "max": float(values.max())}


def target_reached(accuracy: Curve, times: Curve, target: float, total_bytes: float) -> dict[str, Any]:
    above = accuracy.min(axis=1) >= target
    reached = bool(above.any())
    now = float(times[above.argmax()]) if reached else None
    air = None if now is None else now / float(times[-1]) * total_bytes
    return {"accuracy": target, "of": "every_device", "reached": reached, "virtual_seconds": now, "bytes_on_air": air}
