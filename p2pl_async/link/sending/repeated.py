"""Sending each packet until it is acknowledged, one after another: stop-and-wait and go-back-n."""

from __future__ import annotations

import math

import numpy as np

from p2pl_async.link.arq import Pace, Paces, stop_and_wait
from p2pl_async.link.sending.blocks import send_block
from p2pl_async.link.sending.outcome import Cut, Sent
from p2pl_async.link.sending.transmitter import AGGREGATE, CHUNK, LARGEST_CHUNK, Transmitter

_EAGER = 8  # tries of a single packet after which it is worth asking whether the link is dead
TYPICAL = 1000  # tries whose mean tells how long others take, where a radio sleeps or the rate changes


def send_repeatedly(
    transmitter: Transmitter, cut: Cut, paces: Paces, start: float, keep: bool, uniform: float | None
) -> Sent:
    """Send every packet until it is acknowledged, one after another (stop-and-wait, go-back-n).

    A message of which a part is of use (`keep`) goes on behind a packet that was given up.
    """
    channel, sent = transmitter.channel, Sent()
    bits, equal = 8 * cut.full, cut.packets - 1
    missing: list[int] = []
    now, began, done, used_up, chunk = start, start, 0, 0, CHUNK
    arrived = False  # the packet under way, though its sender doesn't know
    while done < equal:
        if channel.holds:
            now = channel.up(now)
        if now == math.inf:
            return sent.stuck()
        seconds, until = transmitter.seconds(now, bits)
        if seconds == math.inf:
            return sent.stuck()
        pace = paces.of(seconds)
        if not used_up:
            began = now
        if used_up >= _EAGER:
            behind = min(pace.following, equal - done - 1)
            skipped, passed = _skip(transmitter, now, pace, used_up, cut.full, seconds, behind, sent, began)
            if skipped:
                used_up += skipped
                now += passed
                continue
        # The last packets of a go-back-n message are followed by fewer than a window: one by one.
        room = equal - done - pace.following
        if not keep and not used_up and room >= AGGREGATE:
            block = send_block(transmitter, cut, pace, seconds, now, until, room, paces.arq.ack_loss, sent)
            if block is not None:
                used_up, now = block.used_up, block.now
                if block.failed:
                    return sent.given_up(now)
                done += block.through
                chunk = CHUNK
                continue
        # A packet under way is finished first, so that a block can follow.
        alone = used_up and not pace.even and room >= AGGREGATE
        looked = 1 if alone else min(2 * (equal - done) + pace.tries, chunk)
        starts, ends = transmitter.lay(now, bits, pace.gap, looked)
        chunk = min(2 * chunk, LARGEST_CHUNK)
        if ends[-1] == math.inf:
            return sent.stuck()
        codes = channel.fates(starts, ends, cut.full)
        lost = codes != 0
        if paces.arq.ack_loss and transmitter.acks is not None:
            lost |= transmitter.acks.current.random(len(lost)) < paces.arq.ack_loss
        if not pace.even and lost.any():
            lost = lost[: int(np.argmax(lost)) + 1]  # what follows a loss starts at another instant
            chunk = CHUNK
        used, through, tries, failed = stop_and_wait(lost, equal - done, pace.tries, used_up)
        channel.passed(used)
        codes = codes[:used]
        sent.packets += used
        sent.packets_lost += int(np.count_nonzero(codes))
        sent.air_bytes += used * cut.full
        sent.air_seconds += float((ends[:used] - starts[:used]).sum())
        begun, now = float(starts[used - 1]), float(ends[used - 1]) + pace.gap
        if not pace.even and lost[used - 1]:
            behind = min(pace.following, equal - done - through)
            if begun + pace.spent(1) <= until or until == math.inf:
                now = begun + pace.spent(tries) - pace.spent(tries - 1) + _longer(now - pace.gap - begun, seconds)
                sent.add_in_vain(cut.full, behind, seconds)
            else:
                now = _pass_window(transmitter, cut.full, pace, now, behind, sent)
                if now == math.inf:
                    return sent.stuck()
                now += pace.waited(tries)
        if tries:
            own = tries if through else tries - used_up  # of these transmissions, those of the packet under way
            arrived = (arrived and not through) or not codes[used - own :].all()
        done += through
        used_up = tries
        if failed:
            if not keep:
                return sent.given_up(now)
            if not arrived:
                missing.append(done)
            sent.gave_up = True
            done += 1
            used_up = 0
        if not used_up:
            arrived = False
    _last(transmitter, cut, paces, now, sent, uniform)
    if keep:
        if sent.heard == math.inf:
            missing.append(equal)
        sent.missing = np.array(missing, np.intp)
    if missing:
        sent.heard = math.inf
    sent.acknowledged = not sent.gave_up and not sent.code
    return sent


