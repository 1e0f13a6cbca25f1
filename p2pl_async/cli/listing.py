"""`p2pl list`: everything that a scenario can name, and the metrics of a run."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from p2pl_async.cli.endings import errors
from p2pl_async.cli.options import Debug
from p2pl_async.errors import Problem, ScenarioError

if TYPE_CHECKING:
    from p2pl_async.basics.settings import Settings


def list_kinds(
    what: Annotated[
        str | None,
        typer.Argument(
            help="A group, such as protocols, or one of what is in them, such as sgp: its keys, with an example.",
            show_default=False,
        ),
    ] = None,
    debug: Debug = False,
) -> None:
    """List what a scenario can choose by name; or the keys of one.

    Metrics are listed too, and each list of keys ends with an example.
    """
    with errors(debug):
        groups = groups_of_kinds()
        if what is not None and what not in groups:
            _describe(what, list(groups))
            return
        width = min(max(shutil.get_terminal_size((100, 24)).columns, 60), 100) - 23
        for name in groups if what is None else [what]:
            print(name)
            for kind, line in groups[name]:
                for i, part in enumerate(textwrap.wrap(line, width)):
                    print(f"  {'' if i else kind:<20} {part}")


def _describe(name: str, groups: list[str]) -> None:
    """Print all that a scenario can choose by this name."""
    from p2pl_async.basics.settings import kind_of, nearest
    from p2pl_async.cli.describing import all_kinds, description

    known = all_kinds()
    kinds = [kind for kind in known if kind_of(kind.cls) == name]
    if not kinds:
        guess = nearest(name, [*groups, *(kind_of(kind.cls) for kind in known)])
        hint = f'did you mean "{guess}"?  ' if guess else ""
        raise ScenarioError("p2pl list", [Problem("what", f"{hint}known: {', '.join(groups)}", name)])
    from rich.console import Console

    for kind in kinds:
        Console().print(*description(kind), sep="\n", end="")


def groups_of_kinds() -> dict[str, list[tuple[str, str]]]:
    """Return group -> (kind, its one line) of everything that a scenario chooses by name, and of metrics."""
    from p2pl_async.air import SharedMedium
    from p2pl_async.learning.data_settings import DataSettings
    from p2pl_async.learning.settings import TrainSettings
    from p2pl_async.link import Latency, LinkSettings
    from p2pl_async.radio import RadioSettings
    from p2pl_async.results.metrics import METRICS
    from p2pl_async.scenario.reading.presets import LINK_PRESETS, SCENARIO_PRESETS
    from p2pl_async.scenario.scenario import Scenario
    from p2pl_async.scenario.tables import Evaluate

    def classes(table: type[Settings], key: str) -> Mapping[str, type[Settings]]:
        from p2pl_async.basics.settings import OneOf, marker

        found = marker(table.model_fields[key])
        assert isinstance(found, OneOf)
        return found.classes

    def kinds(table: type[Settings], key: str) -> list[tuple[str, str]]:
        return [(kind, _first_line(cls)) for kind, cls in classes(table, key).items()]

    return {
        "protocols": list(_protocols(classes(Scenario, "protocol"))),
        "topologies": kinds(Scenario, "topology"),
        "relays": kinds(Scenario, "relay"),
        "latencies": kinds(LinkSettings, "latency"),
        "losses": kinds(LinkSettings, "loss"),
        "rates": kinds(LinkSettings, "rate"),
        "outages": kinds(LinkSettings, "outage"),
        "media": kinds(Scenario, "medium"),
        "air times": kinds(SharedMedium, "airtime"),
        "over-time": kinds(Latency, "base"),
        "phys": kinds(RadioSettings, "phy"),
        "path losses": kinds(RadioSettings, "path_loss"),
        "fadings": kinds(RadioSettings, "fading"),
        "mobilities": kinds(Scenario, "mobility"),
        "presets": [(name, preset.line) for name, preset in LINK_PRESETS.items()],
        "scenarios": [(name, task.line) for name, task in SCENARIO_PRESETS.items()],
        "data": kinds(DataSettings, "dataset"),
        "partitions": kinds(DataSettings, "partition"),
        "models": kinds(Scenario, "model"),
        "training losses": kinds(TrainSettings, "loss"),
        "scores": kinds(Evaluate, "metrics"),
        "schedules": kinds(TrainSettings, "schedule"),
        "events": kinds(Scenario, "event"),
        "metrics": [(name, f"{one.description}{one.unit and f' ({one.unit})'}") for name, one in METRICS.items()],
    }


def _protocols(classes: Mapping[str, type[Any]]) -> Iterator[tuple[str, str]]:
    """Yield each protocol's line, and one for its delivery contract and what it sends, with default settings."""
    for kind, cls in sorted(classes.items()):
        yield kind, _first_line(cls)
        protocol = cls()
        if protocol.contract is not None:
            size = protocol.models_per_message
            yield "", f"{protocol.contract}; {size:g} model{'s' * (size != 1)} per message"


def _first_line(cls: type) -> str:
    return (cls.__doc__ or "").strip().partition("\n")[0]
