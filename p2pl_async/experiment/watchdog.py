"""A word to a user whose protocol never awaits: no other device, and no clock, goes on before it does.

Nothing of this program runs meanwhile, so that a thread looks every now and then whether trio has had its turn since.
It only says so: a step that takes its time is no mistake.
"""

from __future__ import annotations

import _thread
import contextlib
import sys
import threading
from collections.abc import Iterator
from types import CodeType, FrameType

from p2pl_async.clock import VirtualClock
from p2pl_async.errors import is_users

SECONDS = 30.0  # of wall time between two looks


@contextlib.contextmanager
def tells_of_standstill(clock: VirtualClock, runs_device: CodeType) -> Iterator[None]:
    """Watch the thread that enters: say on stderr where a device has computed for long without awaiting anything.

    Args:
        clock: of the run.
        runs_device: the code of the function whose local `device` is the one that runs.
    """
    over, watched = threading.Event(), threading.get_ident()

    def look() -> None:
        before = None
        while not over.wait(SECONDS):
            now = clock.moves
            said = _said(sys._current_frames().get(watched), runs_device) if now == before else ""
            if said and not over.is_set():
                print(said, file=sys.stderr)
                return
            before = now

    # `threading.Thread` waits until the thread has begun, and `join` until it has ended: milliseconds on busy cores,
    # as long as a small run.
    _thread.start_new_thread(look, ())
    try:
        yield
    finally:
        over.set()


def _said(frame: FrameType | None, runs_device: CodeType) -> str:
    """Return what to say of a thread that is at this frame; "" if no device's protocol runs there."""
    place = ""
    while frame is not None and frame.f_code is not runs_device:
        if not place and is_users(frame.f_code.co_filename):
            place = f"{frame.f_code.co_filename}, line {frame.f_lineno}"
        frame = frame.f_back
    if frame is None or not place:
        return ""
    return (
        f"device {frame.f_locals['device'].id} has computed for {SECONDS:g} s without awaiting anything ({place}), and "
        "all others wait for it; Ctrl-C ends the run. A loop must await something: device.sleep, train or receive"
    )
