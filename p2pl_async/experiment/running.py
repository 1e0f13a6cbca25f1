"""Running a scenario: its protocol, then its baselines on the same data and devices."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from p2pl_async.experiment.forecast import Forecast, check_counts, forecast
from p2pl_async.experiment.measured_run import MeasuredRun, Progress, Watch
from p2pl_async.experiment.plan import RunPlan, central_plan, local_plan, main_plan
from p2pl_async.experiment.shared_baselines import SharedBaselines
from p2pl_async.learning.delegation import Workers
from p2pl_async.learning.workers import workers_for
from p2pl_async.results.folder import RunFolder
from p2pl_async.results.run import Run
from p2pl_async.scenario.building.world import World, build_world
from p2pl_async.scenario.reading.load import load_scenario
from p2pl_async.scenario.scenario import Scenario


def run(
    scenario: Scenario | Path | str,
    *,
    out: RunFolder | Path | str | None = None,
    force: bool = False,
    trace: bool | int = False,
    payloads: int = 0,
    save_models: bool = False,
    share_baselines: Path | str | None = None,
    progress: Progress | None = None,
    watch: Watch | None = None,
    announce: Callable[[Forecast], object] | None = None,
) -> Run:
    """Emulate a scenario and its baselines.

    Args:
        scenario: from `load_scenario`, or the path of its file.
        out: the folder to write results into as the run goes, new or empty; by default nothing is
            written and the results are only returned.
        force: whether a result that is in `out` is replaced.
        trace: keep every message on every link, not only its digest; of a number, unless there are more.
        payloads: how many of the first bytes of each message the trace keeps.
        save_models: keep the trained model of every device, in `models/` of the folder or in memory: `Run.params`.
        share_baselines: a folder of baselines that runs share: one that is there, of the same data, model, training
            and seed, is taken; others are put there. It needs `out`, and doesn't keep models.
        progress: called often with how far the run is.
        watch: called with each device after each of its rounds, and the virtual time; looks and changes nothing.
        announce: called once, before it starts, with what it will take.

    Returns:
        The results: summary, metrics, devices, links and baselines.

    Raises:
        ScenarioError: if a data set or a file that the scenario names is not available, or memory doesn't suffice.
        DeviceFailed: if a device's protocol raises.
        Deadlock: if every device waits and no event is pending.
        Livelock: if devices go on and on at one instant.
        TypeError: if `scenario` or `out` is something else.
    """
    if isinstance(scenario, str | Path):
        scenario = load_scenario(scenario)
    if not isinstance(scenario, Scenario):
        raise TypeError(
            f"run takes a scenario or the path of its file, not a {type(scenario).__name__}; "
            'write run(load_scenario("ring.toml", ["seed=3"])), or Scenario.model_validate(table) for a dict'
        )
    if payloads and not trace:
        raise TypeError(f"payloads={payloads} are kept in the trace; write trace=True too")
    if share_baselines is not None and (out is None or save_models):
        raise TypeError("share_baselines needs a folder of results, out, and no save_models")
    folder = out
    if isinstance(out, str | Path):
        folder = RunFolder(Path(out), scenario.name, scenario.seed, force=force)
    if folder is not None and not isinstance(folder, RunFolder):
        raise TypeError(f"out must be the path of a folder, not a {type(out).__name__}")
    try:
        with workers_for(scenario.train) as workers:
            result = _run(
                scenario,
                folder,
                trace=trace,
                payloads=payloads,
                save_models=save_models,
                shared=None if share_baselines is None else SharedBaselines(Path(share_baselines)),
                progress=progress,
                watch=watch,
                announce=announce,
                workers=workers,
            )
        if folder is not None:
            folder.publish()
            result.move(folder.path)
        return result
    finally:
        if folder is not None:
            folder.close()


def _run(
    scenario: Scenario,
    folder: RunFolder | None,
    *,
    trace: bool | int,
    payloads: int,
    save_models: bool,
    shared: SharedBaselines | None,
    progress: Progress | None,
    watch: Watch | None,
    announce: Callable[[Forecast], object] | None,
    workers: Workers | None,
) -> Run:
    """Emulate a scenario and its baselines into a folder."""
    check_counts(scenario)
    most = math.inf if trace is True else int(trace)
    world = build_world(scenario)
    plan = main_plan(world, folder)
    make = functools.partial(
        MeasuredRun, world, most_traced=most, save_models=save_models, progress=progress, workers=workers
    )
    measured = make(plan, payloads=payloads, watch=watch)
    will_take = forecast(world, measured.rig.trainer)
    if announce is not None:
        announce(will_take)
    main = measured.run()
    plans = []
    if scenario.baselines.local:
        plans.append(local_plan(plan, world, measured.rig.trainings, measured.interval))
    if scenario.baselines.central and world.dataset is not None:
        n_samples = len(world.dataset.y_train)
        size = scenario.train.batch_size
        batch_size = n_samples if size == "all" else min(size, n_samples)
        plans.append(central_plan(plan, n_samples, measured.rig.samples_trained, batch_size))
    told = main.summary["baselines"]
    told.update((each.label, _told("waiting", None)) for each in plans)
    for each in plans:
        told[each.label] = _told("running", None)
        status = "failed"
        try:
            if folder is not None:
                folder.write_summary(main.summary)
            baseline = main.baselines[each.label] = _baseline(world, each, shared, make)
            status = "complete"
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        finally:
            told[each.label] = _told(status, baseline.summary if status == "complete" else None)
            if folder is not None:
                folder.write_summary(main.summary)
            if each.folder is not None:
                each.folder.close()
    return main


def _baseline(
    world: World, plan: RunPlan, shared: SharedBaselines | None, make: Callable[[RunPlan], MeasuredRun]
) -> Run:
    """Return the result of a baseline: computed, or the one that another run has put into a folder of shared ones."""
    if shared is None or plan.folder is None:
        return make(plan).run()
    with shared.one(world.scenario, plan) as one:
        known = one.take(plan.folder, world.warnings)
        if known is not None:
            return known
        computed = make(plan).run()
        one.put(plan.folder)
        return computed


def _told(status: str, summary: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what the summary of the main run tells of a baseline."""
    keys = ("accuracy", "scores", "virtual_seconds", "rounds", "messages")
    return {"status": status, **{key: summary and summary[key] for key in keys}}
