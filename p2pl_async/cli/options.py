"""Options that several commands take, and reading what they say."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p2pl_async.errors import Problem, ScenarioError

if TYPE_CHECKING:
    from p2pl_async.scenario import Loaded

File = Annotated[Path, typer.Argument(metavar="SCENARIO", help="A scenario, as a TOML file.", show_default=False)]

Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help='Change a value: --set link.loss.p="20 %". May be repeated.'),
]

Seed = Annotated[int | None, typer.Option(min=0, help="Take this seed instead of the scenario's.", show_default=False)]

Force = Annotated[bool, typer.Option("--force", help="Let --out overwrite an existing result.")]

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]

_NEW_OBJECTS = 50_000  # from one look for garbage to the next, once a scenario is loaded


def load(path: Path, changes: list[str] | None, seed: int | None) -> Loaded:
    """Read a scenario with what the command line changes of it.

    Raises:
        ScenarioError: with everything that is wrong in it; that it is a study, if it is one.
    """
    from p2pl_async.scenario.reading.load import read_scenario

    try:
        loaded = read_scenario(path, changes or (), seed)
    except ScenarioError:
        if is_study(path):
            text = "is a key of a study, not of a scenario: `p2pl study run` runs it, `p2pl check` checks its runs"
            raise ScenarioError(str(path), [Problem("base", text)]) from None
        raise
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS)
    return loaded


def is_study(path: Path) -> bool:
    """Tell whether a file is a study: it names the scenario that its runs start from."""
    from p2pl_async.scenario.reading.load import read_toml

    try:
        return "base" in read_toml(path)
    except ScenarioError:
        return False


def quantity(command: str, option: str, text: str, kind: str) -> float:
    """Return the value of an option that is a quantity: the name of one in `units`, such as "Probability"."""
    from pydantic import TypeAdapter, ValidationError

    from p2pl_async.basics import units

    try:
        value: float = TypeAdapter(getattr(units, kind)).validate_python(text)
    except ValidationError as error:
        raise ScenarioError(command, [Problem(option, error.errors()[0]["msg"], text)]) from None
    return value
