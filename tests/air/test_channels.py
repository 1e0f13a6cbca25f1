"""Channels: frames on different ones do not collide and are not sensed; radios are on one at a time, and hop."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from helpers.scenario_worlds import LEAST, world_run
from pydantic import TypeAdapter, ValidationError

from p2pl_async import Device, Message, Protocol
from p2pl_async.air import AnyMedium, Channels, Hopping
from p2pl_async.device import Observer
from p2pl_async.experiment import running
from p2pl_async.experiment.probing import probe_world
from p2pl_async.radio import Motion, Propagation, RadioSettings, Track
from p2pl_async.results.columns import COLUMNS
from p2pl_async.results.table import CHANNEL_COLUMNS
from p2pl_async.scenario.building.explain import explain_channel
from p2pl_async.scenario.scenario import Scenario
from p2pl_async.testing import Cell
from p2pl_async.trace import Record

LINK = {"rate": "8 Mbit/s"}  # 1000 B in 1 ms
ACK = {"size": "11 B", "airtime": "50 us", "delay": "50 us"}
APART = {"count": 4, "own": "by-id"}


@dataclass(frozen=True, slots=True)
class Word(Message, tag="channel-word"):
    text: str


class Talk(Protocol):
    """Everyone sends to all at random instants."""

    kind: str = "talk"

    async def run(self, device: Device) -> None:
        while True:
            await device.sleep(float(device.random.exponential(0.2)))
            device.broadcast(Word("x" * 100))


HOPS = {"dwell": "10 ms", "sequence": [2, 0, 3, 1]}


def cell(n: int, channels: Any, kind: str = "aloha", link: dict[str, Any] | None = None, **more: Any) -> Cell:
    medium = {"kind": kind, "channels": channels, **more}
    return Cell(medium, n, link={**LINK, **(link or {})})


def fates(one: Cell) -> Counter[str]:
    return Counter(outcome.verdict.cause for outcome in one.run().outcomes)


def channels_of(one: Cell) -> list[int]:
    return [outcome.verdict.signal.channel for outcome in one.outcomes if outcome.verdict.signal is not None]


@pytest.mark.parametrize(("channels", "fate"), [(APART, ""), (1, "collision"), ({"count": 4}, "collision")])
def test_frames_on_different_channels_do_not_collide(channels: Any, fate: str) -> None:
    one = cell(4, channels)
    one.offer(0.0, 0, [1], 1000)
    one.offer(0.0, 2, [3], 1000)
    assert fates(one) == {fate: 2}


@pytest.mark.parametrize("channels", [1, 3, 8])
def test_poisson_traffic_spreads_over_the_channels(channels: int) -> None:
    """Each receiver's channel carries its share of G: exp(-2 G / C). A sender meets the frames of others only."""
    load, n, count = 0.6, 24, 100
    one = cell(2 * n, {"count": channels, "own": "by-id"})
    for k in range(n):
        one.poisson(load / n / 1e-3, k, [n + k], 1000, count)
    law = math.exp(-2 * load * (1 / channels - 1 / n))
    assert one.run().share() == pytest.approx(law, abs=5 * math.sqrt(2 * law * (1 - law) / (n * count)))


def test_a_transmission_on_another_channel_is_not_sensed() -> None:
    def waits(channels: Any) -> float:
        one = cell(4, channels, "csma-ca", {"rate": "80 kbit/s"}, max_backoffs=16, max_exponent=8)  # 1000 B in 100 ms
        one.offer(0.0, 0, [1], 1000)
        one.offer(0.01, 2, [3], 1000)
        one.run()
        return float(one.on_air[1][0]) - 0.01

    assert waits(1) > 0.08
    assert waits(APART) < 0.01


def test_who_transmits_on_one_channel_misses_a_frame_on_another() -> None:
    one = cell(3, {"count": 3, "own": "by-id"})
    one.offer(0.0, 0, [1], 1000)
    one.offer(0.0005, 2, [0], 1000)
    assert [outcome.verdict.cause for outcome in one.run().outcomes] == ["", "half-duplex"]


def test_an_acknowledgment_comes_on_the_channel_of_its_frame() -> None:
    one = cell(4, APART, "csma-ca", {"arq": {"retries": 0}}, ack=ACK)
    for at in range(20):
        one.offer(float(at), at % 4, [(at + 1) % 4], 1000)
    one.run()
    assert all(outcome.verdict.acknowledged for outcome in one.outcomes)
    assert channels_of(one) == [(at + 1) % 4 for at in range(20)]


def test_a_broadcast_goes_out_once_on_each_channel_where_a_neighbor_listens() -> None:
    one = cell(7, {"count": 3, "own": "by-id"})
    one.offer(0.0, 0, [1, 2, 3, 4, 5, 6], 1000)
    assert fates(one) == {"": 6}
    assert [start for start, _, _ in one.on_air] == pytest.approx([0, 1e-3, 2e-3])
    assert Counter(channels_of(one)) == {0: 2, 1: 2, 2: 2}
    assert sum(outcome.verdict.air_seconds for outcome in one.outcomes) == pytest.approx(3e-3)


