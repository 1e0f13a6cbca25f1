"""Partitions: which device holds which training samples.

Every partition gives each sample to exactly one device and each device at least one sample. It
depends only on the labels, the number of devices and the generator. A request that can't be met is
an error with numbers, never a partition that silently differs.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt

from p2pl_async.basics.plugins import door
from p2pl_async.basics.settings import OneOf, Settings
from p2pl_async.basics.units import Probability
from p2pl_async.errors import Problem, ScenarioError

Labels = NDArray[np.int64]
Rows = NDArray[np.int64]

_DIRICHLET_DRAWS = 1000
_DIRICHLET_VALUES = 40_000_000  # shares drawn at most, but ten times at least: some 10 s


class Partition(Settings):
    """Base of every partition's settings."""

    kind: str
    by: ClassVar[Literal["label", "owner", "nothing"]] = "label"  # what of the samples `split` looks at

    def split(self, labels: Labels, n_devices: int, random: np.random.Generator) -> list[Rows]:
        """Return the rows of each device, ascending: disjoint, complete, none empty.

        Args:
            labels: of all training samples, (n,); of partitions by owner, the owners; numbers where `by` is "nothing".
            n_devices: number of parts.
            random: the only source of randomness.

        Raises:
            ScenarioError: if there is no such partition.
        """
        if n_devices > len(labels):
            raise self.problem(f"{n_devices} devices can't share {len(labels)} samples; use fewer devices or more data")
        made: object = self.divide(labels, n_devices, random)
        expected = f"divide(labels, n_devices, random) must return {n_devices} arrays of rows, each row in one of them"
        try:
            parts = [np.sort(np.asarray(part, np.int64).ravel()) for part in made]  # type: ignore[attr-defined]
        except (TypeError, ValueError) as error:
            raise self.problem(f"{expected}; returned {type(made).__name__}: {error}") from error
        rows = np.sort(np.concatenate([np.empty(0, np.int64), *parts]))
        if len(parts) != n_devices or not np.array_equal(rows, np.arange(len(labels))):
            what = f"{len(parts)} arrays with {len(rows)} rows, {len(np.unique(rows))} different ones"
            raise self.problem(f"{expected}; returned {what} of {len(labels)}")
        empty = [device for device, part in enumerate(parts) if not len(part)]
        if empty:
            text = f"leaves {len(empty)} of {n_devices} devices without a sample, first device {empty[0]}"
            raise self.problem(f"{text}; use fewer devices or more data")
        return parts

    @abstractmethod
    def divide(self, labels: Labels, n_devices: int, random: np.random.Generator) -> Sequence[Rows]:
        """Return the rows of each device, in any order; `split` has the arguments."""

    def problem(self, text: str) -> ScenarioError:
        """Return the error for a partition that is impossible on this data."""
        return ScenarioError("the partition", [Problem("data.partition.kind", text, self.kind)])


class Iid(Partition):
    """Shuffle, then equal parts."""

    kind: Literal["iid"] = "iid"
    by = "nothing"

    def divide(self, labels: Labels, n_devices: int, random: np.random.Generator) -> list[Rows]:
        return np.array_split(random.permutation(len(labels)), n_devices)


class Shards(Partition):
    """Sort by label, cut into equal shards, deal each device a few of them.

    Source: B. McMahan et al., "Communication-efficient learning of deep networks from
    decentralized data", AISTATS 2017.
    """

    kind: Literal["shards"] = "shards"
    per_device: PositiveInt = Field(default=2, description="shards that each device gets")

    def divide(self, labels: Labels, n_devices: int, random: np.random.Generator) -> list[Rows]:
        count = n_devices * self.per_device
        if count > len(labels):
            text = f"{n_devices} devices x {self.per_device} shards is more than {len(labels)} samples"
            raise self.problem(f"{text}; lower per_device or use fewer devices")
        shuffled = random.permutation(len(labels))
        shards = np.array_split(shuffled[np.argsort(labels[shuffled], kind="stable")], count)
        dealt = random.permutation(count).reshape(n_devices, self.per_device)
        return [np.concatenate([shards[shard] for shard in own]) for own in dealt]


