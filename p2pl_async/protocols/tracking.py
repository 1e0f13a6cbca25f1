"""Trackers without a push weight: running sums that are taken back whole, in both directions, when a neighbor is gone.

A device's tracker y is its own gradient, plus what it took from neighbors, less what it promised to them:

    y_i = g_i + sum_j (taken_ij - promised_ij)

Both terms are running sums, as in `running_sums`: a later message makes up for a lost one, and a repeated or
overtaken one has nothing new. The tracker is added up from them in each round, so no rounding error stays in it, and
what is replaced or undone takes no pass of its own. Sums grow with time, so they are float64 also where gradients
are not; what rounding leaves out of a share stays with its sender. There is no weight by which to divide, so part of
the sum must not stay behind when a device goes: each end of a link to it undoes all that ever went over the link,
both ways, and

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
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from p2pl_async.basics.arrays import Floats
from p2pl_async.messages import DeviceId, Message, Vector
from p2pl_async.protocols.mixing import FEW, blocks, is_count, is_finite
from p2pl_async.protocols.silence import Silence

if TYPE_CHECKING:
    from p2pl_async.device import Device


@dataclass(frozen=True, slots=True)
class Tracked(Message, tag="tracked"):
    """The sum of all that the sender has promised to receivers that were promised the same."""

    round: int
    boot: int  # how often the sender has restarted
    y: Floats  # (n_params,), or (0,) if it has promised nothing
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
        apart: whether both are added up in each round, as those of present neighbors are; else they are in the rest.
        number: of the newest message heard from it.
        heard: 1 + its newest round heard in this incarnation.
        told: 1 + the newest round told to it in this incarnation.
        confirmed: 1 + the newest round that it has confirmed.
        since: the instant since which nothing was confirmed; inf if nothing waits for it.
    """

    __slots__ = (
        "apart", "boot", "confirmed", "heard", "incarnation", "number", "open", "promised", "since", "taken", "told"
    )  # fmt: skip

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
        self.apart = True
        self.promised: Floats | None = None
        self.taken: Floats | None = None
        self.heard = self.told = self.confirmed = 0
        self.since = math.inf


