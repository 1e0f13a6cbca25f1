"""How fast is the shared air? 802.15.4 CSMA/CA: many senders in one cell, one sink, Poisson, 80 bytes.

    python tools/bench_air.py                # 50 and 10 senders at an offered load of 0.31

Frames per second of CPU time, once through devices, messages and trace, once for the air alone;
with the delivery ratio and mean delay, which ns-3 3.37 gives for 8 senders at loads of 0.25 and 0.50.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import TypeAdapter

from p2pl_async.air.air import Air
from p2pl_async.air.hearing import PowerHearing
from p2pl_async.air.settings import CsmaCa
from p2pl_async.clock import VirtualClock
from p2pl_async.device import Device, Observer
from p2pl_async.experiment.emulation import Emulation
from p2pl_async.link import Link, LinkSettings
from p2pl_async.messages import Message
from p2pl_async.protocols.base import Protocol
from p2pl_async.radio.phy import AnyPhy
from p2pl_async.trace import Record
from p2pl_async.transport.wire import encode

AIRTIME = 97 * 32e-6  # 80 bytes and 17 of headers
LINK = LinkSettings.model_validate({"mtu": "133 B", "header": "17 B", "rate": "250 kbit/s"})


@dataclass(frozen=True, slots=True)
class Frame(Message):
    """So many bytes."""

    content: bytes


class Report(Protocol):
    """Everybody but device 0 sends to it, at random instants."""

    kind: Literal["report"] = "report"
    trains = False
    frames: int
    gap: float

    async def run(self, device: Device) -> None:
        """Be a sender, or the sink."""
        if device.id == 0:
            return
        content = bytes(160 - len(encode(Frame(bytes(80)), device.id, 100)))
        for gap in device.random.exponential(self.gap, self.frames).tolist():
            await device.sleep(gap)
            device.send(0, Frame(content))


class Cell:
    """Everybody hears everybody at -60 dBm; noise and error rate of 802.15.4."""

    def __init__(self, n: int) -> None:
        self._powers = np.full(n, -60.0)
        self.phy = TypeAdapter(AnyPhy).validate_python({"kind": "802.15.4"})

    def powers(self, src: int, at: float, channel: int = 0) -> Any:
        """Return dBm at each device."""
        return self._powers

    is_constant = True
    is_selective = False

    def distance(self, src: int, dst: int, at: float) -> float:
        """Return meters: there are no places."""
        return math.nan

    def noise(self, dst: int) -> float:
        """Return dBm."""
        return -101.0

    def foreseen_snr(self, src: int, dst: int, at: float, channel: int = 0) -> tuple[float, None]:
        """Return dB; nothing fades."""
        return float(self.powers(src, at)[dst]) + 101.0, None


def through_devices(senders: int, load: float, frames: int) -> tuple[float, float, float]:
    """Return frames per second of CPU time, delivery ratio and mean delay in ms."""
    waves = Cell(senders + 1)

    def make_air(clock: VirtualClock, round_of: Callable[[int], int], back: Callable[[int, int], Link]) -> Air:
        medium = CsmaCa(collision="sinr")
        return Air(medium, clock, senders + 1, PowerHearing(waves, -85.0), 1, back=back, propagation=waves)

    records: list[Record] = []
    emulation = Emulation(
        [list(range(1, senders + 1)), *([0] for _ in range(senders))],
        lambda src, dst: Link(src, dst, LINK, 1),
        1,
        make_air=make_air,
        observer=Observer(sink=records.append),
    )
    gap = senders * AIRTIME / load
    began = time.process_time()
    emulation.run(Report(frames=frames // senders, gap=gap))
    wall = time.process_time() - began
    fates = [(record.sent, record.verdict) for record in records]
    arrived = [fate.arrival - sent for sent, fate in fates if not fate.cause and fate.arrival < math.inf]
    return len(records) / wall, len(arrived) / len(records), 1e3 * float(np.mean(arrived))


def air_alone(senders: int, load: float, frames: int) -> float:
    """Return frames per second of CPU time without devices, messages and trace."""
    waves, clock, random = Cell(senders + 1), VirtualClock(), np.random.default_rng(1)
    links = [[Link(k, 0, LINK, 1)] for k in range(senders + 1)]
    air = Air(
        CsmaCa(collision="sinr"), clock, senders + 1, PowerHearing(waves, -85.0), 1,
        back=lambda src, dst: links[src][0], propagation=waves,
    )  # fmt: skip
    decided: list[object] = []

    def send(k: int) -> None:
        air.send(k, links[k], 80, lambda *fate: decided.append(fate), k)

    for k in range(1, senders + 1):
        for number, at in enumerate(
            np.cumsum(random.exponential(senders * AIRTIME / load, frames // senders)).tolist()
        ):
            clock.schedule(
                at, k, -5, number, lambda k: air.send(k, links[k], 80, lambda *fate: decided.append(fate), k), k
            )
    began = time.process_time()
    while clock.calendar:
        clock.deadline_to_sleep_time(math.inf)
    return len(decided) / (time.process_time() - began)


def main() -> None:
    """Print one line per number of senders."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--load", type=float, default=0.31)
    arguments = parser.parse_args()
    for senders in (50, 10):
        speed, ratio, delay = through_devices(senders, arguments.load, arguments.frames)
        alone = air_alone(senders, arguments.load, arguments.frames)
        print(
            f"{senders:3} senders: {speed:8,.0f} frames/s (air alone {alone:8,.0f}); "
            f"delivery ratio {ratio:.3f}, mean delay {delay:.2f} ms"
        )


if __name__ == "__main__":
    main()
