"""Whether memory stays flat while messages go on and on.

    python tools/bench_memory.py [10_000_000] [--devices 1000] [--trace]

Devices in a random graph tell their 8 neighbors a number each second, over links with loss, retries and a rate. They
crash and restart; every tenth ends after a tenth of the run and is sent to all the same, and every tenth reads less
than it gets, so that its inbox is always full. Prints the resident memory after each 100,000 messages, or each
hundredth of them if that is more seldom; the growth over the second half is at most 5 % (blocks of random numbers
grow until a link has carried 1,000 messages). With `--trace`, every message is written into the run's folder.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from p2pl_async import Device, Message, Protocol, load_scenario, run

DEGREE = 8
SCENARIO = """
name = "memory"
devices = {{ count = {devices}, inbox = 50 }}
topology = {{ kind = "random-regular", degree = {degree} }}
link.rate = "1 Mbit/s"
link.latency = {{ kind = "lognormal", mean = "20 ms", sd = "10 ms" }}
link.loss = {{ kind = "gilbert-elliott", good = "2 s", bad = "300 ms" }}
link.arq.retries = 2
churn = {{ up = "5 min", down = "10 s" }}
protocol = {{ kind = "{here}:Talk", seconds = {seconds}, every = {every} }}
stop.virtual_time = "{seconds} s"
"""


@dataclass(frozen=True, slots=True)
class Value(Message, tag="bench-value"):
    """A number."""

    x: float


class Talk(Protocol):
    """Devices tell their neighbors a number each second; some end early, and some read too little."""

    trains = False
    kind: str = "talk"
    seconds: int
    every: int  # seconds, from one look at the memory to the next

    async def run(self, device: Device) -> None:
        """Run the protocol on one device."""
        await device.sleep(float(device.random.random()))  # so that devices don't send all at once
        end = self.seconds / 10 if device.id % 10 == 1 else self.seconds
        while device.now < end:
            device.broadcast(Value(device.now))
            await device.sleep(1.0)
            for _ in range(3 if device.id % 10 == 2 else 10 * DEGREE):
                if device.receive_nowait(Value) is None:
                    break
            if device.id == 0 and int(device.now) % self.every == 0:
                device.record("resident_mib", resident_mib())


def resident_mib() -> float:
    """Return the memory of this process that is in use now."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096 / 2**20


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("messages", type=int, nargs="?", default=10_000_000)
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--trace", action="store_true", help="keep a record of every message")
    chosen = parser.parse_args()
    rate = chosen.devices * DEGREE * 0.88  # messages a second: the ended and the crashed send none
    seconds = round(chosen.messages / rate)
    every = max(round(min(100_000, chosen.messages / 100) / rate), 1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "memory.toml"
        path.write_text(
            SCENARIO.format(
                devices=chosen.devices, degree=DEGREE, here=Path(__file__).resolve(), seconds=seconds, every=every
            ),
            encoding="utf-8",
        )
        started = time.perf_counter()
        result = run(
            load_scenario(path), out=Path(folder) / "run", trace=2 * chosen.messages if chosen.trace else False
        )
        took = time.perf_counter() - started
        sent = result.summary["messages"]["sent"]
        found = result.metrics.query("metric == 'resident_mib'")
        for at, mib in zip(found["time_s"], found["value"], strict=True):
            print(f"{at / seconds * sent:>12,.0f} sent  {mib:8.1f} MiB")
    half = found["value"][found["time_s"] >= seconds / 2]
    growth = half.iloc[-1] / half.iloc[0] - 1
    print(f"{sent:,} messages in {took:.0f} s; over the second half {growth:+.1%} (at most +5 %)")
    sys.exit(int(growth > 0.05))


if __name__ == "__main__":
    main()
