"""The base of every protocol: settings from the scenario, one coroutine per device, and a delivery contract.

A contract says what a message means, and so what loss, repetition and reordering do to the protocol:

    contract          payload                      loss        repeated    overtaken
    state             value and version            stale       harmless    harmless
    join              element of a semilattice     later       harmless    harmless
    cumulative mass   running sum and number       later       harmless    harmless
    increment         to be added once             breaks it   breaks it   harmless, as a rule
    request/reply     number of a transaction      retried     harmless    harmless

Each protocol names its row in `Contract.name`; tests hold it to what the table calls harmless.
"""

from __future__ import annotations

import abc
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, PositiveFloat

from p2pl_async.basics.settings import Settings
from p2pl_async.errors import ProtocolError

if TYPE_CHECKING:
    from p2pl_async.device import Device

FAULTS = {
    "loss": "lose nothing",
    "duplication": "repeat nothing",
    "reordering": "keep the order",
    "one_way": "have a link back",
}
"""Fault -> what a protocol that doesn't tolerate it requires of links."""


@dataclass(frozen=True, slots=True)
class Contract:
    """What a protocol requires of the links.

    Each fault that the protocol doesn't tolerate has its consequence, as a clause such as "the mass of a
    lost message is gone"; a fault that only delays or makes stale has none.
    """

    name: str
    loss: str = ""
    duplication: str = ""
    reordering: str = ""
    one_way: str = ""  # the topology has links without a link back
    repair: str = ""  # what to write instead, as the end of a sentence: 'use protocol "rasgp"'
    departures: str = ""  # devices crash or leave
    one_way_departures: str = ""  # devices crash or leave, and links to them have no link back
    deaf: str = ""  # a device can send, and hears nobody; with what to use instead

    def broken_by(self) -> Iterator[tuple[str, str]]:
        """Yield (fault, consequence) for each fault that the protocol doesn't tolerate."""
        for fault in FAULTS:
            consequence: str = getattr(self, fault)
            if consequence:
                yield fault, consequence

    def __str__(self) -> str:
        needs = [FAULTS[fault] for fault, _ in self.broken_by()]
        return f"{self.name}: needs links that {', '.join(needs)}" if needs else f"{self.name}: any links"


STATE = Contract(
    "state",
    deaf="others average a model that never averages theirs, and are drawn to it; "
    'use protocol "p2pl-push" or "rasgp", which give and take in pairs',
)
AVERAGED = replace(
    STATE,
    deaf="once they have heard nobody for a minute and ten rounds they say so, and the others leave their models out; "
    "those without a link to them can't tell, and are drawn to them",
)
JOIN = Contract("join")
CUMULATIVE = Contract(
    "cumulative mass",
    one_way_departures="what is pushed over a link without a link back to a device that is gone is never taken back: "
    "push weights drain, and devices whose weight falls below the least one share no more",
)
INCREMENT = Contract(
    "increment",
    loss="a lost message is never made up for",
    duplication="a message that arrives twice is added twice",
)
REQUEST_REPLY = Contract("request/reply", one_way="answers can't return, so no pair is ever averaged")


class Protocol(Settings, abc.ABC):
    """Base of protocols: fields are the keys of the scenario's `[protocol]` table.

    `run` is called once per device. All devices share this one frozen object, so a device's
    state lives in local variables of `run`.
    """

    trains: ClassVar[bool] = True
    """Whether devices train; a protocol that sets this to False needs no data, and loads no torch."""

    uses_momentum: ClassVar[bool] = True
    """Whether local steps are those of `device.train`; a protocol that takes gradients only sets this to False."""

    kind: str = ""
    """The name in the scenario; of a class that a scenario names by its file, that is "file.py:Class"."""

    largest: PositiveFloat | None = Field(
        default=None,
        description="Largest entry, up or down, of a model that is taken from a neighbor; one with a larger entry is "
        "refused. By default every finite one is taken",
    )

    def __init_subclass__(cls, **how: Any) -> None:
        super().__init_subclass__(**how)
        run = cls.__dict__.get("run")
        if run is not None and not inspect.iscoroutinefunction(run):
            raise ProtocolError(f"{cls.__name__}.run must be a coroutine; write async def run(self, device)")

    @property
    def contract(self) -> Contract | None:
        """What the protocol requires of the links, with these settings; None if not stated.

        A subclass overrides it with a property, or, if settings don't matter, with
        `contract: ClassVar[Contract] = STATE`.
        """
        return None

    @property
    def averages(self) -> bool:
        """Whether each local step enters the device's model whole, and all weights of mixes are told to `device.mixed`.

        How much the devices' samples count in a run can then be computed from its weights and steps.
        """
        return False

    @property
    def models_per_message(self) -> float | None:
        """Size of the largest message in models (parameters of the run's precision); None if not stated."""
        return None

    @property
    def warnings(self) -> Sequence[str]:
        """Warnings about these settings, whatever the links."""
        return ()

    @abc.abstractmethod
    async def run(self, device: Device) -> None:
        """Run the protocol on one device: train, send and mix until `device.running` is False."""
