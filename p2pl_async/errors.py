"""Errors, sorted by whose fault they are: the scenario, the protocol's code, or a peer.

Errors that a user can cause derive from `P2plError`; the command line shows their text and
no traceback. A bug of this package stays an ordinary exception.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Sequence
from dataclasses import dataclass

_PACKAGES = {"site-packages", "dist-packages"}  # names of folders of installed packages


class P2plError(Exception):
    """Base of every error that is meant for users."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem in a scenario, or in a file that it names."""

    path: str  # the place, as dotted keys: "link.override[2].loss.p"
    text: str  # the rule, and the repair
    value: object = None  # the value found; None if there is none to show

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
    """A peer's message can't be read; it is counted and dropped."""


class DeviceFailed(P2plError):
    """A device's protocol raised; the cause is chained."""

    def __init__(self, device: int, now: float, cause: BaseException) -> None:
        self.device = device
        self.now = now
        while isinstance(cause, BaseExceptionGroup) and len(cause.exceptions) == 1:  # of a nursery in the protocol
            cause = cause.exceptions[0]
        what = str(cause) or "no message"
        place = user_line(cause)
        at = f" ({place})" if place else ""
        super().__init__(f"device {device} failed at {now:.6g} s: {type(cause).__name__}: {what}{at}")


class Deadlock(P2plError):
    """Every device waits, and no pending event can wake any of them."""


class Livelock(P2plError):
    """Devices go on without virtual time passing."""


class PredictionError(P2plError):
    """A run can't be predicted: the theory doesn't cover it, the step size is unstable, or memory doesn't suffice."""


class InvariantError(P2plError):
    """The emulation broke one of its own laws; a bug of this package, named by its first offender."""


def user_line(error: BaseException) -> str:
    """Return the innermost line of an error's traceback that isn't of this package or an installed one; "" if none."""
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if is_users(frame.filename)]
    return f"{own[-1].filename}, line {own[-1].lineno}" if own else ""


def is_users(filename: str) -> bool:
    """Tell whether a file with code is neither of this package nor of an installed one."""
    inside = (os.path.dirname(os.path.abspath(__file__)), os.path.dirname(os.__file__))
    path = os.path.abspath(filename)
    installed = not _PACKAGES.isdisjoint(path.split(os.sep))  # wherever that is: of the system, the user, a virtualenv
    return not (filename.startswith("<") or installed or path.startswith(inside))


def _show(value: object) -> str:
    """Return a value as a TOML author would write it, cut to a line."""
    text = {True: "true", False: "false"}.get(value) if isinstance(value, bool) else None
    if text is None:
        text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else f"{text[:37]}...{text[-40:]}"  # the end of a path is the name of its file
