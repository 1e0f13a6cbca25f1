"""NR sidelink, mode 2: choices against closed forms, and long runs against a small simulation written down here."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from p2pl_async.air import AnyMedium, Contended, NrMode2
from p2pl_async.errors import ProtocolError
from p2pl_async.radio import Motion, Propagation, RadioSettings, Track
from p2pl_async.testing import Cell

SLOT, SIZE = 1e-3, 900
LINK = {"rate": "8 Mbit/s"}  # of a subchannel: 0.9 ms


def cell(n: int, link: dict[str, Any] = LINK, **medium: Any) -> Cell:
    return Cell({"kind": "nr-mode2", "slot": "1 ms", "period": "20 ms", **medium}, n, link=link)


def saturated(n: int, frames: int, **medium: Any) -> Cell:
    """Every device but the last sends so many frames to that one."""
    found = cell(n + 1, {**LINK, "mtu": f"{SIZE} B"}, **medium)
    for device in range(n):
        found.offer(0.0, device, [n], SIZE * frames, needed=0)
    return found.run()


@pytest.mark.parametrize(("channels", "window"), [(1, "6 ms"), (3, "6 ms"), (2, "18 ms")])
def test_two_that_choose_at_once_take_the_same_of_n_resources_once_in_n_times(channels: int, window: str) -> None:
    """And the same slot, in which they can't hear each other, once in as many times as there are slots."""
    times, slots = 2000, int(window.split()[0]) - 1
    for target, law, cause in ((lambda device: 2, 1 / (slots * channels), "collision"),
                               (lambda device: 1 - device, 1 / slots, "half-duplex")):  # fmt: skip
        both = cell(3, channels=channels, window=window)
        for k in range(times):
            for device in (0, 1):
                both.offer(0.2 * k + 0.0101, device, [target(device)], SIZE)
        both.run()
        assert both.share(cause) == pytest.approx(law, abs=5 * math.sqrt(law * (1 - law) / times))
        assert both.share() + both.share(cause) == 1


@pytest.mark.parametrize("collision", ["capture", "sinr"])
def test_a_receiver_hears_all_subchannels_of_a_slot(collision: str) -> None:
    """Of two senders equally far away, it misses both where they take the same resource, and none in the same slot."""
    tracks = [Track.still(place) for place in ((0.0, 0.0), (20.0, 0.0), (10.0, 5.0))]
    waves = Propagation(RadioSettings.model_validate({"phy": "nr", "shadowing": "none"}), Motion(tracks), 1)
    medium = {"kind": "nr-mode2", "slot": "1 ms", "period": "20 ms", "window": "6 ms", "collision": collision}
    both, times = Cell({**medium, "channels": 3}, 3, link=LINK, propagation=waves), 1500
    for k in range(times):
        for device in (0, 1):
            both.offer(0.2 * k + 0.0101, device, [2], SIZE)
    both.run()
    assert both.share("collision") == pytest.approx(1 / 15, abs=5 * math.sqrt(1 / 15 / times))
    assert both.share() + both.share("collision") == 1


def test_a_stronger_reservation_is_respected_and_a_weak_one_is_not() -> None:
    tracks = [Track.still(place) for place in ((0.0, 0.0), (300.0, 0.0), (150.0, 5.0))]
    waves = Propagation(RadioSettings.model_validate({"phy": "nr", "shadowing": "none"}), Motion(tracks), 1)
    met = {}
    for threshold in ("-200 dBm", "-50 dBm"):
        medium = {"kind": "nr-mode2", "slot": "1 ms", "period": "20 ms", "channels": 1, "window": "4 ms",
                  "counter": [4, 4], "threshold": threshold, "collision": "capture"}  # fmt: skip
        found = Cell(medium, 3, link={**LINK, "mtu": f"{SIZE} B"}, propagation=waves)
        for device in (0, 1):
            found.offer(0.0, device, [2], SIZE * 400, needed=0)
        slots = [round(start / SLOT) for start, _, _ in found.run().on_air]
        met[threshold] = len(slots) - len(set(slots))
    assert met["-50 dBm"] > 3 * max(met["-200 dBm"], 1)


def test_who_has_heard_a_reservation_takes_another_resource() -> None:
    found = cell(4, {**LINK, "mtu": f"{SIZE} B"}, channels=1, counter=[1000, 1000])
    for device in range(3):
        found.offer(0.1 * device, device, [3], SIZE * 200, needed=0)
    found.run()
    assert found.share() == 1
    assert len({round(start / SLOT) % 20 for start, _, _ in found.on_air}) == 3


@pytest.mark.parametrize("keep", ["0 %", "80 %"])
def test_a_reservation_is_used_once_a_period_for_a_number_of_frames_that_is_drawn(keep: str) -> None:
    found = saturated(1, 3000, counter=[5, 9], keep=keep)
    slots = [round(start / SLOT) for start, _, _ in found.on_air]
    runs, length = [], 1
    for before, after in pairwise(slots):
        if after == before + 20:
            length += 1
        else:
            runs.append(length)
            length = 1
    assert min(runs[:-1]) >= 5
    if keep == "0 %":
        assert max(runs) <= 9
        assert np.mean(runs) == pytest.approx(7, rel=0.05)
    else:
        assert np.mean(runs) == pytest.approx(7 / (1 - 0.8), rel=0.2)


