"""Trackers without a push weight: running sums that are taken back whole, in both directions, when a neighbor is gone.

A device's tracker y is its own gradient, plus what it took from neighbors, less what it promised to them:

    y_i = g_i + sum_j (taken_ij - promised_ij)

Both terms are running sums, as in `running_sums`: a later message makes up for a lost one, and a repeated or
overtaken one has nothing new. There is no weight by which to divide, so part of the sum must not stay
behind when a device goes: each end of a link to it undoes all that ever went over the link, both ways, and

    sum_i y_i, with what is owed, = sum_i g_i    over the devices present, at all times

exactly as if the two had never met. Links have incarnations, as both ends must agree on what is undone:

    silence   a neighbor has confirmed nothing for longer than the patience: undo, begin the next incarnation, and
              promise nothing until the neighbor confirms a message of it
    a later incarnation is heard, or a restart    undo; earlier messages are void

So a neighbor that can't hear is promised nothing, a partition leaves two sums that are right on either side, and
after it heals both ends begin anew with what they have. On links without a link back departures can't be seen.

Source: running sums by C. N. Hadjicostis, N. H. Vaidya, A. D. Dominguez-Garcia, IEEE TAC 2016; undoing flows as in
"flow updating" by P. Jesus, C. Baquero, P. S. Almeida, DAIS 2009. Incarnations and the combination are ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from p2pl_async.messages import DeviceId, Message, Vector
from p2pl_async.protocols.mixing import blocks, is_count, is_finite, is_like
from p2pl_async.protocols.silence import Silence

if TYPE_CHECKING:
    from p2pl_async.device import Device

Sum = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Tracked(Message, tag="tracked"):
    """The sum of all that the sender has promised to receivers that were promised the same."""

    round: int
    boot: int  # how often the sender has restarted
    y: Sum  # (n_params,), or (0,) if it has promised nothing
    links: NDArray[np.int64]  # (number of receivers, 4): an `Entry` for each


class Entry(NamedTuple):
    """What a message says about the link to one receiver."""

    receiver: DeviceId
    boot: int  # of the receiver, as the sender knows it
    incarnation: int
    confirmed: int  # 1 + the newest round heard from the receiver in this incarnation; 0 if none


class Flow:
    """One end of a link: what went over it, in both directions.

    Attributes:
        boot: how often the neighbor has restarted, as far as known.
        incarnation: of the link.
        open: whether more may be promised.
        promised: the sum promised to the neighbor; None if nothing was.
        taken: the sum taken from it; None if nothing was.
        number: of the newest message heard from it.
        heard: 1 + its newest round heard in this incarnation.
        told: 1 + the newest round told to it in this incarnation.
        confirmed: 1 + the newest round that it has confirmed.
        since: the instant since which nothing was confirmed; inf if nothing waits for it.
    """

    __slots__ = ("boot", "confirmed", "heard", "incarnation", "number", "open", "promised", "since", "taken", "told")

    def __init__(self, *, is_open: bool) -> None:
        self.boot = self.incarnation = 0
        self.number = -1
        self.open = is_open
        self._begin()

    def next(self, incarnation: int) -> None:
        """Begin another incarnation; the caller has undone the sums."""
        self.incarnation, self.open = incarnation, False
        self._begin()

    def _begin(self) -> None:
        self.promised: Sum | None = None
        self.taken: Sum | None = None
        self.heard = self.told = self.confirmed = 0
        self.since = math.inf


class Tracker:
    """A device's tracker of the gradients of all.

    Args:
        device: the device; one that has restarted begins with its own gradient, as one that has met nobody.
        g: its gradient, (n_params,).
        silence: for how long neighbors may be silent.

    Attributes:
        y: what the device holds of the sum, (n_params,), float64.
        direction: y before the latest shares of it were promised: an estimate of the mean gradient, (n_params,),
            read-only, in the dtype of gradients.
        flows: neighbor -> this device's end of the link.
    """

    def __init__(self, device: Device, g: Vector, silence: Silence) -> None:
        self.y: Sum = g.astype(np.float64)
        self.direction = g
        self.flows: dict[DeviceId, Flow] = {}
        self.boot = device.boots
        self._device = device
        self._silence = silence
        self._two_way = frozenset(device.all_in_neighbors) & frozenset(device.all_out_neighbors)

    def hears(self, j: DeviceId) -> bool:
        """Tell whether neighbor j is there, and hears this device as far as a link allows to know."""
        return not self._silence.has(j) and (j not in self._two_way or self._flow(j).open)

    def fits(self, message: Tracked) -> bool:
        """Tell whether a message can be taken, judging by shapes, dtypes and numbers."""
        y = message.y
        return (
            (is_like(y, self.y) or (y.shape == (0,) and y.dtype == self.y.dtype))
            and is_count(message.boot)
            and entry_for(self._device.id, message.links) is not None
        )

    def take(self, messages: Sequence[Tracked]) -> None:
        """Take what is new in the sums that neighbors sent, and undo links to neighbors that are gone."""
        if len({message.sender for message in messages}) == len(messages):  # all of them in one pass
            self._take([message for message in messages if self._agrees(message)])
        else:  # a later one may undo what an earlier one of its sender did
            for message in messages:
                if self._agrees(message):
                    self._take([message])
        for j, flow in sorted(self.flows.items()):
            if flow.open and self._silence.is_over(j, flow.since):
                self._undo(flow)
                flow.next(flow.incarnation + 1)
                self._device.record("links_undone", 1)

    def learn_and_push(self, new: Vector, old: Vector) -> None:
        """Add the change of this device's gradient, y <- y + new - old, and promise a share to every out-neighbor."""
        device = self._device
        groups: dict[tuple[bool, int], list[DeviceId]] = {}
        for j in device.out_neighbors:
            flow = self._flow(j)
            groups.setdefault((flow.open, id(flow.promised)), []).append(j)
        shares = 1 + sum(len(group) for (is_open, _), group in groups.items() if is_open)
        direction = np.empty_like(new)
        for block in blocks(self.y.size):
            y = self.y[block]
            y += new[block]
            y -= old[block]
            direction[block] = y
            y *= 1 / shares
        direction.flags.writeable = False  # so that stepping along it needs no copy
        self.direction = direction
        # Links that were always promised the same share one sum, which is added up, and encoded, once.
        for (is_open, _), group in sorted(groups.items(), key=lambda item: item[1]):
            before = self.flows[group[0]].promised
            promised = before
            if is_open:
                promised = self.y.copy() if before is None else before + self.y
                promised.flags.writeable = False
            for j in group:
                self.flows[j].promised = promised
            self._send(group, promised)

    def _send(self, group: Sequence[DeviceId], promised: Sum | None) -> None:
        device, told = self._device, self._device.round + 1
        rows = [Entry(j, flow.boot, flow.incarnation, flow.heard) for j in group for flow in (self.flows[j],)]
        links = np.array(rows, np.int64)
        links.flags.writeable = False
        device.send(group, Tracked(device.round, self.boot, np.empty(0) if promised is None else promised, links))
        for j in group:
            flow = self.flows[j]
            flow.told = told
            if j in self._two_way and flow.since == math.inf:
                flow.since = device.now

    def _agrees(self, message: Tracked) -> bool:
        """Settle incarnations with the sender; tell whether its sum belongs to the present one."""
        j, entry = message.sender, entry_for(self._device.id, message.links)
        flow = self._flow(j)
        if entry is None or message.boot < flow.boot:
            return False
        restarted = message.boot > flow.boot
        flow.boot = message.boot
        if j not in self._two_way:
            if restarted:
                flow.taken = None  # what came from its former life stays
            return True
        if restarted:
            self._undo(flow)
            flow.next(0)
        if entry.boot != self.boot:
            return False  # it speaks to a former life of this device
        if entry.incarnation > flow.incarnation:
            self._undo(flow)
            flow.next(entry.incarnation)
        if entry.incarnation < flow.incarnation:
            return False
        flow.heard = max(flow.heard, message.round + 1)
        if flow.confirmed < entry.confirmed <= flow.told:
            flow.confirmed, flow.open = entry.confirmed, True
            flow.since = math.inf if entry.confirmed == flow.told else self._device.now
        return True

    def _take(self, messages: Sequence[Tracked]) -> None:
        """Add what is new in sums of different senders; refuse those that make the tracker overflow."""
        if len(messages) > 1 and self._take_all(messages):
            return
        for message in messages:
            if not self._take_all([message]):
                self._device.record("refused", 1)

    def _take_all(self, messages: Sequence[Tracked]) -> bool:
        """Add what is new in sums, at most one message of each sender; return whether the tracker stays finite.

        If it would not, none is added.
        """
        new = [message for message in messages if message.number > self.flows[message.sender].number]
        changes: list[tuple[Sum, Sum | None]] = []
        used: list[Tracked] = []
        for message in new:
            flow = self.flows[message.sender]
            # A restarted device takes nothing of what it was promised before, which nobody told to void.
            first = flow.taken is None and message.sender not in self._two_way and self.boot > 0
            if message.y.size and not first:
                changes.append((message.y, flow.taken))
                used.append(message)
        y = self._changed(changes) if changes else self.y
        if y is None and len(messages) > 1:
            return False  # the caller finds out which
        for message in new:
            flow = self.flows[message.sender]
            flow.number = message.number
            if y is not None and message.y.size:
                flow.taken = message.y
        if y is None:
            return False
        self.y = y
        self._device.used(used)
        return True

    def _changed(self, changes: Sequence[tuple[Sum, Sum | None]]) -> Sum | None:
        """Return y with one sum after another in place of a former one; None if it may not be finite in between.

        Finite is what is finite in the dtype of gradients; of one sum alone it is known whether it is.
        """
        y, squares = np.empty_like(self.y), 0.0
        with np.errstate(over="ignore", invalid="ignore"):
            for block in blocks(y.size):
                part = y[block]
                part[:] = self.y[block]
                for taken, before in changes:
                    part += taken[block]
                    if before is not None:
                        part -= before[block]
                    squares += float(np.dot(part, part))  # no entry is larger than the root of the sum of squares
            dtype = self.direction.dtype
            if math.sqrt(squares) < np.finfo(dtype).max or (len(changes) == 1 and is_finite(y.astype(dtype))):
                return y
        return None

    def _undo(self, flow: Flow) -> None:
        """Undo all that went over a link, as this end knows it."""
        if flow.promised is not None:
            self.y += flow.promised
        if flow.taken is not None:
            self.y -= flow.taken

    def _flow(self, j: DeviceId) -> Flow:
        # After a restart nothing is promised to a neighbor before it is known to hear this device.
        flow = self.flows.get(j)
        if flow is None:
            flow = self.flows[j] = Flow(is_open=self.boot == 0 or j not in self._two_way)
        return flow


def entry_for(device: DeviceId, links: NDArray[np.int64]) -> Entry | None:
    """Return the entry for a receiver, or None if there is none that makes sense."""
    if links.ndim != 2 or links.shape[1] != len(Entry._fields):
        return None
    rows = links[links[:, 0] == device]
    if len(rows) != 1:
        return None
    entry = Entry(*rows[0].tolist())
    return entry if is_count(*entry) else None
