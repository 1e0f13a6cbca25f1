"""Writing the page of a run: one HTML file with its scripts, styles and data inside.

Arrays are deflated one after the other and written as base64; the browser unpacks them. A Content-Security-Policy
names the page's own scripts and styles by their hashes and allows nothing else, so the page can load nothing.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from p2pl_async.basics.units import show_bytes, show_seconds
from p2pl_async.report.findings import findings
from p2pl_async.report.page.content import Content
from p2pl_async.report.page.gathering import gather
from p2pl_async.report.page.in_words import in_words
from p2pl_async.report.tables import (
    facts_of,
    group_ranges,
    metric_of,
    named,
    parts_of,
    score_columns,
    score_of,
    show_score,
)
from p2pl_async.results.run import Run
from p2pl_async.results.table import writing

PAGE = "report.html"
_TYPES = {"float32": "Float32Array", "uint32": "Uint32Array", "uint16": "Uint16Array", "uint8": "Uint8Array"}


def write_page(run: Run, path: Path | None = None) -> Path:
    """Write the page of a run, and return its path.

    Args:
        run: a recorded run, also one that was killed.
        path: of the file; `report.html` in the run's own folder by default.

    Raises:
        ValueError: if neither the run nor `path` says where to.
        ScenarioError: if the file can't be written.
    """
    if path is None:
        if run.path is None:
            raise ValueError("the run has no folder; say where to put the page: write_page(run, path)")
        path = run.path / PAGE
    return write_text(path, page_of(run))


def write_text(path: Path, text: str) -> Path:
    """Write a page, whole or not at all, and return its path.

    Raises:
        ScenarioError: if the file can't be written.
    """
    with writing(path):
        part = path.with_suffix(".part")
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    return path


def page_of(run: Run, *, live: bool = False) -> str:
    """Return the page of a run as HTML; a live one, which its server serves, renews itself while the run goes on."""
    content = gather(run)
    content.head["findings"] = [{"text": one.text, "plot": one.plot, "devices": one.devices} for one in findings(run)]
    summary = run.summary
    return rendered(
        "page.html",
        (*_SCRIPTS, "live") if live else _SCRIPTS,
        content,
        live=live,
        title=content.head["title"],
        status=str(summary.get("status")),
        about=in_words(run.scenario_text),
        notes=list(_notes(summary)),
        rows=_rows(run),
        columns=score_columns(run.summary).values(),
        facts=facts_of(summary),
        findings=content.head["findings"],
        scenario=run.scenario_text,
        command=_command(run),
    )


def rendered(template: str, scripts: Sequence[str], content: Content, *, live: bool = False, **values: Any) -> str:
    """Return a page from a template, with these scripts, the content's data, and a policy that allows nothing else."""
    styles = [asset("uplot.css"), asset("page.css")]
    texts = [asset(f"{name}.js") for name in scripts]
    policy = (
        "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; "
        f"style-src {' '.join(map(hashed, styles))}; script-src {' '.join(map(hashed, texts))}"
        + ("; connect-src 'self'" if live else "")
    )
    page: str = template_of(template).render(
        policy=policy,
        styles=styles,
        scripts=texts,
        head=_json(content.head),
        layout=_json(_layout_of(content)),
        data=base64.b64encode(_packed(content)).decode(),
        **values,
    )
    return page


_SCRIPTS = ("uplot", "data", "curves", "map", "timeline", "matrices", "page")


def asset(name: str) -> str:
    """Return a template, script or style of pages."""
    return (files("p2pl_async.report.page") / name).read_text(encoding="utf-8")


@cache
def template_of(name: str) -> Any:
    """Return a template that escapes all texts."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(asset), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(name)


def hashed(text: str) -> str:
    """Return the source by which a Content-Security-Policy names an inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _json(value: Any) -> str:
    """Return JSON that can stand inside a script element: no text in it can end the element."""
    text = json.dumps(_finite(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _finite(value: Any) -> Any:
    """Return the value with null for numbers that JSON does not have."""
    if isinstance(value, dict):
        return {str(key): _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _layout_of(content: Content) -> list[dict[str, Any]]:
    """Return where each array begins in the packed data, its type and its number of values."""
    found, offset = [], 0
    for name, array in content.arrays.items():
        found.append({"name": name, "type": _TYPES[array.dtype.name], "at": offset, "length": int(array.size)})
        offset += -(-array.nbytes // 4) * 4
    return found


def _packed(content: Content) -> bytes:
    """Return all arrays, little-endian, each padded to a multiple of four bytes, deflated."""
    packer = zlib.compressobj(6)
    parts = []
    for array in content.arrays.values():
        data = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        parts.append(packer.compress(data + bytes(-len(data) % 4)))
    return b"".join([*parts, packer.flush()])


def _rows(run: Run) -> list[list[str]]:
    """Return the rows of the table of results: the run, then its baselines."""
    rows, metric = [], metric_of(run.summary)
    for name, part in parts_of(run):
        found, label = score_of(part, metric), named(name, part, run.summary)
        if found and part.get("status", "complete") != "complete":
            label += ", last measured"
        seconds, sent = part.get("virtual_seconds"), (part.get("messages") or {}).get("bytes_on_air")
        rows.append(
            [
                label,
                *(show_score(metric, found.get(which)) for which in score_columns(run.summary)),
                "-" if seconds is None else show_seconds(seconds),
                "-" if sent is None else show_bytes(sent),
            ]
        )
        if part is run.summary:
            for group, range_ in group_ranges(run):
                rows.append([group, *(show_score(metric, range_[which]) for which in score_columns(part)), "", ""])
    return rows


def _notes(summary: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a reader of the numbers must know: who recorded them, what went wrong, and warnings."""
    recorded, here = (summary.get("versions") or {}).get("p2pl-async"), _version()
    if recorded and here and recorded != here:
        yield f"recorded by version {recorded} of p2pl_async, and shown by version {here}, which may read it otherwise"
    if summary.get("error"):
        yield f"error: {summary['error']}"
    if lost := summary.get("not_finite"):
        text = f"the loss of device {lost['device']} is not finite from {show_seconds(lost['virtual_seconds'])} on"
        yield f"diverged: {text}; lower train.learning_rate, or set train.clip"
    yield from (f"warning: {text}" for text in summary.get("warnings") or ())


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("p2pl-async")
    except PackageNotFoundError:  # run from a copy that isn't installed
        return ""


def _command(run: Run) -> str:
    """Return the command that repeats the run from its folder."""
    return "p2pl run scenario.toml" if run.path is None else f"p2pl run {run.path / 'scenario.toml'}"
