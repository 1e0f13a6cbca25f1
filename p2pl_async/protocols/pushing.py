"""What all push-sum protocols share: mass, splitting it, receiving it.

Every device holds a numerator x and a push weight u. A sender splits both into equal shares, keeps
one and pushes one to each out-neighbor, so the totals over the network never change; the model is
the quotient z = x / u. A sender needs to know only its own number of out-neighbors, so this averages on
any directed graph, also one that changes.

A push is an increment: it counts once, whenever it comes. A lost message takes its mass along, and a
duplicate adds mass that no device gave up.

Source: D. Kempe, A. Dobra, J. Gehrke, "Gossip-Based Computation of Aggregate Information", FOCS 2003.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray
from pydantic import Field

from p2pl_async.basics.settings import OneOf
from p2pl_async.errors import ProtocolError
from p2pl_async.messages import DeviceId, Message, Vector
from p2pl_async.protocols.base import Contract
from p2pl_async.protocols.listening import Barrier, Fresh
from p2pl_async.protocols.mixing import BLOCK, blocks, is_count, is_finite, is_like, unsound
from p2pl_async.protocols.silence import Silence

if TYPE_CHECKING:
    from p2pl_async.device import Device

MOST_WEIGHT = 1e15
"""Above any sum of push weights; what claims more is refused, as sums of such weights would overflow."""

LEAST_WEIGHT = 1e-30
"""Push weight below which float32 numerators lose their digits; a run that gets there ends with an error."""

PushMode = Annotated[Barrier | Fresh, OneOf("mode", Barrier, Fresh)]
"""Whose messages a round waits for; there is no `cache`, since mass can't be added twice."""


PUSH_CONTRACT = Contract(
    "increment",
    loss="a lost message, also one to a device that is down, takes its mass along: devices agree on a wrong average, "
    "and steps of those left with little weight blow up, unless they are scaled by it",
    duplication="a message that arrives twice adds its mass twice, and the totals grow",
    repair='use protocol "rasgp", whose running sums repair both',
)

GradScale = Annotated[
    Literal["one", "u"],
    Field(
        description="Factor of a local step before it enters x: one (paper), or the push weight, so that the model "
        "moves by the step itself however little weight is left",
    ),
]
"""The `grad_scale` key of push-sum by increments."""


def patient(contract: Contract, mode: Barrier | Fresh) -> Contract:
    """Return a protocol's contract given its mode: a barrier without a timeout waits for the patience.

    Args:
        contract: what the protocol itself requires.
        mode: which messages it waits for.
    """
    if contract.loss or not isinstance(mode, Barrier) or mode.timeout is not None:
        return contract
    return dataclasses.replace(
        contract,
        loss="a round waits for a lost message until its sender has been silent for the patience",
        repair=contract.repair or 'write mode = { kind = "barrier", timeout = "10 s" }',
    )


@dataclass(frozen=True, slots=True)
class Push(Message, tag="push"):
    """A share of the sender's mass."""

    round: int
    u: float
    x: Vector  # (n_params,), or (2, n_params) with a tracker; of size 0 with u = 0 to one that gets nothing
    born: float
    heard: NDArray[np.int64]  # (k, 3): neighbor, and the first and the newest round heard from it


@dataclass(slots=True)
class Mass:
    """One device's share of the network's mass."""

    x: Vector  # numerator, shape of `Push.x`, an array of its own
    u: float  # push weight
    born: float = 1.0  # the first weights in it, those of restarts too

    @property
    def left(self) -> float:
        """The share of all first weights that crashes have left."""
        return self.u / self.born

    @property
    def z(self) -> Vector:
        """The model x / u, new and read-only, shape and dtype of x."""
        return model_of(self.x, self.u, self.x.dtype)

    def fits(self, push: Push) -> bool:
        """Tell whether a push can be added, judging by shape, dtype and weight."""
        if push.heard.ndim != 2 or push.heard.shape[1] != 3:
            return False
        if push.x.size == 0:
            return push.u == 0
        return is_like(push.x, self.x) and 0 < push.u <= MOST_WEIGHT and 0 < push.born <= MOST_WEIGHT

    def learn_and_split(self, new: Vector, old: Vector, shares: int, scale: float = 1.0) -> None:
        """Add the change of local training, x <- x + scale (new - old), then `split`: both in one pass."""
        change = np.empty(min(BLOCK, self.x.size), self.x.dtype)
        share = self.x.dtype.type(1 / shares)
        for block in blocks(self.x.size):
            x = self.x[block]
            learned = np.subtract(new[block], old[block], out=change[: x.size])
            if scale != 1.0:
                learned *= self.x.dtype.type(scale)
            x += learned
            x *= share
        self._shared(shares)

    def split(self, shares: int) -> None:
        """Keep one of `shares` equal shares; x is then constant, so that sending it needs no copy."""
        self.x *= 1 / shares
        self._shared(shares)

    def _shared(self, shares: int) -> None:
        self.x.flags.writeable = False
        self.u /= shares
        self.born /= shares

    def add(self, pushes: Sequence[Push]) -> tuple[Vector, list[Push]]:
        """Add pushes; return the model, and the pushes left out because they aren't finite.

        The model is x / u, new and read-only; where x has two rows, it is the first divided by u.

        Raises:
            ProtocolError: if u is too small to divide by.
        """
        bad: list[Push] = []
        total, z, finite = added(self.x, pushes, self.u)
        if not finite and is_finite(self.x):  # checking the sum alone is cheaper than checking each term
            while not finite and (i := unsound(dict(enumerate(push.x for push in pushes)))) is not None:
                bad.append(pushes[i])
                pushes = [*pushes[:i], *pushes[i + 1 :]]
                total, z, finite = added(self.x, pushes, self.u)
        self.x = total
        self.u += sum(push.u for push in pushes)
        self.born += sum(push.born for push in pushes)
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
    """Return 1 / u, as multiplying the entries of a model takes half the time of dividing them.

    Raises:
        ProtocolError: if u is too small to divide by.
    """
    if not u > LEAST_WEIGHT:
        raise ProtocolError(
            f"the push weight fell to u={u:.3g}: shares were lost, or this device pushes and receives nothing; "
            'on lossy links use protocol "rasgp", or delivery = "repaired" if the protocol has it'
        )
    return 1 / u


