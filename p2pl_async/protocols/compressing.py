"""Compressed increments over links: what Sparse-Push, DeepSqueeze and the CHOCO family share.

    push:   share of q, share of u -> the message of each link      (its content depends on the delivery)
    listen: messages -> the shares to add to x and u

A push is an increment, correct only if it counts exactly once. There are three deliveries:

    raw           every copy that arrives counts, as on real links without further measures
    exactly_once  a second copy is recognized and dropped; the links must not lose messages
    repaired      the next message makes up for lost ones; see `repairing`
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from p2pl_async.compression import Compressor, ErrorFeedback, Payload, decode
from p2pl_async.device import Device
from p2pl_async.errors import RemoteError
from p2pl_async.messages import DeviceId, Message, Vector
from p2pl_async.protocols.base import CUMULATIVE, Contract
from p2pl_async.protocols.listening import Barrier, Fresh
from p2pl_async.protocols.pushing import Mass, ReceivedPushes
from p2pl_async.protocols.repairing import Applied, Confirmations, Confirmed, Owed, Share

Delivery = Literal["exactly_once", "raw", "repaired"]


CONTRACTS = {
    "raw": Contract(
        "increment",
        loss="the mass of a lost message is gone",
        duplication="a message that arrives twice is added twice",
        repair='set delivery = "repaired"',
    ),
    "exactly_once": Contract(
        "increment", loss="the mass of a lost message is gone", repair='set delivery = "repaired"'
    ),
    "repaired": CUMULATIVE,
}
"""What each delivery requires of the links."""


@dataclass(frozen=True, slots=True)
class MassPush(Message, tag="mass"):
    """A share for the receiver to add, as the delivery says."""

    round: int
    base: int  # repaired: what the receiver has confirmed; else 0
    u: float
    degree: int  # number of the sender's out-neighbors
    q: NDArray[np.uint8]  # an encoded payload
    top: int = 0  # repaired: number of the latest push within
    confirmed: NDArray[np.int64] | None = None  # repaired: rows (receiver, sender, number)


class Heard(NamedTuple):
    """The share that one message adds."""

    sender: DeviceId
    degree: int  # number of the sender's out-neighbors
    share: Share


class MassLinks:
    """The links of one device that pushes compressed mass.

    Args:
        device: the device.
        delivery: what a push means; `absolute` is for copies, see `replicas`.
        like: a vector of the shape and dtype that is pushed.
        signed: whether a share of a push weight may be negative.
    """

    def __init__(
        self, device: Device, delivery: Delivery | Literal["absolute"], like: Vector, *, signed: bool = False
    ) -> None:
        self.device = device
        self.delivery = delivery
        self.owed: dict[DeviceId, Owed] = {}
        self.applied: dict[DeviceId, Applied] = {}
        self.received = ReceivedPushes(device, MassPush, self._usable)
        self._confirmed = Confirmed(device.id, frozenset(device.all_out_neighbors))
        # Above every number used before a crash, since no device pushes a million times a second.
        self._start = int(1e6 * device.now)
        self._seen: dict[DeviceId, set[int]] = {}  # exactly_once: numbers of the messages that counted
        self._newest: dict[DeviceId, int] = {}  # absolute: number of the newest message
        self._least_u = -math.inf if signed else 0.0
        self._size, self._dtype = like.size, like.dtype
        self._layers = device.layers

    def push(self, share: Share, targets: Sequence[DeviceId], later: Sequence[DeviceId] = ()) -> None:
        """Push the same share to each target.

        With delivery "repaired", neighbors in `later` are owed it too, and get it with the next push to them.
        """
        round, degree = self.device.round, len(targets)
        if self.delivery != "repaired":
            data = share.q.encode()
            self.device.send(targets, MassPush(round, 0, share.u, degree, data))
            record_bytes(self.device, share.q, data, len(targets))
            return
        self.received.drain()  # confirmed pushes need not be sent again
        for target in (*targets, *later):
            self.owed.setdefault(target, Owed(self._start)).push(share)
        for target in targets:
            owed, rows = self.owed[target], self._confirmed.rows(target)
            everything = owed.outstanding()
            assert everything is not None
            data = everything.q.encode()
            self.device.send(target, MassPush(round, owed.base, everything.u, degree, data, owed.top, rows))
            record_bytes(self.device, everything.q, data, 1)

    async def listen(self, mode: Barrier | Fresh) -> list[Heard]:
        """Return the shares to add at the end of this round, in order of sender."""
        heard = []
        messages = await self.received.listen(mode)
        self.device.record_mix({message.sender: message for message in messages})
        for message in messages:
            try:
                share = self._take(message)
            except RemoteError:
                self.device.record("refused", 1)
            else:
                if share is not None:
                    heard.append(Heard(message.sender, message.degree, share))
        return heard

    def _take(self, message: MassPush) -> Share | None:
        """Return the share that a message adds, or None if it was added before."""
        sender = message.sender
        if self.delivery == "exactly_once":
            seen = self._seen.setdefault(sender, set())
            if message.number in seen:
                return None
            seen.add(message.number)
        elif self.delivery == "absolute":
            if message.number <= self._newest.get(sender, -1):
                return None
            self._newest[sender] = message.number
        share = Share(decode(message.q, self._size, self._layers, self._dtype), message.u)
        if self.delivery != "repaired":
            return share
        applied = self.applied.setdefault(sender, Applied())
        added = applied.receive(message.base, message.top, share)
        self._confirmed.know(self.device.id, sender, applied.number)
        return added

    def _usable(self, message: MassPush) -> bool:
        if message.sender not in self.device.all_in_neighbors or message.degree < 0:
            return False
        if not self._least_u <= message.u < math.inf:
            return False
        if self.delivery != "repaired":
            return True
        rows = message.confirmed
        if rows is None or not 0 <= message.base < message.top or not _are_rows(rows):
            return False
        self._hear(rows)
        return True

    def _hear(self, rows: Confirmations) -> None:
        for receiver, sender, number in rows.tolist():
            if sender != self.device.id and receiver != self.device.id:
                self._confirmed.know(receiver, sender, number)
            elif sender == self.device.id and receiver in self.owed:
                self.owed[receiver].confirm(number)


def contraction(compressor: Compressor) -> Compressor:
    """Return the compressor; ValueError if it isn't a contraction, so that fed-back errors would grow."""
    if not compressor.contracts:
        raise ValueError(
            f'compressor "{compressor.kind}" with unbiased = true is no contraction: the error that it feeds back '
            "would grow from round to round; leave unbiased out"
        )
    return compressor


