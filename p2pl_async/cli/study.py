"""The commands `p2pl study`: planning and running a study."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p2pl_async.cli.endings import errors

if TYPE_CHECKING:
    from p2pl_async.study.folder import StudyFolder
    from p2pl_async.study.planning import Study
    from p2pl_async.study.running import Tally

study = typer.Typer(
    help="Answer a question with many runs: variants of a scenario, each with several seeds.", no_args_is_help=True
)

StudyFile = Annotated[Path, typer.Argument(metavar="STUDY", help="A study, as a TOML file.", show_default=False)]

Results = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Its results.  [default: results/<file>]", show_default=False),
]

Jobs = Annotated[int, typer.Option("--jobs", "-j", min=1, help="Runs at a time; cores are divided among them.")]

Retry = Annotated[bool, typer.Option("--retry-failed", help="Run again what failed before.")]

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]

_MOST_ROWS = 40


@study.command(name="run")
def run_command(
    file: StudyFile,
    jobs: Jobs = 1,
    out: Results = None,
    retry_failed: Retry = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Run what is not done yet of a study; safe to interrupt, and to start again."""
    with errors(debug):
        from p2pl_async.study.planning import load_study

        found = load_study(file)
        run_and_tell(found, folder_of(found, out), jobs, retry_failed=retry_failed, quiet=quiet)


@study.command()
def plan(file: StudyFile, out: Results = None, debug: Debug = False) -> None:
    """Say what would run of a study, what is done, and what changed so that it runs again; runs nothing."""
    with errors(debug):
        from p2pl_async.study.planning import load_study

        found = load_study(file)
        _show_plan(found, folder_of(found, out))


def folder_of(study: Study, out: Path | None) -> StudyFolder:
    """Return the folder of a study's results."""
    from p2pl_async.study.folder import RESULTS, StudyFolder

    return StudyFolder(RESULTS / study.name if out is None else out)


def run_and_tell(study: Study, folder: StudyFolder, jobs: int, *, retry_failed: bool, quiet: bool) -> None:
    """Run a study with progress, then say what failed; a failed job makes the exit code 1."""
    from p2pl_async.cli.study_progress import shown
    from p2pl_async.study.local import LocalProcesses, cores
    from p2pl_async.study.running import run_study

    threads = max(1, cores() // jobs)
    executor = LocalProcesses(jobs)
    try:
        with shown(quiet) as progress:
            tally = run_study(study, folder, executor, threads=threads, retry_failed=retry_failed, progress=progress)
    finally:
        executor.stop()
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
