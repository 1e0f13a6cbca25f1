"""The line that shows a run while it goes.

A run hands over a snapshot whenever it likes, which costs it next to nothing; a thread draws
the newest one a few times per second. Where there is no terminal, such as in a log file, a
plain line comes every ten seconds instead.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from types import TracebackType

import rich.live
from rich.console import Console
from rich.text import Text

from p2pl_async.basics.units import show_bytes, show_seconds
from p2pl_async.results.metrics import is_share, words
from p2pl_async.results.run import Snapshot

_REFRESH = 6  # times per second
_WINDOW = 20.0  # s of wall time over which speeds are taken
_SOON = 0.5  # s of wall time, before which a speed means nothing
_BAR = 12  # characters


class Live:
    """Shows the progress of a run: `with Live() as progress: run(scenario, progress=progress)`.

    When the run is over the line vanishes; if an error ended it, the line stays.

    Args:
        console: where to; standard error by default, so that tables can be redirected.
        quiet: show nothing.
        interval: seconds of wall time between two lines where there is no terminal.
    """

    def __init__(self, console: Console | None = None, *, quiet: bool = False, interval: float = 10.0) -> None:
        self._console = Console(stderr=True) if console is None else console
        self._quiet = quiet
        self._interval = interval
        self._snapshot: Snapshot | None = None
        self._speed = _Speed()
        self._next = time.monotonic() + interval
        self._live: rich.live.Live | None = None

    def __enter__(self) -> Callable[[Snapshot], None]:
        if self._quiet:
            return _ignore
        if not self._console.is_terminal or self._console.is_dumb_terminal:
            return self._print_sometimes
        self._live = rich.live.Live(get_renderable=self._draw, console=self._console, refresh_per_second=_REFRESH)
        self._live.start()
        return self._keep

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.transient = kind is None
            self._live.stop()

    def _keep(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def _draw(self) -> Text:
        snapshot = self._snapshot
        if snapshot is None:
            return Text("starting", style="dim")
        self._speed.see(snapshot, time.monotonic())
        return progress_line(snapshot, self._speed, width=self._console.width, bar=True)

    def _print_sometimes(self, snapshot: Snapshot) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + self._interval
        self._speed.see(snapshot, now)
        self._console.print(progress_line(snapshot, self._speed), soft_wrap=True)


class _Speed:
    """Speeds over the last seconds of wall time; starts anew with each part of a run."""

    def __init__(self) -> None:
        self._seen: deque[Snapshot] = deque()
        self._at = 0.0  # when the newest snapshot was first seen
        self.wall = 0.0  # s since the part began, also while no snapshot comes
        self.virtual: float | None = None  # virtual seconds per second
        self.messages: float | None = None  # messages per second
        self.left: float | None = None  # s

    def see(self, snapshot: Snapshot, at: float) -> None:
        """Take the newest snapshot, maybe again, at an instant of wall time."""
        seen = self._seen
        if not seen or snapshot is not seen[-1]:
            if seen and snapshot.label != seen[-1].label:
                seen.clear()
            seen.append(snapshot)
            self._at = at
            while len(seen) > 2 and seen[1].wall < snapshot.wall - _WINDOW:
                seen.popleft()
        first = seen[0] if len(seen) > 1 else None
        before = (0.0, 0.0, 0, 0.0) if first is None else (first.wall, first.now, first.sent, first.done or 0.0)
        self.wall = snapshot.wall + at - self._at
        wall = snapshot.wall - before[0]
        self.virtual = self.messages = self.left = None
        if wall < _SOON:
            return
        self.virtual = (snapshot.now - before[1]) / wall
        self.messages = (snapshot.sent - before[2]) / wall
        gained = (snapshot.done or 0.0) - before[3]
        if snapshot.done is not None and gained > 0:
            self.left = max(0.0, (1 - snapshot.done) * wall / gained - (at - self._at))


def progress_line(snapshot: Snapshot, speed: _Speed, *, width: int | None = None, bar: bool = False) -> Text:
    """Return a run's progress as one line; what matters least is left out until it fits `width`."""
    parts: list[tuple[int, Text]] = [(0, Text(snapshot.label, style="bold"))]  # (how dispensable, what)
    if snapshot.done is not None:
        share = min(1.0, max(0.0, snapshot.done))
        parts.append((0, Text(f"{share * 100:3.0f} %")))
        if bar:
            parts.append((8, _bar(share)))
    parts.append((0, Text(show_seconds(snapshot.now))))
    if speed.virtual is not None:
        parts.append((6, Text(f"({_short(speed.virtual)}x)", style="dim")))
    parts.append((10, Text(f"round {_short(snapshot.rounds)}")))
    if snapshot.score is not None:
        share = is_share(snapshot.metric)
        low, mean, high = (f"{value * 100:.1f}" if share else f"{value:.3g}" for value in snapshot.score)
        unit = " %" if share else ""
        parts.append((1, Text.assemble(f"{words(snapshot.metric)} ", low, "/", (mean, "bold green"), "/", high, unit)))
    if snapshot.diverged is not None:
        device, at = snapshot.diverged
        parts.append((0, Text(f"device {device} not finite since {show_seconds(at)}", style="bold red")))
    if snapshot.sent:
        parts.append((4, Text(f"sent {_short(snapshot.sent)}")))
        parts.append((3, Text(f"lost {_short(snapshot.lost)}", style="red" if snapshot.lost else "")))
        parts.append((7, Text(f"delivered {_short(snapshot.delivered)}")))
        parts.append((5, Text(show_bytes(snapshot.air_bytes))))
    if snapshot.sent and speed.messages is not None:
        parts.append((9, Text(f"{_short(speed.messages)} messages/s", style="dim")))
    parts.append((11, Text(f"wall {show_seconds(round(speed.wall))}", style="dim")))
    if speed.left is not None:
        parts.append((2, Text(f"{show_seconds(round(speed.left))} left")))
    while True:
        line = Text("  ").join(text for _, text in parts)
        most = max(rank for rank, _ in parts)
        if width is None or line.cell_len <= width or most == 0:
            line.no_wrap = True
            return line
        parts = [part for part in parts if part[0] != most]


def _bar(share: float) -> Text:
    full = round(share * _BAR)
    return Text.assemble(("━" * full, "green"), ("─" * (_BAR - full), "bright_black"))


def _short(value: float) -> str:
    """Return a count for people: `"12.3k"`."""
    for factor, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor * 0.9995:
            return f"{value / factor:.3g}{suffix}"
    return f"{value:.3g}"


def _ignore(snapshot: Snapshot) -> None:
    pass
