"""The finished runs of a study, and what each one's expressions give."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from p2pl_async.report.tables import metric_of
from p2pl_async.results.metrics import is_share, words
from p2pl_async.results.table import refuse
from p2pl_async.study.expressions import Expression, Number, RecordedValues
from p2pl_async.study.factors import Labels, matches
from p2pl_async.study.folder import StudyFolder
from p2pl_async.study.planning import Study
from p2pl_async.study.running import record_of
from p2pl_async.study.settings import Selection, StudySettings, TableSettings, ValueSettings

Samples = dict[int, Number]
"""Seed -> value, of the runs of one variant that are done."""


@dataclass(frozen=True, slots=True)
class Results:
    """What is known of a study.

    Attributes:
        name: of the study.
        settings: its tables, or the usual one; figures and expectations.
        variants: labels of each variant.
        samples: expression -> for each variant, its values by seed.
        runs: for each finished run: labels, seed, id, and the numbers of its summary.
        jobs: how many runs the study has.
    """

    name: str
    settings: StudySettings
    variants: Sequence[Labels]
    samples: Mapping[str, Sequence[Samples]]
    runs: Sequence[tuple[Labels, int, str, Mapping[str, float]]]
    jobs: int

    def chosen(self, selection: Selection) -> list[int]:
        """Return the places of the variants that a selection matches."""
        return [i for i, labels in enumerate(self.variants) if matches(selection, labels)]

    def place(self, labels: Labels) -> int | None:
        """Return the place of a variant; None if there is no such variant."""
        return next((i for i, known in enumerate(self.variants) if known == labels), None)


def usual_table(summaries: Iterable[Mapping[str, Any]]) -> TableSettings:
    """Return the table of a study that asks for none: what the runs' models are scored by first, time and bytes.

    Args:
        summaries: of its runs; where they are scored by different metrics, the table has all of these.
    """
    scored = {metric_of(one): bool(one.get("lower_is_better")) for one in summaries if one.get("metric", "accuracy")}
    values = [value for metric, falls in scored.items() for value in _score_values(metric, falls)]
    values += [
        ValueSettings(of="virtual_seconds", name="virtual time, s"),
        ValueSettings(of="messages.bytes_on_air", name="bytes on air"),
    ]
    return TableSettings(value=tuple(values))


def _score_values(metric: str, falls: bool) -> Iterator[ValueSettings]:
    """Yield a score of the worst device and of the mean one; `falls` says that less of it is better."""
    range_ = metric if metric == "accuracy" else f"scores.{metric}"
    scale, unit = ("100 * ", ", %") if is_share(metric) else ("", "")
    better = " (less is better)" if falls else ""
    for which, name in (("max" if falls else "min", "worst"), ("mean", "mean")):
        path = f"{range_}.{which}"
        path = path if path.replace(".", "_").isidentifier() else f'"{path}"'  # a name of the user's own
        yield ValueSettings(of=f"{scale}{path}", name=f"{name} {words(metric)}{unit}{better}")


def results_of(study: Study, folder: StudyFolder) -> Results:
    """Return the results of a study as its file is now; runs count that are done with these settings."""
    return _read(record_of(study), folder)


def recorded_results(folder: StudyFolder) -> Results:
    """Return the results in a folder, with the tables of the study as it was last run.

    Raises:
        ScenarioError: if no study has written the folder.
    """
    record = folder.record()
    if "variants" not in record:
        refuse(
            folder.path, "has no study.json: no study has run there; give its folder, such as results/loss, or its file"
        )
    return _read(record, folder)


def _read(record: Mapping[str, Any], folder: StudyFolder) -> Results:
    settings, done = StudySettings.model_validate(record["settings"]), folder.done()
    if not settings.table:
        first = [next((id for id in one["jobs"].values() if id in done), None) for one in record["variants"]]
        usual = usual_table(RecordedValues(folder.job(id)).summary for id in first if id is not None)
        settings = settings.model_copy(update={"table": (usual,)})
    expressions = {text: Expression(text) for _, text in settings.expressions()}
    samples: dict[str, list[Samples]] = {text: [] for text in expressions}
    runs = []
    for variant in record["variants"]:
        own: dict[str, Samples] = {text: {} for text in expressions}
        for seed, id in variant["jobs"].items():
            if id not in done:
                continue
            run = RecordedValues(folder.job(id))  # let go after this: the metrics of 10,000 runs fill the memory
            runs.append((variant["labels"], int(seed), id, run.numbers))
            for text, expression in expressions.items():
                own[text][int(seed)] = expression.of(run)
        for text in expressions:
            samples[text].append(own[text])
    n_jobs = sum(len(variant["jobs"]) for variant in record["variants"])
    return Results(record["name"], settings, [one["labels"] for one in record["variants"]], samples, runs, n_jobs)


def all_runs(results: Results) -> Any:
    """Return a pyarrow table with a row for each run: factors, seed, id, expressions, numbers of the summary."""
    import pyarrow as pa

    factors = list(results.variants[0]) if results.variants else []
    names = sorted({name for *_, numbers in results.runs for name in numbers} - {"seed"})
    place = {tuple(labels.items()): i for i, labels in enumerate(results.variants)}
    columns: dict[str, list[Any]] = {factor: [labels[factor] for labels, *_ in results.runs] for factor in factors}
    columns["seed"] = [seed for _, seed, *_ in results.runs]
    columns["run"] = [id for _, _, id, _ in results.runs]
    for text, samples in results.samples.items():
        found = [samples[place[tuple(labels.items())]][seed] for labels, seed, *_ in results.runs]
        columns[text] = [number_of(value) for value in found]
    for name in names:
        columns.setdefault(name, [numbers.get(name) for *_, numbers in results.runs])
    return pa.table(columns)


def number_of(value: Number) -> float | None:
    """Return a value as a number; None for none, and for a target that was not reached."""
    number = (value.at if value.reached else math.nan) if isinstance(value, tuple) else value
    return None if math.isnan(number) else number
