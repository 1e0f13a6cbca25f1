"""The transmitter of a link: puts packets on the air one after another, as its rate and outages allow."""

from __future__ import annotations

import math

import numpy as np

from p2pl_async.basics.arrays import Floats
from p2pl_async.basics.randomness import Substreams
from p2pl_async.link.channel import Channel
from p2pl_async.link.loss.base import Codes
from p2pl_async.link.rate import RateProfile

AGGREGATE = 64  # packets of equal chances from which on their number is drawn; fewer cost less one by one
CHUNK = 64  # packets looked at together at first
LARGEST_CHUNK = 8192


class Transmitter:
    """Puts packets on the air.

    Args:
        channel: decides the fates of packets on the air.
        rate: at which they leave.
        acks: the random numbers of acknowledgments, message by message; None if none is ever lost.
    """

    __slots__ = ("acks", "channel", "rate")

    def __init__(self, channel: Channel, rate: RateProfile, acks: Substreams | None) -> None:
        self.channel = channel
        self.rate = rate
        self.acks = acks

    def begin(self, number: int, corrupt: float) -> None:
        """Begin a message; see `Channel.begin`."""
        self.channel.begin(number, corrupt)
        if self.acks is not None:
            self.acks.begin(number)

    def seconds(self, now: float, bits: int) -> tuple[float, float]:
        """Return how long a packet that starts at the instant `now` is on the air, and until when the rate holds."""
        seconds_per_bit, until = self.rate.at(now)
        seconds = bits * seconds_per_bit
        return (seconds if now + seconds <= until else self.rate.end(now, bits) - now), until

    def lay(self, now: float, bits: int, gap: float, count: int) -> tuple[Floats, Floats]:
        """Return starts and ends of packets that follow each other; fewer if the link goes down, or the rate changes.

        Args:
            now: start of the first.
            bits: of each.
            gap: seconds from the end of one to the start of the next.
            count: how many.
        """
        seconds_per_bit, until = self.rate.at(now)
        if until == math.inf:
            seconds = bits * seconds_per_bit
            starts: Floats = now + (seconds + gap) * np.arange(count, dtype=np.float64)
            ends = starts + seconds
        elif gap == 0:
            ends = self.rate.ends(now, bits * np.arange(1.0, count + 1))
            starts = np.concatenate(([now], ends[:-1]))
        else:
            seconds = bits * seconds_per_bit
            fitting = int((until - now) / (seconds + gap)) if until > now else 0
            starts = now + (seconds + gap) * np.arange(min(count, fitting), dtype=np.float64)
            ends = starts + seconds
            if not fitting:
                starts, ends = np.array([now]), np.array([self.rate.end(now, bits)])
        if self.channel.holds:
            held = max(int(np.searchsorted(starts, self.channel.up_until(now))), 1)
            starts, ends = starts[:held], ends[:held]
        return starts, ends

    def send_all(self, now: float, bits: Floats, size: int) -> tuple[Floats, Floats, Codes]:
        """Send packets of so many bits that follow each other, each once.

        Returns:
            Starts, ends and fates of all of them; or of none, if they never leave.
        """
        channel = self.channel
        starts, ends = np.empty(len(bits)), np.empty(len(bits))
        codes = np.zeros(len(bits), np.int8)
        done = 0
        while done < len(bits):
            if channel.holds:
                now = channel.up(now)
            if now == math.inf:
                break
            end = self.rate.ends(now, np.cumsum(bits[done:]))
            begin = np.concatenate(([now], end[:-1]))
            count = max(int(np.searchsorted(begin, channel.up_until(now))), 1) if channel.holds else len(begin)
            here = slice(done, done + count)
            starts[here], ends[here] = begin[:count], end[:count]
            now = float(ends[done + count - 1])
            if now == math.inf:
                break
            codes[here] = channel.fates(starts[here], ends[here], size)
            channel.passed(count)
            done += count
        return (starts, ends, codes) if done == len(bits) else (starts[:0], ends[:0], codes[:0])
