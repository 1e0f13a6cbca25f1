"""What must hold of a transport whatever devices do, and the error of a device that sends where it has no link."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from p2pl_async.air.airs import AnyAir
from p2pl_async.errors import InvariantError, ProtocolError
from p2pl_async.messages import DeviceId
from p2pl_async.trace import Trace
from p2pl_async.transport.path import Path


def no_link(source: DeviceId, target: DeviceId, known: Sequence[DeviceId]) -> ProtocolError:
    """Return the error of a device that sends to one that is none of its out-neighbors."""
    listed = ", ".join(map(str, known[:20])) or "no device"
    return ProtocolError(f"device {source} has no link to {target}; its links go to {listed}")


def check_fates(trace: Trace, paths: Sequence[Path], in_flight: Collection[tuple[DeviceId, DeviceId, int]]) -> None:
    """Check that every message has one fate.

    Raises:
        InvariantError: if not; names the first link on which one hasn't.
    """
    accounted = trace.delivered + trace.partial + trace.counts.n_lost + len(in_flight)
    if trace.sent == accounted:
        return
    per_link: Counter[tuple[DeviceId, DeviceId]] = Counter((src, dst) for src, dst, _ in in_flight)
    for path in paths:
        fates = path.delivered + path.partial + path.lost + per_link[path.src, path.dst]
        if path.sent != fates:
            raise InvariantError(f"link {path.src} -> {path.dst}: {path.sent} messages sent, {fates} have a fate")
    raise InvariantError(f"{trace.sent} messages sent, {accounted} have a fate")


def check_air_time(air: AnyAir, now: float) -> None:
    """Check that no radio was on the air for longer than the run.

    Raises:
        InvariantError: if one was; names the first.
    """
    for sender in air.senders:
        busy = sender.seconds - max(0.0, sender.until - now)
        if busy > now * (1 + 1e-9):
            raise InvariantError(f"device {sender.device} was on the air for {busy} s of a run of {now} s")
