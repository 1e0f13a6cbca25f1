"""The commands `p2pl study`: planning and running a study."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p2pl_async.cli.endings import errors
from p2pl_async.cli.options import Debug, Quiet
from p2pl_async.errors import Problem, ScenarioError

if TYPE_CHECKING:
    from p2pl_async.study.folder import StudyFolder
    from p2pl_async.study.planning import Study
    from p2pl_async.study.results import Results as StudyResults
    from p2pl_async.study.running import Tally

study = typer.Typer(
    help="Answer a question with many runs.\n\nVariants of a scenario, each with several seeds.", no_args_is_help=True
)

StudyFile = Annotated[Path, typer.Argument(metavar="STUDY", help="A study, as a TOML file.", show_default=False)]

Results = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Its results.  [default: results/<file>]", show_default=False),
]

Jobs = Annotated[int, typer.Option("--jobs", "-j", min=1, help="Runs at a time; cores are divided among them.")]

Retry = Annotated[bool, typer.Option("--retry-failed", help="Run again what failed before.")]

_MOST_ROWS = 40


@study.command(name="run")
def run_command(
    file: StudyFile,
    jobs: Jobs = 1,
    on: Annotated[
        str,
        typer.Option(metavar="PLACE", help="local; ray, or ray://host:port; slurm. There, --jobs is cores per run."),
    ] = "local",
    out: Results = None,
    retry_failed: Retry = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Run what is not done yet of a study; safe to interrupt, and to start again."""
    with errors(debug):
        from p2pl_async.study.planning import load_study

        found = load_study(file)
        run_and_tell(found, folder_of(found, out), jobs, on=on, retry_failed=retry_failed, quiet=quiet)


@study.command()
def plan(file: StudyFile, out: Results = None, debug: Debug = False) -> None:
    """Say what would run of a study, what is done, and what changed so that it runs again; runs nothing."""
    with errors(debug):
        from p2pl_async.study.planning import load_study

        found = load_study(file)
        _show_plan(found, folder_of(found, out))


@study.command()
def show(
    study: Annotated[
        Path,
        typer.Argument(
            metavar="RESULTS", help="A folder of results, or a study file: then with its tables as they are now."
        ),
    ],
    out: Results = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print every run as a line, with all its numbers.")] = False,
    latex: Annotated[bool, typer.Option("--latex", help="Print the tables as LaTeX.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the answer as Markdown.")] = False,
    no_plots: Annotated[bool, typer.Option("--no-plots", help="Draw no figures.")] = False,
    debug: Debug = False,
) -> None:
    """Show the answer: tables with intervals and tests, figures, and whether expectations are met."""
    with errors(debug):
        from p2pl_async.study import writing
        from p2pl_async.study.folder import StudyFolder
        from p2pl_async.study.planning import load_study
        from p2pl_async.study.results import recorded_results, results_of

        if study.is_dir() or study.suffix != ".toml":
            folder = StudyFolder(study)
            results = recorded_results(folder)
        else:
            found = load_study(study)
            folder = folder_of(found, out)
            results = results_of(found, folder)
        for asked, text in ((csv, writing.csv), (latex, writing.latex), (markdown, writing.markdown)):
            if asked:
                print(text(results), end="")
                return
        show_answer(results, folder, plots=not no_plots)


def run_varied(
    scenario: Path,
    vary: list[str],
    changes: list[str],
    seeds: list[int],
    jobs: int,
    out: Path | None,
    *,
    quiet: bool,
    plots: bool,
) -> None:
    """Run a scenario with every combination of values and several seeds, and show a table.

    Args:
        scenario: its file.
        vary: "key.path=value|value|..." each.
        changes: "key.path=value" each, of all runs.
        seeds: of the runs.
        jobs: runs at a time.
        out: folder of the results; by default `results/<scenario>`.
        quiet: print errors only.
        plots: whether to draw figures.
    """
    from p2pl_async.scenario.reading.load import change_of
    from p2pl_async.scenario.reading.plain import toml_value
    from p2pl_async.study.planning import make_study
    from p2pl_async.study.results import results_of

    axes = {}
    for text in vary:
        name, equals, values = text.partition("=")
        if not equals or not name.strip() or not values.strip():
            wrong = 'must be like --vary "link.loss=0 %|10 %"'
            raise ScenarioError("p2pl run", [Problem(f"--vary {text[:60]}", wrong)])
        axes[name.strip()] = [toml_value(value.strip()) for value in values.split("|")]
    table = {"base": str(scenario.absolute()), "seeds": seeds, "vary": axes}
    news = [change_of(text, str(scenario)) for text in changes]
    found = make_study(table, scenario.stem, str(scenario), Path.cwd(), news)
    folder = folder_of(found, out)
    try:
        run_and_tell(found, folder, jobs, retry_failed=True, quiet=quiet)
    finally:
        if not quiet:
            show_answer(results_of(found, folder), folder, plots=plots)


