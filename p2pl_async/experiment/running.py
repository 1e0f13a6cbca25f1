"""Running a scenario: its protocol, then its baselines on the same data and devices."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from p2pl_async.experiment.forecast import Forecast, check_counts, forecast
from p2pl_async.experiment.measured_run import MeasuredRun, Progress, Watch
from p2pl_async.experiment.plan import central_plan, local_plan, main_plan
from p2pl_async.learning.delegation import Workers
from p2pl_async.learning.workers import workers_for
from p2pl_async.results.folder import RunFolder
from p2pl_async.results.run import Run
from p2pl_async.scenario.building.world import build_world
from p2pl_async.scenario.reading.load import load_scenario
from p2pl_async.scenario.scenario import Scenario


def run(
    scenario: Scenario | Path | str,
    *,
    out: RunFolder | Path | str | None = None,
    force: bool = False,
    trace: bool | int = False,
    save_models: bool = False,
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
        save_models: keep the trained model of every device, in `models/` of the folder or in memory: `Run.params`.
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
                save_models=save_models,
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
    save_models: bool,
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
    measured = make(plan, watch=watch)
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
            baseline = main.baselines[each.label] = make(each).run()
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


def _told(status: str, summary: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what the summary of the main run tells of a baseline."""
    keys = ("accuracy", "scores", "virtual_seconds", "rounds", "messages")
    return {"status": status, **{key: summary and summary[key] for key in keys}}
