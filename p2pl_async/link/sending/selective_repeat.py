"""Sending each packet until it is acknowledged, many under way at a time: selective repeat."""

from __future__ import annotations

import math

import numpy as np

from p2pl_async.basics.arrays import Floats, Ints
from p2pl_async.link.arq import Paces, SelectiveRepeat
from p2pl_async.link.sending.outcome import Cut, Sent
from p2pl_async.link.sending.repeated import TYPICAL
from p2pl_async.link.sending.transmitter import LARGEST_CHUNK, Transmitter

_EAGER = 8  # rounds of the window after which it is worth asking whether the link is dead


def send_selectively(transmitter: Transmitter, cut: Cut, paces: Paces, start: float, keep: bool) -> Sent:
    """Send every packet until it is acknowledged; see `arq.SelectiveRepeat`."""
    channel, sent = transmitter.channel, Sent()
    bits, window = 8 * (cut.full or cut.last), paces.arq.window or 1
    if channel.holds:
        start = channel.up(start)
    end = transmitter.rate.end(start, bits) if start < math.inf else math.inf
    if end == math.inf:
        return sent.stuck()
    message = SelectiveRepeat(cut.packets, paces.of(end - start).tries, window)
    heard: Floats = np.full(cut.packets, math.inf)  # end of the first reception of each packet
    rounds = -(-(cut.packets + cut.packets // 4) // window) + _EAGER
    now, done = start, False
    while not done:
        now = _skip(transmitter, cut, message, paces, now, sent, start)
        starts, ends, gap = _slots(transmitter, paces, bits, now, rounds * window)
        if ends[-1] == math.inf:
            return sent.stuck()
        rounds = max(_EAGER, min(2 * rounds, LARGEST_CHUNK // window))
        codes = channel.fates(starts, ends, cut.full or cut.last)
        lost = codes != 0
        if paces.arq.ack_loss and transmitter.acks is not None:
            lost |= transmitter.acks.current.random(len(lost)) < paces.arq.ack_loss
        used, packet, done, failed = message.send(lost)
        channel.passed(used)
        taken = np.flatnonzero(packet >= 0)
        last = taken[packet[taken] == cut.packets - 1]
        ends[last] = [transmitter.rate.end(at, 8 * cut.last) for at in starts[last].tolist()]
        sent.packets += len(taken)
        sent.packets_lost += int(np.count_nonzero(codes[taken]))
        sent.air_bytes += len(taken) * (cut.full or cut.last) - len(last) * ((cut.full or cut.last) - cut.last)
        sent.air_seconds += float((ends[taken] - starts[taken]).sum())
        arrived = taken[codes[taken] == 0]
        np.minimum.at(heard, packet[arrived], ends[arrived])
        now = float(ends[used - 1]) + gap
        sent.over = float(ends[used - 1])
        sent.gave_up = failed >= 0
    sent.end = now
    sent.heard = float(heard.max())
    sent.acknowledged = not sent.gave_up
    if keep:
        sent.missing = np.flatnonzero(heard == math.inf)
    return sent


def _slots(transmitter: Transmitter, paces: Paces, bits: int, now: float, count: int) -> tuple[Floats, Floats, float]:
    """Return starts and ends of slots that follow each other, and the gap behind the last; inf if they never end."""
    starts, ends = np.full(count, math.inf), np.full(count, math.inf)
    laid, gap = 0, 0.0
    while laid < count:
        if transmitter.channel.holds:
            now = transmitter.channel.up(now)
        seconds, until = transmitter.seconds(now, bits) if now < math.inf else (math.inf, math.inf)
        if seconds == math.inf:
            break
        gap = paces.of(seconds).gap
        begins, finished = transmitter.lay(now, bits, gap, count - laid)
        if paces.arq.turnaround:  # another rate has another gap
            same = max(1, int(np.searchsorted(begins, until)))
            begins, finished = begins[:same], finished[:same]
        starts[laid : laid + len(begins)], ends[laid : laid + len(begins)] = begins, finished
        laid += len(begins)
        now = float(finished[-1]) + gap
    return starts, ends, gap


def _skip(
    transmitter: Transmitter,
    cut: Cut,
    message: SelectiveRepeat,
    paces: Paces,
    now: float,
    sent: Sent,
    began: float,
) -> float:
    """Count rounds bound to be lost, since the link loses everything for a while; return when they are over.

    Where the rate changes and the link never comes up again, they take as long each as those since the message began.
    """
    repeated: Ints = message.repeated
    if not len(repeated) or message.spare_tries <= _EAGER:
        return now
    limit = transmitter.channel.lost_until(now, cut.full or cut.last)
    bits, window = 8 * (cut.full or cut.last), paces.arq.window or 1
    seconds, until = transmitter.seconds(now, bits)
    if limit <= now or transmitter.channel.holds:
        return now
    step = window * (seconds + paces.of(seconds).gap)
    short = int(np.count_nonzero(repeated == cut.packets - 1))
    last = transmitter.rate.end(now, 8 * cut.last) - now
    left, tried = min(until, limit) - now, message.failures
    if until < math.inf and tried >= TYPICAL and transmitter.channel.lost_for_good(now):
        left, step = math.inf, (now - began) / tried
        seconds = last = sent.air_seconds / sent.packets
    rounds = message.spare_tries if message.spare_tries * step <= left else max(math.floor(left / step), 0)
    message.lose(rounds)
    transmitter.channel.skip(rounds * len(repeated), now)
    sent.packets += rounds * len(repeated)
    sent.packets_lost += rounds * len(repeated)
    sent.air_bytes += rounds * ((len(repeated) - short) * (cut.full or cut.last) + short * cut.last)
    sent.air_seconds += rounds * ((len(repeated) - short) * seconds + short * last)
    return now + rounds * step
