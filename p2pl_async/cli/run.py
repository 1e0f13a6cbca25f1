"""`p2pl run`: one emulation with its baselines, and what is shown and kept of it; or many, by `study`."""

from __future__ import annotations

import gc
import shlex
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from p2pl_async.cli.endings import errors
from p2pl_async.cli.options import Changes, Debug, File, Force, Quiet, Seed, load, quantity
from p2pl_async.cli.study import run_varied
from p2pl_async.errors import Problem, ScenarioError

if TYPE_CHECKING:
    from p2pl_async.experiment.forecast import Forecast
    from p2pl_async.results.folder import RunFolder
    from p2pl_async.results.run import Run
    from p2pl_async.scenario.scenario import Scenario

Out = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Where results go.  [default: runs/<name>/<seed>]", show_default=False),
]

Trace = Annotated[
    bool | None,
    typer.Option(
        "--trace/--no-trace",
        help="Keep every message on every link: trace.parquet.  [default: unless there are over a million]",
        show_default=False,
    ),
]

Payloads = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help='Keep the first bytes of each message in the trace, such as "256 B": `p2pl export --pcapng` has them.',
        show_default=False,
    ),
]

SaveModels = Annotated[
    bool, typer.Option("--save-models", help="Keep every device's trained model: models/, as safetensors.")
]

ShareBaselines = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Take baselines that are there, of the same data, model, training and seed; put others there.",
        show_default=False,
    ),
]

NoPlots = Annotated[bool, typer.Option("--no-plots", help="Draw no plots, and write no page.")]

Watch = Annotated[bool, typer.Option("--watch", help="Serve a page that shows the run while it goes.")]

Vary = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=A|B",
        help='Run every combination of values: --vary "link.loss=0 %|10 %". May be repeated. Results go to '
        "results/<file>, and what is done there is not run again.",
    ),
]

Seeds = Annotated[int | None, typer.Option(min=1, help="Run so many seeds, and show their means.", show_default=False)]

Jobs = Annotated[int, typer.Option("--jobs", "-j", min=1, help="Runs at a time, with --vary or --seeds.")]

_MESSAGES_OF_PAGE = 1_000_000  # with more, the page is made when asked for


def run(
    scenario: File,
    changes: Changes = None,
    seed: Seed = None,
    out: Out = None,
    force: Force = False,
    trace: Trace = None,
    payloads: Payloads = None,
    save_models: SaveModels = False,
    share_baselines: ShareBaselines = None,
    quiet: Quiet = False,
    no_plots: NoPlots = False,
    watch: Watch = False,
    vary: Vary = None,
    seeds: Seeds = None,
    jobs: Jobs = 1,
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
        what = {
            "trace": _MESSAGES_OF_PAGE if trace is None else trace,
            "payloads": 0 if payloads is None else int(quantity("p2pl run", "--payloads", payloads, "PositiveBytes")),
            "save_models": save_models,
            "share_baselines": share_baselines,
        }
        loaded = load(scenario, changes, seed)
        from p2pl_async.results.folder import RunFolder

        folder = RunFolder(out, loaded.scenario.name, loaded.scenario.seed, force=force)
        more += [
            lambda: _recorded(folder),
            lambda: _repeat(scenario, changes, loaded.scenario.seed),
        ]
        result = _emulate(loaded.scenario, folder, what, quiet=quiet, watch=watch)
        if not no_plots:
            _draw(result)
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


def _emulate(scenario: Scenario, folder: RunFolder, what: dict[str, Any], *, quiet: bool, watch: bool) -> Run:
    """Run a scenario, and show how far it is."""
    from p2pl_async.experiment import running as experiment

    with ExitStack() as stack:
        progress = None
        if not quiet:
            from p2pl_async.report.live import Live

            progress = stack.enter_context(Live())
        if watch:
            from p2pl_async.report.serving import ResultsServer

            server = stack.enter_context(ResultsServer(folder.path.parent))
            print(f"watch it at {server.address}", flush=True)

        def begin(will_take: Forecast) -> None:
            gc.freeze()  # torch and what was made for the run stay: to look through them took 2 % of the quick start
            if not quiet:
                print(will_take)

        return experiment.run(scenario, out=folder, progress=progress, announce=begin, **what)


def _draw(result: Run) -> None:
    """Write the plots of a run, and its page if that isn't too large."""
    from p2pl_async.report.plots import write_plots

    write_plots(result)
    if result.summary["messages"]["sent"] <= _MESSAGES_OF_PAGE:
        from p2pl_async.report.page.writing import write_page

        write_page(result)


def _recorded(folder: RunFolder) -> str:
    """Return where the results of a run that was cut short are; nothing if there are none."""
    return f"what was recorded so far is in {folder.path}" if folder.begun else ""


def _repeat(path: Path, changes: list[str] | None, seed: int) -> str:
    """Return the command that runs a scenario again."""
    sets = [part for change in changes or () for part in ("--set", change)]
    return "to repeat it: " + shlex.join(["p2pl", "run", str(path), "--seed", str(seed), *sets])
