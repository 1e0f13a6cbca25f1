"""Devices that move: movement scripts of ns-2 (`setdest`) and waypoints of BonnMotion."""

from __future__ import annotations

from pathlib import Path

from p2pl_async.importing.part import Part
from p2pl_async.radio.recorded import csv_of, read_movement


def ns2(path: Path) -> Part:
    """Return the movement that an ns-2 script describes; ValueError if it can't be read."""
    return _movement(path, "ns2")


def bonnmotion(path: Path) -> Part:
    """Return the movement in a BonnMotion file; ValueError if it can't be read."""
    return _movement(path, "bonnmotion")


def _movement(path: Path, name: str) -> Part:
    found = read_movement(path, name)
    ends = max(corners[-1][0] for corners in found.values())
    missing = sorted(set(range(max(found) + 1)) - set(found))
    return Part(
        f"{len(found)} devices that move for {ends:g} s, then stay.",
        lambda beside, elsewhere: {
            "devices": {"count": max(found) + 1},
            "mobility": {"kind": "trace", "path": beside(".positions.csv")},
        },
        beside={".positions.csv": csv_of(found)},
        warnings=[f"the file has no positions of device {', '.join(map(str, missing))}"] if missing else [],
    )
