"""`p2pl check`: everything that can be wrong with a scenario, or surprise its author, before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p2pl_async.cli.endings import errors
from p2pl_async.cli.options import Changes, Debug, Seed, is_study, load
from p2pl_async.errors import Problem, ScenarioError

if TYPE_CHECKING:
    from p2pl_async.scenario.scenario import Scenario


def check(
    scenario: Annotated[
        Path, typer.Argument(metavar="SCENARIO", help="A scenario, or a study, as a TOML file.", show_default=False)
    ],
    changes: Changes = None,
    seed: Seed = None,
    quick: Annotated[bool, typer.Option("--quick", help="Look at the file alone: no data, graph, model.")] = False,
    debug: Debug = False,
) -> None:
    """Say all that is wrong with a scenario or a study, at once.

    Loads and splits the data, makes graph and links, tries the model on some mini-batches, and tells what a run takes.
    """
    with errors(debug):
        if is_study(scenario):
            _check_study(scenario, changes or [], seed, quick=quick)
            return
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


def _check_study(file: Path, changes: list[str], seed: int | None, *, quick: bool) -> None:
    """Look at a run of each variant of a study, with its first seed; a warning of several variants is told once."""
    from p2pl_async.scenario.reading.load import change_of
    from p2pl_async.study.factors import title_of
    from p2pl_async.study.jobs import first_of, problems_of_variants
    from p2pl_async.study.planning import load_study

    if seed is not None:
        raise ScenarioError("p2pl check", [Problem("--seed", "is for a scenario; a study says its own seeds")])
    study = load_study(file, [change_of(text, str(file)) for text in changes])
    warnings: dict[str, list[str]] = {}  # -> titles of the variants
    problems: list[tuple[str, Problem]] = []
    for variant in study.variants:
        title = title_of(variant.labels)
        try:
            found, facts = (look_at_file if quick else look_at_all)(variant.scenario)
        except ScenarioError as error:
            problems += [(title, problem) for problem in error.problems]
            continue
        for text in found:
            warnings.setdefault(text, []).append(title)
    if problems:
        raise ScenarioError(str(file), problems_of_variants(problems))
    for text, titles in warnings.items():
        of = "" if len(titles) == len(study.variants) else f"{first_of(titles)}: "
        print(f"warning: {of}{text}")
    if quick:
        print(*facts, sep="\n")
    variants, seeds = len(study.variants), len(study.settings.seeds)
    print(f"{file} is fine: a study of {variants} variants x {seeds} seeds = {len(study.jobs)} runs")


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
