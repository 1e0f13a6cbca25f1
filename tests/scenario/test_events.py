"""Scripted events: what they make of links, devices and places, and what is said of those that can't be."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.small_worlds import small, trace_of
from pydantic import ValidationError
from typer.testing import CliRunner

from p2pl_async.cli.main import app
from p2pl_async.errors import ScenarioError
from p2pl_async.experiment import running as experiment
from p2pl_async.hardware.hardware import downtimes_of
from p2pl_async.link import LinkSettings
from p2pl_async.link.latency import Uniform
from p2pl_async.link.loss.independent import Bernoulli
from p2pl_async.scenario.building.world import build_world
from p2pl_async.scenario.events_in_order import EventsInOrder
from p2pl_async.scenario.link_matches import LinkMatches
from p2pl_async.scenario.reading.load import dump, load_scenario
from p2pl_async.scenario.scenario import Scenario

NOISY = '''
from dataclasses import dataclass

from p2pl_async import Message, Protocol


@dataclass(frozen=True, slots=True)
class Tick(Message, tag="events-tick"):
    text: str


class Ticker(Protocol):
    """Broadcasts every 100 ms, at once after a restart."""

    kind: str = "ticker"
    trains = False

    async def run(self, device):
        while device.running:
            device.broadcast(Tick("x" * 40))
            device.record("tick", device.local_time)
            await device.sleep(0.1)
            while device.receive_nowait() is not None:
                pass
            device.finish_round()
'''


@pytest.fixture(name="ticker", scope="module")
def _ticker(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("protocol") / "ticker.py"
    path.write_text(NOISY)
    return path


@pytest.fixture(name="script")
def _script(tmp_path, ticker):
    """Return what writes a scenario of five devices that talk ten times a second, with events."""

    def write(events: str, more: str = "", link: str = 'latency = "1 ms"') -> Path:
        path = tmp_path / "events.toml"
        path.write_text(
            f'[devices]\ncount = 5\ngroup.left.ids = [0, 1]\n[topology]\nkind = "complete"\n[link]\n{link}\n'
            f'[protocol]\nkind = "{ticker}:Ticker"\n[stop]\nvirtual_time = "10 s"\n{more}\n{events}'
        )
        return path

    return write


def lost(settings: LinkSettings) -> float:
    """Return the probability of loss of links that lose independently."""
    assert isinstance(settings.loss, Bernoulli)
    return settings.loss.p


def shares(path: Path, edges: list[float]) -> tuple[dict[tuple[int, int], list[float]], set[str]]:
    """Return the share of messages lost on each link between instants, and all causes."""
    trace = trace_of(experiment.run(load_scenario(path), trace=True))
    apart = np.abs(trace["sent_s"].to_numpy()[:, None] - np.array(edges)).min(axis=1)
    trace = trace[(apart > 1e-6) | (trace["sent_s"] == 0)]  # rounding puts those of an edge on either side
    gone = ~trace["fate"].isin(["delivered", "in flight"])
    found: dict[Any, list[float]] = {}
    for link, rows in trace.assign(lost=gone).groupby(["src", "dst"]):
        which = np.digitize(rows["sent_s"], edges)
        found[link] = [float(rows["lost"][which == part].mean()) for part in range(1, len(edges))]
    return found, set(trace["fate"].unique()) - {"delivered", "in flight"}


def in_order(scenario: Scenario) -> EventsInOrder:
    return EventsInOrder(
        scenario.devices, LinkMatches(scenario.devices, scenario.link, scenario.medium), scenario.event
    )


def test_set_changes_links_from_then_on(script) -> None:
    path = script('[[event]]\nat = "4 s"\nkind = "set"\nfrom = "left"\nto = 3\nlink.loss = "100 %"\n')
    found, causes = shares(path, [0, 4, 10])
    assert found.pop((0, 3)) == found.pop((1, 3)) == [0, 1]
    assert set(map(tuple, found.values())) == {(0, 0)}
    assert causes == {"loss"}


def test_later_settings_come_on_top_of_earlier_ones() -> None:
    scenario = small(
        event=[
            {"at": "5 s", "kind": "set", "from": 0, "to": 1, "both": True, "link": {"rate": "1 Mbit/s"}},
            {"at": "2 s", "kind": "set", "link": {"loss": {"kind": "bernoulli", "p": "30 %"}, "order": "free"}},
            {"at": "7 s", "kind": "set", "from": "0-1", "link": {"loss": {"p": 0.5}}},
        ]
    )
    table = in_order(scenario)
    for link in ((0, 1), (1, 0)):
        steps = table.changes(*link)
        assert [at for at, _ in steps] == [2, 5, 7]
        assert [lost(settings) for _, settings in steps] == [0.3, 0.3, 0.5]
        assert [settings.rate for _, settings in steps] == [None, 1e6, 1e6]
        assert {settings.order for _, settings in steps} == {"free"}
    assert [at for at, _ in table.changes(0, 2)] == [2, 7]
    assert [at for at, _ in table.changes(3, 2)] == [2]
    assert table.changes(0, 2) is table.changes(1, 2)  # equal links share them


def test_a_ramp_goes_in_equal_steps_to_what_it_says() -> None:
    scenario = small(
        link={"rate": "1 Mbit/s", "mtu": "1000 B"},
        event=[
            {
                "at": "10 s", "kind": "ramp", "over": "4 s", "steps": 4,
                "link": {"loss": "50 %", "rate": "200 kbit/s", "mtu": "501 B", "latency": {"high": "100 ms"}},
            },
            {"at": "14 s", "kind": "set", "link": {"loss": "0 %"}},
        ],
    )  # fmt: skip
    steps = in_order(scenario).changes(0, 1)
    assert [at for at, _ in steps] == [11, 12, 13, 14, 14]
    assert [lost(s) for _, s in steps] == pytest.approx([0.2, 0.3, 0.4, 0.5, 0])
    assert [s.rate for _, s in steps] == pytest.approx([8e5, 6e5, 4e5, 2e5, 2e5])
    assert [s.mtu for _, s in steps] == [875, 750, 626, 501, 501]
    latencies = [s.latency for _, s in steps if isinstance(s.latency, Uniform)]
    assert [latency.high for latency in latencies] == pytest.approx([0.07, 0.08, 0.09, 0.1, 0.1])
    assert {latency.low for latency in latencies} == {0.01}


def test_a_ramp_in_a_run_loses_more_and_more(script) -> None:
    path = script(
        '[[event]]\nat = "2 s"\nkind = "ramp"\nover = "6 s"\nsteps = 60\nlink.loss = "100 %"\n',
        link='latency = "1 ms"\nloss = "0 %"',
    )
    found, _ = shares(path, [0, 2, 4, 6, 8, 10])
    mean = np.mean(list(found.values()), axis=0)
    assert mean[0] == 0
    assert mean[4] == 1
    # 400 messages in each part: five standard errors.
    assert mean[1:4] == pytest.approx([1 / 6, 1 / 2, 5 / 6], abs=5 * math.sqrt(0.25 / 400))


def test_links_go_down_and_up(script) -> None:
    path = script(
        '[[event]]\nat = "2 s"\nkind = "link-down"\nfrom = 0\nto = "*"\n'
        '[[event]]\nat = "3 s"\nkind = "link-down"\nfrom = 0\nto = 2\n'  # it is already
        '[[event]]\nat = "5 s"\nkind = "link-up"\nfrom = 0\nto = [1, 2]\nboth = true\n'
    )
    found, causes = shares(path, [0, 2, 5, 10])
    assert found[0, 1] == found[0, 2] == [0, 1, 0]
    assert found[0, 3] == found[0, 4] == [0, 1, 1]
    assert found[1, 0] == found[3, 0] == [0, 0, 0]
    assert causes == {"down"}


def test_a_partition_parts_groups_until_it_heals(script) -> None:
    path = script(
        '[[event]]\nat = "2 s"\nkind = "partition"\ngroups = ["left", 4]\n'
        '[[event]]\nat = "5 s"\nkind = "heal"\n'
        '[[event]]\nat = "7 s"\nkind = "partition"\ngroups = [[0, 2]]\n'
    )
    found, causes = shares(path, [0, 2, 5, 7, 10])
    first = {(0, 1), (2, 3)}
    second = {(0, 2), (1, 3), (1, 4), (3, 4)}
    for src, dst in found:
        pair = (min(src, dst), max(src, dst))
        assert found[src, dst] == [0, pair not in first, 0, pair not in second], (src, dst)
    assert causes == {"partition"}


def test_crash_and_restart(script) -> None:
    path = script(
        '[[event]]\nat = "2 s"\nkind = "crash"\ndevices = "left"\n'
        '[[event]]\nat = "4 s"\nkind = "restart"\ndevices = 0\n',
        more='[churn]\nrestart = "1 s"\n',
    )
    result = experiment.run(load_scenario(path), trace=True)
    ticks = result.metrics.query("metric == 'tick'")
    times = ticks[ticks["device"] == 0]["time_s"].to_numpy()
    assert times[times < 2.05].max() == pytest.approx(1.9)
    assert times[times > 2.05].min() == 5.0
    assert ticks[ticks["device"] == 1]["time_s"].max() == pytest.approx(1.9)
    assert ticks[ticks["device"] == 0]["value"].iloc[-1] == pytest.approx(
        4.9, abs=0.11
    )  # its clock counts from the restart
    messages = result.summary["messages"]
    assert messages["lost"].keys() == {"crashed"}
    assert messages["sent"] == messages["delivered"] + messages["in_flight"] + messages["lost"]["crashed"]


def test_scripted_crashes_add_to_those_that_churn_draws() -> None:
    churn = {"times": [["1 s", "3 s"], ["20 s", "21 s"]]}
    events = [{"at": "2 s", "kind": "crash", "devices": 1}, {"at": "6 s", "kind": "restart", "devices": 1}]
    found = downtimes_of(build_world(small(churn=churn, event=events), learns=False).conditions.hardware())
    assert found is not None
    assert [found[1].at(t).value != "" for t in (0.5, 1, 2.5, 5.9, 6, 20.5)] == [False, True, True, True, False, True]
    assert [found[0].at(t).value != "" for t in (2.5, 3, 5, 20.5)] == [True, False, False, True]


def moving(*events: dict[str, Any]) -> Scenario:
    return small(
        radio={"phy": {"kind": "802.15.4"}, "positions": [[f"{10 * k} m", "0 m"] for k in range(5)]},
        event=list(events),
    )


def test_devices_move_at_once_or_at_a_speed() -> None:
    scenario = moving(
        {"at": "10 s", "kind": "move", "devices": 0, "to": ["3 m", "4 m"]},
        {"at": "20 s", "kind": "move", "devices": [0, 1], "to": ["3 m", "14 m"], "speed": "2 m/s"},
        {"at": "22 s", "kind": "move", "devices": 0, "to": ["3 m", "4 m"], "speed": "1 m/s"},
    )
    propagation = build_world(scenario, learns=False).propagation
    assert propagation is not None
    motion = propagation.motion
    x = np.array([motion.at(t)[0][0, :2] for t in (0, 9.9, 10, 19, 20, 21, 22, 24, 26, 99)])
    assert x.tolist() == [[0, 0], [0, 0], [3, 4], [3, 4], [3, 4], [3, 6], [3, 8], [3, 6], [3, 4], [3, 4]]
    assert motion.at(99)[0][1, :2].tolist() == [3, 14]
    assert motion.at(99)[0][2, :2].tolist() == [20, 0]


def test_a_jump_and_a_walk_at_one_instant_are_both_made() -> None:
    """At 2 s at once to 500 m, and on from there: until 2 s the device stays where it was."""
    scenario = moving(
        {"at": "0.1 s", "kind": "move", "devices": 0, "to": ["1 m", "0 m"]},
        {"at": "2 s", "kind": "move", "devices": 0, "to": ["500 m", "0 m"]},
        {"at": "2 s", "kind": "move", "devices": 0, "to": ["502 m", "0 m"], "speed": "1 m/s"},
    )
    propagation = build_world(scenario, learns=False).propagation
    assert propagation is not None
    places = [propagation.motion.at(t)[0][0, 0] for t in (0, 0.1, 1, 1.999, 2, 3, 4, 9)]
    assert places == [0, 1, 1, 1, 500, 501, 502, 502]


def test_a_jump_of_a_trace_at_the_instant_of_a_move_stays_a_jump() -> None:
    from p2pl_async.radio import Track

    track = Track([(0.0, 0.0, 0.0, 0.0), (2.0, 0.0, 0.0, 0.0), (2.0, 7.0, 0.0, 0.0), (9.0, 7.0, 0.0, 0.0)])
    again = Track([*track.corners_until(2.0), (3.0, 8.0, 0.0, 0.0)])
    assert again.along(np.array([0.0, 1.0, 1.999, 2.0, 2.5, 3.0]))[0][:, 0].tolist() == [0, 0, 0, 7, 7.5, 8]


def test_a_device_that_restarts_at_the_instant_of_its_crash_has_crashed(script) -> None:
    path = script(
        '[[event]]\nat = "2 s"\nkind = "crash"\ndevices = 0\n[[event]]\nat = "2 s"\nkind = "restart"\ndevices = 0\n'
    )
    metrics = experiment.run(load_scenario(path)).metrics
    assert (metrics["metric"] == "crash").sum() == 1
    ticks = metrics.query("metric == 'tick' and device == 0")
    assert ticks["time_s"].max() == pytest.approx(9.9, abs=0.11)
    assert ticks["value"].max() == pytest.approx(7.9, abs=0.11)  # its clock counts from the restart


def test_a_ramp_of_loss_from_none_says_how_to_begin() -> None:
    ramp = {"at": "1 s", "kind": "ramp", "link": {"loss": "30 %"}, "over": "2 s"}
    with pytest.raises(
        ValidationError, match=r'link.loss has no numbers between "none" and "bernoulli"; write loss = "0 %"'
    ):
        small(link={"loss": "none"}, event=[ramp])
    small(link={"loss": "0 %"}, event=[ramp])


def test_who_moves_away_is_not_heard_any_more(script) -> None:
    path = script(
        '[[event]]\nat = "5 s"\nkind = "move"\ndevices = 4\nto = ["9 km", "0 m"]\n',
        more='[radio]\nphy = "802.15.4"\npositions = [' + ", ".join(f'["{k} m", "0 m"]' for k in range(5)) + "]\n",
    )
    found, _ = shares(path, [0, 5, 10])
    assert {link for link, (_, after) in found.items() if after == 1} == {link for link in found if 4 in link}
    assert all(before == 0 for before, _ in found.values())


# What is told


@pytest.mark.parametrize(
    ("events", "match"),
    [
        ('kind = "crsh"\ndevices = 1', r'event\[0\]\.kind = "crsh"\n.*did you mean "crash"'),
        ('kind = "crash"\ndevices = 9', r"event\[0\]\.devices\n.*there is no device 9"),
        ('kind = "crash"\ndevice = 1', r'event\[0\]\.device\n.*did you mean "devices"'),
        ('kind = "set"\nfrom = "rigth"\nlink.loss = "5 %"', r'event\[0\]\.from\n.*unknown group "rigth"'),
        ('kind = "set"', r"event\[0\]\.link\n.*is missing"),
        ('kind = "set"\nlink = {}', r"event\[0\]\.link\n.*must change something"),
        ('kind = "set"\nlink.los = "5 %"', r'event\[0\]\.link\n.*no key "los"; did you mean "loss"'),
        ('kind = "set"\nlink.loss = "500 %"', r"event\[0\]\.link\n.*link\.loss\.p: must be a probability"),
        ('kind = "ramp"\nover = "1 s"\nlink.loss = "5 %"', r'no numbers between "none" and "bernoulli"'),
        ('kind = "ramp"\nover = "0 s"\nlink.rate = "5 Mbit/s"', r"event\[0\]\.over"),
        ('kind = "heal"', r"event\[0\]\n.*no partition to heal"),
        ('kind = "restart"\ndevices = 1', r"event\[0\]\.devices\n.*device 1 has not crashed"),
        ('kind = "link-up"\nfrom = 1\nto = 2', r"event\[0\]\n.*no link of these is down"),
        ('kind = "partition"\ngroups = [[0, 1], "1-3"]', r"device 1 is in two of the groups"),
        ('kind = "partition"\ngroups = ["*"]', r"one group of all devices separates none"),
        ('kind = "move"\ndevices = 1\nto = ["5 m", "5 m"]', r"event\[0\]\n.*needs \[radio\]"),
        (
            'kind = "ramp"\nover = "9 s"\nlink.rate = "5 Mbit/s"\n'
            '[[event]]\nat = "8 s"\nkind = "set"\nlink.rate = "1 Mbit/s"',
            r"event\[1\]\n.*comes while event\[0\] still changes",
        ),
        (
            'kind = "crash"\ndevices = 1\n[[event]]\nat = "8 s"\nkind = "crash"\ndevices = "*"',
            r"event\[1\].*\n.*crashed already",
        ),
    ],
)  # fmt: skip
def test_what_cannot_happen_is_told(script, events, match) -> None:
    path = script(f'[[event]]\nat = "5 s"\n{events}\n', link='rate = "1 Mbit/s"')
    with pytest.raises(ScenarioError, match=match):
        load_scenario(path)


def test_events_after_the_end_are_a_warning() -> None:
    scenario = small(stop={"virtual_time": "5 s"}, event=[{"at": "7 s", "kind": "crash", "devices": 1}])
    assert any("event[0] at 7 s happens after the end" in text for text in build_world(scenario).warnings)


def test_a_written_scenario_has_the_same_events(tmp_path, script) -> None:
    path = script(
        '[[event]]\nat = "2 s"\nkind = "partition"\ngroups = ["left", 4]\n[[event]]\nat = "5 s"\nkind = "heal"\n'
        '[[event]]\nat = "6 s"\nkind = "set"\nfrom = 1\nlink = { loss = "5 %", latency.mean = "3 ms" }\n'
    )
    again = tmp_path / "again.toml"
    again.write_text(dump(load_scenario(path)))
    assert load_scenario(again) == load_scenario(path)
    changed = load_scenario(path, ['event[2].at="7 s"'])
    assert [event.at for event in changed.event] == [2, 5, 7]


def test_explain_lists_the_events_that_touch_a_link(script) -> None:
    path = script(
        '[[event]]\nat = "2 s"\nkind = "set"\nfrom = 1\nto = 3\nlink.loss = "5 %"\n'
        '[[event]]\nat = "3 s"\nkind = "set"\nfrom = 3\nto = 1\nlink.loss = "7 %"\n'
        '[[event]]\nat = "90 s"\nkind = "crash"\ndevices = 3\n'
        '[[event]]\nat = "4 s"\nkind = "partition"\ngroups = ["left"]\n'
        '[[event]]\nat = "5 s"\nkind = "crash"\ndevices = 2\n'
    )
    found = load_scenario(path)
    touching = in_order(found).touching(1, 3)
    assert touching == [
        ("event[0] at 2 s", 'set from = 1 to = 3 link = { loss = "5 %" }'),
        ("event[3] at 4 s", 'partition groups = ["left"]'),
        ("event[2] at 1.5 min", "crash devices = 3"),
    ]
    shown = CliRunner().invoke(app, ["probe", str(path), "--explain", "1", "3"]).output
    assert "1.5 min" in shown
    assert "event[2]" in shown
    assert "event[1]" not in shown


def test_list_names_every_kind_of_event() -> None:
    shown = CliRunner().invoke(app, ["list", "events"]).output
    kinds = ["set", "ramp", "link-down", "link-up", "partition", "heal", "crash", "restart", "move"]
    first = [line for line in shown.splitlines()[1:] if line.startswith("  ") and line[2] != " "]
    assert [line.split()[0] for line in first] == kinds


@pytest.mark.parametrize(
    "changes",
    [
        {"event": [{"at": "1 s", "kind": "partition", "groups": [0]}]},
        {"event": [{"at": "1 s", "kind": "set", "link": {"loss": "5 %"}}]},
        {"devices": {"group": {"late": {"ids": 1, "join": "5 s"}}}},
        {"energy": {"preset": "cc2420", "battery": "5 J"}, "link": {"rate": "1 Mbit/s"}},
    ],
    ids=["partition", "set", "join", "battery"],
)
def test_a_protocol_that_bears_no_loss_is_warned_of_what_will_be_lost(changes) -> None:
    def warned(**more) -> bool:
        scenario = small(protocol={"kind": "sgp"}, link={"loss": "0 %", **more.pop("link", {})}, **more)
        return any("needs links that" in text for text in build_world(scenario, learns=False).warnings)

    assert warned(**changes)
    assert not warned()
