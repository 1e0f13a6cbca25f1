"""How a command ends: one message and an exit code, whatever ended it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import typer

from p2pl_async.errors import P2plError, ScenarioError


@contextmanager
def errors(debug: bool) -> Iterator[list[Callable[[], str]]]:
    """Turn an error into one message and an exit code; functions put into the yielded list add lines to it."""
    more: list[Callable[[], str]] = []
    ended_by: list[int] = []
    try:
        with _like_ctrl_c(ended_by):
            yield more
    except (KeyboardInterrupt, Exception) as error:
        if debug or isinstance(error, typer.Exit):
            raise
        if isinstance(error, BrokenPipeError):  # whoever read our output, such as `head`, has enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        if isinstance(error, KeyboardInterrupt):
            number = ended_by[0] if ended_by else signal.SIGINT
            lines, code = [f"ended by {signal.Signals(number).name}" if ended_by else "interrupted"], 128 + number
        elif isinstance(error, P2plError):
            lines, code = [str(error)], 2
        elif place := _users_line(error):
            lines, code = [f"{place}: {type(error).__name__}: {error}"], 2
        else:
            lines, code = [f"bug in p2pl_async: {type(error).__name__}: {error}; add --debug to see where"], 1
        if not isinstance(error, ScenarioError):  # with one, nothing has begun
            lines += [line() for line in more]
        print("\n".join(filter(None, lines)), file=sys.stderr)
        raise typer.Exit(code) from None


def _users_line(error: BaseException) -> str:
    """Return the line of a user's own file in which an error was raised; "" if it wasn't in one."""
    from p2pl_async.basics.plugins import line_of_plugin

    return line_of_plugin(error)


@contextmanager
def _like_ctrl_c(received: list[int]) -> Iterator[None]:
    """Let SIGTERM, as of Slurm or `timeout`, and SIGHUP, of a closed terminal, end a run as orderly as Ctrl-C does.

    They go to whoever handles Ctrl-C at that moment: while devices run, trio does, and ends them where they wait.
    """

    def hand_on(number: int, frame: FrameType | None) -> None:
        received.append(number)
        handler = signal.getsignal(signal.SIGINT)
        if not callable(handler):
            raise KeyboardInterrupt
        handler(signal.SIGINT, frame)

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    main_thread = threading.current_thread() is threading.main_thread()  # others may not set handlers
    taken = [
        number for number in numbers if main_thread and signal.getsignal(number) is signal.SIG_DFL
    ]  # not `nohup`'s
    for number in taken:
        signal.signal(number, hand_on)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)
