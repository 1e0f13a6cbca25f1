"""Regulatory duty cycle: a device may be on the air for a limited share of the time.

Source: ETSI EN 300 220 limits sub-bands of 868 MHz this way, over an hour; LoRaWAN devices mostly
stay silent after each frame instead.
"""

from __future__ import annotations

from collections import deque
from typing import Literal

from p2pl_async.basics.units import show_seconds
from p2pl_async.errors import ProtocolError


class AirtimeBudget:
    """The air time that one device has used, and may still use.

    Args:
        share: allowed share of the time, in (0, 1].
        mode: "window": at most share x window in any interval of that length; "per-frame": after a
            frame of air time T, silent for T (1/share - 1).
        window: in seconds.
    """

    def __init__(self, share: float, mode: Literal["window", "per-frame"] = "window", window: float = 3600.0) -> None:
        self._share = share
        self._budget = share * window if mode == "window" else None
        self._window = window
        self._silent_until = 0.0
        self._used: deque[tuple[float, float]] = deque()  # (start, end) of frames that a window may still contain

    def earliest(self, now: float, air_time: float) -> float:
        """Return the first instant, `now` or later, at which a frame of this air time may start.

        Raises:
            ProtocolError: if the frame is longer than a whole window allows.
        """
        if self._budget is None:
            return max(now, self._silent_until)
        if air_time > self._budget * (1 + 1e-12):
            raise ProtocolError(
                f"a frame of {show_seconds(air_time)} can never be sent: the duty cycle allows "
                f"{show_seconds(self._budget)} in {show_seconds(self._window)}; send it in fragments (mtu)"
            )
        begin = now + air_time - self._window  # the window that would end with the frame
        while self._used and self._used[0][1] <= begin:
            self._used.popleft()
        excess = air_time - self._budget + sum(end - max(start, begin) for start, end in self._used)
        if excess <= 0:
            return now
        for start, end in self._used:  # slides the window until that much air time has left it
            begin = max(start, begin)
            if end - begin >= excess:
                return begin + excess + self._window - air_time
            excess -= end - begin
        return begin + self._window  # reached only by rounding: the frame fits once the window is empty

    def add(self, start: float, air_time: float) -> None:
        """Count a frame sent at the instant `start`; frames come in order."""
        if self._budget is None:
            self._silent_until = start + air_time / self._share
        else:
            self._used.append((start, start + air_time))
