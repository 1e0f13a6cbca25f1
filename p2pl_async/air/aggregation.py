"""Frames sent together and acknowledged one by one: A-MPDU with block acknowledgment, of 802.11n.

    message = frames 0 1 2 3 4 ...     one preamble: 0 1 2 3 -> block ack: 0 _ 2 3 -> 1 4 5 6 -> ...

Each frame of a burst is lost by itself, but all of them with the preamble. Source: IEEE 802.11-2020, 10.12 and 10.25.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from p2pl_async.air.rates import Mode
from p2pl_async.air.settings import BLOCK, Aggregate
from p2pl_async.air.transmission import Transmission

_DELIMITER = 4  # bytes before each frame, padding to four bytes not counted


class Burst:
    """The frames of one message that its sender has not seen acknowledged.

    Args:
        settings: of the medium.
        frames: number of the message's frames.
        size: returns the bytes of a frame.
    """

    def __init__(self, settings: Aggregate, frames: int, size: Callable[[int], int]) -> None:
        self.sent: list[int] = []  # the frames of the current transmission
        self.heard: set[int] = set()  # frames that the receiver has
        self._settings = settings
        self._size = size
        self._frames = frames
        self._open = list(range(frames))
        self._tries = [0] * frames

    @property
    def first(self) -> int:
        """The first frame that is not finished; the number of frames if all are."""
        return self._open[0] if self._open else self._frames

    @property
    def tries(self) -> int:
        """Most transmissions of one frame so far."""
        return max(self._tries)

    @property
    def bytes(self) -> int:
        """Bytes of the current transmission."""
        more = _DELIMITER * len(self.sent) if len(self.sent) > 1 else 0
        return sum(map(self._size, self.sent)) + more

    def choose(self, mode: Mode) -> None:
        """Choose the frames of the next transmission."""
        self.sent = self._open[:1]
        for frame in self._open[1 : self._settings.frames]:
            self.sent.append(frame)
            if frame >= self.first + BLOCK or mode.seconds(self.bytes) > self._settings.longest:
                self.sent.pop()
                break

    def parts(self, transmission: Transmission, preamble: float) -> Iterator[tuple[int, Transmission]]:
        """Yield each frame of a transmission with its part of it: others that meet the preamble meet all of them."""
        start, end = transmission.start, transmission.end
        per_byte = (end - start - preamble) / self.bytes
        begin = start + preamble
        for frame in self.sent:
            over = begin + per_byte * (self._size(frame) + (_DELIMITER if len(self.sent) > 1 else 0))
            yield frame, transmission.part(begin, over, start + preamble)
            begin = over

    def over(self, acknowledged: bool, most_tries: int) -> list[int]:
        """Finish a transmission, and return the frames that are given up; `acknowledged`: a block ack has come."""
        given_up = []
        for frame in self.sent:
            self._tries[frame] += 1
            if acknowledged and frame in self.heard:
                self._open.remove(frame)
            elif self._tries[frame] >= most_tries:
                self._open.remove(frame)
                given_up.append(frame)
        return given_up
