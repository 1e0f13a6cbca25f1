"""`p2pl check`: everything that can be wrong with a scenario, or surprise its author, before it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from p2pl_async.scenario.scenario import Scenario


def look_at_file(scenario: Scenario) -> tuple[list[str], list[str]]:
    """Return warnings that need nothing but the file, and a sentence on what wasn't looked at."""
    from p2pl_async.scenario.building.event_warnings import warn_of_radio

    said = "not looked at: data, graph, links, model and memory; leave --quick out for those"
    return [*scenario.protocol.warnings, *warn_of_radio(scenario)], [said]


def look_at_all(scenario: Scenario) -> tuple[list[str], list[str]]:
    """Load and split the data, make graph and links, try the model; return warnings, and what a run will take.

    Raises:
        ScenarioError: if the data are not available or can't be split, the model doesn't fit them, the accelerator is
            missing, or memory doesn't suffice.
    """
    from p2pl_async.experiment.forecast import check_counts, forecast, make_trainer, try_out
    from p2pl_async.scenario.building.effects import warn_of_effects
    from p2pl_async.scenario.building.explain import explain_sync
    from p2pl_async.scenario.building.world import build_world

    check_counts(scenario)
    here = scenario.data is None or not scenario.protocol.trains or scenario.data.dataset.is_here
    world = build_world(scenario, learns=here)
    trainer = make_trainer(world)
    seconds = 0.0 if trainer is None else try_out(trainer)
    facts = [*explain_sync(world), str(forecast(world, trainer, seconds))]
    if not here:
        facts.append("not looked at: data and model, as the data would have to be downloaded, which a run does")
    return [*world.warnings, *warn_of_effects(world)], facts
