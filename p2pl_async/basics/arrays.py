"""Named types of arrays; the shape stands in the docstring of what takes or returns one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

Indices = NDArray[np.intp]
"""Places in other arrays, as numpy's searches return them."""

Array = NDArray[np.floating[Any]]
"""Numbers of float32 or float64, whichever a computation is done in."""

Vector = NDArray[np.floating[Any]]
"""Flat parameters of a model, shape (n_params,); float32 where something trains."""
