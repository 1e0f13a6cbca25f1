"""The transmitter of a link: sends the packets of one message, and tells what came of it.

    once        each packet once, whatever becomes of it
    protected   likewise, with parity packets: any k of a group make up for the others
    repeated    each packet until it is acknowledged: stop-and-wait or go-back-n
    in_turns    likewise, with selective repeat

Packets are decided many at once. Where chances stay equal for long, they are not decided one by
one at all: how many are lost, or how often they are repeated, is drawn from its own law
(binomial; geometric and multinomial), so that a message of a million packets costs as much as
one of a hundred. A stretch of equal chances ends where the weather, the rate or an outage
changes; what is on the air across such a limit is decided packet by packet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from p2pl_async.basics.arrays import Floats, Indices
from p2pl_async.basics.randomness import Substreams
from p2pl_async.link.arq import Pace, Paces, draw_tries, selective_repeat, stop_and_wait, tries_shares
from p2pl_async.link.channel import Channel, Steady
from p2pl_async.link.loss.base import CAUSES, Codes
from p2pl_async.link.rate import RateProfile

AGGREGATE = 64  # packets of equal chances from which on their number is drawn; fewer cost less one by one
_CHUNK = 64  # packets looked at together at first
_MARGIN = 6.0  # standard deviations between a block of packets and the end of its stretch
_USUAL = 0.999  # share of packets that it takes into account
_LARGEST_CHUNK = 8192
_MOST_SLOTS = 1 << 22  # of selective repeat, before a link that loses everything is given up
_OUTAGE = CAUSES.index("outage")
_EAGER = 8  # tries of a single packet after which it is worth asking whether the link is dead


class Cut(NamedTuple):
    """How a message is cut into packets: all alike but for the last."""

    packets: int
    full: int  # bytes of each but the last, with header
    last: int  # bytes of the last


@dataclass(slots=True)
class Sent:
    """What came of a message."""

    packets: int = 0
    packets_lost: int = 0
    air_bytes: int = 0
    air_seconds: float = 0.0
    end: float = 0.0  # instant at which the transmitter may send the next message
    over: float = 0.0  # end of the last packet
    heard: float = math.inf  # end of the packet that completed it at the receiver
    acknowledged: bool = False
    code: int = 0  # why it is lost: of the first packet that is
    gave_up: bool = False  # ARQ came to its end
    missing: Indices | None = None  # packets that didn't arrive, ascending; None if nobody asked


class Transmitter:
    """Sends packets over a channel.

    Args:
        channel: what becomes of packets on the air.
        rate: how fast they leave.
        acks: the random numbers of acknowledgments, message by message; None if none is ever lost.
    """

    __slots__ = ("_acks", "_channel", "_rate")

    def __init__(self, channel: Channel, rate: RateProfile, acks: Substreams | None) -> None:
        self._channel = channel
        self._rate = rate
        self._acks = acks

    def begin(self, number: int, corrupt: float) -> None:
        """Begin a message; see `Channel.begin`."""
        self._channel.begin(number, corrupt)
        if self._acks is not None:
            self._acks.begin(number)

    # Without ARQ

    def once(self, cut: Cut, start: float, keep: bool, uniform: float | None) -> Sent:
        """Send every packet once.

        Args:
            cut: the packets.
            start: instant from which on the transmitter is free.
            keep: which packets are lost is asked for.
            uniform: the random number of a single packet's loss.
        """
        channel, rate = self._channel, self._rate
        sent, bits, equal = Sent(), 8 * cut.full, cut.packets - 1
        lost: list[Indices] = []
        now, done, chunk = start, 0, _CHUNK
        while done < equal:
            if channel.holds:
                now = channel.up(now)
            if now == math.inf:
                return self._dead(sent)
            seconds_per_bit, until = rate.steady(now)
            seconds = bits * seconds_per_bit
            steady = None if keep or equal - done < AGGREGATE else channel.steady(now)
            if steady is not None:
                count = _fitting(seconds, now, steady, until, equal - done)
                if count >= AGGREGATE:
                    count_lost = int(channel.random.binomial(count, steady.p)) if steady.p else 0
                    if count_lost and not sent.code:
                        sent.code = channel.cause(steady)
                    sent.packets_lost += count_lost
                    sent.air_seconds += count * seconds
                    now += count * seconds
                    done += count
                    chunk = _CHUNK
                    short = 8 * cut.last * seconds_per_bit
                    if done == equal and steady.p == 0 and now + short <= min(steady.until, steady.end, until):
                        return self._all_sent(cut, sent, now, now + short)  # nothing to draw for the last one, either
                    continue
            starts, ends = self._lay(now, bits, 0.0, min(equal - done, chunk))
            chunk = min(2 * chunk, _LARGEST_CHUNK)
            if ends[-1] == math.inf:
                return self._dead(sent)
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
            return self._dead(sent)
        end = rate.end(now, 8 * cut.last)
        code = channel.fate(now, end, cut.last, uniform)
        if code:
            sent.code = sent.code or code
            sent.packets_lost += 1
            if keep:
                lost.append(np.array([equal]))
        self._all_sent(cut, sent, now, end)
        if keep:
            sent.missing = np.concatenate(lost) if lost else np.empty(0, np.intp)
        return sent

    def protected(self, cut: Cut, data: int, parity: int, start: float) -> Sent:
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
        starts, ends, codes = self._send_all(start, bits, cut.full or cut.last)
        if not len(starts):
            return self._dead(sent)
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

    # With ARQ

    def repeated(self, cut: Cut, paces: Paces, start: float, keep: bool, uniform: float | None) -> Sent:
        """Send every packet until it is acknowledged, one after another (stop-and-wait, go-back-n).

        A message of which a part is of use (`keep`) goes on behind a packet that was given up.
        """
        channel, sent = self._channel, Sent()
        bits, equal = 8 * cut.full, cut.packets - 1
        missing: list[int] = []
        now, done, used_up, chunk = start, 0, 0, _CHUNK
        arrived = False  # the packet under way, though its sender doesn't know
        while done < equal:
            if channel.holds:
                now = channel.up(now)
            if now == math.inf:
                return self._dead(sent)
            seconds_per_bit, until = self._rate.steady(now)
            seconds = bits * seconds_per_bit if until > now else self._rate.end(now, bits) - now
            pace = paces.of(seconds)
            # The last packets of a go-back-n message are followed by fewer than a window: one by one.
            room = equal - done - pace.following
            if not keep and not used_up and room >= AGGREGATE:
                block = self._block(cut, pace, seconds, now, until, room, paces.arq.ack_loss, sent)
                if block is not None:
                    through, used_up, now, failed = block
                    if failed:
                        return self._given_up(sent, now)
                    done += through
                    chunk = _CHUNK
                    continue
            # A packet under way is finished first, so that a block can follow.
            alone = used_up and not pace.even and room >= AGGREGATE
            looked = 1 if alone else min(2 * (equal - done) + pace.tries, chunk)
            starts, ends = self._lay(now, bits, pace.gap, looked)
            chunk = min(2 * chunk, _LARGEST_CHUNK)
            if ends[-1] == math.inf:
                return self._dead(sent)
            codes = channel.fates(starts, ends, cut.full)
            lost = codes != 0
            if paces.arq.ack_loss and self._acks is not None:
                lost |= self._acks.current.random(len(lost)) < paces.arq.ack_loss
            if not pace.even and lost.any():
                lost = lost[: int(np.argmax(lost)) + 1]  # what follows a loss starts at another instant
                chunk = _CHUNK
            used, through, tries, failed = stop_and_wait(lost, equal - done, pace.tries, used_up)
            channel.passed(used)
            codes = codes[:used]
            sent.packets += used
            sent.packets_lost += int(np.count_nonzero(codes))
            sent.air_bytes += used * cut.full
            sent.air_seconds += float((ends[:used] - starts[:used]).sum())
            now = float(ends[used - 1]) + pace.gap
            if not pace.even and lost[used - 1]:
                now = float(starts[used - 1]) + pace.spent(tries) - pace.spent(tries - 1)
                self._in_vain(cut, min(pace.following, equal - done - through), seconds, sent)
            if tries:
                own = tries if through else tries - used_up  # of these transmissions, those of the packet under way
                arrived = (arrived and not through) or not codes[used - own :].all()
            done += through
            used_up = tries
            if failed:
                if not keep:
                    return self._given_up(sent, now)
                if not arrived:
                    missing.append(done)
                sent.gave_up = True
                done += 1
                used_up = 0
            if not used_up:
                arrived = False
        self._last(cut, paces, now, sent, uniform)
        if keep:
            if sent.heard == math.inf:
                missing.append(equal)
            sent.missing = np.array(missing, np.intp)
        if missing:
            sent.heard = math.inf
        sent.acknowledged = not sent.gave_up and not sent.code
        return sent

    def _block(
        self, cut: Cut, pace: Pace, seconds: float, now: float, until: float, room: int, ack_loss: float, sent: Sent
    ) -> tuple[int, int, float, bool] | None:
        """Send packets of equal chances without looking at each.

        Returns:
            How many got through, tries of the next one so far, the instant it goes on, and
            whether it was given up; None if the stretch is too short to be worth it.
        """
        steady, random = self._channel.steady(now), self._channel.random
        if steady is None:
            return None
        p = steady.p + (1 - steady.p) * ack_loss
        limit = min(steady.until, steady.end, until)
        failed = False
        if p == 1:
            if limit - now <= AGGREGATE * seconds:
                return None
            through, used_up = 0, min(pace.tries, 1 + pace.failures_within(limit - now - seconds))
            failures, failed = used_up, used_up == pace.tries
            now += pace.spent(used_up)
        elif p == 0:
            step = seconds + pace.gap
            through = room if room * step - pace.gap <= limit - now else int((limit - now + pace.gap) / step)
            if through < AGGREGATE:
                return None
            failures = used_up = 0
            now += through * step
        else:
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
            now = begun + pace.spent(used_up)
        used = through + failures
        sent.packets += used
        sent.packets_lost += int(random.binomial(failures, steady.p / p)) if ack_loss and p else failures
        sent.air_bytes += used * cut.full
        sent.air_seconds += used * seconds
        self._in_vain(cut, failures * pace.following, seconds, sent)
        return through, used_up, now, failed

    def in_turns(self, cut: Cut, paces: Paces, start: float, keep: bool) -> Sent:
        """Send every packet until it is acknowledged, each in its turn (selective repeat)."""
        channel, sent = self._channel, Sent()
        bits, window = 8 * cut.full, paces.arq.window or 1
        pace = paces.of(self._rate.end(start, bits) - start)
        tries = min(pace.tries, _MOST_SLOTS // window)
        looked = cut.packets + cut.packets // 4 + 4 * window
        while True:
            channel.again()  # the same draws, and more of them
            if self._acks is not None:
                self._acks.again()
            starts, ends = self._lay(start, bits, pace.gap, looked)
            if ends[-1] == math.inf:
                return self._dead(sent)
            codes = channel.fates(starts, ends, cut.full)
            lost = codes != 0
            if paces.arq.ack_loss and self._acks is not None:
                lost |= self._acks.current.random(len(lost)) < paces.arq.ack_loss
            turns = selective_repeat(lost, cut.packets, tries, window)
            if turns is not None:
                break
            looked *= 2
        slots, carried, failed = turns
        channel.passed(slots)
        taken, last = np.flatnonzero(carried >= 0), np.flatnonzero(carried == cut.packets - 1)
        ends[last] = [self._rate.end(at, 8 * cut.last) for at in starts[last].tolist()]
        sent.packets = len(taken)
        sent.packets_lost = int(np.count_nonzero(codes[taken]))
        sent.air_bytes = len(taken) * cut.full - len(last) * (cut.full - cut.last)
        sent.air_seconds = float((ends[taken] - starts[taken]).sum())
        sent.over = float(ends[slots - 1])
        sent.end = sent.over + pace.gap
        heard = taken[codes[taken] == 0]
        packets, first = np.unique(carried[heard], return_index=True)
        if len(packets) == cut.packets:
            sent.heard = float(ends[heard[first].max()])
        sent.gave_up = failed >= 0
        sent.acknowledged = not sent.gave_up
        if keep:
            sent.missing = np.setdiff1d(np.arange(cut.packets), packets)
        return sent

    # Parts of these

    def _last(self, cut: Cut, paces: Paces, start: float, sent: Sent, uniform: float | None) -> None:
        """Send the last packet, or the only one, until it is acknowledged."""
        channel, rate, bits = self._channel, self._rate, 8 * cut.last
        now, used, seconds = start, 0, 0.0
        pace: Pace | None = None
        while True:
            if channel.holds:
                now = channel.up(now)
            end = rate.end(now, bits) if now < math.inf else math.inf
            if end == math.inf:
                self._dead(sent)
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
            acknowledged = self._acks is None or self._acks.current.random() >= paces.arq.ack_loss
            if acknowledged and not code:
                break
            if used >= pace.tries:
                sent.gave_up = True
                break
            now += pace.spent(used) - pace.spent(used - 1) + _longer(end - now, seconds)
            if used % _EAGER == 0:
                skipped, passed = self._skip(now, pace, used, cut, seconds, sent)
                now += passed
                used += skipped
        sent.over = end
        sent.end = end + pace.gap

    def _skip(self, now: float, pace: Pace, used: int, cut: Cut, first: float, sent: Sent) -> tuple[int, float]:
        """Count tries that are bound to fail, since the link loses everything for a while, but for the last of all.

        Args:
            now: when the next try starts.
            pace: of the tries, if all took as long on the air as the first.
            used: tries so far.
            cut: the message.
            first: how long the first try was on the air.
            sent: where they are counted.

        Returns:
            How many they are, and how long they take.
        """
        steady = self._channel.steady(now)
        seconds_per_bit, until = self._rate.steady(now)
        seconds = 8 * cut.last * seconds_per_bit
        if steady is None or steady.p < 1:
            return 0, 0.0
        longer = _longer(seconds, first)
        step = pace.spent(used + 1) - pace.spent(used)
        left = min(steady.until, steady.end, until) - now - seconds
        if pace.spent(used + 2) - pace.spent(used + 1) > step:  # waits grow: tries are few
            return 0, 0.0
        step += longer
        most = pace.tries - used - 1
        skipped = most if step * most <= left else max(math.floor(left / step), 0)
        sent.packets += skipped
        sent.packets_lost += skipped
        sent.air_bytes += skipped * cut.last
        sent.air_seconds += skipped * seconds
        return skipped, pace.spent(used + skipped) - pace.spent(used) + skipped * longer

    def _all_sent(self, cut: Cut, sent: Sent, start: float, end: float) -> Sent:
        """End a message, the last packet of which was on the air from `start` to `end`, each having been sent once."""
        sent.air_seconds += end - start
        sent.packets = cut.packets
        sent.air_bytes = (cut.packets - 1) * cut.full + cut.last
        sent.end = sent.over = end
        if not sent.packets_lost:
            sent.heard = end
        return sent

    def _dead(self, sent: Sent) -> Sent:
        """End a message that waits for ever: the link never comes up again, or its rate stays 0."""
        sent.end = sent.heard = math.inf
        sent.code = sent.code or _OUTAGE
        sent.missing = None
        return sent

    def _given_up(self, sent: Sent, now: float) -> Sent:
        """End a message, a packet of which used up its tries."""
        sent.gave_up = True
        sent.end = now
        return sent

    def _in_vain(self, cut: Cut, packets: int, seconds: float, sent: Sent) -> None:
        """Count packets sent behind one that was lost: they have to be sent again whatever becomes of them."""
        sent.packets += packets
        sent.air_bytes += packets * cut.full
        sent.air_seconds += packets * seconds

    def _lay(self, now: float, bits: int, gap: float, count: int) -> tuple[Floats, Floats]:
        """Return starts and ends of packets that follow each other; fewer if the link goes down, or the rate changes.

        Args:
            now: start of the first.
            bits: of each.
            gap: seconds from the end of one to the start of the next.
            count: how many.
        """
        seconds_per_bit, until = self._rate.steady(now)
        if until == math.inf:
            seconds = bits * seconds_per_bit
            starts: Floats = now + (seconds + gap) * np.arange(count, dtype=np.float64)
            ends = starts + seconds
        elif gap == 0:
            ends = self._rate.ends(now, bits * np.arange(1.0, count + 1))
            starts = np.concatenate(([now], ends[:-1]))
        else:
            seconds = bits * seconds_per_bit
            fitting = int((until - now) / (seconds + gap)) if until > now else 0
            starts = now + (seconds + gap) * np.arange(min(count, fitting), dtype=np.float64)
            ends = starts + seconds
            if not fitting:
                starts, ends = np.array([now]), np.array([self._rate.end(now, bits)])
        if self._channel.holds:
            held = max(int(np.searchsorted(starts, self._channel.up_until(now))), 1)
            starts, ends = starts[:held], ends[:held]
        return starts, ends

    def _send_all(self, now: float, bits: Floats, size: int) -> tuple[Floats, Floats, Codes]:
        """Send packets of so many bits that follow each other, each once.

        Returns:
            Starts, ends and fates of all of them; or of none, if they wait for ever.
        """
        channel = self._channel
        starts, ends = np.empty(len(bits)), np.empty(len(bits))
        codes = np.zeros(len(bits), np.int8)
        done = 0
        while done < len(bits):
            if channel.holds:
                now = channel.up(now)
            if now == math.inf:
                break
            end = self._rate.ends(now, np.cumsum(bits[done:]))
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


def _longer(seconds: float, first: float) -> float:
    """Return how much longer a try is on the air than the first one; 0 where only rounding differs."""
    longer = seconds - first
    return longer if abs(longer) > 1e-9 * first else 0.0


def _fitting(seconds: float, now: float, steady: Steady, until: float, most: int) -> int:
    """Return how many packets that follow each other lie within a stretch."""
    limit = min(steady.until, steady.end, until)
    return most if most * seconds <= limit - now else max(int((limit - now) / seconds), 0)
