"""Robust push-sum: mass that loss, duplication and reordering can delay and never destroy.

A sender doesn't say what it pushes now but the sum of all that it has ever pushed over the link; the
receiver adds what is new in it. A lost message is made good by the next one, a repeated or overtaken
one has nothing new:

    send     x <- x / (d + 1);  u likewise          one share stays, one is promised to each of d out-neighbors
             sx <- sx + x;      su likewise          the link's sums, sent with the round
    receive  if the round is new:  x <- x + sx - rx;  rx <- sx;   u likewise

so that  sum_k x_k + sum over links (sx - rx)  never changes: the second term is in flight, or lost and
still owed. Sums are float64, since they grow with time.

A device that crashes loses its account. It begins another one, counted from zero, and says since which
round, so that nobody takes its new sums for repetitions; and the first sums that it hears it only notes,
since most of what is in them went to its former life. What it held, and what it is owed, is gone.

Source: C. N. Hadjicostis, N. H. Vaidya, A. D. Dominguez-Garcia, "Robust Distributed Average Consensus
via Exchange of Running Sums", IEEE TAC 2016. Sums per link, for neighbors that change, and the least
weight below which a device repeats its sums instead of splitting again, are ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from p2pl_async.device import Device
from p2pl_async.messages import DeviceId, Message, Vector
from p2pl_async.mixing import is_finite
from p2pl_async.protocols.pushing import BLOCK, blocks, model_of


@dataclass(frozen=True, slots=True)
class Sums(Message, tag="sums"):
    """All that the sender has pushed over this link, added up."""

    round: int
    since: int  # the round in which the sender's account began: 0, or that of a restart
    u: float
    x: NDArray[np.float64]  # (n_params,)


class Promised(NamedTuple):
    """All that a device has ever pushed over a link, added up."""

    u: float
    x: NDArray[np.float64]


class Account:
    """What a device holds, what it has promised to its out-neighbors, what it has had from its in-neighbors.

    Args:
        w: the initial model, shape (n_params,).
        weight: the push weight that the device starts with; its numerator is `weight * w`.
        since: the device's round; above 0 it has restarted.

    Attributes:
        x: numerator, (n_params,), float64.
        u: push weight.
        promised: by out-neighbor.
        credited: by in-neighbor, the newest message; its sums are what was added so far.
    """

    def __init__(self, w: Vector, weight: float = 1.0, since: int = 0) -> None:
        self.x: NDArray[np.float64] = np.multiply(w, weight, dtype=np.float64)
        self.u = weight
        self.promised: dict[DeviceId, Promised] = {}
        self.credited: dict[DeviceId, Sums] = {}
        self._since = since
        self._met: set[DeviceId] = set()  # those whose sums were heard
        self._dtype: DTypeLike = w.dtype
        self._nothing = Promised(0.0, np.zeros_like(self.x))
        self._credit = np.zeros_like(self.x)  # sum of all credited

    @property
    def z(self) -> Vector:
        """The model x / u, new and read-only, in the dtype of the initial one."""
        return model_of(self.x, self.u, self._dtype)

    def fits(self, sums: Sums) -> bool:
        """Tell whether sums can be added, as far as shape, dtype and weight go."""
        return sums.x.shape == self.x.shape and sums.x.dtype == self.x.dtype and 0 <= sums.u < math.inf

    def learn_and_push(self, device: Device, new: Vector, old: Vector, scale: float, least: float) -> None:
        """Add what local training has changed, x <- x + scale (new - old), and push a share to every out-neighbor.

        Each is told what it has been promised in all. A device whose weight is below `least`
        promises nothing new, and still tells: only that repairs what was lost.
        """
        targets = device.out_neighbors
        # Links that have always had the same shares have one sum: it is added up, and encoded, once.
        groups = self._groups(targets)
        if self.u >= least:
            shares = 1 + len(targets)
            self.u /= shares
            sums = self._learn(new, old, scale, 1 / shares, [sums.x for sums, _ in groups])
            groups = [(Promised(sums.u + self.u, x), group) for (sums, group), x in zip(groups, sums, strict=True)]
            for promised, group in groups:
                self.promised.update(dict.fromkeys(group, promised))
        else:
            self._learn(new, old, scale, 1.0, [])
        for promised, group in groups:
            device.send(group, Sums(device.round, self._since, promised.u, promised.x))

    def take(self, device: Device, heard: Sequence[Sums]) -> dict[DeviceId, Sums]:
        """Add what is new in the sums that neighbors sent; return those that had anything new, by sender."""
        newest: dict[DeviceId, Sums] = {}
        for sums in heard:
            known = newest.get(sums.sender) or self.credited.get(sums.sender)
            if known is None or _follows(sums, known):
                newest[sums.sender] = sums
        for j in sorted(newest):
            self._meet(j, newest[j])
        x, credit, finite = self._with(newest)
        if not finite:  # one look at the sum instead of one at each term
            for j in [j for j, sums in newest.items() if not is_finite(sums.x)]:
                del newest[j]
                device.record("refused", 1)
            x, credit, _ = self._with(newest)
        self.x, self._credit = x, credit
        for j, sums in sorted(newest.items()):
            self.u += sums.u - (self.credited[j].u if j in self.credited else 0.0)
            self.credited[j] = sums
        return newest

    def _meet(self, j: DeviceId, sums: Sums) -> None:
        """See to it that sums can be compared with what is credited, though one of the two has restarted."""
        if j in self.credited and sums.since > self.credited[j].since:
            self._credit -= self.credited.pop(j).x  # the other counts from zero again
        if self._since > 0 and j not in self._met and is_finite(sums.x):
            self._credit += sums.x
            self.credited[j] = sums
        self._met.add(j)

    def _with(self, newest: Mapping[DeviceId, Sums]) -> tuple[NDArray[np.float64], NDArray[np.float64], bool]:
        """Return x and the sum of all credits, with these sums in the place of the former ones.

        Both are new arrays; the third is whether x is finite.
        """
        # Most often everybody has sent: then the former sums, long out of the cache, need not be read.
        everybody = bool(newest) and self.credited.keys() <= newest.keys()
        new = [newest[j].x for j in sorted(newest)]
        old = [] if everybody else [self.credited[j].x for j in sorted(newest.keys() & self.credited.keys())]
        first, *more = new if everybody else [self._credit, *new]
        x, credit, total = np.empty_like(self.x), np.empty_like(self.x), 0.0
        for block in blocks(x.size):
            part, had = credit[block], self._credit[block]
            part[:] = first[block]
            for sums in more:
                part += sums[block]
            for sums in old:
                part -= sums[block]
            after = np.subtract(part, had, out=x[block])
            after += self.x[block]
            total += float(after.sum())
        return x, credit, math.isfinite(total) or is_finite(x)

    def _learn(
        self, new: Vector, old: Vector, scale: float, share: float, promised: Sequence[NDArray[np.float64]]
    ) -> list[NDArray[np.float64]]:
        """Let x be `share` of x + scale (new - old); return each of `promised` + x, new and read-only.

        One pass over all of them. The difference and the scale are in the dtype of `new`.
        """
        sums = [np.empty_like(self.x) for _ in promised]
        change = np.empty(min(BLOCK, self.x.size), new.dtype)
        for block in blocks(self.x.size):
            x = self.x[block]
            part = np.subtract(new[block], old[block], out=change[: x.size])
            if scale != 1.0:
                part *= part.dtype.type(scale)
            x += part
            if share != 1.0:
                x *= share
            for before, after in zip(promised, sums, strict=True):
                np.add(before[block], x, out=after[block])
        for after in sums:
            after.flags.writeable = False  # so that sending it needs no copy
        return sums

    def _groups(self, targets: Sequence[DeviceId]) -> list[tuple[Promised, list[DeviceId]]]:
        """Return the targets by the sums that they share, in order of the first of each."""
        groups: list[tuple[Promised, list[DeviceId]]] = []
        for j in targets:
            sums = self.promised.get(j, self._nothing)
            group = next((group for shared, group in groups if shared is sums), None)
            if group is None:
                groups.append((sums, [j]))
            else:
                group.append(j)
        return groups


def _follows(sums: Sums, known: Sums) -> bool:
    """Tell whether sums are newer than those known; shares have a weight, so newer ones are no smaller."""
    if sums.since != known.since:
        return sums.since > known.since
    return sums.round > known.round and sums.u >= known.u
