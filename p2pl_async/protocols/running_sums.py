"""Robust push-sum: loss, duplication and reordering can delay mass but never destroy it.

A message has the sum of all that the sender has ever pushed over the link; the receiver adds the part
that is new. The next message makes up for a lost one; a repeated or overtaken one has nothing new:

    send     x <- x / (d + 1);  u likewise          one share stays, one is promised to each of d out-neighbors
             sx <- sx + x;      su likewise          the link's sums, sent with the round
    receive  if the round is new:  x <- x + sx - rx;  rx <- sx;   u likewise

so  sum_k x_k + sum over links (sx - rx)  never changes: the second term is in flight, or lost and
still owed. Sums are float64, since they grow with time.

A device that crashes loses its account. It begins another one, counted from zero, and its messages say
since which round, so that no neighbor takes the new sums for repetitions. It only notes the first sums it
receives from each neighbor, since most of their mass was added before the crash. The mass that it held,
and the mass that it was owed, is lost.

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
from p2pl_async.protocols.mixing import BLOCK, blocks, is_finite, is_like
from p2pl_async.protocols.pushing import reciprocal


@dataclass(frozen=True, slots=True)
class Sums(Message, tag="sums"):
    """The sum of all that the sender has pushed over this link."""

    round: int
    since: int  # the round in which the sender's account began: 0, or that of a restart
    u: float
    x: NDArray[np.float64]  # (n_params,)


class Promised(NamedTuple):
    """The sum of all that a device has ever pushed over a link."""

    u: float
    x: NDArray[np.float64]


class Account:
    """A device's mass, the sums it has promised to out-neighbors, and the sums credited from in-neighbors.

    The numerator x isn't kept as one array: it is an own part, plus the credited sums that are kept apart from it.
    So one pass over the newest sums gives the model, and a round takes two passes in all.

    Args:
        w: the initial model, shape (n_params,).
        weight: the push weight that the device starts with; its numerator is `weight * w`.
        since: the device's round; above 0 it has restarted.
        weighted: whether z is the model x / u; if not, as for a tracker, z is x itself.

    Attributes:
        z: the model x / u as of the latest `take`, read-only (or x, at all times), in the dtype of the initial one.
        u: push weight.
        promised: out-neighbor -> the sum promised to it.
        credited: in-neighbor -> its newest message, whose sums are added already.
    """

    def __init__(self, w: Vector, weight: float = 1.0, since: int = 0, *, weighted: bool = True) -> None:
        self.z: Vector = w.copy()
        self.z.flags.writeable = not weighted  # so that training from it needs no copy
        self.u = weight
        self.promised: dict[DeviceId, Promised] = {}
        self.credited: dict[DeviceId, Sums] = {}
        self._weighted = weighted
        self._since = since
        self._met: set[DeviceId] = set()  # neighbors from which sums were received
        self._own: NDArray[np.float64] = np.multiply(w, weight, dtype=np.float64)
        self._apart: set[DeviceId] = set()  # neighbors credited whose sums are not in `_own`
        self._nothing = Promised(0.0, np.zeros_like(self._own))

    @property
    def x(self) -> NDArray[np.float64]:
        """The numerator, a new array, (n_params,)."""
        x: NDArray[np.float64] = sum((self.credited[j].x for j in sorted(self._apart)), self._own.copy())
        return x

    def fits(self, sums: Sums) -> bool:
        """Tell whether sums can be added, judging by shape, dtype and weight."""
        return is_like(sums.x, self._own) and 0 <= sums.u < math.inf

    def learn_and_push(self, device: Device, new: Vector, old: Vector, scale: float, least: float) -> None:
        """Add the change of local training, x <- x + scale (new - old), and push a share to every out-neighbor.

        A message has the sum of all shares promised to its receiver. A device whose weight is below `least` promises
        no new share, but sends the sums again, since only they make up for lost messages.
        """
        targets = device.out_neighbors
        # Links that have always had the same shares share one sum, which is added up, and encoded, once.
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
        """Add the new part of the sums that neighbors sent; return the messages that had one, by sender."""
        newest: dict[DeviceId, Sums] = {}
        for sums in heard:
            known = newest.get(sums.sender) or self.credited.get(sums.sender)
            if known is None or _follows(sums, known):
                newest[sums.sender] = sums
        for j in sorted(newest):
            self._meet(j, newest[j])
        self._set_apart(newest.keys(), device.in_neighbors)
        z, u, finite = self._with(newest)
        if not finite:  # checking the sum alone is cheaper than checking each term
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
        """Make sums comparable with those credited, if the sender or this device has restarted."""
        if j in self.credited and sums.since > self.credited[j].since:
            self._set_apart((), [i for i in self._apart if i != j])  # keeps the mass that it gave before its crash
            del self.credited[j]  # the sender counts from zero again
        if self._since > 0 and j not in self._met and is_finite(sums.x):
            self._own -= sums.x
            self.credited[j] = sums
            self._apart.add(j)
        self._met.add(j)

    def _set_apart(self, needed: Collection[DeviceId], neighbors: Collection[DeviceId]) -> None:
        """Set apart the sums of `needed`, whose new ones are about to replace them; merge those of former neighbors."""
        for j in sorted((self.credited.keys() - self._apart).intersection(needed)):
            self._own -= self.credited[j].x
            self._apart.add(j)
        for j in sorted(self._apart.difference(needed, neighbors)):
            self._own += self.credited[j].x
            self._apart.remove(j)

    def _with(self, newest: Mapping[DeviceId, Sums]) -> tuple[Vector, float, bool]:
        """Return z and u with these sums in place of the former ones, and whether that z is finite."""
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
        # A finite sum has finite terms. A sum that isn't may have overflowed, so only then are the terms checked.
        return z, u, math.isfinite(total) or is_finite(z)

    def _learn(
        self, new: Vector, old: Vector, scale: float, shares: int, promised: Sequence[NDArray[np.float64]]
    ) -> list[NDArray[np.float64]]:
        """Keep one of `shares` shares of x + scale (new - old); return each of `promised` + one, new and read-only.

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
            own -= x  # z u is x up to rounding, and the rounding error stays in `own`, so no mass is lost
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
        """Return the targets grouped by the sum that they share, in order of the first of each."""
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
    """Tell whether sums are newer than those known; shares have positive weight, so newer sums are no smaller."""
    if sums.since != known.since:
        return sums.since > known.since
    return sums.round > known.round and sums.u >= known.u
