"""`p2pl probe`: the topology of a scenario, the settings of one link, and measurements of messages sent over it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p2pl_async.cli.endings import errors
from p2pl_async.cli.options import Changes, Debug, File, Seed, load, quantity
from p2pl_async.errors import Problem, ScenarioError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from p2pl_async.experiment.probing import Probed
    from p2pl_async.messages import DeviceId
    from p2pl_async.scenario import Loaded
    from p2pl_async.scenario.scenario import Scenario

_MOST_ROWS = 24  # of a table
_MOST_WAYS = 4  # of relayed messages, the most frequent ones


def probe(
    scenario: File,
    explain: Annotated[
        tuple[int, int] | None,
        typer.Option(metavar="SRC DST", help="Show what this link does, and which rule set each value."),
    ] = None,
    src: Annotated[
        int | None, typer.Option("--from", metavar="SRC", help="Send messages from this device ...", show_default=False)
    ] = None,
    dst: Annotated[
        int | None, typer.Option("--to", metavar="DST", help="... to this one, like ping.", show_default=False)
    ] = None,
    every_link: Annotated[bool, typer.Option("--all", help="Send messages over each link in turn.")] = False,
    size: Annotated[str, typer.Option(metavar="SIZE", help="Bytes of a message.")] = "1 kB",
    count: Annotated[int | None, typer.Option(min=1, help="Messages.  [default: 1000; 100 with --all]")] = None,
    interval: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="From one to the next.  [default: when the radio is free]", show_default=False
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where pictures go.  [default: runs/<name>/probe]", show_default=False),
    ] = None,
    changes: Changes = None,
    seed: Seed = None,
    debug: Debug = False,
) -> None:
    """Show a topology, the settings of a link, or messages over it."""
    with errors(debug):
        loaded = load(scenario, changes, seed)
        if explain is not None:
            show_link(loaded, *explain)
        elif src is None and dst is None and not every_link:
            show_topology(loaded)
        else:
            pairs = None if every_link else _pair(src, dst)
            Pinging(loaded.scenario, size, count or (100 if every_link else 1000), interval, out).show(pairs)


def _pair(src: int | None, dst: int | None) -> tuple[int, int]:
    if src is None or dst is None:
        missing = "--from" if src is None else "--to"
        raise ScenarioError("p2pl probe", [Problem(missing, "must be given too, or use --all for every link")])
    return src, dst


def show_topology(loaded: Loaded) -> None:
    from p2pl_async.scenario.building.contracts import warn_of_contract
    from p2pl_async.scenario.building.event_warnings import warn_of_radio
    from p2pl_async.scenario.building.explain import explain_meetings, explain_sync, explain_ways
    from p2pl_async.scenario.building.ways import warn_of_ways
    from p2pl_async.scenario.building.world import build_world
    from p2pl_async.topology.base import warn_cut_off

    scenario = loaded.scenario
    world = build_world(scenario, learns=False)
    graph = world.graph
    out = sorted(degree for _, degree in graph.out_degree())
    print(f"{scenario.devices.count} devices, {graph.number_of_edges()} links (each direction counts)")
    print(f"out-neighbors: {out[0]} at least, {sum(out) / len(out):.1f} on average, {out[-1]} at most")
    if world.neighborhood is not None:
        print(f"not all at once: {world.neighborhood}")
    direct = world.direct
    for text in [
        *explain_ways(world),
        *explain_meetings(scenario, direct.neighborhood),
        *explain_sync(world),
    ]:
        print(text)
    for text in [
        *warn_cut_off(graph),
        *warn_of_contract(scenario, graph, world.links, direct.graph),
        *warn_of_ways(scenario, graph, direct),
        *warn_of_radio(scenario),
    ]:
        print(f"warning: {text}")
    for problem in world.links.check(direct.graph):
        print(f"warning: {problem.path} {problem.text}")


def show_link(loaded: Loaded, src: int, dst: int) -> None:
    from rich.console import Console
    from rich.table import Table

    from p2pl_async.scenario.building.explain import (
        explain_channel,
        explain_currents,
        explain_fading,
        explain_interferers,
        explain_medium,
        explain_radio,
        explain_rate,
    )
    from p2pl_async.scenario.building.ways import way
    from p2pl_async.scenario.building.world import build_world

    count = loaded.scenario.devices.count
    if src == dst or not (0 <= src < count and 0 <= dst < count):
        text = f"must be two devices of 0 to {count - 1}"
        raise ScenarioError("p2pl probe", [Problem("--explain", text, f"{src} {dst}")])
    table = Table("key", "value", "set by", title=f"link {src} -> {dst}", title_justify="left", box=None)
    world = build_world(loaded.scenario, learns=False, origins=loaded.origins)
    if loaded.scenario.relay is not None:
        found = way(world.direct, src, dst)
        table.add_row("way", "none" if found is None else " -> ".join(map(str, found)), "relay.over")
        if found is not None:  # the settings that follow are those of its first hop
            dst = found[1]
            table.title = f"link {src} -> {dst}"
    airs = world.airs.of_devices
    if airs.several:
        common = airs.between(src, dst)
        table.add_row("air", "none in common" if common is None else airs.names[common], "devices.group.*.airs")
    for key, value, rule in world.links.explain(src, dst):
        table.add_row(key, str(value), rule)
    for event, what in world.events.touching(src, dst):
        table.add_row(event.rpartition(" at ")[2], what, event.partition(" ")[0])
    for key, value, rule in explain_medium(world, src, dst, loaded.origins):
        table.add_row(key, str(value), rule)
    for what, value in explain_channel(world, src, dst):
        table.add_row(what, value, "medium")
    air = world.airs.of(src, dst)
    if air.propagation is not None:
        settings = world.links.settings(src, dst)
        size = settings.mtu or 100 + settings.header
        budget = explain_radio(air.propagation, src, dst, size)
        interferers = explain_interferers(world, src, dst)
        fading = explain_fading(air.propagation)
        for what, value in [*budget, *fading, *explain_rate(world, src, dst, size), *interferers]:
            table.add_row(what, value, "radio")
    for what, value, rule in explain_currents(world, src, dst):
        table.add_row(what, value, rule)
    Console().print(table)


class Pinging:
    """The command `p2pl probe --from --to` and `--all`: asks, prints, draws.

    Args:
        scenario: its links are probed.
        size: bytes of a message, as text with its unit.
        count: messages on a link.
        interval: time between two, as text with its unit; None: when the radio is free.
        out: folder for pictures.

    Raises:
        ScenarioError: if a text is no quantity.
    """

    def __init__(self, scenario: Scenario, size: str, count: int, interval: str | None, out: Path | None) -> None:
        from p2pl_async.experiment.probing import probe_world

        self.world = probe_world(scenario)
        self.size = int(quantity("p2pl probe", "--size", size, "PositiveBytes"))
        self.count = count
        self.interval = None if interval is None else quantity("p2pl probe", "--interval", interval, "PositiveSeconds")
        self.out = Path("runs") / scenario.name / "probe" if out is None else out
        self.note = f"{scenario.name}, seed {scenario.seed}"

    def show(self, pair: tuple[DeviceId, DeviceId] | None) -> None:
        """Probe one link, or all of them; print a table, and write pictures."""
        if pair is None:
            self._show_all()
        else:
            self._show_one(*pair)

    def _probe(self, src: DeviceId, dst: DeviceId) -> Probed:
        from p2pl_async.experiment.probing import probe_link

        return probe_link(self.world, src, dst, size=self.size, count=self.count, interval=self.interval)

    def _show_one(self, src: DeviceId, dst: DeviceId) -> None:
        from rich.console import Console
        from rich.table import Table

        from p2pl_async.basics.units import show_bytes
        from p2pl_async.report.probes import delays

        probed = self._probe(src, dst)
        table = Table(title=f"link {src} -> {dst}", title_justify="left", box=None, show_header=False)
        for what, value in describe(probed):
            table.add_row(what, value)
        Console().print(table)
        sent = f"{self.note}; {probed.count:,} messages of {show_bytes(probed.size)}"
        self._save(f"delay-{src}-{dst}", delays(f"delay {src} -> {dst}", sent, probed.delays))

    def _show_all(self) -> None:
        from rich.console import Console
        from rich.progress import track
        from rich.table import Table

        from p2pl_async.basics.units import show_bytes, show_rate, show_seconds
        from p2pl_async.report.probes import matrix

        pairs = [(src, dst) for src, targets in enumerate(self.world.out_neighbors) for dst in targets]
        console = Console()
        found = {
            pair: self._probe(*pair) for pair in track(pairs, "probing", console=Console(stderr=True), transient=True)
        }
        table = Table("link", "lost", "median", "p99", "goodput", "packets", box=None)
        for (src, dst), probed in sorted(found.items(), key=lambda item: (-item[1].loss, item[0]))[:_MOST_ROWS]:
            times = [show_seconds(probed.percentile(share)) for share in (50, 99)] if len(probed.delays) else ["-", "-"]
            packets = f"{probed.packets.mean():.3g}"
            table.add_row(f"{src} -> {dst}", f"{100 * probed.loss:.3g} %", *times, show_rate(probed.goodput), packets)
        if len(found) > _MOST_ROWS:
            table.caption = f"the {_MOST_ROWS} worst of {len(found):,} links"
        console.print(table)
        n = len(self.world.out_neighbors)
        sent = f"{self.note}; {self.count:,} x {show_bytes(self.size)}"
        losses = {pair: 100 * probed.loss for pair, probed in found.items()}
        medians = {pair: 1e3 * probed.percentile(50) for pair, probed in found.items() if len(probed.delays)}
        self._save("loss", matrix("messages lost", sent, n, losses, "lost (%)"))
        if medians:
            self._save("delay", matrix("median delay", sent, n, medians, "delay (ms)"))

    def _save(self, name: str, figure: Figure | None) -> None:
        from p2pl_async.report.drawing import save
        from p2pl_async.results.table import writing

        if figure is None:
            return
        with writing(self.out):
            self.out.mkdir(parents=True, exist_ok=True)
            written = save(figure, self.out / name)
        print(f"picture: {written[0]}")


def describe(probed: Probed) -> list[tuple[str, str]]:
    """Return (what, value) lines for people."""
    from p2pl_async.basics.units import show_bytes, show_rate, show_seconds

    lines = [
        ("messages", f"{probed.count:,} of {show_bytes(probed.size)}, {len(probed.delays):,} delivered whole"),
        ("lost", f"{100 * probed.loss:.3g} %" + _causes(probed)),
        ("acknowledged", f"{probed.acknowledged:,}"),
        ("packets", f"{probed.packets.mean():.4g} per message, {probed.packets.max():,} at most"),
        ("time on air", f"{show_seconds(probed.air_seconds / probed.count)} per message"),
        ("goodput", show_rate(probed.goodput)),
    ]
    lines += [
        (what, ", ".join(f"{way} ({count:,})" for way, count in found.most_common(_MOST_WAYS)))
        for what, found in (("ways", probed.ways), ("lost on hop", probed.lost_hops))
        if found
    ]
    lines += _signals(probed)
    if len(probed.delays):
        names = [(0, "least"), (50, "median"), (90, "p90"), (99, "p99"), (100, "most")]
        lines.append(("delay", ", ".join(f"{name} {show_seconds(probed.percentile(p))}" for p, name in names)))
    return lines


def _signals(probed: Probed) -> list[tuple[str, str]]:
    """Return lines on how the messages were heard: means over the messages, and the span of rates."""
    from p2pl_async.basics.units import show_rate

    found: list[tuple[str, str]] = []
    heard = [signal for signal in probed.signals if not math.isnan(signal.rssi)]
    if heard:
        means = [sum(signal[k] for signal in heard) / len(heard) for k in range(3)]
        found.append(("heard at", "{:.1f} dBm, {:.1f} dB over noise and interference, {:.4g} m".format(*means)))
    rates = sorted({signal.rate for signal in probed.signals if not math.isnan(signal.rate)})
    if rates:
        found.append(("rate", " to ".join(show_rate(rate) for rate in dict.fromkeys((rates[0], rates[-1])))))
    channels = sorted({signal.channel for signal in probed.signals if signal.channel >= 0})
    if len(channels) > 1 or channels[-1:] > [0]:
        found.append(("channels", ", ".join(map(str, channels))))
    return found


def _causes(probed: Probed) -> str:
    if not probed.causes:
        return ""
    return ": " + ", ".join(f"{count:,} {cause}" for cause, count in sorted(probed.causes.items()))
