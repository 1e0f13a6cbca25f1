"""Tables and verdicts: a study's results in words and numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from p2pl_async.study.expressions import Number
from p2pl_async.study.factors import Labels, title_of
from p2pl_async.study.results import Results, Samples
from p2pl_async.study.settings import Expectation, TableSettings, ValueSettings
from p2pl_async.study.statistics import Interval, holm, interval, paired_p, smallest_p
from p2pl_async.study.survival import Arrival, horizon, log_rank_p, median, restricted_mean


@dataclass(frozen=True)
class Sheet:
    """A table as texts, whatever it is printed as.

    Attributes:
        title: above it.
        header: of the columns.
        rows: of texts.
        notes: below it.
    """

    title: str
    header: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)


# Values


def table_sheet(results: Results, table: TableSettings) -> Sheet:
    """Return a table of the answer: the factors in front, then the values, over seeds."""
    places = results.chosen(table.select)
    factors = [factor for factor in (results.variants[0] if results.variants else {}) if factor != table.columns]
    factors = [name for name in factors if len({labels[name] for labels in results.variants}) > 1] or factors
    if table.by is not None:
        factors = [factor for factor in table.by if factor != table.columns]
    levels: list[str | None] = [None]
    if table.columns is not None:
        levels = list(dict.fromkeys(results.variants[i][table.columns] for i in places))
    rows: dict[tuple[str, ...], dict[str | None, list[int]]] = {}
    for i in places:
        labels = results.variants[i]
        row = rows.setdefault(tuple(labels[factor] for factor in factors), {})
        row.setdefault(labels[table.columns] if table.columns is not None else None, []).append(i)
    header = [*factors, *(_heading(table, value, level) for value in table.value for level in levels)]
    cells = [
        [*key, *(cell(results, table, value, row.get(level, [])) for value in table.value for level in levels)]
        for key, row in rows.items()
    ]
    return Sheet(table.title, header, cells, list(_notes(results, table)))


def _heading(table: TableSettings, value: ValueSettings, level: str | None) -> str:
    if level is None:
        return value.title
    return f"{table.columns} = {level}" if len(table.value) == 1 else f"{value.title}, {table.columns} = {level}"


def cell(results: Results, table: TableSettings, value: ValueSettings, places: Sequence[int]) -> str:
    """Return what a table says of a value of the variants at `places`; "" if there is none.

    A dash stands where a run has no such value. Times of which some run reached no target are a median.
    """
    if not places:
        return ""
    samples = _averaged([results.samples[value.of][i] for i in places])
    n_seeds = len(results.settings.seeds)
    few = f" (n={len(samples)})" if 0 < len(samples) < n_seeds else ""
    if not samples:
        return "no run"
    numbers = [number(sample) for sample in samples]
    if any(map(math.isnan, numbers)):
        return "-"
    if any(isinstance(sample, Arrival) and not sample.reached for sample in samples):
        arrived = [sample for sample in samples if isinstance(sample, Arrival)]
        center, count = median(arrived), sum(sample.reached for sample in arrived)
        longest = max(sample.at for sample in arrived)
        shown = f"> {_shown(longest, value.digits)}" if math.isinf(center) else _shown(center, value.digits)
        return f"{shown}, {count} of {len(arrived)} reached it{few}"
    return spread(interval(numbers, table.statistic), value.digits, symmetric=table.statistic == "mean") + few


def _averaged(variants: Sequence[Samples]) -> list[Number]:
    """Return the values of a variant; of several, the mean for each seed that all have.

    Where one of several reached no target there is no mean, so all their runs are returned.
    """
    if len(variants) == 1:
        return list(variants[0].values())
    runs = [sample for own in variants for sample in own.values()]
    if any(isinstance(sample, Arrival) and not sample.reached for sample in runs):
        return runs
    seeds = [seed for seed in variants[0] if all(seed in own for own in variants)]
    return [sum(number(own[seed]) for own in variants) / len(variants) for seed in seeds]


def spread(found: Interval, digits: int | None, *, symmetric: bool) -> str:
    """Return a center with its interval: "97.31 ± 0.12", or "97.31 [97.20, 97.40]" where it isn't symmetric."""
    half = (found.high - found.low) / 2
    if math.isnan(half):
        return _shown(found.center, digits)
    if digits is None and half > 0:
        digits = max(0, min(9, 1 - math.floor(math.log10(half))))
    if symmetric:
        return f"{_shown(found.center, digits)} ± {_shown(half, digits)}"
    return f"{_shown(found.center, digits)} [{_shown(found.low, digits)}, {_shown(found.high, digits)}]"


