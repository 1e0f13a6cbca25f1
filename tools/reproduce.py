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
from typing import TYPE_CHECKING

from p2pl_async import Run, load_scenario, run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
    figure: Callable[[Numbers], Figure] | None = None  # drawn beside the table


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


def ratio(kind: str) -> Callable[[Run], float]:
    """Return the measure of how many times fewer bytes were sent than uncompressed: "payload", "codec" or "on_air"."""

    def measure(found: Run) -> float:
        told = found.summary["compression"]
        return float(told[f"{kind}_ratio"]) if told else 1.0

    return measure


def trained(found: Run) -> float:
    """Return the mean accuracy in percent when training ended: at the first evaluation of a run with compensation."""
    if not compensated(found):
        return accuracy("mean")(found)
    rows = found.metrics[(found.metrics["metric"] == "accuracy") & (found.metrics["time_s"] > 0)]
    return 100 * float(rows[rows["time_s"] == rows["time_s"].min()]["value"].mean())


def averaged(found: Run) -> float:
    """Return the mean accuracy in percent after skew compensation; nan without."""
    return accuracy("mean")(found) if compensated(found) else float("nan")


def training_ratio(found: Run) -> float:
    """Return the payload ratio while devices trained, before any dense rounds."""
    metrics = found.metrics
    end = metrics[(metrics["metric"] == "accuracy") & (metrics["time_s"] > 0)]["time_s"].min()
    sums = metrics[metrics["time_s"] < end].groupby("metric")["value"].sum()
    return float(sums["bytes_dense"] / sums["bytes_paper"]) if "bytes_dense" in sums else 1.0


def compensated(found: Run) -> bool:
    """Tell whether a run ends with dense rounds."""
    return "compensation" in found.scenario_text


SPARSE = [
    Column("accuracy as trained, %", trained, 2),
    Column("after 50 dense rounds, %", averaged, 2),
    Column("payload ratio, training", training_ratio),
    Column("payload ratio, all", ratio("payload")),
    MEGABYTES,
]
DENSE = ['protocol={kind = "sgp", sync = "none"}', "stop.rounds=2500", 'evaluate.every="1 h"']
LONG = ["train.schedule.epochs=22", "stop.rounds=5050", 'evaluate.every="217 s"']
LOSSES = (0, 1, 5, 10, 20)


def against_dense(numbers: Numbers) -> bool:
    """Tell whether Sparse-Push is at most a point below SGP, at a payload ratio of 443 to 500."""
    loss = mean(numbers, "SGP", SPARSE[0].title) - mean(numbers, "Sparse-Push", SPARSE[0].title)
    return loss <= 1 and 443 <= mean(numbers, "Sparse-Push", SPARSE[2].title) <= 500


def recovered(numbers: Numbers) -> bool:
    """Tell whether label skew costs 5 points or more, of which compensation brings more than half back."""
    found = []
    for skew in ("0.8", "1.0"):
        dense = mean(numbers, f"SGP, skew {skew}", SPARSE[0].title)
        drop = dense - mean(numbers, f"Sparse-Push, skew {skew}", SPARSE[0].title)
        left = dense - mean(numbers, f"Sparse-Push, skew {skew}", SPARSE[1].title)
        found.append(drop >= 5 and left < drop / 2)
    return all(found)


def repaired(numbers: Numbers) -> bool:
    """Tell whether repair keeps accuracy within 2 points of lossless links at every loss, and raw pushes don't."""
    lossless = mean(numbers, "raw, 0 %", "mean accuracy, %")
    kept = [mean(numbers, f"repaired, {p} %", "mean accuracy, %") > lossless - 2 for p in LOSSES]
    return all(kept) and mean(numbers, "raw, 20 %", "mean accuracy, %") < lossless - 2


