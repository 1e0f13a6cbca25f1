"""Links that come and go, and radios that sleep, against closed forms.

Tolerances are 5 standard errors, from closed forms where samples are independent, else from the
spread between 100 batches.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from p2pl_async.link import AnyOutage, Link, LinkSettings, Outage

ANY: TypeAdapter[Outage] = TypeAdapter(AnyOutage)

ON_OFF = {"kind": "on-off", "up": "3 s", "down": "1 s"}
SLOTTED = {"kind": "slotted", "p": "30 %", "slot": "500 ms"}
UP_DOWN: list[tuple[Any, Any]] = [
    ("3 s", "1 s"),
    ({"kind": "constant", "mean": "3 s"}, {"kind": "uniform", "low": "500 ms", "high": "1500 ms"}),
    ({"kind": "weibull", "mean": "3 s", "shape": 0.7}, {"kind": "lognormal", "mean": "1 s", "sd": "2 s"}),
    (
        {"kind": "gamma", "mean": "3 s", "sd": "1 s"},
        {"kind": "pareto", "least": "500 ms", "alpha": 2.5, "most": "20 s"},
    ),
]


def process(table: Any, src: int = 0, dst: int = 1, seed: int = 1) -> Any:
    made = ANY.validate_python(table).process(seed, src, dst)
    assert made is not None
    return made


def batched(values: Any, expected: float) -> Any:
    means = values[: len(values) // 100 * 100].reshape(100, -1).mean(axis=1)
    return pytest.approx(expected, abs=5 * means.std() / 10)


def mean_down(down: Any) -> float:
    if down == "1 s" or "mean" in down:
        return 1.0
    if down["kind"] == "uniform":
        return 1.0
    a, ratio = 2.5, 0.5 / 20
    return a * 0.5 / (a - 1) * (1 - ratio ** (a - 1)) / (1 - ratio**a)


# --- On and off


@pytest.mark.parametrize(("up", "down"), UP_DOWN)
def test_availability_is_the_share_of_the_mean_stays(up: Any, down: Any) -> None:
    off = mean_down(down)
    found = process({"kind": "on-off", "up": up, "down": down}).states(np.arange(0.0, 200_000.0, 2.0))
    assert (~found).mean() == batched(~found, 3 / (3 + off))


@pytest.mark.parametrize(("up", "down"), UP_DOWN)
def test_it_starts_stationary(up: Any, down: Any) -> None:
    """At 0 s, and a little later, as likely down as ever: else early rounds would be better than late ones."""
    share = mean_down(down) / (3 + mean_down(down))
    found = [process({"kind": "on-off", "up": up, "down": down}, seed=seed) for seed in range(3000)]
    for at in (0.0, 0.7, 2.9):
        assert np.mean([weather.at(at).value for weather in found]) == pytest.approx(
            share, abs=5 * math.sqrt(share * (1 - share) / 3000)
        )


def test_the_residual_wait_of_exponential_stays() -> None:
    """Somebody who comes at any moment waits (1 - A) Toff."""
    weather = process({"kind": "on-off", "up": "3 s", "down": "1 s"})
    arrivals = np.arange(0.0, 200_000.0, 10.0)
    waits = np.array([weather.at(at).until - at if weather.at(at).value else 0.0 for at in arrivals.tolist()])
    assert waits.mean() == batched(waits, 0.25 * 1.0)


def test_the_residual_wait_of_other_stays_is_that_of_the_inspection_paradox() -> None:
    """(1 - A) E[D^2] / (2 E[D]); of constant stays it is half of the exponential one."""
    weather = process(
        {
            "kind": "on-off",
            "up": {"kind": "uniform", "low": "2 s", "high": "4 s"},
            "down": {"kind": "constant", "mean": "1 s"},
        }
    )
    arrivals = np.arange(0.0, 200_000.0, 10.3)
    waits = np.array([weather.at(at).until - at if weather.at(at).value else 0.0 for at in arrivals.tolist()])
    assert waits.mean() == batched(waits, 0.25 * 0.5)


def test_stays_have_their_distribution() -> None:
    weather = process({"kind": "on-off", "up": {"kind": "uniform", "low": "2 s", "high": "4 s"}, "down": "1 s"})
    now, ups = 0.0, []
    for _ in range(4000):
        begun = now
        state, now = weather.at(begun)
        if state == 0:
            ups.append(now - begun)
    stays = np.sort(ups[1:])
    distance = np.abs((stays - 2) / 2 - (np.arange(len(stays)) + 0.5) / len(stays)).max()
    assert distance < 1.63 / math.sqrt(len(stays)) + 1 / len(stays)


# --- Who is down together

LINKS = [(0, 1), (1, 0), (0, 2), (3, 1), (2, 3)]
TIMES = np.arange(0.0, 2000.0, 3.0)


@pytest.mark.parametrize(
    ("of", "together"),
    [
        ("link", []),
        ("pair", [{(0, 1), (1, 0)}]),
        ("sender", [{(0, 1), (0, 2)}]),
        ("receiver", [{(0, 1), (3, 1)}]),
        ("basement", [set(LINKS)]),
    ],
)
@pytest.mark.parametrize(
    "table", [{"kind": "on-off", "up": "3 s", "down": "1 s"}, {"kind": "slotted", "p": 0.3, "slot": "5 s"}]
)
def test_who_is_down_together(table: Any, of: str, together: list[set[tuple[int, int]]]) -> None:
    found = {link: tuple(process({**table, "of": of}, *link).states(TIMES)) for link in LINKS}
    for a in LINKS:
        for b in LINKS:
            same = a == b or any({a, b} <= group for group in together)
            assert (found[a] == found[b]) == same


def test_names_have_fates_of_their_own() -> None:
    table = {"kind": "on-off", "up": "3 s", "down": "1 s"}
    assert (process({**table, "of": "east"}).states(TIMES) != process({**table, "of": "west"}).states(TIMES)).any()


def test_a_device_that_is_down_takes_all_its_links_with_it() -> None:
    """A link is up while both its ends are: A^2 of the time; and both directions go together."""
    table = {"kind": "on-off", "up": "3 s", "down": "1 s", "of": "device"}
    times = np.arange(0.0, 200_000.0, 10.0)
    there, back, next_door = (process(table, *link).states(times) for link in ((0, 1), (1, 0), (0, 2)))
    assert (there == back).all()
    assert (~there).mean() == pytest.approx(9 / 16, abs=5 * math.sqrt(63 / 256 / len(times)))
    # Links that share one device: both up if all three devices are.
    assert (~there & ~next_door).mean() == pytest.approx(27 / 64, abs=5 * math.sqrt(0.25 / len(times)))


@given(
    gaps=st.lists(st.floats(0, 4), min_size=1, max_size=40),
    of=st.sampled_from(["link", "device"]),
    kind=st.sampled_from(["renewal", "duty"]),
)
def test_one_by_one_and_in_vectors_give_the_same_states(gaps: list[float], of: str, kind: str) -> None:
    on_off = {"kind": "on-off", "up": {"kind": "uniform", "low": "1 s", "high": "2 s"}, "down": "1 s", "of": of}
    duty = {"kind": "duty-cycle", "awake": "300 ms", "period": "1 s", "of": "device" if of == "device" else "receiver"}
    table = on_off if kind == "renewal" else duty
    times = np.cumsum(gaps)
    alone, asked = process(table), []
    for at in times.tolist():
        state, until = alone.at(at)
        asked.append(state)
        assert state == 1 or until > at
    assert process(table).states(times).astype(int).tolist() == asked
    ends = times + 0.2
    touched = process(table).touched(times, ends)
    fine = times[:, None] + np.linspace(0, 0.2, 41)[:-1]
    order = np.argsort(fine.ravel(), kind="stable")
    states = np.empty(fine.size, bool)
    states[order] = process(table).states(fine.ravel()[order])
    assert (touched >= states.reshape(fine.shape).any(axis=1)).all()


# --- Radios that sleep


def waits(weather: Any, arrivals: Any) -> Any:
    found = []
    for at in arrivals.tolist():
        now = at
        while weather.at(now).value:
            now = weather.at(now).until
        found.append(now - at)
    return np.array(found)


def test_the_wait_for_a_radio_that_sleeps() -> None:
    """Awake w of every T: (T - w)^2 / (2 T); 0.32 s for T = 1 s, w = 0.2 s. Phases are drawn: 300 radios."""
    table = {"kind": "duty-cycle", "awake": "200 ms", "period": "1 s"}
    arrivals = np.arange(0.0, 100.0, 1.037)
    found = np.concatenate([waits(process(table, 500, device), arrivals) for device in range(300)])
    assert found.mean() == batched(found, 0.32)


def test_two_radios_that_know_nothing_of_each_other() -> None:
    """Mean time awake together per period w^2 / T, and P(any) = 2 w / T for w <= T / 2."""
    table = {"kind": "duty-cycle", "awake": "200 ms", "period": "1 s", "of": "device"}
    fine = np.arange(0.0, 1.0, 0.0005)
    together = np.array([(~process(table, 2 * k, 2 * k + 1).states(fine)).mean() for k in range(2000)])
    assert together.mean() == pytest.approx(0.04, abs=5 * together.std() / math.sqrt(2000))
    assert (together > 0).mean() == pytest.approx(0.4, abs=5 * math.sqrt(0.24 / 2000) + 0.002)


def test_a_given_phase_is_kept_and_a_drawn_one_belongs_to_the_device() -> None:
    given = process({"kind": "duty-cycle", "awake": "200 ms", "period": "1 s", "phase": "900 ms"})
    states = [given.at(at).value for at in (0.0, 0.05, 0.15, 0.85, 0.95, 1.05, 1.15)]
    assert states == [0, 0, 1, 1, 0, 0, 1]
    table = {"kind": "duty-cycle", "awake": "200 ms", "period": "1 s"}
    fine = np.arange(0.0, 3.0, 0.01)
    assert (process(table, 0, 5).states(fine) == process(table, 9, 5).states(fine)).all()
    assert (process(table, 0, 5).states(fine) != process(table, 0, 6).states(fine)).any()
    sends = {**table, "of": "sender"}
    assert (process(sends, 5, 0).states(fine) == process(table, 0, 5).states(fine)).all()


# --- Plans


def ups(weather: Any, until: float) -> list[tuple[float, float]]:
    """Return the intervals in which it is up."""
    now, found = 0.0, []
    while now < until:
        state, end = weather.at(now)
        if state == 0:
            found.append((now, end))
        now = end
    return found


def test_a_plan_is_kept_to_the_instant() -> None:
    plan = process({"kind": "contacts", "up": [["10 s", "20 s"], ["60 s", "70 s"]]})
    assert ups(plan, 1e6) == [(10.0, 20.0), (60.0, 70.0)]
    assert plan.at(1e9) == (1, math.inf)


def test_a_plan_can_begin_again() -> None:
    plan = process({"kind": "contacts", "up": [["10 s", "20 s"]], "period": "60 s"})
    assert ups(plan, 190.0) == [(10.0, 20.0), (70.0, 80.0), (130.0, 140.0)]
    far = process({"kind": "contacts", "up": [["10 s", "20 s"]], "period": "60 s"})
    assert [far.at(6e6 + at).value for at in (9.9, 10.1, 19.9, 20.1)] == [1, 0, 0, 1]


def test_contacts_that_touch_are_one_also_over_the_end_of_the_period() -> None:
    """What is on the air at such a moment isn't cut."""
    table = {"kind": "contacts", "up": [["0 s", "5 s"], ["5 s", "10 s"], ["60 s", "70 s"]], "period": "70 s"}
    assert ups(process(table), 200.0) == [(0.0, 10.0), (60.0, 80.0), (130.0, 150.0)]
    assert not process(table).touched(np.array([69.0]), np.array([71.0])).any()
    always = ANY.validate_python({"kind": "contacts", "up": [["0 s", "70 s"]], "period": "70 s"})
    assert always.process(1, 0, 1) is None


