"""Links that come and go: the file that lists them, the neighbors of an instant, and how long contacts last.

t, src, dst, change
0, 0, 1, up
10, 0, 1, rate=1 Mbit/s     a key of [link], from then on
60, 0, 1, down              until it is up again; before its first "up" a link is down
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from p2pl_async.basics.arrays import Bools, Floats
from p2pl_async.basics.timeline import Steps
from p2pl_async.basics.tracefiles import TraceError, read_texts
from p2pl_async.basics.units import show_seconds


class Change(NamedTuple):
    """One line of the file, for one direction."""

    at: float  # s
    line: int
    src: int
    dst: int
    what: str  # "up", "down", or a key of [link]
    value: str  # of that key, as in a scenario; "" for up and down


def read_changes(path: Path, n: int, directed: bool) -> list[Change]:
    """Return the changes that a file lists for the links of `n` devices, in order of time.

    Args:
        path: a CSV file with the columns t (in s), src, dst and change.
        n: number of devices.
        directed: each line is about one direction only.

    Raises:
        ValueError: if it can't be used; the text names the line and the repair.
    """
    found = []
    for line, (time, *ends, change) in read_texts(path, ["t", "src", "dst", "change"]):
        where = f"{path}, line {line}:"
        try:
            at = float(time)
        except ValueError:
            at = math.nan
        if not 0 <= at < math.inf:
            raise TraceError(f'{where} t = "{time}" must be a time in seconds, at least 0')
        for end in ends:
            if not (end.isascii() and end.isdigit() and int(end) < n):
                raise TraceError(f'{where} "{end}" must be a device id from 0 to {n - 1}')
        src, dst = map(int, ends)
        if src == dst:
            raise TraceError(f"{where} device {src} can't have a link to itself")
        what, sign, value = (part.strip() for part in change.partition("="))
        if bool(sign) != (what not in ("up", "down")) or (sign and not (what and value)):
            raise TraceError(f'{where} "{change}" must be up, down, or a key of [link] such as rate=1 Mbit/s')
        found += [
            Change(at, line, *link, what, value) for link in ([(src, dst)] if directed else [(src, dst), (dst, src)])
        ]
    if not any(change.what == "up" for change in found):
        raise TraceError(f'{path} has no link that is ever up; write lines such as "0,3,4,up"')
    return sorted(found)


class Contacts:
    """The neighbors of each device over time, by a list of changes.

    Args:
        n: number of devices.
        changes: in order of time.
    """

    roams = True

    def __init__(self, n: int, changes: Sequence[Change]) -> None:
        self._n = n
        self._up: dict[tuple[int, int], list[list[float]]] = {}  # link -> [start, end) of each contact
        for change in changes:
            plan = self._up.setdefault((change.src, change.dst), [])
            if change.what == "up" and (not plan or plan[-1][1] < math.inf):
                if plan and plan[-1][1] == change.at:
                    plan[-1][1] = math.inf  # down and up again at one instant
                else:
                    plan.append([change.at, math.inf])
            elif change.what == "down" and plan and plan[-1][1] == math.inf:
                plan[-1][1] = change.at
        self._up = {
            link: [stay for stay in plan if stay[1] > stay[0]] for link, plan in sorted(self._up.items()) if plan
        }
        self._instants = sorted(
            {0.0, *(t for plan in self._up.values() for stay in plan for t in stay if t < math.inf)}
        )
        self._settings: dict[tuple[int, int], list[Change]] = {}
        for change in changes:
            if change.what not in ("up", "down"):
                self._settings.setdefault((change.src, change.dst), []).append(change)
        self._outgoing = _steps(n, [(src, dst, plan) for (src, dst), plan in self._up.items()])
        self._incoming = _steps(n, [(dst, src, plan) for (src, dst), plan in self._up.items()])

    def __str__(self) -> str:
        return f"links come and go {len(self._instants)} times, as a file says"

    @property
    def links(self) -> list[tuple[int, int]]:
        """Every link that is ever up, in order."""
        return [link for link, plan in self._up.items() if plan]

    def contacts(self, src: int, dst: int) -> Floats:
        """Return [start, end) of the times that a link is up, in seconds, shape (k, 2); the last end may be inf."""
        return np.array(self._up.get((src, dst), []), dtype=np.float64).reshape(-1, 2)

    def settings_changes(self, src: int, dst: int) -> list[Change]:
        """Return the changes of a link's settings, in order."""
        return self._settings.get((src, dst), [])

    def outgoing(self, device: int, now: float, round: int) -> tuple[int, ...]:
        """Return the devices that can hear `device`, in order of id."""
        return self._outgoing[device].value(now)

    def incoming(self, device: int, now: float, round: int) -> tuple[int, ...]:
        """Return the devices that `device` can hear, in order of id."""
        return self._incoming[device].value(now)

    def snapshots(self, end: float) -> Iterator[tuple[float, Bools]]:
        """Yield (instant, links from then on) until `end`; tables have shape (n, n), row src, column dst."""
        for instant in self._instants:
            if instant < end:
                table = np.zeros((self._n, self._n), np.bool_)
                for device in range(self._n):
                    table[device, list(self.outgoing(device, instant, 0))] = True
                yield instant, table


