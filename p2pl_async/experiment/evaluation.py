"""Evaluation: how often models are tested while a run goes, what is measured, and whether the target is reached.

Evaluation takes no virtual time and changes nothing. It uses a fixed part of the test data while a
run goes and all of it at the end. An accuracy that ends a run is confirmed on all test data first.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np

from p2pl_async.experiment.measures import ScoreLookup, consensus_distance, spread
from p2pl_async.experiment.rig import Rig
from p2pl_async.messages import DeviceId, Vector
from p2pl_async.results.metrics import COSTS
from p2pl_async.scenario.tables import Stop

WHOLE_RUN = -1  # the device of metrics that belong to none
_MOST_EVALUATIONS = 200  # of `evaluate.every = "auto"`, when the end of the run is known


class Evaluation:
    """Looks at a run from outside, as often as its scenario asks for.

    Args:
        rig: of the run.

    Attributes:
        seconds: wall time spent.
        accuracy: least, mean and greatest accuracy over devices at the last look; None before any.
        reached: the costs up to the instant at which the target was reached; None if it isn't.
    """

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._stop = rig.plan.stop
        self.seconds = 0.0
        self.accuracy: tuple[float, float, float] | None = None
        self.reached: dict[str, float] | None = None

    def interval(self) -> float:
        """Return the virtual time between two evaluations."""
        rig, stop = self._rig, self._stop
        every = rig.plan.interval or rig.world.scenario.evaluate.every
        if every is not None:
            return every
        least = 0.0 if stop.virtual_time is None else stop.virtual_time / _MOST_EVALUATIONS
        if rig.times is None:
            return least or 1.0
        # Evaluating as often as training would take as long as training.
        epochs = 2.0 * (getattr(rig.plan.protocol, "epochs", None) or 1)
        if stop.rounds is not None:
            epochs *= max(1.0, stop.rounds / _MOST_EVALUATIONS)
        return max(least, rig.times.typical_epoch() * epochs) or 1.0

    def measure_network(self) -> None:
        """Record the network's counters and the energy up to now."""
        rig = self._rig
        if rig.meter is not None:
            rig.meter.settle()
        for metric, value in _totals(rig):
            rig.recording.record(WHOLE_RUN, metric, value)

    def measure_models(self) -> None:
        """Record how good the models are and how far apart; find out whether the target is reached."""
        started = time.perf_counter()
        self._measure_models()
        self.seconds += time.perf_counter() - started

    def final_scores(self) -> ScoreLookup | None:
        """Return the scores of all models on all test data; None if there are none.

        A target that they attain is reached, also if no look while the run went has found it.
        """
        rig = self._rig
        models = [(device.id, w) for device in rig.devices for w in (device.params, device.trained) if w is not None]
        if not models or rig.trainer is None:
            return None
        started = time.perf_counter()
        scores = ScoreLookup(rig.trainer, models, "test")
        final = [scores.accuracy(device.id, device.params) for device in rig.present if device.params is not None]
        if self._stop.accuracy is not None and self.reached is None and len(final) == len(rig.present):
            of, target = target_of(self._stop)
            if (min(final) if of == "every_device" else sum(final) / len(final)) >= target:
                self._reach()
        self.seconds += time.perf_counter() - started
        return scores

    def _measure_models(self) -> None:
        rig, record = self._rig, self._rig.recording.record
        mixed = {device.id: device.params for device in rig.present if device.params is not None}
        if not mixed:
            return
        record(WHOLE_RUN, "consensus_distance", consensus_distance(list(mixed.values())))
        if rig.trainer is None:
            return
        trained = {
            device.id: device.trained
            for device in rig.present
            if device.trained is not None and device.trained is not device.params
        }
        scores = ScoreLookup(rig.trainer, [*mixed.items(), *trained.items()], "subset")
        for device, w in mixed.items():
            record(device, "accuracy", scores.accuracy(device, w))
            record(device, "loss", scores.loss(device, w))
        for device, w in trained.items():
            record(device, "accuracy_trained", scores.accuracy(device, w))
        accuracies = [scores.accuracy(device, w) for device, w in mixed.items()]
        self.accuracy = spread(accuracies)
        if len(mixed) == len(rig.present) and self._attained(mixed, accuracies):
            self._reach()

    def _reach(self) -> None:
        """Write down what was spent up to now, as the target is reached."""
        spent = dict(_totals(self._rig))
        self.reached = {cost: spent[cost] for cost in COSTS if cost in spent}
        self.reached["virtual_seconds"] = self._rig.clock.now

    def _attained(self, models: Mapping[DeviceId, Vector], accuracies: list[float]) -> bool:
        """Tell whether the accuracy asked for is attained on all test data.

        All test data are asked as soon as the subset leaves it possible: its accuracy differs from that on all of
        it by chance, for the mean over devices as for one, since all of them are tested on the same samples and
        err on the same ones. Asking too early costs time: models are looked at from the worst one up.
        """
        if self._stop.accuracy is None:
            return False
        assert self._rig.trainer is not None
        of, target = target_of(self._stop)
        samples = self._rig.world.scenario.evaluate.samples or math.inf
        slack = 2 * math.sqrt(target * (1 - target) / samples)
        level = min(accuracies) if of == "every_device" else float(np.mean(accuracies))
        return level + slack >= target and self._rig.trainer.attains(
            list(models.values()), target, of=of, guess=accuracies, devices=list(models)
        )


def _totals(rig: Rig) -> Iterator[tuple[str, float]]:
    """Yield the metrics of the whole run, each with its value up to now."""
    trace, counts = rig.emulation.trace, rig.emulation.trace.counts
    yield "messages_sent", trace.sent
    yield "messages_delivered", trace.delivered
    yield "messages_lost", counts.n_lost
    for cause in sorted(counts.lost):
        yield f"lost_{cause}", counts.lost[cause]
    if counts.partial:
        yield "messages_partial", trace.partial
    yield "bytes_on_air", counts.air_bytes
    yield "seconds_on_air", counts.air_seconds
    if rig.meter is not None:
        yield "energy_j", rig.meter.joules()


def target_of(stop: Stop) -> tuple[Literal["every_device", "mean"], float]:
    """Return which accuracy ends a run, and how high it must be."""
    assert stop.accuracy is not None
    if stop.accuracy.every_device is not None:
        return "every_device", stop.accuracy.every_device
    assert stop.accuracy.mean is not None
    return "mean", stop.accuracy.mean
