"""Commands that show a finished run: its page, what held it back, and files for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from p2pl_async.cli.endings import errors
from p2pl_async.cli.options import Debug
from p2pl_async.errors import Problem, ScenarioError

Folder = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.", show_default=False)]


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...", help="Folders of runs, of which several are compared, or of a study.", show_default=False
        ),
    ],
    serve: Annotated[
        bool, typer.Option("--serve", help="Serve pages of all runs below RUN to this machine's browser, live.")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="To serve on; 0: a free one.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Where the page goes.  [default: RUN/report.html; comparison.html]", show_default=False
        ),
    ] = None,
    debug: Debug = False,
) -> None:
    """Write a page of a run, of runs side by side, or of a study.

    It is one file that opens anywhere, offline.
    """
    with errors(debug):
        if serve:
            from p2pl_async.report.serving import ResultsServer

            if len(runs) > 1:
                text = "serves all runs below one folder; give that folder alone"
                raise ScenarioError("p2pl report", [Problem("--serve", text)])
            server = ResultsServer(runs[0], port)
            print(f"{server.address}   (Ctrl-C ends it)", flush=True)
            server.serve()
            return
        from p2pl_async.results.run import load_run

        if len(runs) > 1:
            from p2pl_async.report.page.comparing import write_comparison

            print(write_comparison({str(run): load_run(run) for run in runs}, out or Path("comparison.html")))
            return
        if (runs[0] / "study.json").exists():
            from p2pl_async.study.folder import StudyFolder
            from p2pl_async.study.page import write_study_page
            from p2pl_async.study.results import recorded_results

            folder = StudyFolder(runs[0])
            print(write_study_page(recorded_results(folder), folder, out))
            return
        from p2pl_async.report.page.writing import write_page

        print(write_page(load_run(runs[0]), out))


def explain_run(run: Folder, debug: Debug = False) -> None:
    """Say in words what held the worst device back."""
    with errors(debug):
        from p2pl_async.report.findings import findings
        from p2pl_async.results.run import load_run

        found = findings(load_run(run))
        for one in found:
            print(f"- {one.text}")
        if not found:
            print("Nothing that a rule knows: no device is far behind, few messages were lost, nobody waited long.")


def export(
    run: Folder,
    perfetto: Annotated[bool, typer.Option("--perfetto", help="Trace events for ui.perfetto.dev.")] = False,
    pcapng: Annotated[bool, typer.Option("--pcapng", help="A capture of the messages, for Wireshark.")] = False,
    as_ip: Annotated[bool, typer.Option("--as-ip", help="The capture has IP and UDP headers.")] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Events for TensorBoard.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Every table.")] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where files go.  [default: RUN/export]", show_default=False)
    ] = None,
    debug: Debug = False,
) -> None:
    """Write a run for Perfetto, Wireshark, TensorBoard, or as CSV."""
    with errors(debug):
        if not (perfetto or pcapng or tensorboard or csv):
            text = "is missing: choose one or more of --perfetto, --pcapng, --tensorboard, --csv"
            raise ScenarioError("p2pl export", [Problem("the format", text)])
        if as_ip and not pcapng:
            raise ScenarioError("p2pl export", [Problem("--as-ip", "is about a capture; add --pcapng")])
        from p2pl_async.export.csv import write_csv
        from p2pl_async.export.pcapng import write_pcapng
        from p2pl_async.export.perfetto import write_perfetto
        from p2pl_async.export.tensorboard import write_tensorboard
        from p2pl_async.results.run import load_run
        from p2pl_async.results.table import writing

        loaded = load_run(run)
        folder = run / "export" if out is None else out
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        if perfetto:
            print(write_perfetto(loaded, folder / "perfetto.json.gz"))
        if pcapng:
            print(write_pcapng(loaded, folder / "messages.pcapng", as_ip=as_ip))
        if tensorboard:
            print(write_tensorboard(loaded, folder / "tensorboard"))
        if csv:
            print(*write_csv(loaded, folder / "csv"), sep="\n")