def push(mass: Mass, feedback: ErrorFeedback, links: MassLinks, rate: float) -> None:
    """Push a share to every out-neighbor: x_i <- x_i + eta_a (p_ii - 1) q_i, and u_i likewise.

    Args:
        mass: the device's mass, changed in place.
        feedback: q_i = C(x_i + e_i), e_i <- x_i + e_i - q_i.
        links: the device's links.
        rate: eta_a.
    """
    targets = links.device.out_neighbors
    if targets:  # without a receiver, compressing would only grow the error that is fed back
        q = feedback.compress(mass.x)
        p = 1 / (1 + len(targets))  # p_ji = p_ii
        share = Share(q.times(rate * p), rate * p * mass.u)
        links.push(share, targets)
        share.q.add_to(mass.x, -len(targets))
        mass.u -= len(targets) * share.u


async def absorb(mass: Mass, links: MassLinks, mode: Barrier | Fresh) -> None:
    """Add the shares received: x_i <- x_i + eta_a sum_j p_ij q_j, and u_i likewise."""
    for _, _, share in await links.listen(mode):
        share.q.add_to(mass.x)
        mass.u += share.u
    links.device.record("push_weight", mass.u)


def record_bytes(device: Device, q: Payload, data: NDArray[np.uint8], links: int) -> None:
    """Record the size of messages to so many links: uncompressed, as papers count it, and as encoded.

    Metrics, in bytes: `bytes_dense` (float32 values), `bytes_paper` (float32 values and 4 bytes for an index),
    `bytes_encoded`. The first two count a push weight of 4 bytes too.
    """
    if links:
        device.record("bytes_dense", links * (4.0 * q.size + 4))
        device.record("bytes_paper", links * (q.paper_bytes + 4))
        device.record("bytes_encoded", links * float(data.size))


def _are_rows(rows: NDArray[np.int64]) -> bool:
    return rows.ndim == 2 and rows.shape[1] == 3 and bool((rows >= 0).all())
