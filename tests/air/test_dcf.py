"""802.11 DCF: immediate access, EIFS after collisions, and how often saturated stations collide."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from p2pl_async.testing import Cell

ACK = {"size": "14 B", "airtime": "28 us", "delay": "16 us"}
DCF = {"kind": "dcf", "ack": ACK}
DIFS, SLOT = 34e-6, 9e-6
EIFS = 16e-6 + 28e-6 + DIFS
FRAME = 1e-3  # 1000 bytes at 8 Mbit/s


def starts(offers: list[tuple[float, int]], seed: int, hears: list[list[int]] | None = None) -> dict[int, list[float]]:
    """Return when each device transmits; `offers`: (instant, device) of frames, all for the last of the devices."""
    n = 4 if hears is None else len(hears)
    cell = Cell(DCF, n, link={"rate": "8 Mbit/s"}, out_neighbors=hears, seed=seed)
    for at, device in offers:
        cell.offer(at, device, [n - 1], 1000)
    cell.run()
    found: dict[int, list[float]] = {device: [] for device in range(n)}
    for start, _, device in sorted(cell.on_air):
        found[device].append(start)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_a_station_that_finds_the_medium_idle_for_difs_sends_at_once(seed) -> None:
    assert starts([(0.5, 0), (0.6, 1), (0.601 + DIFS, 2)], seed) == {
        0: [0.5], 1: [0.6], 2: [pytest.approx(0.601 + DIFS)], 3: []
    }  # fmt: skip


@pytest.mark.parametrize("arrival", [0.5003, 0.501 + 0.9 * DIFS])
def test_one_that_finds_it_busy_or_idle_for_less_counts_down(arrival) -> None:
    waits = {
        round((starts([(0.5, 0), (arrival, 1)], seed)[1][0] - max(0.501, arrival) - DIFS) / SLOT, 6)
        for seed in range(40)
    }  # after a frame that ended at 0.501 s: DIFS, whether it has begun or not, and 0 to 15 slots
    if arrival < 0.501:
        assert waits <= set(range(16))
    assert len(waits) > 5


def test_a_station_counts_down_after_each_frame_also_if_none_follows() -> None:
    """A frame that comes within the countdown goes on with it; one that comes later is sent at once."""
    soon = [starts([(0.5, 0), (0.501 + 1e-6, 0)], seed)[0][1] - 0.501 for seed in range(40)]
    slots = (np.array(soon) - DIFS) / SLOT
    assert slots == pytest.approx(slots.round(), abs=1e-6)
    assert len(set(slots.round().tolist())) > 5
    late = 0.501 + DIFS + 16 * SLOT
    assert starts([(0.5, 0), (late, 0)], 1)[0][1] == late


def test_of_those_that_ask_at_one_instant_none_goes_first() -> None:
    firsts = set()
    for seed in range(30):
        found = starts([(0.5, 0), (0.5, 1), (0.5, 2)], seed)
        waits = [(found[device][0] - 0.5 - DIFS) / SLOT for device in range(3)]
        firsts.add(int(np.argmin(waits)))
        assert min(waits) >= -1e-6
    assert firsts == {0, 1, 2}


def test_after_a_collision_those_who_could_not_decode_it_wait_for_eifs() -> None:
    """0 and 1 don't hear each other, and collide at 2, whose frame waits; a frame alone makes it wait for DIFS."""
    hears = [[2, 3], [2, 3], [0, 1, 3], [0, 1, 2]]
    for seed in range(10):
        garbled = starts([(0.5, 0), (0.5004, 1), (0.5006, 2)], seed, hears)[2][0] - 0.5014
        clean = starts([(0.5, 0), (0.5006, 2)], seed, hears)[2][0] - 0.501
        assert garbled - clean == pytest.approx(EIFS - DIFS)
        assert ((clean - DIFS) / SLOT) == pytest.approx(round((clean - DIFS) / SLOT), abs=1e-6)


@functools.cache
def saturated(stations: int, until: float) -> tuple[float, float]:
    """Return the share of transmissions that collide, and frames per second; frames of 1458 B at 26 Mbit/s."""
    medium = {**DCF, "airtime": {"kind": "ofdm"}}
    cell = Cell(medium, stations + 1, link={"rate": "26 Mbit/s", "arq": {"retries": 100}}, seed=2)
    for station in range(1, stations + 1):
        for _ in range(int(2200 * until / stations)):
            cell.offer(0.0, station, [0], 1458)
    cell.run(until)
    begins = np.array([start for start, _, device in cell.on_air if device])
    _, counts = np.unique(np.round(begins, 8), return_counts=True)
    delivered = sum(not outcome.verdict.cause for outcome in cell.outcomes)
    return counts[counts > 1].sum() / len(begins), delivered / until


@pytest.mark.parametrize(("stations", "collide", "frames"), [(5, 0.264, 1424), (10, 0.367, 1327), (20, 0.462, 1222)])
def test_saturated_stations_collide_and_deliver_as_in_continuous_time(stations, collide, frames) -> None:
    """References: a simulation in continuous time with EIFS; two stations deliver 1532 frames per second there.

    Without EIFS 5 stations collide in 24.5 % and deliver 0.951 times as much as two.
    """
    share, rate = saturated(stations, 4.0)
    assert share == pytest.approx(collide, abs=0.012)
    assert rate / saturated(2, 4.0)[1] == pytest.approx(frames / 1532, rel=0.025)
