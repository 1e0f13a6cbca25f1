"""A study's answer as text: for a terminal, as Markdown, as LaTeX, as CSV."""

from __future__ import annotations

import io
from typing import Any

from p2pl_async.study.answers import ClaimCheck, Sheet, bounds, difference_sheet, table_sheet, verdicts
from p2pl_async.study.results import Results, all_runs

WORDS = {True: "met", False: "not met", None: "not known"}
_LATEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}", "$": r"\$",
          "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
          "±": r"$\pm$"}  # fmt: skip


def sheets(results: Results) -> list[Sheet]:
    """Return every table of the answer, each followed by its differences from the baseline."""
    found = []
    for table in results.settings.table:
        found.append(table_sheet(results, table))
        differences = difference_sheet(results, table)
        found += [differences] if differences is not None else []
    return found


def progress_of(results: Results) -> str:
    """Return how many runs there are, if not all."""
    missing = results.jobs - len(results.runs)
    return f"{missing} of {results.jobs} runs are missing" if missing else ""


def markdown(results: Results) -> str:
    """Return the answer as Markdown."""
    parts = [f"## {results.settings.question or results.name}"]
    for sheet in sheets(results):
        rows = [sheet.header, ["---"] * len(sheet.header), *sheet.rows]
        if sheet.title:
            parts.append(f"**{sheet.title}**")
        parts.append("\n".join(f"| {' | '.join(text.replace('|', chr(92) + '|') for text in row)} |" for row in rows))
        parts.append("; ".join(sheet.notes) + ".")
    told = verdicts(results)
    if told:
        parts.append("\n".join(line for verdict in told for line in _markdown_verdict(verdict)))
    parts += [f"{missing}."] if (missing := progress_of(results)) else []
    return "\n\n".join(parts) + "\n"


def _markdown_verdict(verdict: ClaimCheck) -> list[str]:
    source = f" ({verdict.expected.source})" if verdict.expected.source else ""
    bound = f"{verdict.expected.value} {bounds(verdict.expected)}"
    head = f"- **{WORDS[verdict.met]}**: {verdict.expected.claim}{source}; {bound}"
    return [head, *(f"  - {line}" for line in verdict.lines)]


def latex(results: Results) -> str:
    """Return the tables as LaTeX with the rules of `booktabs`."""

    def escaped(text: str) -> str:
        return "".join(_LATEX.get(letter, letter) for letter in text)

    parts = []
    for sheet in sheets(results):
        rows = [" & ".join(map(escaped, row)) + r" \\" for row in (sheet.header, *sheet.rows)]
        lines = [
            r"\begin{table}", r"\centering", rf"\begin{{tabular}}{{{'l' * len(sheet.header)}}}", r"\toprule", rows[0],
            r"\midrule", *rows[1:], r"\bottomrule", r"\end{tabular}",
            rf"\caption{{{escaped('. '.join(filter(None, [sheet.title, *sheet.notes])))}.}}", r"\end{table}",
        ]  # fmt: skip
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def csv(results: Results) -> str:
    """Return every run as a line: factors, seed, and all its numbers."""
    import pyarrow.csv

    sink = io.BytesIO()
    pyarrow.csv.write_csv(all_runs(results), sink)
    return sink.getvalue().decode()


def terminal(results: Results) -> Any:
    """Return the answer for a terminal, as something that rich prints."""
    from rich.console import Group
    from rich.text import Text

    parts: list[Any] = [Text(results.settings.question, style="bold")] if results.settings.question else []
    for sheet in sheets(results):
        parts += [terminal_sheet(sheet), Text()]
    for verdict in verdicts(results):
        style = {True: "green", False: "red", None: "yellow"}[verdict.met]
        wanted = f"{verdict.expected.claim} ({verdict.expected.value} {bounds(verdict.expected)})"
        parts.append(Text.assemble((f"{WORDS[verdict.met]}: ", style), wanted))
        parts += [Text(f"    {line}") for line in verdict.lines]
    parts += [Text(missing)] if (missing := progress_of(results)) else []
    return Group(*parts)


def terminal_sheet(sheet: Sheet) -> Any:
    """Return a table for a terminal, as something that rich prints."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, title=sheet.title or None, title_justify="left")
    for name in sheet.header:
        table.add_column(Text(name), overflow="fold")
    for row in sheet.rows:
        table.add_row(*map(Text, row))
    table.caption, table.caption_justify = "; ".join(sheet.notes) or None, "left"
    return table
