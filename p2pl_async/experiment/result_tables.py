"""Result tables: a row for each device and a row for each link of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from p2pl_async.basics.arrays import Ints
from p2pl_async.experiment.influence import sample_weights
from p2pl_async.experiment.measures import ScoreLookup
from p2pl_async.experiment.rig import Rig
from p2pl_async.hardware.energy import STATES
from p2pl_async.hardware.meter import Meter
from p2pl_async.messages import DeviceId
from p2pl_async.results.table import (
    DELIVERY_COLUMNS,
    ENERGY_COLUMNS,
    LINK_COLUMNS,
    PLACE,
    RHYTHM_COLUMNS,
    WEIGHT_COLUMN,
    Table,
)
from p2pl_async.scenario.building.device_conditions import Rhythm


def device_table(rig: Rig, scores: ScoreLookup | None) -> Table:
    """Return the table `devices`: groups, places, samples by class, rounds, `scores`, energy."""
    world, dataset, folder = rig.world, rig.world.dataset, rig.plan.folder
    counts: Ints = np.zeros((len(rig.devices), 0), np.int64)
    if dataset is not None and dataset.labeled:
        from p2pl_async.learning.partition import count_matrix

        counts = count_matrix(dataset.y_train, rig.plan.parts, dataset.n_classes)
    columns = {"device": "int32", "group": "category", "x": "float64", "y": "float64", "n_samples": "int64"}
    columns |= {f"class_{c}": "int64" for c in range(counts.shape[1])}
    names = [] if rig.trainer is None else rig.trainer.names
    others = [name for name in names if name != "accuracy"]
    columns |= {"rounds": "int32", "accuracy": "float64", **dict.fromkeys(others, "float64")}
    counting = sample_weights(rig)
    if counting is not None:
        columns["sample_weight"] = "float64"
    if rig.meter is not None:
        columns |= dict.fromkeys(ENERGY_COLUMNS, "float64")
    rhythms = world.conditions.rhythms if rig.plan.out_neighbors is world.out_neighbors else []
    sleeps = any(rhythms)
    if sleeps:
        columns |= dict.fromkeys(RHYTHM_COLUMNS, "float64")
    waves = world.propagation
    units = {key: PLACE[key] if waves is not None else "side of the square" for key in ("x", "y")}
    table = Table(None if folder is None else folder.path / "devices", columns, units)
    known = len(rig.devices) == world.scenario.devices.count  # the device of a central baseline is none of them
    groups = world.scenario.devices.group_names() if known else [""] * len(rig.devices)
    for device in rig.devices:
        x, y = world.graph.nodes[device.id].get("pos", (math.nan, math.nan)) if known else (math.nan, math.nan)
        if known and waves is not None:
            x, y, _ = waves.motion.place(device.id, 0.0)[0]
        w = device.params
        got = {} if scores is None or w is None else {name: scores.score(name, device.id, w) for name in names}
        held, n_samples = counts[device.id].tolist(), 0 if dataset is None else len(rig.plan.parts[device.id])
        marks = [got.get(name, math.nan) for name in ("accuracy", *others)]
        marks += [] if counting is None else [float(counting[device.id])]
        energy = [] if rig.meter is None else _energy(rig.meter, device.id)
        rhythm = [*_rhythm(rhythms[device.id])] if sleeps else []
        more = [*held, device.round, *marks, *energy, *rhythm]
        table.add(device.id, groups[device.id], float(x), float(y), n_samples, *more)
    return table


def link_table(rig: Rig) -> Table:
    """Return the table `links`: messages by fate, air time, mean delay, first and last delivery; zeros where nothing
    was sent.
    """
    folder = rig.plan.folder
    paths = rig.emulation.transport.paths()
    causes = sorted({cause for path in paths for cause in path.causes or ()})
    columns = LINK_COLUMNS | DELIVERY_COLUMNS | {f"lost_{cause}": "int64" for cause in causes}
    averaged = any(device.mixes for device in rig.devices)
    if averaged:
        columns[WEIGHT_COLUMN] = "float64"
    table = Table(None if folder is None else folder.path / "links", columns)
    used = {(path.src, path.dst): path for path in paths}
    for src, targets in enumerate(rig.emulation.transport.out_neighbors):
        for dst in targets:
            hears = rig.devices[dst]
            weight = [hears.given.get(src, 0.0) / hears.mixes if hears.mixes else math.nan] if averaged else []
            path = used.get((src, dst))
            counts, times = [0, 0, 0, 0, 0, 0.0], [math.nan] * 3
            if path is not None:
                counts = [path.sent, path.delivered, path.lost, path.partial, path.acknowledged, path.air_seconds]
                times = [path.delay / path.delivered if path.delivered else math.nan, path.first, path.last]
            lost = path.causes if path is not None and path.causes is not None else {}
            table.add(src, dst, *counts, *times, *(lost.get(cause, 0) for cause in causes), *weight)
    return table


def _rhythm(rhythms: Sequence[Rhythm]) -> Rhythm:
    """Return the rhythm in which a radio wakes; nan if it never sleeps, or has several."""
    return rhythms[0] if len(rhythms) == 1 else Rhythm(math.nan, math.nan, math.nan)


def _energy(meter: Meter, device: DeviceId) -> list[float]:
    """Return the energy columns of a device; nan if it isn't measured."""
    ledger = meter.ledgers.get(device)
    if ledger is None:
        return [math.nan] * len(ENERGY_COLUMNS)
    drawn = ledger.joules()
    return [
        *(ledger.seconds[state] for state in STATES),
        ledger.cpu_seconds,
        *drawn.values(),
        sum(drawn.values()),
        meter.died.get(device, math.nan),
    ]
