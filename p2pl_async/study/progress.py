"""What is done of a study, and why a run that was done is run again."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from p2pl_async.scenario.reading.plain import leaves
from p2pl_async.study.factors import title_of
from p2pl_async.study.folder import Failure, StudyFolder
from p2pl_async.study.jobs import Variant
from p2pl_async.study.planning import Study

_MOST_KEYS = 4


@dataclass(frozen=True, slots=True)
class Outlook:
    """What `p2pl study run` would do.

    Attributes:
        done: jobs of the study whose result is there.
        failed: job id -> why it failed.
        waiting: jobs that would run.
        of_variants: for each variant, how many of its jobs are done, failed and waiting.
        changed: variants that were run before, with other settings, files or version: title -> what changed.
    """

    done: int
    failed: Mapping[str, Failure]
    waiting: int
    of_variants: list[tuple[int, int, int]]
    changed: dict[str, str]


def outlook_of(study: Study, folder: StudyFolder) -> Outlook:
    """Return what would run of a study, what is done, and what changed since it last ran."""
    done, failures = folder.done(), folder.failures()
    of_variants = []
    for variant in study.variants:
        own = [variant.job(seed).id for seed in study.settings.seeds]
        n_done, n_failed = sum(id in done for id in own), sum(id in failures for id in own)
        of_variants.append((n_done, n_failed, len(own) - n_done - n_failed))
    ids = {job.id for job in study.jobs}
    failed = {id: failure for id, failure in failures.items() if id in ids}
    n_done = len(ids & done)
    return Outlook(n_done, failed, len(ids) - n_done - len(failed), of_variants, _changed(study, folder, done))


def _changed(study: Study, folder: StudyFolder, done: set[str]) -> dict[str, str]:
    before = {tuple(old["labels"].items()): old for old in folder.record().get("variants", ())}
    found = {}
    for variant in study.variants:
        old = before.get(tuple(variant.labels.items()))
        if old is not None and (reasons := list(_reasons(variant, old, folder, done))):
            found[title_of(variant.labels)] = "; ".join(reasons)
    return found


def _reasons(variant: Variant, old: Mapping[str, Any], folder: StudyFolder, done: set[str]) -> Iterator[str]:
    """Yield what differs between a variant and what it was when it last ran."""
    if old["version"] != variant.version:
        yield f"p2pl-async {old['version']} -> {variant.version}"
    for name in sorted({*old["files"], *variant.files}):
        if old["files"].get(name) != variant.files.get(name):
            yield f"{name} has changed"
    if old["settings"] != variant.settings:
        id = next((id for id in old["jobs"].values() if id in done), None)
        yield "settings have changed" if id is None else ", ".join(_differences(variant, folder, id))


def _differences(variant: Variant, folder: StudyFolder, id: str) -> list[str]:
    """Return the keys of a variant that differ from those of an earlier run."""
    then = dict(leaves(tomllib.loads((folder.job(id) / "scenario.toml").read_text(encoding="utf-8"))))
    from p2pl_async.scenario.reading.load import dump

    now = dict(leaves(tomllib.loads(dump(variant.scenario))))
    keys = [key for key in {**then, **now} if then.get(key) != now.get(key) and key not in ("seed", "name")]
    told = [f"{key}: {then.get(key, 'none')} -> {now.get(key, 'none')}" for key in keys[:_MOST_KEYS]]
    return [*told, f"{len(keys) - _MOST_KEYS} more"] if len(keys) > _MOST_KEYS else told
