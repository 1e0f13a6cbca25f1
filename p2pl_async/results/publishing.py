"""Replacing a result: the new one is written into `.new` inside the folder, and moved to its place once it is complete.

    old result, .new grows -> .new complete -> old one removed, its summary first -> .new moved, its summary last

So a folder without a summary, but with a complete result in `.new`, is one whose run was ended while it moved:
`finish` moves the rest.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from p2pl_async.results.lock import is_locked

NEW = ".new"


def summary_of(path: Path) -> dict[str, Any] | None:
    """Return the summary in a folder; None if it contains no result of a run."""
    try:
        summary = json.loads((path / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    ours = isinstance(summary, dict) and {"status", "scenario", "seed"} <= summary.keys()
    return summary if ours and isinstance(summary["status"], str) else None


def move(source: Path, target: Path) -> None:
    """Move what is in one folder into another, the summary last: with it, the result stands."""
    target.mkdir(exist_ok=True)
    for item in sorted(source.iterdir(), key=lambda item: item.name == "summary.json"):
        if item.is_dir():
            move(item, target / item.name)
        else:
            item.replace(target / item.name)
    source.rmdir()


def finish(path: Path) -> None:
    """Move the rest of a result whose run was ended while it took the place of an old one; else do nothing."""
    new = path / NEW
    if summary_of(path) is not None or new.is_symlink():
        return
    summary = summary_of(new)
    if summary is not None and summary["status"] == "complete" and not is_locked(path):
        with contextlib.suppress(OSError):
            move(new, path)
