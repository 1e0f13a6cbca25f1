"""Worlds with the protocols that ship with the package, each set up to bear what its world does to it."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from p2pl_async.basics.settings import kind_of
from p2pl_async.protocols import PROTOCOLS, Protocol
from p2pl_async.testing.chatter import Chatter
from p2pl_async.testing.random_world import RandomWorld
from p2pl_async.testing.strategies import worlds

_REGULAR = ("ring", "complete", "directed-ring", "exponential")
_LASTING = (*_REGULAR, "path", "star", "grid", "random-geometric", "erdos-renyi", "barabasi-albert")
TOPOLOGIES: dict[str, tuple[str, ...]] = {
    "fedavg": ("star", "complete"),  # its server needs a link to everybody
    "deepsqueeze": _REGULAR,  # as many neighbors for everyone
    "choco": _LASTING,
    "choco-sgp": _LASTING,
    "quantized-push-sum": _LASTING,
}
"""Protocol -> graphs that it is for, where not every one will do."""


def undaunted(cls: type[Protocol]) -> Protocol:
    """Return a protocol with settings under which no round waits for a lost message for ever."""
    contract = cls.model_validate({}).contract
    settings: dict[str, Any] = {}
    if contract is not None and contract.loss:
        if "delivery" in cls.model_fields:
            settings = {"delivery": "repaired", "mode": "fresh"}
        elif "timeout" in cls.model_fields:
            settings = {"timeout": "1 s"}
        elif "mode" in cls.model_fields:
            settings = {"mode": {"kind": "barrier", "timeout": "1 s"}}
    return cls.model_validate(settings)


@st.composite
def inhabited(draw: st.DrawFn) -> tuple[RandomWorld, Protocol]:
    """A world and a protocol that bears it: `Chatter` half of the time, else one of those that ship.

    Protocols whose mass is lost with a message live on links that lose nothing.
    """
    cls: type[Protocol] = Chatter if draw(st.booleans()) else draw(st.sampled_from(PROTOCOLS))
    protocol = undaunted(cls)
    contract = protocol.contract
    assert contract is not None
    how: dict[str, Any] = {}
    if kind_of(cls) in TOPOLOGIES:
        how["topologies"] = TOPOLOGIES[kind_of(cls)]
        how["airs"] = "path" in TOPOLOGIES[kind_of(cls)]
    world = worlds(
        protocol,
        loss=0.0 if contract.loss else 0.6,
        repeat=not contract.duplication,
        reorder=not contract.reordering,
        directed=not contract.one_way,
        **how,
    )
    return draw(world), protocol
