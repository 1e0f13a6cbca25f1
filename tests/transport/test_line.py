"""Messages before a link whose queue drops the oldest."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pl_async import Device, Message, Protocol
from p2pl_async.testing import emulate
from p2pl_async.trace import Record
from p2pl_async.transport.wire import encode


@dataclass(frozen=True, slots=True)
class Letter(Message, tag="line-letter"):
    body: bytes


class Write(Protocol):
    """Device 0 sends letters after given pauses; each takes as many ms as it has bytes."""

    kind: str = "write-letters"
    trains = False
    letters: list[tuple[float, int]]

    async def run(self, device: Device) -> None:
        if device.id == 0:
            for pause, size in self.letters:
                await device.sleep(pause)
                device.broadcast(Letter(bytes(size - overhead(size))))
            await device.sleep(1000)


def overhead(size: int) -> int:
    return len(encode(Letter(bytes(size)), 0, 5)) - size


def records(letters: list[tuple[float, int]], queue: dict[str, Any], until: float | None = None) -> list[Record]:
    kept: list[Record] = []
    emulation = emulate(
        Write(letters=letters), [[1], []], link={"rate": "8 kbit/s", "queue": queue}, sink=kept.append, until=until
    )
    emulation.transport.check()
    return sorted(kept, key=lambda record: record.number)


def plainly(
    letters: list[tuple[float, int]], most: float, most_bytes: float, lifetime: float
) -> list[tuple[str, float]]:
    """The same, message by message: (cause, arrival) of each."""
    fates: dict[int, tuple[str, float]] = {}
    waiting: deque[tuple[int, float, int]] = deque()
    free, sending, now = 0.0, 0, 0.0

    def serve(until: float) -> None:
        nonlocal free, sending
        while waiting and free <= until:
            number, sent, size = waiting.popleft()
            start = max(free, sent)
            if start - sent > lifetime:
                fates[number] = ("expired", np.inf)
                continue
            free, sending = start + size / 1000, size
            fates[number] = ("", free)

    for number, (pause, size) in enumerate(letters):
        now += pause
        serve(now)
        while waiting and now - waiting[0][1] > lifetime:
            fates[waiting.popleft()[0]] = ("expired", np.inf)
        waiting.append((number, now, size))
        serve(now)
        while waiting and (1 + len(waiting) > most or sending + sum(size for _, _, size in waiting) > most_bytes):
            fates[waiting.popleft()[0]] = ("queue", np.inf)
    serve(np.inf)
    return [fates[number] for number in range(len(letters))]


@given(
    letters=st.lists(
        st.tuples(st.integers(0, 8).map(lambda n: n * 0.0625), st.integers(1, 3).map(lambda n: 64 * n)),
        min_size=1, max_size=25,
    ),
    messages=st.integers(1, 4) | st.none(),
    size=st.integers(2, 12).map(lambda n: 64 * n) | st.none(),
    lifetime=st.sampled_from([None, 0.3, 0.7]),
)  # fmt: skip
def test_the_oldest_are_dropped_as_one_would_do_it_by_hand(
    letters: list[tuple[float, int]], messages: int | None, size: int | None, lifetime: float | None
) -> None:
    if messages is None and size is None:
        messages = 3
    queue: dict[str, Any] = {"drop": "head"}
    queue |= {} if messages is None else {"messages": messages}
    queue |= {} if size is None else {"size": f"{size} B"}
    queue |= {} if lifetime is None else {"lifetime": f"{lifetime} s"}
    found = records(letters, queue)
    assert [record.size for record in found] == [size for _, size in letters]
    expected = plainly(letters, messages or np.inf, size or np.inf, lifetime or np.inf)
    assert [record.verdict.cause for record in found] == [cause for cause, _ in expected]
    assert [record.verdict.arrival for record in found] == pytest.approx([arrival for _, arrival in expected])


def test_the_newest_survive_a_full_queue() -> None:
    """One is being sent and two may wait: of six at once the first and the last two arrive."""
    causes = {}
    for drop in ("tail", "head"):
        found = records([(0.0, 200)] * 6, {"messages": 3, "drop": drop})
        causes[drop] = [record.verdict.cause for record in found]
    assert causes == {"tail": ["", "", "", "queue", "queue", "queue"], "head": ["", "queue", "queue", "queue", "", ""]}


def test_packets_are_counted_too() -> None:
    kept: list[Record] = []
    link = {"rate": "8 kbit/s", "mtu": "100 B", "queue": {"packets": 5, "drop": "head"}}
    emulate(Write(letters=[(0.0, 200)] * 4), [[1], []], link=link, sink=kept.append)
    assert [record.verdict.cause for record in sorted(kept, key=lambda record: record.number)] == [
        "",
        "queue",
        "queue",
        "",
    ]


def test_what_waits_when_a_run_ends_is_under_way() -> None:
    found = records([(0.0, 200)] * 5, {"messages": 4, "drop": "head"}, until=0.3)
    assert [record.verdict.cause for record in found] == ["", "queue", "", "", ""]
    assert [round(record.verdict.arrival, 6) for record in found] == [0.2, np.inf, 0.4, np.inf, np.inf]
