"""What messages hold that nobody has added yet: in flight, or in an inbox."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

import numpy as np

from p2pl_async.experiment.emulation import Emulation
from p2pl_async.messages import Message
from p2pl_async.protocols.pushing import Push
from p2pl_async.protocols.running_sums import Account
from p2pl_async.protocols.settling import Promised, Promises
from p2pl_async.transport.wire import decode

M = TypeVar("M", bound=Message)


def afloat(emulation: Emulation, kind: type[M]) -> list[M]:
    """Return every message of a type that is on its way or unread, once per receiver."""
    frames = [what[1] for *_, call, what in emulation.clock.calendar if "arrive" in call.__name__]
    messages: list[Message] = [decode(frame.data, frame.sent) for frame in frames]
    for device in emulation.devices:
        inbox = emulation.transport.inbox(device.id)
        while (message := inbox.take_nowait()) is not None:
            messages.append(message)
    return [message for message in messages if isinstance(message, kind)]


def totals(emulation: Emulation) -> tuple[np.ndarray, float]:
    """Return the sums of x and u over devices and all that is on its way to one."""
    states = [device.state for device in emulation.devices if device.state is not None]
    holders = [mass for mass, _ in states] + [push for _, received in states for push in received.pending]
    holders += afloat(emulation, Push)
    holders = [holder for holder in holders if holder.x.size]  # others say only what was heard
    return sum(holder.x for holder in holders), sum(holder.u for holder in holders)


def owed_totals(emulation: Emulation) -> tuple[np.ndarray, float]:
    """Return the sums of x and u over the devices present, with what they owe each other."""
    return account_totals({device.id: device.state[0] for device in emulation.devices if device.state is not None})


def account_totals(accounts: Mapping[int, Account]) -> tuple[np.ndarray, float]:
    """Return the sums of x and u over accounts, and over links between them what is owed and what isn't settled yet."""
    x = np.sum([account.x - account.debt.x for account in accounts.values()], axis=0)
    u = sum(account.u - account.debt.u for account in accounts.values())
    for i, account in accounts.items():
        for j, promises in account.promised.items():
            for sums, sign in owed(promises, account, accounts.get(j), i, j):
                x, u = x + sign * sums.x, u + sign * sums.u
    return x, u


def owed(
    promises: Promises, sender: Account, receiver: Account | None, i: int, j: int
) -> Iterator[tuple[Promised, float]]:
    """Yield the sums, with signs, that device i still has to give to device j or to get back."""
    if receiver is None or sender.boots.get(j, 0) != receiver.boot:
        yield promises.newest, 1.0  # i takes this back as soon as it knows, except for what was confirmed
        yield promises.sums[promises.confirmed], -1.0
        return
    yield promises.newest, 1.0
    if receiver.boots.get(i, 0) != sender.boot:
        return  # j has taken nothing from this life of i
    credit = receiver.credited.get(i)
    final = 0 if credit is None else credit.count
    if credit is not None and credit.incarnation == promises.incarnation:
        yield credit.sums, -1.0
        final = credit.final
    for sums, sign in promises.unsettled(final):
        yield sums, -sign
