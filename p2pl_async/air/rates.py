"""Rate adaptation at work: the modulation and coding of each frame.

    the sender asks for the channel -> `pick` -> on the air -> acknowledged or not -> `report`

Without `[medium] rates` every frame has the rate of its link, and the error rate of `[radio] phy`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from p2pl_async.air.airtime import AirTime
from p2pl_async.air.hearing import Waves
from p2pl_async.air.rate_settings import IdealRates, Minstrel
from p2pl_async.air.settings import SharedMedium
from p2pl_async.basics.randomness import draws, stream
from p2pl_async.messages import DeviceId
from p2pl_async.radio.phy import Phy

_SIZE = 1200  # bytes of the frame by whose air time rates are compared
_USELESS = 0.1  # a rate of which fewer frames arrive carries nothing


class Mode(NamedTuple):
    """How a frame is sent."""

    airtime: AirTime
    rate: float | None  # bit/s; None if it takes no time but the preamble
    phy: Phy | None = None  # None: that of `[radio]`

    def seconds(self, size: int) -> float:
        """Return the air time of a frame of `size` bytes."""
        return self.airtime.seconds(size, self.rate)


class Rates:
    """The rates of all senders of a medium.

    Args:
        settings: of the medium.
        propagation: powers and error rates; required for rate adaptation.
        seed: of the run; streams "rates".
    """

    def __init__(self, settings: SharedMedium, propagation: Waves | None, seed: int) -> None:
        self._settings = settings
        self._propagation = propagation
        self._seed = seed
        self._modes: list[Mode] = []  # slowest first
        self._learned: dict[tuple[DeviceId, DeviceId], _Learner] = {}
        self._known: dict[tuple[DeviceId, DeviceId, int], int] = {}  # ideal choices, if powers never change
        if settings.rates is not None:
            assert propagation is not None
            self._modes = [Mode(settings.airtime.of(phy), phy.bit_rate, phy) for phy in propagation.phy.modes]

    @property
    def adapts(self) -> bool:
        """Whether rates are chosen frame by frame."""
        return bool(self._modes)

    @property
    def slowest(self) -> Mode | None:
        """The mode of acknowledgments, if rates are chosen."""
        return self._modes[0] if self._modes else None

    def pick(
        self,
        src: DeviceId,
        receivers: Sequence[DeviceId],
        size: int,
        now: float,
        tries: int,
        arq: bool,
        rate: float | None,
        channel: int = 0,
    ) -> Mode:
        """Return how a frame is sent.

        Args:
            src: the sender.
            receivers: the devices that it is for.
            size: bytes on the air.
            now: the instant.
            tries: how often it has been sent in vain.
            arq: whether it is acknowledged.
            rate: of the links, without rate adaptation; in bit/s.
            channel: that the sender is tuned to.
        """
        settings = self._settings
        basic = settings.broadcast_rate if len(receivers) > 1 else None
        if not self._modes:
            return Mode(settings.airtime, rate if basic is None else basic)
        if basic is not None:
            at_most = [mode for mode in self._modes if mode.rate is not None and mode.rate <= basic]
            return (at_most or self._modes)[-1 if at_most else 0]._replace(rate=basic)
        if isinstance(settings.rates, Minstrel):
            if not arq or len(receivers) > 1:
                return self._modes[0]
            return self._modes[self._learner(src, receivers[0]).pick(now, tries)]
        assert isinstance(settings.rates, IdealRates)
        return self._modes[min(self._ideal(src, dst, size, now, settings.rates, channel) for dst in receivers)]

    def report(self, src: DeviceId, dst: DeviceId, mode: Mode, acknowledged: bool) -> None:
        """Called when a sender knows whether a frame was acknowledged."""
        if isinstance(self._settings.rates, Minstrel):
            self._learner(src, dst).count(self._modes.index(mode), acknowledged)

    def _ideal(self, src: DeviceId, dst: DeviceId, size: int, now: float, settings: IdealRates, channel: int) -> int:
        """Return the place of the fastest mode that loses few enough frames; of the slowest if none does."""
        waves = self._propagation
        assert waves is not None
        known = self._known.get((src, dst, size))
        if known is not None:
            return known
        snr, gains = waves.foreseen_snr(src, dst, now, channel)
        snr -= settings.margin
        place = 0
        for index, mode in enumerate(self._modes):
            assert mode.phy is not None
            error = mode.phy.error(snr, size) if gains is None else mode.phy.mean_error(snr, size, gains)
            if float(error) <= settings.most_loss:
                place = index
        if waves.is_constant:
            self._known[src, dst, size] = place
        return place

    def _learner(self, src: DeviceId, dst: DeviceId) -> _Learner:
        found = self._learned.get((src, dst))
        if found is None:
            assert isinstance(self._settings.rates, Minstrel)
            seconds = [mode.seconds(_SIZE) for mode in self._modes]
            uniforms = draws(stream(self._seed, "rates", src, dst))
            found = self._learned[src, dst] = _Learner(self._settings.rates, seconds, uniforms)
        return found


class _Learner:
    """What one sender has learned of one neighbor.

    Args:
        settings: of Minstrel.
        seconds: air time at each rate, slowest first.
        uniforms: random numbers; two for each first try.
    """

    def __init__(self, settings: Minstrel, seconds: Sequence[float], uniforms: Iterator[float]) -> None:
        self._settings = settings
        self._seconds = seconds
        self._uniforms = uniforms
        self._sent = [0] * len(seconds)  # since the latest update
        self._heard = [0] * len(seconds)
        self._shares: list[float | None] = [None] * len(seconds)  # acknowledged, on average; None if never tried
        self._chain = [0, 0, 0]  # rates of the largest and second largest throughput, and of the most reliable
        self._second: int | None = None  # rate of the current frame's second try, if it samples; else as the chain says
        self._updated = 0.0

    def pick(self, now: float, tries: int) -> int:
        """Return the place of the rate of a frame that was sent in vain so many times."""
        if now >= self._updated + self._settings.every:
            self._update(now)
        if tries > 1:
            return self._chain[2] if tries == 2 else 0
        if tries:
            return self._chain[1] if self._second is None else self._second
        sampled, which = next(self._uniforms), next(self._uniforms)
        best, self._second = self._chain[0], None
        if sampled >= self._settings.sample:
            return best
        sample = int(which * len(self._seconds))
        faster = self._seconds[sample] < self._seconds[best]
        self._second = best if faster else sample
        return sample if faster else best

    def count(self, place: int, acknowledged: bool) -> None:
        """Count a frame that was sent at a rate."""
        self._sent[place] += 1
        self._heard[place] += acknowledged

    def _update(self, now: float) -> None:
        self._updated = now
        weight = self._settings.weight
        for place, sent in enumerate(self._sent):
            if sent:
                share, before = self._heard[place] / sent, self._shares[place]
                self._shares[place] = share if before is None else weight * share + (1 - weight) * before
        self._sent, self._heard = [0] * len(self._sent), [0] * len(self._sent)
        shares = [share or 0.0 for share in self._shares]
        throughputs = [0.0 if p < _USELESS else p / t for p, t in zip(shares, self._seconds, strict=True)]
        places = range(len(shares))
        best, second = sorted(places, key=lambda place: (-throughputs[place], place))[:2]
        reliable = max(places, key=lambda place: (shares[place], throughputs[place], -place))
        self._chain = [best, second, reliable]
