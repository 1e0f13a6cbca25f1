"""`p2pl predict`: a run in closed form, and what emulating it gives beside that."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from p2pl_async.cli.endings import errors
from p2pl_async.cli.options import Changes, Debug, File, Force, Quiet, Seed, load, quantity


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
    force: Force = False,
    quiet: Quiet = False,
    no_plots: Annotated[bool, typer.Option("--no-plots", help="Draw no plots.")] = False,
    debug: Debug = False,
) -> None:
    """Predict DGD, CTA or ATC with squared loss in closed form."""
    with errors(debug):
        most = quantity("p2pl predict", "--memory", memory, "PositiveBytes")
        goal = None if target is None else quantity("p2pl predict", "--target", target, "Probability")
        loaded = load(scenario, changes, seed)
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
