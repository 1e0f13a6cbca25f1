"""What `p2pl check` and `p2pl probe` say of a topology and of a link."""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2pl_async.errors import Problem, ScenarioError

if TYPE_CHECKING:
    from p2pl_async.scenario import Loaded


def _show_topology(loaded: Loaded) -> None:
    from p2pl_async.scenario.building.contracts import warnings
    from p2pl_async.scenario.building.explain import describe_meetings
    from p2pl_async.scenario.building.layout import lay_out
    from p2pl_async.scenario.building.link_table import LinkTable
    from p2pl_async.scenario.building.warnings import radio_warnings
    from p2pl_async.topology.base import problems

    scenario = loaded.scenario
    layout = lay_out(scenario)
    graph = layout.graph
    out = sorted(degree for _, degree in graph.out_degree())
    print(f"{scenario.devices.count} devices, {graph.number_of_edges()} links (each direction counts)")
    print(f"out-neighbors: {out[0]} at least, {sum(out) / len(out):.1f} on average, {out[-1]} at most")
    if layout.neighborhood is not None:
        print(f"not all at once: {layout.neighborhood}")
    for text in describe_meetings(scenario, layout):
        print(text)
    links = LinkTable(scenario)
    told = warnings(scenario, graph, links)
    for text in [*problems(graph), *told, *radio_warnings(scenario)]:
        print(f"warning: {text}")
    for problem in links.problems(graph):
        print(f"warning: {problem.path} {problem.text}")


def _show_link(loaded: Loaded, src: int, dst: int) -> None:
    from rich.console import Console
    from rich.table import Table

    from p2pl_async.scenario.building.explain import explain_medium, explain_radio
    from p2pl_async.scenario.building.layout import lay_out
    from p2pl_async.scenario.building.link_table import LinkTable
    from p2pl_async.scenario.events_in_order import Timetable

    count = loaded.scenario.devices.count
    if src == dst or not (0 <= src < count and 0 <= dst < count):
        text = f"must be two devices of 0 to {count - 1}"
        raise ScenarioError("p2pl probe", [Problem("--explain", text, f"{src} {dst}")])
    table = Table("key", "value", "set by", title=f"link {src} -> {dst}", title_justify="left", box=None)
    links = LinkTable(loaded.scenario, loaded.origins)
    for key, value, rule in links.explain(src, dst):
        table.add_row(key, str(value), rule)
    timetable = Timetable(loaded.scenario.devices, loaded.scenario.link, loaded.scenario.event)
    for event, what in timetable.touching(src, dst):
        table.add_row(event.rpartition(" at ")[2], what, event.partition(" ")[0])
    for key, value, rule in explain_medium(loaded.scenario, loaded.origins):
        table.add_row(key, str(value), rule)
    layout = lay_out(loaded.scenario)
    if layout.propagation is not None:
        settings = links.settings(src, dst)
        size = settings.mtu or 100 + settings.header
        for what, value in explain_radio(layout.propagation, src, dst, size):
            table.add_row(what, value, "radio")
    Console().print(table)
