"""Laws of every emulation, and of protocols that promise more; an AssertionError names the first breach.

What devices were handed is compared with what links and medium said of it, so that a breach of either shows.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from p2pl_async.basics.arrays import Floats
from p2pl_async.device import Device
from p2pl_async.experiment.emulation import Emulation
from p2pl_async.hardware.downtime import BATTERY
from p2pl_async.messages import DeviceId, Message
from p2pl_async.testing.witness import HandedOver, Witness
from p2pl_async.trace import Record
from p2pl_async.transport.relaying import RelayingTransport
from p2pl_async.transport.wire import decode

_SLACK = 1e-5
"""By how much rounding may move a model of single precision, as a share of the largest entry."""

Key = tuple[DeviceId, DeviceId, int]


def check_laws(emulation: Emulation, *, twice: bool = True) -> None:
    """Check what holds in every emulation, whatever the protocol, the links and the weather.

    Conservation: every message on every link has one fate. Causality: nothing is received before it was sent, or
    that was not sent, or that was lost. Order: on a link of order "fifo" no message overtakes another. A device that
    is down sends and receives nothing. All numbers are finite. The same emulation once more gives the same.

    Args:
        emulation: of `RandomWorld.run`, or of `emulate(..., watched=True)`; it is over.
        twice: run it again, if its witness can.

    Raises:
        AssertionError: if a law is broken; names the first offender.
        InvariantError: if messages are not conserved.
    """
    emulation.transport.check()
    witness = _witness_of(emulation)
    for breach in _breaches(emulation, witness):
        raise AssertionError(breach)
    if twice and witness.again is not None:
        _check_same(emulation, witness.again())


def _witness_of(emulation: Emulation) -> Witness:
    assert isinstance(emulation.witness, Witness), "nobody watched this emulation; write emulate(..., watched=True)"
    return emulation.witness


def _breaches(emulation: Emulation, witness: Witness) -> Iterator[str]:
    yield from _numbers(witness.records, emulation.transport.in_flight())
    yield from _fates(emulation, witness)
    yield from _overtaken(emulation, witness.received)
    yield from _while_down(emulation, witness)
    for device in emulation.devices:
        if device.params is not None and not np.isfinite(device.params).all():
            yield f"the model of device {device.id} is not finite"


def _numbers(records: Sequence[Record], in_flight: Container[Key]) -> Iterator[str]:
    """Yield records whose numbers are impossible; of a message that relays still pass on, the fate is open."""
    for record in records:
        verdict = record.verdict
        counts = (verdict.packets, verdict.packets_lost, verdict.air_bytes, verdict.air_seconds)
        if not all(0 <= count < math.inf for count in counts) or verdict.packets_lost > verdict.packets:
            yield f"{_name(record)} has packets, packets lost, bytes and seconds on air {counts}"
        if not record.sent <= verdict.arrival <= verdict.copy:
            yield f"{_name(record)}, sent at {record.sent} s, arrives at {verdict.arrival} and {verdict.copy} s"
        undecided = not verdict.cause and (record.src, record.dst, record.number) in in_flight
        if (verdict.arrival == math.inf) == (verdict.cause in ("", "partial")) and verdict.packets and not undecided:
            yield f"{_name(record)} arrives at {verdict.arrival} s, and its cause of loss is {verdict.cause!r}"


def _fates(emulation: Emulation, witness: Witness) -> Iterator[str]:
    """Yield messages that were received and not sent, or sent and arrived and not received."""
    end, transport = emulation.clock.now, emulation.transport
    records: dict[Key, Record] = {}
    for record in witness.records:
        key = (record.src, record.dst, record.number)
        if key in records:
            yield f"{_name(record)} has two fates"
        records[key] = record
    received: Counter[Key] = Counter()
    for each in witness.received:
        key = (each.src, each.dst, each.number)
        received[key] += 1
        said = records.get(key)
        if said is None:
            yield f"message {each.number} from {each.src} was received by {each.dst} and never sent"
        elif said.verdict.arrival != math.inf and each.at not in (said.verdict.arrival, said.verdict.copy):
            yield f"{_name(said)} is received at {each.at} s, and was to arrive at {said.verdict.arrival} s"
        elif said.verdict.arrival == math.inf and said.verdict.cause:
            yield f"{_name(said)} is lost ({said.verdict.cause}), and was received at {each.at} s"
        elif each.at < said.sent:
            yield f"{_name(said)} is received at {each.at} s, before it was sent at {said.sent} s"
    for key, count in received.items():
        if count > 1 + (records[key].verdict.copy < math.inf):
            yield f"{_name(records[key])} was received {count} times"
    if not emulation.trace.malformed:
        under_way = transport.in_flight() | transport.cut
        for key, record in records.items():
            if record.verdict.arrival < end and not received[key] and key not in under_way:
                yield f"{_name(record)} arrives at {record.verdict.arrival} s, and was never received"


def _overtaken(emulation: Emulation, received: Sequence[HandedOver]) -> Iterator[str]:
    """Yield messages that were overtaken on links that keep the order."""
    if isinstance(emulation.transport, RelayingTransport):
        return  # of two messages, one may go straight and the other by a detour
    fifo = {(path.src, path.dst) for path in emulation.transport.paths() if path.link.fifo}
    newest: dict[tuple[DeviceId, DeviceId], int] = {}
    seen: set[Key] = set()
    for each in received:
        link, key = (each.src, each.dst), (each.src, each.dst, each.number)
        if link in fifo and key not in seen and each.number < newest.get(link, -1):
            yield f"message {each.number} from {each.src} to {each.dst} was overtaken by {newest[link]}"
        if key not in seen:
            newest[link] = each.number
        seen.add(key)


def _while_down(emulation: Emulation, witness: Witness) -> Iterator[str]:
    """Yield what devices sent or received while they were down."""
    if emulation.downtimes is None:
        return
    for each in witness.received:
        stay = emulation.downtimes[each.dst].at(each.at)
        # A battery that empties at the instant of an arrival may do so after it.
        if stay.value and not (stay.value == BATTERY and emulation.downtimes[each.dst].ended == each.at):
            yield f"device {each.dst} is {stay.value} at {each.at} s and received message {each.number} of {each.src}"
    for record in witness.records:
        stay = emulation.downtimes[record.src].at(record.sent)
        if stay.value and not (stay.value == BATTERY and emulation.downtimes[record.src].ended == record.sent):
            yield f"{_name(record)} was sent at {record.sent} s, when its sender was {stay.value}"


def _check_same(first: Emulation, second: Emulation) -> None:
    """Raise AssertionError unless two runs of an emulation did the same."""
    if first.trace.digest() != second.trace.digest():
        pairs = zip(sorted(first.witness.records), sorted(second.witness.records), strict=False)
        differing = next((pair for pair in pairs if pair[0] != pair[1]), None)
        raise AssertionError(f"run again, the emulation sends other messages; the first that differs: {differing}")
    if first.witness.received != second.witness.received or first.clock.now != second.clock.now:
        raise AssertionError("run again, the emulation delivers the same messages at other instants")
    for one, two in zip(first.devices, second.devices, strict=True):
        if (one.params is None) != (two.params is None) or (
            one.params is not None and two.params is not None and one.params.tobytes() != two.params.tobytes()
        ):
            raise AssertionError(f"run again, device {one.id} ends with another model")


def _name(record: Record) -> str:
    return f"message {record.number} ({record.kind}) from {record.src} to {record.dst}"


# What some protocols promise


def hull(
    emulation: Emulation, first: Sequence[ArrayLike] | None = None, last: Sequence[ArrayLike] | None = None
) -> None:
    """Check that averaging never leaves the range of the first values, entry by entry.

    Args:
        emulation: it is over, and training moved nothing, as in the worlds of `strategies.worlds`.
        first: each device's first value; its first model by default.
        last: the values now; the devices' models by default.

    Raises:
        AssertionError: if an entry of a value is outside.
    """
    begin, end = _values(emulation, first, last)
    low, high = begin.min(axis=0), begin.max(axis=0)
    slack = _SLACK * max(1.0, float(np.abs(begin).max()))
    for k, value in enumerate(end):
        if (value < low - slack).any() or (value > high + slack).any():
            raise AssertionError(f"value {k} of {len(end)} is {value}, outside of {low} to {high}, the first ones")


def mean_kept(
    emulation: Emulation, first: Sequence[ArrayLike] | None = None, last: Sequence[ArrayLike] | None = None
) -> None:
    """Check that the mean of all devices' values is what it was in the beginning.

    Args:
        emulation: as of `hull`; it has come to rest, with no message under way that changes a value.
        first: as of `hull`.
        last: as of `hull`; of every device.

    Raises:
        AssertionError: if the mean has moved.
    """
    begin, end = _values(emulation, first, last)
    moved = np.abs(end.mean(axis=0) - begin.mean(axis=0)).max()
    if moved > _SLACK * max(1.0, float(np.abs(begin).max())):
        raise AssertionError(f"the mean was {begin.mean(axis=0)} and is {end.mean(axis=0)}")


def mass(
    emulation: Emulation,
    total: ArrayLike,
    held: Callable[[Device], ArrayLike],
    carried: Callable[[Message], ArrayLike | None] = lambda message: None,
) -> None:
    """Check that what devices hold, and what messages carry that no device has taken yet, sum to a total.

    Args:
        emulation: it is over; the messages in its inboxes are read by this.
        total: the sum, of any shape.
        held: returns what a device holds.
        carried: returns what a message carries; None if nothing.

    Raises:
        AssertionError: if the sum differs.
    """
    parts = [np.asarray(held(device), np.float64) for device in emulation.devices]
    for message in _afloat(emulation):
        part = carried(message)
        if part is not None:
            parts.append(np.asarray(part, np.float64))
    found, expected = np.sum(parts, axis=0), np.asarray(total, np.float64)
    if not np.allclose(found, expected, rtol=_SLACK, atol=_SLACK):
        raise AssertionError(f"devices and messages hold {found}, and {expected} there should be")


def _values(
    emulation: Emulation, first: Sequence[ArrayLike] | None, last: Sequence[ArrayLike] | None
) -> tuple[Floats, Floats]:
    """Return the values in the beginning and now, one row each."""
    if first is None:
        assert emulation.learner is not None, "this protocol has no models; give hull the values: first, last"
        first = [emulation.learner.initial_params(device.id) for device in emulation.devices]
    if last is None:
        last = [device.params for device in emulation.devices if device.params is not None]
    begin, end = np.array(first, np.float64), np.array(last, np.float64)
    return begin.reshape(len(begin), -1), end.reshape(len(end), -1 if len(end) else 1)


def _afloat(emulation: Emulation) -> Iterator[Any]:
    """Yield every message that is on its way or unread, once per receiver."""
    for encoded in emulation.transport.on_the_way():
        yield decode(encoded.data, encoded.sent)
    for device in emulation.devices:
        while (message := device.receive_nowait()) is not None:
            yield message
