"""Worlds of accounts or trackers without an emulator: a test says what happens at each instant, and counts after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from helpers.sums import account_totals, tracked_total

from p2pl_async.messages import Message, Vector
from p2pl_async.protocols.running_sums import Account
from p2pl_async.protocols.silence import Silence
from p2pl_async.protocols.tracking import Tracker
from p2pl_async.transport.wire import decode, encode

PATIENCE = 6.0


class Stub:
    """As much of a device as an account or a tracker uses; what it sends is in flight in its world."""

    def __init__(self, world: World, id: int, neighbors: Sequence[int]) -> None:
        self.id, self.boots, self.round = id, 0, 0
        self.all_in_neighbors = self.all_out_neighbors = tuple(neighbors)
        self.in_neighbors = self.out_neighbors = tuple(neighbors)
        self.holds = None
        self.inbox: list[Any] = []
        self._world = world
        self._sent = 0

    @property
    def now(self) -> float:
        return self._world.now

    def steps_enter(self, factor: float) -> None:
        pass

    def mixed(self, weights: object) -> None:
        pass

    def used(self, messages: object) -> None:
        pass

    def record(self, metric: str, value: float) -> None:
        self._world.recorded(self.id, metric, value)

    def send(self, targets: Sequence[int], message: Message) -> None:
        data = encode(message, self.id, self._sent)
        self._sent += 1
        self._world.flight += [(self.id, target, data) for target in targets]


class World:
    """Devices with links both ways, and what is in flight on them.

    Attributes:
        up: device that is up -> what it has.
        flight: (source, destination, encoded message).
    """

    def __init__(self, neighbors: Sequence[Sequence[int]], random: np.random.Generator) -> None:
        self.now = 0.0
        self.random = random
        self.flight: list[tuple[int, int, bytes]] = []
        self.cut: set[tuple[int, int]] = set()
        self.devices: list[Any] = [Stub(self, k, others) for k, others in enumerate(neighbors)]
        self.up: dict[int, Any] = {}
        self.silence: dict[int, Silence] = {}
        for k in range(len(neighbors)):
            self.boot(k)

    def recorded(self, k: int, metric: str, value: float) -> None:
        """Take what a device measures."""

    def boot(self, k: int) -> None:
        self.silence[k] = Silence(self.devices[k], PATIENCE)

    def crash(self, k: int) -> None:
        del self.up[k]
        self.devices[k].boots += 1
        self.devices[k].inbox.clear()

    def heard(self, k: int) -> list[Any]:
        """Return what has come to a device, in order of sender, and empty its inbox."""
        device, found = self.devices[k], self.up[k]
        for message in device.inbox:
            assert found.fits(message)
            self.silence[k].hear(message.sender, message.round)
        heard = sorted(device.inbox, key=lambda message: (message.sender, message.number))
        device.inbox.clear()
        return heard

    def deliver(self, loss: float, repeat: float, wait: float) -> None:
        """Deliver messages in any order; some are lost, come twice, or stay in flight."""
        flight, self.flight = self.flight, []
        for index in self.random.permutation(len(flight)):
            src, dst, data = flight[index]
            if self.random.random() < wait:
                self.flight.append(flight[index])
            elif self.random.random() >= loss and (src, dst) not in self.cut and dst in self.up:
                self.devices[dst].inbox += [decode(data)] * (1 + int(self.random.random() < repeat))

    def storm(self, step: float = 1.0) -> None:
        """Let something happen: a crash, a restart, a partition, a heal, or a device's round; then messages arrive."""
        random, n = self.random, len(self.devices)
        self.now += random.exponential(1.0)
        k, what = int(random.integers(n)), random.random()
        if what < 0.02 and k in self.up:
            self.crash(k)
        elif what < 0.10 and k not in self.up:
            self.boot(k)
        elif what < 0.13:
            side = random.random(n) < 0.5
            both = random.random() < 0.6
            self.cut = {(i, j) for i in range(n) for j in range(n) if side[i] and not side[j]}
            self.cut |= {(j, i) for i, j in self.cut} if both else set()
        elif what < 0.2:
            self.cut = set()
        elif k in self.up:
            self.round(k, step)

    def calm(self) -> None:
        """End all crashes and partitions."""
        self.cut = set()
        for k in set(range(len(self.devices))) - self.up.keys():
            self.boot(k)

    def round(self, k: int, step: float = 1.0) -> None:
        """Train, push, and take what has come."""
        raise NotImplementedError


class MassWorld(World):
    """Devices that run running sums, and the mass that there should be.

    Attributes:
        up: device that is up -> its account.
        x, u: totals over the devices present, as they should be.
    """

    def __init__(self, neighbors: Sequence[Sequence[int]], random: np.random.Generator) -> None:
        super().__init__(neighbors, random)
        self.x, self.u = account_totals(self.up)

    def recorded(self, k: int, metric: str, value: float) -> None:
        if metric == "weight_renewed":
            self.added(value * self.up[k].z, value)

    def added(self, x: np.ndarray, u: float) -> None:
        self.x, self.u = self.x + x, self.u + u

    def boot(self, k: int) -> None:
        super().boot(k)
        self.up[k] = Account(self.devices[k], self.random.normal(size=3), self.silence[k])

    def round(self, k: int, step: float = 1.0) -> None:
        device, account = self.devices[k], self.up[k]
        new = account.z + step * self.random.normal(size=3)
        self.added(account.u * (new - account.z), 0.0)
        account.learn_and_push(device, new, account.z, account.u, 1e-3)
        account.take(device, self.heard(k))
        device.round += 1

    def crash(self, k: int) -> None:
        """Take a device down, with its mass, what it owes, and what it had taken and not confirmed."""
        super().crash(k)
        # What it has sent is lost with it: otherwise its mass would go down bit by bit, as those messages arrive.
        self.flight = [message for message in self.flight if message[0] != k]
        for device in self.devices:
            device.inbox = [sums for sums in device.inbox if sums.sender != k]
        self.x, self.u = account_totals(self.up)

    def check(self) -> None:
        """Compare the mass that there is with the mass that there should be."""
        if self.up:
            x, u = account_totals(self.up)
            np.testing.assert_allclose(x, self.x, atol=1e-9)
            np.testing.assert_allclose(u, self.u, atol=1e-9)
            assert all(account.u >= 0 for account in self.up.values())


class TrackerWorld(World):
    """Devices that track the sum of their gradients, which change by chance.

    Attributes:
        up: device that is up -> its tracker.
        gradients: device -> its latest gradient.
    """

    def __init__(self, neighbors: Sequence[Sequence[int]], random: np.random.Generator, dtype: type) -> None:
        self._dtype = dtype
        self.gradients: dict[int, np.ndarray] = {}
        super().__init__(neighbors, random)

    def boot(self, k: int) -> None:
        super().boot(k)
        self.gradients[k] = self.random.normal(size=3).astype(self._dtype)
        self.up[k] = Tracker(self.devices[k], self.gradients[k], self.silence[k])

    def round(self, k: int, step: float = 1.0) -> None:
        new: Vector = (self.gradients[k] + step * self.random.normal(size=3)).astype(self._dtype)
        self.up[k].take_and_push(self.heard(k), new)
        self.gradients[k] = new
        self.devices[k].round += 1

    def check(self) -> None:
        """Compare the sum of trackers with the sum of the gradients of those present."""
        if self.up:
            wanted = np.sum([self.gradients[k] for k in self.up], axis=0, dtype=float)
            np.testing.assert_allclose(tracked_total(self.up), wanted, atol=1e-9)
