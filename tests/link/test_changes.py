"""What a link goes through when its settings change."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from p2pl_async.basics.randomness import stream
from p2pl_async.basics.timeline import Steps
from p2pl_async.link import Link, LinkSettings, Verdict
from p2pl_async.link.changes import During
from p2pl_async.link.loss.base import ChangingLoss, Odds
from p2pl_async.link.loss.independent import Bernoulli
from p2pl_async.link.loss.per_packet import GilbertPackets
from p2pl_async.link.switching import Memoryless, UpIntervals

spans = st.lists(st.floats(0.01, 3), min_size=1, max_size=12)


@given(widths=spans, start=st.floats(0, 6), length=st.floats(0.01, 6), frames=st.lists(st.floats(0, 2), max_size=20))
@example(widths=[1.0], start=0.0, length=math.nextafter(0.01, 1), frames=[0.01])
def test_an_outage_counts_only_while_its_settings_hold(
    widths: list[float], start: float, length: float, frames: list[float]
) -> None:
    limits = np.cumsum([0.1, *widths])
    ups = limits[: len(limits) // 2 * 2].reshape(-1, 2)
    end = start + length
    during, plain = During(UpIntervals(ups, None), start, end), UpIntervals(ups, None)

    def down(at: float) -> bool:
        return start <= at < end and not any(low <= at < high for low, high in ups)

    for at in np.cumsum([0.0, *frames]).tolist():
        state, until = during.at(at)
        assert state == down(at)
        assert until > at
        middle = min((at + min(until, at + 1)) / 2, math.nextafter(until, at))
        assert down(middle) == down(at)  # nothing changes before `until`
    starts = np.cumsum([0.0, *frames])
    ends = starts + 0.3
    fresh = During(UpIntervals(ups, None), start, end)
    expected = [
        any(down(at) for at in (*np.linspace(low, high, 50)[:-1], *ups.ravel(), start) if low <= at < high)
        for low, high in zip(starts.tolist(), ends.tolist(), strict=True)
    ]
    found = fresh.touched(starts, ends)
    # An up interval between two looks of the oracle can't be missed: every limit is looked at.
    assert [bool(each) for each in found] == expected
    assert plain.at(0.0).value == 1


def test_packets_step_the_chain_that_holds_when_they_are_sent() -> None:
    """Two chains of packets, one after the other: looking ahead is no sending."""
    settings = [GilbertPackets(p=0.3, r=0.3), Bernoulli(p=0.5), GilbertPackets(p=0.5, r=0.2)]
    at, uniforms = np.arange(60.0), stream(1, "test").random(60)
    steps = Steps(np.array([0.0, 20.0, 40.0]), range(3), None)
    slow, fast = (ChangingLoss(steps, lambda number: settings[number].process(1, 0, 1)) for _ in range(2))
    one_by_one = [slow.fate(u, t) for u, t in zip(uniforms.tolist(), at.tolist(), strict=True)]
    found: list[int] = []
    done = 0
    for looked, sent in ((30, 7), (30, 20), (30, 25), (8, 8)):
        here = slice(done, done + looked)
        found += fast.fates(uniforms[here], at[here])[:sent].tolist()
        fast.passed(sent)
        done += sent
    assert done == 60
    assert [bool(code) for code in found] == [bool(cause) for cause in one_by_one]


def test_a_stretch_of_equal_chances_ends_where_the_settings_change() -> None:
    loss = ChangingLoss(
        Steps(np.array([0.0, 5.0]), range(2), None), [Bernoulli(p=0.1).process(1, 0, 1), None].__getitem__
    )
    assert loss.at(0.0) == (Odds(0.1, "loss"), 5.0)
    assert loss.at(5.0) == (Odds(0.0, ""), math.inf)


CHANGED: list[dict[str, Any]] = [
    {"loss": "100 %"},
    {"corrupt": "100 %"},
    {"outage": {"kind": "slotted", "p": "100 %", "slot": "1 s"}},
    {"latency": "3 s"},
    {"mtu": "50 B"},
    {"header": "50 B"},
    {"rate": "1 kbit/s"},
    {"fec": {"data": 1, "parity": 1}},
    {"arq": {"retries": 3, "turnaround": "2 s"}},
    {"duplicate": "100 %"},
    {"deliver_corrupted": True, "corrupt": "100 %"},
]


@pytest.mark.parametrize("change", CHANGED, ids=lambda change: " ".join(change))
def test_each_setting_changes_at_its_instant_and_nothing_before(change: dict[str, Any]) -> None:
    base = {"rate": "8 kbit/s", "latency": "1 s", "order": "free"}
    before, after = LinkSettings.model_validate(base), LinkSettings.model_validate({**base, **change})
    plain, changed, always = (
        Link(0, 1, settings, 1, changes=changes)
        for settings, changes in ((before, ()), (before, [(50.0, after), (90.0, before)]), (after, ()))
    )

    def told(link: Link, at: float) -> list[object]:
        """What becomes of a message, times counted from its sending, and when the transmitter is free again."""
        arrival, cause, packets, lost, air_bytes, air_seconds, known, copy, *damage = link.judge(100, at)
        times = [round(time, 9) for time in (arrival - at, copy - at, air_seconds, link.sending_until - at)]
        return [times, cause, packets, lost, air_bytes, known, damage]

    for at in (10.0, 50.0, 70.0, 90.0, 95.0):
        expected = always if 50 <= at < 90 else plain
        assert told(changed, at) == told(expected, at), at


def test_a_latency_that_changes_goes_on_in_its_stream() -> None:
    """The n-th message has the n-th number, before and after: what it takes at either mean is the same share."""
    before, after = (
        LinkSettings.model_validate({"latency": {"kind": "uniform", "low": "0 s", "high": high}, "order": "free"})
        for high in ("1 s", "2 s")
    )
    plain, changed = Link(0, 1, before, 1), Link(0, 1, before, 1, changes=[(10.0, after)])
    for i in range(20):
        share = plain.judge(1, i).arrival - i
        assert changed.judge(1, i).arrival - i == pytest.approx(share if i < 10 else 2 * share)


def test_a_burst_outlives_a_change_of_what_it_does() -> None:
    """The weather is the same before and after; only what it loses changes."""
    table = {"kind": "gilbert-elliott", "good": "3 s", "bad": "2 s"}
    before, after = (LinkSettings.model_validate({"loss": {**table, "loss_bad": share}}) for share in ("100 %", "0 %"))
    made = Link(0, 1, before, 1, changes=[(50.0, after), (100.0, before)])
    weather = Memoryless(stream(1, "burst", 0, 1), (3.0, 2.0), 0.4)
    for at in np.arange(0.0, 150.0, 0.5).tolist():
        bad = bool(weather.at(at).value) and not 50 <= at < 100
        assert made.judge(1, at).cause == ("burst" if bad else "")


def test_a_chain_that_returns_within_a_message_goes_on_from_its_last_packet() -> None:
    """A, B, A: as many bursts of A begin as packets are sent by it, none of them twice."""
    chain = {"kind": "gilbert-packets", "p": "20 %", "r": "20 %"}
    changes = [LinkSettings.model_validate({"rate": "8 kbit/s", "mtu": "1 B", "loss": each}) for each in ("0 %", chain)]
    first = LinkSettings.model_validate({"rate": "8 kbit/s", "mtu": "1 B", "loss": chain})
    link = Link(0, 1, first, 1, changes=[(1.0, changes[0]), (2.0, changes[1])])
    verdict = link.judge(3000, 0.0, 0)  # a packet of a byte in each ms
    alone = Link(0, 1, first, 1).judge(2000, 0.0, 0)
    assert lost(verdict, 0, 1000) + lost(verdict, 2000, 3000) == lost(alone, 0, 2000)
    assert lost(verdict, 1000, 2000) == 0


def lost(verdict: Verdict, first: int, last: int) -> int:
    """Return how many bytes of a part of a message don't arrive."""
    return sum(max(0, min(end, last) - max(start, first)) for start, end in verdict.missing)


def test_weather_over_time_goes_on_when_something_else_changes() -> None:
    good = {"kind": "schedule", "steps": [["0 s", "200 ms"], ["3 s", "300 ms"]]}
    table = {"loss": {"kind": "gilbert-elliott", "good": good, "bad": "200 ms"}}
    first, later = (LinkSettings.model_validate({**table, "latency": f"{ms} ms"}) for ms in (0, 10))
    plain, changed = Link(0, 1, first, 1), Link(0, 1, first, 1, changes=[(2.0, later)])
    for at in np.arange(0, 6, 0.05).tolist():
        assert plain.judge(10, at).cause == changed.judge(10, at).cause


def test_settings_are_equal_whatever_they_keep_beside_their_fields() -> None:
    plan = {"outage": {"kind": "contacts", "up": [["0 s", "1 s"], ["2 s", "3 s"]]}}
    first, second = LinkSettings.model_validate(plan), LinkSettings.model_validate(plan)
    assert first.outage.process(1, 0, 1) is not None
    assert first == second
    assert hash(first) == hash(second)
    assert first != LinkSettings.model_validate({"outage": {"kind": "contacts", "up": [["0 s", "1 s"]]}})
