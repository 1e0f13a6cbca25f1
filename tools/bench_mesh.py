"""A sensor network: 60 nodes on 802.15.4 with hidden terminals, batteries and two groups of devices.

Every node broadcasts 50 bytes a second. Prints how long setting up takes, in seconds of wall time once the modules are
imported, and virtual seconds per second of CPU time (asked: below 2 s, at least 100).

    python tools/bench_mesh.py [VIRTUAL_SECONDS]
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from p2pl_async.device import Device
from p2pl_async.experiment.measured_run import MeasuredRun
from p2pl_async.experiment.plan import main_plan
from p2pl_async.messages import Message
from p2pl_async.protocols.base import Protocol
from p2pl_async.scenario.building.world import build_world
from p2pl_async.scenario.reading.load import load_scenario

SCENARIO = """
seed = 1
devices.count = 60
devices.group.relays = { ids = "0-9", energy = { preset = "nrf52840", battery = "20 kJ" } }
topology = { kind = "in-range", loss = "10 %%" }
link.preset = "zigbee_154"
medium = { kind = "csma-ca", sense = "-85 dBm", collision = "capture" }
radio = { phy = "802.15.4", power = "0 dBm", area = "600 m", shadowing = "4 dB" }
energy = { preset = "cc2420", battery = "2 kJ" }
protocol = { kind = "%s:Beacons" }
stop.virtual_time = "%g s"
"""


@dataclass(frozen=True, slots=True)
class Beacon(Message, tag="beacon"):
    """So many bytes."""

    content: bytes


class Beacons(Protocol):
    """Every device broadcasts once a second, each at a phase of its own."""

    kind: str = "beacons"
    trains = False

    async def run(self, device: Device) -> None:
        """Send, and count what was heard."""
        await device.sleep(float(device.random.random()))
        while device.running:
            device.broadcast(Beacon(bytes(34)))  # 50 bytes with what every message has
            await device.sleep(1.0)
            while device.receive_nowait(Beacon) is not None:
                pass
            device.finish_round()


def main(seconds: float) -> None:
    """Set up and run it, and print the figures."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "mesh.toml")
        path.write_text(SCENARIO % (Path(__file__).resolve().as_posix(), seconds), encoding="utf-8")
        began = time.perf_counter()
        world = build_world(load_scenario(path))
        measured = MeasuredRun(world, main_plan(world, None))
        setup = time.perf_counter() - began
    began = time.process_time()
    measured.run()
    spent = time.process_time() - began
    counts = measured.rig.emulation.trace.counts
    print(f"set-up {setup:.2f} s; {seconds / spent:.0f} virtual seconds per second")
    print(f"{counts.sent} messages of {counts.payload_bytes / counts.sent:.0f} B on links, lost {dict(counts.lost)}")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 300.0)
