"""What every protocol is: settings that a scenario fills in, one coroutine per device, and a delivery contract.

A contract says how a protocol means what it sends, and what becomes of it on links that do what
the contract doesn't allow:

    contract          payload                      loss        repeated    overtaken
    state             value and version            stale       harmless    harmless
    join              element of a semilattice     later       harmless    harmless
    cumulative mass   running sum and number       later       harmless    harmless
    increment         to be added once             breaks it   breaks it   harmless, as a rule
    request/reply     number of a transaction      retried     harmless    harmless

Source: `Contract.name` of each protocol is the row; what the table calls harmless holds by its tests.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from p2pl_async.basics.settings import Settings
from p2pl_async.device import Device

FAULTS = {
    "loss": "lose nothing",
    "duplication": "repeat nothing",
    "reordering": "keep the order",
    "one_way": "have a link back",
}
"""What links may do to a protocol -> what one that can't bear it needs of them."""


@dataclass(frozen=True, slots=True)
class Contract:
    """What a protocol needs of the links.

    For each fault that it can't bear, what will happen on links that have it, as a clause such
    as "the mass of a lost message is gone"; empty where the fault only delays or makes stale.
    """

    name: str
    loss: str = ""
    duplication: str = ""
    reordering: str = ""
    one_way: str = ""  # the topology has links without a link back
    repair: str = ""  # what to write instead, as a sentence's end: 'use protocol "rasgp"'

    def broken_by(self) -> Iterator[tuple[str, str]]:
        """Yield (fault, what it does) for each fault that the protocol can't bear."""
        for fault in FAULTS:
            consequence: str = getattr(self, fault)
            if consequence:
                yield fault, consequence

    def __str__(self) -> str:
        needs = [FAULTS[fault] for fault, _ in self.broken_by()]
        return f"{self.name}: needs links that {', '.join(needs)}" if needs else f"{self.name}: any links"


STATE = Contract("state")
JOIN = Contract("join")
CUMULATIVE = Contract("cumulative mass")
INCREMENT = Contract(
    "increment",
    loss="what is lost is gone for good",
    duplication="what arrives twice is added twice",
)
REQUEST_REPLY = Contract("request/reply", one_way="no answer can come back, and nobody is averaged with")


class Protocol(Settings, abc.ABC):
    """Base of protocols: fields are the keys of the scenario's `[protocol]` table.

    `run` is called once for each device; all of them share this one frozen object, so a
    device's state lives in local variables of `run`.
    """

    trains: ClassVar[bool] = True
    """Whether devices train; a protocol that sets this to False needs no data, and loads no torch."""

    kind: str

    @property
    def contract(self) -> Contract | None:
        """What it needs of the links, with these settings; None if nobody has said.

        A subclass overrides it with a property, or where settings don't matter with
        `contract: ClassVar[Contract] = STATE`.
        """
        return None

    @property
    def models_per_message(self) -> float | None:
        """Size of its largest message in models (parameters of the run's precision); None if nobody has said."""
        return None

    @property
    def warnings(self) -> Sequence[str]:
        """What the author of a scenario with these settings should know, whatever the links."""
        return ()

    @abc.abstractmethod
    async def run(self, device: Device) -> None:
        """Be this device: train, talk and mix until `device.running` is False."""