def test_a_file_has_the_plans_of_many_links(tmp_path: Path) -> None:
    (tmp_path / "all.csv").write_text("start,end\n100,2000\n3000,4000\n")
    every = {"kind": "contacts", "path": str(tmp_path / "all.csv"), "unit": "ms"}
    assert ups(process(every, 3, 4), 100.0) == [(0.1, 2.0), (3.0, 4.0)]
    (tmp_path / "links.csv").write_text("src,dst,start,end\n0,1,1,2\n1,0,5,6\n0,1,3,4\n")
    each = {"kind": "contacts", "path": str(tmp_path / "links.csv")}
    assert ups(process(each, 0, 1), 100.0) == [(1.0, 2.0), (3.0, 4.0)]
    assert ups(process(each, 1, 0), 100.0) == [(5.0, 6.0)]
    assert ups(process(each, 0, 2), 100.0) == []


# --- Drop or hold

PASSES = {"kind": "contacts", "up": [["10 s", "20 s"], ["60 s", "70 s"]]}


def link(when_off: str, **table: Any) -> Link:
    return Link(0, 1, LinkSettings.model_validate({"outage": {**PASSES, "when_off": when_off}, **table}), 1)


def test_what_is_sent_while_the_link_is_down_is_dropped_or_waits() -> None:
    dropping, holding = (link(when_off, rate="8 kbit/s", latency="100 ms") for when_off in ("drop", "hold"))
    sends = [(0.0, 1000), (1.0, 1000), (12.5, 1000), (30.0, 500), (65.0, 500), (80.0, 500)]
    assert [dropping.judge(size, at).cause for at, size in sends] == ["outage", "outage", "", "outage", "", "outage"]
    verdicts = [holding.judge(size, at) for at, size in sends]
    assert [verdict.cause for verdict in verdicts] == ["", "", "", "", "", "outage"]  # the last pass is over
    assert [verdict.arrival for verdict in verdicts[:5]] == pytest.approx([11.1, 12.1, 13.6, 60.6, 65.6])


