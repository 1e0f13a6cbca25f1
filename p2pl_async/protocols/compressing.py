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
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from p2pl_async.compression import Compressor, Payload, decode, encode
from p2pl_async.errors import RemoteError
from p2pl_async.messages import DeviceId, Message, Vector
from p2pl_async.protocols.base import CUMULATIVE, Contract
from p2pl_async.protocols.exchanging import AppliedMarks, Fate, Marks, RoundsHeard, Told
from p2pl_async.protocols.listening import Barrier, Fresh
from p2pl_async.protocols.mixing import is_count
from p2pl_async.protocols.pushing import MOST_WEIGHT, ReceivedPushes
from p2pl_async.protocols.repairing import Applied, Confirmation, Confirmations, Confirmed, Owed, Share
from p2pl_async.protocols.silence import Silence

if TYPE_CHECKING:
    from p2pl_async.device import Device

_ROUNDING = 1e-6  # of a sum of push weights
_UNCONFIRMED = 8  # pushes of mass to one neighbor that may wait for confirmation, where there is a link back

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
    boot: int = 0  # how often the sender has restarted
    whole: bool = False  # for copies: the whole copy instead of a difference
    marked: NDArray[np.int64] | None = None  # for copies: receivers for whom it is an exchange
    top: int = 0  # repaired: number of the latest push within
    life: int = 0  # repaired: how often the receiver has restarted, as the sender knows it
    mark: int = 0  # repaired: which exchange it is for the receiver, 0 if none
    confirmed: NDArray[np.int64] | None = None  # repaired, absolute: see `Confirmations`


class Heard(NamedTuple):
    """The share that one message adds."""

    sender: DeviceId
    degree: int  # number of the sender's out-neighbors
    share: Share
    whole: bool = False  # for copies: it replaces what was known
    marked: bool = False  # for copies: it is an exchange


