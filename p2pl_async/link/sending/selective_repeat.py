"""Sending each packet until it is acknowledged, many under way at a time: selective repeat."""

from __future__ import annotations

import math

import numpy as np

from p2pl_async.link.arq import Paces, selective_repeat
from p2pl_async.link.sending.outcome import Cut, Sent
from p2pl_async.link.sending.transmitter import Transmitter

_MOST_SLOTS = 1 << 22  # before a link that loses everything is given up


def send_selectively(transmitter: Transmitter, cut: Cut, paces: Paces, start: float, keep: bool) -> Sent:
    """Send every packet until it is acknowledged; see `arq.selective_repeat`."""
    channel, sent = transmitter.channel, Sent()
    bits, window = 8 * cut.full, paces.arq.window or 1
    pace = paces.of(transmitter.rate.end(start, bits) - start)
    tries = min(pace.tries, _MOST_SLOTS // window)
    looked = cut.packets + cut.packets // 4 + 4 * window
    while True:
        channel.again()  # the same draws, and more of them
        if transmitter.acks is not None:
            transmitter.acks.again()
        starts, ends = transmitter.lay(start, bits, pace.gap, looked)
        if ends[-1] == math.inf:
            return sent.stuck()
        codes = channel.fates(starts, ends, cut.full)
        lost = codes != 0
        if paces.arq.ack_loss and transmitter.acks is not None:
            lost |= transmitter.acks.current.random(len(lost)) < paces.arq.ack_loss
        slots = selective_repeat(lost, cut.packets, tries, window)
        if slots is not None:
            break
        looked *= 2
    carried = slots.packet
    channel.passed(slots.used)
    taken, last = np.flatnonzero(carried >= 0), np.flatnonzero(carried == cut.packets - 1)
    ends[last] = [transmitter.rate.end(at, 8 * cut.last) for at in starts[last].tolist()]
    sent.packets = len(taken)
    sent.packets_lost = int(np.count_nonzero(codes[taken]))
    sent.air_bytes = len(taken) * cut.full - len(last) * (cut.full - cut.last)
    sent.air_seconds = float((ends[taken] - starts[taken]).sum())
    sent.over = float(ends[slots.used - 1])
    sent.end = sent.over + pace.gap
    heard = taken[codes[taken] == 0]
    packets, first = np.unique(carried[heard], return_index=True)
    if len(packets) == cut.packets:
        sent.heard = float(ends[heard[first].max()])
    sent.gave_up = slots.failed >= 0
    sent.acknowledged = not sent.gave_up
    if keep:
        sent.missing = np.setdiff1d(np.arange(cut.packets), packets)
    return sent
