"""What a study file says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from p2pl_async.basics.limits import MOST_ITEMS
from p2pl_async.basics.settings import Settings, mistake

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
    vary: Annotated[dict[str, Annotated[tuple[Any, ...], Field(min_length=1)]], BeforeValidator(_flat)] = Field(
        default={}, description="key path -> its values; every combination is a variant; a table among them has a name"
    )
    variant: tuple[NamedVariant, ...] = Field(
        default=(), max_length=MOST_ITEMS, description="named changes of several values, combined with all of [vary]"
    )
    skip: tuple[Selection, ...] = Field(
        default=(), max_length=MOST_ITEMS, description="combinations that are left out: factor -> names of its levels"
    )
