"""The `[data]` table: the data set, its partition among the devices, and changes made to samples in training."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from p2pl_async.basics.plugins import door
from p2pl_async.basics.randomness import stream
from p2pl_async.basics.settings import OneOf, Settings
from p2pl_async.errors import Problem, ScenarioError
from p2pl_async.learning.augmentation import Augment
from p2pl_async.learning.data import Dataset, DataSource, FashionMnist, Mnist, Npz
from p2pl_async.learning.digits import Digits
from p2pl_async.learning.images import Cifar10, ImageFolder
from p2pl_async.learning.partition import AnyPartition, Iid, Partition
from p2pl_async.learning.spreadsheets import Csv, Parquet
from p2pl_async.learning.user_code import mistake, source, user_code

AnyDataset = Annotated[
    DataSource,
    OneOf("data set", Digits, Mnist, FashionMnist, Cifar10, ImageFolder, Npz, Csv, Parquet, outside=door(DataSource)),
]


class DataSettings(Settings):
    """The `[data]` table: the data set, and its partition among the devices."""

    dataset: AnyDataset = Field(default=Digits(), description='a name, a table with its options, or "file.py:Class"')
    partition: AnyPartition = Field(default=Iid(), description="how the training samples are divided among the devices")
    train_samples: PositiveInt | None = Field(
        default=None, description="use only so many training samples, drawn at random; all if not given"
    )
    test_samples: PositiveInt | None = Field(
        default=None, description="test on only so many samples, drawn at random, also at the end; all if not given"
    )

    augment: Augment = Field(default=Augment(), description="random crops and flips of training images")

    def load(self, seed: int) -> Dataset:
        """Return the data, cut to `train_samples` and `test_samples`.

        Raises:
            ScenarioError: if the data is not available, or has fewer samples.
        """
        expected = "load() must return a p2pl_async.Dataset"
        with user_code("data.dataset.kind", self.dataset.load, expected):
            dataset = self.dataset.load()
        if not isinstance(dataset, Dataset):
            text = f"{expected}; that of {source(self.dataset.load)} returned {type(dataset).__name__}"
            raise mistake("data.dataset.kind", self.dataset.load, text)
        self.augment.check(dataset.x_train.shape[1:])
        if self.train_samples is not None:
            rows = self._drawn("train_samples", "samples", dataset.name, len(dataset.y_train), seed)
            owner = None if dataset.owner is None else dataset.owner[rows]
            dataset = replace(dataset, x_train=dataset.x_train[rows], y_train=dataset.y_train[rows], owner=owner)
        if self.test_samples is not None:
            rows = self._drawn("test_samples", "test samples", dataset.name, len(dataset.y_test), seed)
            owner = None if dataset.owner_test is None else dataset.owner_test[rows]
            dataset = replace(dataset, x_test=dataset.x_test[rows], y_test=dataset.y_test[rows], owner_test=owner)
        return dataset

    def _drawn(self, key: str, purpose: str, name: str, n: int, seed: int) -> NDArray[np.int64]:
        """Return as many rows of `n` as a setting says, at random.

        Raises:
            ScenarioError: if there are fewer.
        """
        count: int = getattr(self, key)
        if count > n:
            what = "training" if key == "train_samples" else "test"
            text = f"{name} has only {n} {what} samples; leave it out to use all"
            raise ScenarioError("data", [Problem(f"data.{key}", text, count)])
        return stream(seed, purpose).permutation(n)[:count]

    def split(self, dataset: Dataset, n_devices: int, seed: int) -> list[NDArray[np.int64]]:
        """Return the training rows of each device; ScenarioError if there is no such partition."""
        partition: Partition = self.partition
        labels: NDArray[np.int64] | None = dataset.owner if partition.by == "owner" else dataset.y_train
        if labels is None:
            raise partition.problem(f"needs the owner of each sample, which {dataset.name} lacks; use another")
        if not dataset.labeled and partition.by == "label":
            text = f'divides by label, and y of {dataset.name} are numbers; use "iid", "quantity-dirichlet" or "file"'
            raise partition.problem(text)
        return partition.split(labels, n_devices, stream(seed, "partition"))
