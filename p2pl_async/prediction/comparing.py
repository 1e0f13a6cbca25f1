"""Comparisons: other topologies for the same devices, and the links that count most."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from p2pl_async.basics.arrays import Array
from p2pl_async.dynamics import spectrum
from p2pl_async.dynamics.failures import LossyMixing
from p2pl_async.errors import PredictionError
from p2pl_async.prediction.linearizing import mixing
from p2pl_async.prediction.measuring import round_seconds
from p2pl_async.prediction.predicting import Prediction, graph_of, predict_linearized
from p2pl_async.topology.base import TopologySettings
from p2pl_async.topology.random_graphs import RandomGeometric
from p2pl_async.topology.shapes import Complete, Ring, Star

if TYPE_CHECKING:
    import pandas as pd


_LOST = 0.1  # the loss of a link whose effect is reported
_SHARE = 0.95  # of the improvement of the scenario's own run: the target by default


@dataclass(frozen=True)
class Report:
    """Rounds and time to a target on several topologies, and the effect of each link.

    Attributes:
        target: test loss, or accuracy, that every device is to reach.
        of: "loss" or "accuracy".
        topologies: a row for each: topology, links, slem (second largest |eigenvalue| of W), rounds (NaN: not reached),
            seconds (virtual, until then), seconds_per_round, loss and accuracy of the worst device at the end.
        links: a row for each link that counts: src, dst, slope (of the dominant eigenvalue with the loss of that
            link), slower (relative growth of its time constant if a tenth of its messages gets lost);
            most harmful first. Empty if the modes aren't known.
        loss: the same for all links at once: rows p, eigenvalue, time_constant.
        notes: reasons for missing results, and limits of the figures.
    """

    target: float
    of: str
    topologies: pd.DataFrame
    links: pd.DataFrame
    loss: pd.DataFrame
    notes: list[str]


def compare(
    prediction: Prediction,
    *,
    target: float | None = None,
    topologies: Mapping[str, TopologySettings] | None = None,
    timed: bool = True,
) -> Report:
    """Return rounds and virtual time to a target error for several topologies, and which links count most.

    Args:
        prediction: of the scenario.
        target: accuracy that every device is to reach; by default that of `stop.accuracy`, else
            the test loss at which the scenario's own run has made 95 % of its improvement.
        topologies: by name; cycle, star, complete and random geometric by default, beside the scenario's own.
        timed: emulate some rounds of each topology to time them; if not, times are NaN.
    """
    import pandas as pd

    scenario, world = prediction.scenario, prediction.world
    goal, of = _target(prediction, target)
    n = scenario.devices.count
    notes = [
        "rounds and errors are those of the linearized model"
        + (", exact here: the model is affine" if prediction.exact else "; with a finite width they are approximate")
    ]
    own = f"{getattr(scenario.topology, 'kind', 'own')} (scenario)"
    candidates: dict[str, TopologySettings] = {own: scenario.topology}
    candidates |= _usual(n) if topologies is None else topologies
    rows: list[dict[str, Any]] = []
    for name, topology in candidates.items():
        try:
            graph = world.graph if name == own else graph_of(scenario, topology)
            same = name != own and set(graph.edges) == set(world.graph.edges)
            if same:
                continue
            matrix = mixing(world, graph, prediction.method)
            found = (
                prediction
                if name == own
                else predict_linearized(
                    world, prediction.linearized, prediction.method, matrix, list(prediction.rounds), prediction.time
                )
            )
        except (PredictionError, ValueError) as error:
            notes.append(f"{name}: {error}")
            continue
        rounds = _reached(found, goal, of)
        start, each = (math.nan, math.nan)
        if timed:
            start, each = round_seconds(scenario.model_copy(update={"topology": topology}))
        rows.append(
            {
                "topology": name,
                "links": graph.number_of_edges(),
                "slem": slem(matrix.mean),
                "rounds": rounds,
                "seconds": start + rounds * each,
                "seconds_per_round": each,
                "loss": float(found.loss[-1].max()),
                "accuracy": float(found.accuracy[-1].min()),
            }
        )
    links, loss = _links(prediction, notes)
    return Report(goal, of, pd.DataFrame(rows), links, loss, notes)


def slem(matrix: Array) -> float:
    """Return the second largest absolute eigenvalue of a mixing matrix; 0 for one device."""
    sizes = np.sort(np.abs(np.linalg.eigvals(matrix)))
    return float(sizes[-2]) if len(sizes) > 1 else 0.0


def _usual(n: int) -> dict[str, TopologySettings]:
    """Return the topologies to compare with; at the radius chosen, random places are just connected."""
    radius = min(1.5, math.sqrt(2 * math.log(max(n, 2)) / (math.pi * n)) + 0.1)
    return {
        "ring": Ring(),
        "star": Star(),
        "complete": Complete(),
        "random-geometric": RandomGeometric(radius=round(radius, 2)),
    }


def _target(prediction: Prediction, target: float | None) -> tuple[float, str]:
    asked = prediction.scenario.stop.accuracy
    if target is None and asked is not None:
        target = asked.every_device if asked.every_device is not None else asked.mean
    if target is not None:
        return target, "accuracy"
    worst = prediction.loss.max(1)
    return float(worst[0] - _SHARE * (worst[0] - worst.min())), "loss"


def _reached(prediction: Prediction, goal: float, of: str) -> float:
    """Return the first recorded round at which every device has reached the goal, between rounds by a straight line."""
    if of == "accuracy":
        done = prediction.accuracy.min(1) >= goal
        return float(prediction.rounds[np.argmax(done)]) if done.any() else math.nan
    worst = prediction.loss.max(1)
    done = worst <= goal
    if not done.any():
        return math.nan
    i = int(np.argmax(done))
    if i == 0:
        return float(prediction.rounds[0])
    share = (worst[i - 1] - goal) / (worst[i - 1] - worst[i])
    return float(math.ceil(prediction.rounds[i - 1] + share * (prediction.rounds[i] - prediction.rounds[i - 1])))


def _links(prediction: Prediction, notes: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the effect of lost messages on the dominant mode: link by link, and on all links at once."""
    import pandas as pd

    none = pd.DataFrame(columns=["src", "dst", "slope", "slower"]), pd.DataFrame(columns=["p", "eigenvalue"])
    try:
        modes = prediction.modes
    except PredictionError as error:
        notes.append(f"links: {error}")
        return none
    index = modes.dominant()
    value = float(modes.values[index])
    notes.append(
        f"links: effect on the slowest mode that holds at least 1 % of the loss ({100 * modes.share[index]:.2g} %); "
        f"it falls to 1/e in {modes.time_constants[index]:.4g} rounds"
    )
    if not prediction.exact:
        notes.append(f"links: modes of the {prediction.reduced.shape[1]} strongest features of the kernel")
    slope = spectrum.sensitivity(modes, prediction.reduced, index)
    weights = prediction.mixing.weights
    whole = LossyMixing(weights, np.zeros_like(weights), on_missing=prediction.method.on_missing)
    slower = -1 / (value * math.log(value)) if 0 < value < 1 else math.nan  # d log(time constant) / d eigenvalue
    rows = []
    for dst, src in zip(*np.nonzero(whole.links), strict=True):
        change = float((slope * whole.slopes(int(dst), int(src))).sum())
        rows.append({"src": int(src), "dst": int(dst), "slope": change, "slower": slower * change * _LOST})
    links = pd.DataFrame(rows).sort_values("slope", ascending=False, kind="stable", ignore_index=True)
    levels = []
    for p in (0.0, 0.1, 0.2, 0.3, 0.5):
        lossy = LossyMixing(weights, np.full_like(weights, p), on_missing=prediction.method.on_missing)
        try:
            there = spectrum.modes(prediction.reduced, modes.rule, lossy.mean, modes.eta)
        except PredictionError:
            continue
        # The same mode is the one whose eigenvector is most similar.
        likeness = np.abs(there.right.reshape(len(there.values), -1) @ modes.left[index].ravel())
        near = int(np.argmax(likeness / np.linalg.norm(there.right.reshape(len(there.values), -1), axis=1)))
        levels.append({"p": p, "eigenvalue": there.values[near], "time_constant": there.time_constants[near]})
    return links, pd.DataFrame(levels)
