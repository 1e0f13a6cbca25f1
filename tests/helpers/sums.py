"""What messages hold that nobody has added yet: in flight, or in an inbox."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from p2pl_async.experiment.emulation import Emulation
from p2pl_async.messages import Message
from p2pl_async.protocols.pushing import Push
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
    return sum(holder.x for holder in holders), sum(holder.u for holder in holders)


def owed_totals(emulation: Emulation) -> tuple[np.ndarray, float]:
    """Return the sums of x and u over devices, and over links what is owed: promised and not yet credited."""
    accounts = {device.id: device.state[0] for device in emulation.devices}
    x = sum(account.x for account in accounts.values())
    u = sum(account.u for account in accounts.values())
    for i, account in accounts.items():
        for j, promised in account.promised.items():
            credited = accounts[j].credited.get(i)
            x = x + promised.x - (0 if credited is None else credited.x)
            u += promised.u - (0 if credited is None else credited.u)
    return x, u
