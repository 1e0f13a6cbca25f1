"""From a scenario to the objects of a run: who can hear whom, what links do, who holds what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from p2pl_async.air import SensedMedium, SharedMedium
from p2pl_async.air.air import Air
from p2pl_async.air.hearing import GraphHearing, Hearing, PowerHearing
from p2pl_async.clock import VirtualClock
from p2pl_async.device import Neighborhood
from p2pl_async.hardware.downtime import Downtime, watches
from p2pl_async.hardware.energy import Meter
from p2pl_async.link import Link
from p2pl_async.link.timeline import Plan as UpIn
from p2pl_async.messages import DeviceId
from p2pl_async.radio import Propagation
from p2pl_async.scenario.building import contracts
from p2pl_async.scenario.building.layout import lay_out
from p2pl_async.scenario.building.link_table import LinkTable
from p2pl_async.scenario.building.warnings import energy_warnings, late, radio_warnings
from p2pl_async.scenario.events_in_order import Timetable
from p2pl_async.scenario.scenario import Scenario
from p2pl_async.topology.base import neighbors, problems
from p2pl_async.topology.contacts import Contacts
from p2pl_async.topology.from_file import LinkTrace

if TYPE_CHECKING:
    import networkx as nx

    from p2pl_async.learning.data import Dataset


@dataclass(frozen=True)
class World:
    """Everything of a scenario that is drawn or loaded once and shared by its runs.

    Attributes:
        scenario: where it all comes from.
        graph: nodes 0 to n - 1, an edge j -> k where k can hear j.
        out_neighbors: for each device, who can ever hear it, in order of id.
        neighborhood: who can hear whom when; None where that never changes.
        links: settings of every link.
        timetable: what scripted events make of links.
        propagation: what the radios make of the places; None without `[radio]`.
        dataset: training and test data; None for a protocol that never trains.
        parts: for each device, its rows of the training data.
        warnings: what the scenario's author should know before trusting the run.
    """

    scenario: Scenario
    graph: nx.DiGraph[int]
    out_neighbors: list[list[DeviceId]]
    neighborhood: Neighborhood | None
    links: LinkTable
    timetable: Timetable
    propagation: Propagation | None
    dataset: Dataset | None
    parts: list[NDArray[np.int64]]
    warnings: list[str]

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
        changes = self.timetable.changes(src, dst)
        down += watches(self.timetable.down(src, dst))
        contacts, topology = self.neighborhood, self.scenario.topology
        if isinstance(contacts, Contacts) and isinstance(topology, LinkTrace):
            changes = self.links.changes(src, dst, contacts.settings_changes(src, dst), topology.path.parent)
            down.append(("outage", lambda: UpIn(contacts.contacts(src, dst), None)))
        radio = None if self.propagation is None else self.propagation.link(src, dst)
        settings = self.links.settings(src, dst)
        return Link(src, dst, settings, self.scenario.seed, changes=changes, down=down, radio=radio)

    def make_air(
        self, clock: VirtualClock, back: Callable[[DeviceId, DeviceId], Link], meter: Meter | None = None
    ) -> Air:
        """Return the medium that the devices share; only where they share one.

        Args:
            clock: whose calendar it uses.
            back: finds the link from one device to another.
            meter: takes what each radio does.
        """
        medium, n = self.scenario.medium, self.scenario.devices.count
        assert isinstance(medium, SharedMedium)
        waves = self.propagation
        hearing: Hearing = GraphHearing(self.out_neighbors)
        if waves is not None and isinstance(medium, SensedMedium) and medium.sense is not None:
            hearing = PowerHearing(waves, medium.sense)
        return Air(
            medium, clock, n, hearing, self.scenario.seed,
            back=back,
            propagation=waves,
            on_transmit=None if meter is None else meter.transmitting,
            on_receive=None if meter is None else meter.receiving,
        )  # fmt: skip


def build_world(scenario: Scenario, *, learns: bool = True) -> World:
    """Return the world of a scenario; without `learns`, without its data.

    Raises:
        ScenarioError: if the topology, data or partition can't be made.
    """
    n, seed = scenario.devices.count, scenario.seed
    layout = lay_out(scenario)
    dataset, parts = None, []
    if learns and scenario.protocol.trains and scenario.data is not None:
        dataset = scenario.data.load(seed)
        parts = scenario.data.split(dataset, n, seed)
    links = LinkTable(scenario)
    warnings = [
        *late(scenario.event, scenario.stop.virtual_time),
        *energy_warnings(scenario),
        *problems(layout.graph),
        *contracts.warnings(scenario, layout.graph, links),
        *radio_warnings(scenario),
    ]
    return World(
        scenario,
        layout.graph,
        neighbors(layout.graph).outgoing,
        layout.neighborhood,
        links,
        Timetable(scenario.devices, scenario.link, scenario.event),
        layout.propagation,
        dataset,
        list(parts),
        warnings,
    )
