"""Parameters that change in time, against what they mean: rates are integrated, all else is a step function."""

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from p2pl_async.basics.randomness import stream
from p2pl_async.errors import ScenarioError
from p2pl_async.link import AnyLatency, AnyLoss, Link, LinkSettings
from p2pl_async.link.loss.base import CAUSES
from p2pl_async.link.rate_over_time import Opportunities, StepRate
from p2pl_async.scenario.building.link_table import LinkTable
from p2pl_async.scenario.reading.jsonschema import scenario_schema
from p2pl_async.scenario.reading.load import dump, load_scenario, read_scenario

LOSS: TypeAdapter[Any] = TypeAdapter(AnyLoss)
LATENCY: TypeAdapter[Any] = TypeAdapter(AnyLatency)

HALVED = {"kind": "schedule", "steps": [["0 s", "1 Mbit/s"], ["1 s", "500 kbit/s"]]}
REST = 'devices.count = 3\ntopology.kind = "complete"\nprotocol.kind = "p2pl"\nstop.rounds = 1\n'


def link(**table: Any) -> Link:
    return Link(0, 1, LinkSettings.model_validate(table), 1)


# --- Rates


def test_a_frame_ends_when_the_rate_has_sent_all_its_bits() -> None:
    """1 Mbit/s for 1 s, then half of it: 1.5 Mbit take 2.0 s."""
    assert link(rate=HALVED).judge(187_500, 0.0).arrival == pytest.approx(2.0, abs=1e-12)
    fragments = link(rate=HALVED, mtu="1500 B").judge(187_500, 0.0)
    assert (fragments.packets, fragments.arrival) == (125, pytest.approx(2.0, abs=1e-12))


@pytest.mark.parametrize("table", [{}, {"mtu": "1500 B"}, {"mtu": "1500 B", "arq": {"retries": 3}}])
def test_a_frame_goes_on_at_the_rate_of_changed_settings(table: dict[str, Any]) -> None:
    """As above, the change being one of the link's settings: the rate changes even while a frame is on the air."""
    fast, slow = (LinkSettings.model_validate({"rate": rate, **table}) for rate in ("1 Mbit/s", "500 kbit/s"))
    made = Link(0, 1, fast, 1, changes=[(1.0, slow), (5.0, fast)])
    assert made.judge(187_500, 0.0).arrival == pytest.approx(2.0, abs=1e-9)
    assert made.judge(187_500, 3.5).arrival == pytest.approx(5.75, abs=1e-9)
    assert made.judge(125_000, 9.0).arrival == pytest.approx(10.0, abs=1e-9)


def test_messages_queue_behind_each_other_over_changes_of_the_rate() -> None:
    made = link(rate=HALVED)
    assert [made.judge(62_500, 0.0).arrival for _ in range(4)] == pytest.approx([0.5, 1.0, 2.0, 3.0], abs=1e-12)
    assert made.judge(62_500, 10.0).arrival == pytest.approx(11.0, abs=1e-12)


def test_a_rate_can_pause_and_begin_again() -> None:
    """1 Mbit/s in the first half of every 2 s: 2.5 Mbit take two whole rounds and half a second."""
    steps = [["0 s", "1 Mbit/s"], ["1 s", "0 bit/s"]]
    made = link(rate={"kind": "schedule", "steps": steps, "end": "loop"})
    assert made.judge(312_500, 0.0).arrival == pytest.approx(4.5, abs=1e-12)
    assert made.judge(62_500, 5.0).arrival == pytest.approx(6.5, abs=1e-12)


def test_retries_take_the_rate_of_their_own_instant() -> None:
    """Lost while the rate is high, repeated while it is low."""
    loss = {"kind": "bernoulli", "p": {"kind": "schedule", "steps": [["0 s", "100 %"], ["1 s", "0 %"]]}}
    made = link(rate=HALVED, loss=loss, arq={"retries": 9})
    # 50,000 bytes: two tries of 0.4 s, one that begins at 0.8 s and ends at 1.4 s, and one of 0.8 s that arrives.
    verdict = made.judge(50_000, 0.0)
    assert (verdict.packets, verdict.arrival) == (4, pytest.approx(2.2, abs=1e-12))


