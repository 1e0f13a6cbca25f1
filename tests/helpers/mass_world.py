"""A world of accounts without an emulator: a test says what happens at each instant, and counts the mass after it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from helpers.sums import account_totals

from p2pl_async.messages import Message
from p2pl_async.protocols.pushing import Silence
from p2pl_async.protocols.running_sums import Account, Sums
from p2pl_async.transport.wire import decode, encode

PATIENCE = 6.0


class Stub:
    """As much of a device as an account uses; what it sends is in flight in its world."""

    def __init__(self, world: MassWorld, id: int, neighbors: Sequence[int]) -> None:
        self.id, self.boots, self.round = id, 0, 0
        self.all_in_neighbors = self.in_neighbors = self.out_neighbors = tuple(neighbors)
        self.holds = None
        self.inbox: list[Sums] = []
        self._world = world
        self._sent = 0

    @property
    def now(self) -> float:
        return self._world.now

    def record(self, metric: str, value: float) -> None:
        if metric == "weight_renewed":
            account = self._world.accounts[self.id]
            self._world.added(value * account.z, value)

    def send(self, targets: Sequence[int], message: Message) -> None:
        data = encode(message, self.id, self._sent)
        self._sent += 1
        self._world.flight += [(self.id, target, data) for target in targets]


class MassWorld:
    """Devices that run running sums, and the mass that there should be.

    Attributes:
        accounts: device that is up -> its account.
        flight: (source, destination, encoded message).
        x, u: totals over the devices present, as they should be.
    """

    def __init__(self, neighbors: Sequence[Sequence[int]], random: np.random.Generator) -> None:
        self.now = 0.0
        self.random = random
        self.flight: list[tuple[int, int, bytes]] = []
        self.cut: set[tuple[int, int]] = set()
        self.devices = [Stub(self, k, others) for k, others in enumerate(neighbors)]
        self.accounts: dict[int, Account] = {}
        self._silence: dict[int, Silence] = {}
        for k in range(len(neighbors)):
            self.boot(k)
        self.x, self.u = account_totals(self.accounts)

    def added(self, x: np.ndarray, u: float) -> None:
        self.x, self.u = self.x + x, self.u + u

    def boot(self, k: int) -> None:
        device, w = self.devices[k], self.random.normal(size=3)
        self._silence[k] = Silence(device, PATIENCE)  # type: ignore[arg-type]
        self.accounts[k] = Account(device, w, self._silence[k])  # type: ignore[arg-type]

    def round(self, k: int, step: float = 1.0) -> None:
        """Train, push, and take what has come."""
        device, account = self.devices[k], self.accounts[k]
        new = account.z + step * self.random.normal(size=3)
        self.added(account.u * (new - account.z), 0.0)
        account.learn_and_push(device, new, account.z, account.u, 1e-3)  # type: ignore[arg-type]
        for sums in device.inbox:
            assert account.fits(sums)
            self._silence[k].hear(sums.sender, sums.round)
        account.take(device, sorted(device.inbox, key=lambda sums: (sums.sender, sums.number)))  # type: ignore[arg-type]
        device.inbox.clear()
        device.round += 1

    def deliver(self, loss: float, repeat: float, wait: float) -> None:
        """Deliver messages in any order; some are lost, come twice, or stay in flight."""
        flight, self.flight = self.flight, []
        for index in self.random.permutation(len(flight)):
            src, dst, data = flight[index]
            if self.random.random() < wait:
                self.flight.append(flight[index])
            elif self.random.random() >= loss and (src, dst) not in self.cut and dst in self.accounts:
                message = decode(data)
                assert isinstance(message, Sums)
                self.devices[dst].inbox += [message] * (1 + int(self.random.random() < repeat))

    def crash(self, k: int) -> None:
        """Take a device down, with its mass, what it owes, and what it had taken and not confirmed."""
        del self.accounts[k]
        self.devices[k].boots += 1
        self.devices[k].inbox.clear()
        # What it has sent is lost with it: otherwise its mass would go down bit by bit, as those messages arrive.
        self.flight = [message for message in self.flight if message[0] != k]
        self.devices[k].inbox.clear()
        for device in self.devices:
            device.inbox = [sums for sums in device.inbox if sums.sender != k]
        self.x, self.u = account_totals(self.accounts)

    def check(self) -> None:
        """Compare the mass that there is with the mass that there should be."""
        if self.accounts:
            x, u = account_totals(self.accounts)
            np.testing.assert_allclose(x, self.x, atol=1e-9)
            np.testing.assert_allclose(u, self.u, atol=1e-9)
            assert all(account.u >= 0 for account in self.accounts.values())
