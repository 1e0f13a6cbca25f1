"""What a message costs, as ratios to a bare trio memory-channel hop in the same process.

    python tools/bench_hop.py

A hop is one small message from task to task. Each device waits for a message and sends one on, so
that no two arrive at the same instant and every hop is one turn of trio's loop; the bare channel
passes a single token for the same reason. CPU time of the process, best of several repetitions.

- calendar: clock and inbox alone, a random latency each: what "at most 1.6" asks for
- whole path: msgpack, the link's verdict (lognormal latency), the record in the digest
- SimPy: a process per message with a timeout, then a store; no encoding
- SimPy, same work: the same, with this package's encoding, links and records
"""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import simpy
import trio

from p2pl_async import Device, Message, Protocol
from p2pl_async.clock import VirtualClock
from p2pl_async.link import Link, LinkSettings
from p2pl_async.testing import emulate
from p2pl_async.trace import Record, Trace
from p2pl_async.transport.inbox import Inbox
from p2pl_async.transport.wire import encode_and_read

LINK = LinkSettings.model_validate({"latency": {"kind": "lognormal", "mean": "20 ms", "sd": "10 ms"}})


@dataclass(frozen=True, slots=True)
class Token(Message, tag="bench-token"):
    """A small message."""

    value: int


class PassOn(Protocol):
    """Every device sends a token on as often as `hops`."""

    trains = False
    kind: str = "pass-on"
    hops: int

    async def run(self, device: Device) -> None:
        """Run the protocol on one device."""
        device.broadcast(Token(0))
        for _ in range(self.hops):
            token = await device.receive(Token)
            device.broadcast(Token(token.value + 1))


def bare_channel(n: int, hops: int) -> float:
    """Return µs per hop of one token through n memory channels."""

    async def device(k: int, channels: list[Any]) -> None:
        send, receive = channels[(k + 1) % n][0], channels[k][1]
        if k == 0:
            send.send_nowait(0)
        for _ in range(hops):
            send.send_nowait(await receive.receive() + 1)

    async def main() -> None:
        channels = [trio.open_memory_channel[int](math.inf) for _ in range(n)]
        async with trio.open_nursery() as nursery:
            for k in range(n):
                nursery.start_soon(device, k, channels)

    return _per_hop(lambda: trio.run(main), n * hops)


def calendar(n: int, hops: int) -> float:
    """Return µs per hop of clock and inbox alone."""
    clock, latency = VirtualClock(), random.Random(1).random
    inboxes = [Inbox() for _ in range(n)]

    async def device(k: int) -> None:
        put, token = inboxes[(k + 1) % n].put, Token(0)
        clock.schedule(clock.now + latency(), (k + 1) % n, k, 0, put, token)
        for number in range(hops):
            received = await inboxes[k].take(Token)
            clock.schedule(clock.now + latency(), (k + 1) % n, k, number + 1, put, received)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for k in range(n):
                nursery.start_soon(device, k)

    return _per_hop(lambda: trio.run(main, clock=clock), n * hops)


def whole_path(n: int, hops: int) -> float:
    """Return µs per hop of everything a message goes through, the making of devices and links left out."""
    ring = [[(k + 1) % n] for k in range(n)]

    def seconds(hops: int) -> float:
        gc.collect()  # what the run before has left
        started = time.process_time()
        emulate(PassOn(hops=hops), ring, link=LINK)
        return time.process_time() - started

    return (seconds(hops + 3) - seconds(3)) / (n * hops) * 1e6


def simpy_store(n: int, hops: int, same_work: bool = False) -> float:
    """Return µs per hop of SimPy: a process and a timeout per message, then a store."""
    environment = simpy.Environment()
    stores = [simpy.Store(environment) for _ in range(n)]
    latency = random.Random(1).lognormvariate
    links = [Link(k, (k + 1) % n, LINK, 0) for k in range(n)]
    trace = Trace()

    def carry(store: simpy.Store, delay: float, item: object) -> Generator[Any, Any, None]:
        yield environment.timeout(delay)
        store.put(item)

    def send(k: int, token: Token, number: int) -> None:
        to = (k + 1) % n
        if not same_work:
            environment.process(carry(stores[to], latency(-4, 0.5), token))
            return
        now = environment.now
        data, read = encode_and_read(token, k, number, now)
        verdict = links[k].judge(len(data), now)
        trace.add(Record(now, k, to, number, token.tag, len(data), verdict), now)
        environment.process(carry(stores[to], verdict.arrival - now, read))

    def device(k: int) -> Generator[Any, Any, None]:
        send(k, Token(0), 0)
        for number in range(1, hops + 1):
            token = yield stores[k].get()
            assert isinstance(token, Token)
            send(k, Token(token.value + 1), number)

    for k in range(n):
        environment.process(device(k))
    return _per_hop(environment.run, n * hops)


def _per_hop(run: Callable[[], object], hops: int) -> float:
    gc.collect()
    started = time.process_time()
    run()
    return (time.process_time() - started) / hops * 1e6


def main() -> None:
    """Print the table."""
    n, hops = 100, 400
    candidates: dict[str, Callable[[], float]] = {
        "bare trio channel": lambda: bare_channel(n, hops),
        "calendar": lambda: calendar(n, hops),
        "whole path": lambda: whole_path(n, hops),
        "SimPy": lambda: simpy_store(n, hops),
        "SimPy, same work": lambda: simpy_store(n, hops, same_work=True),
        "whole path, 10,000 devices": lambda: whole_path(10_000, 8),
    }
    best = dict.fromkeys(candidates, math.inf)
    for name, measure in [*candidates.items()] * 5:
        best[name] = min(best[name], measure())
    bare = best["bare trio channel"]
    for name, cost in best.items():
        print(f"{name:35s} {cost:6.1f} µs  {cost / bare:5.2f} x a bare hop")
    print(f"SimPy / calendar                    {best['SimPy'] / best['calendar']:.2f}  (at least 1.5)")
    print(f"SimPy, same work / whole path       {best['SimPy, same work'] / best['whole path']:.2f}")
    many = best["whole path, 10,000 devices"] / best["whole path"]
    print(f"10,000 devices / 100 devices        {many:.2f}  (at most 2.5)")


if __name__ == "__main__":
    main()
