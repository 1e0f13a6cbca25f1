"""The content of a page: a head of small things, as JSON, and typed arrays."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

_PARTS = 2**32 - 1  # of the run's length

Array = NDArray[Any]


@dataclass(slots=True)
class Content:
    """The content of a page."""

    head: dict[str, Any]
    arrays: dict[str, Array] = field(default_factory=dict)


def parts(seconds: Array, end: float) -> Array:
    """Return instants as whole parts of the run."""
    return np.round(np.clip(seconds / end, 0, 1) * _PARTS).astype(np.uint32)
