"""ARQ: a link that sends a lost packet again, and how often it takes.

A packet is sent until its acknowledgment comes, at most 1 + retries times. The kinds differ in
what the sender does while it waits. T is the time of one packet, and C = T + turnaround the time
until its acknowledgment is due:

    stop-and-wait      nothing; the next transmission starts C after the last
    go-back-n          sends on, up to `window` packets from the oldest that is not acknowledged; if
                       that one stays so, it and all that were sent after it are sent again
    selective-repeat   sends on likewise, and sends again only what was lost

The last two send a packet every max(T, C / window). Selective repeat is `window` stop-and-wait
senders with interleaved slots. Goodput over rate, p being the loss of packet or acknowledgment:
(1 - p) T / C; min(1, window T / C) (1 - p) / (1 - p + p window); min(1, window T / C) (1 - p).

Source: D. Bertsekas and R. Gallager, "Data Networks", 2nd ed., section 2.4.
"""

from __future__ import annotations

import functools
import math
from typing import Annotated, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from p2pl_async.basics.arrays import Bools, Floats, Ints
from p2pl_async.basics.settings import Settings, mistake, word
from p2pl_async.basics.units import PositiveSeconds, Probability, Seconds

UNLIMITED = 1_000_000  # retries; without a limit a link that loses everything would never end
_REMEMBERED = 16  # paces
_NEGLIGIBLE = 1e-18  # chance of a number of tries that no draw would ever show


class Arq(Settings):
    """Retries of the link layer: each packet is sent until it is acknowledged, at most 1 + retries times.

    The acknowledgment of a packet is due `turnaround` after its end: twice the propagation, the
    acknowledgment itself and all waiting between packets. Its bytes and air time are not charged to
    any device. A message is given up with its first packet that is given up, unless a part of it is
    of use.
    """

    retries: Annotated[Annotated[int, Field(strict=True, ge=0, le=100)] | None, *word("unlimited")] = Field(
        description='most repetitions of one packet; "unlimited" stops at a million'
    )
    turnaround: Seconds = Field(
        default=0.0, description="from the end of a transmission until its acknowledgment has come or is overdue"
    )
    kind: Literal["stop-and-wait", "go-back-n", "selective-repeat"] = Field(
        default="stop-and-wait", description="what the sender does while it waits for an acknowledgment"
    )
    window: Annotated[int, Field(strict=True, ge=2, le=4096)] | None = Field(
        default=None, description="packets sent ahead of their acknowledgment; not with stop-and-wait"
    )
    ack_loss: Probability = Field(default=0.0, description="share of acknowledgments that are lost on their way back")
    backoff: Seconds = Field(default=0.0, description="additional wait before the first repetition of a packet")
    growth: Annotated[float, Field(ge=1, le=10)] = Field(
        default=1.0, description="how many times longer the wait is before each further repetition"
    )
    timeout: PositiveSeconds | None = Field(
        default=None, description="no repetition starts later than this after the first transmission of a packet"
    )

    @model_validator(mode="after")
    def _check(self) -> Arq:
        if (self.window is None) != (self.kind == "stop-and-wait"):
            raise mistake(
                "stop-and-wait has no window; remove it"
                if self.window
                else f"{self.kind} needs a window: the packets sent ahead, such as window = 16"
            )
        if self.growth > 1 and not self.backoff:
            raise mistake('growth needs a backoff that can grow; add backoff = "10 ms"')
        if self.retries is None and self.growth > 1:
            raise mistake("growth needs a limit of retries, or the wait grows without end; write retries = 7")
        if self.kind == "selective-repeat" and self.backoff:
            raise mistake("selective-repeat repeats a packet one window after its last try; remove backoff")
        return self

    @property
    def most_tries(self) -> int:
        """Transmissions of one packet at most."""
        return 1 + (UNLIMITED if self.retries is None else self.retries)

    @property
    def waits(self) -> bool:
        """Whether tries take time even where packets take none."""
        return self.turnaround > 0 or self.backoff > 0


