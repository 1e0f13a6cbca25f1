"""Clocks of devices: their drift, their walk, and what both do to a run."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers.small_worlds import small
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import stats

from p2pl_async.errors import DeviceFailed
from p2pl_async.experiment import running as experiment
from p2pl_async.hardware.downtime import CRASHED, Downtime
from p2pl_async.hardware.hardware import Hardware
from p2pl_async.hardware.local_clock import IDEAL, Clocks, LocalClock
from p2pl_async.protocols.base import Protocol
from p2pl_async.scenario.building.world import build_world
from p2pl_async.testing import emulate, ring


def clock(**table) -> LocalClock:
    return Clocks.model_validate(table).clock(5, 2)


def protocol(function):
    class Ad(Protocol):
        trains = False
        kind: str = "ad-hoc"

        async def run(self, device) -> None:
            await function(device)

    return Ad()


def test_twenty_ppm_are_72_ms_an_hour_and_1728_ms_a_day() -> None:
    fast = clock(drift="20 ppm")
    assert fast.elapsed(0, 3600) - 3600 == pytest.approx(0.072, rel=1e-9)
    assert fast.elapsed(0, 86400) - 86400 == pytest.approx(1.728, rel=1e-9)
    assert clock(drift="-20 ppm").elapsed(0, 3600) - 3600 == pytest.approx(-0.072, rel=1e-9)


@pytest.mark.parametrize("ppm", [-50.0, 20.0, 90_000.0])
def test_a_sleep_of_d_lasts_d_over_one_plus_drift(ppm) -> None:
    woke = {}

    async def run(device) -> None:
        await device.sleep(1000)
        woke[device.id] = device.now
        with device.timeout(500):
            await device.receive()
        woke["timeout", device.id] = device.now - woke[device.id]

    emulate(protocol(run), ring(2), hardware=[Hardware(clock=one) for one in [LocalClock(ppm * 1e-6), LocalClock()]])
    assert woke[0] == pytest.approx(1000 / (1 + ppm * 1e-6), rel=1e-12)
    assert woke["timeout", 0] == pytest.approx(500 / (1 + ppm * 1e-6), rel=1e-12)
    assert woke[1] == 1000
    assert woke["timeout", 1] == 500


def test_local_time_counts_from_the_last_restart() -> None:
    """local(t) = offset + (1 + drift)(t - t_boot)."""
    shown = []

    async def run(device) -> None:
        shown.append(device.local_time)
        await device.sleep(2 * 1.25)
        shown.append(device.local_time)

    downtime = Downtime({CRASHED: [(1.0, 8.0)]})
    emulate(
        protocol(run),
        [[]],
        hardware=[Hardware(clock=LocalClock(0.25, 100.0), downtime=downtime)],
    )
    assert shown == [100.0, 100.0, 102.5]


def test_without_clocks_all_are_ideal() -> None:
    shown = []

    async def run(device) -> None:
        await device.sleep(3)
        shown.append(device.local_time)

    emulate(protocol(run), [[]])
    assert shown == [3.0]
    assert all(one.clock is IDEAL for one in build_world(small(), learns=False).conditions.hardware())


def test_drifts_are_normal_truncated_at_the_limit() -> None:
    n = 20_000
    settings = Clocks()
    drifts = np.array([settings.clock(1, device).drift for device in range(n)]) * 1e6
    assert stats.kstest(drifts, stats.truncnorm(-2.5, 2.5, scale=20).cdf).statistic < 1.63 / math.sqrt(n)
    assert np.abs(drifts).max() <= 50
    assert (drifts.std() / 20) ** 2 == pytest.approx(stats.truncnorm(-2.5, 2.5).var(), rel=0.05)


def test_a_clocks_drift_is_its_own() -> None:
    """Another device, or another offset, moves no draw."""
    settings = Clocks.model_validate({"offset": {"uniform": "5 s"}})
    found = [settings.clock(1, device) for device in range(3)]
    assert len({each.drift for each in found}) == len({each.offset for each in found}) == 3
    assert all(0 <= each.offset < 5 for each in found)
    assert [each.drift for each in found] == [Clocks().clock(1, device).drift for device in range(3)]


def test_a_walk_has_the_variance_of_its_steps() -> None:
    """After h hours: normal, standard deviation walk * sqrt(h). The first minute has the drift drawn."""
    n, hours = 1500, 4
    settings = Clocks.model_validate({"drift": "10 ppm", "walk": "3 ppm"})
    ends = []
    for device in range(n):
        each = settings.clock(2, device)
        now = hours * 3600.0
        ends.append((each.elapsed(now, now + 60) / 60 - 1) * 1e6 - 10)
        assert each.elapsed(0, 60) == pytest.approx(60 * (1 + 10e-6), abs=1e-9)
    assert np.mean(ends) == pytest.approx(0, abs=5 * 6 / math.sqrt(n))
    assert np.var(ends) == pytest.approx(36, rel=5 * math.sqrt(2 / n))


@given(st.floats(0, 5000), st.floats(0, 20_000), st.sampled_from([{}, {"walk": "500 ppm"}, {"drift": "-90000 ppm"}]))
def test_lasting_is_the_inverse_of_elapsing(now, seconds, table) -> None:
    each = clock(**table)
    end = now + each.lasts(now, seconds)
    assert end >= now
    assert each.elapsed(now, end) == pytest.approx(seconds, abs=1e-9 * (1 + now + seconds))
    assert each.lasts(now, math.inf) == math.inf


def test_groups_may_have_clocks_of_their_own() -> None:
    scenario = small(
        clocks={"drift": "10 ppm"}, devices={"group": {"cheap": {"ids": [1, 2], "clocks": {"drift": "-40 ppm"}}}}
    )
    found = build_world(scenario, learns=False).conditions.hardware()
    assert [one.clock.drift for one in found] == pytest.approx([1e-5, -4e-5, -4e-5, 1e-5, 1e-5])


def test_a_drift_without_a_unit_is_told() -> None:
    with pytest.raises(ValidationError, match='write "20 ppm"'):
        Clocks.model_validate({"drift": {"kind": "fixed", "value": 20}})


def test_drift_moves_a_run_a_little_and_no_clocks_not_at_all() -> None:
    """A barrier's timeout goes by the device's own clock; ideal clocks leave the run bit for bit as it was."""
    protocol_table = {"kind": "p2pl", "sync": "none", "mode": {"kind": "barrier", "timeout": "2 s"}}
    plain = experiment.run(small(protocol=protocol_table)).summary
    ideal = experiment.run(small(protocol=protocol_table, clocks={"drift": "0 ppm"})).summary
    fast = experiment.run(small(protocol=protocol_table, clocks={"drift": "20000 ppm"})).summary
    assert ideal["trace_digest"] == plain["trace_digest"]
    assert fast["trace_digest"] != plain["trace_digest"]
    assert fast["virtual_seconds"] < plain["virtual_seconds"]


@pytest.mark.parametrize("wait", ["sleep", "timeout", "later"])
def test_a_wait_below_the_resolution_of_virtual_time_is_refused(wait) -> None:
    """At 1e8 s floats are 15 ns apart: a loop that waits for 5 ns would never end."""

    async def run(device) -> None:
        await device.sleep(1e8)
        await device.sleep(20e-9)
        if wait == "sleep":
            await device.sleep(5e-9)
        elif wait == "timeout":
            device.timeout(5e-9)
        else:
            device.later(5e-9, lambda: None)

    with pytest.raises(DeviceFailed, match=r"a wait of 5e-09 s at 100000000 s is below 1\.5e-08 s"):
        emulate(protocol(run), ring(2))