class Skew(Partition):
    """Equal parts: a share of each class is dealt sorted by label, the rest at random. 0 is iid, 1 fully split.

    Source: S. A. Aketi, A. Singh, J. Rabaey, arXiv:2102.05715, and the first author's code.
    """

    kind: Literal["skew"] = "skew"
    skew: Probability = Field(description="share of each class that is dealt sorted by label")

    def divide(self, labels: Labels, n_devices: int, random: np.random.Generator) -> list[Rows]:
        rows = [random.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
        cuts = [math.floor(self.skew * len(own) + 1e-9) for own in rows]
        pool = np.concatenate([own[:cut] for own, cut in zip(rows, cuts, strict=True)])
        rest = random.permutation(np.concatenate([own[cut:] for own, cut in zip(rows, cuts, strict=True)]))
        # Both are cut from opposite ends: sizes differ by one at most in each, and the differences don't add up.
        ends = [part[::-1] for part in np.array_split(rest[::-1], n_devices)][::-1]
        return [np.concatenate(own) for own in zip(np.array_split(pool, n_devices), ends, strict=True)]


class Dirichlet(Partition):
    """Split each class over the devices by Dirichlet proportions: the smaller alpha, the more skewed.

    Drawn anew until every device has `min_size` samples. Shares become whole samples by largest remainders, so
    no device is favored by its number.

    Source: T. Hsu, H. Qi, M. Brown, "Measuring the effects of non-identical data distribution
    for federated visual classification", arXiv:1909.06335; rejection as in M. Yurochkin et al., ICML 2019.
    """

    kind: Literal["dirichlet"] = "dirichlet"
    alpha: PositiveFloat = Field(description="concentration: 100 is nearly iid, 0.1 one or two classes per device")
    min_size: PositiveInt = Field(default=10, description="fewest samples that a device may get")

    def divide(self, labels: Labels, n_devices: int, random: np.random.Generator) -> list[Rows]:
        mend = "raise alpha, lower min_size, or use fewer devices"
        if n_devices * self.min_size > len(labels):
            text = f"{n_devices} devices x min_size {self.min_size} is more than {len(labels)} samples"
            raise self.problem(f"{text}; lower min_size or use fewer devices")
        totals = np.bincount(np.unique(labels, return_inverse=True)[1])
        draws = int(np.clip(_DIRICHLET_VALUES // (len(totals) * n_devices), 10, _DIRICHLET_DRAWS))
        best = 0
        for _ in range(draws):
            counts = apportion(random.dirichlet(np.full(n_devices, self.alpha), len(totals)), totals, random)
            smallest = int(counts.sum(axis=0).min())
            if smallest >= self.min_size:
                return _dealt(labels, counts, random)
            best = max(best, smallest)
        text = f"alpha {self.alpha:g} left a device with {best} samples or fewer in each of {draws} draws"
        raise self.problem(f"{text}, min_size is {self.min_size}; {mend}")


class ClassesPerDevice(Partition):
    """Each device gets samples of a number of classes; each class is shared equally by its holders."""

    kind: Literal["classes-per-device"] = "classes-per-device"
    classes: PositiveInt = Field(description="classes that each device holds")

    def divide(self, labels: Labels, n_devices: int, random: np.random.Generator) -> list[Rows]:
        known = np.unique(labels)
        if self.classes > len(known):
            raise self.problem(f"classes = {self.classes} is more than the {len(known)} classes of the data; lower it")
        if n_devices * self.classes < len(known):
            text = f"{n_devices} devices x {self.classes} classes can't hold all {len(known)} classes"
            raise self.problem(f"{text}; raise classes or use more devices")
        holders: list[list[int]] = [[] for _ in known]
        for device in random.permutation(n_devices).tolist():
            # Classes with the fewest holders first, ties at random, so the numbers of holders differ by one at most.
            held = np.array([len(own) for own in holders])
            for chosen in np.lexsort((random.random(len(known)), held))[: self.classes]:
                holders[chosen].append(device)
        pieces: list[list[Rows]] = [[] for _ in range(n_devices)]
        for label, own in zip(known, holders, strict=True):
            rows = random.permutation(np.flatnonzero(labels == label))
            if len(rows) < len(own):
                text = f"class {label} has {len(rows)} samples for the {len(own)} devices that are to hold it"
                raise self.problem(f"{text}; lower classes, use fewer devices or more data")
            for device, piece in zip(own, np.array_split(rows, len(own)), strict=True):
                pieces[device].append(piece)
        return [np.concatenate(own) for own in pieces]


class QuantityDirichlet(Partition):
    """The same mix of classes on every device, amounts of data drawn from a Dirichlet distribution."""

    kind: Literal["quantity-dirichlet"] = "quantity-dirichlet"
    by = "nothing"
    beta: PositiveFloat = Field(description="concentration: the smaller, the more unequal the amounts")
    min_size: PositiveInt = Field(default=1, description="samples that every device gets first; the rest is drawn")

    def divide(self, labels: Labels, n_devices: int, random: np.random.Generator) -> list[Rows]:
        rest = len(labels) - n_devices * self.min_size
        if rest < 0:
            text = f"{n_devices} devices x min_size {self.min_size} is more than {len(labels)} samples"
            raise self.problem(f"{text}; lower min_size or use fewer devices")
        drawn = apportion(random.dirichlet(np.full(n_devices, self.beta), 1), np.array([rest]), random)[0]
        return np.split(random.permutation(len(labels)), np.cumsum(drawn + self.min_size)[:-1])


class TwoGroups(Partition):
    """The same mix of classes on every device; the first devices share little of the data, the others the rest."""

    kind: Literal["two-groups"] = "two-groups"
    by = "nothing"
    share_of_data: Probability = Field(default=0.01, description="data that the first group holds together")
    share_of_devices: Probability = Field(default=0.5, description="devices in the first group: the lowest ids")

    def divide(self, labels: Labels, n_devices: int, random: np.random.Generator) -> list[Rows]:
        n, first = len(labels), round(self.share_of_devices * n_devices)
        rows = round(self.share_of_data * n)
        if not 0 < first < n_devices:
            raise self.problem(f"share_of_devices puts {first} of {n_devices} devices in the first group")
        for devices, samples in ((first, rows), (n_devices - first, n - rows)):
            if samples < devices:
                text = f"share_of_data gives {devices} devices {samples} of {n} samples, fewer than one each"
                raise self.problem(f"{text}; change share_of_data or share_of_devices")
        order = random.permutation(n)
        return [*np.array_split(order[:rows], first), *np.array_split(order[rows:], n_devices - first)]


class Natural(Partition):
    """By owner, such as people or writers: a device has all samples of some owners, or part of one owner's.

    Where there are more devices than owners, each next device goes to the owner with the most samples per device.
    """

    kind: Literal["natural"] = "natural"
    by = "owner"

    def divide(self, labels: Labels, n_devices: int, random: np.random.Generator) -> list[Rows]:
        owners = random.permutation(np.unique(labels))
        if n_devices <= len(owners):
            return [np.flatnonzero(np.isin(labels, own)) for own in np.array_split(owners, n_devices)]
        rows = [random.permutation(np.flatnonzero(labels == owner)) for owner in owners]
        sizes, devices = np.array([len(own) for own in rows]), np.ones(len(owners), np.int64)
        for _ in range(n_devices - len(owners)):
            devices[np.argmax(sizes / devices)] += 1
        return [part for own, count in zip(rows, devices, strict=True) for part in np.array_split(own, count)]


class FromTable(Partition):
    """By a text file with the number of a device for each training sample, one a line."""

    kind: Literal["file"] = "file"
    by = "nothing"
    path: Path = Field(description="the file; line i has the device, from 0, of training sample i")

    def divide(self, labels: Labels, n_devices: int, random: np.random.Generator) -> list[Rows]:
        try:
            lines = self.path.read_text(encoding="utf-8").split()
        except (OSError, UnicodeDecodeError) as error:
            raise self.problem(f"can't read {self.path}: {error}") from error
        if len(lines) != len(labels):
            raise self.problem(f"{self.path} has {len(lines)} numbers for {len(labels)} training samples")
        known = {str(device): device for device in range(n_devices)}
        wrong = next((row for row, text in enumerate(lines) if text not in known), None)
        if wrong is not None:
            text = f"{self.path}, number {wrong + 1}: must be a device from 0 to {n_devices - 1}, is {lines[wrong]!r}"
            raise self.problem(text)
        devices = np.array([known[text] for text in lines])
        return [np.flatnonzero(devices == device) for device in range(n_devices)]


AnyPartition = Annotated[
    Partition,
    OneOf(
        "partition", Iid, Shards, Skew, Dirichlet, ClassesPerDevice, QuantityDirichlet, TwoGroups, Natural, FromTable,
        outside=door(Partition),
    ),
]  # fmt: skip


def count_matrix(labels: Labels, parts: Sequence[Rows], n_classes: int) -> NDArray[np.int64]:
    """Return how many samples of each class each device holds, (n_devices, n_classes)."""
    return np.stack([np.bincount(labels[part], minlength=n_classes) for part in parts]).astype(np.int64)


def apportion(shares: NDArray[np.float64], totals: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
    """Return how many of each row's items each column gets, by largest remainders; equal ones are ordered at random.

    Args:
        shares: of the columns in each row, (rows, columns); each row sums to 1.
        totals: items of each row, (rows,).
        random: the only source of randomness.

    Returns:
        (rows, columns), each row summing to its total; a count is its share of the total, rounded up or down.
    """
    exact = shares * totals[:, None]
    counts = np.floor(exact).astype(np.int64)
    missing = np.maximum(totals - counts.sum(axis=1), 0)
    order = np.lexsort((random.random(exact.shape), counts - exact), axis=1)  # largest remainder first
    given = np.arange(exact.shape[1]) < missing[:, None]
    np.put_along_axis(counts, order, np.take_along_axis(counts, order, 1) + given, 1)
    return counts


def _dealt(labels: Labels, counts: NDArray[np.int64], random: np.random.Generator) -> list[Rows]:
    """Return the rows of each device, given how many of each class it gets, (classes, devices)."""
    pieces: list[list[Rows]] = [[] for _ in range(counts.shape[1])]
    shuffled = random.permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    start = 0
    for own in counts:
        for device in np.flatnonzero(own).tolist():
            pieces[device].append(by_class[start : start + own[device]])
            start += own[device]
    return [np.concatenate(own) if own else np.empty(0, np.int64) for own in pieces]
