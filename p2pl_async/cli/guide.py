"""`p2pl guide`: the pages of the guide in the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Annotated

import typer

from p2pl_async.cli.endings import errors
from p2pl_async.cli.options import Debug
from p2pl_async.errors import Problem, ScenarioError


def guide(
    topic: Annotated[str | None, typer.Argument(help="One of its pages, such as scenario.", show_default=False)] = None,
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
                print(f"p2pl guide {name:<11} {text.partition(chr(10))[0].lstrip('# ')}")
            return
        if topic not in known:
            raise ScenarioError("p2pl guide", [Problem("topic", f"must be one of {', '.join(known)}", topic)])
        if open_:
            _open(known[topic])
            return
        from rich.console import Console
        from rich.markdown import Markdown

        console = Console()
        console.print(Markdown(narrow(known[topic], console.width - 2)))


def narrow(text: str, width: int) -> str:
    """Return Markdown whose lines of code fit a width, where a comment at their end can go onto lines above them."""
    found, is_code = list[str](), False
    for line in text.split("\n"):
        is_code = is_code != line.startswith("```")
        code = line.removeprefix("    ") if line.startswith("    ") else line if is_code else ""
        indent = line[: len(line) - len(line.lstrip())]
        command, mark, comment = line.rpartition("  # ")
        if len(code) > width and mark and command.strip():
            found += [f"{indent}# {part}" for part in textwrap.wrap(comment, width - 2)]
            line = command.rstrip()
        found.append(line)
    return "\n".join(found)


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
    for name, table in _tables():
        text = text.replace(f"<!-- {name} -->", table)
    return text


def _tables() -> Iterator[tuple[str, str]]:
    """Yield each name that stands for a table in a page, and the table."""
    from p2pl_async.basics import limits
    from p2pl_async.results.columns import COLUMNS
    from p2pl_async.results.metrics import METRICS
    from p2pl_async.results.summary_keys import RANGES, SUMMARY_KEYS, SUMMARY_TEXTS
    from p2pl_async.study.settings import MOST_JOBS

    below = {key: f"{key}.min, .mean, .max" for key in RANGES}
    yield "summary keys", _meanings({below.get(key, key): row for key, row in SUMMARY_KEYS.items()}, "key")
    yield "summary texts", _rows(("key", "text"), ((f"`{name}`", text) for name, text in SUMMARY_TEXTS.items()))
    yield "metrics", _meanings({name: (one.unit, one.description) for name, one in METRICS.items()}, "metric")
    for table, columns in COLUMNS.items():
        yield f"columns of {table}", _meanings(columns, "column")
    bounds = {
        "devices": limits.MOST_DEVICES,
        "links": limits.MOST_LINKS,
        "tables in a list, such as `[[event]]`": limits.MOST_ITEMS,
        "tables in tables": limits.MOST_NESTED,
        "files that extend one another": limits.MOST_EXTENDED,
        "MiB of a scenario": limits.MOST_SCENARIO_BYTES >> 20,
        "MiB of a file of measurements, unpacked": limits.MOST_TRACE_BYTES >> 20,
        "runs of a study": MOST_JOBS,
    }
    yield "limits", _rows(("what", "at most"), ((name, f"{most:,}") for name, most in bounds.items()))


def _meanings(rows: Mapping[str, tuple[str, str]], head: str) -> str:
    return _rows((head, "unit", "meaning"), ((f"`{name}`", unit, meaning) for name, (unit, meaning) in rows.items()))


def _rows(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