def show_answer(results: StudyResults, folder: StudyFolder, *, plots: bool) -> None:
    """Print tables and verdicts, draw figures, and say where they are."""
    from rich.console import Console

    from p2pl_async.study.writing import terminal

    Console().print(terminal(results))
    if plots and results.settings.figure:
        from p2pl_async.study.figures import write_figures

        for path in write_figures(results, folder.path / "figures")[::2]:
            print(f"figure: {path}")


def folder_of(study: Study, out: Path | None) -> StudyFolder:
    """Return the folder of a study's results."""
    from p2pl_async.study.folder import RESULTS, StudyFolder

    return StudyFolder(RESULTS / study.name if out is None else out)


def run_and_tell(
    study: Study, folder: StudyFolder, jobs: int, *, on: str = "local", retry_failed: bool, quiet: bool
) -> None:
    """Run a study with progress, then say what failed; a failed job makes the exit code 1."""
    from p2pl_async.cli.study_progress import shown
    from p2pl_async.study.launchers import launcher
    from p2pl_async.study.running import run_study

    place = launcher(on, jobs, folder.path)
    try:
        with shown(quiet) as progress:
            tally = run_study(
                study, folder, place.executor,
                threads=place.threads, retry_failed=retry_failed, shared=place.shared, progress=progress,
            )  # fmt: skip
    finally:
        place.stop()
    _tell_failures(tally, folder, study)
    if tally.failures:
        raise typer.Exit(1)


def _tell_failures(tally: Tally, folder: StudyFolder, study: Study) -> None:
    for failure in list(tally.failures.values())[:_MOST_ROWS]:
        message = failure.message.strip().replace("\n", "\n    ")
        print(f"failed: {failure.title}\n    {message}", file=sys.stderr)
    if tally.failures:
        print(
            f"{len(tally.failures)} of {tally.total} runs failed; logs are in {folder.path / 'failed'}; "
            "--retry-failed runs them again",
            file=sys.stderr,
        )


def _show_plan(study: Study, folder: StudyFolder) -> None:
    from rich.console import Console
    from rich.table import Table

    from p2pl_async.study.progress import outlook_of

    outlook = outlook_of(study, folder)
    if study.settings.question:
        print(study.settings.question)
    n_variants, n_seeds = len(study.variants), len(study.settings.seeds)
    print(f"{n_variants} variants x {n_seeds} seeds = {len(study.jobs)} runs, in {folder.path}")
    print(f"  done     {outlook.done}\n  to run   {outlook.waiting}")
    if outlook.failed:
        print(f"  failed   {len(outlook.failed)} (with --retry-failed they run again)")
    for title, reason in list(outlook.changed.items())[:_MOST_ROWS]:
        print(f"  changed  {title}: {reason}")
    table = Table(*(factor.name for factor in study.factors), "done", "failed", "to run", box=None)
    rows = list(zip(study.variants, outlook.of_variants, strict=True))
    for variant, counts in rows[:_MOST_ROWS]:
        table.add_row(*variant.labels.values(), *(str(count) for count in counts))
    if len(rows) > _MOST_ROWS:
        table.caption = f"the first {_MOST_ROWS} of {len(rows):,} variants"
    Console().print(table)


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of finished runs.", show_default=False)],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The figure, as PNG and SVG.")] = Path("comparison"),
    no_plots: Annotated[bool, typer.Option("--no-plots", help="Draw no figure.")] = False,
    debug: Debug = False,
) -> None:
    """Compare runs: what differs in settings, and what came out.

    One table, differences by seed, and one figure.
    """
    with errors(debug):
        from rich.console import Console

        from p2pl_async.study.comparing import Comparison

        found = Comparison(runs)
        Console().print(found.answer())
        if not no_plots:
            print(f"figure: {found.draw(out)[0]}")
