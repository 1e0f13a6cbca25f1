"""Like ping: send messages over one link of a scenario and see what becomes of them.

The link, its radio and the medium are those of the scenario; nobody else sends anything, and
nothing is learned.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError

from p2pl_async.basics.units import PositiveBytes, PositiveSeconds, show_bytes, show_rate, show_seconds
from p2pl_async.device import Device
from p2pl_async.errors import Problem, ScenarioError
from p2pl_async.experiment.emulation import Emulation
from p2pl_async.messages import DeviceId, Message
from p2pl_async.protocols.base import Protocol
from p2pl_async.scenario.building.world import World, build_world
from p2pl_async.scenario.scenario import Scenario
from p2pl_async.trace import Record
from p2pl_async.transport.wire import encode

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

_MOST_ROWS = 24  # of a table
_LOOKS = 50  # at a radio that is busy, while one message would be on the air


@dataclass(frozen=True, slots=True)
class Ping(Message, tag="ping"):
    """So many bytes."""

    content: bytes


class Pings(Protocol):
    """One device sends messages of one size to another: back to back, or at a fixed interval."""

    kind: Literal["pings"] = "pings"
    trains = False
    src: int
    dst: int
    size: int = Field(description="encoded bytes of a message")
    count: int
    interval: float | None = None
    pause: float = Field(description="between two looks at a busy radio")

    async def run(self, device: Device) -> None:
        """Be the sender; the others are silent."""
        if device.id != self.src:
            return
        content = bytes(self.size)
        content = bytes(max(0, 2 * self.size - len(encode(Ping(content), device.id, self.count))))
        shortest = 0.0  # time for which the radio has been busy with one message
        for _ in range(self.count):
            device.send(self.dst, Ping(content))
            if self.interval is not None:
                await device.sleep(self.interval)
                continue
            began = device.now
            await device.sleep(max(self.pause, 0.9 * shortest))
            while device.is_sending(self.dst):
                await device.sleep(self.pause)
            shortest = min(shortest or math.inf, device.now - began)


@dataclass(frozen=True)
class Probed:
    """What became of the messages on one link.

    Attributes:
        src: who sent them.
        dst: who was to receive them.
        size: encoded bytes of one message.
        delays: seconds from sending to arrival, of those that arrived, shape (delivered,).
        causes: why the others didn't, counted.
        packets: transmissions of each message, shape (count,).
        acknowledged: messages that the sender knows to have arrived.
        air_seconds: time on the air, of all messages together.
        seconds: from the first message to the last arrival, or the last sending if nothing arrives later.
    """

    src: DeviceId
    dst: DeviceId
    size: int
    delays: Floats
    causes: Counter[str]
    packets: NDArray[np.int64]
    acknowledged: int
    air_seconds: float
    seconds: float

    @property
    def count(self) -> int:
        """Messages sent."""
        return len(self.packets)

    @property
    def loss(self) -> float:
        """Share of messages that didn't arrive whole."""
        return 1 - len(self.delays) / self.count

    @property
    def goodput(self) -> float:
        """Bits per second that arrived, of messages that arrived whole."""
        return 8 * self.size * len(self.delays) / self.seconds if self.seconds else 0.0

    def percentile(self, share: float) -> float:
        """Return the delay that `share` percent of the delivered messages stay below, in seconds; nan if none were."""
        return float(np.percentile(self.delays, share)) if len(self.delays) else float("nan")


def probe_world(scenario: Scenario) -> World:
    """Return the links and radios of a scenario, without what it learns from."""
    return build_world(scenario, learns=False)


