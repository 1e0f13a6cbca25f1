"""Whether memory stays flat while messages go on and on.

    python tools/bench_memory.py [10000000]

A ring of devices of which the first half ends after a tenth of the messages and is sent to all the same; the others
send, and every fourth of them reads nothing. Its inbox is bounded. Prints the resident memory after each tenth; the
growth from the second to the last is at most 5 %.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from bench_ring import Blob

from p2pl_async import Device, Protocol
from p2pl_async.clock import VirtualClock
from p2pl_async.experiment.emulation import Emulation
from p2pl_async.link import Link, LinkSettings
from p2pl_async.testing import ring

DEVICES, PARAMS, UNREAD = 100, 1000, 50
LINK = LinkSettings.model_validate({"latency": {"kind": "lognormal", "mean": "20 ms", "sd": "10 ms"}, "loss": "1 %"})


class Talk(Protocol):
    """Devices send a vector to their neighbors each second; some end early, and some never read."""

    trains = False
    kind: str = "talk"
    seconds: int

    async def run(self, device: Device) -> None:
        """Run the protocol on one device."""
        seconds = self.seconds // 10 if device.id < DEVICES // 2 else self.seconds
        for _ in range(seconds):
            device.broadcast(Blob(np.zeros(PARAMS, np.float32)))
            await device.sleep(1.0)
            while device.id % 4 and device.receive_nowait(Blob) is not None:
                pass


def resident_mib() -> float:
    """Return the memory of this process that is in use now."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096 / 2**20


def main() -> None:
    """Print the table."""
    messages = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000
    seconds = round(messages / DEVICES / 2 / 0.55)  # two neighbors; half of the devices send for a tenth of the time
    clock = VirtualClock()
    emulation = Emulation(ring(DEVICES), lambda src, dst: Link(src, dst, LINK, 0), 0, clock=clock, inbox=UNREAD)
    found: list[float] = []
    started = time.perf_counter()

    def look() -> None:
        found.append(resident_mib())
        trace = emulation.trace
        print(f"{trace.sent:>12,} sent {trace.unread:>10,} dropped unread {found[-1]:8.1f} MiB", flush=True)

    for tenth in range(1, 11):
        clock.observe(tenth * seconds / 10, look)
    emulation.run(Talk(seconds=seconds), until=float(seconds))
    growth = found[-1] / found[1] - 1
    print(f"{time.perf_counter() - started:.0f} s; from the second tenth to the last {growth:+.1%} (at most +5 %)")
    sys.exit(growth > 0.05)


if __name__ == "__main__":
    main()