def test_radios_hop_through_the_sequence_from_their_offset_on() -> None:
    one = cell(4, {**APART, "hopping": HOPS})
    for dwell in range(12):
        one.offer(dwell * 10e-3, 0, [1 + dwell % 3], 1000)
    one.run()
    assert channels_of(one) == [[2, 0, 3, 1][(dwell + 1 + dwell % 3) % 4] for dwell in range(12)]


def test_a_receiver_stays_with_a_frame_and_misses_one_that_begins_on_its_next_channel() -> None:
    one = cell(3, {"count": 4, "hopping": HOPS})
    one.offer(9.5e-3, 0, [2], 1000)
    one.offer(10e-3, 1, [2], 1000)
    assert [outcome.verdict.cause for outcome in one.run().outcomes] == ["", "off-channel"]


def test_an_interferer_on_one_channel_spoils_what_hops_there() -> None:
    """It never stops: a hopping frame meets it a quarter of the time, three tries, dwells apart, one time in 64."""
    plan = {"kind": "bursts", "on": "9000 s", "off": "1 us"}
    source = {"position": ["10 m", "1 m"], "power": "20 dBm", "activity": plan, "channels": [3]}
    settings = RadioSettings.model_validate({"phy": "802.15.4", "shadowing": "none"})
    waves = Propagation(settings, Motion([Track.still((0.0, 0.0)), Track.still((10.0, 0.0))]), 1)
    medium = {"kind": "aloha", "collision": "sinr", "interferer": [source], "backoff": "40 s"}
    for tries, law in ((1, 1 / 4), (3, 1 / 64)):
        link = {"rate": "8 Mbit/s", "arq": {"retries": tries - 1}}
        one = Cell({**medium, "channels": {"count": 4, "hopping": {"dwell": "10 s"}}}, 2, link=link, propagation=waves)
        one.poisson(1e-3, 0, [1], 100, 700)
        assert 1 - one.run().share() == pytest.approx(law, abs=5 * math.sqrt(law * (1 - law) / 700))


def test_stations_that_watch_another_channel_for_their_own_frame_are_deaf() -> None:
    """The deafness of multi-channel networks (So and Vaidya, 2004): two that send to each other miss each other."""

    def share(channels: Any) -> float:
        one = cell(2, channels, "dcf", {"arq": {"retries": 3}}, ack=ACK)
        for k in range(100):
            one.offer(0.0, k % 2, [1 - k % 2], 1000)
        return one.run().share()

    assert share(1) == 1
    assert share({"count": 2, "own": "by-id"}) < 0.9