def added(own: Vector, pushes: Sequence[Push], u: float) -> tuple[Vector, Vector, bool]:
    """Add pushes to a numerator, in their order, in one pass that gives the model too.

    Args:
        own: the numerator, (n_params,) or (2, n_params).
        pushes: of the same shape.
        u: the push weight of `own`; those of the pushes are added to it.

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


M = TypeVar("M", bound=Message)


class ReceivedPushes(Generic[M]):
    """Pushes that a device has received and not added yet: each message once, however late.

    Messages that can't be added are refused and counted, so no peer can end a device with one.

    Args:
        device: the receiver.
        kind: type of the messages; its `round` is the sender's.
        usable: tells whether a message can be added, judging by shapes and weights.
        silence: which neighbors are silent: no round waits for those.
    """

    def __init__(self, device: Device, kind: type[M], usable: Callable[[M], bool], silence: Silence) -> None:
        self.pending: list[M] = []
        self.silence = silence
        self._device = device
        self._kind = kind
        self._usable = usable
        self._awaited: dict[int, set[DeviceId]] = {}  # by round: neighbors whose push of that round is still to come
        self._newest: dict[DeviceId, int] = {}  # the latest round that has come
        self._skips: dict[DeviceId, int] = {}  # how far it was beyond the one before: far, after a restart

    async def listen(self, mode: Barrier | Fresh) -> list[M]:
        """Return the messages to add at the end of this device's round, in order of sender."""
        if isinstance(mode, Barrier):
            return await self.wait(mode.timeout)
        if mode.wait > 0:
            await self._device.sleep(mode.wait)
        self.drain()
        return self._take(math.inf)

    async def wait(self, seconds: float | None, overlap: int = 0) -> list[M]:
        """Wait for every in-neighbor's push of `overlap` rounds ago; return all pushes up to this round's.

        A round doesn't wait for neighbors that are silent. No push is thrown away: a later call returns those that come
        after `seconds` (None: no limit), and those of later rounds.
        """
        device = self._device
        self.drain()
        if device.boots and (latest := max(map(_round, self.pending), default=0)) > device.round + 1 + overlap:
            device.finish_round(
                count=latest - device.round
            )  # neighbors went on while it was down: it joins their round
        now = device.round
        come = {message.sender for message in self.pending if _round(message) == now}
        self._awaited[now] = set(device.in_neighbors) - come
        with device.timeout(math.inf if seconds is None else seconds):
            while missing := self._missing(now - overlap, overlap):
                if (message := device.receive_nowait(self._kind)) is not None:
                    self._add(message)  # a limit for each message that is there would take longer than the message
                    continue
                with device.timeout(max(self.silence.left(j) for j in missing)) as silence:
                    self._add(await device.receive(self._kind))
                if silence.cancelled_caught:
                    break
        self._awaited = {round: missing for round, missing in self._awaited.items() if round > now - overlap}
        return self._take(now)

    def _missing(self, last: int, overlap: int) -> set[DeviceId]:
        """Return the neighbors whose pushes of rounds up to `last` are still to come, without the silent ones.

        A push is lost if its sender is too many rounds ahead to have had all of this device's; or if it is ahead at
        all, and one of the two has restarted. What neighbors sent while this device was down is lost too.
        """
        missing: set[DeviceId] = set()
        restarted = self._device.boots > 0
        for round, neighbors in self._awaited.items():
            if round <= last:
                for j in neighbors:
                    newest = self._newest.get(j, math.inf if restarted else -1)
                    if newest - round <= (0 if restarted or self._skips.get(j, 0) > 2 + overlap else 1 + overlap):
                        missing.add(j)
        return {j for j in missing if not self.silence.has(j)}

    def _take(self, last: float) -> list[M]:
        """Return the pushes of rounds up to `last`, and forget them."""
        taken = [message for message in self.pending if _round(message) <= last]
        self.pending = [message for message in self.pending if _round(message) > last]
        return sorted(taken, key=lambda message: (message.sender, message.number))

    def drain(self) -> None:
        """Take every message that has arrived."""
        while (message := self._device.receive_nowait(self._kind)) is not None:
            self._add(message)

    def _add(self, message: M) -> None:
        x, u = getattr(message, "x", None), getattr(message, "u", 0.0)
        usable = is_count(_round(message)) and self._usable(message)
        if not usable or (x is not None and u > 0 and not self._device.takes(x, u)):
            self._device.record("refused", 1)
            self._answered(message)
            return
        self.pending.append(message)
        j, round = message.sender, _round(message)
        self.silence.hear(j, round)
        self._answered(message)
        if round > self._newest.get(j, -1):
            self._skips[j] = round - self._newest.get(j, round)
            self._newest[j] = round

    def _answered(self, message: M) -> None:
        """Wait no longer for a push of this round from its sender, whether or not it could be used."""
        self._awaited.get(_round(message), set()).discard(message.sender)


def _round(message: Message) -> int:
    round: int = message.round  # type: ignore[attr-defined]  # every pushed message has one
    return round