def _steps(n: int, plans: Iterable[tuple[int, int, list[list[float]]]]) -> list[Steps[tuple[int, ...]]]:
    """Return the neighbors of each device over time."""
    switches: list[list[tuple[float, int]]] = [[] for _ in range(n)]
    for device, other, plan in plans:
        switches[device] += [(t, other) for stay in plan for t in stay if t < math.inf]
    found = []
    for device in range(n):
        here: set[int] = set()
        times = [-math.inf]
        neighbors: list[tuple[int, ...]] = [()]
        for t, other in sorted(switches[device]):
            here ^= {other}
            if times[-1] == t:
                neighbors[-1] = tuple(sorted(here))
            else:
                times.append(t)
                neighbors.append(tuple(sorted(here)))
        found.append(Steps(np.array(times), neighbors, None))
    return found


def meetings(snapshots: Iterable[tuple[float, Bools]], end: float) -> list[str]:
    """Return sentences about links that come and go: which devices they connect, how long contacts and gaps last.

    Args:
        snapshots: (instant, links from then on), the first at 0 s; tables of shape (n, n), row src, column dst.
        end: the instant at which the last of them ends.
    """
    ever = always = last = since = None
    ups: list[Floats] = []
    gaps: list[Floats] = []
    up_time, before = 0.0, 0.0
    for instant, table in snapshots:
        if ever is None or always is None or last is None or since is None:
            ever, always, last = table.copy(), table.copy(), table
            since = np.where(table, instant, math.nan)  # when the contact, or the gap, began; nan: never met
            continue
        up_time += float(np.count_nonzero(last)) * (instant - before)
        before = instant
        changed = table != last
        lengths = instant - since[changed]
        ended = last[changed]
        ups.append(lengths[ended])
        gaps.append(lengths[~ended & ~np.isnan(lengths)])
        since[changed] = instant
        ever |= table
        always &= table
        last = table
    assert ever is not None
    assert always is not None
    assert last is not None
    up_time += float(np.count_nonzero(last)) * (end - before)
    count = int(np.count_nonzero(ever))
    found = [
        f"in {show_seconds(end)} {count} links are up at some time, {_connect(ever)}; "
        f"{np.count_nonzero(always)} all the time, {_connect(always)}"
    ]
    if count:
        found.append(f"such a link is up {100 * up_time / (count * end):.3g} % of the time")
    for name, parts in (("contact", ups), ("time between two contacts", gaps)):
        lengths = np.concatenate(parts) if parts else np.empty(0)
        if len(lengths):
            mean, median = show_seconds(float(np.mean(lengths))), show_seconds(float(np.median(lengths)))
            found.append(f"{name}: {mean} on average, median {median}, {len(lengths)} that began and ended")
    return found


def _connect(table: Bools) -> str:
    import networkx as nx

    connected = nx.is_strongly_connected(nx.from_numpy_array(table, create_using=nx.DiGraph))
    return "which lead from everyone to everyone" if connected else "which don't lead from everyone to everyone"
