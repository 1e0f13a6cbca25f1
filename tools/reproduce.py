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


def time_to(level: float, of: str = "min") -> Callable[[Run], float]:
    """Return the measure of the first virtual second at which an evaluation found this accuracy or a better one.

    Args:
        level: 0 to 1.
        of: "min", every device's; or "mean".
    """

    def measure(found: Run) -> float:
        rows = found.metrics[found.metrics["metric"] == "accuracy"]
        over_devices = rows.groupby("time_s")["value"].agg(of)
        reached = over_devices[over_devices >= level]
        return float(reached.index[0]) if len(reached) else float("nan")

    return measure


def sawtooth(found: Run) -> float:
    """Return by how much accuracy falls from after mixing to after training, in points: mean over devices and time."""
    rows = found.metrics[found.metrics["metric"].isin(["accuracy", "accuracy_trained"])]
    both = rows.pivot_table(index=["time_s", "device"], columns="metric", values="value", observed=True).dropna()
    return 100 * float((both["accuracy"] - both["accuracy_trained"]).mean())


MEAN = Column("mean accuracy, %", accuracy("mean"), 2)
WORST = Column("worst device, %", accuracy("min"), 2)
MEGABYTES = Column("MB on air", lambda found: found.summary["messages"]["bytes_on_air"] / 1e6)


STUDIES: list[Study] = [
    Study(
        id="R4",
        question="what do neighbors add?",
        setting="MNIST 2NN, 20 devices (paper: 100) with 600 samples each, 20 rounds of one epoch, 4-regular.",
        expected="alone, devices stall near 87 % (84 to 90); P2PL is more than 4 points above.",
        scenario="r4-consensus.toml",
        variants={"alone": ["protocol=local"], "P2PL": []},
        columns=[MEAN, WORST, MEGABYTES],
        holds=lambda found: (
            84 <= mean(found, "alone", MEAN.title) <= 90
            and mean(found, "P2PL", MEAN.title) > mean(found, "alone", MEAN.title) + 4
        ),
    ),
    Study(
        id="R5",
        question="does agreeing on one initial model matter?",
        setting="MNIST 2NN, 20 devices (paper: 100) with 600 samples each, 4-regular, 6 rounds of one epoch.",
        expected="from independent inits without max-norm synchronization devices start slowly.",
        scenario="r5-max-norm.toml",
        variants={
            "max-norm synchronization": [],
            "independent inits": ["protocol.sync=none"],
            "one common init (control)": ["protocol.sync=none", "model.common_init=true"],
        },
        columns=[Column("all at 80 % after, s", time_to(0.8)), MEAN, WORST],
        holds=lambda found: (
            mean(found, "max-norm synchronization", WORST.title) > mean(found, "independent inits", WORST.title) + 1
        ),
    ),
    Study(
        id="R6",
        question="do mixing weights by sample count pay?",
        setting="MNIST 2NN, 20 devices (paper: 100) with 12,000 samples together, 4-regular, 6 rounds of one "
        "epoch; weights by sample count, or by degree (Metropolis-Hastings); unequal: half of the devices hold 2 % of "
        "the data.",
        expected="yes where amounts are unequal; where they are equal, on a regular graph, the rules are one.",
        scenario="r6-size-weights.toml",
        variants={
            "unequal, by count": [],
            "unequal, by degree": ["protocol.weights=metropolis"],
            "equal, by count": ["data.partition=iid"],
            "equal, by degree": ["data.partition=iid", "protocol.weights=metropolis"],
        },
        columns=[MEAN, WORST],
        holds=lambda found: (
            mean(found, "unequal, by count", MEAN.title) > mean(found, "unequal, by degree", MEAN.title) + 0.5
            and abs(mean(found, "equal, by count", MEAN.title) - mean(found, "equal, by degree", MEAN.title)) < 0.2
        ),
    ),
    Study(
        id="R7",
        question="what does label skew cost?",
        setting="MNIST 2NN, 20 devices (paper: 100) with 12,000 samples together, 8 rounds of one epoch; P2PL "
        "4-regular, FedAvg a star.",
        expected="P2PL gets where federated averaging gets, after more rounds: it is behind at this point.",
        scenario="r7-label-skew.toml",
        variants={
            "P2PL, two label shards each": [],
            "P2PL, Dirichlet 0.3": ['data.partition={ kind = "dirichlet", alpha = 0.3 }'],
            "P2PL, IID": ["data.partition=iid"],
            "FedAvg, two label shards each": ['protocol={ kind = "fedavg" }', 'topology={ kind = "star" }'],
        },
        columns=[Column("mean at 80 % after, s", time_to(0.8, "mean")), MEAN, WORST],
        holds=lambda found: (
            mean(found, "P2PL, IID", MEAN.title)
            > mean(found, "P2PL, Dirichlet 0.3", MEAN.title)
            > mean(found, "P2PL, two label shards each", MEAN.title)
            and mean(found, "FedAvg, two label shards each", MEAN.title)
            > mean(found, "P2PL, two label shards each", MEAN.title)
        ),
    ),
    Study(
        id="R8",
        question="does Affinity damp the fall of accuracy while devices train?",
        setting="MNIST 2NN, two devices with 500 samples of five digits each, 10 rounds of ten epochs; "
        "Affinity as we read it.",
        expected="a smaller sawtooth, the same bytes, no lower final accuracy.",
        scenario="r8-affinity.toml",
        variants={
            "P2PL": ["protocol.eta_d=0.0"],
            "Affinity, eta_d = 0.5": ["protocol.eta_d=0.5"],
            "Affinity, eta_d = 1": ["protocol.eta_d=1.0"],
        },
        columns=[Column("sawtooth, points", sawtooth), MEAN, MEGABYTES],
        holds=lambda found: (
            mean(found, "Affinity, eta_d = 1", "sawtooth, points") < mean(found, "P2PL", "sawtooth, points")
            and mean(found, "Affinity, eta_d = 1", MEAN.title) > mean(found, "P2PL", MEAN.title) - 0.5
            and mean(found, "Affinity, eta_d = 1", MEGABYTES.title) == mean(found, "P2PL", MEGABYTES.title)
        ),
    ),
]


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
seeds; a dash where a run never got there. The MNIST 2NN is the network 784-200-200-10.
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
