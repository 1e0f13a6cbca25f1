"""Push-sum's ground: mass that devices hold, split and pass on, and how what was pushed is taken in.

Every device holds a numerator x and a push weight u. A sender splits both into equal shares, keeps
one and pushes one to each out-neighbor, so the totals over the network never change; the model is
the quotient z = x / u. Only the sender's own number of out-neighbors is needed, so this averages on
any directed graph, also one that changes.

A push is an increment: it counts once, whenever it comes. What is lost takes its mass along, and a
duplicate adds mass that nobody gave.

Source: D. Kempe, A. Dobra, J. Gehrke, "Gossip-Based Computation of Aggregate Information", FOCS 2003.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Generic, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from p2pl_async.basics.settings import OneOf
from p2pl_async.device import Device
from p2pl_async.errors import ProtocolError
from p2pl_async.messages import DeviceId, Message, Vector
from p2pl_async.protocols.base import Contract
from p2pl_async.protocols.listening import Barrier, Fresh
from p2pl_async.protocols.mixing import is_finite

BLOCK = 1 << 14
"""Entries of the longest slice that `blocks` gives."""

LEAST_WEIGHT = 1e-30
"""Push weight below which float32 numerators lose their digits; a run that gets there is ended."""

PushMode = Annotated[Barrier | Fresh, OneOf("mode", Barrier, Fresh)]
"""Whom a round waits for; there is no `cache`, since mass that was added can't be added again."""


PUSH_CONTRACT = Contract(
    "increment",
    loss="what is lost takes its mass along, and devices agree on a wrong average",
    duplication="what arrives twice is mass that nobody gave, and the totals grow",
    repair='use protocol "rasgp", whose running sums repair both',
)


@dataclass(frozen=True, slots=True)
class Push(Message, tag="push"):
    """A share of the sender's mass."""

    round: int
    u: float
    x: Vector  # (n_params,), or (2, n_params) where a tracker goes along


@dataclass(slots=True)
class Mass:
    """What a device holds of the network's mass."""

    x: Vector  # numerator, shape of what is pushed, an array of its own
    u: float  # push weight

    @property
    def z(self) -> Vector:
        """The model x / u, new and read-only, shape and dtype of x."""
        return model_of(self.x, self.u, self.x.dtype)

    def fits(self, push: Push) -> bool:
        """Tell whether a push can be added, as far as shape, dtype and weight go."""
        return push.x.shape == self.x.shape and push.x.dtype == self.x.dtype and 0 < push.u < math.inf

    def learn_and_split(self, new: Vector, old: Vector, shares: int) -> None:
        """Add what local training has changed, x <- x + new - old, then `split`: both in one pass."""
        change = np.empty(min(BLOCK, self.x.size), self.x.dtype)
        share = self.x.dtype.type(1 / shares)
        for block in blocks(self.x.size):
            x = self.x[block]
            x += np.subtract(new[block], old[block], out=change[: x.size])
            x *= share
        self._shared(shares)

    def split(self, shares: int) -> None:
        """Keep one of so many equal shares; x is then constant, so that sending it needs no copy."""
        self.x *= 1 / shares
        self._shared(shares)

    def _shared(self, shares: int) -> None:
        self.x.flags.writeable = False
        self.u /= shares

    def add(self, pushes: Sequence[Push]) -> tuple[Vector, list[Push]]:
        """Add what was pushed; return the model, and the messages that can't be added because they aren't finite.

        The model is x / u, new and read-only; where x has two rows, it is the first divided by u.

        Raises:
            ProtocolError: if u is too small to divide by.
        """
        bad: list[Push] = []
        total, z, finite = added(self.x, pushes, self.u)
        if not finite:  # one look at the sum instead of one at each term
            bad = [push for push in pushes if not is_finite(push.x)]
            pushes = [push for push in pushes if is_finite(push.x)]
            total, z, _ = added(self.x, pushes, self.u)
        self.x = total
        self.u += sum(push.u for push in pushes)
        return z, bad


def model_of(x: Vector, u: float, dtype: DTypeLike) -> Vector:
    """Return x / u, new and read-only.

    Raises:
        ProtocolError: if u is too small to divide by.
    """
    z: Vector = np.empty(x.shape, dtype)
    np.multiply(x, reciprocal(u), out=z, casting="same_kind")
    z.flags.writeable = False  # so that training from it needs no copy
    return z


def reciprocal(u: float) -> float:
    """Return 1 / u: dividing each entry of a model takes twice as long as multiplying it.

    Raises:
        ProtocolError: if u is too small to divide by.
    """
    if not u > LEAST_WEIGHT:
        raise ProtocolError(
            f"the push weight fell to u={u:.3g}: shares were lost, or this device pushes and hears nothing back; "
            'on lossy links use protocol "rasgp", or delivery = "repaired" where a protocol has it'
        )
    return 1 / u