def _shown(value: float, digits: int | None) -> str:
    if digits is None:
        return f"{value:,.4g}" if abs(value) < 1e5 else f"{value:,.0f}"
    return f"{value:,.{digits}f}"


def sample_text(sample: Number | None) -> str:
    """Return the value of one run: "97.31", "> 120" where it never got there, "-" where it has none."""
    if sample is None or math.isnan(number(sample)):
        return "-"
    return f"{'> ' if isinstance(sample, Arrival) and not sample.reached else ''}{_shown(number(sample), None)}"


def number(sample: Number) -> float:
    """Return a value as a number; a target that was not reached counts as the end of the run."""
    return sample.at if isinstance(sample, Arrival) else sample


_SPREADS = {
    "mean": "mean ± half of the 95 % t interval over seeds",
    "bootstrap": "mean with its 95 % BCa bootstrap interval over seeds",
    "median": "median with its interval of at least 95 % (none below six seeds)",
}


def _notes(results: Results, table: TableSettings) -> Iterator[str]:
    yield f"{_SPREADS[table.statistic]}; {len(results.settings.seeds)} seeds"
    values = [sample for value in table.value for own in results.samples[value.of] for sample in own.values()]
    if any(isinstance(value, Arrival) and not value.reached for value in values):
        yield "where some run never reached its target: Kaplan and Meier's median over all runs"


# Differences


def difference_sheet(results: Results, table: TableSettings) -> Sheet | None:
    """Return how each row differs from the baseline, seed by seed; None if there is no baseline."""
    names = list(results.variants[0] if results.variants else {}) if table.by is None else list(table.by)
    baseline = {factor: level for factor, level in results.settings.baseline.items() if factor in names}
    pairs: dict[tuple[str, ...], list[tuple[int, int]]] = {}
    for i in results.chosen(table.select):
        labels = results.variants[i]
        other = results.place({**labels, **baseline})
        if other is not None and other != i:
            pairs.setdefault(tuple(labels[name] for name in names), []).append((i, other))
    if not baseline or not pairs:
        return None
    columns = [[_difference(results, table, value, own) for own in pairs.values()] for value in table.value]
    corrected = [holm([p for _, p in column]) for column in columns]
    rows = [
        [*key, *(text for c, p in zip(columns, corrected, strict=True) for text in (c[at][0], _p(p[at])))]
        for at, key in enumerate(pairs)
    ]
    header = [*names, *(text for value in table.value for text in (value.title, "p"))]
    n = len(results.settings.seeds)
    name = {"permutation": "sign-flip permutation test", "wilcoxon": "exact Wilcoxon test", "t": "paired t test"}[
        table.test
    ]
    notes = [
        f"differences by seed from {title_of(baseline)}, with 95 % t intervals; p of the {name}, "
        f"corrected by Holm's rule for {len(pairs)} comparison{'s' * (len(pairs) != 1)}",
    ]
    if table.test != "t":
        notes.append(f"with {n} seeds the smallest exact two-sided p is {smallest_p(n):.2g}, before correction")
    if any("restricted" in text for row in rows for text in row):
        notes.append(
            "targets that some run never reached: restricted means up to the end of those that did not, log-rank test"
        )
    return Sheet(f"{table.title}: differences" if table.title else "differences", header, rows, notes)


