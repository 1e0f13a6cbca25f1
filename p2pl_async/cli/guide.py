"""`p2pl guide`: the pages of the guide in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Annotated

import typer

from p2pl_async.cli.endings import errors
from p2pl_async.errors import Problem, ScenarioError

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def guide(
    topic: Annotated[
        str | None, typer.Argument(help="scenario, protocol, results or studies.", show_default=False)
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Show it in the browser, without a topic as one page.")] = False,
    debug: Debug = False,
) -> None:
    """Show a page of the guide, or which there are."""
    with errors(debug):
        known = pages()
        if topic is None and open_:
            _open("\n\n".join(known.values()))
            return
        if topic is None:
            for name, text in known.items():
                print(f"p2pl guide {name:<10} {text.partition(chr(10))[0].lstrip('# ')}")
            return
        if topic not in known:
            raise ScenarioError("p2pl guide", [Problem("topic", f"must be one of {', '.join(known)}", topic)])
        if open_:
            _open(known[topic])
            return
        from rich.console import Console
        from rich.markdown import Markdown

        Console().print(Markdown(known[topic]))


def _open(text: str) -> None:
    """Write Markdown as a page, open it in the browser, and print where it is."""
    import io
    import tempfile
    import webbrowser
    from pathlib import Path

    from rich.console import Console
    from rich.markdown import Markdown

    console = Console(record=True, file=io.StringIO(), width=110)
    console.print(Markdown(text))
    path = Path(tempfile.mkdtemp(prefix="p2pl-guide-")) / "guide.html"
    path.write_text(console.export_html(), encoding="utf-8")
    webbrowser.open(path.as_uri())
    print(path)


def pages() -> dict[str, str]:
    """Return topic -> page, as Markdown, in reading order."""
    found = sorted(files("p2pl_async").joinpath("guide").iterdir(), key=lambda path: path.name)
    texts = {path.name[2:-3]: path.read_text(encoding="utf-8") for path in found if path.name.endswith(".md")}
    return {topic: _filled(text) for topic, text in texts.items()}


def _filled(text: str) -> str:
    """Return a page with the tables that the program itself has."""
    from p2pl_async.results.metrics import METRICS
    from p2pl_async.results.summary_keys import RANGES, SUMMARY_KEYS
    from p2pl_async.results.table import DEVICE_COLUMNS, LINK_COLUMNS, METRIC_COLUMNS, TRACE_COLUMNS

    below = {key: f"{key}.min, .mean, .max" for key in RANGES}
    tables = {
        "summary keys": _table({below.get(key, key): row for key, row in SUMMARY_KEYS.items()}, "key"),
        "metrics": _table({name: (one.unit, one.description) for name, one in METRICS.items()}, "metric"),
        "columns": "\n".join(
            f"- `{name}.parquet`: {', '.join(f'`{column}`' for column in columns)}"
            for name, columns in {
                "metrics": METRIC_COLUMNS, "devices": DEVICE_COLUMNS, "links": LINK_COLUMNS, "trace": TRACE_COLUMNS
            }.items()
        ) + "\n\nNames end in their unit: `_s` seconds, `_j` joules, `_bytes` bytes.",
    }  # fmt: skip
    for name, table in tables.items():
        text = text.replace(f"<!-- {name} -->", table)
    return text


def _table(rows: Mapping[str, tuple[str, str]], head: str) -> str:
    lines = [f"| {head} | unit | meaning |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| `{name}` | {unit} | {meaning} |" for name, (unit, meaning) in rows.items())])
