"""What a message of many fragments costs: a ring of devices that broadcast over bursty links.

    python tools/bench_ring.py

Every device broadcasts messages of 100 B, 100 kB or 800 kB to its two neighbors, over links with
Gilbert-Elliott loss and an MTU of 1500 B; nothing is trained. The cost is CPU time per delivered
message, everything included: encoding, the verdict about all fragments, the calendar, the record, the
inbox and reading it. It is given as a ratio to a bare trio memory-channel hop in the same process; the
budget is 5. Devices speak several times whenever they wake, so that it is messages that are measured
and not `trio.sleep`. The last column tells how much a run allocates at its peak: payloads are shared by
sender and receivers, not copied.
"""

from __future__ import annotations

import gc
import math
import time
import tracemalloc
from dataclasses import dataclass

import numpy as np
from bench_hop import bare_channel

from p2pl_async import Device, Message, Protocol
from p2pl_async.link import LinkSettings
from p2pl_async.messages import Vector
from p2pl_async.testing import emulate, ring

DEVICES = 100
LOSS = {"kind": "gilbert-elliott", "good": "2 s", "bad": "100 ms"}
LINK = {"rate": "100 Mbit/s", "mtu": "1500 B", "header": "28 B", "latency": "5 ms", "loss": LOSS}
LINKS = {
    "as datagrams": LinkSettings.model_validate(LINK),
    "with retries": LinkSettings.model_validate(
        {**LINK, "arq": {"retries": 9, "turnaround": "100 us", "backoff": "2 ms", "growth": 2}}
    ),
}
SIZES = (100, 100_000, 800_000)
AT_ONCE = 8  # messages per device and second
BUDGET = 5.0  # bare hops per delivered message


@dataclass(frozen=True, slots=True)
class Blob(Message, tag="bench-blob"):
    """So many bytes."""

    w: Vector


class Shout(Protocol):
    """Every device broadcasts a few times per second and reads what it hears."""

    trains = False
    kind: str = "shout"
    size: int
    times: int

    async def run(self, device: Device) -> None:
        """Run the protocol on one device."""
        w = np.zeros(max(self.size - 60, 4) // 4, np.float32)
        w.flags.writeable = False  # as what `train` returns
        for _ in range(self.times):
            await device.sleep(1.0)
            for _ in range(AT_ONCE):
                device.broadcast(Blob(w))
            while device.receive_nowait(Blob) is not None:
                pass


def cost(link: LinkSettings, size: int, times: int) -> tuple[float, float]:
    """Return µs of CPU time per delivered message, and the share that is delivered."""

    def run(times: int) -> tuple[float, int, int]:
        gc.collect()
        started = time.process_time()
        trace = emulate(Shout(size=size, times=times), ring(DEVICES), link=link).trace
        return time.process_time() - started, trace.delivered, trace.counts.sent

    few, many = run(3), run(times + 3)  # making devices and links is left out
    delivered = many[1] - few[1]
    return (many[0] - few[0]) / delivered * 1e6, delivered / (many[2] - few[2])


def peak(link: LinkSettings, size: int) -> float:
    """Return the peak of allocated memory in messages per device; 1 is what the device itself holds."""
    emulate(Shout(size=size, times=1), ring(DEVICES), link=link)
    tracemalloc.start()
    emulate(Shout(size=size, times=4), ring(DEVICES), link=link)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most / (DEVICES * size)


def main() -> None:
    """Print the table."""
    bare = min(bare_channel(DEVICES, 400) for _ in range(5))
    print(f"bare trio channel hop: {bare:.1f} µs; budget {BUDGET:g} of them per delivered message")
    for name, link in LINKS.items():
        for size in SIZES:
            best, share = math.inf, 0.0
            for _ in range(3):
                found, share = cost(link, size, 20)
                best = min(best, found)
            line = f"{name}, {size:7,} B  {best:6.1f} µs  {best / bare:5.2f} x a bare hop  {share:5.1%} delivered"
            print(line, f" {peak(link, size):.1f} messages of memory per device" if size > 1000 else "")


if __name__ == "__main__":
    main()
