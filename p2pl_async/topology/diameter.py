"""How many hops lead from any device to any other."""

from __future__ import annotations

from collections.abc import Sequence

_EXACT = 2_000_000  # device-links looked at, at most, for the diameter itself: a second


def hops_needed(out_neighbors: Sequence[Sequence[int]]) -> int:
    """Return a number of hops in which every device reaches every other: the diameter, or a bound on it.

    Large graphs get a bound of at most twice the diameter: through some device, the hops of the farthest
    to it and from it to the farthest. Where some device can't be reached, it is n - 1.

    Args:
        out_neighbors: for each device, who hears it.
    """
    n = len(out_neighbors)
    into: list[list[int]] = [[] for _ in range(n)]
    for device, targets in enumerate(out_neighbors):
        for target in targets:
            into[target].append(device)
    links = sum(map(len, out_neighbors))
    if n * (n + links) <= _EXACT:
        found = [_farthest(out_neighbors, device) for device in range(n)]
        return n - 1 if None in found else max((hops for hops in found if hops is not None), default=0)
    bound = n - 1
    for device in range(0, n, max(1, n // 8)):
        there, back = _farthest(out_neighbors, device), _farthest(into, device)
        if there is None or back is None:
            return n - 1
        bound = min(bound, there + back)
    return bound


def _farthest(neighbors: Sequence[Sequence[int]], start: int) -> int | None:
    """Return the hops from a device to the farthest; None if it doesn't reach all."""
    seen = bytearray(len(neighbors))
    seen[start] = 1
    front, reached, hops = [start], 1, 0
    while front:
        following = []
        for device in front:
            for other in neighbors[device]:
                if not seen[other]:
                    seen[other] = 1
                    following.append(other)
        reached += len(following)
        hops += bool(following)
        front = following
    return hops if reached == len(neighbors) else None