def test_a_link_that_loses_everything_is_given_up_at_any_rate() -> None:
    """99 retries, most of them after the rate has halved: 2 tries of 0.4 s, then one of 0.6 s, then 0.8 s each."""
    verdict = link(rate=HALVED, loss="100 %", arq={"retries": 99}).judge(50_000, 0.0)
    assert (verdict.cause, verdict.packets) == ("retries", 100)
    assert verdict.air_seconds == pytest.approx(0.4 + 0.4 + 0.6 + 97 * 0.8, rel=1e-12)


steps_of_rate = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 5)), min_size=2, max_size=8).filter(
    lambda steps: steps[-1][1] > 0
)


@given(
    steps=steps_of_rate,
    loop=st.booleans(),
    start=st.floats(0, 30),
    bits=st.lists(st.integers(1, 50), min_size=1, max_size=9),
)
@example(steps=[(1, 1), (1, 1)], loop=True, start=2**-24, bits=[1])
def test_ends_are_the_least_instants_at_which_the_integral_is_enough(
    steps: list[tuple[int, int]], loop: bool, start: float, bits: list[int]
) -> None:
    widths = np.array([width / 10 for width, _ in steps])
    times, rates = np.concatenate(([0.0], np.cumsum(widths)[:-1])), np.array([float(rate) for _, rate in steps])
    profile = StepRate(times, rates, float(np.cumsum(widths)[-1]) if loop else None)

    def integral(upto: float) -> float:
        """Of the rate, from 0 s on, by adding up steps."""
        total, begun, index = 0.0, 0.0, 0
        while begun < upto:
            last = not loop and index == len(widths) - 1
            width = upto - begun if last else float(widths[index % len(widths)])
            total += rates[index % len(rates) if loop else min(index, len(rates) - 1)] * min(width, upto - begun)
            begun, index = begun + width, index + 1
        return total

    def ends_a_step(at: float) -> bool:
        edges = np.cumsum(np.tile(widths, math.ceil(at / widths.sum()) + 1 if loop else 1))
        return bool(np.abs(edges - at).min() < 1e-9)

    sums = np.cumsum(np.array(bits, float))
    ends = profile.ends(start, sums)
    for end, size in zip(ends.tolist(), sums.tolist(), strict=True):
        # A frame that exceeds a step by less than 1e-6 bit ends with it, for that may be rounding.
        assert integral(end) - integral(start) == pytest.approx(size, rel=1e-9, abs=1e-6 if ends_a_step(end) else 1e-9)
        assert integral(end - 1e-6) - integral(start) < size - 1e-7
        assert profile.end(start, size) == pytest.approx(end, rel=1e-12)
    chained = start
    for size in bits:
        chained = profile.end(chained, size)
    assert chained == pytest.approx(ends[-1], rel=1e-9)
    seconds, until = profile.at(start)
    assert until > start
    if size / 1e3 * seconds < until - start:
        assert profile.end(start, size / 1e3) == pytest.approx(start + size / 1e3 * seconds, abs=1e-9)


