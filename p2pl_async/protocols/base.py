"""What every protocol is: settings that a scenario fills in, and one coroutine per device."""

from __future__ import annotations

import abc
from typing import ClassVar

from p2pl_async.device import Device
from p2pl_async.settings import Settings


class Protocol(Settings, abc.ABC):
    """Base of protocols: fields are the keys of the scenario's `[protocol]` table.

    `run` is called once for each device; all of them share this one frozen object, so a
    device's state lives in local variables of `run`.
    """

    trains: ClassVar[bool] = True
    """Whether devices train; a protocol that sets this to False needs no data, and loads no torch."""

    kind: str

    @abc.abstractmethod
    async def run(self, device: Device) -> None:
        """Be this device: train, talk and mix until `device.running` is False."""