class Tracker:
    """A device's tracker of the gradients of all.

    Args:
        device: the device; one that has restarted begins with its own gradient, as one that has met nobody.
        g: its gradient, (n_params,).
        silence: for how long neighbors may be silent.

    Attributes:
        direction: y before the latest shares of it were promised: an estimate of the mean gradient, (n_params,),
            read-only, in the dtype of gradients.
        flows: neighbor -> this device's end of the link.
    """

    def __init__(self, device: Device, g: Vector, silence: Silence) -> None:
        self.direction = g
        self.flows: dict[DeviceId, Flow] = {}
        self.boot = device.boots
        self._g = g
        self._rest: Floats | None = None  # taken, less promised, over links that aren't apart, or that ended
        self._device = device
        self._silence = silence
        self._two_way = frozenset(device.all_in_neighbors) & frozenset(device.all_out_neighbors)

    @property
    def y(self) -> Floats:
        """What the device holds of the sum, a new array, (n_params,): as exact as the sums that it is of."""
        y = self._g.astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            if self._rest is not None:
                y += self._rest
            for _, flow in sorted(self.flows.items()):
                if flow.apart:
                    y += 0.0 if flow.taken is None else flow.taken
                    y -= 0.0 if flow.promised is None else flow.promised
        return y

    def hears(self, j: DeviceId) -> bool:
        """Tell whether neighbor j is there, and hears this device as far as a link allows to know."""
        return not self._silence.has(j) and (j not in self._two_way or self._flow(j).open)

    def fits(self, message: Tracked) -> bool:
        """Tell whether a message can be taken, judging by shapes, dtypes and numbers."""
        y = message.y
        return (
            y.dtype == np.float64
            and y.shape in (self._g.shape, (0,))
            and is_count(message.boot)
            and entry_for(self._device.id, message.links) is not None
        )

    def take_and_push(self, messages: Sequence[Tracked], g: Vector) -> None:
        """Take what is new in the sums that neighbors sent, and promise a share of the tracker to every out-neighbor.

        Links to neighbors that are gone are undone before.

        Args:
            messages: in the order in which they were sent, as far as they are from one sender.
            g: this device's gradient, which replaces the one before, (n_params,).
        """
        device = self._device
        self._g = g
        self._set_apart({*device.in_neighbors, *device.out_neighbors, *(message.sender for message in messages)})
        taken: dict[DeviceId, tuple[Tracked, Floats | None]] = {}  # by sender: with what was taken before
        for message in messages:
            self._take(message, taken)
        for j, flow in sorted(self.flows.items()):
            if flow.open and self._silence.is_over(j, flow.since):
                self._undo(flow)
                taken.pop(j, None)
                flow.next(flow.incarnation + 1)
                device.record("links_undone", 1)
        groups: dict[tuple[bool, int], list[DeviceId]] = {}
        for j in device.out_neighbors:
            flow = self._flow(j)
            groups.setdefault((flow.open, id(flow.promised)), []).append(j)
        # Links that were always promised the same share one sum, which is added up, and encoded, once.
        pushed = [group for (is_open, _), group in groups.items() if is_open]
        sums, finite = self._add_up(pushed)
        if not finite and not self._is_sound(self.y):
            self._refuse(taken)
            sums, _ = self._add_up(pushed)
        device.used(message for message, _ in taken.values())
        for group, promised in zip(pushed, sums, strict=True):
            for j in group:
                self.flows[j].promised = promised
        for group in sorted(groups.values()):
            self._send(group, self.flows[group[0]].promised)

    def _add_up(self, pushed: Sequence[Sequence[DeviceId]]) -> tuple[list[Floats], bool]:
        """Add the tracker up in one pass, which gives the direction, and the sums promised to each group with a share.

        Returns:
            The sums, new and read-only, and whether the tracker is surely finite in the dtype of gradients.
        """
        apart = [flow for _, flow in sorted(self.flows.items()) if flow.apart]
        promised = {id(flow.promised): flow.promised for flow in apart if flow.promised is not None}
        counts = Counter(id(flow.promised) for flow in apart)
        terms: list[Floats] = [] if self._rest is None else [self._rest]
        terms += [flow.taken for flow in apart if flow.taken is not None]
        before = [self.flows[group[0]].promised for group in pushed]
        share = 1 / (1 + sum(map(len, pushed)))
        direction = np.empty_like(self._g)
        sums = [np.empty(self._g.size) for _ in pushed]
        added, product = np.empty((2, min(FEW, self._g.size)))
        squares = 0.0
        with np.errstate(over="ignore", invalid="ignore"):
            for block in blocks(self._g.size, FEW):
                g = self._g[block]
                y = added[: g.size]
                y[:] = g
                for i, one in promised.items():
                    y -= np.multiply(one[block], counts[i], out=product[: y.size])
                for one in terms:
                    y += one[block]
                direction[block] = y
                squares += float(np.dot(y, y))  # no entry is larger than the root of the sum of squares
                promise = np.multiply(y, share, out=product[: y.size])
                for former, after in zip(before, sums, strict=True):
                    np.add(promise, 0 if former is None else former[block], out=after[block])
        for array in (direction, *sums):
            array.flags.writeable = False  # so that stepping along it, and sending it, needs no copy
        self.direction = direction
        return sums, math.sqrt(squares) < float(np.finfo(direction.dtype).max)

    def _send(self, group: Sequence[DeviceId], promised: Floats | None) -> None:
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
            if restarted and flow.taken is not None:  # what came from its former life stays
                if flow.apart:
                    self._keep(flow.taken, 1.0)
                flow.taken = None
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

    def _take(self, message: Tracked, taken: dict[DeviceId, tuple[Tracked, Floats | None]]) -> None:
        """Settle what a message says of its link; if its sum is new, put it in place of the one taken before."""
        j = message.sender
        flow = self._flow(j)
        link = flow.boot, flow.incarnation
        agrees = self._agrees(message)
        if (flow.boot, flow.incarnation) != link:
            taken.pop(j, None)
        if not agrees or message.number <= flow.number:
            return
        flow.number = message.number
        if not message.y.size:
            return
        if flow.taken is None and j not in self._two_way and self.boot > 0:
            # A restarted device takes nothing of what it was promised before, which nobody told to void.
            flow.taken = message.y if self._keep(message.y, -1.0) else None
        else:
            taken[j] = message, taken[j][1] if j in taken else flow.taken
            flow.taken = message.y

    def _refuse(self, taken: dict[DeviceId, tuple[Tracked, Floats | None]]) -> None:
        """Leave out those of the sums just taken with which the tracker isn't finite in the dtype of gradients."""
        for j, (_, before) in taken.items():
            self.flows[j].taken = before
        for j, (message, before) in list(taken.items()):
            self.flows[j].taken = message.y
            if not self._is_sound(self.y):
                self.flows[j].taken = before
                del taken[j]
                self._device.record("refused", 1)

    def _is_sound(self, y: Vector) -> bool:
        with np.errstate(over="ignore", invalid="ignore"):
            return is_finite(y.astype(self._g.dtype))

    def _undo(self, flow: Flow) -> None:
        """Undo all that went over a link, as this end knows it; the caller begins another incarnation."""
        if not flow.apart:
            self._move(flow, -1.0)

    def _set_apart(self, present: Collection[DeviceId]) -> None:
        """Add up the sums of present neighbors in each round, and those of others once."""
        for j, flow in sorted(self.flows.items()):
            if flow.apart != (j in present):
                self._move(flow, 1.0 if flow.apart else -1.0)
                flow.apart = not flow.apart

    def _move(self, flow: Flow, sign: float) -> None:
        """Move what went over a link into the rest, or out of it."""
        if flow.taken is not None:
            self._keep(flow.taken, sign)
        if flow.promised is not None:
            self._keep(flow.promised, -sign)

    def _keep(self, y: Vector, sign: float) -> bool:
        """Add a sum to the rest; return whether it could be added."""
        if not self._is_sound(y):
            self._device.record("refused", 1)
            return False
        if self._rest is None:
            self._rest = np.zeros(y.shape, np.float64)
        self._rest += sign * y
        return True

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