def absorb(device: Device, mass: Mass, pushes: Sequence[Push]) -> Vector:
    """Add what was pushed to a device's mass, and return its model: x / u, or the first row of x divided by u.

    Records how many were added and how old they were, and the push weight.

    Raises:
        ProtocolError: if u is too small to divide by.
    """
    z, bad = mass.add(pushes)
    for _ in bad:
        device.record("refused", 1)
    device.record("push_weight", mass.u)
    device.record_mix({push.sender: push for push in pushes})
    return z


def added(own: Vector, pushes: Sequence[Push], u: float) -> tuple[Vector, Vector, bool]:
    """Add pushes to a numerator, in their order, in one pass that gives the model too.

    Args:
        own: the numerator, (n_params,) or (2, n_params).
        pushes: of the same shape.
        u: the push weight that belongs to `own`; the pushes' are added to it.

    Returns:
        The sum, a new array; its first row divided by the push weight, (n_params,), new and read-only; and
        whether every entry of the sum is finite.

    Raises:
        ProtocolError: if the push weight is too small to divide by.
    """
    total = np.empty_like(own)
    z: Vector = np.empty(own.shape[-1], own.dtype)
    scale = own.dtype.type(reciprocal(u + sum(push.u for push in pushes)))
    rows = [x.reshape(-1, z.size) for x in (own, *(push.x for push in pushes))]
    whole = 0.0
    for i, row in enumerate(total.reshape(-1, z.size)):
        first, *others = (x[i] for x in rows)
        for block in blocks(z.size):
            part = row[block]
            part[:] = first[block]
            for other in others:
                part += other[block]
            if i == 0:
                np.multiply(part, scale, out=z[block])
            whole += float(part.sum())
    z.flags.writeable = False
    return total, z, math.isfinite(whole) or is_finite(total)


def blocks(size: int) -> Iterator[slice]:
    """Yield slices of so many entries at most that a few arrays of them stay in the cache."""
    return (slice(start, start + BLOCK) for start in range(0, size, BLOCK))


M = TypeVar("M", bound=Message)


class Intake(Generic[M]):
    """What was pushed to a device and is not added yet: each message once, however late.

    Messages that can't be added are refused and counted; no peer can end a device with one.

    Args:
        device: whose.
        kind: type of the messages; they have a `round`, the sender's.
        usable: tells whether a message can be added, as far as shapes and weights go.
    """

    def __init__(self, device: Device, kind: type[M], usable: Callable[[M], bool]) -> None:
        self.pending: list[M] = []
        self._device = device
        self._kind = kind
        self._usable = usable
        self._awaited: dict[int, set[DeviceId]] = {}  # by round: neighbors whose push of that round is still to come

    async def listen(self, mode: Barrier | Fresh) -> list[M]:
        """Return what is to be added at the end of this device's round, in order of sender."""
        if isinstance(mode, Barrier):
            return await self.wait(mode.timeout)
        if mode.wait > 0:
            await self._device.sleep(mode.wait)
        self.drain()
        return self._take(math.inf)

    async def wait(self, seconds: float | None, overlap: int = 0) -> list[M]:
        """Wait for what every in-neighbor pushed `overlap` rounds ago; return all up to this round's.

        What comes after so many `seconds`, if any, is returned by a later call, and so is what was pushed in a later
        round: nothing is thrown away.
        """
        device, now = self._device, self._device.round
        self.drain()
        come = {message.sender for message in self.pending if _round(message) == now}
        self._awaited[now] = set(device.in_neighbors) - come
        with device.timeout(math.inf if seconds is None else seconds):
            while any(missing for round, missing in self._awaited.items() if round <= now - overlap):
                self._hear(await device.receive(self._kind))
        self._awaited = {round: missing for round, missing in self._awaited.items() if round > now - overlap}
        return self._take(now)

    def _take(self, last: float) -> list[M]:
        """Return what was pushed in rounds up to `last`, and forget it."""
        taken = [message for message in self.pending if _round(message) <= last]
        self.pending = [message for message in self.pending if _round(message) > last]
        return sorted(taken, key=lambda message: (message.sender, message.number))

    def drain(self) -> None:
        """Hear everything that has arrived."""
        while (message := self._device.receive_nowait(self._kind)) is not None:
            self._hear(message)

    def _hear(self, message: M) -> None:
        if not self._usable(message):
            self._device.record("refused", 1)
            return
        self.pending.append(message)
        self._awaited.get(_round(message), set()).discard(message.sender)


def _round(message: Message) -> int:
    round: int = message.round  # type: ignore[attr-defined]  # every pushed message has one
    return round
