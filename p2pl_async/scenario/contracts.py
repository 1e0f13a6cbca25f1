"""Whether a scenario's links keep the delivery contract of its protocol, and what happens where they don't."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from p2pl_async.link import LinkSettings
from p2pl_async.link.latency import Constant
from p2pl_async.link.loss import Bernoulli, NoLoss
from p2pl_async.link.outage import NoOutage
from p2pl_async.protocols.base import FAULTS, Protocol
from p2pl_async.scenario.links import LinkTable

if TYPE_CHECKING:
    import networkx as nx


def warnings(protocol: Protocol, graph: nx.DiGraph[int], links: LinkTable, *, noisy: bool = False) -> list[str]:
    """Return what the protocol warns of, and a sentence for each fault of the links that its contract doesn't allow.

    Args:
        protocol: with the settings of the scenario.
        graph: every link that there ever is.
        links: what they do.
        noisy: radios also lose frames to noise.
    """
    contract = protocol.contract
    if contract is None:
        return list(protocol.warnings)
    by_settings = Counter(id(links.settings(src, dst)) for src, dst in graph.edges)
    shared = {id(settings): settings for settings in (links.settings(src, dst) for src, dst in graph.edges)}
    having: Counter[str] = Counter()
    for key, count in by_settings.items():
        having.update(dict.fromkeys(faults(shared[key]), count))
    if noisy:
        having["loss"] = graph.number_of_edges()
    having["one_way"] = sum(not graph.has_edge(dst, src) for src, dst in graph.edges)
    return [*protocol.warnings] + [
        f'protocol "{protocol.kind}" needs links that {FAULTS[fault]}, and {having[fault]} of '
        f"{graph.number_of_edges()} may not: {consequence}" + (f"; {contract.repair}" if contract.repair else "")
        for fault, consequence in contract.broken_by()
        if having[fault]
    ]


def faults(link: LinkSettings) -> list[str]:
    """Return which of the faults "loss", "duplication" and "reordering" a link may have."""
    never_lost = isinstance(link.loss, NoLoss) or (isinstance(link.loss, Bernoulli) and link.loss.p == 0)
    has = {
        "loss": not never_lost or not isinstance(link.outage, NoOutage) or link.queue is not None,
        "duplication": link.duplicate > 0,
        "reordering": link.order == "free" and not isinstance(link.latency, Constant),
    }
    return [fault for fault, there in has.items() if there]
