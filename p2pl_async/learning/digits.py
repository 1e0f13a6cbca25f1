"""The handwritten digits that ship with scikit-learn: the data set that needs no download."""

from __future__ import annotations

import functools
import gzip
import importlib.util
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from p2pl_async.learning.data import Dataset, DataSource

_SPLIT = Path(__file__).with_name("digits_split.npy")
"""Numbers of the samples, (1797,): 1,437 for training, then 360 for testing, as scikit-learn's `train_test_split` drew
them by class with its seed 0. A version that draws otherwise changes no run."""
_TESTED = 360


class Digits(DataSource):
    """Handwritten digits of 8 x 8 pixels, 1,437 for training and 360 for testing; needs no download."""

    kind: Literal["digits"] = "digits"

    def load(self) -> Dataset:
        """Return the digits that ship with scikit-learn, features from 0 to 1, shape (8, 8), in a fixed split."""
        return _dataset()


@functools.cache
def _dataset() -> Dataset:
    """Return the data set, whose arrays are read-only, so that all runs of a process can share it."""
    x, y = _samples()
    order = np.load(_SPLIT)
    train, test = order[:-_TESTED], order[-_TESTED:]
    return Dataset("digits", x[train], y[train], x[test], y[test], 10)


def _samples() -> tuple[NDArray[Any], NDArray[Any]]:
    """Return all samples, (1797, 8, 8), and their labels, (1797,).

    Importing scikit-learn takes 2 s of CPU, reading its file 0.03 s.
    """
    spec = importlib.util.find_spec("sklearn")
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if not path.exists():  # another version may keep it elsewhere
        from sklearn.datasets import load_digits

        digits: Any = load_digits()
        return digits.images / 16, digits.target
    with gzip.open(path, "rt", encoding="ascii") as file:
        table = np.loadtxt(file, delimiter=",")
    return table[:, :-1].reshape(-1, 8, 8) / 16, table[:, -1].astype(np.int64)
