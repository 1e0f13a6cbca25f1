"""The command `p2pl`. Everything heavy is imported inside the command that needs it.

Exit codes: 0 all well; 1 a bug of this package, or failed runs of a study; 2 something to fix by the user; 130 Ctrl-C,
143 SIGTERM, 129 SIGHUP.
"""

from __future__ import annotations

import gc
import shlex
import shutil
import sys
import textwrap
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from p2pl_async.cli.endings import errors
from p2pl_async.cli.guide import guide
from p2pl_async.cli.listing import groups_of_kinds
from p2pl_async.cli.probe import Pinging, show_link, show_topology
from p2pl_async.cli.seeing import add_to
from p2pl_async.cli.study import compare, run_varied, study
from p2pl_async.errors import Problem, ScenarioError

if TYPE_CHECKING:
    from p2pl_async.results.folder import RunFolder
    from p2pl_async.scenario import Loaded


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
add_to(app)
app.add_typer(study, name="study")
app.command()(compare)
app.command()(guide)


File = Annotated[Path, typer.Argument(metavar="SCENARIO", help="A scenario, as a TOML file.", show_default=False)]


Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help='Change a value: --set link.loss.p="20 %". May be repeated.'),
]


Seed = Annotated[int | None, typer.Option(min=0, help="Take this seed instead of the scenario's.", show_default=False)]


Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


_MESSAGES_OF_PAGE = 1_000_000  # with more, the page is made when asked for

_UNTIL_STARTED, _THEN = 500_000, 50_000  # new objects from one look for garbage to the next


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


@app.command()
def run(
    scenario: File,
    changes: Changes = None,
    seed: Seed = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where results go.  [default: runs/<name>/<seed>]", show_default=False),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Let --out overwrite an existing result.")] = False,
    trace: Annotated[
        bool | None,
        typer.Option(
            "--trace/--no-trace",
            help="Keep every message on every link: trace.parquet.  [default: unless there are over a million]",
            show_default=False,
        ),
    ] = None,
    payloads: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help='Keep the first bytes of each message in the trace, such as "256 B": `p2pl export --pcapng` has them.',
            show_default=False,
        ),
    ] = None,
    save_models: Annotated[
        bool, typer.Option("--save-models", help="Keep every device's trained model: models/, as safetensors.")
    ] = False,
    share_baselines: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Take baselines that are there, of the same data, model, training and seed; put others there.",
            show_default=False,
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
    no_plots: Annotated[bool, typer.Option("--no-plots", help="Draw no plots, and write no page.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Serve a page that shows the run while it goes.")] = False,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=A|B",
            help='Run every combination of values: --vary "link.loss=0 %|10 %". May be repeated. Results go to '
            "results/<file>, and what is done there is not run again.",
        ),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Run so many seeds, and show their means.", show_default=False)
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Runs at a time, with --vary or --seeds.")] = 1,
    debug: Debug = False,
) -> None:
    """Emulate a scenario and its baselines; show and keep results."""
    if vary or seeds is not None:
        first = 1 if seed is None else seed
        numbers = list(range(first, first + (seeds or 1)))
        with errors(debug):
            one_run = {"force": force, "trace": trace, "watch": watch, "payloads": payloads}
            _refuse_single(**one_run, share_baselines=share_baselines)
            run_varied(scenario, vary or [], changes or [], numbers, jobs, out, quiet=quiet, plots=not no_plots)
        return
    with errors(debug) as more:
        if share_baselines is not None and save_models:
            raise ScenarioError("p2pl run", [Problem("--share-baselines", "keeps no models; leave out --save-models")])
        if payloads is not None and trace is False:
            raise ScenarioError("p2pl run", [Problem("--payloads", "are kept in the trace; leave out --no-trace")])
        captured = 0 if payloads is None else int(_value("p2pl run", "--payloads", payloads, "PositiveBytes"))
        loaded = _load(scenario, changes, seed)
        from p2pl_async.experiment import running as experiment
        from p2pl_async.results.folder import RunFolder

        folder = RunFolder(out, loaded.scenario.name, loaded.scenario.seed, force=force)
        more += [
            lambda: _recorded(folder),
            lambda: _repeat(scenario, changes, loaded.scenario.seed),
        ]
        with ExitStack() as stack:
            progress = None
            if not quiet:
                from p2pl_async.report.live import Live

                progress = stack.enter_context(Live())
            if watch:
                from p2pl_async.report.serving import ResultsServer

                server = stack.enter_context(ResultsServer(folder.path.parent))
                print(f"watch it at {server.address}", flush=True)
            announce = None if quiet else print
            kept = _MESSAGES_OF_PAGE if trace is None else trace
            result = experiment.run(
                loaded.scenario,
                out=folder,
                trace=kept,
                payloads=captured,
                save_models=save_models,
                share_baselines=share_baselines,
                progress=progress,
                announce=announce,
            )
        if not no_plots:
            from p2pl_async.report.plots import write_plots

            write_plots(result)
            if result.summary["messages"]["sent"] <= _MESSAGES_OF_PAGE:
                from p2pl_async.report.page.writing import write_page

                write_page(result)
        if not quiet:
            from rich.console import Console

            from p2pl_async.report.tables import final_table

            Console().print(final_table(result))


def _refuse_single(**given: object) -> None:
    """Refuse options that are for one run, where there are many."""
    for name, value in given.items():
        if value:
            text = "is for one run; leave it out with --vary and --seeds"
            raise ScenarioError("p2pl run", [Problem(f"--{name.replace('_', '-')}", text)])