def test_stations_of_two_cells_each_get_a_channel_of_their_own() -> None:
    def seconds(n: int, channels: Any) -> float:
        one = cell(n, channels, "dcf")
        for k in range(n):
            for _ in range(100):
                one.offer(0.0, k, [(k + n // 2) % n], 1000)
        return float(one.run().clock.now)

    assert seconds(4, {"count": 2, "own": "by-id"}) == pytest.approx(seconds(2, 1), rel=0.05)


def test_every_key_changes_what_happens() -> None:
    base = {"count": 3, "own": "by-id", "hopping": {"dwell": "10 ms"}}

    def digest(**medium: Any) -> str:
        tables = {"devices": {"count": 6}, "topology": "complete", "link": {"rate": "250 kbit/s"}}
        return world_run({**tables, "medium": {"kind": "aloha", **medium}}, Talk(), until=3).trace.digest()

    changed: dict[str, Any] = {
        "count": {"count": 2}, "own": {"own": "random"}, "hopping": {"hopping": "none"},
        "hopping.dwell": {"hopping": {"dwell": "13 ms"}},
        "hopping.sequence": {"hopping": {"dwell": "10 ms", "sequence": [0, 1]}},
    }  # fmt: skip
    keys = {key.partition(".")[2] for key in changed} - {""}
    assert {key for key in changed if "." not in key} == set(Channels.model_fields)
    assert keys == set(Hopping.model_fields)
    before = digest(channels=base)
    for key, change in changed.items():
        assert digest(channels={**base, **change}) != before, key
    assert digest(channels=1) == digest()


def test_a_group_chooses_the_channel_of_its_devices() -> None:
    heard: dict[int, set[int]] = {}

    def keep(record: Record) -> None:
        if record.verdict.signal is not None:
            heard.setdefault(record.dst, set()).add(record.verdict.signal.channel)

    tables = {
        "devices": {"count": 4, "group": {"west": {"ids": [2, 3], "channel": 1}}},
        "topology": "complete", "link": {"rate": "1 Mbit/s"}, "medium": {"kind": "aloha", "channels": 2},
    }  # fmt: skip
    world_run(tables, Talk(), until=5, observer=Observer(sink=keep))
    assert heard == {0: {0}, 1: {0}, 2: {1}, 3: {1}}


@pytest.mark.parametrize(
    ("medium", "says"),
    [
        ({"kind": "dcf", "channels": {"count": 2, "hopping": {"dwell": "1 s"}}}, "hopping is not for dcf"),
        ({"kind": "aloha", "channels": {"count": 2, "hopping": HOPS}}, "sequence has channel 3; with count = 2"),
        ({"kind": "aloha", "channels": 0}, "greater than or equal to 1"),
        ({"kind": "half-duplex", "channels": 2}, "channels"),
    ],
)
def test_channels_that_cannot_be_are_refused(medium: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        TypeAdapter(AnyMedium).validate_python(medium)


@pytest.mark.parametrize(
    ("medium", "rows"),
    [
        ({"kind": "aloha", "channels": 3}, {"channel": "2, on which 1 listens"}),
        (
            {"kind": "aloha", "channels": {"count": 3, "hopping": {"dwell": "20 ms"}}},
            {"channel": "hops every 20 ms, with the offset 2"},
        ),
        (
            {"kind": "tsch", "cells": "receiver-based", "channels": {"count": 3}, "slotframe": 9},
            {"cell": "slot 1 of 9", "channel": "hops every 10 ms, with the offset 2"},
        ),
    ],
)
def test_a_probe_explains_when_and_where_a_receiver_listens(medium: dict[str, Any], rows: dict[str, str]) -> None:
    group = {"west": {"ids": [1], "channel": 2}}
    tables = {**LEAST, "devices": {"count": 2, "group": group}, "link": {"rate": "1 Mbit/s"}, "medium": medium}
    assert dict(explain_channel(probe_world(Scenario.model_validate(tables)), 0, 1)) == rows


def test_a_probe_explains_connections_and_scans() -> None:
    def rows(**medium: Any) -> list[tuple[str, str]]:
        tables = {**LEAST, "devices": {"count": 2}, "link": {"rate": "1 Mbit/s"}, "medium": medium}
        return explain_channel(probe_world(Scenario.model_validate(tables)), 0, 1)

    ((what, value),) = rows(kind="ble-connections", interval="50 ms")
    assert what == "connection"
    assert re.fullmatch(r"[01] is central; an event every 50 ms from .* on, \d+ channels of 37 further each", value)
    ((what, value),) = rows(kind="ble-advertising", window="30 ms")
    assert what == "scans"
    assert re.fullmatch("30 ms of every 100 ms from .* on", value)


def test_the_trace_has_the_channel_of_each_message(tmp_path: Path) -> None:
    tables = {
        "name": "channels", "devices": {"count": 4}, "topology": "complete", "link": {"rate": "10 Mbit/s"},
        "medium": {"kind": "aloha", "channels": {"count": 3, "own": "by-id"}}, "model": {"kind": "softmax"},
        "data": {"dataset": "digits", "train_samples": 20, "test_samples": 20},
        "protocol": {"kind": "p2pl", "sync": "none", "mode": {"kind": "fresh", "wait": "1 s"}},
        "stop": {"virtual_time": "5 s"},
    }  # fmt: skip
    running.run(Scenario.model_validate(tables), out=tmp_path / "run", trace=True)
    trace = pd.read_parquet(next(tmp_path.rglob("trace.parquet")))
    sent = trace[trace["channel"] >= 0]
    assert len(sent)
    assert (sent["channel"] == sent["dst"] % 3).all()
    assert COLUMNS["trace, with channels"].keys() == CHANNEL_COLUMNS.keys()


@pytest.mark.parametrize(
    ("channels", "says"),
    [
        ({}, "there is one channel; write"),
        ({"channels": 2}, "must be below medium.channels.count"),
        ({"kind": "ble-connections"}, "says itself which channel a radio is on"),
    ],
)
def test_a_group_on_a_channel_that_is_not_there_is_refused(channels: dict[str, Any], says: str) -> None:
    tables = {
        "devices": {"count": 4, "group": {"west": {"ids": [2, 3], "channel": 2}}}, "link": {"rate": "1 Mbit/s"},
        "medium": {"kind": "aloha", **channels}, "protocol": {"kind": "p2pl"}, "stop": {"rounds": 1},
    }  # fmt: skip
    with pytest.raises(ValidationError, match=says):
        Scenario.model_validate(tables)


def test_an_interferer_covers_channels_that_there_are() -> None:
    plan = {"kind": "bursts", "on": "1 s", "off": "1 s"}
    source = {"position": ["10 m", "1 m"], "power": "20 dBm", "activity": plan, "channels": [0, 4]}
    for channels, says in (({}, 'channels are "one"'), ({"channels": 4}, "the last of channels is 3")):
        with pytest.raises(ValidationError, match=says):
            TypeAdapter(AnyMedium).validate_python(
                {"kind": "aloha", "collision": "sinr", "interferer": [source], **channels}
            )
