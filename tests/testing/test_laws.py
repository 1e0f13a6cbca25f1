"""Laws of emulations: each is seen to be broken, and named by its first offender."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from p2pl_async.experiment.emulation import Emulation
from p2pl_async.hardware.downtime import CRASHED, Downtime
from p2pl_async.hardware.hardware import Hardware
from p2pl_async.protocols.pushing import Push
from p2pl_async.protocols.sgp import SGP
from p2pl_async.testing import (
    FixedLearner,
    Witness,
    check_laws,
    complete,
    diagram,
    emulate,
    hull,
    mass,
    mean_kept,
    ring,
)
from p2pl_async.testing.chatter import Chatter
from p2pl_async.trace import Record


def chatter() -> Emulation:
    """Three devices that chat for ten seconds; device 2 is down for three of them."""
    hardware = [Hardware(), Hardware(), Hardware(downtime=Downtime({CRASHED: [(4.0, 7.0)]}))]
    link = {"latency": "100 ms", "loss": "20 %", "duplicate": 0.2}
    return emulate(Chatter(), complete(3), link=link, hardware=hardware, until=10.0, watched=True)


def arrived(witness: Witness) -> int:
    """Return the index of a record whose message arrives."""
    return next(index for index, record in enumerate(witness.records) if record.verdict.arrival < 9)


def again(witness: Witness) -> None:
    witness.received.append(witness.received[0])


def unsent(witness: Witness) -> None:
    witness.received.append(witness.received[0]._replace(number=10**6))


def unheard(witness: Witness) -> None:
    del witness.received[0]


def early(witness: Witness) -> None:
    witness.received[0] = witness.received[0]._replace(at=0.0)


def later(witness: Witness) -> None:
    link = [each for each in witness.received if (each.src, each.dst) == (0, 1)]
    first, last = witness.received.index(link[0]), witness.received.index(link[-1])
    witness.received[first], witness.received[last] = witness.received[last], witness.received[first]


def changed(witness: Witness, **verdict: Any) -> None:
    index = arrived(witness)
    record = witness.records[index]
    witness.records[index] = record._replace(verdict=record.verdict._replace(**verdict))


def nowhere(witness: Witness) -> None:
    changed(witness, air_seconds=math.nan)


def lost_and_received(witness: Witness) -> None:
    changed(witness, arrival=math.inf, cause="burst", copy=math.inf)


def backwards(witness: Witness) -> None:
    changed(witness, arrival=-1.0)


def twice_decided(witness: Witness) -> None:
    witness.records.append(witness.records[0])


def while_down(witness: Witness) -> None:
    index = arrived(witness)
    witness.records[index] = witness.records[index]._replace(src=2, dst=0, sent=5.0, number=10**6)


BROKEN: dict[Callable[[Witness], None], str] = {
    again: r"message \d+ \(\w+\) from \d to \d was received \d times",
    unsent: "was received by . and never sent",
    unheard: "was never received|received",
    early: "is received at 0.0 s, and was to arrive at",
    later: "was overtaken by",
    nowhere: r"seconds on air \(1, 0, \d+, nan\)",
    lost_and_received: r"is lost \(burst\), and was received at",
    backwards: "arrives at -1.0",
    twice_decided: "has two fates",
    while_down: "was sent at 5.0 s, when its sender was crashed|arrives at",
}


def test_the_chatter_breaks_no_law() -> None:
    check_laws(chatter())


@pytest.mark.parametrize("breach", BROKEN, ids=lambda breach: breach.__name__)
def test_a_broken_law_is_named(breach: Callable[[Witness], None]) -> None:
    emulation = chatter()
    breach(emulation.witness)
    with pytest.raises(AssertionError, match=BROKEN[breach]):
        check_laws(emulation)


def test_what_a_device_receives_while_it_is_down_is_named() -> None:
    emulation = chatter()
    assert emulation.downtimes is not None
    emulation.downtimes[1] = Downtime({CRASHED: [(0.0, 9.0)]})
    with pytest.raises(AssertionError, match=r"device 1 is crashed at .* and received message"):
        check_laws(emulation)


def test_a_run_that_differs_from_itself_is_named() -> None:
    emulation = chatter()
    emulation.witness.again = lambda: emulate(Chatter(), complete(3), link={"loss": "10 %"}, until=10.0, watched=True)
    with pytest.raises(AssertionError, match="sends other messages"):
        check_laws(emulation)
    check_laws(emulation, twice=False)
    emulation.witness.again = chatter
    check_laws(emulation)


def test_an_emulation_that_nobody_watched_is_refused() -> None:
    with pytest.raises(AssertionError, match="watched=True"):
        check_laws(emulate(Chatter(), ring(3), until=1.0))


def pushing() -> Emulation:
    first = [np.full(6, float(k)) for k in range(4)]
    return emulate(SGP(sync="none"), ring(4), link={"latency": "1 s"}, learner=FixedLearner(first), until=5.5)


def test_averaging_stays_between_the_first_values() -> None:
    emulation = pushing()
    hull(emulation)
    assert emulation.devices[2].params is not None
    emulation.devices[2].params = emulation.devices[2].params + 5
    with pytest.raises(AssertionError, match=r"value 2 of 4 is .* outside of"):
        hull(emulation)
    with pytest.raises(AssertionError, match="value 0 of 1"):
        hull(emulation, first=[0.0, 1.0], last=[1.5])


def test_a_mean_that_moves_is_named() -> None:
    emulation = pushing()
    mean_kept(emulation, first=[1.0, 3.0], last=[2.0, 2.0])
    with pytest.raises(AssertionError, match="the mean was"):
        mean_kept(emulation, first=[1.0, 3.0], last=[2.0, 2.1])


def test_mass_is_what_devices_and_messages_hold_together() -> None:
    def carried(message: object) -> float | None:
        return message.u if isinstance(message, Push) else None

    mass(pushing(), 4.0, lambda device: device.state[0].u, carried)
    with pytest.raises(AssertionError, match="devices and messages hold"):
        mass(pushing(), 5.0, lambda device: device.state[0].u, carried)
    with pytest.raises(AssertionError, match="devices and messages hold"):
        mass(pushing(), 4.0, lambda device: device.state[0].u)  # what is under way has a part


def test_a_diagram_shows_messages_and_their_fates() -> None:
    emulation = chatter()
    lines = diagram(emulation, last=12).splitlines()
    assert lines[0].split() == ["sent", "0", "1", "2"]
    assert lines[-1].split() == ["10.000000", "s", "the", "end"]
    shown: list[Record] = sorted(emulation.witness.records)[-12:]
    assert sum(record.kind in line for record in shown for line in lines) >= 12
    assert any("lost: loss" in line for line in lines) == any(record.verdict.cause == "loss" for record in shown)
    everything = diagram(emulation, last=1000)
    assert "device 2 is down (crashed) until 7.000000 s" in everything
    assert "twice" in everything
    assert diagram(emulate(Chatter(), ring(3), until=1e-9, watched=True)) == "no message was sent"
