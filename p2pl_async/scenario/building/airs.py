"""The airs of a scenario at the places of its devices: what each link goes over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2pl_async.air import Medium
from p2pl_async.basics.randomness import stream
from p2pl_async.radio import Propagation, Transceivers
from p2pl_async.scenario.airs import MAIN, AirRadio, AirsOfDevices, RadioTableSettings
from p2pl_async.scenario.building.places import place_devices
from p2pl_async.scenario.events_in_order import EventsInOrder
from p2pl_async.scenario.scenario import Scenario
from p2pl_async.scenario.selector import select
from p2pl_async.scenario.tables import DeviceSettings

if TYPE_CHECKING:
    import networkx as nx


@dataclass(frozen=True)
class PlacedAir:
    """One of the airs of a scenario.

    Attributes:
        name: "main", or that of `[air.NAME]`.
        number: its place among all.
        medium: how devices share it.
        propagation: powers and error rates; None without a radio.
        seed: of all that is drawn for it.
    """

    name: str
    number: int
    medium: Medium
    propagation: Propagation | None
    seed: int


@dataclass(frozen=True)
class Airs:
    """The airs of a scenario, and the one of each link.

    Attributes:
        of_devices: which devices are on which.
        built: "main", then the others.
    """

    of_devices: AirsOfDevices
    built: Sequence[PlacedAir]

    @property
    def shared(self) -> bool:
        """Whether devices share any of them."""
        return any(air.medium.shared for air in self.built)

    def of(self, src: int, dst: int) -> PlacedAir:
        """Return the air of the link from `src` to `dst`; "main" if they have none in common."""
        return self.built[self.of_devices.between(src, dst) or 0]

    def linked(self, graph: nx.DiGraph[int]) -> nx.DiGraph[int]:
        """Return a graph without the links between devices that have no air in common."""
        if not self.of_devices.several:
            return graph
        result: nx.DiGraph[int] = graph.copy()
        result.remove_edges_from([edge for edge in graph.edges if self.of_devices.between(*edge) is None])
        return result


def make_airs(scenario: Scenario, graph: nx.DiGraph[int], events: EventsInOrder | None = None) -> Airs:
    """Return the airs of a scenario; powers and error rates of those with radios are between the same places.

    Args:
        scenario: a valid one.
        graph: its topology, with the attribute "pos" of devices that have a place there.
        events: those that move devices; None: no event moves any.

    Raises:
        ScenarioError: if a device has no place, or a trace can't be used.
    """
    of_devices = AirsOfDevices(scenario.devices, scenario.air)
    motion = None
    if scenario.radio is not None:
        motion = place_devices(scenario, graph)
        if events is not None and events.events:
            motion = events.moved(motion)
    built = []
    parts = [(scenario.medium, scenario.radio), *((air.medium, air.radio) for air in scenario.air.values())]
    for number, (name, (medium, radio)) in enumerate(zip(of_devices.names, parts, strict=True)):
        seed = seed_of_air(scenario.seed, name)
        waves = None
        if radio is not None:
            assert motion is not None
            waves = Propagation(radio, motion, seed, _transceivers(radio, scenario.devices))
        built.append(PlacedAir(name, number, medium, waves, seed))
    return Airs(of_devices, built)


def seed_of_air(seed: int, name: str) -> int:
    """Return the seed of what is drawn for the radios of an air, so that a device's radios draw apart."""
    return seed if name == MAIN else int(stream(seed, f"air {name}").integers(2**32))


def _transceivers(radio: RadioTableSettings | AirRadio, devices: DeviceSettings) -> Transceivers:
    """Return the power, noise figure and antenna gain of each device, overrides applied."""
    n = devices.count
    result = Transceivers.alike(radio, n)
    groups = devices.groups()
    for override in radio.override:
        ids = sorted(select(override.devices, n, groups))
        for name in ("power", "noise_figure", "antenna_gain"):
            value = getattr(override, name)
            if value is not None:
                getattr(result, name)[ids] = value
    return result
