"""Who receives what is on the air: half duplex, collisions, capture and noise at each receiver.

    a transmission begins -> `lock`: who starts to decode it        a receiver holds one frame at a time
    a transmission ends   -> `fate`: why a receiver misses it, or ""

Of what overlaps a frame at its receiver, `collision` decides: any overlap, or the powers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from p2pl_async.air.hearing import Audience, Waves, error_in_interference, most_interference
from p2pl_async.air.outgoing import Outgoing
from p2pl_async.air.settings import Contended, SharedMedium
from p2pl_async.air.transmission import NOBODY, OUTSIDE, Transmission
from p2pl_async.air.tuning import Tuning, begin, meet
from p2pl_async.basics.arrays import Bools, Floats
from p2pl_async.basics.timeline import rounding
from p2pl_async.hardware.downtime import Presence
from p2pl_async.link import Link, Signal
from p2pl_async.messages import DeviceId
from p2pl_async.radio.phy import Phy


class Reception:
    """The receivers of a shared medium.

    Args:
        settings: how devices share it.
        propagation: powers and error rates; required for `capture` and `sinr`.
        presence: tells which devices are up at an instant; None: all.
        tuning: the channels of radios; None: all are on one.
    """

    def __init__(
        self,
        settings: SharedMedium,
        propagation: Waves | None,
        presence: Presence | None,
        tuning: Tuning | None = None,
    ) -> None:
        self._tuning = tuning
        self._propagation = propagation
        self._presence = presence
        # Whether channels fade apart: a link by itself doesn't know on which one it is heard.
        self._selective = propagation is not None and propagation.is_selective
        self._collision = settings.collision if isinstance(settings, Contended) else None
        self._capture = settings.capture if isinstance(settings, Contended) else 0.0
        self._masks: dict[DeviceId, tuple[Audience, Sequence[DeviceId], Bools]] = {}  # of each sender's latest
        # Of each sender's latest that met no other: rate, tries, channel and modulation, and how devices heard it.
        self._quiet: dict[DeviceId, tuple[float, int, int, Phy | None, dict[DeviceId, Signal]]] = {}

    @property
    def collides(self) -> bool:
        """Whether transmissions may collide."""
        return self._collision is not None

    def begin(self, transmission: Transmission, on_air: Sequence[Transmission]) -> None:
        """Called when a transmission begins, before it joins those `on_air`."""
        if self._propagation is not None:
            powers = self._propagation.powers(transmission.src, transmission.start, transmission.channel)
            transmission.powers = powers
        tuning = self._tuning
        if tuning is not None:
            begin(tuning, transmission)
        slack = rounding(transmission.end)
        start, end = transmission.start + slack, transmission.end - slack
        for other in on_air:
            if other.end > start and other.start < end and other.src != NOBODY:
                if tuning is not None and not meet(tuning, transmission, other):
                    continue
                other.overlaps.append(transmission)
                transmission.overlaps.append(other)
        if self._collision in ("capture", "sinr"):
            self._lock(transmission, on_air)

    def _lock(self, transmission: Transmission, on_air: Sequence[Transmission]) -> None:
        """Find the receivers that start to decode a transmission: a receiver holds one frame at a time.

        They notice it, or it is for them, and they are free, or busy with a frame so much weaker that this one
        captures them: then they lose the other. A frame of another spreading factor captures no receiver.
        """
        turned = self._noticed(transmission)
        up = None if self._presence is None else self._presence.at(transmission.start)
        turned = turned if up is None else turned & up  # others may have the same array: it is never changed
        start = transmission.start + rounding(transmission.start)
        others = [other for other in on_air if other.end > start and other.decoders is not None]
        wide = self._tuning is not None and self._tuning.wide
        if others:
            turned = turned.copy()
        for other in others:
            turned[other.src] = False
            if wide and other.channel != transmission.channel:
                continue
            free = ~other.decoders
            if other.code == transmission.code:
                free |= transmission.powers >= other.powers + self._capture
            turned &= free
        for other in others:
            same = not wide or other.channel == transmission.channel
            other.decoders = other.decoders & ~turned if same else other.decoders.copy()
            other.decoders[transmission.src] = False  # who begins to transmit drops what it was busy with
        transmission.decoders = turned

    def _noticed(self, transmission: Transmission) -> Bools:
        """Return who notices a transmission, or is meant by it, and is on its channel, shape (n,); don't change it."""
        audience, receivers = transmission.audience, transmission.receivers
        if self._tuning is not None:
            there: Bools = audience.mask & self._tuning.listening(transmission.channel, transmission.start)
            there[receivers] = True
            if transmission.deaf and transmission.message is not None:
                there[list(transmission.deaf)] = False
            return there
        known = self._masks.get(transmission.src)
        if known is None or known[0] is not audience or known[1] is not receivers:
            mask = audience.mask
            if not audience.ids.issuperset(receivers):
                mask = mask.copy()
                mask[receivers] = True
            known = self._masks[transmission.src] = audience, receivers, mask
        return known[2]

    def is_garbled(self, device: DeviceId, transmission: Transmission) -> bool:
        """Tell whether a device hears a transmission and can't decode it, since others meet it there."""
        if device not in transmission.audience.ids or self._collision is None:
            return False
        if any(other.src == device for other in transmission.overlaps):
            return False  # it transmits itself, and doesn't try
        met = [other for other in transmission.overlaps if self._interferes(other, transmission, device)]
        if not met or self._collision == "overlap":
            return bool(met)
        most = most_interference((transmission.start, transmission.end), _powers(met, device))
        held = bool(transmission.decoders[device])
        return not held or float(transmission.powers[device]) < most + self._capture

    def receive(self, transmission: Transmission, message: Outgoing) -> int:
        """Record the frames of a transmission that its receivers miss, and return how many the last one does."""
        if message.burst is not None:
            return self._receive_burst(transmission, message, message.links[0])
        if transmission.count > 1:
            return self._receive_many(transmission, message)
        first, size, cause = transmission.first, message.frame(transmission.first), ""
        disturbed = transmission.overlaps or transmission.deaf or transmission.phy is not None or self._selective
        start, end = transmission.start, transmission.end
        for k, link in enumerate(message.links):
            cause = self.fate(transmission, link, size) if disturbed else link.hear(size, start, end)
            if cause:
                message.unheard(k, 1)
                if message.arq is None and not message.copies:
                    message.missed(k, first, cause)
            elif message.sends_on:
                message.received(k, first, end)
            if message.copies:
                message.copy_heard(k, cause)
        return 1 if cause else 0

    def _receive_many(self, transmission: Transmission, message: Outgoing) -> int:
        """Record which frames of a whole message, sent in one transmission, its receivers miss."""
        starts, ends = message.spans(transmission)
        lost: dict[int, str] = {}
        for k, link in enumerate(message.links):
            lost = self.fates(transmission, starts, ends, link, message.full)
            message.unheard(k, len(lost))
            if message.copies:
                message.copy_heard(k, lost.get(transmission.first, ""))
            elif message.arq is None:
                for frame, cause in sorted(lost.items()):
                    message.missed(k, frame, cause)
        return len(lost)

    def _receive_burst(self, transmission: Transmission, message: Outgoing, link: Link) -> int:
        """Record the frames of a burst that its receiver gets, and return the number of the others."""
        assert message.mode is not None
        burst, lost = message.burst, 0
        for frame, part in burst.parts(transmission, message.mode.airtime.seconds(0, None)):
            if self.fate(part, link, message.frame(frame)):
                lost += 1
            else:
                burst.heard.add(frame)
        message.unheard(0, lost)
        if len(burst.heard) == message.frames:
            message.received_whole(0, transmission.end)
        return lost

    def fate(self, transmission: Transmission, link: Link, size: int, *, awaited: bool = False) -> str:
        """Return why a device didn't receive a frame that has just ended, or ""; for `awaited` its radio is awake."""
        dst, error = link.dst, self._noise_error(transmission, link.dst, size)
        interferers = self._interferers(transmission, dst) if transmission.overlaps else ()
        disturbed, meets = "", ""
        if interferers or transmission.deaf:
            if any(other.src == dst for other in interferers):
                disturbed = "half-duplex"
            elif dst in transmission.deaf and not awaited:
                disturbed = "off-channel"
            elif not interferers:
                pass
            elif self._collision == "overlap":
                disturbed = "collision"
            elif self._collision is not None:
                disturbed, chance = self._disturbed(transmission, interferers, link, size)
                if chance is not None:
                    alien = all(other.src == OUTSIDE for other in interferers)
                    error, meets = chance, "interference" if alien else "collision"
        # Draws even if the frame is lost already, so that the link's later draws don't depend on other traffic.
        cause = link.hear(size, transmission.start, transmission.end, error, awaited=awaited)
        return disturbed or (meets if cause == "noise" and meets else cause)

    def fates(self, transmission: Transmission, starts: Floats, ends: Floats, link: Link, size: int) -> dict[int, str]:
        """Return the frames that a receiver misses of a message sent in one transmission: frame -> cause.

        Args:
            transmission: the transmission, which has just ended.
            starts: the first instant of each frame, shape (n,).
            ends: the last, shape (n,).
            link: to the receiver.
            size: bytes of the frames but the last.
        """
        lost = link.hear_all(size, starts, ends)
        for other in transmission.overlaps:
            if other.src == link.dst:
                slack = rounding(other.end)
                for frame in np.flatnonzero((starts + slack < other.end) & (ends > other.start + slack)).tolist():
                    lost[frame] = "half-duplex"
        return lost

    def signals(self, transmission: Transmission, devices: Sequence[DeviceId], tries: int) -> Sequence[Signal]:
        """Return how devices heard a transmission; powers, ratio and distance are nan without `[radio]`."""
        rate = math.nan if transmission.rate is None else transmission.rate
        if self._propagation is None:
            return [Signal(rate=rate, tries=tries, channel=transmission.channel)] * len(devices)
        if transmission.overlaps or not self._propagation.is_constant:
            return [self._signal(transmission, dst, rate, tries) for dst in devices]
        # Undisturbed, all frames of one sender at one rate are heard alike.
        known = self._quiet.get(transmission.src)
        if known is None or known[:3] != (rate, tries, transmission.channel) or known[3] is not transmission.phy:
            known = self._quiet[transmission.src] = rate, tries, transmission.channel, transmission.phy, {}
        heard = known[4]
        try:
            return [heard[dst] for dst in devices]
        except KeyError:
            heard |= {dst: self._signal(transmission, dst, rate, tries) for dst in devices}
            return [heard[dst] for dst in devices]

    def _signal(self, transmission: Transmission, dst: DeviceId, rate: float, tries: int) -> Signal:
        assert self._propagation is not None
        power = float(transmission.powers[dst])
        noise = self._propagation.noise(dst)
        if transmission.overlaps and (
            met := [other for other in self._interferers(transmission, dst) if other.src != dst]
        ):
            most = most_interference((transmission.start, transmission.end), _powers(met, dst))
            noise = 10 * math.log10(10 ** (noise / 10) + 10 ** (most / 10))
        distance = self._propagation.distance(transmission.src, dst, transmission.start)
        return Signal(power, power - noise, distance, rate, tries, transmission.phy, transmission.channel)

    def _noise_error(self, transmission: Transmission, dst: DeviceId, size: int) -> float | None:
        """Return the probability that noise spoils a frame of a modulation chosen for it; None: the link knows."""
        if self._propagation is None or (transmission.phy is None and not self._selective):
            return None
        phy = transmission.phy or self._propagation.phy
        return float(phy.error(float(transmission.powers[dst]) - self._propagation.noise(dst), size))

    def _interferers(self, transmission: Transmission, dst: DeviceId) -> list[Transmission]:
        """Return the transmissions that meet another at a receiver, its own among them."""
        return [
            other
            for other in transmission.overlaps
            if (other.src == dst or self._interferes(other, transmission, dst))
            and not _ended_before(other, transmission)
        ]

    def _interferes(self, other: Transmission, transmission: Transmission, dst: DeviceId) -> bool:
        if self._collision is None or other.channel != transmission.channel:
            return False
        return self._collision == "sinr" or dst in other.audience.ids

    def _disturbed(
        self, transmission: Transmission, interferers: Sequence[Transmission], link: Link, size: int
    ) -> tuple[str, float | None]:
        """Return ("collision", None) if others certainly destroy a frame, else "" and the probability of losing it."""
        dst, signal = link.dst, float(transmission.powers[link.dst])
        if not transmission.decoders[dst]:  # busy with another frame when this one began, or captured by another
            return "collision", None
        assert self._propagation is not None
        interference = _powers(interferers, dst)
        span = (transmission.start, transmission.end)
        phy = transmission.phy or self._propagation.phy
        if self._collision == "sinr" and phy.rejection is None:
            return "", error_in_interference(phy, self._propagation.noise(dst), size, span, signal, interference)
        outside = [one for one in interferers if one.src == OUTSIDE]
        frames = [one for one in interferers if one.src != OUTSIDE]
        for other in {frame.phy: None for frame in frames}:
            stronger = self._capture if self._collision == "capture" else phy.rejects(other or self._propagation.phy)
            alike = _powers([one for one in frames if one.phy == other], dst)
            if stronger is not None and signal < most_interference(span, alike) + stronger:
                return "collision", None
        if not outside:
            return "", None
        noise = self._propagation.noise(dst)
        return "", error_in_interference(phy, noise, size, span, signal, _powers(outside, dst))


def _powers(transmissions: Sequence[Transmission], dst: DeviceId) -> list[tuple[float, float, float]]:
    """Return begin, end, and power at a receiver in dBm, of each transmission."""
    return [(other.start, other.end, float(other.powers[dst])) for other in transmissions]


def _ended_before(other: Transmission, transmission: Transmission) -> bool:
    """Tell whether another transmission, cut off by a crash, ended before this one began."""
    return other.cut and other.end <= transmission.start + rounding(transmission.start)
