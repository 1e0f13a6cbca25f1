"""Laws that every run is held to: broken links and radios are named, whatever the protocol."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest

from p2pl_async import Device, Message, Protocol
from p2pl_async.errors import DeviceFailed, InvariantError
from p2pl_async.experiment.emulation import Emulation
from p2pl_async.link import Link, LinkSettings, Verdict
from p2pl_async.testing import complete, emulate


@dataclass(frozen=True, slots=True)
class Note(Message, tag="invariant"):
    pass


class Say(Protocol):
    kind: str = "say"

    async def run(self, device: Device) -> None:
        device.broadcast(Note())
        await device.sleep(1.0)


class Broken(Link):
    """Says of every message what it is told to."""

    verdict: Verdict

    def judge(self, size: int, now: float, needed: int | None = None) -> Verdict:
        return self.verdict


def run(verdict: Verdict) -> None:
    class Told(Broken):
        pass

    Told.verdict = verdict
    Emulation(complete(3), lambda src, dst: Told(src, dst, LinkSettings(), 0), 0).run(Say())


def test_no_message_arrives_before_it_can_have_been_sent() -> None:
    with pytest.raises(DeviceFailed, match=r"InvariantError: message 0 of device \d reaches \d at 0\.5 s, sooner"):
        run(Verdict(arrival=0.5, packets=1, air_bytes=100, air_seconds=0.8))


def test_every_message_has_one_fate() -> None:
    emulation = emulate(Say(), complete(3))
    emulation.transport.paths()[0].lost += 1
    emulation.trace.delivered += 1
    with pytest.raises(InvariantError, match=r"link 0 -> 1: 1 messages sent, 2 have a fate"):
        emulation.transport.check()


def test_no_radio_is_on_the_air_for_longer_than_the_run() -> None:
    emulation = emulate(Say(), complete(3), medium={"kind": "ideal"}, link={"rate": "1 Mbit/s"})
    emulation.transport.check()
    assert emulation.transport.air is not None
    emulation.transport.air.senders[2].seconds += 1.0
    with pytest.raises(InvariantError, match="device 2 was on the air"):
        emulation.transport.check()


def test_a_radio_does_not_transmit_twice_at_once() -> None:
    from p2pl_async.air.air import Air
    from p2pl_async.air.hearing import GraphHearing
    from p2pl_async.air.transmission import Transmission

    air = emulate(Say(), complete(3), medium={"kind": "ideal"}, link={"rate": "1 Mbit/s"}).transport.air
    assert isinstance(air, Air)
    air.senders[1].until = math.inf
    audience = GraphHearing(complete(3)).audience(1, 0.0)
    with pytest.raises(InvariantError, match="device 1 starts to transmit"):
        air._begin(air.senders[1], Transmission(1, 0.0, 1.0, None, 0, 1, audience))
