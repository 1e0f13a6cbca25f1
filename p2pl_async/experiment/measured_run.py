"""A measured run: one protocol over a world, from its first instant to its results.

plan -> rig -> emulation -> evaluations -> summary, tables
                  |             ^
                  +--- clock ---+   evaluations look; they change nothing
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable

from p2pl_async.basics.tensorfiles import Tensors
from p2pl_async.device import Device
from p2pl_async.errors import P2plError, ScenarioError
from p2pl_async.experiment.evaluation import Evaluation
from p2pl_async.experiment.measures import ScoreLookup
from p2pl_async.experiment.plan import RunPlan
from p2pl_async.experiment.result_tables import device_table, link_table
from p2pl_async.experiment.rig import Rig
from p2pl_async.experiment.summary import summarize
from p2pl_async.learning.delegation import Workers
from p2pl_async.results.run import Run, Snapshot
from p2pl_async.scenario.building.world import World
from p2pl_async.scenario.reading.load import dump

_SUMMARY_SECONDS = 5.0  # of wall time between two summaries of a run that goes on
_MOST_PLACES = 1000  # of one device that moves, in a run whose virtual time is limited

Progress = Callable[[Snapshot], object]
Watch = Callable[[Device, float], object]


class MeasuredRun:
    """One protocol run over a world, measured: the main run, or a baseline.

    Args:
        world: shared with the other runs of its scenario.
        plan: all that differs between those runs.
        most_traced: messages of which a trace is kept; none if there are more.
        payloads: bytes of each of them that are kept.
        save_models: whether every device's last model is kept, in the folder or in memory.
        progress: called often with how far the run is.
        watch: called with each device after each of its rounds, and the virtual time.
        workers: train beside this process; None for nobody.

    Attributes:
        stopped_by: the condition that ended it.
        interval: virtual seconds between two evaluations.
    """

    def __init__(
        self,
        world: World,
        plan: RunPlan,
        *,
        most_traced: float = 0,
        payloads: int = 0,
        save_models: bool = False,
        progress: Progress | None = None,
        watch: Watch | None = None,
        workers: Workers | None = None,
    ) -> None:
        self._made = time.perf_counter()
        self.stopped_by = "protocol"
        self._plan = plan
        self._save_models = save_models
        self._progress = progress
        self._watch = watch
        self.rig = Rig(
            world,
            plan,
            most_traced=most_traced,
            payloads=payloads,
            on_round=self._on_round,
            on_gone=self._on_gone,
            on_batch=self._show,
            workers=workers,
        )
        self._clock = self.rig.clock
        self._evaluation = Evaluation(self.rig)
        self.interval = self._evaluation.interval()
        self._began = self._summarized = time.perf_counter()
        self._unfinished = len(self.rig.devices)

    def run(self) -> Run:
        """Run it, once; whatever ends it, the recorded part is left readable."""
        if self._plan.folder is not None:
            self._plan.folder.begin(dump(self.rig.world.scenario))
        self._clock.observe(0.0 if self.rig.trainer is None else self.interval, self._look)
        if self.rig.recording.positions is not None:
            length = self._plan.stop.virtual_time or 0.0
            self.rig.recording.follow(max(self.rig.world.scenario.mobility.update, length / _MOST_PLACES))
        status, error, until = "failed", "", self._plan.stop.virtual_time
        scores = None
        try:
            if self._plan.folder is not None:
                self._write_summary()
                device_table(self.rig, None).close()  # a killed run too leaves who holds which data
            self.rig.emulation.run(self._plan.protocol, until=until)
            if until is not None and self._clock.now >= until:
                self.stopped_by = "virtual time"
            self._evaluation.measure_network()
            scores = self._evaluation.final_scores()
            status = "complete"
        except KeyboardInterrupt:
            status, error = "interrupted", "interrupted by the user"
            raise
        except Exception as failure:
            error = str(failure) if isinstance(failure, P2plError) else f"{type(failure).__name__}: {failure}"
            raise
        finally:
            result = self._finish(status, error, scores)
        return result

    # While it goes

    def _on_round(self, device: Device) -> None:
        self.rig.recording.record(device.id, "round", device.round)
        if self._watch is not None:
            self._watch(device, self._clock.now)
        if self._plan.stop.rounds is not None and device.round == self._plan.stop.rounds:
            self._done()
        if self.rig.trainer is None:
            self._show()

    def _on_gone(self, device: Device) -> None:
        if self._plan.stop.rounds is None or device.round < self._plan.stop.rounds:
            self._done()

    def _done(self) -> None:
        """Count a device that has finished its rounds, or never will; the last one ends the run."""
        self._unfinished -= 1
        if self._unfinished == 0:
            gone = len(self.rig.emulation.gone) == len(self.rig.devices)
            self.stopped_by = "every device is gone" if gone else "rounds"
            # At the end of this instant: a protocol need not look at `device.running`.
            self._clock.observe(self._clock.now, self._clock.stop)

    def _look(self) -> None:
        """Measure, and stop if the target is reached; then again after the interval."""
        self._clock.observe(self._clock.now + self.interval, self._look)
        self._evaluation.measure_network()
        self._evaluation.measure_models()
        if self._evaluation.reached is not None:
            assert self._evaluation.goal is not None
            self.stopped_by = self._evaluation.goal.score.name
            self._clock.stop()
        if self._plan.folder is not None:
            self.rig.recording.metrics.flush()
            if time.perf_counter() - self._summarized > _SUMMARY_SECONDS:
                self.rig.recording.flush()
                self._write_summary()
                self._summarized = time.perf_counter()
        self._show()

    def _write_summary(self) -> None:
        """Write the summary of a run that goes on."""
        assert self._plan.folder is not None
        self._plan.folder.write_summary(
            summarize(
                self.rig, self._evaluation, status="running", error="", stopped_by="", wall=self._wall(), digest=None,
                scores=None,
            )
        )  # fmt: skip

    def _wall(self) -> tuple[float, float]:
        """Return the seconds of wall time that setting up took, and those since then."""
        return self._began - self._made, time.perf_counter() - self._began

    def _show(self) -> None:
        if self._progress is None:
            return
        devices, stop = self.rig.devices, self._plan.stop
        trace, counts = self.rig.emulation.trace, self.rig.emulation.trace.counts
        rounds = sum(device.round for device in devices) / len(devices)
        shares = [0.0]
        if stop.virtual_time is not None:
            shares.append(self._clock.now / stop.virtual_time)
        if stop.rounds is not None:
            shares.append(rounds / stop.rounds)
        self._progress(
            Snapshot(
                label=self._plan.label,
                now=self._clock.now,
                wall=time.perf_counter() - self._began,
                metric="" if self.rig.trainer is None else self.rig.trainer.scores[0].name,
                score=self._evaluation.level,
                diverged=self._evaluation.diverged,
                sent=trace.sent,
                delivered=trace.delivered,
                lost=counts.n_lost,
                air_bytes=counts.air_bytes,
                done=max(shares) if len(shares) > 1 else None,
                rounds=rounds,
            )
        )

    # When it is over

    def _finish(self, status: str, error: str, scores: ScoreLookup | None) -> Run:
        """Close the tables, and write the last summary, also if they can't be closed."""
        rig, folder = self.rig, self._plan.folder
        digest = rig.emulation.trace.digest()
        if rig.meter is not None:
            rig.meter.settle()
        devices, links = device_table(rig, scores), link_table(rig)
        summarized = functools.partial(
            summarize,
            rig,
            self._evaluation,
            stopped_by=self.stopped_by,
            wall=self._wall(),
            digest=digest,
            scores=scores,
        )
        try:
            rig.note_deafness()
            rig.recording.finish(rig.emulation.transport.cut, rig.emulation.transport.in_flight())
            rig.recording.close()
            devices.close()
            links.close()
            models = self._models()
            summary = summarized(status=status, error=error)
            if folder is not None:
                folder.write_summary(summary)
        except (ScenarioError, KeyboardInterrupt) as failure:  # no room, or a second Ctrl-C
            if folder is not None:
                folder.fail()
                ended = "interrupted" if isinstance(failure, KeyboardInterrupt) else "failed"
                with contextlib.suppress(ScenarioError):
                    folder.write_summary(summarized(status=ended, error=error or str(failure) or ended))
            raise
        return Run(
            path=None if folder is None else folder.path,
            scenario_text=dump(rig.world.scenario),
            summary=summary,
            metrics=rig.recording.metrics,
            devices=devices,
            links=links,
            trace=rig.recording.trace,
            mixes=rig.recording.mixes,
            positions=rig.recording.positions,
            models=models,
        )

    def _models(self) -> dict[int, Tensors] | None:
        """Write the devices' last models into the folder, or return them where there is none; None if there are none.

        The model of a device is the one that its last finished round, or its protocol, left.
        """
        trainer = self.rig.trainer
        if not self._save_models or trainer is None:
            return None
        models = trainer.tensors((device.id, device.params) for device in self.rig.devices if device.params is not None)
        if self._plan.folder is None:
            return dict(models)
        scenario = self.rig.world.scenario
        about = {"scenario": scenario.name, "seed": str(scenario.seed), "model": scenario.model.kind}
        self._plan.folder.write_models(models, about)
        return None
