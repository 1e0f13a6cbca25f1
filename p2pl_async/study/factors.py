"""Factors: what differs between the variants of a study, and by which names."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from p2pl_async.basics.settings import nearest
from p2pl_async.errors import Problem
from p2pl_async.study.settings import Selection, StudySettings

NAMED = "variant"
"""The factor of the tables `[[variant]]`."""


@dataclass(frozen=True, slots=True)
class Level:
    """One of the values of a factor.

    Attributes:
        name: in tables, figures and selections.
        changes: (key path of the scenario, value), in the order in which they apply.
    """

    name: str
    changes: tuple[tuple[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Factor:
    """What differs between variants: a key path of the scenario, or `variant`."""

    name: str
    levels: tuple[Level, ...]


Labels = dict[str, str]
"""Factor -> name of a level: one variant. In the order of the factors."""


def factors_of(settings: StudySettings) -> tuple[list[Factor], list[Problem]]:
    """Return the factors of a study, the named variants last, and what is wrong with their names."""
    found = [Factor(path, tuple(_level(path, value) for value in values)) for path, values in settings.vary.items()]
    if settings.variant:
        named = (Level(one.name, tuple(assignments(one.set))) for one in settings.variant)
        found.append(Factor(NAMED, tuple(named)))
    problems = []
    for factor in found:
        names = [level.name for level in factor.levels]
        twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
        if twice is not None:
            text = f'must have different names; give tables a "name" each ({len(names)} values)'
            problems.append(Problem(f"vary.{factor.name}" if factor.name != NAMED else NAMED, text, twice))
    return found, problems


def _level(path: str, value: Any) -> Level:
    if not isinstance(value, Mapping):
        return Level(value if isinstance(value, str) else _toml(value), ((path, value),))
    table = {key: item for key, item in value.items() if key != "name"}
    name = value.get("name", value.get("kind") or _toml(table))
    return Level(str(name), ((path, table),))


def assignments(table: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (key path, value) of a table of changes; a table is a value if it has a `kind`, else holds more."""
    for key, value in table.items():
        if isinstance(value, Mapping) and value and "kind" not in value:
            yield from assignments(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _toml(value: Any) -> str:
    """Return a value as a scenario writes it, in one line."""
    import tomli_w

    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    text = tomli_w.dumps({"x": value}).partition("=")[2]
    return re.sub(r"\s+", " ", text).strip().replace("[ ", "[").replace(", ]", "]")


def combinations(factors: Sequence[Factor], skip: Sequence[Selection] = ()) -> Iterator[tuple[Level, ...]]:
    """Yield every combination of levels that no selection in `skip` matches; the last factor changes fastest."""
    for levels in itertools.product(*(factor.levels for factor in factors)):
        labels = labels_of(factors, levels)
        if not any(matches(selection, labels) for selection in skip):
            yield levels


def labels_of(factors: Sequence[Factor], levels: Sequence[Level]) -> Labels:
    """Return the names of a combination's levels."""
    return {factor.name: level.name for factor, level in zip(factors, levels, strict=True)}


def matches(selection: Selection, labels: Mapping[str, str]) -> bool:
    """Tell whether a variant has, for each factor that a selection names, one of the levels named."""
    return all(
        labels[factor] == names if isinstance(names, str) else labels[factor] in names
        for factor, names in selection.items()
    )


def wrong_names(path: str, selection: Selection, factors: Sequence[Factor]) -> Iterator[Problem]:
    """Yield a problem for each factor or level in a selection that the study doesn't have."""
    known = {factor.name: [level.name for level in factor.levels] for factor in factors}
    for factor, names in selection.items():
        if factor not in known:
            yield Problem(f"{path}.{factor}", unknown("factor", factor, known))
            continue
        for name in [names] if isinstance(names, str) else names:
            if name not in known[factor]:
                yield Problem(f"{path}.{factor}", unknown("level", name, known[factor]), name)


def unknown(what: str, name: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    """Return the text of the problem that there is no such thing, with the nearest name and all known ones."""
    guess = nearest(name, known)
    hint = f'; did you mean "{guess}"?' if guess else ";"
    return f"unknown {what}{hint}  known: {', '.join(list(known)[:20])}"


def title_of(labels: Mapping[str, str]) -> str:
    """Return a variant in one line, for people."""
    return ", ".join(f"{factor} = {name}" for factor, name in labels.items()) or "the base scenario"
