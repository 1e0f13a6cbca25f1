"""A message on its way through a device's radio: its frames, and which of them each receiver misses."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from p2pl_async.link import Link, Ranges, Verdict, missing_ranges

Decided = Callable[[Any, int, Verdict], object]


class Outgoing:
    """A message that a device has accepted for transmission, to one device or to several at once.

    Frames are its fragments in order; with erasure coding, the parity of each group follows the group.
    If links differ, the message is cut for the smallest MTU and sent at the lowest rate.

    Args:
        links: to its receivers.
        size: bytes.
        decided: called with `token`, the index of a link among the message's, and the verdict there.
        token: passed on to `decided`.
        now: the instant.
        place: index of the first of `links` among all links that the message takes.
        needed: number of bytes at the start without which a part is useless; None if only the whole is useful.
    """

    def __init__(
        self,
        links: Sequence[Link],
        size: int,
        decided: Decided,
        token: Any,
        now: float,
        place: int = 0,
        needed: int | None = None,
    ) -> None:
        self.links = links
        self.place = place
        self.token = token
        self.sent = now
        self._size = size
        self._decided = decided
        self._needed = needed
        settings = [link.settings_at(now) for link in links]
        payloads = [one.mtu - one.header for one in settings if one.mtu is not None]
        self.header = max(one.header for one in settings)
        self.payload = min(payloads, default=size) or 1
        self._fragments = max(1, math.ceil(size / self.payload))
        self._last = size - (self._fragments - 1) * self.payload + self.header  # bytes of the last fragment's frame
        fec = settings[0].fec
        self._data, self._parity = (self._fragments, 0) if fec is None else (fec.data, fec.parity)
        groups = -(-self._fragments // self._data)
        self.frames = self._fragments + groups * self._parity
        self.short = self._fragments - 1 + (groups - 1) * self._parity  # the frame of the last fragment
        self.full = self.payload + self.header if self._fragments > 1 else self._last
        self.bytes = size + self._fragments * self.header + groups * self._parity * self.full
        rates = [one.rate for one in settings if isinstance(one.rate, float)]
        self.rate = min(rates, default=None)
        self.arq = settings[0].arq if len(links) == 1 else None
        self.cut = ""  # why its sender gives it up at the end of the current frame; "" if it doesn't
        self.done = 0  # frames that are finished
        self.known = True  # every frame so far has been acknowledged
        self.heard = False  # the current frame has arrived, acknowledged or not
        self.packets = 0
        self.air_bytes = 0
        self.air_seconds = 0.0
        self._lost = [0] * len(links)  # transmissions that a receiver didn't hear
        self._missing: list[list[int]] = [[] for _ in links]  # frames that a receiver never gets
        self._causes = [""] * len(links)  # why it misses the first of these

    def frame(self, index: int) -> int:
        """Return the bytes of a frame, header included."""
        return self._last if index == self.short else self.full

    @property
    def useful_in_part(self) -> bool:
        """Whether sending continues after a fragment is given up."""
        return self._needed is not None

    def missed(self, k: int, frame: int, cause: str) -> None:
        """Record that receiver k will never get a frame."""
        self._missing[k].append(frame)
        self._causes[k] = self._causes[k] or cause

    def unheard(self, k: int, transmissions: int) -> None:
        """Record the number of transmissions that receiver k didn't hear."""
        self._lost[k] += transmissions

    def decide(self, k: int, cause: str, end: float, acknowledged: bool) -> None:
        """Report the fate of the message at receiver k, when its last frame has ended.

        Args:
            k: the receiver.
            cause: why the whole message was given up; "" if it wasn't.
            end: the instant.
            acknowledged: whether the sender knows that all of it arrived.
        """
        missing: Ranges = ()
        lost = [] if cause else self._unrepaired(k)
        if lost:
            found = np.array(lost)
            missing = missing_ranges(found, self._fragments, self.payload, self._size, self._needed)
            cause = "partial" if missing else self._causes[k]
        arrival = math.inf if cause and not missing else self.links[k].travel(end)
        verdict = Verdict(arrival, cause, acknowledged=acknowledged and not missing, missing=missing)
        if k == 0:  # a transmission is charged once, however many hear it: to the first of its links
            verdict = verdict._replace(
                packets=self.packets,
                packets_lost=self._lost[0],
                air_bytes=self.air_bytes,
                air_seconds=self.air_seconds,
            )
        self.tell(k, verdict)

    def tell(self, k: int, verdict: Verdict) -> None:
        """Report a verdict for receiver k."""
        self._decided(self.token, self.place + k, verdict)

    def _fragment(self, frame: int) -> int | None:
        """Return the fragment that a frame carries; None if it is parity."""
        if not self._parity:
            return frame
        group, within = divmod(frame, self._data + self._parity)
        fragment = group * self._data + within
        return fragment if within < self._data and fragment < self._fragments else None

    def _unrepaired(self, k: int) -> list[int]:
        """Return the fragments that receiver k misses and can't rebuild from parity, ascending."""
        if not self._parity:
            return self._missing[k]
        step = self._data + self._parity
        lost: list[int] = []
        for group in {frame // step for frame in self._missing[k]}:
            frames = [frame for frame in self._missing[k] if frame // step == group]
            if len(frames) > self._parity:
                lost += [fragment for frame in frames if (fragment := self._fragment(frame)) is not None]
        return sorted(lost)