def probe_link(
    world: World, src: DeviceId, dst: DeviceId, *, size: int, count: int, interval: float | None = None
) -> Probed:
    """Send messages over one link.

    Args:
        world: from `probe_world`.
        src: the sender.
        dst: the receiver, one of its neighbors.
        size: bytes of a message, headers of packets not counted; the least is about 32.
        count: how many, one after another.
        interval: seconds from one to the next; by default the next is sent as soon as the radio is free.

    Raises:
        ScenarioError: if the scenario has no such link.
    """
    scenario = world.scenario
    if not 0 <= src < scenario.devices.count or dst not in world.out_neighbors[src]:
        known = ", ".join(map(str, world.out_neighbors[src][:20])) if 0 <= src < scenario.devices.count else ""
        text = f"no such link; {src}'s links go to {known or 'nobody'}"
        raise ScenarioError("p2pl probe", [Problem("--from, --to", text, f"{src} {dst}")])
    records: list[Record] = []
    emulation = Emulation(
        world.out_neighbors,
        world.make_link,
        scenario.seed,
        make_air=world.make_air if scenario.medium.shared else None,
        sink=records.append,
    )
    rate = world.links.settings(src, dst).mean_rate_bps
    pause = 1e-3 if rate is None else max(1e-6, 8 * size / rate / _LOOKS)
    emulation.run(Pings(src=src, dst=dst, size=size, count=count, interval=interval, pause=pause))
    return _probed(records, src, dst)


def _probed(records: Sequence[Record], src: DeviceId, dst: DeviceId) -> Probed:
    arrived = [record for record in records if not record.cause and record.arrival < math.inf]
    last = max([records[-1].sent, *(record.arrival for record in arrived)])
    return Probed(
        src=src,
        dst=dst,
        size=records[0].size,
        delays=np.array([record.arrival - record.sent for record in arrived]),
        causes=Counter(record.cause or "in flight" for record in records if record.cause or record.arrival == math.inf),
        packets=np.array([record.packets for record in records]),
        acknowledged=sum(record.acknowledged for record in records),
        air_seconds=sum(record.air_seconds for record in records),
        seconds=last - records[0].sent,
    )


class Pinging:
    """The command `p2pl probe --from --to` and `--all`: asks, prints, draws.

    Args:
        scenario: whose links.
        size: bytes of a message, as text with its unit.
        count: messages on a link.
        interval: time between two, as text with its unit; None: when the radio is free.
        out: folder for pictures.

    Raises:
        ScenarioError: if a text is no quantity.
    """

    def __init__(self, scenario: Scenario, size: str, count: int, interval: str | None, out: Path | None) -> None:
        self.world = probe_world(scenario)
        self.size = int(_quantity("--size", size, PositiveBytes))
        self.count = count
        self.interval = None if interval is None else float(_quantity("--interval", interval, PositiveSeconds))
        self.out = Path("runs") / scenario.name / "probe" if out is None else out
        self.note = f"{scenario.name}, seed {scenario.seed}"

    def show(self, pair: tuple[DeviceId, DeviceId] | None) -> None:
        """Probe one link, or all of them; print a table, and write pictures."""
        if pair is None:
            self._show_all()
        else:
            self._show_one(*pair)

    def _probe(self, src: DeviceId, dst: DeviceId) -> Probed:
        return probe_link(self.world, src, dst, size=self.size, count=self.count, interval=self.interval)

    def _show_one(self, src: DeviceId, dst: DeviceId) -> None:
        from rich.console import Console
        from rich.table import Table

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


def _quantity(option: str, text: str, kind: Any) -> Any:
    try:
        return TypeAdapter(kind).validate_python(text)
    except ValidationError as error:
        raise ScenarioError("p2pl probe", [Problem(option, error.errors()[0]["msg"], text)]) from None


def describe(probed: Probed) -> list[tuple[str, str]]:
    """Return (what, value) lines for people."""
    lines = [
        ("messages", f"{probed.count:,} of {show_bytes(probed.size)}, {len(probed.delays):,} delivered whole"),
        ("lost", f"{100 * probed.loss:.3g} %" + _causes(probed)),
        ("acknowledged", f"{probed.acknowledged:,}"),
        ("packets", f"{probed.packets.mean():.4g} per message, {probed.packets.max():,} at most"),
        ("time on air", f"{show_seconds(probed.air_seconds / probed.count)} per message"),
        ("goodput", show_rate(probed.goodput)),
    ]
    if len(probed.delays):
        names = [(0, "least"), (50, "median"), (90, "p90"), (99, "p99"), (100, "most")]
        lines.append(("delay", ", ".join(f"{name} {show_seconds(probed.percentile(p))}" for p, name in names)))
    return lines


def _causes(probed: Probed) -> str:
    if not probed.causes:
        return ""
    return ": " + ", ".join(f"{count:,} {cause}" for cause, count in sorted(probed.causes.items()))
