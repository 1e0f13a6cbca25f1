"""Human activity from a phone's accelerometer and gyroscope: the data of eight people."""

import os
from pathlib import Path
from typing import Literal

import numpy as np

from p2pl_async import Dataset, DataSource, Problem, ScenarioError

NAMES = ("walking", "upstairs", "downstairs", "sitting", "standing")


class Windows(DataSource):
    """Windows of 128 samples of 6 channels, five activities, eight people: `$P2PL_DATA/har/har.npz`."""

    kind: Literal["windows"] = "windows"

    def load(self) -> Dataset:
        path = Path(os.environ.get("P2PL_DATA", "."), "har", "har.npz")
        if not path.exists():
            text = f"there is no {path}; set P2PL_DATA to the folder that holds har/har.npz"
            raise ScenarioError(str(path), [Problem("data.dataset", text)])
        with np.load(path, allow_pickle=False) as found:
            mean, sd = (how(found["x_train"], axis=(0, 2), keepdims=True) for how in (np.mean, np.std))
            x_train, x_test = ((found[name] - mean) / sd for name in ("x_train", "x_test"))
            owners = (found["owner_train"], found["owner_test"])
            return Dataset("har", x_train, found["y_train"], x_test, found["y_test"], len(NAMES), *owners)
