"""Energy and batteries: sums by hand, states that add up to the run, and what an empty battery does."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from helpers.small_worlds import small, trace_of
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from p2pl_async.clock import VirtualClock
from p2pl_async.experiment import running as experiment
from p2pl_async.hardware.downtime import BATTERY, CRASHED, Downtime
from p2pl_async.hardware.energy import PRESETS, STATES, Energy
from p2pl_async.hardware.hardware import Hardware
from p2pl_async.hardware.meter import Ledger, Meter
from p2pl_async.report.plots import write_plots
from p2pl_async.report.tables import final_table
from p2pl_async.results.run import load_run
from p2pl_async.scenario.building.world import build_world
from p2pl_async.scenario.reading.load import dump, load_scenario

RADIO = {"voltage": "3 V", "tx": "20 mA", "rx": "10 mA", "idle": "5 mA", "sleep": "1 mA"}


def settings(**changes) -> Energy:
    return Energy.model_validate({**RADIO, **changes})


def states(ledger: Ledger) -> dict[str, float]:
    return {state: ledger.seconds[state] for state in STATES}


# One device


def test_energy_is_the_sum_by_hand() -> None:
    """3 V x (20 mA x 2 s + 10 mA x 3 s + 5 mA x 4 s + 1 mA x 1 s) + 0.5 W x 6 s."""
    off = Downtime({CRASHED: [(10.0, 12.0)]})
    ledger = Ledger(settings(cpu="500 mW"), off.between, lambda a, b: np.array([[max(a, 9.0), min(b, 10.0)]]))
    ledger.note("tx", 0.0, 2.0)
    ledger.note("rx", 1.0, 3.0)  # a second of it while transmitting: once, as transmitting
    ledger.note("rx", 2.5, 5.0)
    ledger.note("tx", 11.0, 11.5)  # while off: not at all
    ledger.note("cpu", 3.0, 9.0)
    ledger.note("cpu", 10.5, 11.0)
    ledger.settle(12.0)
    assert states(ledger) == pytest.approx({"off": 2, "tx": 2, "sleep": 1, "rx": 3, "idle": 4})
    joules = ledger.joules()
    assert joules == pytest.approx({"tx": 0.12, "rx": 0.09, "idle": 0.06, "sleep": 0.003, "cpu": 3.0})
    assert sum(joules.values()) == pytest.approx(3 * (0.020 * 2 + 0.010 * 3 + 0.005 * 4 + 0.001 * 1) + 0.5 * 6)


def test_a_power_is_a_current_and_a_charge_an_energy_at_the_voltage() -> None:
    """A coin cell of 225 mAh at 3 V holds 2430 J; 52.2 mW are 17.4 mA."""
    found = settings(tx="52.2 mW", rx="56400 uW", sleep="3 uW", battery="225 mAh")
    assert (found.tx, found.rx, found.idle, found.sleep) == pytest.approx((0.0174, 0.0188, 0.005, 1e-6))
    assert found.battery == pytest.approx(2430)
    assert Energy.model_validate({"preset": "cc2420", "battery": "1 Ah"}).battery == pytest.approx(3 * 3600)
    assert Energy.model_validate(found.model_dump(mode="json")) == found


def test_a_device_draws_the_same_whether_its_table_says_currents_or_powers() -> None:
    ledgers = [Ledger(settings(**more), None, None) for more in ({}, {"tx": "60 mW", "rx": "30 mW", "idle": "15 mW"})]
    for ledger in ledgers:
        ledger.note("tx", 0.0, 2.0)
        ledger.note("rx", 3.0, 4.0)
        ledger.settle(12.0)
    assert ledgers[0].joules() == pytest.approx(ledgers[1].joules())


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"tx": "52 mW"}, "voltage"),
        ({**RADIO, "tx": "-52 mW"}, "at least 0 A"),
        ({**RADIO, "battery": "0 mAh"}, "above 0 J"),
        ({**RADIO, "battery": "225 mA"}, "mAh|J"),
    ],
)
def test_powers_and_charges_that_make_no_sense_are_refused(table: dict[str, str], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Energy.model_validate(table)


INTERVALS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 15)), max_size=8)


@given(INTERVALS, INTERVALS, INTERVALS, INTERVALS, st.lists(st.integers(1, 60), max_size=5))
def test_the_states_add_up_to_the_run_however_often_it_is_settled(tx, rx, asleep, off, looks) -> None:
    """Against a count of the seconds, one by one; each is told before it begins, as links do."""
    covers = {
        name: [any(s <= t < s + length for s, length in parts) for t in range(60)]
        for name, parts in {"off": off, "tx": tx, "sleep": asleep, "rx": rx}.items()
    }
    expected = dict.fromkeys(STATES, 0)
    for t in range(60):
        expected[next((name for name in ("off", "tx", "sleep", "rx") if covers[name][t]), "idle")] += 1

    def between(parts):
        def cut(start, end):
            return np.array(
                [(max(s, start), min(s + length, end)) for s, length in parts if s < end and s + length > start], float
            ).reshape(-1, 2)

        return cut

    ledger = Ledger(settings(), between(off), between(asleep))
    told = sorted([(s, length, "tx") for s, length in tx] + [(s, length, "rx") for s, length in rx])
    for now in sorted({*looks, 60}):
        for s, length, state in [each for each in told if each[0] < now]:
            ledger.note(state, float(s), float(s + length))
        told = [each for each in told if each[0] >= now]
        ledger.settle(float(now))
        assert sum(ledger.seconds.values()) == pytest.approx(now, abs=1e-12)
    assert states(ledger) == pytest.approx(expected)


def test_what_a_crash_cuts_short_costs_nothing_more() -> None:
    ledger = Ledger(settings(cpu="1 W"), Downtime({CRASHED: [(4.0, 5.0)]}).between, None)
    ledger.note("cpu", 0.0, 10.0)
    ledger.note("tx", 3.0, 8.0)
    ledger.note("tx", 8.0, 9.0)
    ledger.crash(4.0)
    ledger.settle(20.0)
    assert ledger.cpu_seconds == 4
    assert ledger.seconds["tx"] == 1


def test_an_empty_battery_is_found_when_it_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """15 mW idle, 60 mW for 2 s: 1 J is used up at 2 + (1 - 0.12) / 0.015 s; sleep makes it last."""
    for asleep, expected in ((None, 2 + (1 - 0.12) / 0.015), (lambda a, b: np.array([[max(a, 2.0), b]]), None)):
        clock = VirtualClock()
        meter = Meter([Hardware(energy=settings(battery="1 J"), asleep=asleep)], clock)
        meter.watch(lambda device: None)
        meter.transmitting(0, 0.0, 2.0)
        clock.persists = lambda: not meter.died  # noqa: B023
        monkeypatch.setattr(clock, "stop", lambda reason=None: None)
        while not meter.died:
            clock.deadline_to_sleep_time(math.inf)
        if expected is None:
            expected = 2 + (1 - 0.12) / 0.003
        assert meter.died[0] == pytest.approx(expected, rel=1e-6)
        assert meter.joules() == pytest.approx(1, rel=1e-8)


@pytest.mark.parametrize(
    ("table", "match"),
    [
        ({"voltage": "3 V"}, "tx\n"),
        ({**RADIO, "voltage": "3 mA"}, 'unknown unit "mA"'),
        ({"preset": "nrf9160"}, "rx\n"),  # its source doesn't say
        ({"preset": "nrf52"}, "nrf52840"),
        ({**dict.fromkeys(RADIO, "0 mA"), "voltage": "3 V", "battery": "1 J"}, "battery never runs out"),
    ],
)
def test_bad_tables_are_told(table, match) -> None:
    with pytest.raises(ValidationError, match=match):
        Energy.model_validate(table)


def test_presets_are_those_of_their_data_sheets() -> None:
    values = {
        name: (one.voltage, one.tx, one.rx, one.idle, one.sleep)
        for name in PRESETS
        for one in [Energy.model_validate({"rx": "1 A", "preset": name} if name == "nrf9160" else {"preset": name})]
    }
    assert values == {
        "nrf52840": (3.0, 0.0048, 0.0046, 0.0046, 1.5e-6),
        "cc2420": (3.0, 0.0174, 0.0188, 0.0188, 1e-6),
        "esp32-s2": (3.3, 0.135, 0.063, 0.063, 550e-6),
        "sx1276": (3.3, 0.029, 0.011, 0.0016, 0.2e-6),
        "nrf9160": (3.7, 0.1075, 1.0, 18e-6, 2.7e-6),
    }
    louder = Energy.model_validate({"preset": "sx1276", "tx": "120 mA"})
    assert (louder.tx, louder.rx) == (0.12, 0.011)


# Whole runs


def measured(**changes):
    base = {"energy": RADIO, "link": {"rate": "200 kbit/s", "loss": "10 %"}, "protocol": {"sync": "none"}}
    return small(**{**base, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"churn": {"up": "3 s", "down": "500 ms"}, "stop": {"rounds": 12}},
        {"link": {"rate": "200 kbit/s", "outage": {"kind": "duty-cycle", "awake": "300 ms", "period": "1 s"}}},
        {"medium": {"kind": "csma-ca"}, "link": {"rate": "200 kbit/s", "mtu": "500 B"}, "stop": {"rounds": 2}},
        {"devices": {"group": {"late": {"ids": 2, "join": "2 s"}, "short": {"ids": 4, "leave": "2 s"}}}},
    ],
    ids=["plain", "churn", "duty cycle", "shared medium", "join and leave"],
)
def test_times_of_states_add_up_to_the_run_on_every_device(changes) -> None:
    result = experiment.run(measured(**changes))
    devices, end = result.devices, result.summary["virtual_seconds"]
    times = devices[[f"{state}_s" for state in STATES]]
    assert (times >= -1e-9).all().all()
    assert times.sum(axis=1).to_numpy() == pytest.approx(end, abs=1e-9)
    by_hand = 3 * times.to_numpy() @ [0, 0.020, 0.001, 0.010, 0.005]
    assert devices["energy_j"].to_numpy() == pytest.approx(by_hand)
    assert result.summary["energy"]["joules"] == pytest.approx(by_hand.sum())
    assert (devices["tx_s"] > 0).all()
    assert (devices["rx_s"] > 0).any()
    curve = result.metrics.query("metric == 'energy_j'")["value"].to_numpy()
    assert (np.diff(curve) >= 0).all()
    assert curve[-1] == pytest.approx(by_hand.sum())
    if "churn" in changes or "devices" in changes:
        assert devices["off_s"].max() > 0.3
    assert (devices["sleep_s"].min() > 0.2) == ("outage" in changes.get("link", {}))


def test_time_in_the_air_is_transmitting_time_where_nothing_overlaps() -> None:
    """One link: the sender's transmitting time, and the receiver's receiving time, are the time on air."""
    topology = {"kind": "path"}
    scenario = measured(devices={"count": 2}, topology=topology, link={"rate": "200 kbit/s"})
    result = experiment.run(scenario, trace=True)
    trace, end = trace_of(result), result.summary["virtual_seconds"]
    on_air = (trace["sent_s"] + trace["air_s"]).clip(upper=end) - trace["sent_s"]  # the end cuts the last one off
    assert result.devices["tx_s"].to_numpy() == pytest.approx(on_air.groupby(trace["src"]).sum().to_numpy())
    air = result.metrics.query("metric == 'seconds_on_air'")["value"].iloc[-1]
    assert 0.9 * air > result.devices["tx_s"].sum() > 0.5 * air


def test_energy_without_a_rate_is_a_warning() -> None:
    def warned(**changes) -> bool:
        return any("links have no rate" in text for text in build_world(small(**changes)).warnings)

    assert warned(energy=RADIO)
    assert not warned(energy=RADIO, link={"rate": "1 Mbit/s"})
    assert not warned()


def test_training_takes_the_processors_power() -> None:
    result = experiment.run(measured(energy={**RADIO, "cpu": "2 W"}, protocol={"kind": "local"}, stop={"rounds": 3}))
    end = result.summary["virtual_seconds"]
    assert result.devices["training_s"].max() == pytest.approx(end)  # the slowest does nothing else
    assert result.devices["training_j"].to_numpy() == pytest.approx(2 * result.devices["training_s"].to_numpy())
    assert result.devices["idle_s"].to_numpy() == pytest.approx(end)


def test_measuring_energy_changes_nothing() -> None:
    plain = experiment.run(small(link={"rate": "200 kbit/s"})).summary
    watched = experiment.run(small(link={"rate": "200 kbit/s"}, energy=RADIO)).summary
    assert plain["energy"] is None
    assert watched["energy"]["joules"] > 0
    for key in ("trace_digest", "params_digest", "virtual_seconds"):
        assert plain[key] == watched[key]


def test_a_device_whose_battery_is_empty_is_gone_and_its_messages_are_ledgered_for() -> None:
    """Idle draws 15 mW: 60 mJ last less than 4 s."""
    scenario = measured(
        devices={"group": {"weak": {"ids": [1, 2], "energy": {**RADIO, "battery": "60 mJ"}}}},
        link={"rate": "40 kbit/s", "latency": "300 ms"},
        stop={"rounds": 15},
    )
    result = experiment.run(scenario, trace=True)
    devices, messages = result.devices, result.summary["messages"]
    empty = devices["battery_empty_s"]
    assert empty.notna().tolist() == [False, True, True, False, False]
    assert ((empty[[1, 2]] > 1) & (empty[[1, 2]] < 4)).all()
    assert devices["energy_j"][[1, 2]].to_numpy() == pytest.approx(0.06, rel=1e-6)
    assert result.summary["energy"]["batteries_empty"] == 2
    assert result.summary["stopped_by"] == "rounds"
    assert devices["rounds"][[0, 3, 4]].min() == 15
    assert messages["lost"][BATTERY] > 0
    assert messages["sent"] == messages["delivered"] + sum(messages["lost"].values()) + messages["in_flight"]
    fates = trace_of(result).groupby("fate", observed=True).size()
    assert fates[BATTERY] == messages["lost"][BATTERY]
    late = trace_of(result)[(trace_of(result)["sent_s"] > empty[1]) & (trace_of(result)["dst"] == 1)]
    assert set(late["fate"]) == {BATTERY}
    assert not (trace_of(result)[trace_of(result)["src"] == 1]["sent_s"] > empty[1]).any()
    again = experiment.run(scenario, trace=True)
    assert again.summary["trace_digest"] == result.summary["trace_digest"]
    assert again.devices.equals(devices)


def test_where_all_batteries_run_empty_the_last_models_are_the_result() -> None:
    result = experiment.run(measured(energy={**RADIO, "battery": "150 mJ"}, stop={"rounds": 10_000}))
    assert result.summary["stopped_by"] == "every device is gone"
    assert result.summary["energy"]["batteries_empty"] == len(result.devices)
    assert result.devices["rounds"].min() >= 1
    assert result.summary["accuracy"]["min"] == result.devices["accuracy"].min() > 0.1


def test_energy_is_in_the_results_tables_and_plots(tmp_path) -> None:
    scenario = measured(evaluate={"every": "500 ms"}, baselines={"local": True}, stop={"accuracy": "10 %"})
    result = experiment.run(scenario, out=tmp_path)
    target = result.summary["target"]
    assert target["reached"]
    assert 0 < target["energy_j"] <= result.summary["energy"]["joules"]
    read = load_run(tmp_path)
    names = {path.stem for path in write_plots(read)}
    assert {"accuracy_energy", "accuracy_air"} <= names
    from rich.console import Console

    shown = io.StringIO()
    console = Console(width=100, file=shown)
    console.print(final_table(read))
    text = shown.getvalue()
    assert "per device" in text
    assert "listening" in text
    assert (tmp_path / "scenario.toml").read_text() == dump(load_scenario(tmp_path / "scenario.toml"))
