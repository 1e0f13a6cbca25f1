"""Errors, sorted by whose fault they are: the scenario, the protocol's code, or a peer.

Whatever a user can cause derives from `P2plError`; the command line shows its text and
no traceback. A bug of this package stays an ordinary exception.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class P2plError(Exception):
    """Base of every error that is meant to be read by a user."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a scenario, or in a file that it names."""

    path: str  # where, as dotted keys: "link.override[2].loss.p"
    text: str  # what it must be and what to do about it
    value: object = None  # what was found; None where there is nothing to show

    def __str__(self) -> str:
        shown = "" if self.value is None else f" = {_show(self.value)}"
        return f"  {self.path}{shown}\n    {self.text}"


class ScenarioError(P2plError):
    """A scenario, or a file that it names, can't be used; holds every problem found."""

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        self.source = source
        self.problems = tuple(problems)
        count = f"{len(problems)} problem" + "s" * (len(problems) != 1)
        super().__init__("\n".join([f"{source} has {count}", "", *map(str, problems)]))


class ProtocolError(P2plError):
    """Protocol code misused its device."""


class RemoteError(P2plError):
    """What a peer sent can't be read; it is counted and dropped."""


class DeviceFailed(P2plError):
    """A device's protocol raised; the cause is chained."""

    def __init__(self, device: int, now: float, cause: BaseException) -> None:
        self.device = device
        self.now = now
        what = str(cause) or "no message"
        super().__init__(f"device {device} failed at {now:.6g} s: {type(cause).__name__}: {what}")


class Deadlock(P2plError):
    """Every device waits and nothing is left to happen."""


class PredictionError(P2plError):
    """A run can't be predicted: not that kind of run, an unstable step size, or too much memory."""


class InvariantError(P2plError):
    """The emulation broke one of its own laws; a bug of this package, named by its first offender."""


def _show(value: object) -> str:
    """Return a value as a TOML author would write it, cut to a line."""
    text = {True: "true", False: "false"}.get(value) if isinstance(value, bool) else None
    if text is None:
        text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else text[:77] + "..."
