"""Radios that sleep in turns, such that two neighbors are never awake together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2pl_async.basics.units import show_seconds
from p2pl_async.link.outage import DutyCycle
from p2pl_async.scenario.building.link_table import LinkTable
from p2pl_async.scenario.scenario import Scenario

if TYPE_CHECKING:
    import networkx as nx

_NAMED = 5  # pairs


def has_sleepers(scenario: Scenario) -> bool:
    """Tell whether any link needs both of its devices awake, in periods of their own."""
    tables = [override.table.get("outage") for override in scenario.link.override]
    written = any(isinstance(table, dict) and (table.get("of") == "device") for table in tables)
    return written or _needs_both(scenario.link.outage)


def warn_of_sleepers(scenario: Scenario, graph: nx.DiGraph[int], links: LinkTable) -> list[str]:
    """Return a warning that names the pairs of neighbors whose radios are never awake together.

    Args:
        scenario: its seed draws the phases.
        graph: every link that there ever is.
        links: settings of those links.
    """
    if not has_sleepers(scenario):
        return []
    pairs: dict[tuple[int, int], DutyCycle] = {}
    for src, dst in graph.edges:
        outage = links.settings(src, dst).outage
        if isinstance(outage, DutyCycle) and _needs_both(outage) and outage.never_up(scenario.seed, src, dst):
            pairs.setdefault((min(src, dst), max(src, dst)), outage)
    if not pairs:
        return []
    named = ", ".join(f"{low} and {high}" for low, high in sorted(pairs)[:_NAMED])
    more = f" and {len(pairs) - _NAMED} more pairs" if len(pairs) > _NAMED else ""
    outage = pairs[min(pairs)]
    return [
        f"devices {named}{more} are never awake together (awake {show_seconds(outage.awake)} of every "
        f'{show_seconds(outage.period)}): nothing gets from one to the other; give phase = "0 s", or a longer awake'
    ]


def _needs_both(outage: object) -> bool:
    return isinstance(outage, DutyCycle) and outage.of == "device"
