"""One protocol run over a world, measured: a scenario's main run, or one of its baselines.

    world -> emulation -> evaluations -> summary, tables
                |             ^
                +--- clock ---+   evaluations look; they change nothing

Evaluation happens outside virtual time, on a fixed part of the test data while a run goes and on
all of it at the end. An accuracy that ends a run is confirmed on all test data first.
"""

from __future__ import annotations

import functools
import math
import platform
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from p2pl_async.clock import VirtualClock
from p2pl_async.device import Device, Neighborhood
from p2pl_async.errors import P2plError
from p2pl_async.experiment.emulation import Emulation
from p2pl_async.experiment.lookahead import LookaheadLearner
from p2pl_async.experiment.measures import Scores, Total, consensus_distance, params_digest, spread, value_range
from p2pl_async.hardware.compute import Compute, ComputeTimes
from p2pl_async.hardware.downtime import BATTERY, Downtime
from p2pl_async.hardware.energy import STATES, Energy, Meter
from p2pl_async.hardware.local_clock import LocalClock
from p2pl_async.messages import DeviceId, Vector
from p2pl_async.protocols.base import Protocol
from p2pl_async.results.folder import RunFolder
from p2pl_async.results.run import Run, Snapshot
from p2pl_async.results.table import ENERGY_COLUMNS, LINK_COLUMNS, METRIC_COLUMNS, TRACE_COLUMNS, Table
from p2pl_async.scenario.building.device_conditions import sleeping
from p2pl_async.scenario.building.world import World
from p2pl_async.scenario.reading.load import dump
from p2pl_async.scenario.tables import Stop
from p2pl_async.trace import Record

if TYPE_CHECKING:
    from p2pl_async.learning.data import Dataset

WHOLE_RUN = -1  # the device of metrics that belong to none
_MOST_EVALUATIONS = 200  # of `evaluate.every = "auto"`, when the end of the run is known
_SUMMARY_SECONDS = 5.0  # of wall time between two summaries of a run that goes on

Progress = Callable[[Snapshot], object]
Watch = Callable[[Device, float], object]


@dataclass(frozen=True)
class Plan:
    """What one run consists of.

    Attributes:
        label: how tables and plots call it.
        world: what it shares with the other runs of its scenario.
        protocol: what every device runs.
        parts: for each device, its rows of the training data.
        out_neighbors: for each device, who can ever hear it.
        neighborhood: who can hear whom when; None where that never changes.
        computes: for each device, how long it trains.
        starts: for each device, the virtual second at which it begins.
        stop: what ends it.
        downtimes: for each device, when it is down; None if none ever is.
        keeps_state: for each device, whether its parameters survive a crash.
        clocks: each device's own clock; None if all are ideal.
        consumption: what each device draws; None if nobody asks.
        folder: where results go; None for nowhere.
        keep_trace: whether every message on every link is kept.
        progress: called often with how far the run is.
        watch: called with each device after each of its rounds, and the virtual time.
    """

    label: str
    world: World
    protocol: Protocol
    parts: Sequence[NDArray[np.int64]]
    out_neighbors: Sequence[Sequence[DeviceId]]
    neighborhood: Neighborhood | None
    computes: Sequence[Compute]
    starts: Sequence[float]
    stop: Stop
    folder: RunFolder | None
    keep_trace: bool
    progress: Progress | None
    watch: Watch | None = None
    downtimes: Sequence[Downtime] | None = None
    keeps_state: Sequence[bool] | None = None
    clocks: Sequence[LocalClock] | None = None
    consumption: Sequence[Energy | None] | None = None


