"""Links that come and go: files, who is a neighbor when, what is lost, and how it is described."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.small_worlds import trace_of
from helpers.speakers import Speakers
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from p2pl_async.experiment import running as experiment
from p2pl_async.scenario.building.explain import explain_meetings
from p2pl_async.scenario.building.layout import lay_out
from p2pl_async.scenario.scenario import Scenario
from p2pl_async.topology.contacts import Change, Contacts, meetings, read_changes

HEAD = "t,src,dst,change\n"


def write(path: Path, *lines: str) -> Path:
    path.write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")
    return path


def table(path: Path, count: int = 3, **changes: Any) -> dict[str, Any]:
    return {
        "devices": {"count": count},
        "topology": {"kind": "trace", "path": str(path)},
        "protocol": Speakers(),
        "stop": {"virtual_time": "20.5 s"},
        **changes,
    }


def at_times(contacts: Contacts, *times: float) -> list[list[tuple[int, ...]]]:
    return [[contacts.outgoing(k, t, 0) for k in range(3)] for t in times]


def test_links_are_up_from_up_to_down_and_down_before(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "5,0,1,up", "8,1,0,down", "9,1,2,up", "12,1,2,up", "12,0,2,down")
    contacts = Contacts(3, read_changes(path, 3, directed=False))
    assert contacts.links == [(0, 1), (1, 0), (1, 2), (2, 1)]
    assert at_times(contacts, 0.0, 5.0, 7.9, 8.0, 9.0, 99.0) == [
        [(), (), ()],
        [(1,), (0,), ()],
        [(1,), (0,), ()],
        [(), (), ()],
        [(), (2,), (1,)],
        [(), (2,), (1,)],
    ]
    assert contacts.contacts(0, 1).tolist() == [[5.0, 8.0]]
    assert contacts.contacts(2, 1).tolist() == [[9.0, math.inf]]


def test_directed_lines_are_about_one_direction(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "5,0,1,up", "6,1,0,up", "7,0,1,down")
    contacts = Contacts(3, read_changes(path, 3, directed=True))
    assert at_times(contacts, 5.5, 6.5, 7.5) == [[(1,), (), ()], [(1,), (0,), ()], [(), (0,), ()]]
    assert [contacts.incoming(k, 7.5, 0) for k in range(3)] == [(1,), (), ()]


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.integers(0, 3), st.integers(0, 3), st.booleans()).filter(
            lambda c: c[1] != c[2]
        ),
        max_size=25,
    )
)
def test_neighbors_are_those_of_playing_the_changes_one_by_one(rows: list[tuple[int, int, int, bool]]) -> None:
    changes = sorted(Change(float(t), i, a, b, "up" if up else "down", "") for i, (t, a, b, up) in enumerate(rows))
    contacts = Contacts(4, changes)
    for t in (-1.0, *range(11), 0.5, 7.5):
        up: set[Any] = set()
        for change in changes:
            if change.at <= t:
                (up.add if change.what == "up" else up.discard)((change.src, change.dst))
        for k in range(4):
            assert contacts.outgoing(k, t, 0) == tuple(sorted(b for a, b in up if a == k))
            assert contacts.incoming(k, t, 0) == tuple(sorted(a for a, b in up if b == k))
        assert {(a, b) for a in range(4) for b in range(4) for s, e in contacts.contacts(a, b) if s <= t < e} == up
    tables = dict(contacts.snapshots(100.0))
    last = tables[max(tables)]
    assert {tuple(link) for link in np.argwhere(last).tolist()} == {
        (k, j) for k in range(4) for j in contacts.outgoing(k, 99.0, 0)
    }


def test_a_run_sends_to_those_there_are_and_loses_what_a_link_cuts_off(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "0,0,1,up", "3.5,0,1,down", "6.5,0,1,up", "6.5,1,2,up")
    link = {"latency": "1 ms", "rate": "1 kbit/s"}  # 11 bytes take 88 ms
    run = experiment.run(Scenario.model_validate(table(path, link=link)), trace=True)
    sent = trace_of(run)[["sent_s", "src", "dst"]].values.tolist()
    assert [t for t, src, dst in sent if (src, dst) == (0, 1)] == [1, 2, 3, *range(7, 21)]
    assert [t for t, src, dst in sent if (src, dst) == (2, 1)] == [*range(7, 21)]
    path = write(tmp_path / "b.csv", "0,0,1,up", "3.05,0,1,down", "6.5,0,1,up")
    run = experiment.run(Scenario.model_validate(table(path, 2, link=link)), trace=True)
    assert set(trace_of(run)[trace_of(run).fate == "outage"].sent_s) == {3.0}  # on the air when the link went down
    assert run.summary["messages"]["lost"] == {"outage": 2}


def test_settings_of_a_link_change_at_their_instant(tmp_path: Path) -> None:
    lines = ["0,0,1,up", "5.5,0,1,loss=100 %", "8.5,0,1,loss.p=0 %", '10.5,0,1,"latency=2 s"', "15.5,1,0,duplicate=1.0"]
    path = write(tmp_path / "a.csv", *lines)
    whole = table(path, 2)
    whole["topology"] = {**whole["topology"], "directed": True}
    write(path, *lines, "0,1,0,up")
    run = experiment.run(Scenario.model_validate(whole), trace=True)
    there = trace_of(run)[trace_of(run).src == 0]
    assert there[there.fate == "loss"].sent_s.tolist() == [6, 7, 8]
    late = there[(there.arrival_s - there.sent_s) > 1]
    assert late.sent_s.tolist() == list(range(11, 21))
    back = trace_of(run)[trace_of(run).src == 1]
    assert back[back.copy_s.notna()].sent_s.tolist() == [16, 17, 18, 19, 20]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("-1,0,1,up", 'line 2: t = "-1" must be a time in seconds'),
        ("soon,0,1,up", 'line 2: t = "soon" must be'),
        ("0,0,3,up", 'line 2: "3" must be a device id from 0 to 2'),
        ("0,0,x,up", 'line 2: "x" must be a device id'),
        ("0,1,1,up", "line 2: device 1 can't have a link to itself"),
        ("0,0,1,open", 'line 2: "open" must be up, down, or a key'),
        ("0,0,1,up=1", 'line 2: "up=1" must be up, down'),
        ("0,0,1,rate=", 'line 2: "rate=" must be up, down'),
        ("0,0,1,down", "has no link that is ever up"),
    ],
)
def test_a_file_that_cannot_be_used_says_where(tmp_path: Path, line: str, says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Scenario.model_validate(table(write(tmp_path / "a.csv", line)))
    ((where, text),) = [(detail["loc"], detail["msg"]) for detail in caught.value.errors()]
    assert where == ("topology",)
    assert says in text


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("rat=1 Mbit/s", 'line 3: "rat=1 Mbit/s": unknown key of [link]'),
        ("rate=1", 'line 3: "rate=1": needs its unit'),
        ("loss=200 %", 'line 3: "loss=200 %": must be a probability'),
        ("queue.messages=3", 'line 3: "queue.messages=3": queue needs a rate'),
    ],
)
def test_a_change_that_cannot_be_is_said_when_it_is_checked(tmp_path: Path, change: str, says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Scenario.model_validate(table(write(tmp_path / "a.csv", "0,0,1,up", f"1,0,1,{change}")))
    ((where, text),) = [(detail["loc"], detail["msg"]) for detail in caught.value.errors()]
    assert where == ("topology", "path")
    assert says in text


def test_meetings_are_counted_and_timed(tmp_path: Path) -> None:
    lines = ["0,0,1,up", "10,0,1,down", "40,0,1,up", "60,0,1,down", "0,1,2,up"]
    whole = Scenario.model_validate(table(write(tmp_path / "a.csv", *lines), stop={"virtual_time": "100 s"}))
    found = explain_meetings(whole, lay_out(whole).neighborhood)
    assert found == [
        "in 1.67 min 4 links are up at some time, which lead from everyone to everyone; "
        "2 all the time, which don't lead from everyone to everyone",
        "such a link is up 65 % of the time",  # (2 x 30 + 2 x 100) / 400
        "contact: 15 s on average, median 15 s, 4 that began and ended",
        "time between two contacts: 30 s on average, median 30 s, 2 that began and ended",
    ]


def test_exponential_meetings_have_their_means() -> None:
    """A link that is up for 20 s and down for 60 s on average, 400 of them: 25 % up; tolerance of 5 standard errors."""
    random = np.random.default_rng(1)
    changes = []
    for j in range(21):
        for k in range(21):
            t, up = 0.0, bool(random.random() < 0.25)
            if up and j != k:
                changes.append(Change(0.0, 0, j, k, "up", ""))
            while t < 2000 and j != k:
                t += random.exponential(20 if up else 60)
                up = not up
                changes.append(Change(t, 0, j, k, "up" if up else "down", ""))
    found = meetings(Contacts(21, sorted(changes)).snapshots(2000.0), 2000.0)
    share, contact, gap = (float(text.split(" is up ")[-1].split(": ")[-1].split(" ")[0]) for text in found[1:4])
    n = 420 * 2000 / 80
    assert share == pytest.approx(25, abs=5 * 25 / math.sqrt(n))
    assert contact == pytest.approx(20, abs=5 * 20 / math.sqrt(n))
    assert "min" in found[3] or gap == pytest.approx(60, abs=5 * 60 / math.sqrt(n))


def test_meetings_of_devices_that_move_are_described() -> None:
    whole = Scenario.model_validate(
        {
            "devices": {"count": 8},
            "topology": "in-range",
            "radio": {"area": "400 m"},
            "mobility": {"kind": "random-waypoint", "speed": ["5 m/s", "10 m/s"]},
            "protocol": Speakers(),
            "stop": {"virtual_time": "120 s"},
        }
    )
    found = explain_meetings(whole, lay_out(whole).neighborhood)
    assert found[0].startswith("in 2 min ")
    assert len(found) == 4
    still = whole.model_copy(update={"mobility": type(whole.mobility).model_construct()})
    assert explain_meetings(still, lay_out(whole.model_copy(update={"topology": lay_topology()})).neighborhood) == []


def lay_topology() -> Any:
    return Scenario.model_validate(
        {"devices": {"count": 8}, "topology": "ring", "protocol": Speakers(), "stop": {"rounds": 1}}
    ).topology
