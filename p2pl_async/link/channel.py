"""The fates of packets on the air: losses, corruption, noise and outages of one link.

    transmitter -> starts and ends of packets -> fates   <- you are here

Packets are asked about one by one, or many at once, or not at all: where every packet meets the
same probability for a while, `at` says so and for how long, and the transmitter draws how
many are lost instead of which.

Instants are sums, which round (`timeline.rounding`): a packet that begins as the link comes up, or ends as it goes
down, meets it up; one that is to begin as a radio falls asleep waits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from p2pl_async.basics.arrays import Bools, Floats
from p2pl_async.basics.randomness import Substreams
from p2pl_async.basics.timeline import Stretch, Timeline, rounding
from p2pl_async.link.loss.base import CAUSES, NOTHING_LOST, ChangingLoss, Codes, LossProcess

_UNEQUAL = Stretch(None, math.inf)
_NOISE, _CORRUPT = CAUSES.index("noise"), CAUSES.index("corrupt")


class Down(Timeline[int], Protocol):
    """When something is down, such as a device: 1 while it is, else 0."""

    def touched(self, starts: Floats, ends: Floats) -> Bools:
        """Return whether it is down at any moment of each interval; shapes (n,), both ascending."""


class FrameErrors(Protocol):
    """Error rates and delays that follow from positions and noise; see `Link`."""

    def error_rate(self, at: float, size: int) -> float:
        """Return the probability that a frame of so many bytes, sent at the instant `at`, is lost to noise."""

    def error_rates(self, at: Floats, size: int) -> Floats:
        """Return it for frames sent at the instants `at`, shape (n,), ascending."""

    def error_at(self, sinr: float, size: int, phy: Any = None) -> float:
        """Return the probability that a frame of so many bytes is lost at a ratio of `sinr` dB.

        `phy` is its modulation; None: the radio's usual one.
        """

    def heard(self, at: float) -> tuple[float, float, float]:
        """Return received power in dBm, its ratio to noise in dB, and the distance in meters, at an instant."""

    def lost_until(self, at: float, size: int) -> float:
        """Return until when every frame of so many bytes is surely lost; `at` if some may arrive."""

    def delay(self, at: float) -> float:
        """Return how long the signal travels, in seconds."""


class Chance(NamedTuple):
    """How packets are lost while they are lost independently, each with the same probability."""

    p: float  # of loss, whatever the cause
    code: int  # the cause of a loss that isn't corruption
    share: float  # of losses that have this cause


class Channel:
    """The way through the air of one link.

    Args:
        loss: of packets; None if none is ever lost.
        outages: (code, timeline) of each outage; of several at once the last is the cause.
        held: those that the transmitter waits for.
        radio: error rates and delays, of a link that has a radio.
        uniforms: the random numbers of losses, message by message.
        others: those of noise and corruption.
    """

    __slots__ = ("_corrupt", "_held", "_loss", "_others", "_outages", "_radio", "_uniforms", "holds")

    def __init__(
        self,
        loss: LossProcess | None,
        outages: Sequence[tuple[int, Down]],
        held: Sequence[Down],
        radio: FrameErrors | None,
        uniforms: Substreams,
        others: Substreams,
    ) -> None:
        self._loss = loss
        self._outages = outages
        self._radio = radio
        self._corrupt = 0.0
        self._uniforms = uniforms
        self._others = others
        self._held = held
        self.holds = bool(held)  # packets may have to wait for the link

    @property
    def random(self) -> np.random.Generator:
        """The generator of the losses of the message that is being sent."""
        return self._uniforms.current

    def fate(self, start: float, end: float, size: int, uniform: float | None = None) -> int:
        """Send one packet of `size` bytes and return the code of its fate, 0 if it arrives."""
        code = 0
        if self._loss is not None:
            cause = self._loss.fate(self._uniforms.current.random() if uniform is None else uniform, start)
            code = CAUSES.index(cause)
        if self._radio is not None or self._corrupt:
            other, error = self._others.current.random(), 0.0
            if self._radio is not None:
                error = self._radio.error_rate(start, size)
            if not code:
                corrupt = self._corrupt
                code = _CORRUPT if other < corrupt else _NOISE if other < corrupt + (1 - corrupt) * error else 0
        return self._taken_down(start, end, code)

    def heard(
        self,
        size: int,
        start: float,
        end: float,
        error: float | None,
        corrupt: float,
        uniform: float,
        noise: float,
        awaited: bool,
    ) -> int:
        """Return the code of the fate of one frame on shared air; see `Link.hear`."""
        loss, radio = self._loss, self._radio
        if loss is not None and (cause := loss.fate(uniform, start)):
            code = CAUSES.index(cause)
        else:
            if error is None:
                error = 0.0 if radio is None else radio.error_rate(start, size)
            code = _CORRUPT if noise < corrupt else _NOISE if noise < corrupt + (1 - corrupt) * error else 0
        return self._taken_down(start, end, code, awaited=awaited) if self._outages else code

    def fates(self, starts: Floats, ends: Floats, size: int) -> Codes:
        """Return the codes of packets of `size` bytes if they are sent, shape (n,); `passed` says how many are."""
        n = len(starts)
        fates = (
            np.zeros(n, np.int8) if self._loss is None else self._loss.fates(self._uniforms.current.random(n), starts)
        )
        if self._radio is not None or self._corrupt:
            others = self._others.current.random(n)
            if self._radio is not None:
                errors = self._corrupt + (1 - self._corrupt) * self._radio.error_rates(starts, size)
                fates[(others < errors) & (fates == 0)] = _NOISE
            fates[(others < self._corrupt) & ((fates == 0) | (fates == _NOISE))] = _CORRUPT
        if self._outages:
            slack = rounding(float(ends[-1]))
            starts = starts + slack
            ends = np.maximum(ends - slack, starts)
            for code, down in self._outages:
                fates[down.touched(starts, ends)] = code
        return fates

    def _taken_down(self, start: float, end: float, code: int, *, awaited: bool = False) -> int:
        """Return the code of what takes the link down while a packet is on the air, or the one it has."""
        slack = rounding(end)
        start, end = start + slack, end - slack
        for cause, down in self._outages:
            state, until = down.at(start)
            if (state or end > until) and not (awaited and any(down is held for held in self._held)):
                code = cause
        return code

    def passed(self, packets: int) -> None:
        """Count packets that `fates` looked at as sent."""
        if self._loss is not None:
            self._loss.passed(packets)

    def skip(self, packets: int, now: float) -> None:
        """Count packets as sent from the instant `now` on that nothing looked at, while what `at` returns holds."""
        if self._loss is not None:
            self._loss.skip(packets, now)

    def at(self, now: float, size: int | None = None) -> Stretch[Chance | None]:
        """Return how packets are lost that start at the instant `now` or later, and end while that holds.

        None if they are not lost independently, each with the same probability.

        Args:
            now: the instant.
            size: bytes of each; only with it is a receiver told that no packet can reach by radio.
        """
        odds, until = NOTHING_LOST if self._loss is None else self._loss.at(now)
        taken_down = 0
        for cause, down in self._outages:
            state, ends = down.at(now)
            until = min(until, ends)
            taken_down = cause if state else taken_down
        if taken_down:
            return Stretch(Chance(1.0, taken_down, 1.0), until)
        if self._radio is not None and size is not None:
            out_of_range = self._radio.lost_until(now, size)
            if out_of_range > now:
                return Stretch(Chance(1.0, _NOISE, 1.0), min(until, out_of_range))
        if odds is None or self._radio is not None:
            return _UNEQUAL
        p = odds.p + (1 - odds.p) * self._corrupt
        return Stretch(Chance(p, CAUSES.index(odds.cause), odds.p / p if p else 1.0), until)

    def lost_until(self, now: float, size: int) -> float:
        """Return until when every packet is surely lost, whatever else ends or begins; `now` if it isn't.

        What the transmitter waits for ends that, and so does a change of the loss's settings: `skip` is about one loss.

        Args:
            now: when the first packet starts.
            size: bytes of each.
        """
        chance, lost = self.at(now, size)
        if chance is None or chance.p < 1:
            return now
        for _, down in self._outages:
            state, ends = down.at(now)
            if state:
                lost = max(lost, ends)
        if self.holds:
            lost = min(lost, self.up_until(now))
        return min(lost, self._loss.unchanged_until(now)) if isinstance(self._loss, ChangingLoss) else lost

    def lost_for_good(self, now: float) -> bool:
        """Tell whether the link has gone down and never comes up again."""
        return any(
            down.at(now) == (1, math.inf) for _, down in self._outages if not any(down is held for held in self._held)
        )

    def cause(self, chance: Chance) -> int:
        """Draw the cause of a loss."""
        return chance.code if chance.share == 1 or self.random.random() < chance.share else _CORRUPT

    def begin(self, number: int, corrupt: float) -> None:
        """Begin a message: its draws depend on its number alone, not on the draws of other messages.

        Args:
            number: of the message on this link.
            corrupt: probability that a packet is spoiled, and counts as lost.
        """
        self._corrupt = corrupt
        self._uniforms.begin(number)
        if self._radio is not None or self._corrupt:
            self._others.begin(number)

    def up(self, at: float) -> float:
        """Return the first instant from `at` on at which a packet need not wait; math.inf if there is none."""
        again = True
        while again and at < math.inf:
            again = False
            for down in self._held:
                stretch = down.at(at)
                if stretch.value or stretch.until - at <= rounding(at):  # or it goes down at this very instant
                    at, again = stretch.until, True
        return at

    def up_until(self, at: float) -> float:
        """Return until when packets need not wait, of an instant `at` at which they need not."""
        until = min((down.at(at).until for down in self._held), default=math.inf)
        return until if until == math.inf else until - rounding(until)
