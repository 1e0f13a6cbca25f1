"""Sending a message with parity packets (FEC): any k of a group make up for the others."""

from __future__ import annotations

import numpy as np

from p2pl_async.link.sending.outcome import Cut, Sent
from p2pl_async.link.sending.transmitter import Transmitter


def send_protected(transmitter: Transmitter, cut: Cut, data: int, parity: int, start: float) -> Sent:
    """Send every packet once, and `parity` more after each group of `data`.

    A group is whole once as many of its packets have arrived as it has of data; a parity
    packet is as long as the longest of its group. Packets that carry data are sent as they are.
    """
    sent = Sent()
    groups = -(-cut.packets // data)
    total = cut.packets + groups * parity
    place = np.arange(total)
    group = np.minimum(place // (data + parity), groups - 1)
    within = place - group * (data + parity)
    size = np.full(groups, data)
    size[-1] = cut.packets - (groups - 1) * data
    is_data = within < size[group]
    bits = np.full(total, 8.0 * cut.full)
    bits[total - parity - 1] = 8.0 * cut.last
    if size[-1] == 1:
        bits[total - parity :] = 8.0 * cut.last
    starts, ends, codes = transmitter.send_all(start, bits, cut.full or cut.last)
    if not len(starts):
        return sent.stuck()
    lost = codes != 0
    arrived = np.cumsum(~lost)
    before = np.concatenate(([0], arrived))[np.arange(groups) * (data + parity)]
    enough = arrived - before[group] >= size[group]
    whole = np.zeros(groups, np.bool_)
    whole[group[enough]] = True
    sent.packets, sent.packets_lost = total, int(np.count_nonzero(lost))
    sent.air_bytes = int(bits.sum()) // 8
    sent.air_seconds = float((ends - starts).sum())
    sent.end = sent.over = float(ends[-1])
    if whole.all():
        sent.heard = float(ends[np.flatnonzero(enough & (group == groups - 1))[0]])
    else:
        sent.code = int(codes[np.flatnonzero(lost & ~whole[group])[0]])
    gone = lost & is_data & ~whole[group]
    sent.missing = group[gone] * data + within[gone]
    return sent
