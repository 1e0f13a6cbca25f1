"""A study's answer as one page: what was expected, tables, figures, and a link to each run."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from p2pl_async.report.page.writing import PAGE, asset, hashed, template_of, write_text
from p2pl_async.study.answers import bounds, sample_text, verdicts
from p2pl_async.study.figures import draw
from p2pl_async.study.folder import StudyFolder
from p2pl_async.study.results import Results
from p2pl_async.study.writing import WORDS, progress_of, sheets

_MOST_RUNS = 2000  # in the table


def write_study_page(results: Results, folder: StudyFolder, path: Path | None = None) -> Path:
    """Write the page of a study, and return its path.

    Args:
        results: of the study.
        folder: where they are.
        path: of the file; `report.html` in the study's own folder by default.

    Raises:
        ScenarioError: if the file can't be written.
    """
    path = folder.path / PAGE if path is None else path
    return write_text(path, study_page(results, folder, path))


def study_page(results: Results, folder: StudyFolder, path: Path) -> str:
    """Return the page as HTML; its links are relative to the folder of `path`. It has no scripts."""
    styles = [asset("page.css")]
    policy = f"default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; style-src {hashed(styles[0])}"
    values = [value for table in results.settings.table for value in table.value]
    names = list(dict.fromkeys(value.of for value in values))
    told = f"{min(len(results.runs), _MOST_RUNS):,} of {len(results.runs):,} runs"
    page: str = template_of("study.html").render(
        policy=policy,
        styles=styles,
        title=results.settings.question or results.name,
        missing=progress_of(results),
        verdicts=[
            {
                "word": WORDS[one.met],
                "claim": one.expected.claim,
                "source": one.expected.source,
                "bound": f"{one.expected.value} {bounds(one.expected)}",
                "lines": one.lines,
            }
            for one in verdicts(results)
        ],
        sheets=sheets(results),
        figures=list(_figures(results)),
        told=told,
        factors=list(results.variants[0]) if results.variants else [],
        values=names,
        runs=list(_runs(results, folder, path.parent, names)),
    )
    return page


def _figures(results: Results) -> Iterator[dict[str, str]]:
    for settings in results.settings.figure:
        figure = draw(results, settings)
        if figure is not None:
            image = io.BytesIO()
            figure.savefig(image, format="png", dpi=110)
            yield {"title": settings.title or settings.kind, "data": base64.b64encode(image.getvalue()).decode()}


def _runs(results: Results, folder: StudyFolder, base: Path, names: list[str]) -> Iterator[dict[str, Any]]:
    """Yield each run: its variant, seed and values as texts, and the way to its page, or to its folder."""
    for labels, seed, id, _ in results.runs[:_MOST_RUNS]:
        place = results.place(labels)
        values = ["-" if place is None else sample_text(results.samples[name][place].get(seed)) for name in names]
        job = folder.job(id).absolute()
        where = job / PAGE if (job / PAGE).exists() else job
        link = Path(*_relative(where, base.absolute())).as_posix()
        yield {"texts": [*labels.values(), str(seed), *values], "id": id, "link": link}


def _relative(path: Path, base: Path) -> tuple[str, ...]:
    try:
        return path.relative_to(base).parts
    except ValueError:  # the page lies elsewhere
        return path.parts
