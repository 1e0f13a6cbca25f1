"""Public copies updated by compressed differences: what the CHOCO family shares.

Device i has a public copy h_i of its parameters, and its neighbors keep replicas of it. The device sends
q_i = C(x_i - h_i), and all of them add it: h_i <- h_i + q_i. A lost difference would leave the replica
wrong from then on, so there are two repairs:

    absolute   the message has the values of h_i where q_i changed it, and now and then all of h_i; the
               newest message wins, and one broadcast serves all. It tells which rounds of its receivers were
               heard: neighbors that are silent, or hear nothing, are mixed with no more.
    repaired   the next message makes up for lost ones (see `repairing`); a copy is mixed only if both
               ends know that it was applied.

Which copies mix, so that the mean of all models is kept at any speeds, is in `exchanging`. With `absolute`, a device
mixes what it has when its own round ends, and the mean drifts where speeds differ.

After a restart of either end, the whole copy is sent.

Source: A. Koloskova, S. Stich, M. Jaggi, ICML 2019, for the copies; they assume that no message is lost.
The repairs are ours.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from weakref import WeakKeyDictionary

import numpy as np
from pydantic import Field, PositiveInt, field_validator, model_validator

from p2pl_async.basics.units import PositiveSeconds
from p2pl_async.compression import AnyCompressor, Compressor, Dense, Payload, RandomK, Sparse, TopK
from p2pl_async.errors import ProtocolError
from p2pl_async.messages import DeviceId, Vector, apart, some_of
from p2pl_async.protocols.base import STATE, Contract, Protocol
from p2pl_async.protocols.compressing import CONTRACTS, Delivery, Heard, MassLinks, contraction
from p2pl_async.protocols.exchanging import TRANSFERS, WAITING, Fate, Pairs, Told
from p2pl_async.protocols.listening import Barrier, Fresh
from p2pl_async.protocols.max_norm import MaxNormSync, Sync
from p2pl_async.protocols.pushing import MOST_WEIGHT, PushMode, patient
from p2pl_async.protocols.repairing import Share
from p2pl_async.protocols.silence import PATIENCE

if TYPE_CHECKING:
    from p2pl_async.device import Device

_RESYNC = 100  # messages

Telling = Delivery | Literal["absolute"]
Rate = Annotated[float, Field(gt=0, le=1)]

DIFFERENCES = {
    delivery: dataclasses.replace(contract, loss=contract.loss and "a copy that missed a difference stays wrong")
    for delivery, contract in CONTRACTS.items()
} | {"absolute": dataclasses.replace(STATE, deaf="")}
"""What each delivery requires of the links, for protocols that send differences."""


class CopyProtocol(Protocol):
    """Settings of protocols whose devices keep copies of each other."""

    sync: Sync = MaxNormSync()
    steps: PositiveInt = Field(default=1, description="Mini-batches in each round")
    compressor: AnyCompressor = Field(default=TopK(), description="What is sent of a difference")
    delivery: Telling = Field(
        default="exactly_once",
        description="What a message means: links never lose, whatever arrives counts, values instead of differences, "
        "or later messages make up for lost ones",
    )
    resync: PositiveInt | None = Field(
        default=None, description="Absolute: every so many messages, one holds the whole copy; 100 by default"
    )
    mode: PushMode = Field(default=Barrier(), description="Whose messages a round waits for")
    patience: PositiveSeconds = Field(default=30.0, description=PATIENCE)

    @field_validator("compressor")
    @classmethod
    def _contracts(cls, compressor: Compressor) -> Compressor:
        return contraction(compressor)

    @model_validator(mode="after")
    def _absolute(self) -> Self:
        absolute = self.delivery == "absolute"
        if absolute and not isinstance(self.compressor, TopK | RandomK):
            raise ValueError(
                f'delivery="absolute" sends the changed entries, and "{self.compressor.kind}" changes '
                'every entry; use compressor "top-k" or "random-k", or delivery = "repaired"'
            )
        if not absolute and self.resync is not None:
            raise ValueError(f'resync={self.resync} applies to delivery = "absolute" only; leave it out')
        return self

    @property
    def contract(self) -> Contract:
        """Increments, running sums, or state, as the delivery says."""
        return patient(DIFFERENCES[self.delivery], self.mode)

    @property
    def warnings(self) -> Sequence[str]:
        """Whether the mean of all models drifts."""
        if self.delivery != "absolute" or isinstance(self.mode, Barrier):
            return ()
        return [
            'delivery = "absolute" mixes whatever copies a device has when its own round ends: the mean of all models '
            'drifts where speeds differ; delivery = "repaired" keeps it'
        ]

    @property
    def models_per_message(self) -> float:
        """Share of a model that the compressor keeps; repaired, times the number of messages not yet confirmed."""
        return 1.0 if self.delivery == "absolute" else self.compressor.models_per_message


class Copy:
    """A copy of a device's parameters and push weight.

    Neighbors that have heard the same differences in the same order have the same copy: one array that never
    changes, computed once. Each having its own would take the memory of all of them, and most of a round's time.

    Attributes:
        x: parameters, shape (n_params,), read-only.
        u: push weight.
        degree: number of that device's out-neighbors, as last heard.
    """

    __slots__ = ("degree", "u", "x")

    def __init__(self, like: Vector) -> None:
        self.x = _zeros(like.size, like.dtype)
        self.u = 0.0
        self.degree = 0

    def add(self, share: Share, *, shared: bool = True) -> None:
        """Add a difference; `shared` tells that others may have it too, and that nobody keeps it."""
        self.x = _once(_sum, share.q, self.x) if shared else _frozen(share.q.plus(self.x))
        self.u += share.u

    def take_over(self, share: Share) -> None:
        """Replace entries by the values of an absolute message."""
        self.x = _once(_replaced, share.q, self.x)
        self.u = share.u


@functools.lru_cache(8)
def _zeros(size: int, dtype: np.dtype[Any]) -> Vector:
    return _frozen(np.zeros(size, dtype))


def _frozen(x: Vector) -> Vector:
    x.flags.writeable = False
    return x


def _sum(x: Vector, q: Payload) -> Vector:
    return q.plus(x)


def _replaced(x: Vector, q: Payload) -> Vector:
    if not isinstance(q, Sparse):
        return q.dense()
    found = x.copy()
    found[q.indices] = q.values
    return found


# Payload -> the copy to which it was applied last, and the result. Payloads of one message are one object.
_applied: WeakKeyDictionary[Payload, tuple[Vector, Vector]] = WeakKeyDictionary()


def _once(change: Callable[[Vector, Payload], Vector], q: Payload, x: Vector) -> Vector:
    """Return a copy changed by a payload, read-only: the same array for all who change the same copy by it."""
    before, after = _applied.get(q, (None, x))
    if before is not x:
        after = _frozen(change(x, q))
        _applied[q] = x, after
    return after


class Replicas:
    """A device's public copy, its replicas of its neighbors' copies, and the exchanges over its links.

    Args:
        device: the device.
        settings: the compressor, the delivery, and how often the whole copy is sent.
        like: a vector of the shape and dtype of the parameters.
        paired: whether an exchange needs a counterpart; else it is a transfer. See `exchanging`.

    Attributes:
        own: this device's public copy h_i.
        of: neighbor j -> replica of its h_j; neighbors never heard are missing.
        pairs: neighbor -> exchanges that wait for their counterpart.
    """

    def __init__(self, device: Device, settings: CopyProtocol, like: Vector, *, paired: bool) -> None:
        self.own = Copy(like)
        self.of: dict[DeviceId, Copy] = {}
        self.pairs: defaultdict[DeviceId, Pairs] = defaultdict(Pairs)
        self.links = MassLinks(device, settings.delivery, like, settings.patience, copies=True)
        self._device = device
        self._settings = settings
        self._layers = device.layers
        self._paired = paired
        self._told = 0  # messages
        self._whole = device.boots > 0  # neighbors know nothing of this life, or this device has met such a neighbor

    def tell(self, x: Vector, u: float = 0.0) -> tuple[Told, list[DeviceId]]:
        """Send q_i = C(x_i - h_i), and h_i <- h_i + q_i; after a restart of either end, q_i is all of x_i - h_i.

        Returns:
            What was told, and the neighbors for whom it is an exchange.

        Raises:
            ProtocolError: if a neighbor is out of range and would miss the difference for good.
        """
        links, delivery, targets = self.links, self._settings.delivery, self._device.out_neighbors
        absent = [j for j in self._device.all_out_neighbors if j not in targets]
        if absent and delivery in ("exactly_once", "raw"):
            raise ProtocolError(
                f"device {absent[0]} is out of range now and would never receive this difference; on a topology "
                'that changes set delivery = "repaired"'
            )
        self._meet()
        difference = x - self.own.x
        whole, self._whole = self._whole, False
        q = (
            Dense(difference)
            if whole
            else self._settings.compressor.compress(difference, self._layers, self._device.random)
        )
        share = Share(q, u - self.own.u)
        self.own.add(share, shared=delivery != "repaired")
        self._told += 1
        everything = Share(Dense(self.own.x), u)
        told = Told(self.own.x, u, len(targets))
        marked = [j for j in targets if self._may_mark(j)]
        if delivery == "repaired":
            links.push(share, targets, absent, whole=everything, marked=marked, told=told)
            return told, marked
        if delivery == "absolute":
            links.push(everything if whole else Share(self._values(q), u), targets)
        elif whole:
            links.push_whole(everything, targets, marked)
        else:
            links.push(share, targets, marked=marked)
        if self._paired:
            for j in marked:
                self.pairs[j].ours.append(told)
        return told, marked

    def _may_mark(self, j: DeviceId) -> bool:
        """Tell whether the next message to a neighbor is an exchange.

        A neighbor that is silent, or doesn't hear this device, is given nothing. After a restart a device gives nothing
        away before it has heard the neighbor, which may be gone.
        """
        if not self._paired and not self.links.hears(j):
            return False
        if self._device.boots and j not in self.of and j in self._device.all_in_neighbors:
            return False
        if self._settings.delivery != "repaired":
            return not self._paired or not self.pairs[j].ours
        marks = self.links.marks.get(j)
        waiting = 0 if marks is None else len(marks.waiting)
        return waiting + len(self.pairs[j].ours) < (WAITING if self._paired else TRANSFERS)

    def _meet(self) -> None:
        """Forget what was agreed with former lives of neighbors."""
        for j in self.links.met:
            self.of.pop(j, None)
            self.pairs.pop(j, None)
            self._whole = self._whole or self._settings.delivery != "repaired"
        self.links.met.clear()

    def _values(self, q: Payload) -> Payload:
        """Return h_i where q has just changed it, or all of it every `resync` messages."""
        if isinstance(q, Sparse) and self._told % (self._settings.resync or _RESYNC):
            return Sparse(q.size, q.indices, self.own.x[q.indices])
        return Dense(self.own.x)

    async def listen(self, mode: Barrier | Fresh) -> list[Heard]:
        """Return the shares that have come; `add` adds them."""
        return await self.links.listen(mode)

    def add(self, heard: list[Heard]) -> Iterator[tuple[DeviceId, Told]]:
        """Bring replicas up to date, h_j <- h_j + q_j; yield the sender and its copy after each exchange."""
        self._meet()
        for sender, degree, share, whole, marked in heard:
            replica = self.of.get(sender)
            if replica is None:
                replica = self.of[sender] = Copy(self.own.x)
            if whole or self._settings.delivery == "absolute":
                replica.take_over(share)
            else:
                replica.add(share, shared=self._settings.delivery != "repaired")
            if not 0 <= replica.u <= MOST_WEIGHT:  # no push weight that a device can have
                self._device.record("refused", 1)
                replica.u = min(max(replica.u, 0.0), MOST_WEIGHT)
            replica.degree = degree
            if self._device.params is not None:
                far = apart(some_of(replica.x), some_of(self._device.params), replica.u)
                self._device.pulled(sender, far)
            if marked:
                yield sender, Told(replica.x, replica.u, degree)

    def exchange(self, heard: list[Heard]) -> Iterator[tuple[DeviceId, Told, Told]]:
        """Bring replicas up to date; yield each exchange that is complete now: neighbor, what it told, what we did."""
        for j, theirs in self.add(heard):
            self.pairs[j].theirs.append(theirs)
            yield from ((j, *pair) for pair in self.pairs[j].complete())
        for j, ours, fate in self.fates():
            if fate == "applied":
                self.pairs[j].ours.append(ours)
                yield from ((j, *pair) for pair in self.pairs[j].complete())

    def fates(self) -> list[tuple[DeviceId, Told, Fate]]:
        """Return the exchanges of which something has become since the last call, or that were taken back."""
        if not self._paired:
            self.links.take_back_marks()
        fates, self.links.fates = self.links.fates, []
        return fates