class MassLinks:
    """The links of one device that pushes compressed mass.

    Args:
        device: the device.
        delivery: what a push means; `absolute` is for copies, see `replicas`.
        like: a vector of the shape and dtype that is pushed.
        patience: how long a neighbor may be silent, in seconds.
        copies: whether shares are differences of copies, and no mass.

    Attributes:
        boots: neighbor -> how often it has restarted, as far as known.
        met: neighbors that have restarted since the last look.
        returned: shares taken back from neighbors that are gone, to add to the mass.
        debts: shares to give back, to neighbors that had been given up.
        marks: out-neighbor -> the exchanges told to it.
        fates: out-neighbor, what an exchange told it, and what became of it; since the last look.
    """

    def __init__(
        self,
        device: Device,
        delivery: Delivery | Literal["absolute"],
        like: Vector,
        patience: float,
        *,
        copies: bool = False,
    ) -> None:
        self.device = device
        self.delivery = delivery
        self.owed: dict[DeviceId, Owed] = {}
        self.applied: dict[DeviceId, Applied] = {}
        self.silence = Silence(device, patience)
        self.received = ReceivedPushes(device, MassPush, self._usable, self.silence)
        self._confirmed = Confirmed(device.id, frozenset(device.all_out_neighbors))
        # Above every number used before a crash, since no device pushes a million times a second.
        self._start = int(1e6 * device.now)
        self._seen: dict[DeviceId, set[int]] = {}  # exactly_once: numbers of the messages that counted
        self._newest: dict[DeviceId, int] = {}  # absolute: number of the newest message
        self._rounds = RoundsHeard(device)  # absolute
        self.boots: dict[DeviceId, int] = {}
        self.met: set[DeviceId] = set()
        self.returned: list[Share] = []
        self.debts: list[Share] = []
        self.marks: dict[DeviceId, Marks] = {}
        self.fates: list[tuple[DeviceId, Told, Fate]] = []
        self._applied_marks: dict[DeviceId, AppliedMarks] = {}
        self._copies = copies
        self._least_u = -MOST_WEIGHT if copies or delivery == "repaired" else 0.0
        self._given: dict[DeviceId, float] = {}  # neighbor -> push weight that it has given, less what it took back
        self._size, self._dtype = like.size, like.dtype
        self._layers = device.layers

    def takers(self) -> list[DeviceId]:
        """Return the out-neighbors to push mass to: not those that are gone, or have too much to confirm."""
        self.received.drain()
        return [j for j in self.device.out_neighbors if self._takes(j)]

    def _takes(self, j: DeviceId) -> bool:
        owed = self.owed.get(j)
        if owed is None or j not in self.device.all_in_neighbors:
            return True
        return owed.open and owed.top - owed.base < _UNCONFIRMED

    def push(
        self,
        share: Share,
        targets: Sequence[DeviceId],
        later: Sequence[DeviceId] = (),
        *,
        whole: Share | None = None,
        marked: Sequence[DeviceId] = (),
        told: Told | None = None,
    ) -> None:
        """Push the same share to each target.

        With delivery "repaired", neighbors in `later` are owed it too, and get it with the next push to them.

        Args:
            share: for each target.
            targets: whom to push to.
            later: whom to push to when they are in range.
            whole: instead of the share, for a target to which nothing was pushed in its present life.
            marked: targets for whom it is an exchange.
            told: what it tells those.
        """
        if self.delivery != "repaired":
            self._broadcast(share, targets, marked, whole=False)
            return
        self.received.drain()  # confirmed pushes need not be sent again
        now = self.device.now
        for target in (*targets, *later):
            owed = self.owed.get(target)
            if owed is None:
                start = self._start if self.boots.get(target, 0) == 0 else int(1e6 * now)
                owed = self.owed[target] = Owed(start)
                owed.push(whole or share, now)
            else:
                owed.push(share, now)
        for target in targets:
            mark = 0
            if target in marked and told is not None:
                mark = self.marks.setdefault(target, Marks()).mark(self.owed[target].top, told)
            self._tell(target, len(targets), mark)

    def push_whole(self, share: Share, targets: Sequence[DeviceId], marked: Sequence[DeviceId]) -> None:
        """Push a whole copy, which replaces what targets know, where deliveries aren't repaired."""
        self._broadcast(share, targets, marked, whole=True)

    def repeat(self, targets: Sequence[DeviceId], degree: int) -> None:
        """Send again what isn't confirmed; only that makes up for lost messages."""
        for target in targets:
            self._tell(target, degree, 0)

    def _broadcast(self, share: Share, targets: Sequence[DeviceId], marked: Sequence[DeviceId], *, whole: bool) -> None:
        data = encode(share.q, self._layers)
        ids = np.array(marked, np.int64) if len(marked) else None
        rows = self._rounds.tell(self.boots) if self.delivery == "absolute" else None
        for array in (ids, rows):
            if array is not None:
                array.flags.writeable = False  # so that sending the message copies nothing, and one decoding serves all
        message = MassPush(
            self.device.round, 0, share.u, len(targets), data, self.device.boots, whole, ids, confirmed=rows
        )
        self.device.send(targets, message)
        record_bytes(self.device, share.q, data, len(targets))

    def _tell(self, target: DeviceId, degree: int, mark: int) -> None:
        owed = self.owed[target]
        everything = owed.outstanding()
        assert everything is not None
        data = encode(everything.q, self._layers)
        message = MassPush(
            self.device.round,
            owed.base,
            everything.u,
            degree,
            data,
            self.device.boots,
            top=owed.top,
            life=self.boots.get(target, 0),
            mark=mark,
            confirmed=self._confirmed.rows(target),
        )
        self.device.send(target, message)
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
                    self.device.used([message])
                    ids = message.marked
                    marked = message.mark > 0 or (ids is not None and self.device.id in ids)
                    heard.append(Heard(message.sender, message.degree, share, message.whole, marked))
        if not self._copies:
            self._take_back()
        return heard

    def hears(self, j: DeviceId) -> bool:
        """Tell whether neighbor j is there and hears this device, as far as is known; over a one-way link it does."""
        if j not in self.device.all_in_neighbors or j not in self.device.all_out_neighbors:
            return True
        since = self.owed[j].since if j in self.owed else self._rounds.unheard.get(j, math.inf)
        return not (self.silence.has(j) or self.silence.is_over(j, since))

    def take_back_marks(self) -> None:
        """Take back the exchanges of unknown fate with neighbors that confirm nothing for longer than the patience."""
        for j, marks in sorted(self.marks.items()):
            if marks.waiting and not self.hears(j):
                self.fates += [(j, told, "returned") for told in marks.take_back()]

    def _take_back(self) -> None:
        """Take back what neighbors don't confirm for longer than the patience."""
        for j, owed in sorted(self.owed.items()):
            if j in self.device.all_in_neighbors and self.silence.is_over(j, owed.since):
                share = owed.take_back()
                if share is not None:
                    self.returned.append(share)
                    self.device.record("weight_taken_back", share.u)

    def _meet(self, j: DeviceId, boot: int) -> None:
        """Note that a neighbor has restarted: its former life confirms nothing any more, and what it knew is lost."""
        self.boots[j] = boot
        self.met.add(j)
        for known in (self.applied, self._applied_marks, self._newest):
            known.pop(j, None)
        owed = self.owed.pop(j, None)
        share = None if owed is None or self._copies else owed.outstanding()
        if share is not None:
            self.returned.append(share)
        marks = self.marks.pop(j, None)
        if marks is not None:
            self.fates += [(j, told, "returned") for _, told in marks.waiting.values()]

    def _take(self, message: MassPush) -> Share | None:
        """Return the share that a message adds, or None if it was added before."""
        sender = message.sender
        if message.boot < self.boots.get(sender, 0):
            return None
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
        if self.device.largest is not None and not self.device.takes(share.q.dense()):
            raise RemoteError(f"device {sender} sent a larger entry than is taken")
        if self.delivery != "repaired":
            return share
        if message.life != self.device.boots:
            return None  # it speaks to a former life of this device
        applied = self.applied.setdefault(sender, Applied())
        added = applied.receive(message.base, message.top, share)
        marks = self._applied_marks.setdefault(sender, AppliedMarks())
        if added is not None and message.mark > marks.last:
            marks.apply(message.mark)
        if added is not None and not self._copies:
            given = self._given.get(sender, 0.0) + added.u
            if given < -_ROUNDING:
                raise RemoteError(f"device {sender} takes back more than it gave")
            self._given[sender] = given
        known = Confirmation(self.device.boots, applied.number, marks.last, marks.bits)
        self._confirmed.know(self.device.id, sender, known)
        return added

    def _usable(self, message: MassPush) -> bool:
        counts = message.degree, message.boot, message.base, message.top, message.life, message.mark
        if message.sender not in self.device.all_in_neighbors or not is_count(*counts):
            return False
        if not self._least_u <= message.u <= MOST_WEIGHT:
            return False
        if message.boot > self.boots.get(message.sender, 0):
            self._meet(message.sender, message.boot)
        rows = message.confirmed
        if self.delivery == "absolute":
            if rows is None or not _are_rows(rows):
                return False
            self._rounds.hear(message.sender, message.round, rows)
            return True
        if self.delivery != "repaired":
            return True
        if rows is None or not 0 <= message.base < message.top or not _are_rows(rows):
            return False
        # A sender that can't hear this device learns of its restart from confirmations passed on.
        self._confirmed.know(self.device.id, message.sender, Confirmation(self.device.boots, 0))
        self._hear(rows)
        return True

    def _hear(self, rows: Confirmations) -> None:
        for receiver, boot, sender, *counts in rows.tolist():
            confirmation = Confirmation(boot, *counts)
            if sender != self.device.id and receiver != self.device.id:
                self._confirmed.know(receiver, sender, confirmation)
            elif sender == self.device.id and receiver in self.device.all_out_neighbors:
                known = self.boots.get(receiver, 0)
                if boot > known:
                    self._meet(receiver, boot)
                if boot >= known and receiver in self.owed and confirmation.number <= self.owed[receiver].top:
                    self.owed[receiver].confirm(confirmation.number, self.device.now)
                    marks = self.marks.get(receiver)
                    if marks is not None:
                        self.fates += [(receiver, *found) for found in marks.confirm(confirmation)]


def contraction(compressor: Compressor) -> Compressor:
    """Return the compressor; ValueError if it isn't a contraction, so that fed-back errors would grow."""
    if not compressor.contracts:
        raise ValueError(
            f'compressor "{compressor.kind}" with unbiased = true is no contraction: the error that it feeds back '
            "would grow from round to round; leave unbiased out"
        )
    return compressor


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
    return rows.ndim == 2 and rows.shape[1] == 6 and bool((rows >= 0).all())
