"""Sending packets of equal chances without looking at each: as many as a stretch of the link has room for."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from p2pl_async.link.arq import Pace, draw_tries, tries_shares
from p2pl_async.link.sending.outcome import Cut, Sent
from p2pl_async.link.sending.transmitter import AGGREGATE, Transmitter

_MARGIN = 6.0  # standard deviations between a block of packets and the end of its stretch
_USUAL = 0.999  # share of packets that it takes into account


class Block(NamedTuple):
    """What a block of packets came to.

    Attributes:
        through: how many got through.
        used_up: tries of the next one so far.
        now: the instant it goes on.
        failed: whether it was given up.
        failures: tries that were lost, of all.
    """

    through: int
    used_up: int
    now: float
    failed: bool
    failures: int


def send_block(
    transmitter: Transmitter,
    cut: Cut,
    pace: Pace,
    seconds: float,
    now: float,
    until: float,
    room: int,
    ack_loss: float,
    sent: Sent,
) -> Block | None:
    """Send packets of equal chances without looking at each; None if the stretch is too short to be worth it.

    Args:
        transmitter: sends them.
        cut: sizes of the message's packets.
        pace: from one try to the next.
        seconds: of a packet on the air.
        now: when the first of them starts.
        until: when the rate changes.
        room: how many packets there are.
        ack_loss: chance that a confirmation is lost.
        sent: where they are counted.
    """
    channel = transmitter.channel
    chance, ends = channel.at(now)
    if chance is None:
        return None
    p = chance.p + (1 - chance.p) * ack_loss
    limit = min(until, ends)
    if p == 1:
        block = _all_lost(pace, seconds, now, limit)
    elif p == 0:
        block = _none_lost(pace, seconds, now, limit, room)
    else:
        block = _some_lost(channel.random, p, pace, seconds, now, limit, room)
    if block is None:
        return None
    if p == 1:
        channel.skip(block.failures, now)
    used = block.through + block.failures
    sent.packets += used
    sent.packets_lost += (
        int(channel.random.binomial(block.failures, chance.p / p)) if ack_loss and p else block.failures
    )
    sent.air_bytes += used * cut.full
    sent.air_seconds += used * seconds
    sent.add_in_vain(cut.full, block.failures * pace.following, seconds)
    return block


def _all_lost(pace: Pace, seconds: float, now: float, limit: float) -> Block | None:
    if limit - now <= AGGREGATE * seconds:
        return None
    tries = min(pace.tries, 1 + pace.failures_within(limit - now - seconds))
    return Block(0, tries, now + pace.spent(tries), tries == pace.tries, tries)


def _none_lost(pace: Pace, seconds: float, now: float, limit: float, room: int) -> Block | None:
    step = seconds + pace.gap
    through = room if room * step - pace.gap <= limit - now else int((limit - now + pace.gap) / step)
    return None if through < AGGREGATE else Block(through, 0, now + through * step, False, 0)


def _some_lost(
    random: np.random.Generator, p: float, pace: Pace, seconds: float, now: float, limit: float, room: int
) -> Block | None:
    """Draw how many packets take how many tries, each of which is lost with probability p."""
    shares = tries_shares(p, pace.tries)
    lengths = pace.durations(len(shares), seconds)
    mean = float(shares @ lengths)
    if limit < math.inf and mean > 0:
        # As many as almost surely fit in: the root of mean n + margin sd sqrt(n) = limit - now. Waits that
        # grow have no useful standard deviation, so the rarest are left out.
        usual = int(np.searchsorted(np.cumsum(shares), _USUAL)) + 1
        variance = float(shares[:usual] @ (lengths[:usual] - mean) ** 2)
        spread = _MARGIN * math.sqrt(variance) / (2 * mean)
        room = min(room, int((math.sqrt(spread**2 + (limit - now) / mean) - spread) ** 2))
        if room < AGGREGATE:
            return None
    counts, failed = draw_tries(random, p, room, pace.tries)
    through, used_up = int(counts.sum()), pace.tries if failed else 0
    failures = int(counts @ np.arange(len(counts))) + used_up
    begun = now + float(counts @ lengths[: len(counts)])  # the packet that failed, or the next
    last = begun + pace.spent(used_up - 1) + seconds if failed else begun - pace.gap
    if last > limit:
        # Rarely they don't fit. All orders being equally likely, cut the sequence where the stretch ends.
        each = random.permutation(np.repeat(np.arange(1, len(counts) + 1), counts))
        begins = now + np.concatenate(([0.0], np.cumsum(lengths[each - 1])))
        through = int(np.searchsorted(begins[1:] - pace.gap, limit, side="right"))
        most = int(each[through]) - 1 if through < len(each) else pace.tries if failed else 0
        begun, left = float(begins[through]), limit - float(begins[through]) - seconds
        used_up = min(most, 1 + pace.failures_within(left)) if left >= 0 else 0
        failed = failed and used_up == pace.tries
        failures = int(each[:through].sum()) - through + used_up
    return Block(through, used_up, begun + pace.spent(used_up), failed, failures)
