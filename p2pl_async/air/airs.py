"""Several media side by side: a message goes over that of its link, and disturbs nothing on another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from p2pl_async.air.air import Air
from p2pl_async.air.outgoing import Decided, Reached
from p2pl_async.air.transmission import Sender
from p2pl_async.link import Link, Verdict
from p2pl_async.messages import DeviceId


class SeveralAirs:
    """The media of a scenario, as one.

    A device has a radio of its own on each that it is on. A message to several devices is sent on the air of each of
    their links, on each of them once.

    Args:
        airs: the media by number; None where links are dedicated, which take no message here.
        of: (src, dst) -> the number of their link's.
    """

    def __init__(self, airs: Sequence[Air | None], of: Callable[[DeviceId, DeviceId], int]) -> None:
        self._airs = airs
        self._of = of
        self._shared = [air for air in airs if air is not None]

    @property
    def senders(self) -> list[Sender]:
        """The senders of all devices, medium by medium."""
        return [sender for air in self._shared for sender in air.senders]

    def takes(self, source: DeviceId, target: DeviceId) -> bool:
        """Tell whether the link between two devices is on a shared medium."""
        return self._airs[self._of(source, target)] is not None

    def send(
        self,
        source: DeviceId,
        links: Sequence[Link],
        size: int,
        decided: Decided,
        token: Any,
        needed: int | None = None,
        reached: Reached | None = None,
    ) -> None:
        """Accept a message for the devices at the ends of `links`; as `Air.send`."""
        places: dict[int, list[int]] = {}  # number of a medium -> those of the links that are on it
        for k, link in enumerate(links):
            places.setdefault(self._of(link.src, link.dst), []).append(k)
        for number in sorted(places):
            air, on_it = self._airs[number], places[number]
            assert air is not None
            part = _Part(token, on_it, decided, reached)
            air.send(source, [links[k] for k in on_it], size, _decided, part, needed, _reached)

    def is_sending(self, source: DeviceId, target: DeviceId) -> bool:
        """Tell whether a message for `target` waits for the source's sender, or is on the air."""
        air = self._airs[self._of(source, target)]
        return air is not None and air.is_sending(source, target)

    def crash(self, device: DeviceId, cause: str) -> None:
        """Lose the messages waiting in a device's memory, and cut off what it transmits."""
        for air in self._shared:
            air.crash(device, cause)

    def abandon(self, verdict: Verdict) -> None:
        """Give this verdict to every message that is not finished, as a run ends."""
        for air in self._shared:
            air.abandon(verdict)


class _Part(NamedTuple):
    """The links of a message that are on one medium."""

    token: Any
    places: Sequence[int]
    decided: Decided
    reached: Reached | None


def _decided(part: _Part, places: Sequence[int], verdicts: Sequence[Verdict]) -> None:
    part.decided(part.token, [part.places[k] for k in places], verdicts)


def _reached(part: _Part, places: Sequence[int], verdicts: Sequence[Verdict]) -> Sequence[Verdict]:
    return verdicts if part.reached is None else part.reached(part.token, [part.places[k] for k in places], verdicts)


AnyAir = Air | SeveralAirs
