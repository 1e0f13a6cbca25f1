"""What a study file says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool, model_validator

from p2pl_async.basics.limits import MOST_ITEMS
from p2pl_async.basics.settings import Settings, Short, mistake

MOST_JOBS = 1_000_000


def _flat(value: Any) -> Any:
    """Return tables in tables as one of key paths: `link.loss = [...]` means `"link.loss" = [...]`."""
    return dict(_paths(value, "")) if isinstance(value, Mapping) else value


def _paths(table: Mapping[str, Any], above: str) -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _paths(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _seeds(value: Any) -> Any:
    """Return the seeds that a bare number stands for: 1 up to it."""
    if isinstance(value, bool) or not isinstance(value, int):
        return value
    if not 1 <= value <= MOST_JOBS:
        raise mistake(f"must be a count from 1 to {MOST_JOBS}, or a list of seeds such as [1, 2, 3]")
    return tuple(range(1, value + 1))


def _different(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(seeds)) < len(seeds):
        raise mistake("must be different seeds: a seed twice gives the same run twice")
    return seeds


Choice = str | tuple[str, ...]
Selection = Annotated[dict[str, Choice], BeforeValidator(_flat)]
"""Factor -> the name of one of its levels, or of several."""


class NamedVariant(Settings):
    """A variant that changes several values at once, under a name of its own."""

    name: str = Field(min_length=1, description="its name in tables and figures")
    set: dict[str, Any] = Field(default={}, description="key path of the scenario -> the value it takes")


def _expression(text: Any) -> Any:
    from p2pl_async.study.expressions import Expression

    if isinstance(text, str):
        try:
            Expression(text)
        except ValueError as error:
            raise mistake(str(error)) from None
    return text


ExpressionText = Annotated[str, BeforeValidator(_expression)]
"""An expression over what a run recorded, such as "100 * accuracy.min"."""


class ValueSettings(Settings):
    """A number of every run."""

    of: ExpressionText = Field(description='expression over what a run recorded: "accuracy.min", "time_to(95 %)"')
    name: str = Field(default="", description="heading; none: the expression")
    digits: int | None = Field(default=None, ge=0, le=9, description="decimals shown; none: three digits in all")

    @property
    def title(self) -> str:
        """The heading."""
        return self.name or self.of


AnyValue = Annotated[ValueSettings, Short("of")]


class TableSettings(Settings):
    """A table of the answer: a row for each variant, or its factors in rows and columns."""

    title: str = Field(default="", description="printed above it")
    value: Annotated[
        tuple[AnyValue, ...], BeforeValidator(lambda value: [value] if isinstance(value, str | Mapping) else value)
    ] = Field(min_length=1, description="a number of every run, or several")
    by: tuple[str, ...] | None = Field(
        default=None,
        min_length=1,
        description="the factors that have rows, as for a main effect or an interaction; over the others values are "
        "averaged, seed by seed. none: all factors have rows",
    )
    columns: str | None = Field(default=None, description="the factor whose levels are columns; none: rows only")
    statistic: Literal["mean", "bootstrap", "median"] = Field(
        default="mean",
        description="over seeds: mean with t interval, mean with BCa bootstrap, median with its interval",
    )
    test: Literal["permutation", "wilcoxon", "t"] = Field(
        default="permutation", description="of differences by seed against the baseline, corrected by Holm's rule"
    )
    select: Selection = Field(default={}, description="only variants with these levels")


class FigureSettings(Settings):
    """A picture of the answer."""

    kind: Literal["lines", "heatmap", "box", "scatter", "arrivals", "ranks"] = Field(
        default="lines",
        description="lines over a factor with intervals; heatmap of two factors; box over seeds; scatter of two "
        "values; arrivals: share of runs that reached a target; ranks: critical-difference diagram",
    )
    title: str = Field(default="", description="printed above it")
    value: AnyValue = Field(description="a number of every run")
    x: str | None = Field(default=None, description="the factor along the axis; scatter: the other value")
    by: str | None = Field(default=None, description="the factor whose levels are lines, boxes, colors or ranked")
    log: StrictBool = Field(default=False, description="a logarithmic axis of values")
    smaller_is_better: StrictBool = Field(default=False, description="ranks: 1 is the smallest value")
    select: Selection = Field(default={}, description="only variants with these levels")


class Expectation(Settings):
    """What a paper reports or theory says; shown as met or not met, with the numbers."""

    claim: str = Field(min_length=1, description="in words")
    source: str = Field(default="", description="who says so")
    value: ExpressionText = Field(description="a number of every run")
    of: Selection = Field(default={}, description="the variants that it is about; each of them must meet it")
    minus: Selection = Field(
        default={}, description="levels to compare with: the difference by seed must be within the bounds"
    )
    above: float | None = Field(default=None, description="the mean over seeds must be above this")
    below: float | None = Field(default=None, description="the mean over seeds must be below this")

    @model_validator(mode="after")
    def _bounded(self) -> Expectation:
        if self.above is None and self.below is None:
            raise mistake('needs a bound: "above", "below" or both')
        return self


class StudySettings(Settings):
    """A question, and the runs that answer it."""

    question: str = Field(default="", description="the question, printed above its answer")
    base: Path = Field(description="the scenario that every run starts from")
    seeds: Annotated[
        tuple[Annotated[int, Field(strict=True, ge=0)], ...],
        BeforeValidator(_seeds),
        AfterValidator(_different),
        Field(min_length=1),
    ] = Field(
        default=(1, 2, 3, 4, 5),
        description="how many seeds, or which; a seed has the same data, devices and weather in every variant",
    )
    set: dict[str, Any] = Field(default={}, description="key path of the base -> the value that it has in every run")
    vary: Annotated[dict[str, Annotated[tuple[Any, ...], Field(min_length=1)]], BeforeValidator(_flat)] = Field(
        default={}, description="key path -> its values; every combination is a variant; a table among them has a name"
    )
    variant: tuple[NamedVariant, ...] = Field(
        default=(), max_length=MOST_ITEMS, description="named changes of several values, combined with all of [vary]"
    )
    skip: tuple[Selection, ...] = Field(
        default=(), max_length=MOST_ITEMS, description="combinations that are left out: factor -> names of its levels"
    )
    baseline: Annotated[dict[str, str], BeforeValidator(_flat)] = Field(
        default={}, description="factor -> level that the others are compared with, seed by seed"
    )
    table: tuple[TableSettings, ...] = Field(default=(), max_length=MOST_ITEMS, description="tables of the answer")
    figure: tuple[FigureSettings, ...] = Field(default=(), max_length=MOST_ITEMS, description="pictures of the answer")
    expect: tuple[Expectation, ...] = Field(default=(), max_length=MOST_ITEMS, description="what is expected")

    def expressions(self) -> Iterator[tuple[str, str]]:
        """Yield every expression, with the key that has it."""
        for i, table in enumerate(self.table):
            yield from ((f"table[{i}].value", value.of) for value in table.value)
        for i, figure in enumerate(self.figure):
            yield f"figure[{i}].value", figure.value.of
            if figure.kind == "scatter" and figure.x is not None:
                yield f"figure[{i}].x", figure.x
        for i, expectation in enumerate(self.expect):
            yield f"expect[{i}].value", expectation.value