class Pace:
    """When the sender of one message acts: a packet's tries, and how far apart they start.

    Args:
        arq: the retries.
        seconds: how long one packet takes.
    """

    __slots__ = ("_backoff", "_growth", "_lost", "even", "following", "gap", "timeout", "tries", "window")

    def __init__(self, arq: Arq, seconds: float) -> None:
        self.window = arq.window or 1
        # Packets follow each other as closely as the window allows: a window is acknowledged every C.
        self.gap = max(0.0, (seconds + arq.turnaround) / self.window - seconds)
        self.following = self.window - 1 if arq.kind == "go-back-n" else 0  # sent in vain after a lost packet
        rounds = self.window if arq.kind == "go-back-n" else 1
        self._lost = rounds * (seconds + self.gap)  # from the start of a packet that is lost to its next
        if arq.kind == "selective-repeat":
            self._lost *= self.window
        self._backoff = arq.backoff
        self._growth = arq.growth
        self.even = not arq.backoff and not self.following  # losing a packet takes as long as delivering it
        self.tries = arq.most_tries
        if arq.timeout is not None:
            self.tries = 1 + self.failures_within(arq.timeout)

    def spent(self, failures: int) -> float:
        """Return the time from the start of a packet's first try to that of its next, after so many failures."""
        if self._growth == 1 or not self._backoff:
            return failures * (self._lost + self._backoff)
        return failures * self._lost + self._backoff * (self._growth**failures - 1) / (self._growth - 1)

    def waited(self, failures: int) -> float:
        """Return the additional wait before the next try of a packet that has failed so many times, at least once."""
        return self._backoff * self._growth ** (failures - 1) if self._backoff else 0.0

    def failures_within(self, seconds: float) -> int:
        """Return the most failures after which the next try still starts within so many seconds of the first."""
        most = self.tries - 1
        if self._growth == 1 or not self._backoff:
            each = self._lost + self._backoff
            return most if each * most <= seconds else math.floor(seconds / each * (1 + 1e-12))
        return next((k for k in range(most) if self.spent(k + 1) > seconds), most)

    def durations(self, most: int, seconds: float) -> Floats:
        """Return the times of packets that need 1, 2, ... most tries, up to the start of the next; shape (most,)."""
        failures = np.arange(most, dtype=np.float64)
        waits = failures if self._growth == 1 else (self._growth**failures - 1) / (self._growth - 1)
        lengths: Floats = failures * self._lost + self._backoff * waits + seconds + self.gap
        return lengths


class Paces:
    """The paces of one `Arq`, each made once: most packets take the same time."""

    __slots__ = ("_known", "arq")

    def __init__(self, arq: Arq) -> None:
        self.arq = arq
        self._known: dict[float, Pace] = {}

    def of(self, seconds: float) -> Pace:
        """Return the pace of packets that each take so many seconds."""
        pace = self._known.get(seconds)
        if pace is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            pace = self._known[seconds] = Pace(self.arq, seconds)
        return pace


class Attempts(NamedTuple):
    """The outcome of some transmissions in a row."""

    used: int  # transmissions that took place
    done: int  # packets that got through
    tries: int  # of the packet that is under way now, so far
    failed: bool  # it has used up its tries


def stop_and_wait(lost: Bools, packets: int, tries: int, used_up: int = 0) -> Attempts:
    """Send packets one after another, each until it gets through or has used up its tries.

    A packet ends with its first success, so the first to fail is the one with the first run of
    `tries` losses.

    Args:
        lost: whether the 1st, 2nd, ... transmission is lost, shape (k,).
        packets: how many there are, at least 1.
        tries: transmissions of one packet, at least 1.
        used_up: tries that the first packet has behind it, fewer than `tries`.
    """
    hits = np.flatnonzero(~lost)[:packets]
    runs = hits.copy()  # tries that each packet took; numpy's diff is five times as slow
    runs[1:] -= hits[:-1]
    runs[:1] += 1 + used_up
    too_long = np.flatnonzero(runs > tries)
    if len(too_long):
        done = int(too_long[0])
    elif len(hits) == packets:
        return Attempts(int(hits[-1]) + 1, packets, 0, False)
    else:
        done = len(hits)
        since = len(lost) - int(hits[-1]) - 1 if done else len(lost) + used_up
        if since < tries:
            return Attempts(len(lost), done, since, False)
    begun = int(hits[done - 1]) + 1 if done else -used_up
    return Attempts(begun + tries, done, tries, True)


class Slots(NamedTuple):
    """The packets of a selective-repeat sender in some slots in a row."""

    used: int  # slots, up to the one that ends the message; all of them if none does
    packet: NDArray[np.intp]  # in each of these slots, -1 if it is empty; shape (used,)
    done: bool  # the message has ended
    failed: int  # the packet that used up its tries; -1 if none does


