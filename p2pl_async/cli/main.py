"""The command `p2pl`. Everything heavy is imported inside the command that needs it.

Exit codes: 0 all well; 1 a bug of this package, or failed runs of a study; 2 something to fix by the user; 130 Ctrl-C,
143 SIGTERM, 129 SIGHUP.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from p2pl_async.cli.checking import check
from p2pl_async.cli.endings import errors
from p2pl_async.cli.guide import guide
from p2pl_async.cli.listing import list_kinds
from p2pl_async.cli.options import Debug
from p2pl_async.cli.predict import predict
from p2pl_async.cli.probe import probe
from p2pl_async.cli.run import run
from p2pl_async.cli.seeing import explain_run, export, report
from p2pl_async.cli.study import compare, study


class _InOrder(TyperGroup):
    """Lists the commands as people come to need them; those that are not named here follow."""

    _FIRST = (
        "guide",
        "check",
        "run",
        "report",
        "explain-run",
        "compare",
        "study",
        "list",
        "probe",
        "predict",
        "export",
    )

    def list_commands(self, ctx: Any) -> list[str]:
        return [*self._FIRST, *(name for name in self.commands if name not in self._FIRST)]


app = typer.Typer(
    cls=_InOrder,
    help="Emulate asynchronous peer-to-peer deep learning over imperfect links.",
    epilog="p2pl guide start leads through a first run.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help, which doesn't load rich
)
for _command in (guide, check, run, report, compare, probe, predict, export):
    app.command()(_command)
app.command(name="explain-run")(explain_run)
app.command(name="list")(list_kinds)
app.add_typer(study, name="study")

_UNTIL_STARTED = 500_000  # new objects from one look for garbage to the next, until a scenario is loaded


def main() -> None:
    """Run the command line."""
    # Nearly all that starting makes is there to stay: looking for garbage among it took a seventh of `p2pl check`.
    gc.set_threshold(_UNTIL_STARTED)
    app()


def _tell_version(asked: bool) -> None:
    if asked:
        from p2pl_async import __version__

        print(f"p2pl {__version__}")
        raise typer.Exit


@app.callback()
def start(
    version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Take the options that come before a command."""


@app.command(name="import")
def import_(
    name: Annotated[str, typer.Argument(metavar="FORMAT", help="mahimahi, k7, netem, ns2 or bonnmotion.")],
    path: Annotated[Path, typer.Argument(metavar="FILE", help="The file to read.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="PART", help="The part of a scenario to write, as TOML.")],
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there.")] = False,
    debug: Debug = False,
) -> None:
    """Turn a trace, netem line or movements into scenario tables."""
    with errors(debug):
        from p2pl_async.importing import import_file

        for text in import_file(name, path, out, force=force):
            print(f"warning: {text}", file=sys.stderr)
        print(f'wrote {out}; a scenario begins with: extends = "{out.name}"')


@app.command()
def schema(debug: Debug = False) -> None:
    """Print the JSON Schema of scenario files, for editors."""
    with errors(debug):
        import json

        from p2pl_async.scenario.reading.jsonschema import scenario_schema

        print(json.dumps(scenario_schema(), indent=2))
