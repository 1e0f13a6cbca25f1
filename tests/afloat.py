"""What messages hold that nobody has added yet: in flight, or in an inbox."""

from __future__ import annotations

from typing import TypeVar

from p2pl_async.experiment.emulation import Emulation
from p2pl_async.messages import Message
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