class SelectiveRepeat:
    """A window of stop-and-wait senders in interleaved slots, which share the packets of one message.

    A lost packet is sent again `window` slots later; a new one takes the place of one that gets through.

    Args:
        packets: how many there are, at least 1.
        tries: transmissions of one packet; the first to use them up ends the message.
        window: slots from a packet to its next try.
    """

    def __init__(self, packets: int, tries: int, window: int) -> None:
        self._packets = packets
        self._tries = tries
        self._window = window
        self._begun = 0  # packets
        self._through = 0
        self._carried = np.full(window, -1)  # the packet that each sender repeats, -1 if it takes a new one
        self._failures = np.zeros(window, np.int64)  # of those packets, in a row

    @property
    def repeated(self) -> NDArray[np.intp]:
        """The packets that the next round repeats, and takes no other with them: none if it begins any."""
        open_to_others = self._begun < self._packets and bool((self._carried < 0).any())
        none: NDArray[np.intp] = np.empty(0, np.intp)
        return none if open_to_others else self._carried[self._carried >= 0]

    @property
    def spare_tries(self) -> int:
        """Rounds that may be lost without a packet using up its tries."""
        return self._tries - 1 - self.failures

    @property
    def failures(self) -> int:
        """The most losses in a row of a packet that is repeated."""
        return int(self._failures.max())

    def send(self, lost: Bools) -> Slots:
        """Send in the next slots, whole rounds of the window.

        Args:
            lost: whether the packet of each slot is lost, shape (k,) with k a multiple of the window.
        """
        window, packets = self._window, self._packets
        table = lost.reshape(-1, window)  # a column is one stop-and-wait sender
        row = np.arange(len(table))[:, None]
        success = np.maximum.accumulate(np.where(table, -1, row), axis=0)
        since = row - success + np.where(success < 0, self._failures, 0)  # losses in a row, this one included
        over = ~table | (since % self._tries == 0)  # its packet is done with after this slot
        fresh = np.empty(table.shape, np.bool_)
        fresh[0] = self._carried < 0
        fresh[1:] = over[:-1]  # a new packet may begin here
        number = self._begun + np.cumsum(fresh.ravel()) - 1
        begun = np.maximum.accumulate(np.where(fresh, row, -1), axis=0)
        columns = np.arange(window)
        carried = np.where(begun < 0, self._carried, number[begun * window + columns]).ravel()
        carried[carried >= packets] = -1
        through = np.cumsum(~lost & (carried >= 0))
        failures = np.flatnonzero((table & over).ravel() & (carried >= 0))
        complete = int(np.searchsorted(through, packets - self._through))
        failed = int(failures[0]) if len(failures) else len(lost)
        end = min(complete, failed)
        if end < len(lost):
            return Slots(end + 1, carried[: end + 1], True, int(carried[end]) if failed < complete else -1)
        last = carried[-window:]
        self._begun = min(int(number[-1]) + 1, packets)
        self._through += int(through[-1])
        self._carried = np.where(over[-1], -1, last)
        self._failures = np.where(self._carried < 0, 0, since[-1])
        return Slots(len(lost), carried, False, -1)

    def lose(self, rounds: int) -> None:
        """Send whole rounds that are lost and begin no packet, at most the `spare_tries`."""
        self._failures[self._carried >= 0] += rounds


@functools.lru_cache(maxsize=1024)
def tries_shares(p: float, tries: int) -> Floats:
    """Return the shares of packets that get through at the 1st, 2nd, ... try, of those that do; p is below 1."""
    most = 1 if p == 0 else min(tries, math.ceil(math.log(_NEGLIGIBLE) / math.log(p)))
    weights = p ** np.arange(most, dtype=np.float64)
    shares: Floats = weights / weights.sum()
    return shares


def draw_tries(random: np.random.Generator, p: float, packets: int, tries: int) -> tuple[Ints, bool]:
    """Draw the numbers of tries of packets that follow each other, each lost with probability p.

    The first packet to fail is geometric, and the tries of those before it are multinomial: the
    law of `stop_and_wait`, at a cost that doesn't depend on how many packets there are.

    Returns:
        How many got through at the 1st, 2nd, ... try, and whether the one behind them failed.
    """
    failure = p**tries
    through, failed = packets, False
    if failure > 0:
        first = int(random.geometric(failure))
        if first <= packets:
            through, failed = first - 1, True
    if not through:
        return np.zeros(1, np.int64), failed
    return random.multinomial(through, tries_shares(p, tries)), failed
