"""What this machine has for a run."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import NamedTuple


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class IdleCores:
    """How many of them others left idle during the last seconds.

    The load average would tell it a minute late: of several runs begun at once, each would find the cores idle.
    """

    def __init__(self) -> None:
        self._mark = _used()
        self._idle = 0

    def count(self) -> int:
        """Return how many there are beside one for this process; 0 until it is known."""
        now, before = _used(), self._mark
        passed = now.wall - before.wall
        if passed >= _WINDOW:
            others = max(0.0, (now.all - before.all - (now.own - before.own)) / passed)
            self._idle = max(0, cores() - 1 - math.ceil(others - _NOISE)) if now.all < math.inf else 0
            self._mark = now
        return self._idle


_WINDOW = 5.0  # s of wall time over which others are watched
_NOISE = 0.2  # cores that others use now and then on a machine that is called idle


class _Used(NamedTuple):
    """Seconds since some instant."""

    wall: float
    own: float  # of CPU time of this process
    all: float  # of CPU time of all processes, on the cores that this one may use; infinite if unknown


def _used() -> _Used:
    return _Used(time.monotonic(), time.process_time(), _busy_seconds())


def _busy_seconds() -> float:
    """Return the CPU time that Linux counts as used on the cores that this process may use; infinite elsewhere."""
    try:
        ours = {f"cpu{core}" for core in os.sched_getaffinity(0)}
        lines = (line.split() for line in Path("/proc/stat").read_text().splitlines())
        ticks = sum(sum(map(int, (*line[1:4], *line[6:9]))) for line in lines if line and line[0] in ours)
    except (AttributeError, OSError, ValueError):
        return math.inf
    return ticks / os.sysconf("SC_CLK_TCK")