def loss_figure(numbers: Numbers) -> Figure:
    """Return accuracy and push weights over the loss probability, for raw and for repaired pushes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 3.4), layout="constrained")
    panels = (("mean accuracy, %", "mean accuracy (%)"), ("mean push weight", "mean push weight, 1 at the start"))
    for axes, (column, name) in zip(figure.subplots(1, 2), panels, strict=True):
        for delivery, color, marker in (("raw", "#D55E00", "o"), ("repaired", "#0072B2", "s")):
            seeds = [numbers[f"{delivery}, {p} %"][column] for p in LOSSES]
            means, spreads = [statistics.fmean(values) for values in seeds], [statistics.pstdev(v) for v in seeds]
            axes.errorbar(LOSSES, means, spreads, color=color, marker=marker, capsize=3, label=delivery)
        axes.set_xlabel("messages lost on every link (%)")
        axes.set_ylabel(name)
        axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="0.9", linewidth=0.8)
        axes.legend(frameon=False, loc="lower left")
    return figure


SPARSE_PUSH: list[Study] = [
    Study(
        "S1",
        "does Sparse-Push at 99.9 % sparsity come close to dense SGP on a directed ring?",
        "Eight devices, IID MNIST, 784-200-200-10, 2,500 rounds of one batch of 32 (the paper: ResNet-20 and CIFAR-10, "
        "78,200 rounds), averaging rate 2 k/d. An entry is sent about once in 1,000 rounds, of which a share moves, so "
        "this leaves little time to agree.",
        "at most 1 point below SGP, payload ratio 443 to 500.",
        "sparse-push-mnist.toml",
        {"SGP": DENSE, "Sparse-Push": []},
        SPARSE,
        against_dense,
    ),
    Study(
        "S2",
        "and on a graph that changes with every round?",
        "As S1, but the one out-neighbor changes each round, six random directed rings in turn, and 5,000 rounds: "
        "after 2,500, Sparse-Push was 1.09 points below SGP.",
        "at most 1 point below SGP, payload ratio 443 to 500.",
        "sparse-push-mnist.toml",
        {
            "SGP": ["topology.kind=rotating-rings", *DENSE, *LONG, "stop.rounds=5000"],
            "Sparse-Push": ["topology.kind=rotating-rings", *LONG, "protocol.compensation.after=5000"],
        },
        SPARSE,
        against_dense,
    ),
    Study(
        "S3",
        "what does label skew cost Sparse-Push, and does averaging at the end bring it back?",
        "As S1, but each device gets 80 % or all of its data sorted by label, and 5,000 rounds. After 1,200, models "
        "had hardly met: the 50 dense rounds brought back a quarter (80 %) and a half (all) of the drop.",
        "a marked drop, most of which 50 dense rounds recover.",
        "sparse-push-mnist.toml",
        {
            f"{name}, skew {skew}": [f'data.partition={{kind = "skew", skew = {skew}}}', *changes]
            for skew in ("0.8", "1.0")
            for name, changes in {
                "SGP": [*DENSE, *LONG, "stop.rounds=5000"],
                "Sparse-Push": [*LONG, "protocol.compensation.after=5000"],
            }.items()
        },
        SPARSE,
        recovered,
    ),
    Study(
        "S4",
        "what do lossy links do to Sparse-Push, and what is repair worth?",
        "Eight devices on a ring, digits split by Dirichlet(1), 64-64-10, 98 % sparsity, averaging rate k/d, about "
        "1,000 rounds in which nobody waits. `raw`: what arrives counts. `repaired`: later messages make up for those "
        "lost, so each holds all pushes not yet confirmed. Lost pushes take their mass along: push weights fall like "
        "exp(-2/3 loss * rate * rounds), and a gradient step moves a model by 1 / weight times as much, until training "
        "diverges. (With one out-neighbor and the paper's 78,200 rounds at rate 0.001 it is exp(-39 loss): 10 % loss "
        "leaves 2 % of the mass.) We know of no published figure.",
        "repaired stays within 2 points of lossless links; raw doesn't.",
        "sparse-push-loss.toml",
        {
            f"{delivery}, {p} %": [f"protocol.delivery={delivery}", f'link.loss="{p} %"']
            for delivery in ("raw", "repaired")
            for p in LOSSES
        },
        [
            MEAN,
            WORST,
            Column("mean push weight", final("push_weight"), 3),
            Column("payload ratio", ratio("payload")),
            Column("on-air ratio", ratio("on_air")),
        ],
        repaired,
        loss_figure,
    ),
]


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
        expected="the more labels differ, the slower; P2PL, with four neighbors, is behind FedAvg, which averages all "
        "(that it gets there in the end takes more rounds than these).",
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
    *SPARSE_PUSH,
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
    picture = f"![{study.question}]({study.id}.png)\n\n" if study.figure is not None else ""
    return (
        f"## {study.id}: {study.question}\n\n{study.setting} Scenario: [{study.scenario}]({study.scenario}); "
        f"seeds {told}; {minutes:.0f} min.\n\n{table}\n\n{picture}Expected: {study.expected} {verdict}\n"
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
        if study.figure is not None:
            study.figure(numbers).savefig(FOLDER / f"{study.id}.png", dpi=120)
        old = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else HEAD
        RESULTS.write_text(merged(old, study.id, text), encoding="utf-8")


if __name__ == "__main__":
    main()
