"""Robust push-sum: loss, duplication, reordering, departures and returns can delay mass but never destroy it.

A message has the sum of all that the sender has pushed over the link; the receiver adds the part that is
new. The next message makes up for a lost one; a repeated or overtaken one has nothing new:

    send     x <- x / (d + 1);  u likewise          one share stays, one is promised to each of d out-neighbors
             sx <- sx + x;      su likewise          the link's sums, sent with their number
    receive  if the number is new:  x <- x + sx - rx;  rx <- sx;   u likewise

so  sum_k x_k + sum over links (sx - rx)  never changes: the second term is in flight, or lost and
still owed. Sums are float64, since they grow with time.

A neighbor that left would keep what it is owed for ever. Where there is a link back, each message therefore
reports the number of the newest sums that its sender has taken (see `settling`), and

    silence   a neighbor has confirmed nothing for longer than the patience: what it hasn't confirmed is
              taken back, and nothing more is promised to it until it is heard again
    return    it reports what it had taken in fact, and the sender pays the difference: once
    restart   a device that has crashed has lost its mass. It begins with none and takes what neighbors push;
              if none of them does within the patience, it begins with its first weight again

On links without a link back departures can't be seen; mass pushed to one that has left is gone.

Beside u a device splits and pushes a second weight, `born`: all first weights, those of restarts too, so that u / born
is the share of the first weights that crashes have left. Steps scaled by it keep their size relative to the models.

Source: C. N. Hadjicostis, N. H. Vaidya, A. D. Dominguez-Garcia, "Robust Distributed Average Consensus
via Exchange of Running Sums", IEEE TAC 2016. Sums per link, for neighbors that change; the least weight below
which a device repeats its sums instead of splitting again; and all that concerns departures are ours.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from p2pl_async.messages import DeviceId, Message, Vector
from p2pl_async.protocols.mixing import BLOCK, blocks, is_count, is_finite, is_like, unsound
from p2pl_async.protocols.pushing import MOST_WEIGHT, reciprocal
from p2pl_async.protocols.settling import Credit, Promised, Promises, headers, read_header
from p2pl_async.protocols.silence import Silence

if TYPE_CHECKING:
    from p2pl_async.device import Device


@dataclass(frozen=True, slots=True)
class Sums(Message, tag="sums"):
    """The sums of all that the sender has pushed over links that have the same sums."""

    round: int
    boot: int  # how often the sender has restarted
    u: float
    born: float
    x: NDArray[np.float64]  # (n_params,), or (0,) if the receivers are known to have them
    links: NDArray[np.int64]  # (number of receivers, 7): a `Header` for each


class Account:
    """A device's mass, the sums it has promised to out-neighbors, and the sums credited from in-neighbors.

    The numerator x isn't kept as one array: it is an own part, plus the credited sums that are kept apart from it.
    So one pass over the newest sums gives the model, and a round takes two passes in all.

    Args:
        device: the device; one that has restarted begins without mass.
        w: the initial model, shape (n_params,).
        silence: which neighbors are silent, and for how long they may be.
        weight: the push weight that the device starts with; its numerator is `weight * w`.

    Attributes:
        z: the model x / u as of the latest `take`, read-only, in the dtype of the initial one.
        u: push weight.
        born: the first weights in it.
        promised: out-neighbor -> what was promised to it.
        credited: in-neighbor -> what was taken from it.
        boot: how often the device had restarted when this account began.
        boots: the same of neighbors, as far as known.
        debt: what is still to be paid to links after a return.
    """

    def __init__(self, device: Device, w: Vector, silence: Silence, weight: float = 1.0) -> None:
        self.z: Vector = w.copy()
        self.z.flags.writeable = False  # so that training from it needs no copy
        self.u = 0.0 if device.boots else weight  # one that has restarted begins without mass
        self.born = weight
        self.promised: dict[DeviceId, Promises] = {}
        self.credited: dict[DeviceId, Credit] = {}
        self.boots: dict[DeviceId, int] = {}
        self.boot = device.boots
        self._device = device
        self._silence = silence
        self._weight = weight
        self._own: NDArray[np.float64] = np.multiply(w, self.u, dtype=np.float64)
        self._apart: set[DeviceId] = set()  # neighbors credited whose sums are not in `_own`
        self._nothing = Promised(0.0, 0.0, np.zeros_like(self._own))
        self._begun = device.now
        self.debt = self._nothing
        device.holds = lambda: self.u

    @property
    def x(self) -> NDArray[np.float64]:
        """The numerator, a new array, (n_params,)."""
        x: NDArray[np.float64] = sum((self._sums_of(j).x for j in sorted(self._apart)), self._own.copy())
        return x

    @property
    def left(self) -> float:
        """The share of all first weights that crashes have left: 1 if there were none, 0 before a newcomer has mass."""
        return self.u / self.born

    def fits(self, sums: Sums) -> bool:
        """Tell whether sums can be added, judging by shapes, dtype and weights."""
        return (
            (is_like(sums.x, self._own) or (sums.x.shape == (0,) and sums.x.dtype == self._own.dtype))
            and 0 <= sums.u <= MOST_WEIGHT
            and 0 <= sums.born <= MOST_WEIGHT
            and is_count(sums.boot)
            and read_header(sums.links, self._device.id) is not None
        )

    def learn_and_push(self, device: Device, new: Vector, old: Vector, scale: float, least: float) -> None:
        """Add the change of local training, x <- x + scale (new - old), and push a share to every out-neighbor.

        A message has the sum of all shares promised to its receiver. A device whose weight is below `least` promises
        no new share, but sends the sums again, since only they make up for lost messages; and so it does to a neighbor
        that is silent, or has too much to confirm.
        """
        if self.u == 0:
            self.z = new
        else:
            device.steps_enter(scale)
        splits = self.u > 0 and self.u >= least
        # Links that have always had the same shares share one sum, which is added up, and encoded, once.
        pushed, repeated = self._groups(device.out_neighbors, splits)
        shares = 1 + sum(len(group) for _, group in pushed)
        after = self._learn(new, old, scale, shares, [sums.x for sums, _ in pushed])
        self.u /= shares
        self.born /= shares
        for (sums, group), x in zip(pushed, after, strict=True):
            promised = Promised(sums.u + self.u, sums.born + self.born, x)
            for j in group:
                self.promised[j].push(promised, device.now, confirmed_back=j in device.all_in_neighbors)
            self._send(device, promised, group)
        for sums, group in repeated:
            self._send(device, sums, group)

    def take(self, device: Device, heard: Sequence[Sums]) -> dict[DeviceId, Sums]:
        """Add the new part of the sums that neighbors sent; return the messages that had one, by sender.

        Before, it settles what their reports say, and takes back what is promised to the silent.
        """
        newest: dict[DeviceId, Sums] = {}
        for sums in heard:
            self._hear(sums, newest)
        for j, promises in sorted(self.promised.items()):
            if self._silence.is_over(j, promises.since):
                promised, confirmed = promises.close()
                self._add(promised, 1.0)
                self._add(confirmed, -1.0)
                device.record("weight_taken_back", promised.u - confirmed.u)
        self._pay()
        if self.u == 0 and not newest and self._silence.is_over(None, self._begun):
            self.u = self._weight  # nobody is there
            self._own += np.multiply(self.z, self.u, dtype=np.float64)
            device.record("weight_renewed", self.u)
        self._set_apart(newest.keys(), device.in_neighbors)
        z, u, finite = self._with(newest)
        if not finite and is_finite(self.z):  # checking the sum alone is cheaper than checking each term
            while not finite and (bad := unsound({j: sums.x for j, sums in newest.items()})) is not None:
                del newest[bad]
                device.record("refused", 1)
                z, u, finite = self._with(newest)
        z.flags.writeable = False
        weights = []
        for j, sums in newest.items():
            header = read_header(sums.links, device.id)
            assert header is not None
            self.born += sums.born - self._sums_of(j).born
            weights.append((j, (sums.u - self._sums_of(j).u) / u))
            self.credited[j].take(header.number, Promised(sums.u, sums.born, sums.x))
        device.mixed(weights)
        device.used(newest.values())
        self.z, self.u = z, u
        self._apart.update(newest)
        return newest

    def _hear(self, sums: Sums, newest: dict[DeviceId, Sums]) -> None:
        """Settle what a message reports, and put it into `newest` if it has new sums."""
        j, header = sums.sender, read_header(sums.links, self._device.id)
        known = self.boots.get(j, 0)
        if header is None or sums.boot < known:
            return
        if sums.boot > known:
            self.boots[j] = sums.boot
            newest.pop(j, None)
            self._forget(j)
        if header.boot != self.boot:
            return  # it speaks to a former life of this device
        if j in self.promised:
            for paid, sign in self.promised[j].settle(header):
                x = self.debt.x + sign * paid.x
                self.debt = Promised(self.debt.u + sign * paid.u, self.debt.born + sign * paid.born, x)
            self.promised[j].confirm(header, self._device.now)
        credit = self.credited.setdefault(j, Credit(self._nothing))
        if header.incarnation > credit.incarnation:
            newest.pop(j, None)
            self._merge(j)
            credit.begin(header.incarnation)
        is_new = header.incarnation == credit.incarnation and header.number > credit.count and sums.x.size > 0
        if is_new and sums.u >= credit.sums.u:  # shares have positive weight, so newer sums are no smaller
            newest[j] = sums

    def _forget(self, j: DeviceId) -> None:
        """Begin anew with a neighbor that has restarted: what was agreed with its former life is void."""
        self._merge(j)
        self.credited.pop(j, None)
        promises = self.promised.pop(j, None)
        if promises is not None:
            self._add(promises.newest, 1.0)
            self._add(promises.sums[promises.confirmed], -1.0)

    def _pay(self) -> None:
        """Pay the debt: at once, or as much as leaves half of the weights."""
        debt = self.debt
        if debt is self._nothing:
            return
        part = 1.0
        for owed, has in ((debt.u, self.u), (debt.born, self.born)):
            part = min(part, 0.5 * has / owed) if owed > 0 else part
        self._add(debt, -part)
        self.debt = (
            self._nothing if part == 1 else Promised(*(amount * (1 - part) for amount in debt))  # type: ignore[arg-type]
        )

    def _add(self, mass: Promised, sign: float) -> None:
        self.u += sign * mass.u
        self.born += sign * mass.born
        if mass is not self._nothing:
            self._own += sign * mass.x

    def _sums_of(self, j: DeviceId) -> Promised:
        return self.credited[j].sums if j in self.credited else self._nothing

    def _merge(self, j: DeviceId) -> None:
        """Add the sums credited from a neighbor to the own part, if they are apart."""
        if j in self._apart:
            self._own += self.credited[j].sums.x
            self._apart.remove(j)

    def _set_apart(self, needed: Collection[DeviceId], neighbors: Collection[DeviceId]) -> None:
        """Set apart the sums of `needed`, whose new ones are about to replace them; merge those of former neighbors."""
        for j in sorted((self.credited.keys() - self._apart).intersection(needed)):
            if self.credited[j].count:
                self._own -= self.credited[j].sums.x
                self._apart.add(j)
        for j in sorted(self._apart.difference(needed, neighbors)):
            self._merge(j)

    def _with(self, newest: Mapping[DeviceId, Sums]) -> tuple[Vector, float, bool]:
        """Return z and u with these sums in place of the former ones, and whether that z is finite."""
        u = self.u
        for j, sums in sorted(newest.items()):
            u += sums.u - self._sums_of(j).u
        if u == 0:
            return self.z, u, True
        scale = reciprocal(u)
        sums_of = {**{j: self.credited[j].sums.x for j in self._apart}, **{j: newest[j].x for j in newest}}
        first, *credits = [sums_of[j] for j in sorted(sums_of)] or [self._nothing.x]
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
        for block in blocks(new.size):
            own = self._own[block]
            learned = np.subtract(new[block], old[block], out=change[: own.size])
            if scale != 1.0:
                learned *= learned.dtype.type(scale)
            x = np.multiply(self.z[block], self.u, out=share[: own.size])
            own -= x  # z u is x up to rounding, and the rounding error stays in `own`, so no mass is lost
            x += learned
            x *= 1 / shares
            own += x
            for before, after in zip(promised, sums, strict=True):
                np.add(before[block], x, out=after[block])
        for after in sums:
            after.flags.writeable = False  # so that sending it needs no copy
        return sums

    def _groups(
        self, targets: Sequence[DeviceId], splits: bool
    ) -> tuple[list[tuple[Promised, list[DeviceId]]], list[tuple[Promised, list[DeviceId]]]]:
        """Return the targets that get a share, and the others, grouped by the sums that they have in common."""
        pushed: dict[int, tuple[Promised, list[DeviceId]]] = {}
        repeated: dict[int, tuple[Promised, list[DeviceId]]] = {}
        for j in targets:
            promises = self.promised.setdefault(j, Promises(self._nothing))
            sums = promises.newest
            if splits and promises.has_room:
                pushed.setdefault(id(sums), (sums, []))[1].append(j)
            else:
                sums = self._nothing if promises.settled else sums
                repeated.setdefault(id(sums), (sums, []))[1].append(j)
        return list(pushed.values()), list(repeated.values())

    def _send(self, device: Device, sums: Promised, group: Sequence[DeviceId]) -> None:
        links = headers(group, self.boots, self.promised, self.credited)
        x = sums.x[:0] if sums is self._nothing else sums.x
        device.send(group, Sums(device.round, self.boot, sums.u, sums.born, x, links))