@app.command()
def predict(
    scenario: File,
    emulate: Annotated[bool, typer.Option("--run", help="Also emulate it, and compare.")] = False,
    runs: Annotated[
        int, typer.Option(min=1, help="With lost messages: emulate so many times, and compare their mean.")
    ] = 1,
    flow: Annotated[bool, typer.Option("--flow", help="The gradient flow instead of steps.")] = False,
    target: Annotated[
        str | None,
        typer.Option(metavar="ACCURACY", help="What every device is to reach, such as 90%.", show_default=False),
    ] = None,
    compare: Annotated[bool, typer.Option(help="Compare topologies and links.")] = True,
    memory: Annotated[str, typer.Option(metavar="SIZE", help="Most memory to use.")] = "4 GiB",
    changes: Changes = None,
    seed: Seed = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Where results go.  [default: runs/<name>-prediction/<seed>]", show_default=False
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Let --out overwrite an existing result.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
    no_plots: Annotated[bool, typer.Option("--no-plots", help="Draw no plots.")] = False,
    debug: Debug = False,
) -> None:
    """Predict DGD, CTA or ATC with squared loss in closed form."""
    with errors(debug):
        most = _value("p2pl predict", "--memory", memory, "PositiveBytes")
        goal = None if target is None else _value("p2pl predict", "--target", target, "Probability")
        loaded = _load(scenario, changes, seed)
        from p2pl_async import prediction
        from p2pl_async.report import predictions
        from p2pl_async.results.folder import RunFolder

        folder = RunFolder(out, f"{loaded.scenario.name}-prediction", loaded.scenario.seed, force=force)
        found = prediction.predict(loaded.scenario, time="flow" if flow else "recursion", most_bytes=most)
        measured: prediction.Measurement | prediction.Repetitions | None = None
        with ExitStack() as stack:
            if runs > 1:
                measured = prediction.repeat(found, runs)
            elif emulate:
                progress = None
                if not quiet:
                    from p2pl_async.report.live import Live

                    progress = stack.enter_context(Live())
                measured = prediction.measure(found, progress=progress)
        report = prediction.compare(found, target=goal) if compare else None
        predictions.write_prediction(folder, found, measured, report, plots=not no_plots)
        if not quiet:
            from rich.console import Console

            Console().print(predictions.text(found, measured, report))
            print(f"results in {folder.path}")


@app.command()
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
        from p2pl_async.cli.checking import look_at_all, look_at_file

        found = _load(scenario, changes, seed).scenario
        warnings, facts = look_at_file(found) if quick else look_at_all(found)
        for text in warnings:
            print(f"warning: {text}")
        for text in facts:
            print(text)
        print(
            f"{scenario} is fine: {found.devices.count} devices, topology {getattr(found.topology, 'kind', '')}, "
            f"protocol {found.protocol.kind}, seed {found.seed}"
        )


@app.command(name="list")
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


@app.command()
def probe(
    scenario: File,
    explain: Annotated[
        tuple[int, int] | None,
        typer.Option(metavar="SRC DST", help="Show what this link does, and which rule set each value."),
    ] = None,
    src: Annotated[
        int | None, typer.Option("--from", metavar="SRC", help="Send messages from this device ...", show_default=False)
    ] = None,
    dst: Annotated[
        int | None, typer.Option("--to", metavar="DST", help="... to this one, like ping.", show_default=False)
    ] = None,
    every_link: Annotated[bool, typer.Option("--all", help="Send messages over each link in turn.")] = False,
    size: Annotated[str, typer.Option(metavar="SIZE", help="Bytes of a message.")] = "1 kB",
    count: Annotated[int | None, typer.Option(min=1, help="Messages.  [default: 1000; 100 with --all]")] = None,
    interval: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="From one to the next.  [default: when the radio is free]", show_default=False
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where pictures go.  [default: runs/<name>/probe]", show_default=False),
    ] = None,
    changes: Changes = None,
    seed: Seed = None,
    debug: Debug = False,
) -> None:
    """Show a topology, the settings of a link, or messages over it."""
    with errors(debug):
        loaded = _load(scenario, changes, seed)
        if explain is not None:
            show_link(loaded, *explain)
        elif src is None and dst is None and not every_link:
            show_topology(loaded)
        else:
            pairs = None if every_link else _pair(src, dst)
            Pinging(loaded.scenario, size, count or (100 if every_link else 1000), interval, out).show(pairs)


def _pair(src: int | None, dst: int | None) -> tuple[int, int]:
    if src is None or dst is None:
        missing = "--from" if src is None else "--to"
        raise ScenarioError("p2pl probe", [Problem(missing, "must be given too, or use --all for every link")])
    return src, dst


def _value(command: str, option: str, text: str, kind: str) -> float:
    """Return the value of an option that is a quantity: the name of one in `units`, such as "Probability"."""
    from pydantic import TypeAdapter, ValidationError

    from p2pl_async.basics import units

    try:
        value: float = TypeAdapter(getattr(units, kind)).validate_python(text)
    except ValidationError as error:
        raise ScenarioError(command, [Problem(option, error.errors()[0]["msg"], text)]) from error
    return value


def _load(path: Path, changes: list[str] | None, seed: int | None) -> Loaded:
    from p2pl_async.scenario.reading.load import read_scenario

    loaded = read_scenario(path, changes or (), seed)
    gc.freeze()
    gc.set_threshold(_THEN)
    return loaded


def _recorded(folder: RunFolder) -> str:
    """Return where the results of a run that was cut short are; nothing if there are none."""
    return f"what was recorded so far is in {folder.path}" if folder.begun else ""


def _repeat(path: Path, changes: list[str] | None, seed: int) -> str:
    """Return the command that runs a scenario again."""
    sets = [part for change in changes or () for part in ("--set", change)]
    return "to repeat it: " + shlex.join(["p2pl", "run", str(path), "--seed", str(seed), *sets])
