"""ARQ: a link that sends a lost packet again, stop-and-wait, a bounded number of times."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from p2pl_async.settings import Settings
from p2pl_async.units import Seconds


class Arq(Settings):
    """Retries of the link layer: each fragment is sent until it arrives, at most 1 + retries times.

    The next transmission starts `turnaround` after the end of the one before, time for the
    acknowledgment to come or to stay away. Acknowledgments themselves are never lost.
    """

    retries: Annotated[int, Field(strict=True, ge=0, le=100, description="most repetitions of one packet")]
    turnaround: Seconds = Field(default=0.0, description="from the end of a transmission to the start of the next")


def stop_and_wait(lost: NDArray[np.bool_], fragments: int, tries: int) -> tuple[int, int] | None:
    """Send fragments one after another, each until it arrives or has used up its tries.

    A fragment ends with its first success, so the whole train fails exactly at the first
    run of `tries` losses, whichever fragment it hits.

    Args:
        lost: whether the 1st, 2nd, ... transmission is lost, shape (k,).
        fragments: how many must arrive, at least 1.
        tries: transmissions per fragment, at least 1.

    Returns:
        Transmissions used and fragments that arrived (fewer than `fragments`: gave up), or None
        if k transmissions don't decide it; `fragments * tries` always do.
    """
    hits = np.flatnonzero(~lost)[:fragments]
    runs = np.diff(hits, prepend=-1)  # tries that each fragment took
    too_long = np.flatnonzero(runs > tries)
    if len(too_long):
        arrived = int(too_long[0])
    elif len(hits) == fragments:
        return int(hits[-1]) + 1, fragments
    else:
        arrived = len(hits)
    used = (int(hits[arrived - 1]) + 1 if arrived else 0) + tries
    return (used, arrived) if used <= len(lost) else None
