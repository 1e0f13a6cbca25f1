"""Small linear devices for the tests of the learning dynamics."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from p2pl_async.dynamics.linearized import ParameterForm, Task


def linear_devices(sizes: list[int], *, features: int = 4, columns: int = 2, seed: int = 0) -> ParameterForm:
    """Return devices with random data, so many samples each, whose loss has curvature near 1."""
    random = np.random.default_rng(seed)
    rows = sum(sizes)
    task = Task(np.repeat(np.arange(len(sizes)), sizes), np.array(sizes), random.standard_normal((rows, columns)))
    return ParameterForm(task, random.standard_normal((rows, features)) / np.sqrt(features))


def sizes_of(n: int) -> st.SearchStrategy[list[int]]:
    """Draw the numbers of samples of n devices."""
    return st.lists(st.integers(1, 6), min_size=n, max_size=n)
