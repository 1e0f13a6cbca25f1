"""Run a scenario: its protocol, then its baselines on the same data and devices, and what came of them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from p2pl_async.experiment.course import Course, Plan, Progress, Watch
from p2pl_async.hardware.compute import Compute
from p2pl_async.protocols.local import Local
from p2pl_async.results.folder import RunFolder
from p2pl_async.results.run import Run
from p2pl_async.scenario.building.device_conditions import clocks, consumption, downtimes, keeps_state
from p2pl_async.scenario.building.world import build_world
from p2pl_async.scenario.scenario import Scenario
from p2pl_async.scenario.tables import Stop


def run(
    scenario: Scenario,
    *,
    out: RunFolder | Path | str | None = None,
    trace: bool = False,
    progress: Progress | None = None,
    watch: Watch | None = None,
) -> Run:
    """Emulate a scenario and its baselines.

    Args:
        scenario: from `load_scenario`.
        out: the folder to write results into as the run goes, new or empty; by default nothing is
            written and the results are only returned.
        trace: keep every message on every link, not only its digest.
        progress: called often with how far the run is.
        watch: called with each device after each of its rounds, and the virtual time; looks and changes nothing.

    Returns:
        The results: summary, metrics, devices, links and baselines.

    Raises:
        ScenarioError: if something that the scenario names can't be had.
        DeviceFailed: if a device's protocol raises.
        Deadlock: if every device waits and nothing is left to happen.
    """
    folder = RunFolder(Path(out), scenario.name, scenario.seed) if isinstance(out, str | Path) else out
    world = build_world(scenario)
    plan = Plan(
        label=scenario.protocol.kind.rpartition(":")[2],  # "Gossip" of "gossip.py:Gossip"
        world=world,
        protocol=scenario.protocol,
        parts=world.parts,
        out_neighbors=world.out_neighbors,
        neighborhood=world.neighborhood,
        computes=scenario.devices.computes(),
        starts=scenario.devices.starts(scenario.seed),
        stop=scenario.stop,
        folder=folder,
        keep_trace=trace,
        progress=progress,
        watch=watch,
        downtimes=downtimes(scenario),
        keeps_state=keeps_state(scenario),
        clocks=clocks(scenario),
        consumption=consumption(scenario),
    )
    course = Course(plan)
    main = course.run()
    baselines: dict[str, Run] = {}
    if scenario.baselines.local:
        baselines["local"] = Course(_local(plan, course)).run()
    if scenario.baselines.central and world.dataset is not None:
        baselines["central"] = Course(_central(plan, course, len(world.dataset.y_train))).run()
    for name, baseline in baselines.items():
        keys = ("accuracy", "virtual_seconds", "rounds", "messages")
        main.summary["baselines"][name] = {key: baseline.summary[key] for key in keys}
    main.baselines = baselines
    if folder is not None:
        folder.write_summary(main.summary)
    return main


def _local(plan: Plan, course: Course) -> Plan:
    """Return the plan of the same devices training alone, for as long as the main run took."""
    until = course.clock.now
    if course.stopped_by != "virtual time":
        until = math.nextafter(until, math.inf)  # what ends at that very instant counts, as it did in the main run
    how = {name: getattr(plan.protocol, name) for name in ("epochs", "steps") if hasattr(plan.protocol, name)}
    return replace(
        plan,
        label="local",
        protocol=Local(**how),
        out_neighbors=[[] for _ in plan.parts],
        watch=None,
        neighborhood=None,
        stop=Stop.model_construct(virtual_time=until, rounds=plan.stop.rounds, accuracy=None),
        folder=plan.folder and plan.folder.beside("local"),
        downtimes=downtimes(plan.world.scenario),
    )


def _central(plan: Plan, course: Course, n_samples: int) -> Plan:
    """Return the plan of one device with all data, which goes through as many samples as all devices did."""
    rounds = max(1, round(course.samples_trained / n_samples))
    return replace(
        plan,
        label="central",
        protocol=Local(),
        parts=[np.arange(n_samples)],
        watch=None,
        out_neighbors=[[]],
        neighborhood=None,
        computes=[Compute.model_construct(per_epoch=1.0, per_sample=None, spread=0.0, jitter=0.0)],
        starts=[0.0],
        stop=Stop.model_construct(virtual_time=None, rounds=rounds, accuracy=None),
        folder=plan.folder and plan.folder.beside("central"),
        downtimes=None,
        keeps_state=None,
        clocks=None,
        consumption=None,
    )
