"""Whether a scenario's links keep the delivery contract of its protocol, and the consequences where they don't."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from p2pl_async.air.settings import Contended
from p2pl_async.link import LinkSettings
from p2pl_async.link.latency import Constant
from p2pl_async.link.loss.independent import Bernoulli, NoLoss
from p2pl_async.link.outage import NoOutage
from p2pl_async.protocols.base import FAULTS, Contract
from p2pl_async.scenario.building.link_table import LinkTable
from p2pl_async.scenario.events import Crash, LinkDown, NetworkSplit, Ramp, Set
from p2pl_async.scenario.scenario import Scenario
from p2pl_async.topology.from_file import RecordedLinks

if TYPE_CHECKING:
    import networkx as nx


def warn_of_contract(
    scenario: Scenario, learning: nx.DiGraph[int], links: LinkTable, direct: nx.DiGraph[int] | None = None
) -> list[str]:
    """Return the protocol's own warnings, and a sentence for each fault of the links that its contract doesn't allow.

    Args:
        scenario: with the protocol, and with churn, radios, events and batteries, which may lose messages too.
        learning: who is ever whose neighbor.
        links: settings of the links.
        direct: every link that messages ever go over; those to neighbors by default.
    """
    protocol, graph = scenario.protocol, learning if direct is None else direct
    contract = protocol.contract
    if contract is None:
        return list(protocol.warnings)
    by_settings = Counter(id(links.settings(src, dst)) for src, dst in graph.edges)
    shared = {id(settings): settings for settings in (links.settings(src, dst) for src, dst in graph.edges)}
    having: Counter[str] = Counter()
    for key, count in by_settings.items():
        having.update(dict.fromkeys(faults(shared[key]), count))
    if loses_anyway(scenario):
        having["loss"] = graph.number_of_edges()
    having["one_way"] = sum(not learning.has_edge(dst, src) for src, dst in learning.edges)
    return (
        [*protocol.warnings]
        + [
            f'protocol "{protocol.kind}" needs links that {FAULTS[fault]}, and {having[fault]} of '
            f"{graph.number_of_edges()} may not: {consequence}" + (f"; {contract.repair}" if contract.repair else "")
            for fault, consequence in contract.broken_by()
            if having[fault]
        ]
        + _warn_of_absence(scenario, contract, graph, links)
    )


def _warn_of_absence(scenario: Scenario, contract: Contract, graph: nx.DiGraph[int], links: LinkTable) -> list[str]:
    """Return what becomes of the others where devices leave, can't hear, or can't be heard."""
    found = []
    if contract.departures and _devices_leave(scenario):
        found.append(f'devices may crash or leave: with protocol "{scenario.protocol.kind}" {contract.departures}')
    one_way = sum(not graph.has_edge(dst, src) for src, dst in graph.edges)
    if contract.one_way_departures and one_way and _devices_leave(scenario):
        found.append(
            f"devices may crash or leave, and {one_way} of {graph.number_of_edges()} links have no link back: "
            f'with protocol "{scenario.protocol.kind}" {contract.one_way_departures}'
        )
    silent = {(src, dst) for src, dst in graph.edges if loses_all(links.settings(src, dst))}
    deaf = [k for k in graph if graph.in_degree(k) and all(link in silent for link in graph.in_edges(k))]
    mute = [k for k in graph if graph.out_degree(k) and all(link in silent for link in graph.out_edges(k))]
    if deaf_only := [k for k in deaf if k not in mute]:
        then = contract.deaf or "they learn alone, and the others as if they weren't there"
        found.append(f"{_named(deaf_only)} can't hear, as all links to them lose everything: {then}")
    if mute:
        found.append(
            f"{_named(mute)} can't be heard, as all links from them lose everything: nobody learns from their data"
        )
    return found


def _named(devices: list[int]) -> str:
    shown = ", ".join(map(str, devices[:5])) + (", ..." if len(devices) > 5 else "")
    return f"devices {shown}" if len(devices) > 1 else f"device {shown}"


def loses_anyway(scenario: Scenario) -> bool:
    """Tell whether messages may be lost on perfect links too: to noise, collisions, or devices that are down."""
    return (
        scenario.radio is not None
        or scenario.relay is not None
        or any(isinstance(medium, Contended) for medium in scenario.media)
        or isinstance(scenario.topology, RecordedLinks)
        or _devices_leave(scenario)
        or any(group.join is not None for group in scenario.devices.group.values())
        or scenario.devices.join is not None
        or any(isinstance(event, LinkDown | NetworkSplit | Set | Ramp) for event in scenario.event)
    )


def _devices_leave(scenario: Scenario) -> bool:
    """Tell whether devices may crash, leave, or run out of energy."""
    groups = scenario.devices.group.values()
    energies = [scenario.energy, *(group.energy for group in groups)]
    return (
        scenario.churn is not None
        or scenario.devices.leave is not None
        or any(group.churn is not None or group.leave is not None for group in groups)
        or any(energy is not None and energy.battery is not None for energy in energies)
        or any(isinstance(event, Crash) for event in scenario.event)
    )


def loses_all(link: LinkSettings) -> bool:
    """Tell whether nothing that is sent over a link arrives."""
    return isinstance(link.loss, Bernoulli) and link.loss.p == 1


def faults(link: LinkSettings) -> list[str]:
    """Return which of the faults "loss", "duplication" and "reordering" a link may have."""
    reaches = isinstance(link.loss, NoLoss) or (isinstance(link.loss, Bernoulli) and link.loss.p == 0)
    stays_up = isinstance(link.outage, NoOutage)
    has = {
        "loss": not (reaches and stays_up) or link.queue is not None or link.corrupt > 0,
        "duplication": link.duplicate > 0,
        "reordering": link.order == "free" and not isinstance(link.latency, Constant),
    }
    return [fault for fault, there in has.items() if there]