def test_rates_come_from_a_column_of_a_trace(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("t,up,down\n0,1000,80\n1,500,80\n")
    table = {"kind": "trace", "path": str(tmp_path / "r.csv"), "column": "up", "unit": "kbit/s"}
    assert link(rate=table).judge(187_500, 0.0).arrival == pytest.approx(2.0, abs=1e-12)
    back = {**table, "column": "down", "time_unit": "ms"}
    assert link(rate=back).judge(10_000, 0.0).arrival == pytest.approx(1.0, abs=1e-12)


def test_a_rate_can_begin_anywhere_and_each_link_at_a_place_of_its_own(tmp_path: Path) -> None:
    later = link(rate={**HALVED, "start": "500 ms"})
    assert later.judge(93_750, 0.0).arrival == pytest.approx(
        1.0, abs=1e-12
    )  # 0.5 Mbit, then 0.25 Mbit at half the rate
    loop = {"kind": "schedule", "steps": [["0 s", "1 Mbit/s"], ["1 s", "0 bit/s"]], "end": "loop", "start": "random"}
    settings = LinkSettings.model_validate({"rate": loop})

    def first(seed: int, src: int, dst: int) -> float:
        return Link(src, dst, settings, seed).judge(1, 0.0).arrival

    waits = np.array([first(1, 0, dst) for dst in range(1, 2001)])
    # Awake half of the time: whoever sends at any moment waits (1 s)^2 / (2 x 2 s).
    assert waits.mean() == pytest.approx(0.25, abs=5 * waits.std() / math.sqrt(2000))
    assert (waits < 1e-4).mean() == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(2000))
    assert first(1, 0, 5) == waits[4]
    assert len({first(2, 3, 4), first(1, 4, 3), *waits[:9].tolist()}) > 4
    shifted = link(rate={**mahimahi(tmp_path, 5, 20), "start": "12 ms"})
    assert shifted.judge(1, 0.0).arrival == pytest.approx(0.008, abs=2e-5)


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        ({"kind": "schedule", "steps": [["1 s", "1 Mbit/s"]]}, 'steps must begin at "0 s", not at 1 s'),
        (
            {"kind": "schedule", "steps": [["0 s", "1 Mbit/s"], ["0 s", "2 Mbit/s"]]},
            "steps must ascend, but 0 s follows 0 s",
        ),
        ({"kind": "schedule", "steps": []}, "at least 1 item"),
        ({"kind": "schedule", "steps": [["0 s", "1 Mbit"]]}, 'unknown unit "Mbit"'),
        ({"kind": "schedule", "steps": [["0 s", 5]]}, 'needs its unit; write "5 bit/s"'),
        ({"kind": "schedule", "steps": [["0 s", "-1 bit/s"]]}, "the rate must not be negative"),
        ({"kind": "schedule", "steps": [["0 s", "1 bit/s"], ["1 s", "0 bit/s"]]}, "the last rate holds to the end"),
        ({"kind": "schedule", "steps": [["0 s", "1 bit/s"]], "end": "loop"}, 'end="loop" needs at least two steps'),
        ({"kind": "shedule"}, 'unknown rate; did you mean "schedule"'),
        ({**HALVED, "start": "random"}, 'start="random" needs a rate that begins again; add end = "loop"'),
        ({"kind": "mahimahi", "path": "/nowhere"}, "/nowhere: no such file"),
        ("fast", "must be a number and a unit"),
    ],
)
def test_impossible_rates_are_refused(rate: Any, text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        LinkSettings.model_validate({"rate": rate})


@pytest.mark.parametrize(
    ("rows", "change", "text"),
    [
        ("t,r\n0,1\n1,-\n", {}, 'column "r" has no value; .* gaps = "hold"'),
        ("t,r\n-1,1\n", {}, "must not be negative; a trace begins at 0"),
        ("t,r\n0,1\n", {"unit": "kbps/s"}, 'unit="kbps/s" must be one of a rate: bit/s, kbit/s'),
        ("t,r\n0,1\n", {"unit": ""}, "must be one of a rate"),
        ("t,r\n0,-5\n", {}, "must not be negative"),
        ("t,r\n0,1\n", {"format": "pcap"}, "'csv' or '5g-ireland'"),
        ("Timestamp,r\n2020.02.14_09.38.22,1\n", {"format": "5g-ireland", "time": "Timestamp"}, "leave them out"),
    ],
)
def test_impossible_traces_are_refused(tmp_path: Path, rows: str, change: dict[str, str], text: str) -> None:
    (tmp_path / "r.csv").write_text(rows)
    table = {"kind": "trace", "path": str(tmp_path / "r.csv"), "column": "r", "unit": "kbit/s", **change}
    with pytest.raises(ValidationError, match=text):
        LinkSettings.model_validate({"rate": table})


# --- Mahimahi


def mahimahi(folder: Path, *lines: int) -> dict[str, str]:
    path = folder / "trace"
    path.write_text("".join(f"{line}\n" for line in lines))
    return {"kind": "mahimahi", "path": str(path)}


def test_one_line_of_mahimahi_is_twelve_megabits_per_second(tmp_path: Path) -> None:
    made = link(rate=mahimahi(tmp_path, 1), mtu="1500 B")
    assert made.judge(15_000_000, 0.0).arrival == pytest.approx(10.0, abs=2e-5)


def test_opportunities_serve_what_waits_and_are_lost_otherwise(tmp_path: Path) -> None:
    """At 5, 5 and 20 ms, then at 25, 25 and 40 ms, and so on; what leaves at one does so within 10 µs."""
    table = mahimahi(tmp_path, 5, 5, 20)

    def instants(sends: list[tuple[float, int]]) -> list[float]:
        made = link(rate=table)
        return [round(made.judge(size, at).arrival * 1e3, 1) for at, size in sends]

    assert instants([(0.0, 3000), (0.0, 1)]) == [5, 20]
    assert instants([(0.0, 1000), (0.0, 1000), (0.0, 1000), (0.0, 1000)]) == [5, 5, 5, 20]  # parts serve the next one
    assert instants([(0.0, 100), (0.006, 100)]) == [5, 20]  # the rest of 5 ms is lost
    assert instants([(0.006, 1501)]) == [25]
    assert instants([(0.006, 100), (0.021, 3001)]) == [20, 40]
    assert instants([(0.0, 4500 * 1000)]) == [20_000]


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 6000)), min_size=1, max_size=30))
def test_opportunities_against_a_plain_list_of_them(gaps_and_sizes: list[tuple[int, int]]) -> None:
    """Opportunity after opportunity, byte after byte: messages that wait are served in order, the rest is lost."""
    lines, period = [3, 4, 4, 4, 10, 17], 17
    sent = np.cumsum([gap for gap, _ in gaps_and_sizes]) + 0.5  # ms
    left = [size for _, size in gaps_and_sizes]
    arrived: list[int] = []
    for at in (line + k * period for k in range(1000) for line in lines):
        room = 1500
        while room and len(arrived) < len(left) and sent[len(arrived)] < at:
            k = len(arrived)
            room, left[k] = max(room - left[k], 0), max(left[k] - room, 0)
            if left[k] == 0:
                arrived.append(at)
    profile, end = Opportunities(np.array(lines) / 1e3, period / 1e3), 0.0
    for at, (_, size), expected in zip(sent.tolist(), gaps_and_sizes, arrived, strict=True):
        end = profile.end(max(at / 1e3, end), 8.0 * size)
        assert 0 < end * 1e3 - expected < 0.0101


