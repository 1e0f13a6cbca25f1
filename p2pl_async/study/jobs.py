"""Jobs: the runs that a study asks for, and what each one's identity is made of.

Every variant is checked before any run begins. The levels of a factor are applied to what the factors before it made
of the scenario's table, so a study of many combinations reads its base once and repeats little.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from p2pl_async.errors import Problem, ScenarioError
from p2pl_async.scenario.identity import digests, package_version
from p2pl_async.scenario.reading.load import Draft, NewValue, changed, dump, finish, keys_of, read_draft
from p2pl_async.scenario.scenario import Scenario
from p2pl_async.study.factors import Factor, Labels, Level, assignments, combinations, labels_of, title_of
from p2pl_async.study.settings import MOST_JOBS, StudySettings

_MOST_PROBLEMS = 20


@dataclass(frozen=True)
class Variant:
    """A checked scenario of a study, whatever the seed.

    Attributes:
        labels: factor -> the name of its level.
        scenario: with the first seed.
        settings: digest of all its values but the seed and the name.
        files: name -> digest of each file that it names: plug-ins, recorded traces.
        version: of the package.
    """

    labels: Labels
    scenario: Scenario
    settings: str
    files: Mapping[str, str]
    version: str

    def job(self, seed: int) -> Job:
        """Return the run of this variant with a seed."""
        parts = json.dumps([self.settings, self.files, self.version, seed], sort_keys=True)
        return Job(hashlib.sha256(parts.encode()).hexdigest()[:20], self, seed)


@dataclass(frozen=True)
class Job:
    """One run.

    Attributes:
        id: digest of all that determines its result; the name of its folder.
        variant: its scenario.
        seed: its seed.
    """

    id: str
    variant: Variant
    seed: int

    @cached_property
    def scenario_text(self) -> str:
        """The resolved scenario, as TOML."""
        return dump(self.variant.scenario.model_copy(update={"seed": self.seed}))

    @property
    def title(self) -> str:
        """The run in one line, for people."""
        return f"{title_of(self.variant.labels)}, seed {self.seed}"


def variants_of(
    settings: StudySettings, factors: Sequence[Factor], source: str, folder: Path, changes: Sequence[NewValue] = ()
) -> list[Variant]:
    """Return every variant of a study, checked.

    Args:
        settings: of the study.
        factors: its factors.
        source: the study's file, as errors name it.
        folder: of relative paths in its values.
        changes: of the base, before all factors.

    Raises:
        ScenarioError: with the problems of all variants, or if there is none or too many.
    """
    chosen = list(combinations(factors, settings.skip))
    if not chosen:
        raise ScenarioError(source, [Problem("skip", "leaves no combination; leave out fewer")])
    if len(chosen) * len(settings.seeds) > MOST_JOBS:
        text = f"make {len(chosen)} variants x {len(settings.seeds)} seeds; a study has at most {MOST_JOBS} runs"
        raise ScenarioError(source, [Problem("vary", text)])
    drafts = _Drafts(read_draft(settings.base), [*_new_values(assignments(settings.set), folder), *changes], folder)
    version = package_version()
    variants: list[Variant] = []
    found: list[tuple[str, Problem]] = []
    for levels in chosen:
        labels = labels_of(factors, levels)
        try:
            scenario = finish(drafts.of(levels, settings.seeds[0])).scenario
        except ScenarioError as error:
            found += [(title_of(labels), problem) for problem in error.problems]
            continue
        variants.append(Variant(labels, scenario, *digests(scenario), version))
    if found:
        raise ScenarioError(source, problems_of_variants(found))
    return variants


def problems_of_variants(found: Iterable[tuple[str, Problem]]) -> list[Problem]:
    """Return (title of a variant, a problem of it) as problems of the study; the same one of many variants is one."""
    alike: dict[tuple[str, str], tuple[Problem, list[str]]] = {}
    for title, problem in found:
        alike.setdefault((problem.path, problem.text), (problem, []))[1].append(title)
    told = list(alike.values())[:_MOST_PROBLEMS]
    return [Problem(f"{first_of(titles)}: {one.path}", one.text, one.value) for one, titles in told]


def first_of(titles: Sequence[str]) -> str:
    """Name the first of some variants, and say how many there are besides."""
    return f"variant {titles[0]}" + (f" (and {len(titles) - 1} more)" if len(titles) > 1 else "")


class _Drafts:
    """The scenario's table under each combination; what the last one begins with is not made again."""

    def __init__(self, base: Draft, changes: Sequence[NewValue], folder: Path) -> None:
        self._folder = folder
        self._made: list[tuple[Level | None, Draft]] = [(None, changed(base._replace(origins={}), changes))]

    def of(self, levels: Sequence[Level], seed: int) -> Draft:
        same = 0
        while same < len(levels) and same + 1 < len(self._made) and self._made[same + 1][0] is levels[same]:
            same += 1
        del self._made[same + 1 :]
        for level in levels[same:]:
            self._made.append((level, changed(self._made[-1][1], _new_values(level.changes, self._folder))))
        draft = self._made[-1][1]
        return draft._replace(raw={**draft.raw, "seed": seed})


def _new_values(pairs: Iterable[tuple[str, Any]], folder: Path) -> Iterator[NewValue]:
    for path, value in pairs:
        keys = keys_of(path)
        if not keys:
            raise ScenarioError("study", [Problem(path, 'must be a key path such as "link.loss"')])
        yield NewValue(keys, value, path, folder)
