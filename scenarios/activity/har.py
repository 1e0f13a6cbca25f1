"""Human activity from a phone's accelerometer and gyroscope: the data of eight people."""

import os
from pathlib import Path
from typing import Literal

import numpy as np

from p2pl_async import Dataset, DataSource, Problem, ScenarioError

NAMES = ("walking", "upstairs", "downstairs", "sitting", "standing")


class Windows(DataSource):
    """Windows of 128 samples of 6 channels, five activities, eight people: `$P2PL_DATA/har/har.npz`.

    With `leave_out` the other seven train, and all windows of that person are the test data.
    """

    kind: Literal["windows"] = "windows"
    leave_out: int | None = None  # 0 to 7

    def load(self) -> Dataset:
        path = Path(os.environ.get("P2PL_DATA", "."), "har", "har.npz")
        if not path.exists():
            text = f"there is no {path}; set P2PL_DATA to the folder that holds har/har.npz"
            raise ScenarioError(str(path), [Problem("data.dataset", text)])
        with np.load(path, allow_pickle=False) as found:
            x, y, owner = ([found[f"{what}_{part}"] for part in ("train", "test")] for what in ("x", "y", "owner"))
        if self.leave_out is not None:
            x, y, owner = (_left_out(self.leave_out, parts, owner) for parts in (x, y, owner))
        mean, sd = (how(x[0], axis=(0, 2), keepdims=True) for how in (np.mean, np.std))
        x = [(part - mean) / sd for part in x]
        return Dataset("har", x[0], y[0], x[1], y[1], len(NAMES), *owner)


def _left_out(person: int, parts: list[np.ndarray], owner: list[np.ndarray]) -> list[np.ndarray]:
    """Return what the others have for training, and all that the person has."""
    return [parts[0][owner[0] != person], np.concatenate([parts[k][owner[k] == person] for k in (0, 1)])]
