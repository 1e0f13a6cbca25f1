"""How messages become frames: what depends on the links of a transmission and on a message's size alone.

    links -> `Recipients`: to whom, at which rate          size -> `Framing`: fragments, parity, bytes on the air

A device that sends again and again to the same neighbors finds both as it left them.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

from p2pl_async.link import Link, LinkSettings


class Framing:
    """The frames of a message of `size` bytes, over links of these settings.

    Frames are its fragments in order; with erasure coding, the parity of each group follows the group. If links
    differ, the message is cut for the smallest MTU with the longest header, and protected as the link with the most
    parity for its data asks for.
    """

    __slots__ = (
        "bytes", "data", "first_of_last", "fragments", "frames", "full", "header", "last", "needs_of_last", "parity",
        "payload", "short",
    )  # fmt: skip

    def __init__(self, settings: Sequence[LinkSettings], size: int) -> None:
        self.header = max(one.header for one in settings)
        mtu = min((one.mtu for one in settings if one.mtu is not None), default=size + self.header)
        self.payload = max(1, mtu - self.header)
        self.fragments = max(1, math.ceil(size / self.payload))
        self.last = size - (self.fragments - 1) * self.payload + self.header  # bytes of the last fragment's frame
        codes = [one.fec for one in settings if one.fec is not None]
        fec = max(codes, key=lambda code: (code.parity / code.data, code.parity), default=None)
        self.data, self.parity = (self.fragments, 0) if fec is None else (fec.data, fec.parity)
        groups = -(-self.fragments // self.data)
        self.first_of_last = (groups - 1) * (self.data + self.parity)  # the first frame of the last group
        self.needs_of_last = self.fragments - (groups - 1) * self.data  # frames that rebuild the last group
        self.frames = self.fragments + groups * self.parity
        self.short = self.fragments - 1 + (groups - 1) * self.parity  # the frame of the last fragment
        self.full = self.payload + self.header if self.fragments > 1 else self.last
        self.bytes = size + self.fragments * self.header + groups * self.parity * self.full

    def fragment(self, frame: int) -> int | None:
        """Return the fragment that a frame carries; None if it is parity."""
        if not self.parity:
            return frame
        group, within = divmod(frame, self.data + self.parity)
        fragment = group * self.data + within
        return fragment if within < self.data and fragment < self.fragments else None


class Recipients:
    """The links that one transmission goes over.

    Args:
        links: to its receivers.
        places: index of each of `links` among all links that a message takes.

    Attributes:
        receivers: the devices at their ends.
        varies: whether the rate may be another for each frame.
        waits: whether a frame may have to wait for the links.
    """

    __slots__ = ("_framings", "_rate", "_settings", "links", "places", "receivers", "varies", "waits")

    def __init__(self, links: Sequence[Link], places: Sequence[int]) -> None:
        self.links = links
        self.places = places
        self.receivers = [link.dst for link in links]
        self.varies = any(link.varies for link in links)
        self.waits = self.varies or any(link.holds for link in links)
        # None: they change, and each message asks anew.
        self._settings = None if any(link.changes for link in links) else self._distinct(0.0)
        self._rate = None if self._settings is None or self.varies else self._lowest(0.0)
        self._framings: dict[int, Framing] = {}

    def settings(self, now: float) -> list[LinkSettings]:
        """Return the settings of its links at an instant, those that several have once."""
        return self._distinct(now) if self._settings is None else self._settings

    def framing(self, size: int, now: float) -> Framing:
        """Return how a message of `size` bytes is cut that is sent now."""
        if self._settings is None:
            return Framing(self._distinct(now), size)
        found = self._framings.get(size)
        if found is None:
            if len(self._framings) == _KEPT:
                self._framings.clear()
            found = self._framings[size] = Framing(self._settings, size)
        return found

    def rate_at(self, now: float) -> float | None:
        """Return the rate of a frame that asks for the channel now, the lowest of its links; None: unlimited."""
        return self._lowest(now) if self._rate is None else self._rate

    def _distinct(self, now: float) -> list[LinkSettings]:
        return list({id(one): one for one in [link.settings_at(now) for link in self.links]}.values())

    def _lowest(self, now: float) -> float | None:
        return min((rate for link in self.links if (rate := link.rate_at(now)) is not None), default=None)


def recipients(links: Sequence[Link], once: bool, where: Sequence[Hashable] | None) -> list[Recipients]:
    """Return the links that each transmission of a message goes over.

    Args:
        links: to all receivers of the message.
        once: whether one transmission may be for several of them; those that wait for their link have their own.
        where: devices listen, by id: on which channel, in which slots; each has its transmission. None: all alike.
    """
    together: dict[Hashable, list[int]] = {}
    groups: list[list[int]] = []
    for place, link in enumerate(links):
        if once and not link.holds:
            together.setdefault(0 if where is None else where[link.dst], []).append(place)
        else:
            groups.append([place])
    return [Recipients([links[k] for k in places], places) for places in sorted([*groups, *together.values()])]


_KEPT = 64  # sizes of messages
