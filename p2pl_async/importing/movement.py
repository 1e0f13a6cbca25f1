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
    written = read_movement(path, name)
    ids = sorted(written)
    found = {number: written[device] for number, device in enumerate(ids)}
    ends = max(corners[-1][0] for corners in found.values())
    return Part(
        f"{len(found)} devices that move for {ends:g} s, then stay.",
        lambda beside, elsewhere: {
            "devices": {"count": len(found)},
            "mobility": {"kind": "trace", "path": beside(".positions.csv")},
        },
        beside={".positions.csv": csv_of(found)},
        warnings=[]
        if ids == list(range(len(ids)))
        else [f"devices are numbered in the order of their ids in the file: {', '.join(map(str, ids))}"],
    )
