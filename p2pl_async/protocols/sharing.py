"""Plain push-sum: a device shares its mass with its neighbors, and takes back what those that are gone never had.

A push counts once, when it comes, and links that lose it take its mass along. Devices that leave, return, or
can't be heard are no such losses. Where there is a link back, each push says which rounds of its receivers the sender
has heard, the first and the newest, so a device knows what is still open:

    too much      nothing more is pushed to a neighbor while as many pushes as `WINDOW` are open
    silence       a neighbor has confirmed nothing for longer than the patience: open pushes are taken back, and no
                  more follow until it confirms something
    return        a neighbor that has restarted names the first round since: pushes before that one are taken back, and
                  it takes none of them that come later
    restart       a device that has crashed begins without mass and takes what neighbors push; if none of them
                  does within the patience, it begins with its first weight again

Nothing is settled afterwards: what a neighbor had, and could not confirm, counts twice. `running_sums` can do that too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from p2pl_async.messages import DeviceId, Vector
from p2pl_async.protocols.listening import Barrier, Fresh
from p2pl_async.protocols.mixing import is_finite
from p2pl_async.protocols.pushing import Mass, Push, ReceivedPushes
from p2pl_async.protocols.silence import Silence

if TYPE_CHECKING:
    from p2pl_async.device import Device

WINDOW = 4
"""Pushes to one neighbor that may be open."""


class Shares:
    """One device's mass, and what it pushes to neighbors and hears from them.

    Args:
        device: the device.
        z: its first model, (n_params,).
        patience: how long a neighbor may be silent, in seconds.
        tracker: pushed beside the numerator, (n_params,); none by default.
        overlap: how many rounds late pushes may come, which stay open for longer.

    Attributes:
        z: the model, read-only.
        mass: what this device holds.
        received: pushes not added yet.
    """

    def __init__(
        self, device: Device, z: Vector, patience: float, *, tracker: Vector | None = None, overlap: int = 0
    ) -> None:
        joins = device.boots > 0  # and so has restarted
        x = np.zeros_like(z) if joins else z.copy()
        self.mass = Mass(x if tracker is None else np.stack([x, tracker]), 0.0 if joins else 1.0)
        self.z = z
        self.silence = Silence(device, patience)
        self.received = ReceivedPushes(device, Push, self._usable, self.silence)
        self._device = device
        self._begun = device.now
        self._window = WINDOW + overlap
        self._open: dict[DeviceId, list[tuple[float, Push]]] = {}  # pushes not confirmed, and when they were sent
        self._heard: dict[DeviceId, tuple[int, int]] = {}  # the first and the newest round
        self._closed: dict[DeviceId, int] = {}  # neighbors that get nothing until they confirm this round
        self._returned: list[Push] = []
        device.state = self.mass, self.received
        device.holds = lambda: self.mass.u

    def learn_and_push(self, new: Vector, scale: Literal["one", "u"]) -> None:
        """Add a local step to the numerator, x <- x + scale (new - z), then `push`; one without mass only moves."""
        if self.mass.u == 0:
            self.z = new
            self.push()
        else:
            factor = self.mass.u if scale == "u" else self.mass.left
            self._device.steps_enter(factor)
            self._push(lambda shares: self.mass.learn_and_split(new, self.z, shares, factor))

    def push(self) -> None:
        """Split the mass, keep one share, and push one to every out-neighbor that may get one."""
        self._push(self.mass.split)

    def _push(self, split: Callable[[int], None]) -> None:
        device, mass = self._device, self.mass
        self.received.drain()  # for what it confirms
        targets = [j for j in device.out_neighbors if self._takes(j)] if mass.u > 0 else []
        if mass.u > 0:
            split(1 + len(targets))
        rows = np.array([(j, *rounds) for j, rounds in sorted(self._heard.items())], np.int64)
        rows.flags.writeable = False  # so that sending it, and the numerator beside it, needs no copy
        heard = rows.reshape(-1, 3)
        push = Push(device.round, mass.u, mass.x, mass.born, heard)
        device.send(targets, push)
        for j in targets:
            if j in device.all_in_neighbors:
                self._open.setdefault(j, []).append((device.now, push))
        others = [j for j in device.out_neighbors if j not in targets]
        device.send(others, Push(device.round, 0.0, mass.x[..., :0], 0.0, heard))

    def _takes(self, j: DeviceId) -> bool:
        return not self.silence.has(j) and j not in self._closed and len(self._open.get(j, ())) < self._window

    async def absorb(self, mode: Barrier | Fresh) -> Vector:
        """Listen, add what has come, and return the new model: x / u, or the first row of x divided by u.

        Records how many were added and how old they were, and the push weight.

        Raises:
            ProtocolError: if u is too small to divide by.
        """
        return self._add(await self.received.listen(mode))

    async def absorb_late(self, seconds: float | None, overlap: int) -> Vector:
        """Do as `absorb`, but wait only for pushes of `overlap` rounds ago, at most for so long."""
        return self._add(await self.received.wait(seconds, overlap))

    def _add(self, pushes: Sequence[Push]) -> Vector:
        device, mass = self._device, self.mass
        pushes = [push for push in pushes if push.u > 0 and (mass.u > 0 or is_finite(push.x))]
        self._take_back()
        if pushes or self._returned or mass.u > 0:
            self.z, bad = mass.add([*pushes, *self._returned])
            for _ in bad:
                device.record("refused", 1)
            refused = set(map(id, bad))
            added = [push for push in pushes if id(push) not in refused]
            device.mixed((push.sender, push.u / mass.u) for push in added)
            device.used(added)
        elif self.silence.is_over(None, self._begun):
            mass.x, mass.u = mass.x.copy(), 1.0  # nobody is there
            mass.x.reshape(-1, self.z.size)[0] = self.z
            device.record("weight_renewed", mass.u)
        self._returned = []
        device.record("push_weight", mass.u)
        device.record_mix({push.sender: push for push in pushes})
        return self.z

    def _take_back(self) -> None:
        """Take back what neighbors don't confirm for longer than the patience."""
        for j, pushes in sorted(self._open.items()):
            if pushes and self.silence.is_over(j, pushes[0][0]):
                self._return(push for _, push in pushes)
                pushes.clear()
                self._closed[j] = self._device.round

    def _return(self, pushes: Iterable[Push]) -> None:
        for push in pushes:
            self._returned.append(push)
            self._device.record("weight_taken_back", push.u)

    def _usable(self, push: Push) -> bool:
        if not self.mass.fits(push):
            return False
        j = push.sender
        first, newest = self._heard.get(j, (push.round if self._device.boots else 0, push.round))
        self._heard[j] = first, max(newest, push.round)
        for since, until in push.heard[push.heard[:, 0] == self._device.id, 1:].tolist():
            pushes = self._open.get(j, [])
            self._return(push for _, push in pushes if push.round < since)
            self._open[j] = [(at, push) for at, push in pushes if push.round > until]
            if until >= self._closed.get(j, 0):
                self._closed.pop(j, None)
        return push.round >= first  # an earlier one, overtaken by the first since a restart, is taken back
