"""A witness of an emulation: every message that was sent, with its fate, and every message that was handed over."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

from p2pl_async.experiment.emulation import Emulation
from p2pl_async.messages import DeviceId, Message
from p2pl_async.trace import Record
from p2pl_async.transport.inbox import Inbox


class HandedOver(NamedTuple):
    """A message, whole or in part, that was handed to a device; of a repeated one, each copy."""

    at: float  # s, virtual
    src: DeviceId
    dst: DeviceId
    number: int  # the sender's count of its messages
    kind: str  # the message's tag


class Witness:
    """Watches an emulation that has not run yet; looks and changes nothing.

    Args:
        emulation: whose `witness` it becomes.
        again: runs the same emulation once more, from the beginning; None if nobody can.

    Attributes:
        records: every message on every link, with its fate, in the order of decisions.
        received: what was handed to devices, in order; not what link and wire lost.
    """

    def __init__(self, emulation: Emulation, again: Callable[[], Emulation] | None = None) -> None:
        self.records: list[Record] = []
        self.received: list[HandedOver] = []
        self.again = again
        self._clock = emulation.clock
        sink = emulation.trace.sink

        def keep(record: Record) -> None:
            self.records.append(record)
            if sink is not None:
                sink(record)

        emulation.trace.sink = keep
        for device in emulation.devices:
            inbox = emulation.transport.inbox(device.id)
            # In place of the method: a hook in every inbox would cost each message of each run.
            setattr(inbox, "put", functools.partial(self._put, inbox, device.id))  # noqa: B010
        emulation.witness = self

    def _put(self, inbox: Inbox, dst: DeviceId, message: Message) -> bool:
        self.received.append(HandedOver(self._clock.now, message.sender, dst, message.number, message.tag))
        return Inbox.put(inbox, message)
