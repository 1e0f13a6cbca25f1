"""What happened on the network: one record per message and link, counters, and a digest.

A record is complete once the fate of the message is known. Devices that send at the same
instant do so in random order, so the records of an instant are sorted by content before they
enter the digest: the same scenario and seed give the same digest in any process.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

_FLUSH = 4096  # records; sorting and hashing in blocks costs 0.9 us per record


class Record(NamedTuple):
    """One message on one link, from its sender to its fate."""

    sent: float  # s, virtual
    src: int
    dst: int
    number: int  # the sender's count of its messages
    kind: str  # the message's tag
    size: int  # encoded bytes
    packets: int  # transmissions on air, retries included
    packets_lost: int
    air_bytes: int  # bytes on air, headers and retries included
    arrival: float  # s, virtual; inf if lost
    cause: str  # why it was lost; "" if it arrives


class Trace:
    """Takes the records of a run, counts them, and keeps a digest of them.

    Args:
        sink: called with each record in order, for a run that keeps them.
    """

    def __init__(self, sink: Callable[[Record], object] | None = None) -> None:
        self.sent = 0  # messages, one for each link that a message is sent on
        self.delivered = 0
        self.lost: Counter[str] = Counter()
        self.duplicates = 0  # second copies that arrived
        self.malformed = 0  # arrived, but a RemoteError to the receiver
        self.packets = 0
        self.packets_lost = 0
        self.payload_bytes = 0
        self.air_bytes = 0
        self._sink = sink
        self._recent: list[Record] = []
        self._hash = hashlib.sha256()

    def add(self, record: Record) -> None:
        """Take a record; records come in the order of their `sent`."""
        self.sent += 1
        self.packets += record[6]
        self.air_bytes += record[8]
        self.payload_bytes += record[5]
        if record[10]:
            self.lost[record[10]] += 1
        if record[7]:
            self.packets_lost += record[7]
        recent = self._recent
        recent.append(record)
        if len(recent) >= _FLUSH and recent[-1][0] > recent[0][0]:
            self.flush(before=record[0])

    @property
    def n_lost(self) -> int:
        """Messages lost, whatever the cause."""
        return self.lost.total()

    def digest(self) -> str:
        """Return the digest of everything recorded, as 64 hexadecimal digits."""
        self.flush()
        return self._hash.hexdigest()

    def flush(self, before: float = math.inf) -> None:
        """Hash and hand on the records of instants that are over: those earlier than `before`."""
        done = [record for record in self._recent if record[0] < before]
        self._recent = self._recent[len(done) :]
        done.sort()
        if self._sink is not None:
            for record in done:
                self._sink(record)
        self._hash.update(b"".join([_pack(record) for record in done]))


_LAYOUT = struct.Struct("<diiqqqqqd").pack


def _pack(record: Record) -> bytes:
    sent, src, dst, number, kind, size, packets, packets_lost, air_bytes, arrival, cause = record
    numbers = _LAYOUT(sent, src, dst, number, size, packets, packets_lost, air_bytes, arrival)
    return numbers + kind.encode() + b"\0" + cause.encode() + b"\0"
