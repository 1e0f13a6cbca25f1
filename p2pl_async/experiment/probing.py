"""A ping: messages over one link of a scenario, and the fate of each.

The link, its radio, the medium, and the times at which devices are down are those of the scenario; no other device
sends, nothing is learned, and no battery empties. A link that takes turns is used in its turns only, as protocols do.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr

from p2pl_async.basics.arrays import Floats
from p2pl_async.device import Device, Observer
from p2pl_async.errors import Problem, ScenarioError
from p2pl_async.experiment.emulation import Emulation
from p2pl_async.hardware.hardware import downtimes_of
from p2pl_async.link import Signal
from p2pl_async.messages import DeviceId, Message
from p2pl_async.protocols.base import Protocol
from p2pl_async.scenario.building.world import World, build_world
from p2pl_async.scenario.scenario import Scenario
from p2pl_async.trace import Record
from p2pl_async.transport.wire import encode

_LOOKS = 50  # at a busy radio, while one message would be on the air, and then in each time as long as the wait so far


@dataclass(frozen=True, slots=True)
class Ping(Message, tag="ping"):
    """A message of a given size."""

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
    pause: float = Field(description="the least between two looks at a busy radio, or for the link's turn")
    _sent: int = PrivateAttr(default=0)  # outlives a crash of the sender

    async def run(self, device: Device) -> None:
        """Send the messages if the device is the sender; other devices are silent."""
        if device.id != self.src:
            return
        content = bytes(self.size)
        content = bytes(max(0, 2 * self.size - len(encode(Ping(content), device.id, self.count))))
        shortest = 0.0  # time for which the radio has been busy with one message
        while self._sent < self.count:
            while not device.roams and self.dst not in device.out_neighbors:
                device.finish_round()  # turns pass with rounds, or with time
                await device.sleep(self.pause)
            device.send(self.dst, Ping(content))
            self._sent += 1
            device.finish_round()
            if self.interval is not None:
                await device.sleep(self.interval)
                continue
            began = device.now
            await device.sleep(max(self.pause, 0.9 * shortest))
            while device.is_sending(self.dst):
                await device.sleep(max(self.pause, (device.now - began) / _LOOKS))  # it may be silent for minutes
            shortest = min(shortest or math.inf, device.now - began)


@dataclass(frozen=True)
class Probed:
    """The fates of the messages on one link.

    Attributes:
        src: the sender.
        dst: the receiver.
        size: encoded bytes of one message.
        delays: seconds from sending to arrival, of those that arrived, shape (delivered,).
        causes: cause -> number of messages lost by it, or still in flight.
        packets: transmissions of each message, shape (count,).
        acknowledged: messages whose arrival the sender knows of.
        air_seconds: time on the air, of all messages together.
        signals: how the receiver heard each message that got on the air, where there are radios or shared air.
        ways: way of a message over relays, "0-3-7" -> number of messages that arrived over it.
        lost_hops: hop over which messages were lost, "3-7" -> number of messages.
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
    signals: list[Signal]
    ways: Counter[str]
    lost_hops: Counter[str]
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
        """Return a percentile of the delays in seconds, `share` from 0 to 100; nan if no message was delivered."""
        return float(np.percentile(self.delays, share)) if len(self.delays) else float("nan")


def probe_world(scenario: Scenario) -> World:
    """Return the links and radios of a scenario, without its data."""
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
        count: number of messages, one after another.
        interval: seconds from one to the next; by default the next is sent as soon as the radio is free.

    Raises:
        ScenarioError: if the scenario has no such link, or the sender is never up.
    """
    scenario = world.scenario
    if not 0 <= src < scenario.devices.count or dst not in world.out_neighbors[src]:
        known = ", ".join(map(str, world.out_neighbors[src][:20])) if 0 <= src < scenario.devices.count else ""
        text = f"no such link; {src}'s links go to {known or 'no device'}"
        raise ScenarioError("p2pl probe", [Problem("--from, --to", text, f"{src} {dst}")])
    records: list[Record] = []
    hardware = world.conditions.hardware()
    downtimes = downtimes_of(hardware)
    emulation = Emulation(
        world.out_neighbors,
        functools.partial(world.make_link, downtimes=downtimes),
        scenario.seed,
        make_air=functools.partial(world.make_air, downtimes=downtimes) if world.airs.shared else None,
        neighborhood=world.neighborhood,
        hardware=hardware,
        relaying=world.relaying(),
        observer=Observer(sink=records.append),
    )
    rate = world.links.settings(src, dst).mean_rate_bps
    pause = 1e-3 if rate is None else max(1e-6, 8 * size / rate / _LOOKS)
    emulation.run(Pings(src=src, dst=dst, size=size, count=count, interval=interval, pause=pause))
    if not records:
        raise ScenarioError("p2pl probe", [Problem("--from", "can't send: this device is down until the end", src)])
    return _probed(records, src, dst)


def _probed(records: Sequence[Record], src: DeviceId, dst: DeviceId) -> Probed:
    arrived = [record for record in records if not record.verdict.cause and record.verdict.arrival < math.inf]
    fates = [record.verdict for record in records]
    last = max([records[-1].sent, *(record.verdict.arrival for record in arrived)])
    return Probed(
        src=src,
        dst=dst,
        size=records[0].size,
        delays=np.array([record.verdict.arrival - record.sent for record in arrived]),
        causes=Counter(fate.cause or "in flight" for fate in fates if fate.cause or fate.arrival == math.inf),
        packets=np.array([fate.packets for fate in fates]),
        acknowledged=sum(fate.acknowledged for fate in fates),
        air_seconds=sum(fate.air_seconds for fate in fates),
        signals=[fate.signal for fate in fates if fate.signal is not None],
        ways=Counter("-".join(map(str, fate.path)) for fate in fates if fate.path and not fate.cause),
        lost_hops=Counter("-".join(map(str, fate.path[-2:])) for fate in fates if len(fate.path) > 1 and fate.cause),
        seconds=last - records[0].sent,
    )