def _difference(
    results: Results, table: TableSettings, value: ValueSettings, pairs: Sequence[tuple[int, int]]
) -> tuple[str, float]:
    """Return the mean difference of pairs of variants in words, and its p-value; "-" and NaN if there is none."""
    samples = results.samples[value.of]
    seeds = [seed for seed in samples[pairs[0][0]] if all(seed in samples[i] for pair in pairs for i in pair)]
    if not seeds:
        return "-", math.nan
    found = [
        sum(number(samples[i][seed]) - number(samples[other][seed]) for i, other in pairs) / len(pairs)
        for seed in seeds
    ]
    if any(map(math.isnan, found)):
        return "-", math.nan
    groups = [
        [sample for i in places for sample in samples[i].values() if isinstance(sample, Arrival)]
        for places in zip(*pairs, strict=True)
    ]
    if any(not sample.reached for group in groups for sample in group):
        until = horizon(groups)
        difference = restricted_mean(groups[0], until) - restricted_mean(groups[1], until)
        return f"{_signed(_shown(difference, value.digits))} (restricted)", log_rank_p(*groups)
    return _signed(spread(interval(found), value.digits, symmetric=True)), paired_p(found, table.test)


def _signed(text: str) -> str:
    return text if text.startswith("-") else f"+{text}"


def _p(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2g}" if value >= 1e-4 else "< 0.0001"


# Expectations


@dataclass(frozen=True)
class ClaimCheck:
    """Whether what was expected came out.

    Attributes:
        expected: what was.
        met: whether it did; None if runs are missing.
        lines: the numbers, a line for each variant that it is about.
    """

    expected: Expectation
    met: bool | None
    lines: list[str]


def verdicts(results: Results) -> list[ClaimCheck]:
    """Return whether each expectation is met."""
    return [_verdict(results, expected) for expected in results.settings.expect]


def _verdict(results: Results, expected: Expectation) -> ClaimCheck:
    met: list[bool | None] = []
    lines = []
    for i in results.chosen(expected.of):
        other = None
        if expected.minus:
            other = results.place({**results.variants[i], **_single(expected.minus)})
            if other is None or other == i:
                continue
        values = _compared(results.samples[expected.value], i, other)
        found = interval(values) if values else Interval(math.nan, math.nan, math.nan)
        within = None if math.isnan(found.center) else _within(found.center, expected)
        met.append(within)
        lines.append(f"{title_of(results.variants[i])}: {_told(found, expected, len(values), other is not None)}")
    whole = None if not met or (None in met and False not in met) else all(met)
    return ClaimCheck(expected, whole, lines)


def _single(selection: dict[str, str | tuple[str, ...]]) -> Labels:
    return {factor: names if isinstance(names, str) else names[0] for factor, names in selection.items()}


def _compared(samples: Sequence[Samples], i: int, other: int | None) -> list[float]:
    """Return the values of a variant by seed, less those of another; a target that was not reached counts as NaN."""
    own = {seed: _reached(sample) for seed, sample in samples[i].items()}
    if other is None:
        return list(own.values())
    base = {seed: _reached(sample) for seed, sample in samples[other].items()}
    return [own[seed] - base[seed] for seed in own if seed in base]


def _reached(sample: Number) -> float:
    return math.nan if isinstance(sample, Arrival) and not sample.reached else number(sample)


def _within(value: float, expected: Expectation) -> bool:
    return (expected.above is None or value > expected.above) and (expected.below is None or value < expected.below)


def _told(found: Interval, expected: Expectation, n: int, compared: bool) -> str:
    if math.isnan(found.center):
        return "not known: runs are missing, or have no such number"
    what = "difference " if compared else ""
    sure = ""
    limits = [bound for bound in (expected.above, expected.below) if bound is not None]
    if any(found.low <= bound <= found.high for bound in limits) and found.low < found.high:
        sure = "; its interval includes the bound"
    return f"{what}{spread(found, None, symmetric=True)} with {n} seed{'s' * (n != 1)}{sure}"


def bounds(expected: Expectation) -> str:
    """Return the bounds of an expectation in words."""
    parts = [f"above {expected.above:g}"] if expected.above is not None else []
    parts += [f"below {expected.below:g}"] if expected.below is not None else []
    return " and ".join(parts)
