"""Partitions: disjoint, complete, deterministic, and skewed as they promise."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from p2pl_async.basics.randomness import stream
from p2pl_async.errors import ScenarioError
from p2pl_async.learning.partition import (
    AnyPartition,
    ClassesPerDevice,
    Dirichlet,
    Iid,
    Partition,
    QuantityDirichlet,
    Shards,
    Skew,
    TwoGroups,
    apportion,
    count_matrix,
)

LABELS = np.random.default_rng(0).integers(10, size=2000)


def split(partition: Partition, n_devices: int = 20, labels: Any = LABELS, seed: int = 1) -> list[Any]:
    return partition.split(labels, n_devices, stream(seed, "partition"))


def counts(partition: Partition, n_devices: int = 20, seed: int = 1) -> Any:
    return count_matrix(LABELS, split(partition, n_devices, seed=seed), 10)


partitions = st.one_of(
    st.just(Iid()),
    st.builds(Shards, per_device=st.integers(1, 5)),
    st.builds(Skew, skew=st.floats(0, 1)),
    st.builds(Dirichlet, alpha=st.floats(0.05, 100), min_size=st.integers(1, 3)),
    st.builds(ClassesPerDevice, classes=st.integers(1, 10)),
    st.builds(QuantityDirichlet, beta=st.floats(0.01, 100), min_size=st.integers(1, 3)),
    st.builds(TwoGroups, share_of_data=st.floats(0, 1), share_of_devices=st.floats(0, 1)),
)


@settings(max_examples=150, deadline=None)
@given(
    partition=partitions,
    labels=st.lists(st.integers(0, 9), min_size=1, max_size=120),
    n_devices=st.integers(1, 30),
    seed=st.integers(0, 99),
)
def test_parts_are_disjoint_complete_and_deterministic_or_there_is_an_error(
    partition: Partition, labels: list[int], n_devices: int, seed: int
) -> None:
    array = np.array(labels)
    try:
        parts = split(partition, n_devices, array, seed)
    except ScenarioError as error:
        assert any(character.isdigit() for character in str(error))  # noqa: PT017 -- either outcome is right
        return
    assert len(parts) == n_devices
    assert min(map(len, parts)) >= 1
    assert all((np.diff(part) > 0).all() for part in parts)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    again = split(partition, n_devices, array, seed)
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))
    assert count_matrix(array, parts, 10).sum() == len(labels)


ALL = [
    Iid(),
    Shards(),
    Skew(skew=0.8),
    Dirichlet(alpha=0.5),
    ClassesPerDevice(classes=2),
    QuantityDirichlet(beta=0.5),
    TwoGroups(share_of_data=0.05),
]


@pytest.mark.parametrize("partition", ALL, ids=lambda partition: partition.kind)
def test_another_seed_gives_another_partition(partition: Partition) -> None:
    one, other = split(partition, seed=1), split(partition, seed=2)
    assert not all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("partition", ALL, ids=lambda partition: partition.kind)
def test_a_scenario_chooses_a_partition_by_its_kind(partition: Partition) -> None:
    adapter: TypeAdapter[Partition] = TypeAdapter(AnyPartition)
    assert adapter.validate_python(partition.model_dump()) == partition
    assert (type(partition).__doc__ or "").strip()


def test_iid_parts_are_equal_within_one() -> None:
    sizes = [len(part) for part in split(Iid(), 30)]
    assert max(sizes) - min(sizes) == 1
    assert (counts(Iid(), 5) > 0).all()


@pytest.mark.parametrize("skew", [0.0, 0.8, 1.0])
def test_skew_sorts_its_share_of_each_class(skew: float) -> None:
    """Of ten classes over ten devices each device has its sorted share of one class, and a tenth of the rest of all."""
    labels = np.repeat(np.arange(10), 200)
    matrix = count_matrix(labels, split(Skew(skew=skew), 10, labels), 10)
    assert (matrix.sum(axis=1) == 200).all()
    own = np.diag(matrix)
    assert (own >= 200 * skew).all()
    assert own.mean() == pytest.approx(200 * skew + 20 * (1 - skew), abs=3)
    assert (matrix[~np.eye(10, dtype=bool)].max() < 40) if skew < 1 else (own == 200).all()


@pytest.mark.parametrize("per_device", [1, 2, 4])
def test_a_device_with_few_shards_has_few_classes(per_device: int) -> None:
    matrix = counts(Shards(per_device=per_device))
    assert len(set(matrix.sum(axis=1))) == 1
    # A shard of 2000 / (20 * per_device) samples spans at most two of the ten classes of about 200.
    assert ((matrix > 0).sum(axis=1) <= 2 * per_device).all()
    assert ((matrix > 0).sum(axis=1) >= per_device / 2).all()


def test_a_small_alpha_skews_and_a_large_one_does_not() -> None:
    def largest_share(alpha: float) -> float:
        matrix = counts(Dirichlet(alpha=alpha, min_size=5))
        return float((matrix.max(axis=1) / matrix.sum(axis=1)).mean())

    assert largest_share(0.1) > 0.6
    assert 0.1 < largest_share(1000) < 0.2


def test_dirichlet_shares_have_the_moments_of_the_distribution() -> None:
    # The variance of a share is (1/n)(1 - 1/n) / (n alpha + 1). 600 draws: 25 % is about 5 sigma.
    n, alpha = 4, 2.0
    size = np.bincount(LABELS)
    shares = [counts(Dirichlet(alpha=alpha, min_size=1), n, seed)[0] / size for seed in range(60)]
    expected = (1 / n) * (1 - 1 / n) / (n * alpha + 1)
    assert np.mean((np.array(shares) - 1 / n) ** 2) == pytest.approx(expected, rel=0.25)


def test_dirichlet_gives_every_device_its_smallest_size() -> None:
    def smallest(min_size: int) -> int:
        return min(
            int(counts(Dirichlet(alpha=0.3, min_size=min_size), seed=seed).sum(axis=1).min()) for seed in range(9)
        )

    assert smallest(min_size=1) < 25 <= smallest(min_size=25)


@pytest.mark.parametrize("classes", [1, 3, 10])
def test_each_device_has_its_number_of_classes_and_each_class_as_many_holders(classes: int) -> None:
    held = counts(ClassesPerDevice(classes=classes)) > 0
    assert (held.sum(axis=1) == classes).all()
    assert (held.sum(axis=0) == 20 * classes / 10).all()


def test_quantities_are_unequal_but_classes_are_mixed() -> None:
    skewed, even = (counts(QuantityDirichlet(beta=beta)).sum(axis=1) for beta in (0.3, 1000))
    assert skewed.max() > 5 * np.median(skewed)
    assert even.max() < 1.5 * even.min()
    largest = counts(QuantityDirichlet(beta=0.3))[skewed.argmax()]
    assert largest.max() < 2 * largest.min()
    assert counts(QuantityDirichlet(beta=0.01, min_size=7)).sum(axis=1).min() == 7


def test_the_first_group_holds_its_share_of_the_data() -> None:
    sizes = counts(TwoGroups(share_of_data=0.1, share_of_devices=0.3)).sum(axis=1)
    assert sizes[:6].sum() == 200
    assert sizes[:6].max() - sizes[:6].min() <= 1
    assert sizes[6:].max() - sizes[6:].min() <= 1


@pytest.mark.parametrize(
    ("partition", "n_devices", "text"),
    [
        (Iid(), 2001, "2001 devices can't share 2000 samples; use fewer devices"),
        (Shards(per_device=3), 700, "700 devices x 3 shards is more than 2000 samples; lower per_device"),
        (Dirichlet(alpha=1), 201, "201 devices x min_size 10 is more than 2000 samples; lower min_size"),
        (Dirichlet(alpha=0.01, min_size=50), 30, "alpha 0.01 left a device with .* raise alpha, lower min_size"),
        (ClassesPerDevice(classes=11), 20, "more than the 10 classes"),
        (ClassesPerDevice(classes=2), 4, "4 devices x 2 classes can't hold all 10 classes"),
        (QuantityDirichlet(beta=1, min_size=101), 20, "20 devices x min_size 101 is more than 2000"),
        (TwoGroups(share_of_data=0.001), 100, "gives 50 devices 2 of 2000 samples, fewer than one each"),
        (TwoGroups(share_of_data=0.999), 100, "gives 50 devices 2 of 2000 samples, fewer than one each"),
        (TwoGroups(share_of_devices=0.001), 100, "puts 0 of 100 devices in the first group"),
    ],
)
def test_an_impossible_request_is_an_error_with_numbers_and_a_way_out(
    partition: Partition, n_devices: int, text: str
) -> None:
    with pytest.raises(ScenarioError, match=text):
        split(partition, n_devices)


def test_a_class_with_fewer_samples_than_holders_is_an_error() -> None:
    labels = np.array([0] * 50 + [1] * 2)
    with pytest.raises(ScenarioError, match=r"class 1 has 2 samples for the 5 devices.*; lower classes"):
        split(ClassesPerDevice(classes=1), 10, labels)
    labels = np.array([0] * 50 + [1] * 8)
    with pytest.raises(ScenarioError, match="class 1 has 8 samples for the 10 devices"):
        split(ClassesPerDevice(classes=2), 10, labels)


@pytest.mark.parametrize(
    ("n_devices", "classes", "each", "alpha"), [(50, 100, 20, 100.0), (100, 10, 144, 100.0), (100, 5000, 4, 1.0)]
)
def test_dirichlet_treats_devices_alike_however_few_samples_a_class_has(
    n_devices: int, classes: int, each: int, alpha: float
) -> None:
    labels = np.repeat(np.arange(classes), each)
    seeds = 3 if classes > 1000 else 40
    sizes = np.array(
        [[len(part) for part in split(Dirichlet(alpha=alpha, min_size=1), n_devices, labels, s)] for s in range(seeds)]
    )
    fair = classes * each / n_devices
    assert sizes.sum(axis=1).tolist() == [classes * each] * seeds
    # A device's size is a sum over classes; its mean over seeds is within 5 of its standard deviations.
    assert np.abs(sizes.mean(axis=0) - fair).max() < 5 * sizes.std() / np.sqrt(seeds)
    assert sizes.min() > fair / 3


@given(
    totals=st.lists(st.integers(0, 50), min_size=1, max_size=5),
    alpha=st.sampled_from([0.01, 1.0, 100.0]),
    columns=st.integers(1, 20),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_apportioned_counts_are_the_shares_rounded_up_or_down(
    totals: list[int], alpha: float, columns: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    shares = random.dirichlet(np.full(columns, alpha), len(totals))
    counts = apportion(shares, np.array(totals), random)
    assert counts.sum(axis=1).tolist() == totals
    assert (np.abs(counts - shares * np.array(totals)[:, None]) < 1 + 1e-9).all()


def test_equal_remainders_are_given_at_random() -> None:
    random = np.random.default_rng(0)
    counts = apportion(np.full((4000, 4), 0.25), np.full(4000, 2), random)
    # 4,000 classes of 2 samples: 2,000 for each device, off by 32 (one sigma).
    assert np.abs(counts.sum(axis=0) - 2000).max() < 150


def test_count_matrix_counts_classes_per_device() -> None:
    matrix = count_matrix(np.array([0, 2, 2, 1]), [np.array([0, 1]), np.array([2, 3])], 4)
    assert matrix.tolist() == [[1, 0, 1, 0], [0, 1, 1, 0]]


@pytest.mark.parametrize("table", [{"kind": "dirichlet", "alpha": 0}, {"kind": "dirichlet"}, {"kind": "two-group"}])
def test_a_wrong_table_is_an_error(table: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(AnyPartition).validate_python(table)


def test_a_file_says_which_device_has_each_sample(tmp_path: Path) -> None:
    path = tmp_path / "who.txt"
    partition = TypeAdapter[Partition](AnyPartition).validate_python({"kind": "file", "path": str(path)})
    path.write_text("2\n0\n1\n0\n")
    parts = partition.split(np.zeros(4, np.int64), 3, stream(1, "partition"))
    assert [part.tolist() for part in parts] == [[1, 3], [2], [0]]
    for text, said in (
        ("2\n0\n", "has 2 numbers for 4 training samples"),
        ("0 1 3 0", "number 3: must be a device from 0 to 2, is '3'"),
        ("0 1 x 0", "number 3: must be a device from 0 to 2, is 'x'"),
        ("0 1 1 0", "leaves 1 of 3 devices without a sample, first device 2"),
    ):
        path.write_text(text)
        with pytest.raises(ScenarioError, match=re.escape(said)):
            partition.split(np.zeros(4, np.int64), 3, stream(1, "partition"))


@given(
    classes=st.integers(1, 5),
    counts=st.lists(st.integers(1, 12), min_size=1, max_size=5),
    devices=st.integers(1, 8),
    seed=st.integers(0, 3),
)
def test_classes_per_device_gives_what_it_says_or_says_why(
    classes: int, counts: list[int], devices: int, seed: int
) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    try:
        parts = ClassesPerDevice(classes=classes).split(labels, devices, stream(seed, "partition"))
    except ScenarioError as error:
        said = str(error)
        impossible = devices * classes < len(counts) or classes > len(counts) or min(counts) < devices
        assert impossible
        whys = ("is more than", "can't hold all", "that are to hold it", "can't share")
        assert any(why in said for why in whys)
        return
    assert [len(np.unique(labels[part])) for part in parts] == [classes] * devices
