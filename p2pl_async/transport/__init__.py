"""How messages travel: the contract of a transport, and the emulated one.

A transport carries a message from one device to others and puts it into their inboxes.
Devices see only this contract, so the same protocol runs on any transport.
"""

from __future__ import annotations

import typing
from collections.abc import Awaitable, Callable, Sequence

from p2pl_async.messages import DeviceId, Message
from p2pl_async.transport.inbox import Inbox


class Transport(typing.Protocol):
    """What a device needs to communicate: an inbox, and a way to send."""

    def inbox(self, device: DeviceId) -> Inbox:
        """Return the inbox of a device."""

    def send(self, source: DeviceId, targets: Sequence[DeviceId], message: Message) -> None:
        """Encode the message once and send it to each target; returns at once."""

    def schedule(self, source: DeviceId, at: float, call: Callable[[object], object]) -> None:
        """Have `call(None)` run at the instant `at`, unless the device crashes before."""

    def sleep_until(self, device: DeviceId, at: float) -> Awaitable[None]:
        """Wait until the instant `at`, in a task of a device."""

    def is_sending(self, source: DeviceId, target: DeviceId) -> bool:
        """Tell whether the source's radio is still busy with messages for the target."""


__all__ = ["Inbox", "Transport"]