DATA = Path(os.environ.get("P2PL_DATA", "nowhere"), "traces")
real = pytest.mark.skipif(not DATA.is_dir(), reason="needs real traces in $P2PL_DATA/traces")


@real
def test_a_real_mahimahi_trace_has_its_mean_rate() -> None:
    made = link(rate={"kind": "mahimahi", "path": str(DATA / "mahimahi-cellular" / "ATT-LTE-driving-2016.down")})
    assert made.judge(45604 * 1500 * 3, 0.0).arrival == pytest.approx(3 * 120.002, abs=2e-5)


@real
def test_a_real_5g_trace_is_a_rate() -> None:
    path = DATA / "5g-ireland" / "Driving_B_2020.02.14_09.38.22.csv"
    table = {"kind": "trace", "path": str(path), "format": "5g-ireland", "column": "DL_bitrate", "unit": "kbit/s"}
    settings = LinkSettings.model_validate({"rate": {**table, "end": "loop"}})
    rows = pd.read_csv(path, usecols=["Timestamp", "DL_bitrate"]).drop_duplicates("Timestamp", keep="last")
    at = pd.to_datetime(rows["Timestamp"], format="%Y.%m.%d_%H.%M.%S")
    widths = at.diff().shift(-1).dt.total_seconds()
    widths.iloc[-1] = widths.iloc[-2]
    bits, period = float((rows["DL_bitrate"] * 1000 * widths).sum()), float(widths.sum())
    assert settings.mean_rate_bps == pytest.approx(bits / period)
    made = Link(0, 1, settings, 1)
    assert made.judge(int(3 * bits / 8) - 1, 0.0).arrival <= 3 * period
    assert made.judge(10, 0.0).arrival > 3 * period


# --- Losses and latencies

RISING = {"kind": "schedule", "steps": [["0 s", "0 %"], ["10 s", "30 %"], ["20 s", "80 %"]]}


def test_a_loss_that_changes_is_at_each_instant_the_one_of_its_step() -> None:
    made = LOSS.validate_python({"kind": "bernoulli", "p": RISING}).process(1, 0, 1)
    times = np.sort(np.random.default_rng(1).uniform(0, 30, 30_000))
    uniforms = stream(1, "loss").random(len(times))
    p = np.select([times < 10, times < 20], [0.0, 0.3], 0.8)
    assert (made.fates(uniforms, times) == np.where(uniforms < p, CAUSES.index("loss"), 0)).all()
    alone = LOSS.validate_python({"kind": "bernoulli", "p": RISING}).process(1, 0, 1)
    assert [alone.fate(0.5, at) for at in (0.0, 9.9, 10.0, 19.9, 20.0, 500.0)] == ["", "", "", "", "loss", "loss"]
    stretches = [alone.at(at) for at in (0.0, 9.9, 10.0, 25.0)]
    assert [(stretch.value.p, stretch.until) for stretch in stretches] == [(0, 10), (0, 10), (0.3, 20), (0.8, math.inf)]


