"""From a scenario to the objects of its runs: neighbors, links, events, devices, and the data each device holds."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from p2pl_async.air import SensedMedium, SharedMedium
from p2pl_async.air.air import Air
from p2pl_async.air.airs import AnyAir, SeveralAirs
from p2pl_async.air.hearing import GraphHearing, Hearing, PowerHearing
from p2pl_async.clock import VirtualClock
from p2pl_async.hardware.downtime import Downtime, Presence, watches
from p2pl_async.hardware.meter import Meter
from p2pl_async.link import Link
from p2pl_async.link.switching import UpIntervals
from p2pl_async.messages import DeviceId
from p2pl_async.radio import Propagation
from p2pl_async.scenario.building.airs import Airs, PlacedAir
from p2pl_async.scenario.building.contracts import warn_of_contract
from p2pl_async.scenario.building.device_conditions import DeviceConditions
from p2pl_async.scenario.building.event_warnings import (
    warn_of_energy,
    warn_of_late_events,
    warn_of_radio,
    warn_of_unequal_data,
    warn_of_workers,
)
from p2pl_async.scenario.building.layout import Direct, lay_out
from p2pl_async.scenario.building.link_table import LinkTable
from p2pl_async.scenario.building.sleepers import warn_of_sleepers
from p2pl_async.scenario.building.ways import warn_of_ways
from p2pl_async.scenario.events_in_order import EventsInOrder
from p2pl_async.scenario.scenario import Scenario
from p2pl_async.topology.base import neighbors, warn_cut_off
from p2pl_async.topology.contacts import Contacts
from p2pl_async.topology.from_file import RecordedLinks
from p2pl_async.topology.neighborhood import Neighborhood
from p2pl_async.transport.relaying import Relaying

if TYPE_CHECKING:
    import networkx as nx

    from p2pl_async.learning.data import Dataset

Now = Callable[[DeviceId, float], Sequence[DeviceId]]


@dataclass(frozen=True)
class World:
    """Everything of a scenario that is drawn or loaded once and shared by its runs.

    Attributes:
        scenario: all else follows from it.
        graph: nodes 0 to n - 1, an edge j -> k where k can hear j.
        out_neighbors: for each device, those that can ever hear it, in order of id.
        neighborhood: the neighbors at each instant; None where they never change.
        direct: the links that messages go over.
        links: settings of every link.
        events: scripted events in order, and their effect on links.
        conditions: the devices' hardware, and when they are down.
        airs: what links go over, "main" first.
        dataset: training and test data; None for a protocol that never trains.
        parts: for each device, its rows of the training data.
        warnings: sentences that the scenario's author should read before trusting the run.
    """

    scenario: Scenario
    graph: nx.DiGraph[int]
    out_neighbors: list[list[DeviceId]]
    neighborhood: Neighborhood | None
    direct: Direct
    links: LinkTable
    events: EventsInOrder
    conditions: DeviceConditions
    airs: Airs
    dataset: Dataset | None
    parts: list[NDArray[np.int64]]
    warnings: list[str]

    @property
    def propagation(self) -> Propagation | None:
        """Powers and error rates of `[radio]`; None without."""
        return self.airs.built[0].propagation

    def make_link(self, src: DeviceId, dst: DeviceId, downtimes: Sequence[Downtime] | None = None) -> Link:
        """Return a new link with its own random streams.

        Args:
            src: the device that sends.
            dst: the device that hears it.
            downtimes: for each device of the run, when it is down.
        """
        down: list[tuple[str, Callable[[], Any]]] = (
            [] if downtimes is None else [*watches(downtimes[src], downtimes[dst])]
        )
        changes = self.events.changes(src, dst)
        down += watches(self.events.down(src, dst))
        contacts, topology = self.direct.neighborhood, self.direct.topology
        if isinstance(contacts, Contacts) and isinstance(topology, RecordedLinks):
            changes = self.links.changes(src, dst, contacts.settings_changes(src, dst), topology.path.parent)
            down.append(("outage", lambda: UpIntervals(contacts.contacts(src, dst), None)))
        air = self.airs.of(src, dst)
        radio = None if air.propagation is None else air.propagation.link(src, dst)
        settings = self.links.settings(src, dst)
        return Link(src, dst, settings, self.scenario.seed, changes=changes, down=down, radio=radio)

    def make_air(
        self,
        clock: VirtualClock,
        round_of: Callable[[DeviceId], int],
        back: Callable[[DeviceId, DeviceId], Link],
        meter: Meter | None = None,
        downtimes: Sequence[Downtime] | None = None,
    ) -> AnyAir:
        """Return the medium that the devices share, or all of them; only where they share one.

        Args:
            clock: its calendar takes the medium's events.
            round_of: returns the number of rounds that a device has finished.
            back: returns the link from one device to another.
            meter: takes the intervals in which each radio sends and receives.
            downtimes: for each device of the run, when it is down.
        """
        found = [
            self._one_air(air, clock, round_of, back, meter, downtimes) if air.medium.shared else None
            for air in self.airs.built
        ]
        if len(found) == 1:
            assert found[0] is not None
            return found[0]
        return SeveralAirs(found, lambda src, dst: self.airs.of(src, dst).number)

    def _one_air(
        self,
        air: PlacedAir,
        clock: VirtualClock,
        round_of: Callable[[DeviceId], int],
        back: Callable[[DeviceId, DeviceId], Link],
        meter: Meter | None,
        downtimes: Sequence[Downtime] | None,
    ) -> Air:
        medium, n = air.medium, self.scenario.devices.count
        assert isinstance(medium, SharedMedium)
        members = self.airs.of_devices.members(air.number) if self.airs.of_devices.several else None
        hearing: Hearing = self._hearing(round_of, members)
        if air.propagation is not None and isinstance(medium, SensedMedium) and medium.sense is not None:
            hearing = PowerHearing(air.propagation, medium.sense, members)
        return Air(
            medium, clock, n, hearing, air.seed,
            back=back,
            propagation=air.propagation,
            on_transmit=None if meter is None else _on(meter.transmitting, air.number),
            on_receive=None if meter is None else _on(meter.receiving, air.number),
            presence=None if downtimes is None else Presence(downtimes),
            own_channels=self.own_channels(air),
            number=air.number,
        )  # fmt: skip

    def own_channels(self, air: PlacedAir) -> list[int] | None:
        """Return the channel that each device's radio listens on, with hopping its offset; None: there is one."""
        devices, channels = self.scenario.devices, getattr(air.medium, "channels", None)
        return None if channels is None else devices.channels(air.name, channels.owned(devices.count, air.seed))

    def relaying(self) -> Relaying | None:
        """Return how devices pass messages on; None where they don't."""
        relay, direct = self.scenario.relay, self.direct
        if relay is None:
            return None
        routes = relay.routes(direct.out_neighbors, direct.now(lambda device: 0))
        return Relaying(direct.out_neighbors, routes, relay.header)

    def _hearing(self, round_of: Callable[[DeviceId], int], members: frozenset[DeviceId] | None) -> GraphHearing:
        """Return who hears whom at each instant, by the links that there are and that no event has cut.

        `members`: the devices that have the radio; None: all.
        """
        out_neighbors, now = self.direct.out_neighbors, self.direct.now(round_of)
        if members is not None:
            out_neighbors, now = _among(members, out_neighbors, now)
        if not self.events.cut_links:
            return GraphHearing(out_neighbors, now)
        down = functools.cache(self.events.down)
        return GraphHearing(out_neighbors, now, lambda src, dst, at: down(src, dst).at(at).value != "")


