"""Evaluation: how often models are tested while a run goes, what is measured, and whether the target is reached.

Evaluation takes no virtual time and changes nothing. It uses a fixed part of the test data while a
run goes and all of it at the end. An accuracy that ends a run is confirmed on all test data first.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from p2pl_async.errors import Problem, ScenarioError
from p2pl_async.experiment.measures import ScoreLookup, consensus_distance, spread
from p2pl_async.experiment.rig import Rig
from p2pl_async.learning.scores import Accuracy, Score
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
        level: least, mean and greatest value over devices of the first score at the last look; None before any.
        goal: the score that ends the run; None if none does.
        diverged: the first device whose model was seen to give a loss that isn't finite, and when; None if none was.
        reached: the costs up to the instant at which the target was reached; None if it isn't.
    """

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._stop = rig.plan.stop
        self.seconds = 0.0
        self.level: tuple[float, float, float] | None = None
        self.goal = None if rig.trainer is None else _goal(rig.plan.stop, rig.trainer.scores)
        self.reached: dict[str, float] | None = None
        self.diverged: tuple[DeviceId, float] | None = None

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
        self._watch_losses(scores, {device.id: device.params for device in rig.devices if device.params is not None})
        goal = self.goal
        if goal is not None and self.reached is None:
            name = goal.score.name
            held = [(device.id, device.params) for device in rig.present]
            final = [scores.score(name, device, w) for device, w in held if w is not None]
            if len(final) == len(rig.present) and goal.attained(goal.level(final)):
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
            for name in scores.names:
                value = scores.score(name, device, w)
                if not math.isnan(value):  # no sample of the device's own distribution is in the subset
                    record(device, name, value)
            record(device, "loss", scores.loss(device, w))
        self._watch_losses(scores, mixed)
        first = rig.trainer.scores[0].name
        for device, w in trained.items():
            record(device, f"{first}_trained", scores.score(first, device, w))
        self.level = spread([scores.score(first, device, w) for device, w in mixed.items()])
        if len(mixed) == len(rig.present) and self._attained(mixed, scores):
            self._reach()

    def _watch_losses(self, scores: ScoreLookup, models: Mapping[DeviceId, Vector]) -> None:
        """Note the first device whose loss isn't finite."""
        if self.diverged is None:
            broken = [device for device, w in models.items() if not math.isfinite(scores.loss(device, w))]
            if broken:
                self.diverged = min(broken), self._rig.clock.now

    def _reach(self) -> None:
        """Write down what was spent up to now, as the target is reached."""
        spent = dict(_totals(self._rig))
        self.reached = {cost: spent[cost] for cost in COSTS if cost in spent}
        self.reached["virtual_seconds"] = self._rig.clock.now

    def _attained(self, models: Mapping[DeviceId, Vector], scores: ScoreLookup) -> bool:
        """Tell whether the score asked for is attained on all test data.

        All test data are asked as soon as the subset leaves it possible: its score differs from that on all of
        it by chance, for the mean over devices as for one, since all of them are tested on the same samples and
        err on the same ones. Asking too early costs time: models are looked at from the worst one up.
        """
        goal = self.goal
        if goal is None:
            return False
        assert self._rig.trainer is not None
        guess = [scores.score(goal.score.name, device, w) for device, w in models.items()]
        samples = self._rig.world.scenario.evaluate.samples or math.inf
        return goal.attained(goal.level(guess), goal.slack(samples)) and self._rig.trainer.scoring.attains(
            list(models.values()), goal.value, of=goal.of, score=goal.score, guess=guess, devices=list(models)
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


@dataclass(frozen=True)
class Goal:
    """The score that ends a run: of every device or on average, and the value to reach."""

    score: Score
    of: Literal["every_device", "mean"]
    value: float

    def level(self, values: Sequence[float]) -> float:
        """Return the worst of the devices' values, or their mean."""
        if self.of == "mean":
            return float(np.mean(values))
        return max(values) if self.score.lower_is_better else min(values)

    def attained(self, level: float, slack: float = 0.0) -> bool:
        """Tell whether a level is that good, or misses it by no more than the slack."""
        return level - slack <= self.value if self.score.lower_is_better else level + slack >= self.value

    def slack(self, samples: float) -> float:
        """Return by how much the score on so many samples may miss that on all: two standard errors.

        Of a score whose standard error depends on more than its value, a tenth of the value.
        """
        if isinstance(self.score, Accuracy):
            return 2 * math.sqrt(self.value * (1 - self.value) / samples)
        return 0.0 if samples == math.inf else 0.1 * abs(self.value)


def _goal(stop: Stop, scores: Sequence[Score]) -> Goal | None:
    asked = stop.accuracy or stop.metric
    if asked is None:
        return None
    score = next((one for one in scores if one.kind == "accuracy"), None) if stop.accuracy else scores[0]
    if score is None:
        text = f"is not measured here: models are scored by {', '.join(one.name for one in scores)}; write stop.metric"
        raise ScenarioError("stop", [Problem("stop.accuracy", text)])
    if asked.every_device is not None:
        return Goal(score, "every_device", asked.every_device)
    assert asked.mean is not None
    return Goal(score, "mean", asked.mean)
