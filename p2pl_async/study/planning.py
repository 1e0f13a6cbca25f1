"""A study that was read and checked: its factors, variants and jobs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from p2pl_async.errors import Problem, ScenarioError
from p2pl_async.results.groups import OTHERS
from p2pl_async.scenario.reading.load import NewValue, read_toml
from p2pl_async.scenario.reading.problems import problems_of
from p2pl_async.study.expressions import Expression
from p2pl_async.study.factors import Factor, factors_of, unknown, wrong_names
from p2pl_async.study.jobs import Job, Variant, variants_of
from p2pl_async.study.settings import FigureSettings, StudySettings


@dataclass(frozen=True)
class Study:
    """A question with all its runs, none of which has begun.

    Attributes:
        name: of the study, and of its folder.
        settings: what its file says.
        factors: what differs between variants.
        variants: every combination that is not skipped, checked.
    """

    name: str
    settings: StudySettings
    factors: tuple[Factor, ...]
    variants: tuple[Variant, ...]

    @cached_property
    def jobs(self) -> tuple[Job, ...]:
        """Every run once: all variants of the first seed, then of the second, so that an answer takes shape early."""
        found: dict[str, Job] = {}
        for seed in self.settings.seeds:
            for variant in self.variants:
                job = variant.job(seed)
                found.setdefault(job.id, job)
        return tuple(found.values())


def load_study(path: str | os.PathLike[str], changes: Sequence[NewValue] = ()) -> Study:
    """Return the study that a TOML file describes, with every variant checked.

    Args:
        path: the file; relative paths in it are relative to its folder.
        changes: of the base, before all variants.

    Raises:
        ScenarioError: with everything that is wrong in the file, or in its variants.
    """
    file = Path(path)
    return make_study(read_toml(file), file.stem, str(path), file.absolute().parent, changes)


def make_study(
    table: Mapping[str, Any], name: str, source: str, folder: Path, changes: Sequence[NewValue] = ()
) -> Study:
    """Return the study that a table describes.

    Args:
        table: as a study file has it.
        name: of the study.
        source: its name in errors.
        folder: of relative paths in it.
        changes: of the base, before all variants.

    Raises:
        ScenarioError: with everything that is wrong in it, or in its variants.
    """
    try:
        settings = StudySettings.model_validate(table)
    except ValidationError as error:
        raise ScenarioError(source, problems_of(StudySettings, error, table)) from None
    settings = settings.model_copy(update={"base": folder / settings.base.expanduser()})
    factors, problems = factors_of(settings)
    problems += _misnamed(settings, factors)
    if problems:
        raise ScenarioError(source, problems)
    variants = tuple(variants_of(settings, factors, source, folder, changes))
    if problems := list(_unknown_groups(settings, variants)):
        raise ScenarioError(source, problems)
    return Study(name, settings, tuple(factors), variants)


def _unknown_groups(settings: StudySettings, variants: Sequence[Variant]) -> Iterator[Problem]:
    """Yield the groups of devices that values name and no variant has."""
    known = sorted({name for variant in variants for name in variant.scenario.devices.group} | {OTHERS})
    for path, text in settings.expressions():
        for group in sorted(Expression(text).groups.difference(known)):
            yield Problem(path, unknown("group of devices", group, known), text)


def _misnamed(settings: StudySettings, factors: list[Factor]) -> Iterator[Problem]:
    known = [factor.name for factor in factors]
    for i, selection in enumerate(settings.skip):
        yield from wrong_names(f"skip[{i}]", selection, factors)
    yield from wrong_names("baseline", dict(settings.baseline), factors)
    for i, table in enumerate(settings.table):
        yield from wrong_names(f"table[{i}].select", table.select, factors)
        for name in table.by or ():
            if name not in known:
                yield Problem(f"table[{i}].by", unknown("factor", name, known), name)
        if table.columns is not None and table.columns not in known:
            yield Problem(f"table[{i}].columns", unknown("factor", table.columns, known), table.columns)
    for i, figure in enumerate(settings.figure):
        yield from wrong_names(f"figure[{i}].select", figure.select, factors)
        yield from _wrong_axes(f"figure[{i}]", figure, known)
    for i, expectation in enumerate(settings.expect):
        yield from wrong_names(f"expect[{i}].of", expectation.of, factors)
        yield from wrong_names(f"expect[{i}].minus", expectation.minus, factors)


_AXES = {"lines": ("x",), "heatmap": ("x", "by"), "scatter": ("x",), "ranks": ("by",)}


def _wrong_axes(path: str, figure: FigureSettings, known: list[str]) -> Iterator[Problem]:
    """Yield what a figure lacks, and names of factors that don't exist; the x of a scatter is a value."""
    for key in ("x", "by"):
        name = getattr(figure, key)
        if name is None:
            if key in _AXES.get(figure.kind, ()):
                yield Problem(f"{path}.{key}", f"is missing; a figure of kind {figure.kind} needs it")
        elif key == "x" and figure.kind == "scatter":
            try:
                Expression(name)
            except ValueError as error:
                yield Problem(f"{path}.x", str(error), name)
        elif name not in known:
            yield Problem(f"{path}.{key}", unknown("factor", name, known), name)
