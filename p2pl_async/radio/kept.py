"""Rows of arrays that have been computed, of which the latest are kept."""

from __future__ import annotations

from typing import Any

_ROWS = 4096  # that are kept; one of 1,000 devices takes 8 kB


def keep_row(kept: dict[int, Any], device: int, row: object) -> None:
    """Keep a row; if there are too many, forget the oldest."""
    if len(kept) >= _ROWS and device not in kept:
        del kept[next(iter(kept))]
    kept[device] = row