def test_what_is_on_the_air_when_the_link_goes_down_is_lost_all_the_same() -> None:
    for when_off in ("drop", "hold"):
        made = link(when_off, rate="8 kbit/s")
        assert made.judge(2000, 19.0).cause == "outage"
        assert made.judge(999, 19.0).cause == ("" if when_off == "hold" else "outage")


def test_fragments_wait_for_the_next_pass_each_on_its_own() -> None:
    """15 fragments of 1 s: those from 10 s to 20 s, then those from 60 s on; with retries nothing is lost."""
    made = link("hold", rate="8 kbit/s", mtu="1000 B", arq={"retries": 1})
    verdict = made.judge(15_000, 10.0)
    assert (verdict.cause, verdict.packets, verdict.arrival) == ("", 15, pytest.approx(65.0))
    late = link("hold", rate="8 kbit/s", mtu="1000 B", arq={"retries": 1}).judge(4_000, 17.5)
    # The third is cut off at 20 s and sent again at 60 s.
    assert (late.cause, late.packets, late.packets_lost, late.arrival) == ("", 5, 1, pytest.approx(62.0))


def test_what_waits_fills_the_queue() -> None:
    made = link("hold", rate="8 kbit/s", queue={"messages": 2})
    assert [made.judge(100, at).cause for at in (0.0, 1.0, 2.0, 3.0)] == ["", "", "queue", "queue"]
    assert made.judge(100, 10.15).cause == ""


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({**SLOTTED, "p": 3}, "for 3 percent"),
        ({**SLOTTED, "slot": "0 s"}, "must be above 0 s"),
        ({"kind": "on-of", "up": "1 s", "down": "1 s"}, 'did you mean "on-off"'),
        ({**ON_OFF, "of": "a b"}, 'must be "link", "pair"'),
        ({"kind": "on-off", "up": "0 s", "down": "1 s"}, "must be above 0 s"),
        ({"kind": "on-off", "up": {"kind": "gama", "mean": "1 s"}, "down": "1 s"}, 'did you mean "gamma"'),
        ({"kind": "duty-cycle", "awake": "1 s", "period": "1 s"}, "awake, 1 s, must be shorter than period, 1 s"),
        ({"kind": "contacts"}, "needs exactly one of up"),
        ({"kind": "contacts", "up": []}, "must have a contact"),
        ({"kind": "contacts", "up": [["5 s", "5 s"]]}, "must end after it begins"),
        ({"kind": "contacts", "up": [["5 s", "8 s"], ["7 s", "9 s"]]}, "must ascend and not overlap"),
        ({"kind": "contacts", "up": [["5 s", "8 s"]], "period": "7 s"}, "split one that goes on into the next period"),
        ({"kind": "contacts", "path": "/nowhere.csv"}, "/nowhere.csv: no such file"),
    ],
)
def test_impossible_outages_are_refused(table: Any, text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        ANY.validate_python(table)


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ("start,end\n-1,2\n", "must not begin before 0 s"),
        ("start,stop\n1,2\n", 'no column "end"; columns: start, stop'),
        ("start,end\n1,\n", 'line 2: column "end" has no value'),
        ("src,start,end\n0,1,2\n", 'no column "dst"'),
        ("src,dst,start,end\n0,1,3,4\n0,1,1,2\n", "of link 0 -> 1 must ascend"),
    ],
)
def test_impossible_files_are_refused(tmp_path: Path, rows: str, text: str) -> None:
    (tmp_path / "x.csv").write_text(rows)
    with pytest.raises(ValidationError, match=text):
        ANY.validate_python({"kind": "contacts", "path": str(tmp_path / "x.csv")})