def test_bursts_that_change_keep_their_weather() -> None:
    """Only how much is lost while bad changes: not when it is bad."""
    steady = {"kind": "gilbert-elliott", "good": "2 s", "bad": "1 s"}
    changing = {
        **steady,
        "loss_bad": {"kind": "schedule", "steps": [["0 s", "100 %"], ["50 s", "40 %"]], "end": "loop"},
    }
    times, uniforms = np.arange(4000) * 0.1, stream(1, "loss").random(4000)
    always = LOSS.validate_python(steady).process(1, 0, 1).fates(uniforms, times) != 0
    found = LOSS.validate_python(changing).process(1, 0, 1).fates(uniforms, times) != 0
    first = times % 100 < 50
    assert (found == np.where(first, always, always & (uniforms < 0.4))).all()
    assert found[~first].any()


def test_chains_that_change_step_with_the_packets_that_are_sent() -> None:
    table = {
        "kind": "gilbert-packets",
        "p": {"kind": "schedule", "steps": [["0 s", "5 %"], ["5 s", "20 %"]]},
        "r": "30 %",
    }
    times, uniforms = np.arange(300) * 0.05, np.zeros(300)
    together = LOSS.validate_python(table).process(1, 0, 1).fates(uniforms, times).tolist()
    made = LOSS.validate_python(table).process(1, 0, 1)
    found: list[Any] = []
    while len(found) < 300:
        at = len(found)
        found += made.fates(uniforms[at : at + 40], times[at : at + 40]).tolist()[:13]
        made.passed(13)
    assert found[:300] == together


def test_a_latency_that_changes_is_drawn_anew_from_the_same_uniforms() -> None:
    steps = [["0 s", "10 ms"], ["1 s", "40 ms"]]
    changing = {"kind": "lognormal", "mean": {"kind": "schedule", "steps": steps, "end": "loop"}, "sd": "5 ms"}
    draw = LATENCY.validate_python(changing).process(stream(1, "latency"))
    slow, fast = (
        LATENCY.validate_python({"kind": "lognormal", "mean": mean, "sd": "5 ms"}).process(stream(1, "latency"))
        for mean in ("40 ms", "10 ms")
    )
    for i in range(60):
        at = i * 0.3
        values = fast(at), slow(at)
        assert draw(at) == pytest.approx(values[0] if at % 2 < 1 else values[1], rel=1e-12)


