"""`p2pl check`: everything that can be wrong with a scenario, or surprise its author, before it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from p2pl_async.cli.endings import errors
from p2pl_async.cli.options import Changes, Debug, File, Seed, load

if TYPE_CHECKING:
    from p2pl_async.scenario.scenario import Scenario


def check(
    scenario: File,
    changes: Changes = None,
    seed: Seed = None,
    quick: Annotated[bool, typer.Option("--quick", help="Look at the file alone: no data, graph, model.")] = False,
    debug: Debug = False,
) -> None:
    """Say everything that is wrong with a scenario, at once.

    Loads and splits the data, makes graph and links, tries the model on some mini-batches, and tells what a run takes.
    """
    with errors(debug):
        found = load(scenario, changes, seed).scenario
        warnings, facts = look_at_file(found) if quick else look_at_all(found)
        for text in warnings:
            print(f"warning: {text}")
        for text in facts:
            print(text)
        print(
            f"{scenario} is fine: {found.devices.count} devices, topology {getattr(found.topology, 'kind', '')}, "
            f"protocol {found.protocol.kind}, seed {found.seed}"
        )


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
