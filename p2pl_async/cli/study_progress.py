"""How far a study is: a bar in a terminal, else a line for each run that ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from p2pl_async.basics.units import show_seconds

if TYPE_CHECKING:
    from p2pl_async.study.jobs import Job
    from p2pl_async.study.running import Tally


@contextmanager
def shown(quiet: bool) -> Iterator[Callable[[Tally, Job | None], None] | None]:
    """Give a function that `run_study` tells how far it is; None if nothing is to be shown."""
    if quiet:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    begun = time.monotonic()
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Bar(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("")

        def progress(tally: Tally, job: Job | None) -> None:
            line = summary(tally, time.monotonic() - begun)
            bar.update(task, total=tally.total, completed=tally.known + tally.ended, description=line)
            if not console.is_terminal:
                what = "" if job is None else f"{'FAILED' if job.id in tally.failures else 'done'} {job.title}: "
                print(f"{what}{tally.known + tally.ended} of {tally.total}, {line}", file=console.file, flush=True)

        yield progress


def summary(tally: Tally, elapsed: float) -> str:
    """Return how far a study is, with the time that is left if jobs go on as they did.

    Args:
        tally: of the study.
        elapsed: seconds since it began.
    """
    parts = [f"{len(tally.failures)} failed"] if tally.failures else []
    if tally.left and tally.ended:
        parts.append(f"about {show_seconds(elapsed / tally.ended * tally.left)} left")
    return ", ".join(parts) or ("running" if tally.left else "complete")
