"""Churn and faults: laws of stays, what a crash takes, and what becomes of messages."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

import numpy as np
import pytest
from helpers.models import model_of
from helpers.small_worlds import run_watched, small, trace_of
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from p2pl_async.errors import Deadlock, ScenarioError
from p2pl_async.experiment import running as experiment
from p2pl_async.hardware.churn import Churn, read_trace
from p2pl_async.hardware.downtime import ABSENT, BATTERY, CRASHED, Downtime, Stay
from p2pl_async.hardware.hardware import Hardware, downtimes_of
from p2pl_async.link import Link, LinkSettings
from p2pl_async.messages import Message
from p2pl_async.protocols.base import Protocol
from p2pl_async.scenario.building.world import build_world
from p2pl_async.scenario.scenario import Scenario
from p2pl_async.testing import FixedLearner, complete, emulate, ring
from p2pl_async.trace import Record
from p2pl_async.transport.wire import encode


@dataclass(frozen=True, slots=True)
class Note(Message, tag="churn-note"):
    x: int


def protocol(function):
    class Ad(Protocol):
        trains = False
        kind: str = "ad-hoc"

        async def run(self, device) -> None:
            await function(device)

    return Ad()


def down(*times: tuple[float, float], cause: str = CRASHED) -> Downtime:
    return Downtime({cause: times})


UP = Downtime({})


def stay_of(downtime: Downtime, t: float) -> Stay:
    """Return the next time down, of which there is one."""
    stay = downtime.next(t)
    assert stay is not None
    return stay


def world(churn: dict[str, Any], count: int, seed: int = 1, **devices) -> list[Downtime]:
    """Return when each device of a scenario is down."""
    scenario = Scenario.model_validate(
        {
            "seed": seed,
            "devices": {"count": count, **devices},
            "churn": churn,
            "protocol": {"kind": "local"},
            "stop": {"rounds": 1},
        }
    )
    found = downtimes_of(build_world(scenario, learns=False).conditions.hardware())
    assert found is not None
    return found


# The laws


PARETO = {"kind": "pareto", "least": "10 s", "alpha": 2.5, "most": "50 s"}


@pytest.mark.parametrize(
    ("up", "variance"),
    [
        ({"kind": "weibull", "mean": "20 s", "shape": 0.7}, 400 * (math.gamma(27 / 7) / math.gamma(17 / 7) ** 2 - 1)),
        (PARETO, math.nan),
        ({"kind": "constant", "mean": "20 s"}, 0.0),
    ],
    ids=["weibull", "pareto", "constant"],
)
def test_stays_have_the_mean_and_variance_of_their_law(up, variance) -> None:
    n = 20_000
    times = Churn.model_validate({"up": up, "down": "5 s"}).crashes(7, 0, "", 3.0, {})
    stays = np.array([(0.0, 3.0), *islice(times, n)])
    lengths = stays[1:, 0] - stays[:-1, 1]
    mean = 20.0
    if up is PARETO:  # xm = 10, alpha = 2.5, c = 50
        mean = 2.5 * 10 / 1.5 * (1 - 0.2**1.5) / (1 - 0.2**2.5)
        square = 2.5 * 100 / 0.5 * (1 - 0.2**0.5) / (1 - 0.2**2.5)
        variance = square - mean**2
    assert lengths.mean() == pytest.approx(mean, abs=5 * math.sqrt(variance / n) + 1e-9)
    assert lengths.var() == pytest.approx(variance, rel=0.15, abs=1e-9)


@pytest.mark.parametrize(("up", "down_s", "restart"), [("30 s", "10 s", "0 s"), ("30 s", "6 s", "4 s")])
def test_the_share_of_time_up_is_mtbf_over_mtbf_plus_mttr(up, down_s, restart) -> None:
    cycles = 20_000
    times = Churn.model_validate({"up": up, "down": down_s, "restart": restart}).crashes(7, 0, "", 0.0, {})
    stays = np.array(list(islice(times, cycles)))
    off = stays[:, 1] - stays[:, 0]
    share = 1 - off.sum() / stays[-1, 1]
    # Of a ratio of sums: both stays vary, the restart doesn't.
    repair = 10 - float(restart.split()[0])
    se = 0.75 * 0.25 * math.sqrt((1 + (repair / 10) ** 2) / cycles)
    assert share == pytest.approx(0.75, abs=5 * se)


def test_the_number_of_devices_up_is_binomial() -> None:
    n, p = 400, 0.8
    found = world({"up": "40 s", "down": "10 s"}, n)
    instants = 1000 + 100.0 * np.arange(60)  # 12 time constants apart: as good as independent
    up = np.array([sum(not downtime.at(t).value for downtime in found) for t in instants])
    assert up.mean() == pytest.approx(n * p, abs=5 * math.sqrt(n * p * (1 - p) / len(up)))
    assert up.var(ddof=1) == pytest.approx(n * p * (1 - p), rel=5 * math.sqrt(2 / (len(up) - 1)))


def test_a_device_begins_up_and_forgets_that_it_did() -> None:
    """Up at t with probability A + (1 - A) exp(-t (1/up + 1/down))."""
    n, share = 4000, 0.8
    found = world({"up": "40 s", "down": "10 s"}, n)
    for t in (0.0, 2.0, 8.0, 30.0):
        p = share + (1 - share) * math.exp(-t * (1 / 40 + 1 / 10))
        up = sum(not downtime.at(t).value for downtime in found) / n
        assert up == pytest.approx(p, abs=5 * math.sqrt(p * (1 - p) / n) + 1e-12)


def test_a_region_fails_as_one_and_others_on_their_own() -> None:
    churn = {"up": "20 s", "down": "5 s"}
    found = world(churn, 8, group={"block": {"ids": "0-3", "churn": {**churn, "shared": True}}})
    instants = np.arange(0, 2000, 0.5)
    states = np.array([[bool(downtime.at(t).value) for t in instants] for downtime in found])
    assert (states[:4] == states[0]).all()
    alone = np.corrcoef(states[[0, 4, 5, 6, 7]])
    assert np.abs(alone[~np.eye(5, dtype=bool)]).max() < 0.3
    assert 0.1 < states.mean() < 0.3


def test_times_and_traces_say_when(tmp_path) -> None:
    path = tmp_path / "down.csv"
    path.write_text("device,down_s,up_s\n1,3,4\n0,1,2\n1,8.5,9\n")
    assert read_trace(path) == {1: [(3.0, 4.0), (8.5, 9.0)], 0: [(1.0, 2.0)]}
    found = world({"trace": str(path), "restart": "500 ms"}, 3)
    assert [found[1].at(t).value for t in (2.9, 3, 4.4, 4.5, 8.5, 9.5)] == ["", CRASHED, CRASHED, "", CRASHED, ""]
    assert not found[2].causes or found[2].next(0) is None
    listed = world({"times": [["1 s", "2 s"], ["5 s", "6 s"]]}, 2)
    assert [stay_of(listed[0], 0)[:2], stay_of(listed[1], 2)[:2]] == [(1, 2), (5, 6)]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("a,b\n", "the first line must be device,down_s,up_s"),
        ("device,down_s,up_s\n0,5,4\n", "line 2\n.*down from 5 s until later, not until 4 s"),
        ("device,down_s,up_s\n0,5,6\n0,5.5,7\n", "line 3\n.*in order and apart"),
        ("device,down_s,up_s\n0,five,6\n", "line 2"),
        ("device,down_s,up_s\n9,5,6\n", "there is no device 9; ids go from 0 to 1"),
    ],
)
def test_a_bad_trace_says_where(tmp_path, text, match) -> None:
    path = tmp_path / "down.csv"
    path.write_text(text)
    with pytest.raises(ScenarioError, match=match):
        world({"trace": str(path)}, 2)


def test_a_trace_that_is_not_there() -> None:
    with pytest.raises(ScenarioError, match="can't be read"):
        world({"trace": "/nowhere/down.csv"}, 2)


@pytest.mark.parametrize(
    ("churn", "match"),
    [
        ({"up": "5 s"}, "needs both up"),
        ({"up": "5 s", "down": "1 s", "times": [["1 s", "2 s"]]}, "has up and times"),
        ({"times": [["1 s", "2 s"]], "shared": True}, "shared = true needs up and down"),
        ({"times": [["3 s", "2 s"]]}, "down from 3 s until later"),
        ({"up": {"kind": "constant", "mean": "0 s"}, "down": "1 s"}, "up must take some time"),
    ],
)
def test_bad_tables_are_told(churn, match) -> None:
    with pytest.raises(ValidationError, match=match):
        Churn.model_validate(churn)


def test_leaving_before_joining_is_told() -> None:
    with pytest.raises(ValidationError, match="must come after join"):
        world({}, 2, group={"late": {"ids": 1, "join": "10 s", "leave": "5 s"}})


# Downtime


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(1, 10)), max_size=6),
    st.lists(st.tuples(st.integers(0, 50), st.integers(1, 10)), max_size=6),
    st.lists(st.integers(0, 60), min_size=1, max_size=20),
)
def test_down_is_the_union_of_all_sources_whoever_asks_first(crashes, absences, asked) -> None:
    def ordered(stays):
        result, last = [], -1
        for start, length in sorted(stays):
            if start > last:
                result.append((float(start), float(start + length)))
                last = start + length
        return result

    sources = {CRASHED: ordered(crashes), ABSENT: ordered(absences)}
    downtime = Downtime(sources)
    truth = [any(s <= t < e for times in sources.values() for s, e in times) for t in range(62)]
    assert [bool(downtime.at(t).value) for t in asked] == [truth[t] for t in asked]
    parts = downtime.between(3.0, 40.0)
    assert sum(parts[:, 1] - parts[:, 0]) == sum(truth[3:40])
    watches = [downtime.of(cause) for cause in downtime.causes]
    for t in sorted(asked):
        assert any(watch.at(t).value for watch in watches) == truth[t]
        touched = [watch.touched(np.array([t, t + 1.0]), np.array([t + 1.0, t + 1.0])).tolist() for watch in watches]
        assert [any(each) for each in zip(*touched, strict=True)] == [truth[t], truth[t + 1]]


def test_a_link_asks_in_no_time_for_causes_that_never_come() -> None:
    churn = Churn.model_validate({"up": "3 s", "down": "1 s"})
    downtime = Downtime({CRASHED: churn.crashes(1, 0, "", 0.0, {}), ABSENT: [(0.0, 2.0)]}, mortal=True)
    watches = {cause: downtime.of(cause) for cause in downtime.causes}
    assert [watches[cause].at(1.0).value for cause in (ABSENT, BATTERY)] == [1, 0]
    assert [watches[cause].at(3.0).value for cause in (ABSENT, BATTERY)] == [0, 0]
    asked = np.arange(0.5, 400, 1.0)
    assert 0 < sum(watches[CRASHED].at(t).value for t in asked) < 200


def test_an_empty_battery_ends_all_stays() -> None:
    downtime = Downtime({CRASHED: [(5.0, 10.0), (20.0, 30.0)]}, mortal=True)
    watch = downtime.of(BATTERY)
    assert watch.at(6.0).value == 0
    downtime.end(7.0)
    assert [downtime.at(t).value for t in (4, 6, 7, 12, 25)] == ["", CRASHED, BATTERY, BATTERY, BATTERY]
    assert watch.at(8.0).value == 1


# Devices


def test_a_crash_ends_the_task_and_a_restart_begins_it_anew() -> None:
    lives: dict[int, list[float]] = {0: [], 1: []}

    async def run(device) -> None:
        lives[device.id].append(device.now)
        await device.sleep(12 - device.now)

    emulate(protocol(run), ring(2), hardware=[Hardware(downtime=one) for one in [down((3, 5), (7, 7.5)), UP]])
    assert lives == {0: [0.0, 5.0, 7.5], 1: [0.0]}


def test_late_joiners_and_leavers() -> None:
    lives = []

    async def run(device) -> None:
        lives.append((device.id, device.now, device.local_time))
        while True:
            device.broadcast(Note(device.id))
            await device.sleep(1)

    scenario = small(
        devices={"count": 3, "group": {"late": {"ids": 1, "join": "4 s"}, "short": {"ids": 2, "leave": "3 s"}}}
    )
    records: list[Record] = []
    found = build_world(scenario, learns=False).conditions.hardware()
    emulation = emulate(
        protocol(run),
        complete(3),
        hardware=found,
        until=10,
        sink=records.append,
        link={"latency": "10 ms"},
    )
    assert sorted(lives) == [(0, 0.0, 0.0), (1, 4.0, 0.0), (2, 0.0, 0.0)]
    assert emulation.gone == {2}
    fates = {(r.sent, r.src, r.dst): r.verdict.cause for r in records}
    assert fates[2, 0, 1] == ABSENT
    assert fates[4, 0, 1] == ""
    assert fates[2, 0, 2] == ""
    assert fates[3, 0, 2] == ABSENT
    assert (3, 2, 0) not in fates


def test_drawn_joins_lie_before_the_latest_and_leaves_after_them() -> None:
    found = world({}, 50, join={"uniform": "10 s"}, leave={"uniform": "20 s"})
    stays = [(stay_of(downtime, 0).end, stay_of(downtime, 10.0).start) for downtime in found]
    assert all(0 < join < 10 and join < leave < 20 for join, leave in stays)
    assert len(set(stays)) == 50


def test_a_crash_before_the_first_round_has_nothing_to_keep() -> None:
    resumed = []

    async def run(device) -> None:
        w = device.initial_params()
        resumed.append(device.resumed)
        device.finish_round(await device.train(w))

    learner = FixedLearner([np.zeros(2, np.float32)])
    emulate(
        protocol(run),
        [[]],
        learner=learner,
        hardware=[Hardware(downtime=down((0.5, 2.0)), keeps_state=True)],
    )
    assert resumed == [False, False]


@pytest.mark.parametrize("keep", [True, False])
def test_what_survives_a_crash(keep) -> None:
    seen = []

    async def run(device) -> None:
        w = device.initial_params()
        seen.append((float(w[0]), device.round, device.resumed, device.trained is None))
        while device.running:
            w = await device.train(w)
            device.finish_round(w)

    learner = FixedLearner([np.zeros(2, np.float32)], step=lambda _, w: w + 1)
    emulation = emulate(
        protocol(run),
        [[]],
        learner=learner,
        rounds=5,
        hardware=[Hardware(downtime=down((2.5, 4.0)), keeps_state=keep)],
    )
    first = (0.0, 0, False, True)
    assert seen == [first, (2.0, 2, True, True) if keep else (0.0, 2, False, True)]
    assert emulation.devices[0].round == 5
    assert model_of(emulation.devices[0])[0] == (5.0 if keep else 3.0)
    assert emulation.clock.now == 7.0  # half a training was lost


def test_the_inbox_of_a_crashed_device_is_emptied() -> None:
    heard = []

    async def run(device) -> None:
        if device.id == 0:
            for x in range(8):
                device.send(1, Note(x))
                await device.sleep(1)
        else:
            await device.sleep(3.5 if device.now == 0 else 2.5)
            while (message := device.receive_nowait(Note)) is not None:
                heard.append(message.x)

    emulate(
        protocol(run),
        ring(2),
        link={"latency": "100 ms"},
        hardware=[Hardware(downtime=one) for one in [UP, down((3.2, 5.0))]],
    )
    assert heard == [5, 6, 7]


def test_frames_in_the_air_are_cut_at_both_ends() -> None:
    """1000 bit/s: a message of 125 B takes a second; the latency is another half."""
    links = LinkSettings.model_validate({"rate": "1000 bit/s", "latency": "500 ms"})
    sender, receiver = down((10.5, 11.5)), down((20.5, 21.0), (30.9, 31.05))

    def fate(now: float) -> str:
        ends = [("crashed", lambda end=end: end.of(CRASHED)) for end in (sender, receiver)]
        link = Link(0, 1, links, 0, down=ends)
        return link.judge(125, now).cause

    assert [fate(t) for t in (9.4, 10.2, 11.5, 20.4, 20.9, 21.0)] == ["", CRASHED, "", CRASHED, CRASHED, ""]

    async def run(device) -> None:
        if device.id == 0:
            for x in range(7):
                await device.sleep(0.15 if x else 29.75)
                device.send(1, Note(x))
            await device.sleep(1)

    records: list[Record] = []
    free = {"latency": "500 ms"}
    emulation = emulate(
        protocol(run),
        ring(2),
        link=free,
        hardware=[Hardware(downtime=one) for one in [UP, receiver]],
        sink=records.append,
    )
    # Sent while both are up, but on its way when the receiver goes down, and there before it is back.
    lost = [r.verdict.cause for r in records if 30.9 <= r.sent + 0.5 < 31.05]
    assert lost == [CRASHED]
    assert emulation.trace.counts.lost == {CRASHED: 1}
    assert emulation.trace.delivered == 6


def test_a_device_that_is_down_waits_for_its_restart_and_is_no_deadlock() -> None:
    async def run(device) -> None:
        if device.id == 0:
            await device.sleep(1)
            device.send(1, Note(0))
        else:
            await device.receive(Note)

    # From 1 s to 3 s nobody is up and nothing is under way.
    emulation = emulate(
        protocol(run),
        ring(2),
        link={"latency": "2 s"},
        hardware=[Hardware(downtime=one) for one in [down((0.5, 4.0), (9, 10)), down((1.0, 3.0))]],
    )
    assert emulation.trace.counts.sent == 1  # device 0 had ended by 9 s: it does not begin again
    assert emulation.clock.now == 7.0


def test_a_run_whose_devices_all_wait_though_up_is_a_deadlock_that_names_who_is_gone() -> None:
    async def run(device) -> None:
        await device.receive(Note)

    with pytest.raises(Deadlock, match=r"deadlock at 5 s(.|\n)*device 0 (.|\n)*gone for good: 1"):
        emulate(
            protocol(run),
            ring(2),
            hardware=[Hardware(downtime=one) for one in [down((2.0, 4.0)), down((5.0, math.inf))]],
        )


def test_passive_devices_that_come_and_go_keep_no_run_alive() -> None:
    async def run(device) -> None:
        if device.id:
            device.passive = True
            await device.receive()
        await device.sleep(7.2)

    churn = Churn.model_validate({"up": "1 s", "down": "1 s"})
    others = [Downtime({CRASHED: churn.crashes(1, k, "", 0, {})}) for k in range(3)]
    emulation = emulate(
        protocol(run),
        complete(4),
        hardware=[Hardware(downtime=one) for one in [UP, *others]],
    )
    assert emulation.clock.now == 7.2


# Whole runs


CHURN = {"up": "4 s", "down": "1 s", "restart": "200 ms"}
QUICK = {"kind": "p2pl", "sync": {"kind": "max-norm", "beacon": "50 ms", "patience": "1 s"}}


@pytest.mark.parametrize("on_crash", ["lose_ram", "keep_state"])
def test_a_run_with_churn_ends_and_all_messages_are_accounted_for(on_crash) -> None:
    result = experiment.run(
        small(churn={**CHURN, "on_crash": on_crash}, protocol=QUICK, stop={"rounds": 8}), trace=True
    )
    messages = result.summary["messages"]
    assert result.summary["stopped_by"] == "rounds"
    assert result.summary["rounds"]["min"] == 8
    assert messages["lost"][CRASHED] > 0
    assert messages["sent"] == messages["delivered"] + sum(messages["lost"].values()) + messages["in_flight"]
    assert (trace_of(result)["fate"] == CRASHED).sum() == messages["lost"][CRASHED]
    crashes = result.metrics.query("metric == 'crash'")
    assert len(crashes) > 3


def test_state_on_flash_learns_more_than_lost_ram() -> None:
    accuracy = {
        kept: experiment.run(
            small(churn={**CHURN, "on_crash": kept}, protocol={"kind": "local"}, stop={"rounds": 20})
        ).summary["accuracy"]["mean"]
        for kept in ("keep_state", "lose_ram")
    }
    assert accuracy["keep_state"] > accuracy["lose_ram"] + 0.02


def test_a_run_ends_when_those_who_never_come_back_are_all_that_is_missing() -> None:
    devices = {"group": {"short": {"ids": [1, 3], "leave": "2 s"}}}
    result, [devices_of_run] = run_watched(small(devices=devices, stop={"rounds": 6}))
    assert result.summary["stopped_by"] == "rounds"
    assert [device.round >= 6 for device in devices_of_run] == [True, False, True, False, True]
    everybody = small(devices={"leave": "2 s"}, stop={"rounds": 60})
    assert experiment.run(everybody).summary["stopped_by"] == "every device is gone"


def test_a_target_counts_those_who_are_there() -> None:
    """Device 0 leaves untrained; the others reach what is asked of every device."""
    scenario = small(
        devices={"group": {"short": {"ids": 0, "leave": "100 ms"}}},
        stop={"rounds": 40, "accuracy": {"every_device": "60 %"}},
    )
    summary = experiment.run(scenario).summary
    assert summary["stopped_by"] == "accuracy"
    assert summary["accuracy"]["min"] >= 0.6


def test_the_local_baseline_crashes_at_the_same_times() -> None:
    scenario = small(churn=CHURN, baselines={"local": True}, stop={"rounds": 400, "virtual_time": "15 s"})
    result = experiment.run(scenario)
    crashes = [
        run.metrics.query("metric == 'crash'")[["time_s", "device"]].values.tolist()
        for run in (result, result.baselines["local"])
    ]
    # Those that it lacks are of devices that have nothing more to train: they trained no more in the main run either.
    main, local = (sorted(map(tuple, found)) for found in crashes)
    assert len(local) > 5
    assert set(local) < set(main)
    assert len(crashes[0]) > 5


def test_churn_of_one_device_leaves_the_fates_on_links_of_others_alone() -> None:
    def fates(**changes):
        stop = {"rounds": 400, "virtual_time": "6 s"}
        trace = trace_of(experiment.run(small(protocol={"sync": "none"}, stop=stop, **changes), trace=True))
        rows = trace[~trace["src"].isin([0]) & ~trace["dst"].isin([0])]
        return rows[["src", "dst", "sent_s", "fate"]].values.tolist()

    assert fates() == fates(devices={"group": {"weak": {"ids": 0, "churn": CHURN}}})


def test_what_waits_for_a_shared_medium_is_lost_in_a_crash() -> None:
    """1000 bit/s: a message of a second each. The first is on the air at the crash, two wait, a fourth comes after."""
    sent = []

    async def run(device) -> None:
        if device.id == 0:
            for x in range(3 if device.now == 0 else 1):
                device.send(1, Note(x))
                sent.append(device.now)
        await device.sleep(20 - device.now)

    records: list[Record] = []
    size = len(encode(Note(0), 0, 0))
    emulation = emulate(
        protocol(run),
        ring(2),
        link={"rate": f"{8 * size} bit/s"},
        medium={"kind": "ideal"},
        hardware=[Hardware(downtime=one) for one in [down((0.5, 3.0)), UP]],
        sink=records.append,
    )
    assert sent == [0, 0, 0, 3]
    assert [record.verdict.cause for record in sorted(records, key=lambda record: record.number)] == [CRASHED] * 3 + [
        ""
    ]
    assert emulation.clock.now == 20
    assert emulation.trace.counts.n_lost == 3
    assert emulation.trace.delivered == 1


def test_nothing_follows_a_stay_without_end_however_long_churn_draws() -> None:
    endless = ((float(start), start + 0.5) for start in count(1))
    downtime = Downtime({CRASHED: endless, ABSENT: [(3.2, math.inf)]})
    assert downtime.of(CRASHED).at(3.6) == (0, math.inf)
    assert downtime.next(math.inf) is None
