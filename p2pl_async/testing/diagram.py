"""Message diagrams: who sent what to whom, and what became of it, as text.

   sent         0         1         2
12.031 s        |--value->|         |  arrives at 12.051 s
12.040 s        |<------value-------|  lost: burst
"""

from __future__ import annotations

import math

from p2pl_async.experiment.emulation import Emulation
from p2pl_async.hardware.downtime import Stay
from p2pl_async.trace import Record

_WIDTH = 14  # characters between two devices
_MOST_DEVICES = 8  # for which there is room in a line


def diagram(emulation: Emulation, last: int = 20) -> str:
    """Return a diagram of the last messages of an emulation, one line for each link that a message took.

    Args:
        emulation: that a `Witness` watches; it is over.
        last: most lines.
    """
    records = sorted(emulation.witness.records)[-last:]
    n = len(emulation.devices)
    if not records:
        return "no message was sent"
    lines = [f"{'sent':>13}  " + "".join(f"{k:^{_WIDTH}}" for k in range(n)) if n <= _MOST_DEVICES else "sent"]
    events = [(record.sent, 1, _line(record, n, emulation.clock.now)) for record in records]
    for device, downtime in enumerate(emulation.downtimes or ()):
        stay = downtime.next(records[0].sent)
        while stay is not None and stay.start <= emulation.clock.now:
            events.append((stay.start, 0, f"{_seconds(stay.start)}  device {device} is {_down(stay)}"))
            stay = downtime.next(stay.end) if stay.end < math.inf else None
    lines += [text for _, _, text in sorted(events)]
    return "\n".join([*lines, f"{_seconds(emulation.clock.now)}  the end"])


def _seconds(instant: float) -> str:
    return f"{instant:>11.6f} s"


def _down(stay: Stay) -> str:
    return f"down ({stay.cause})" + (f" until {stay.end:.6f} s" if stay.end < math.inf else " for good")


def _line(record: Record, n: int, end: float) -> str:
    verdict = record.verdict
    if verdict.arrival < math.inf:
        part = "a part of it " if verdict.missing else ""
        fate = f"{part}arrives at {verdict.arrival:.6f} s" + (", twice" if verdict.copy < math.inf else "")
        fate += " (in flight)" if verdict.arrival > end else ""
    else:
        fate = f"lost: {verdict.cause}" if verdict.cause else "under way"
    name = f"{record.kind} {record.number}"
    if n > _MOST_DEVICES:
        return f"{_seconds(record.sent)}  {record.src} -> {record.dst}  {name}  {fate}"
    low, high = sorted((record.src, record.dst))
    inside = (high - low) * _WIDTH - 1
    arrow = name[: inside - 2].center(inside - 1, "-")
    arrow = arrow + ">" if record.src < record.dst else "<" + arrow
    lifelines = [" "] * (n * _WIDTH)
    for k in range(n):
        lifelines[k * _WIDTH + _WIDTH // 2] = "|"
    start = low * _WIDTH + _WIDTH // 2 + 1
    lifelines[start : start + inside] = arrow
    return f"{_seconds(record.sent)}  {''.join(lifelines).rstrip():<{n * _WIDTH - _WIDTH // 2 + 1}}  {fate}"
