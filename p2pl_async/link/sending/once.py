"""Sending each packet of a message once."""

from __future__ import annotations

import math

import numpy as np

from p2pl_async.basics.arrays import Indices
from p2pl_async.link.sending.outcome import Cut, Sent
from p2pl_async.link.sending.transmitter import AGGREGATE, CHUNK, LARGEST_CHUNK, Transmitter


def send_once(transmitter: Transmitter, cut: Cut, start: float, keep: bool, uniform: float | None) -> Sent:
    """Send every packet once.

    Args:
        cut: the packets.
        start: instant at which the transmitter is free.
        keep: whether to keep which packets are lost.
        uniform: the random number of a single packet's loss.
    """
    channel, rate = transmitter.channel, transmitter.rate
    sent, bits, equal = Sent(), 8 * cut.full, cut.packets - 1
    lost: list[Indices] = []
    now, done, chunk = start, 0, CHUNK
    while done < equal:
        if channel.holds:
            now = channel.up(now)
        if now == math.inf:
            return sent.stuck()
        seconds_per_bit, until = rate.at(now)
        seconds = bits * seconds_per_bit
        chance, holds = (None, now) if keep or equal - done < AGGREGATE else channel.at(now)
        if chance is not None:
            limit = min(until, holds)
            count = _fitting(seconds, limit - now, equal - done)
            if count >= AGGREGATE:
                channel.skip(count, now)
                count_lost = int(channel.random.binomial(count, chance.p)) if chance.p else 0
                if count_lost and not sent.code:
                    sent.code = channel.cause(chance)
                sent.packets_lost += count_lost
                sent.air_seconds += count * seconds
                now += count * seconds
                done += count
                chunk = CHUNK
                short = 8 * cut.last * seconds_per_bit
                if done == equal and chance.p == 0 and now + short <= limit:
                    return sent.all_sent(cut, now, now + short)  # nothing to draw for the last one, either
                continue
        starts, ends = transmitter.lay(now, bits, 0.0, min(equal - done, chunk))
        chunk = min(2 * chunk, LARGEST_CHUNK)
        if ends[-1] == math.inf:
            return sent.stuck()
        codes = channel.fates(starts, ends, cut.full)
        channel.passed(len(codes))
        here = np.flatnonzero(codes)
        if len(here):
            sent.code = sent.code or int(codes[here[0]])
            sent.packets_lost += len(here)
            if keep:
                lost.append(here + done)
        sent.air_seconds += float((ends - starts).sum())
        now = float(ends[-1])
        done += len(codes)
    if channel.holds:
        now = channel.up(now)
    if now == math.inf:
        return sent.stuck()
    end = rate.end(now, 8 * cut.last)
    code = channel.fate(now, end, cut.last, uniform)
    if code:
        sent.code = sent.code or code
        sent.packets_lost += 1
        if keep:
            lost.append(np.array([equal]))
    sent.all_sent(cut, now, end)
    if keep:
        sent.missing = np.concatenate(lost) if lost else np.empty(0, np.intp)
    return sent


def _fitting(seconds: float, left: float, most: int) -> int:
    """Return how many packets that follow each other end within the seconds that are left of a stretch."""
    return most if most * seconds <= left else max(int(left / seconds), 0)
