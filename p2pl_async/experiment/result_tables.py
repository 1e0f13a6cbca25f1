"""Result tables: a row for each device and a row for each link of a run."""

from __future__ import annotations

import math

import numpy as np

from p2pl_async.basics.arrays import Ints
from p2pl_async.experiment.influence import sample_weights
from p2pl_async.experiment.measures import ScoreLookup
from p2pl_async.experiment.rig import Rig
from p2pl_async.hardware.energy import STATES
from p2pl_async.hardware.meter import Meter
from p2pl_async.messages import DeviceId
from p2pl_async.results.table import ENERGY_COLUMNS, LINK_COLUMNS, PLACE, Table


def device_table(rig: Rig, scores: ScoreLookup | None) -> Table:
    """Return the table `devices`: places, samples by class, rounds, accuracy, energy; `scores` gives the accuracy."""
    world, dataset, folder = rig.world, rig.world.dataset, rig.plan.folder
    counts: Ints = np.zeros((len(rig.devices), 0), np.int64)
    if dataset is not None and dataset.labeled:
        from p2pl_async.learning.partition import count_matrix

        counts = count_matrix(dataset.y_train, rig.plan.parts, dataset.n_classes)
    columns = {"device": "int32", "x": "float64", "y": "float64", "n_samples": "int64"}
    columns |= {f"class_{c}": "int64" for c in range(counts.shape[1])}
    names = [] if rig.trainer is None else rig.trainer.names
    others = [name for name in names if name != "accuracy"]
    columns |= {"rounds": "int32", "accuracy": "float64", **dict.fromkeys(others, "float64")}
    counting = sample_weights(rig)
    if counting is not None:
        columns["sample_weight"] = "float64"
    if rig.meter is not None:
        columns |= dict.fromkeys(ENERGY_COLUMNS, "float64")
    waves = world.propagation
    units = {key: PLACE[key] if waves is not None else "side of the square" for key in ("x", "y")}
    table = Table(None if folder is None else folder.path / "devices", columns, units)
    for device in rig.devices:
        x, y = world.graph.nodes[device.id].get("pos", (math.nan, math.nan))
        if waves is not None:
            x, y, _ = waves.motion.place(device.id, 0.0)[0]
        w = device.params
        got = {} if scores is None or w is None else {name: scores.score(name, device.id, w) for name in names}
        held, n_samples = counts[device.id].tolist(), 0 if dataset is None else len(rig.plan.parts[device.id])
        marks = [got.get(name, math.nan) for name in ("accuracy", *others)]
        marks += [] if counting is None else [float(counting[device.id])]
        energy = [] if rig.meter is None else _energy(rig.meter, device.id)
        table.add(device.id, float(x), float(y), n_samples, *held, device.round, *marks, *energy)
    return table


def link_table(rig: Rig) -> Table:
    """Return the table `links`: messages by fate, air time and mean delay; zeros where nothing was sent."""
    folder = rig.plan.folder
    table = Table(None if folder is None else folder.path / "links", LINK_COLUMNS)
    used = {(path.src, path.dst): path for path in rig.emulation.transport.paths()}
    for src, targets in enumerate(rig.emulation.transport.out_neighbors):
        for dst in targets:
            path = used.get((src, dst))
            if path is None:
                table.add(src, dst, 0, 0, 0, 0, 0, 0.0, math.nan)
            else:
                delay = path.delay / path.delivered if path.delivered else math.nan
                known = (path.partial, path.acknowledged, path.air_seconds)
                table.add(src, dst, path.sent, path.delivered, path.lost, *known, delay)
    return table


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