def _on(bill: Callable[..., None], air: int) -> Callable[..., None]:
    """Return a method of the meter for the radios of an air."""
    return functools.partial(bill, air=air) if air else bill


def _among(
    members: frozenset[DeviceId], out_neighbors: list[list[DeviceId]], now: Now | None
) -> tuple[list[list[DeviceId]], Now | None]:
    """Return neighbors without the devices that are not among some."""
    near = [[dst for dst in neighbors if dst in members] for neighbors in out_neighbors]
    if now is None:
        return near, None
    return near, lambda device, at: tuple(dst for dst in now(device, at) if dst in members)


def build_world(scenario: Scenario, *, learns: bool = True, origins: Mapping[str, str] | None = None) -> World:
    """Return the world of a scenario.

    Args:
        scenario: a valid scenario.
        learns: whether its data is loaded.
        origins: key path -> who set it, for `LinkTable.explain`.

    Raises:
        ScenarioError: if the topology, data or partition can't be made.
    """
    n, seed = scenario.devices.count, scenario.seed
    links = LinkTable(scenario, origins)
    events = EventsInOrder(scenario.devices, links.matches, scenario.event)
    layout = lay_out(scenario, events)
    conditions = DeviceConditions(scenario, events, layout.direct.graph, links)
    dataset, parts = None, []
    if learns and scenario.protocol.trains and scenario.data is not None:
        dataset = scenario.data.load(seed)
        parts = scenario.data.split(dataset, n, seed)
    warnings = [
        *warn_of_late_events(scenario.event, scenario.stop.virtual_time),
        *warn_of_energy(scenario, measured=conditions.measures_energy),
        *warn_cut_off(layout.graph),
        *warn_of_contract(scenario, layout.graph, links, layout.direct.graph),
        *warn_of_sleepers(scenario, layout.direct.graph, links),
        *warn_of_ways(scenario, layout.graph, layout.direct),
        *warn_of_radio(scenario),
        *(warn_of_workers(scenario.train.workers) if scenario.train.on == "local" else ()),
        *(warn_of_unequal_data(scenario.devices.computes(), list(map(len, parts))) if parts else ()),
    ]
    return World(
        scenario,
        layout.graph,
        neighbors(layout.graph).outgoing,
        layout.neighborhood,
        layout.direct,
        links,
        events,
        conditions,
        layout.airs,
        dataset,
        list(parts),
        warnings,
    )