def test_several_numbers_of_a_table_can_change_together(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("t,low,high\n0,10,20\n5,30,50\n")

    def column(name: str) -> dict[str, str]:
        return {"kind": "trace", "path": str(tmp_path / "d.csv"), "column": name, "unit": "ms"}

    made = LATENCY.validate_python({"kind": "uniform", "low": column("low"), "high": column("high")})
    draw = made.process(stream(1, "latency"))
    values = np.array([draw(at) for at in np.arange(0, 10, 0.01)])
    assert 0.01 <= values[:500].min() < values[:500].max() <= 0.02
    assert 0.03 <= values[500:].min() < values[500:].max() <= 0.05


def test_what_is_impossible_at_one_instant_is_refused_with_it() -> None:
    high = {"kind": "schedule", "steps": [["0 s", "20 ms"], ["3 s", "5 ms"]]}
    with pytest.raises(ValidationError, match="at 3 s: low, 10 ms, must not be above high, 5 ms"):
        LATENCY.validate_python({"kind": "uniform", "low": "10 ms", "high": high})
    with pytest.raises(ValidationError, match="at 20 s: must be a probability"):
        LOSS.validate_python({"kind": "bernoulli", "p": {**RISING, "steps": [["0 s", 0], ["20 s", "120 %"]]}})
    looped = {"kind": "schedule", "steps": [["0 s", "20 ms"], ["3 s", "50 ms"]], "end": "loop"}
    with pytest.raises(ValidationError, match="all numbers of a table that change in time need one period"):
        LATENCY.validate_python({"kind": "lognormal", "mean": looped, "sd": high})
    with pytest.raises(ValidationError, match='unknown number over time; did you mean "schedule"'):
        LOSS.validate_python({"kind": "bernoulli", "p": {"kind": "shedule", "steps": []}})


# --- In scenario files


def test_a_file_can_say_all_this_and_gives_it_back(tmp_path: Path) -> None:
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "r.csv").write_text("t,up\n0,1000\n1,500\n")
    (tmp_path / "part" / "base.toml").write_text(
        '[link]\nrate = { kind = "trace", path = "r.csv", column = "up", unit = "kbit/s" }\n'
        'loss = { kind = "bernoulli", p = { kind = "schedule", steps = [["0 s", "1 %"], ["9 s", "5 %"]] } }\n'
    )
    path = tmp_path / "s.toml"
    path.write_text(
        'extends = "part/base.toml"\n' + REST + "[[link.override]]\nfrom = 0\nto = 1\n"
        'rate = "2 Mbit/s"\nloss.p = "50 %"\n'
        '[[link.override]]\nfrom = 1\nto = 0\nlatency = { kind = "constant", mean = { kind = "schedule", '
        'steps = [["0 s", "1 ms"], ["1 s", "2 ms"]] } }\n'
    )
    loaded = read_scenario(path)
    table = LinkTable(loaded.scenario, loaded.origins)
    assert Link(0, 2, table.settings(0, 2), 1).judge(187_500, 0.0).arrival == pytest.approx(2.0)
    assert table.settings(0, 1) == LinkSettings.model_validate({"rate": "2 Mbit/s", "loss": "50 %"})
    there, back = (Link(*ends, table.settings(*ends), 1).judge(0, 5.0).arrival for ends in ((0, 2), (1, 0)))
    assert (there, back) == (5.0, 5.002)  # a direction of its own
    rules = {key: rule for key, _, rule in table.explain(1, 0)}
    assert (rules["rate.path"], rules["loss.p.steps"]) == ("base.toml", "base.toml")
    assert rules["latency.mean.kind"] == "link.override[1]"
    (tmp_path / "again.toml").write_text(dump(loaded.scenario))
    assert load_scenario(tmp_path / "again.toml").link == loaded.scenario.link


def test_a_mistake_in_a_course_is_a_problem_at_its_place(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text(
        REST + '[link]\nloss = { kind = "bernoulli", p = { kind = "schedule", steps = [["1 s", "5 %"]] } }\n'
    )
    with pytest.raises(ScenarioError) as error:
        load_scenario(path)
    assert [(problem.path, problem.text) for problem in error.value.problems] == [
        ("link.loss.p", 'steps must begin at "0 s", not at 1 s')
    ]


def test_on_shared_air_too_a_rate_can_change(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    course = '{ kind = "schedule", steps = [["0 s", "1 Mbit/s"], ["1 s", "2 Mbit/s"]] }'
    path.write_text(
        REST + f'medium = {{ kind = "ideal" }}\n[link]\nrate = {course}\n[[link.override]]\nfrom = 0\nrate = {course}\n'
    )
    assert getattr(load_scenario(path).link.rate, "kind", None) == "schedule"


def test_the_json_schema_offers_numbers_over_time_wherever_they_are_taken() -> None:
    keys = scenario_schema()["$defs"]["LinkTableSettings"]["properties"]

    def kinds(schema: Any) -> set[str]:
        return {option["properties"]["kind"]["const"] for option in schema["anyOf"] if "properties" in option}

    assert kinds(keys["rate"]) == {"schedule", "trace", "mahimahi"}
    assert any("Mbit/s" in option.get("pattern", "") for option in keys["rate"]["anyOf"])
    tables = {
        option["properties"]["kind"]["const"]: option["properties"]
        for name in ("latency", "loss")
        for option in keys[name]["anyOf"]
        if "const" in option.get("properties", {}).get("kind", {})  # one of your own has a pattern
    }
    for kind, key in (("bernoulli", "p"), ("gilbert-elliott", "bad"), ("lognormal", "mean"), ("constant", "base")):
        assert kinds(tables[kind][key]) == {"schedule", "trace"}