def test_several_reservations_carry_several_frames_a_period() -> None:
    for number in (1, 3):
        found = saturated(1, 300, reservations=number)
        assert found.clock.now == pytest.approx(300 / number * 20e-3, rel=0.15)


def simulated(n: int, channels: int, counter: tuple[int, int], keep: float, frames: int) -> float:
    """Return the share of frames that meet another: slot by slot, with a period of 20 and a window of 18 slots."""
    random, period, window = np.random.default_rng(1), 20, 18
    heard: list[dict[tuple[int, int], int]] = [{} for _ in range(n)]  # (slot, channel) that others reserved
    sent: list[set[int]] = [set() for _ in range(n)]

    def choose(device: int, now: int) -> tuple[int, int]:
        every = [(slot, channel) for slot in range(now + 2, now + window + 1) for channel in range(channels)]
        known = [one for one in every if one[0] - period not in sent[device]]
        free = [one for one in known if one not in heard[device]]
        least = math.ceil(0.2 * len(every))
        pool = free if len(free) >= least else every
        return pool[random.integers(len(pool))]

    grants = [choose(device, 0) for device in range(n)]
    left = [int(random.integers(counter[0], counter[1] + 1)) for _ in range(n)]
    met, total, slot, to_go = 0, 0, 0, [frames] * n
    while any(to_go):
        slot += 1
        senders = [device for device in range(n) if to_go[device] and grants[device][0] == slot]
        goes_on = {}
        for device in senders:
            total, to_go[device], left[device] = total + 1, to_go[device] - 1, left[device] - 1
            met += any(other != device and grants[other] == grants[device] for other in senders)
            if left[device] == 0 and random.random() < keep:
                left[device] = int(random.integers(counter[0], counter[1] + 1))
            goes_on[device] = left[device] > 0
            sent[device].add(slot)
        for device in senders:
            alone = all(other == device or grants[other] != grants[device] for other in senders)
            for listener in range(n):
                if goes_on[device] and alone and listener not in senders:
                    heard[listener][slot + period, grants[device][1]] = slot
        for device in senders:
            if goes_on[device]:
                grants[device] = slot + period, grants[device][1]
            else:
                left[device] = int(random.integers(counter[0], counter[1] + 1))
                grants[device] = choose(device, slot)
    return met / total


@pytest.mark.parametrize(("n", "channels"), [(6, 1), (10, 2)])
def test_saturated_devices_collide_as_often_as_in_the_simulation(n: int, channels: int) -> None:
    frames, counter = 1500, (4, 8)
    found = saturated(n, frames, channels=channels, counter=list(counter), keep="20 %")
    share = sum(outcome.verdict.packets_lost for outcome in found.outcomes) / (n * frames)
    assert share == pytest.approx(simulated(n, channels, counter, 0.2, frames), rel=0.15)
    assert share > 0.02


def test_a_frame_that_no_slot_holds_is_refused() -> None:
    one = cell(2)
    one.offer(0.0, 0, [1], 2000)
    with pytest.raises(ProtocolError, match="a slot lasts 1 ms; send it in fragments"):
        one.run()


def test_every_key_changes_what_happens() -> None:
    """Keys of its own; those of all media are tried with other media, and the threshold with powers below."""

    def run(**medium: Any) -> list[Any]:
        found = cell(5, {**LINK, "mtu": f"{SIZE} B"}, **{"channels": 2, "counter": [3, 5], **medium})
        for device in range(4):
            found.poisson(10, device, [4], SIZE * 5, 30)
        found.run()
        return found.on_air

    changed = {
        "slot": "2 ms", "period": "30 ms", "window": "9 ms", "reservations": 2, "counter": [4, 6], "keep": "50 %",
        "unused": 9, "least_free": "100 %", "channels": 1,
    }  # fmt: skip
    own = NrMode2.model_fields.keys() - Contended.model_fields.keys() | {"channels"}
    assert changed.keys() | {"threshold", "kind"} == own | {"kind"}
    assert [key for key, value in changed.items() if run(**{key: value}) == run()] == []


@pytest.mark.parametrize(
    ("medium", "says"),
    [
        ({"period": "20.3 ms"}, "a whole number of slots"),
        ({"window": "20 ms"}, "shorter than period by two slots"),
        ({"window": "2 ms", "reservations": 2}, "2 reservations need 5"),
        ({"counter": [5, 4]}, "the fewest frames, then the most"),
        ({"channels": {"count": 3, "own": "by-id"}}, "channels takes only a count"),
        ({"ack": {"size": "8 B", "airtime": "36 us"}}, "ack has no effect"),
    ],
)
def test_what_makes_no_sense_is_refused(medium: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        TypeAdapter(AnyMedium).validate_python({"kind": "nr-mode2", **medium})


def test_a_reservation_lasts_longer_where_periods_are_short() -> None:
    """TS 38.321: 5 to 15 from 100 ms on, and 25 to 75 at 20 ms and below."""
    found = {period: NrMode2.model_validate({"period": period}).counts for period in ("10 ms", "20 ms", "50 ms", "1 s")}
    assert found == {"10 ms": (25, 75), "20 ms": (25, 75), "50 ms": (10, 30), "1 s": (5, 15)}
