"""Partitions: which device holds which training samples.

Every partition gives each sample to exactly one device and each device at least one sample,
and depends on nothing but the labels, the number of devices and the generator.

Source: methods and names as in the federated-learning literature (McMahan et al. 2017 for
shards, Hsu et al. 2019 for Dirichlet).
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from p2pl_async.errors import Problem, ScenarioError
from p2pl_async.settings import OneOf, Settings

Labels = NDArray[np.int64]
Rows = NDArray[np.int64]


class Partition(Settings):
    """Base of every partition's settings."""

    kind: str

    def split(self, labels: Labels, n_devices: int, random: np.random.Generator) -> list[Rows]:
        """Return the rows of each device, ascending: disjoint, complete, none empty.

        Args:
            labels: of all training samples, (n,).
            n_devices: how many parts.
            random: the only source of chance.

        Raises:
            ScenarioError: if there is no such partition.
        """
        if n_devices > len(labels):
            text = f"{n_devices} devices can't share {len(labels)} training samples; use fewer devices or more data"
            raise self.problem(text)
        return [np.sort(part) for part in self._split(labels, n_devices, random)]

    @abstractmethod
    def _split(self, labels: Labels, n_devices: int, random: np.random.Generator) -> list[Rows]:
        """Return the rows of each device in any order."""

    def problem(self, text: str) -> ScenarioError:
        """Return the error that says why the data can't be split so."""
        return ScenarioError("the partition", [Problem("data.partition", text, self.kind)])


class Iid(Partition):
    """Shuffle, then equal parts."""

    kind: Literal["iid"] = "iid"

    def _split(self, labels: Labels, n_devices: int, random: np.random.Generator) -> list[Rows]:
        return np.array_split(random.permutation(len(labels)), n_devices)


AnyPartition = Annotated[Partition, OneOf("partition", Iid)]


def count_matrix(labels: Labels, parts: list[Rows], n_classes: int) -> NDArray[Any]:
    """Return how many samples of each class each device holds, (n_devices, n_classes)."""
    return np.stack([np.bincount(labels[part], minlength=n_classes) for part in parts])