class Course:
    """One protocol run over a world, measured: the main run, or a baseline."""

    def __init__(self, plan: Plan) -> None:
        self.made = time.perf_counter()
        self.plan = plan
        self.world = plan.world
        self.stop = plan.stop
        self.folder = plan.folder
        self.clock = VirtualClock()
        self.stopped_by = "protocol"
        self.target_reached: dict[str, float] | None = None
        self.totals: dict[str, Total] = defaultdict(Total)
        self.meter: Meter | None = None
        if plan.consumption is not None:
            asleep = sleeping(plan.world.scenario, plan.world.graph, plan.world.links)
            self.meter = Meter(plan.consumption, self.clock, plan.downtimes, asleep)
        self.trainer: Any = None
        self.learner: LookaheadLearner | None = None
        if plan.world.dataset is not None:
            self._make_learner(plan.world.dataset)
        path = None if plan.folder is None else plan.folder.path
        self.metrics = Table(path and path / "metrics", METRIC_COLUMNS)
        self.trace_table = Table(path and path / "trace", TRACE_COLUMNS) if plan.keep_trace else None
        make_air = functools.partial(plan.world.make_air, meter=self.meter)
        self.emulation = Emulation(
            plan.out_neighbors,
            functools.partial(plan.world.make_link, downtimes=plan.downtimes),
            plan.world.scenario.seed,
            clock=self.clock,
            make_air=make_air if plan.world.scenario.medium.shared else None,
            neighborhood=plan.neighborhood,
            learner=self.learner,
            rounds=plan.stop.rounds,
            starts=plan.starts,
            downtimes=plan.downtimes,
            meter=self.meter,
            keeps_state=plan.keeps_state,
            clocks=plan.clocks,
            on_crash=self._on_crash,
            on_gone=self._on_gone,
            record=self.record,
            on_round=self._on_round,
            sink=None if self.trace_table is None else self._keep,
        )
        self.devices = self.emulation.devices
        self.began = time.perf_counter()
        self.evaluation_seconds = 0.0
        self._summarized = self.began
        self._undecided: deque[Record] = deque()
        self._last_accuracy: tuple[float, float, float] | None = None
        self._unfinished = len(self.devices)

    def _make_learner(self, dataset: Dataset) -> None:
        from p2pl_async.learning.trainer import Trainer

        scenario, parts = self.world.scenario, self.plan.parts
        self.trainer = Trainer(
            dataset, parts, scenario.model, scenario.train, scenario.seed, subset=scenario.evaluate.samples
        )
        self.times = ComputeTimes(self.plan.computes, scenario.seed, [len(part) for part in parts])
        on_job = None if self.meter is None else self.meter.training
        self.learner = LookaheadLearner(self.clock, self.trainer, self.times.seconds, self._show, on_job)

    def run(self) -> Run:
        """Run it, once; whatever ends it, what was recorded so far is left readable."""
        if self.folder is not None:
            self.folder.begin(dump(self.world.scenario))
            self.folder.write_summary(self._summary("running"))
            self._device_table(None).close()  # who holds what is known, and a killed run leaves it too
        interval = self._interval()
        self.clock.observe(0.0 if self.trainer is None else interval, lambda: self._look(interval))
        status, error = "failed", ""
        try:
            self.emulation.run(self.plan.protocol, until=self.stop.virtual_time)
            if self.stop.virtual_time is not None and self.clock.now >= self.stop.virtual_time:
                self.stopped_by = "virtual time"
            status = "complete"
        except KeyboardInterrupt:
            status, error = "interrupted", "interrupted by the user"
            raise
        except Exception as failure:
            error = str(failure) if isinstance(failure, P2plError) else f"{type(failure).__name__}: {failure}"
            raise
        finally:
            result = self._finish(status, error)
        return result

    # While it goes

    def record(self, device: DeviceId, metric: str, value: float) -> None:
        """Take a measurement, with the time."""
        self.metrics.add(self.clock.now, device, metric, value)
        self.totals[metric].add(value)

    def _on_round(self, device: Device) -> None:
        self.record(device.id, "round", device.round)
        if self.plan.watch is not None:
            self.plan.watch(device, self.clock.now)
        if self.stop.rounds is not None and device.round == self.stop.rounds:
            self._done()
        if self.trainer is None:
            self._show()

    def _on_crash(self, device: Device) -> None:
        self.record(device.id, "crash", device.round)
        if self.meter is not None:
            self.meter.crash(device.id)
        if self.trainer is not None:
            self.trainer.forget(device.id)

    def _on_gone(self, device: Device) -> None:
        if self.stop.rounds is None or device.round < self.stop.rounds:
            self._done()

    def _done(self) -> None:
        """Count a device that has finished its rounds, or never will; the last one ends the run."""
        self._unfinished -= 1
        if self._unfinished == 0:
            gone = len(self.emulation.gone) == len(self.devices)
            self.stopped_by = "every device is gone" if gone else "rounds"
            # Once everybody waits: a protocol need not look at `device.running`.
            self.clock.observe(self.clock.now, self.clock.stop)

    def _keep(self, record: Record) -> None:
        """Take a record of the network; it is written once its message is lost or has arrived."""
        self._undecided.append(record)
        while self._undecided and _decided(self._undecided[0], self.clock.now):
            self._write(self._undecided.popleft(), in_flight=False)

    def _write(self, record: Record, in_flight: bool) -> None:
        assert self.trace_table is not None
        verdict = record.verdict
        cut = (record.src, record.dst, record.number) in self.emulation.transport.cut
        fate = "in flight" if in_flight else BATTERY if cut else verdict.cause or "delivered"
        self.trace_table.add(
            record.sent,
            record.src,
            record.dst,
            record.number,
            record.kind,
            record.size,
            verdict.packets,
            verdict.packets_lost,
            verdict.air_bytes,
            verdict.air_seconds,
            verdict.acknowledged,
            math.nan if verdict.arrival == math.inf else verdict.arrival,
            fate,
            math.nan if verdict.copy == math.inf else verdict.copy,
        )

    def _interval(self) -> float:
        """Return the virtual time between two evaluations."""
        every = self.world.scenario.evaluate.every
        if every is not None:
            return every
        until = self.stop.virtual_time
        least = 0.0 if until is None else until / _MOST_EVALUATIONS
        if self.trainer is None:
            return least or 1.0
        epochs = 2.0 * (
            getattr(self.plan.protocol, "epochs", None) or 1
        )  # evaluating as often as training is too often
        if self.stop.rounds is not None:
            epochs *= max(1.0, self.stop.rounds / _MOST_EVALUATIONS)
        return max(least, self.times.typical_epoch() * epochs) or 1.0

    def _look(self, interval: float) -> None:
        """Evaluate, count, and see whether the target is reached; then again after the interval."""
        self.clock.observe(self.clock.now + interval, lambda: self._look(interval))
        self._measure_network()
        started = time.perf_counter()
        self._measure_models()
        self.evaluation_seconds += time.perf_counter() - started
        self.metrics.flush()
        if self.folder is not None and time.perf_counter() - self._summarized > _SUMMARY_SECONDS:
            self.folder.write_summary(self._summary("running"))
            self._summarized = time.perf_counter()
        self._show()

    def _measure_network(self) -> None:
        counts = self.emulation.trace.counts
        self.record(WHOLE_RUN, "messages_sent", self.emulation.trace.sent)
        self.record(WHOLE_RUN, "messages_delivered", self.emulation.trace.delivered)
        self.record(WHOLE_RUN, "messages_lost", counts.n_lost)
        for cause in sorted(counts.lost):
            self.record(WHOLE_RUN, f"lost_{cause}", counts.lost[cause])
        if counts.partial:
            self.record(WHOLE_RUN, "messages_partial", self.emulation.trace.partial)
        self.record(WHOLE_RUN, "bytes_on_air", counts.air_bytes)
        self.record(WHOLE_RUN, "seconds_on_air", counts.air_seconds)
        if self.meter is not None:
            self.meter.settle()
            self.record(WHOLE_RUN, "energy_j", self.meter.joules())

    def _measure_models(self) -> None:
        mixed = {device.id: device.params for device in self.present if device.params is not None}
        if not mixed:
            return
        self.record(WHOLE_RUN, "consensus_distance", consensus_distance(list(mixed.values())))
        if self.trainer is None:
            return
        trained = {
            device.id: device.trained
            for device in self.present
            if device.trained is not None and device.trained is not device.params
        }
        scores = Scores(self.trainer, [*mixed.values(), *trained.values()], "subset")
        for device, w in mixed.items():
            self.record(device, "accuracy", scores.accuracy(w))
            self.record(device, "loss", scores.loss(w))
        for device, w in trained.items():
            self.record(device, "accuracy_trained", scores.accuracy(w))
        accuracies = [scores.accuracy(w) for w in mixed.values()]
        self._last_accuracy = spread(accuracies)
        if len(mixed) == len(self.present):
            self._check_target(list(mixed.values()), accuracies)

    def _check_target(self, params: list[Vector], accuracies: list[float]) -> None:
        """Stop if the accuracy asked for is reached on all test data."""
        if self.stop.accuracy is None:
            return
        of, target = _target(self.stop)
        if of == "every_device":
            # The least of many accuracies on part of the test data is below that on all of it, mostly by chance.
            # Asking too early costs little: the worst device is looked at first.
            samples = self.world.scenario.evaluate.samples or math.inf
            level = min(accuracies) + 2 * math.sqrt(target * (1 - target) / samples)
        else:
            level = float(np.mean(accuracies))
        if level < target or not self.trainer.attains(params, target, of=of, guess=accuracies):
            return
        self.target_reached = {
            "virtual_seconds": self.clock.now,
            "bytes_on_air": self.emulation.trace.counts.air_bytes,
            "seconds_on_air": self.emulation.trace.counts.air_seconds,
        }
        if self.meter is not None:
            self.target_reached["energy_j"] = self.meter.joules()
        self.stopped_by = "accuracy"
        self.clock.stop()

    def _show(self) -> None:
        if self.plan.progress is None:
            return
        trace, counts, stop = self.emulation.trace, self.emulation.trace.counts, self.stop
        rounds = sum(device.round for device in self.devices) / len(self.devices)
        shares = [0.0]
        if stop.virtual_time is not None:
            shares.append(self.clock.now / stop.virtual_time)
        if stop.rounds is not None:
            shares.append(rounds / stop.rounds)
        self.plan.progress(
            Snapshot(
                label=self.plan.label,
                now=self.clock.now,
                wall=time.perf_counter() - self.began,
                accuracy=self._last_accuracy,
                sent=trace.sent,
                delivered=trace.delivered,
                lost=counts.n_lost,
                air_bytes=counts.air_bytes,
                done=max(shares) if len(shares) > 1 else None,
                rounds=rounds,
            )
        )

    # When it is over

    def _finish(self, status: str, error: str) -> Run:
        digest = self.emulation.trace.digest()
        if self.meter is not None:
            self.meter.settle()
        under_way = self.emulation.transport.in_flight()
        for record in self._undecided:
            self._write(record, in_flight=(record.src, record.dst, record.number) in under_way)
        scores: Scores | None = None
        if status == "complete":
            self._measure_network()
            models = [w for device in self.devices for w in (device.params, device.trained) if w is not None]
            if models and self.trainer is not None:
                started = time.perf_counter()
                scores = Scores(self.trainer, models, "test")
                self.evaluation_seconds += time.perf_counter() - started
        summary = self._summary(status, error, digest, scores)
        devices, links = self._device_table(scores), self._link_table()
        for table in (self.metrics, self.trace_table, devices, links):
            if table is not None:
                table.close()
        if self.folder is not None:
            self.folder.write_summary(summary)
        return Run(
            path=None if self.folder is None else self.folder.path,
            scenario_text=dump(self.world.scenario),
            summary=summary,
            metrics=self.metrics,
            devices=devices,
            links=links,
            trace=self.trace_table,
        )

    @property
    def present(self) -> list[Device]:
        """The devices that are not gone for good; all of them if every one is."""
        gone = self.emulation.gone
        return [device for device in self.devices if device.id not in gone] or self.devices

    @property
    def samples_trained(self) -> int:
        """Training samples gone through by all devices, repetitions counted."""
        return 0 if self.learner is None else self.learner.samples

    def _summary(
        self, status: str, error: str = "", digest: str | None = None, scores: Scores | None = None
    ) -> dict[str, Any]:
        scenario, trace, counts = self.world.scenario, self.emulation.trace, self.emulation.trace.counts
        now = time.perf_counter()
        training = self.trainer.training_seconds if self.trainer is not None else 0.0
        other = now - self.began - training - self.evaluation_seconds
        params = [device.params for device in self.present if device.params is not None]
        rounds = [device.round for device in self.devices]
        return {
            "status": status,
            "error": error or None,
            "scenario": scenario.name,
            "protocol": self.plan.label,
            "seed": scenario.seed,
            "versions": _versions(),
            "trace_digest": digest,
            "params_digest": params_digest(params) if params and status == "complete" else None,
            "virtual_seconds": self.clock.now,
            "wall_seconds": now - self.made,
            "wall": {
                "setup": self.began - self.made,  # torch, data, the trainer
                "training": training,
                "evaluation": self.evaluation_seconds,
                "other": other,  # the emulation itself
            },
            "stopped_by": self.stopped_by if status == "complete" else None,
            "accuracy": scores and value_range([scores.accuracy(w) for w in params]),
            "accuracy_trained": scores
            and value_range([scores.accuracy(device.trained) for device in self.present if device.trained is not None]),
            "target": self._target_summary(),
            "rounds": value_range(rounds),
            "messages": {
                "sent": trace.sent,
                "delivered": trace.delivered,
                "partial": trace.partial,
                "corrupted": trace.corrupted,
                "in_flight": len(self.emulation.transport.in_flight()),
                "lost": dict(sorted(counts.lost.items())),
                "duplicates": trace.duplicates,
                "malformed": trace.malformed,
                "packets": counts.packets,
                "packets_lost": counts.packets_lost,
                "payload_bytes": counts.payload_bytes,
                "bytes_on_air": counts.air_bytes,
                "seconds_on_air": counts.air_seconds,
                "acknowledged": counts.acknowledged,
            },
            "staleness": self._staleness(),
            "sync": self._sync(),
            "compression": self._compression(),
            "energy": self._energy(),
            "consensus_distance": consensus_distance(params) if params and status == "complete" else None,
            "training": self._training(),
            "warnings": self.world.warnings,
            "baselines": {},
        }

    def _target_summary(self) -> dict[str, Any] | None:
        if self.stop.accuracy is None:
            return None
        of, accuracy = _target(self.stop)
        reached = self.target_reached or {}
        return {
            "accuracy": accuracy,
            "of": of,
            "reached": self.target_reached is not None,
            "virtual_seconds": reached.get("virtual_seconds"),
            "bytes_on_air": reached.get("bytes_on_air"),
            "seconds_on_air": reached.get("seconds_on_air"),
            "energy_j": reached.get("energy_j"),
        }

    def _staleness(self) -> dict[str, float] | None:
        seconds, rounds = self.totals["staleness_s"], self.totals["staleness_rounds"]
        if not seconds.count:
            return None
        return {
            "seconds_mean": seconds.mean,
            "seconds_max": seconds.max,
            "rounds_mean": rounds.mean,
            "rounds_max": rounds.max,
        }

    def _sync(self) -> dict[str, Any] | None:
        done = self.totals["sync_norm"]
        if not done.count:
            return None
        return {
            "completed_s": self.totals["sync_s"].max,
            "devices": done.count,
            "agreed": done.count >= len(self.devices) and done.min == done.max,
            "late": int(self.totals["maxnorm_late"].sum),
        }

    def _compression(self) -> dict[str, float] | None:
        """Return how many times fewer bytes were sent than uncompressed float32 models take.

        As papers count (4 bytes for a value or an index), as encoded, and all that was on air: with headers,
        confirmations, retries, and whatever else the protocol says.
        """
        dense, paper, encoded = (self.totals[f"bytes_{what}"] for what in ("dense", "paper", "encoded"))
        air_bytes = self.emulation.trace.counts.air_bytes
        if not dense.count or not air_bytes:
            return None
        return {
            "payload_ratio": dense.sum / paper.sum,
            "codec_ratio": dense.sum / encoded.sum,
            "on_air_ratio": dense.sum / air_bytes,
        }

    def _energy(self) -> dict[str, Any] | None:
        """Return the joules of all devices, by state, their range, and how many batteries are empty."""
        if self.meter is None:
            return None
        drawn = [account.joules() for account in self.meter.accounts.values()]
        return {
            "joules": self.meter.joules(),
            "by_state": {state: sum(one[state] for one in drawn) for state in drawn[0]},
            "per_device": value_range([sum(one.values()) for one in drawn]),
            "batteries_empty": len(self.meter.died),
        }

    def _training(self) -> dict[str, Any] | None:
        if self.trainer is None:
            return None
        jobs, batches = self.trainer.jobs, self.trainer.batches
        return {"jobs": jobs, "batches": batches, "mean_batch": jobs / batches if batches else None}

    def _device_table(self, scores: Scores | None) -> Table:
        world, dataset = self.world, self.world.dataset
        parts = self.plan.parts
        counts: NDArray[np.int64] = np.zeros((len(self.devices), 0), np.int64)
        if dataset is not None:
            from p2pl_async.learning.partition import count_matrix

            counts = count_matrix(dataset.y_train, parts, dataset.n_classes)
        columns = {"device": "int32", "x": "float64", "y": "float64", "n_samples": "int64"}
        columns |= {f"class_{c}": "int64" for c in range(counts.shape[1])}
        columns |= {"rounds": "int32", "accuracy": "float64"}
        if self.meter is not None:
            columns |= dict.fromkeys(ENERGY_COLUMNS, "float64")
        table = Table(None if self.folder is None else self.folder.path / "devices", columns)
        for device in self.devices:
            x, y = world.graph.nodes[device.id].get("pos", (math.nan, math.nan))
            accuracy = math.nan if scores is None or device.params is None else scores.accuracy(device.params)
            held = counts[device.id].tolist()
            table.add(
                device.id, float(x), float(y), sum(held), *held, device.round, accuracy, *self._energy_of(device.id)
            )
        return table

    def _energy_of(self, device: DeviceId) -> list[float]:
        """Return what goes into a device's energy columns, if there are any."""
        if self.meter is None:
            return []
        account = self.meter.accounts.get(device)
        if account is None:
            return [math.nan] * len(ENERGY_COLUMNS)
        drawn = account.joules()
        return [
            *(account.seconds[state] for state in STATES),
            account.cpu_seconds,
            *drawn.values(),
            sum(drawn.values()),
            self.meter.died.get(device, math.nan),
        ]

    def _link_table(self) -> Table:
        table = Table(None if self.folder is None else self.folder.path / "links", LINK_COLUMNS)
        used = {(path.src, path.dst): path for path in self.emulation.transport.paths()}
        for device in self.devices:
            for dst in device.all_out_neighbors:
                path = used.get((device.id, dst))
                if path is None:
                    table.add(device.id, dst, 0, 0, 0, 0, 0, 0.0, math.nan)
                else:
                    delay = path.delay / path.delivered if path.delivered else math.nan
                    known = (path.partial, path.acknowledged, path.air_seconds)
                    table.add(device.id, dst, path.sent, path.delivered, path.lost, *known, delay)
        return table


def _decided(record: Record, now: float) -> bool:
    """Tell whether a message has met its fate, which an arrival at this very instant may still do."""
    return record.verdict.arrival < now or record.verdict.arrival == math.inf


def _target(stop: Stop) -> tuple[str, float]:
    assert stop.accuracy is not None
    if stop.accuracy.every_device is not None:
        return "every_device", stop.accuracy.every_device
    assert stop.accuracy.mean is not None
    return "mean", stop.accuracy.mean


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for name in ("p2pl-async", "trio", "numpy", "torch", "msgpack"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
