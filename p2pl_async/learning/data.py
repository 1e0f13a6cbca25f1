"""Data sets: where the samples come from, checked and as plain arrays.

A data set of one's own is a subclass of `DataSource` with a `load`, named in a scenario as
`dataset = "file.py:Class"`. Nothing is ever unpickled.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from p2pl_async.settings import OneOf, Settings


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples with their labels, as contiguous read-only arrays."""

    name: str
    x_train: NDArray[np.float32]  # (n_train, *shape)
    y_train: NDArray[np.int64]  # (n_train,), 0 <= label < n_classes
    x_test: NDArray[np.float32]  # (n_test, *shape)
    y_test: NDArray[np.int64]  # (n_test,)
    n_classes: int

    def __post_init__(self) -> None:
        for name in ("x_train", "y_train", "x_test", "y_test"):
            dtype = np.float32 if name.startswith("x") else np.int64
            array = np.ascontiguousarray(getattr(self, name), dtype).view()
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    def first(self, samples: int, random: np.random.Generator) -> Dataset:
        """Return the data set with only so many training samples: the first after a shuffle."""
        rows = random.permutation(len(self.y_train))[:samples]
        return Dataset(self.name, self.x_train[rows], self.y_train[rows], self.x_test, self.y_test, self.n_classes)


class DataSource(Settings):
    """Base of every data set's settings."""

    kind: str

    @abstractmethod
    def load(self) -> Dataset:
        """Return the data; ScenarioError if it can't be had."""


class Digits(DataSource):
    """Handwritten digits of 8 x 8 pixels, 1,437 for training and 360 for testing; ships with scikit-learn."""

    kind: Literal["digits"] = "digits"

    def load(self) -> Dataset:
        """Return the digits with features from 0 to 1, shape (8, 8); the split is always the same."""
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        digits: Any = load_digits()
        x_train, x_test, y_train, y_test = train_test_split(
            digits.images / 16, digits.target, test_size=360, stratify=digits.target, random_state=0
        )
        return Dataset("digits", x_train, y_train, x_test, y_test, 10)


def _outside(spec: str) -> type[DataSource]:
    from p2pl_async.plugins import load_class

    return load_class(spec, DataSource)  # type: ignore[type-abstract]


AnyDataset = Annotated[DataSource, OneOf("data set", Digits, outside=_outside)]
