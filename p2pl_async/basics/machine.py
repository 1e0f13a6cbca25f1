"""What this machine has for a run."""

from __future__ import annotations

import math
import os


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def idle_cores() -> int:
    """Return how many of them nobody used during the last minute, all but one at most; 0 if that is unknown."""
    try:
        return max(0, min(cores() - 1, cores() - math.ceil(os.getloadavg()[0])))
    except (AttributeError, OSError):
        return 0
