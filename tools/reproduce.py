"""Reproduce what papers report: run each study's scenario in several variants and seeds, and write the tables.

    python tools/reproduce.py [STUDY ...] [--seeds 1 2 3] [--list]

A study is a scenario under scenarios/reproductions/ and the changes that make its variants, as
`p2pl run --set` takes them. Its table, mean and standard deviation over the seeds, becomes its section
of scenarios/reproductions/RESULTS.md; the sections of other studies stay. Studies on MNIST look for it
under $P2PL_DATA/mnist, in the user's cache, or download it.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from p2pl_async import Run, load_scenario, run

FOLDER = Path(__file__).resolve().parents[1] / "scenarios" / "reproductions"
RESULTS = FOLDER / "RESULTS.md"

Numbers = Mapping[str, Mapping[str, Sequence[float]]]  # variant -> column -> one value per seed


@dataclass(frozen=True)
class Column:
    """What a table tells of a run."""

    title: str
    measure: Callable[[Run], float]  # nan where a run has no such number
    digits: int = 1


@dataclass(frozen=True)
class Study:
    """One question, its scenario, and the variants that answer it."""

    id: str
    question: str
    setting: str  # what is run, and what is smaller than in the paper
    expected: str
    scenario: str  # file under scenarios/reproductions
    variants: Mapping[str, Sequence[str]]  # name -> changes, "key.path=value"
    columns: Sequence[Column]
    holds: Callable[[Numbers], bool]  # whether the means came out as expected


def mean(numbers: Numbers, variant: str, column: str) -> float:
    """Return the mean over seeds of a column of a variant."""
    return statistics.fmean(numbers[variant][column])


# Columns


def accuracy(of: str) -> Callable[[Run], float]:
    """Return the measure of the final accuracy on the whole test set, in percent: "min", "mean" or "max" of devices."""
    return lambda found: 100 * float(found.summary["accuracy"][of])


def final(metric: str, scale: float = 1.0) -> Callable[[Run], float]:
    """Return the measure of a metric's mean over devices when each last told it."""

    def measure(found: Run) -> float:
        rows = found.metrics[found.metrics["metric"] == metric]
        return scale * float(rows.groupby("device")["value"].last().mean()) if len(rows) else float("nan")

    return measure


def time_to(level: float) -> Callable[[Run], float]:
    """Return the measure of the first virtual second at which every device's accuracy was at least `level`."""

    def measure(found: Run) -> float:
        rows = found.metrics[found.metrics["metric"] == "accuracy"]
        worst = rows.groupby("time_s")["value"].min()
        reached = worst[worst >= level]
        return float(reached.index[0]) if len(reached) else float("nan")

    return measure


MEAN = Column("mean accuracy, %", accuracy("mean"), 2)
WORST = Column("worst device, %", accuracy("min"), 2)
MEGABYTES = Column("MB on air", lambda found: found.summary["messages"]["bytes_on_air"] / 1e6)


STUDIES: list[Study] = []


# Running and writing


def measured(study: Study, seeds: Sequence[int]) -> dict[str, dict[str, list[float]]]:
    """Run a study and return its numbers."""
    numbers: dict[str, dict[str, list[float]]] = {}
    for variant, changes in study.variants.items():
        columns: dict[str, list[float]] = {column.title: [] for column in study.columns}
        for seed in seeds:
            started = time.perf_counter()
            found = run(load_scenario(FOLDER / study.scenario, changes, seed))
            for column in study.columns:
                columns[column.title].append(column.measure(found))
            told = ", ".join(f"{title} {values[-1]:.4g}" for title, values in columns.items())
            print(f"{study.id}  {variant}, seed {seed}: {told}  ({time.perf_counter() - started:.0f} s)", flush=True)
        numbers[variant] = columns
    return numbers


def cell(values: Sequence[float], digits: int) -> str:
    """Return mean and standard deviation over seeds; "-" if a seed has no such number."""
    if any(value != value for value in values):
        return "-"
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{digits}f}{spread}"


def section(study: Study, numbers: Numbers, seeds: Sequence[int], minutes: float) -> str:
    """Return a study's section of the results."""
    rows = [
        ["", *(column.title for column in study.columns)],
        ["---"] * (1 + len(study.columns)),
        *(
            [variant, *(cell(columns[column.title], column.digits) for column in study.columns)]
            for variant, columns in numbers.items()
        ),
    ]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    verdict = "It does." if study.holds(numbers) else "**It does not.**"
    told = ", ".join(map(str, seeds))
    return (
        f"## {study.id}: {study.question}\n\n{study.setting} Scenario: [{study.scenario}]({study.scenario}); "
        f"seeds {told}; {minutes:.0f} min.\n\n{table}\n\nExpected: {study.expected} {verdict}\n"
    )


def merged(text: str, study_id: str, new: str) -> str:
    """Return the results with one section replaced or added, sections in order of their ids."""
    head, *parts = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    kept = {part[3:].partition(":")[0]: part.rstrip() + "\n" for part in parts}
    kept[study_id] = new
    return "\n".join([head.rstrip() + "\n", *(kept[key] for key in sorted(kept))])


HEAD = """# Reproductions

What papers report, emulated at a smaller scale by `python tools/reproduce.py`. Mean ± standard deviation over the
seeds; a dash where a run never got there.
"""


def main() -> None:
    """Run the studies that are named, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("study", nargs="*", help="ids of studies; all by default")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--list", action="store_true", help="only say which studies there are")
    chosen = parser.parse_args()
    known = {study.id: study for study in STUDIES}
    unknown = [name for name in chosen.study if name not in known]
    if unknown:
        sys.exit(f"unknown study {', '.join(unknown)}; known: {', '.join(known)}")
    for name in chosen.study or known:
        study = known[name]
        print(f"{study.id}  {study.question}")
        if chosen.list:
            continue
        started = time.perf_counter()
        numbers = measured(study, chosen.seeds)
        text = section(study, numbers, chosen.seeds, (time.perf_counter() - started) / 60)
        old = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else HEAD
        RESULTS.write_text(merged(old, study.id, text), encoding="utf-8")


if __name__ == "__main__":
    main()