INSTANTS = np.arange(0.0, 200_000.0, 10.0)


def test_no_outage_is_the_short_form_of_always_up() -> None:
    assert ANY.validate_python("none").process(1, 0, 1) is None


@pytest.mark.parametrize(("table", "share"), [(ON_OFF, 0.25), (SLOTTED, 0.3)])
def test_share_of_time_down(table: Any, share: float) -> None:
    down = process(table).states(INSTANTS)
    assert down.mean() == pytest.approx(share, abs=5 * math.sqrt(share * (1 - share) / len(INSTANTS)))


def test_slots_begin_at_whole_multiples() -> None:
    link = process(SLOTTED)
    now = 0.0
    for _ in range(100):
        now = link.at(now).until
        assert now == round(now / 0.5) * 0.5


@pytest.mark.parametrize(("row", "text"), [
    ("0,5,0.6,1", "has a contact of device 0.6; ids are whole numbers"),
    ("0,5,0,7", "has contacts of device 7; ids are 0 to 4"),
])  # fmt: skip
def test_contacts_of_devices_that_are_not_there_are_refused(tmp_path: Path, row: str, text: str) -> None:
    from helpers.small_worlds import small

    path = tmp_path / "contacts.csv"
    path.write_text(f"start,end,src,dst\n{row}\n")
    with pytest.raises(ValidationError, match=text):
        small(link={"outage": {"kind": "contacts", "path": str(path)}})
    with pytest.raises(ValidationError, match=text):
        small(link={"override": [{"from": 0, "outage": {"kind": "contacts", "path": str(path)}}]})