def _last(transmitter: Transmitter, cut: Cut, paces: Paces, start: float, sent: Sent, uniform: float | None) -> None:
    """Send the last packet, or the only one, until it is acknowledged."""
    channel, rate, bits = transmitter.channel, transmitter.rate, 8 * cut.last
    now, used, seconds = start, 0, 0.0
    pace: Pace | None = None
    while True:
        if channel.holds:
            now = channel.up(now)
        end = rate.end(now, bits) if now < math.inf else math.inf
        if end == math.inf:
            sent.stuck()
            return
        if pace is None:
            seconds = end - now
            pace = paces.of(seconds)
        code = channel.fate(now, end, cut.last, uniform)
        uniform = None
        used += 1
        sent.packets += 1
        sent.packets_lost += code != 0
        sent.air_bytes += cut.last
        sent.air_seconds += end - now
        if not code and sent.heard == math.inf:
            sent.heard = end
        acknowledged = transmitter.acks is None or transmitter.acks.current.random() >= paces.arq.ack_loss
        if acknowledged and not code:
            break
        if used >= pace.tries:
            sent.gave_up = True
            break
        if transmitter.rate.at(now).until == math.inf and not _longer(end - now, seconds):
            now += pace.spent(used) - pace.spent(used - 1)
        else:
            now = _pass_window(transmitter, cut.last, pace, end + pace.gap, 0, sent)
            if now == math.inf:
                sent.stuck()
                return
            now += pace.waited(used)
        if used % _EAGER == 0:
            if channel.holds:
                now = channel.up(now)
            if now == math.inf:
                sent.stuck()
                return
            skipped, passed = _skip(transmitter, now, pace, used, cut.last, seconds, 0, sent, start)
            now += passed
            used += skipped
    sent.over = end
    sent.end = end + pace.gap


def _pass_window(transmitter: Transmitter, size: int, pace: Pace, now: float, behind: int, sent: Sent) -> float:
    """Send the packets behind a lost one while the rate changes; return when the lost one may be sent again.

    Args:
        transmitter: sends them.
        size: bytes of each.
        pace: of the message.
        now: when the first of them starts.
        behind: how many there are; the rest of the window stays empty.
        sent: where they are counted.
    """
    for number in range(pace.following):
        end = transmitter.rate.end(now, 8 * size)
        if end == math.inf:
            return math.inf
        if number < behind:
            sent.add_in_vain(size, 1, end - now)
        now = end + pace.gap
    return now


def _skip(
    transmitter: Transmitter,
    now: float,
    pace: Pace,
    used: int,
    size: int,
    first: float,
    behind: int,
    sent: Sent,
    began: float,
) -> tuple[int, float]:
    """Count tries that are bound to fail, since the link loses everything for a while, but for the last of all.

    Args:
        now: when the next try starts.
        pace: of the tries, if all took as long on the air as the first.
        used: tries so far.
        size: bytes of the packet.
        first: how long the first try was on the air.
        behind: packets sent in vain behind each try.
        sent: where they are counted.
        began: when the first try started.

    Returns:
        How many they are, and how long they take; where the transmitter waits for a radio that sleeps, or the rate
        changes, and the link never comes up again, as long each as those so far on average.
    """
    ends = transmitter.channel.lost_until(now, size)
    seconds, until = transmitter.seconds(now, 8 * size)
    if ends <= now or seconds == math.inf:
        return 0, 0.0
    longer = (1 + pace.following) * _longer(seconds, first)
    step = pace.spent(used + 1) - pace.spent(used)
    left = min(until, ends) - now - (1 + behind) * seconds
    if pace.spent(used + 2) - pace.spent(used + 1) > step:  # waits grow: tries are few
        return 0, 0.0
    step += longer
    most = pace.tries - used - 1
    changes = transmitter.channel.holds or until < math.inf
    for_good = changes and used >= TYPICAL and transmitter.channel.lost_for_good(now)
    skipped = most if for_good or step * most <= left else max(math.floor(left / step), 0)
    transmitter.channel.skip(skipped, now)
    if for_good and until < math.inf:
        seconds = sent.air_seconds / sent.packets
    sent.packets += skipped * (1 + behind)
    sent.packets_lost += skipped
    sent.air_bytes += skipped * (1 + behind) * size
    sent.air_seconds += skipped * (1 + behind) * seconds
    if for_good:
        return skipped, skipped * (now - began) / used
    return skipped, pace.spent(used + skipped) - pace.spent(used) + skipped * longer


def _longer(seconds: float, first: float) -> float:
    """Return how much longer a try is on the air than the first one; 0 where only rounding differs."""
    longer = seconds - first
    return longer if abs(longer) > 1e-9 * first else 0.0
