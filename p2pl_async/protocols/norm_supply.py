"""Models in the max-norm synchronization: sent to neighbors that ask, and pushed to those that can't.

A neighbor is sent one model for each key, and again only when the first should have arrived. A neighbor that asks
again may have been asleep: what is repeated comes at a random instant within the longest pause seen, since a radio
that sleeps when an answer comes at once sleeps each time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from p2pl_async.messages import DeviceId
from p2pl_async.protocols.norm_keys import Key, NormKey, NormModel
from p2pl_async.protocols.norm_neighbors import NormNeighbors

if TYPE_CHECKING:
    from p2pl_async.device import Device

_LONGEST_PAUSE = 16.0  # beacons between two models sent unasked
_EARLY = 1e-6  # s; a device's own clock may end a pause a little too soon


class Supply:
    """What one device sends, and to whom its radio is still sending.

    Args:
        device: the device.
        neighbors: what it knows of its neighbors.
        beacon: mean time between two beacons, in seconds.
        model: returns its model, with its key, as it is now.

    Attributes:
        one_way: neighbors that can't ask.
        next_push: when they are sent a model next, in virtual seconds.
    """

    def __init__(self, device: Device, neighbors: NormNeighbors, beacon: float, model: Callable[[], NormModel]) -> None:
        hears = frozenset(device.all_in_neighbors)
        self.one_way = [j for j in device.all_out_neighbors if j not in hears]
        self.next_push = device.now + beacon if self.one_way else math.inf
        self._device = device
        self._neighbors = neighbors
        self._beacon = beacon
        self._model = model
        self._given: dict[DeviceId, float] = {}  # when something was sent to each last
        self._served: dict[DeviceId, tuple[Key, float]] = {}  # which key's model went where, and when it had left
        self._serving: set[DeviceId] = set()  # to whom one is on the air
        self._due: set[DeviceId] = set()  # to whom one is about to be sent
        self._pushes = 0  # models sent unasked since the key changed
        self._pushed = -math.inf  # when the latest was sent
        self._on_air = 0.0  # s; how long one has been seen to take

    def tell(self, beacon: NormKey) -> None:
        """Broadcast a beacon, but to neighbors that the radio is still busy with."""
        device = self._device
        targets = device.out_neighbors if device.roams else device.all_out_neighbors
        idle = [j for j in targets if self.is_idle(j)]
        device.send(idle, beacon)
        self._given.update(dict.fromkeys(idle, device.now))

    def is_idle(self, target: DeviceId) -> bool:
        """Tell whether the radio has nothing to send to a neighbor; note when a model has left."""
        now = self._device.now
        if self._device.is_sending(target):
            self._neighbors.busy = max(self._neighbors.busy, now - self._given.get(target, now))
            return False
        if target in self._serving:
            self._serving.remove(target)
            self._served[target] = (self._served[target][0], now)
        return True

    def serve(self, target: DeviceId, key: Key) -> None:
        """Send the model, of this key, to a neighbor that asks for it, unless one may still be on its way there."""
        self.is_idle(target)
        if target in self._serving or target in self._due:
            return
        sent, at = self._served.get(target, (None, -math.inf))
        if sent != key:
            self._send(target, key)
        elif self._device.now - at > 2 * self._neighbors.delay + 2 * self._beacon:
            self._repeat(target, key)

    def _repeat(self, target: DeviceId, key: Key) -> None:
        if not self._neighbors.asleep:
            self._send(target, key)
            return

        def send() -> None:
            self._due.remove(target)
            if self.is_idle(target):
                self._send(target, key)

        self._due.add(target)
        self._device.later(float(self._device.random.uniform(0.0, self._neighbors.asleep)), send)

    def _send(self, target: DeviceId, key: Key) -> None:
        now = self._device.now
        self._device.send(target, self._model())
        self._served[target] = (key, now)
        self._given[target] = now
        self._serving.add(target)

    # Unasked

    def changed(self) -> None:
        """Begin anew to push, as the key has grown."""
        self._pushes = 0
        if self.one_way:
            self.next_push = self._device.now

    def is_due(self) -> bool:
        """Tell whether it is time to push."""
        return self._device.now + _EARLY >= self.next_push

    def push(self, *, wait: bool = False) -> None:
        """Send the model to neighbors that can't ask; the pause until the next time doubles.

        Args:
            wait: for a larger model, of which the device has heard.
        """
        device, now = self._device, self._device.now
        idle = [j for j in self.one_way if not device.is_sending(j)]
        if self._pushes and len(idle) < len(self.one_way):
            self._on_air = max(self._on_air, now - self._pushed)
        if not idle or wait:
            self.next_push = now + self._beacon * float(device.random.uniform(0.5, 1.0))
            return
        device.send(idle, self._model())
        self._given.update(dict.fromkeys(idle, now))
        self._pushed = now
        self._pushes += 1
        pause = min(2.0**self._pushes, _LONGEST_PAUSE) * max(self._beacon, self._on_air)
        self.next_push = now + pause * float(device.random.uniform(0.75, 1.25))
