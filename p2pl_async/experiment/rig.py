"""The rig of a run: its clock, trainer, meter, tables and devices, put together and ready to go."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

from p2pl_async.clock import VirtualClock
from p2pl_async.device import Device, Observer
from p2pl_async.experiment.emulation import Emulation
from p2pl_async.experiment.lookahead import LookaheadLearner
from p2pl_async.experiment.plan import RunPlan
from p2pl_async.experiment.recording import Recording
from p2pl_async.experiment.replaying import Trainings
from p2pl_async.hardware.compute import ComputeTimes
from p2pl_async.hardware.hardware import downtimes_of
from p2pl_async.hardware.meter import Meter
from p2pl_async.messages import DeviceId
from p2pl_async.scenario.building.world import World
from p2pl_async.trace import Record

if TYPE_CHECKING:
    from p2pl_async.learning.data import Dataset
    from p2pl_async.learning.delegation import Workers
    from p2pl_async.learning.trainer import Trainer

_MOST_DEAF = 200_000  # times at which a device of a run hears nobody; of more, the first of each device are recorded


class Rig:
    """Everything that one run uses.

    Args:
        world: shared with the other runs of its scenario.
        plan: all that differs between those runs.
        most_traced: messages of which a trace is kept; none if there are more.
        payloads: bytes of each of them that are kept.
        on_round: takes a device that has finished a round.
        on_gone: takes a device that is down for good before its protocol has ended.
        on_batch: called after each computed batch of trainings.
        workers: train beside this process; None for nobody.

    Attributes:
        clock: virtual time.
        recording: the tables that are written as the run goes.
        meter: joules; None if no device is measured.
        trainer: computes trainings and scores; None if nothing learns.
        learner: trains the devices; None if nothing learns.
        steps: local steps of each device so far.
        jobs: trainings of each device so far.
        trainings: each device's, as a baseline repeats them; empty if the scenario asks for none.
        times: virtual time of each training; None if nothing learns.
        emulation: devices, links and the network's counters.
    """

    def __init__(
        self,
        world: World,
        plan: RunPlan,
        *,
        most_traced: float,
        payloads: int,
        on_round: Callable[[Device], object],
        on_gone: Callable[[Device], object],
        on_batch: Callable[[], object],
        workers: Workers | None = None,
    ) -> None:
        self.world = world
        self.plan = plan
        self.clock = VirtualClock()
        self.meter = self._make_meter()
        self.trainer: Trainer | None = None
        self.times: ComputeTimes | None = None
        self.learner: LookaheadLearner | None = None
        self.steps = [0] * len(plan.parts)
        self.jobs = [0] * len(plan.parts)
        self.trainings = tuple(Trainings() for _ in plan.parts) if world.scenario.baselines.local else ()
        if world.dataset is not None:
            self._add_learner(world.dataset, on_batch, workers)
        self.recording = self._make_recording(most_traced, payloads)
        downtimes = downtimes_of(plan.hardware)
        make_air = functools.partial(world.make_air, meter=self.meter, downtimes=downtimes)
        self.emulation = Emulation(
            plan.out_neighbors,
            functools.partial(world.make_link, downtimes=downtimes),
            world.scenario.seed,
            clock=self.clock,
            make_air=make_air if world.airs.shared else None,
            neighborhood=plan.neighborhood,
            hardware=plan.hardware,
            learner=self.learner,
            rounds=plan.stop.rounds,
            meter=self.meter,
            inbox=world.scenario.devices.inbox,
            relaying=world.relaying() if plan.out_neighbors is world.out_neighbors else None,
            observer=Observer(
                record=self.recording.record,
                on_use=self.recording.use if most_traced else None,
                on_round=on_round,
                on_crash=self._on_crash,
                on_up=self._on_up,
                on_gone=on_gone,
                sink=self._keep if most_traced else None,
            ),
        )
        self.emulation.transport.captured = payloads
        self.devices = self.emulation.devices

    @property
    def present(self) -> list[Device]:
        """The devices that are not gone for good; all of them if every one is."""
        gone = self.emulation.gone
        if not gone:
            return self.devices
        return [device for device in self.devices if device.id not in gone] or self.devices

    @property
    def samples_trained(self) -> int:
        """Training samples gone through by all devices, repetitions counted."""
        return 0 if self.learner is None else self.learner.samples

    def _make_meter(self) -> Meter | None:
        """Return what counts joules; None if no device has anything to count."""
        hardware, airs = self.plan.hardware, self.world.airs
        if all(one.energy is None for one in hardware):
            return None
        several = airs.of_devices.several
        return Meter(hardware, self.clock, (lambda a, b: airs.of(a, b).number) if several else None)

    def _make_recording(self, most_traced: float, payloads: int) -> Recording:
        """Return the tables, with the columns and positions that this world has."""
        world, plan = self.world, self.plan
        motion = None if world.propagation is None else world.propagation.motion
        if motion is not None and not (motion.moves and plan.out_neighbors is world.out_neighbors):
            motion = None  # a baseline's devices send nothing, wherever they are
        return Recording(
            self.clock,
            None if plan.folder is None else plan.folder.path,
            most_traced=most_traced,
            payloads=payloads > 0,
            signals=world.airs.shared or world.propagation is not None,
            motion=motion,
            relays=world.scenario.relay is not None,
            channels=any(world.own_channels(air) is not None for air in world.airs.built),
        )

    def _add_learner(self, dataset: Dataset, on_batch: Callable[[], object], workers: Workers | None) -> None:
        from p2pl_async.learning.trainer import Trainer

        scenario, parts = self.world.scenario, self.plan.parts
        self.trainer = Trainer(
            dataset,
            parts,
            scenario.model,
            scenario.train,
            scenario.seed,
            subset=scenario.evaluate.samples,
            metrics=scenario.evaluate.metrics,
            own=scenario.evaluate.on == "own",
            own_training=self.plan.own_training,
            augment=None if scenario.data is None else scenario.data.augment,
            workers=workers,
        )
        computes = [one.compute for one in self.plan.hardware]
        self.times = ComputeTimes(computes, scenario.seed, [len(part) for part in parts])
        on_job = None if self.meter is None else self.meter.training
        self.learner = LookaheadLearner(self.clock, self.trainer, self.times.seconds, on_batch, on_job, self._note)

    def _note(self, device: DeviceId, start: float, steps: int) -> None:
        self.recording.record(device, "training_s", self.clock.now - start)
        self.steps[device] += steps
        self.jobs[device] += 1
        if self.trainings:
            self.trainings[device].add(start, steps)

    def _on_crash(self, device: Device) -> None:
        self.recording.record(device.id, "crash", device.round)
        if self.meter is not None:
            self.meter.crash(device.id)
        if self.trainer is not None:
            self.trainer.forget(device.id)

    def _on_up(self, device: Device) -> None:
        self.recording.record(device.id, "up", device.boots)

    def note_deafness(self) -> None:
        """Record when random outages kept each device from hearing anyone; the run is over."""
        if self.plan.out_neighbors is self.world.out_neighbors:
            most = max(1, _MOST_DEAF // len(self.devices))
            for device, start, end in self.world.conditions.deaf(self.clock.now, most):
                self.recording.record(device, "deaf_s", end - start, at=end)

    def _keep(self, record: Record) -> None:
        self.recording.keep(record, self.emulation.transport.cut)
