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
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from p2pl_async.device import Device
from p2pl_async.messages import DeviceId, Message, Vector
from p2pl_async.protocols.mixing import is_finite
from p2pl_async.protocols.pushing import BLOCK, blocks, reciprocal


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

    The numerator x isn't kept as one array: it is what is the device's own, plus the sums of the in-neighbors that
    are `apart`. So one pass over the newest sums gives the model, and a round takes two passes in all.

    Args:
        w: the initial model, shape (n_params,).
        weight: the push weight that the device starts with; its numerator is `weight * w`.
        since: the device's round; above 0 it has restarted.
        weighted: whether there is a model x / u; if not, as with a tracker, z is x itself.

    Attributes:
        z: the model x / u as of the latest `take`, read-only; or x, at all times; in the dtype of the initial one.
        u: push weight.
        promised: by out-neighbor.
        credited: by in-neighbor, the newest message; its sums are what was added so far.
    """

    def __init__(self, w: Vector, weight: float = 1.0, since: int = 0, *, weighted: bool = True) -> None:
        self.z: Vector = w.copy()
        self.z.flags.writeable = not weighted  # so that training from it needs no copy
        self.u = weight
        self.promised: dict[DeviceId, Promised] = {}
        self.credited: dict[DeviceId, Sums] = {}
        self._weighted = weighted
        self._since = since
        self._met: set[DeviceId] = set()  # those whose sums were heard
        self._own: NDArray[np.float64] = np.multiply(w, weight, dtype=np.float64)
        self._apart: set[DeviceId] = set()  # those credited, their sums not in `_own`
        self._nothing = Promised(0.0, np.zeros_like(self._own))

    @property
    def x(self) -> NDArray[np.float64]:
        """The numerator, a new array, (n_params,)."""
        x: NDArray[np.float64] = sum((self.credited[j].x for j in sorted(self._apart)), self._own.copy())
        return x

    def fits(self, sums: Sums) -> bool:
        """Tell whether sums can be added, as far as shape, dtype and weight go."""
        return sums.x.shape == self._own.shape and sums.x.dtype == self._own.dtype and 0 <= sums.u < math.inf

    def learn_and_push(self, device: Device, new: Vector, old: Vector, scale: float, least: float) -> None:
        """Add what local training has changed, x <- x + scale (new - old), and push a share to every out-neighbor.

        Each is told what it has been promised in all. A device whose weight is below `least`
        promises nothing new, and still tells: only that repairs what was lost.
        """
        targets = device.out_neighbors
        # Links that have always had the same shares have one sum: it is added up, and encoded, once.
        groups = self._groups(targets)
        shares = 1 + len(targets) if self.u >= least else 1
        after = self._learn(new, old, scale, shares, [sums.x for sums, _ in groups] if shares > 1 else [])
        self.u /= shares
        if shares > 1:
            groups = [(Promised(sums.u + self.u, x), group) for (sums, group), x in zip(groups, after, strict=True)]
            for promised, group in groups:
                self.promised.update(dict.fromkeys(group, promised))
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
        self._set_apart(newest.keys(), device.in_neighbors)
        z, u, finite = self._with(newest)
        if not finite:  # one look at the sum instead of one at each term
            for j in [j for j, sums in newest.items() if not is_finite(sums.x)]:
                del newest[j]
                device.record("refused", 1)
            z, u, _ = self._with(newest)
        z.flags.writeable = not self._weighted
        self.z, self.u = z, u
        self.credited.update(newest)
        self._apart.update(newest)
        return newest

    def _meet(self, j: DeviceId, sums: Sums) -> None:
        """See to it that sums can be compared with what is credited, though one of the two has restarted."""
        if j in self.credited and sums.since > self.credited[j].since:
            self._set_apart((), [i for i in self._apart if i != j])  # keep what it gave
            del self.credited[j]  # it counts from zero again
        if self._since > 0 and j not in self._met and is_finite(sums.x):
            self._own -= sums.x
            self.credited[j] = sums
            self._apart.add(j)
        self._met.add(j)

    def _set_apart(self, needed: Collection[DeviceId], neighbors: Collection[DeviceId]) -> None:
        """Have the sums apart of those that send others now; those of who is no neighbor any more become own."""
        for j in sorted((self.credited.keys() - self._apart).intersection(needed)):
            self._own -= self.credited[j].x
            self._apart.add(j)
        for j in sorted(self._apart.difference(needed, neighbors)):
            self._own += self.credited[j].x
            self._apart.remove(j)

    def _with(self, newest: Mapping[DeviceId, Sums]) -> tuple[Vector, float, bool]:
        """Return z and u with these sums in the place of the former ones, and whether z is finite then."""
        u = self.u
        for j, sums in sorted(newest.items()):
            u += sums.u - (self.credited[j].u if j in self.credited else 0.0)
        scale = reciprocal(u) if self._weighted else 1.0
        sums_of = {**{j: self.credited[j] for j in self._apart}, **newest}
        first, *credits = [sums_of[j].x for j in sorted(sums_of)] or [self._nothing.x]
        z, total = np.empty_like(self.z), 0.0
        x = np.empty(min(BLOCK, z.size))
        for block in blocks(z.size):
            model = z[block]
            part = np.add(self._own[block], first[block], out=x[: model.size])
            for credit in credits:
                part += credit[block]
            np.multiply(part, scale, out=model, casting="same_kind")
            total += float(model.sum())
        # The sum is finite or has overflowed; only in the latter case the slower look is needed.
        return z, u, math.isfinite(total) or is_finite(z)

    def _learn(
        self, new: Vector, old: Vector, scale: float, shares: int, promised: Sequence[NDArray[np.float64]]
    ) -> list[NDArray[np.float64]]:
        """Keep one of so many shares of x + scale (new - old); return each of `promised` + a share, new and read-only.

        One pass over all of them. The difference and the scale are in the dtype of `new`.
        """
        sums = [np.empty_like(self._own) for _ in promised]
        change, share = np.empty(min(BLOCK, new.size), new.dtype), np.empty(min(BLOCK, new.size))
        weight = self.u if self._weighted else 1.0
        for block in blocks(new.size):
            own = self._own[block]
            learned = np.subtract(new[block], old[block], out=change[: own.size])
            if scale != 1.0:
                learned *= learned.dtype.type(scale)
            x = np.multiply(self.z[block], weight, out=share[: own.size])
            own -= x  # z u is x but for rounding, which stays in `own`: nothing gets lost by it
            x += learned
            x *= 1 / shares
            own += x
            for before, after in zip(promised, sums, strict=True):
                np.add(before[block], x, out=after[block])
            if not self._weighted:
                self.z[block] = x
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