@pytest.mark.parametrize("arq", ["none", {"retries": 0}, {"kind": "go-back-n", "retries": 2, "window": 3}])
@pytest.mark.parametrize("needed", [None, 0], ids=["whole", "in parts"])
@given(ms=st.integers(0, 9_999), packets=st.integers(1, 9), size=st.sampled_from([87, 100, 113]))
def test_packets_that_exactly_fill_the_time_awake_lose_none(
    arq: Any, needed: int | None, ms: int, packets: int, size: int
) -> None:
    """Instants are sums, which round: what ends as a radio falls asleep gets through, what would begin then waits."""
    awake = f"{packets * size} ms"
    outage = {"kind": "duty-cycle", "awake": awake, "period": "10 s", "phase": f"{ms} ms", "when_off": "hold"}
    link = Link(
        0, 1, LinkSettings.model_validate({"rate": "8 kbit/s", "mtu": f"{size} B", "arq": arq, "outage": outage}), 1
    )
    rounds, rest = 7, packets
    verdict = link.judge(rounds * packets * size, (ms - 1) / 1000 if ms else 0.0, needed)
    assert (verdict.packets_lost, verdict.cause) == (0, "")
    assert verdict.arrival == pytest.approx(ms / 1000 + (rounds - 1) * 10 + rest * size / 1000, abs=1e-6)


def test_packets_that_begin_as_a_link_comes_up_or_end_as_it_goes_down_arrive() -> None:
    """0.1 s + 0.2 s is not 0.3 s, but as good as that; 2 ns are a difference."""
    plan = {"kind": "contacts", "up": [["300 ms", "600 ms"]]}
    for rate in ("8 kbit/s", {"kind": "schedule", "steps": [["0 s", "8 kbit/s"]]}):
        for at, size, cause in ((0.1 + 0.2, 300, ""), (0.3 - 1e-10, 300, ""), (0.3 - 2e-9, 300, "outage"),
                                (0.3 + 2e-9, 300, "outage")):  # fmt: skip
            link = Link(0, 1, LinkSettings.model_validate({"rate": rate, "outage": plan}), 1)
            assert link.judge(size, at).cause == cause, (rate, at)
            parts = Link(0, 1, LinkSettings.model_validate({"rate": rate, "mtu": "3 B", "outage": plan}), 1)
            assert parts.judge(size, at).cause == cause, (rate, at)
