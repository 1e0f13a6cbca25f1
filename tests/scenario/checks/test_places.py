"""Scenarios with radios: positions, overrides, neighbors in range, losses that follow movement, and what can't be."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.small_worlds import merged, trace_of
from helpers.speakers import Speakers
from pydantic import ValidationError

from p2pl_async.errors import ScenarioError
from p2pl_async.experiment import running as experiment
from p2pl_async.radio.neighbors import RadioNeighbors, least_snr
from p2pl_async.results.run import Run
from p2pl_async.scenario.building.explain import explain_radio
from p2pl_async.scenario.building.layout import lay_out
from p2pl_async.scenario.building.world import build_world
from p2pl_async.scenario.scenario import Scenario

PLAIN = {"phy": "802.15.4", "shadowing": "none", "area": "100 m"}
LINK = {"rate": "250 kbit/s", "mtu": "127 B", "header": "21 B"}


@pytest.fixture
def speakers() -> dict[str, Any]:
    return {
        "seed": 3,
        "devices": {"count": 9},
        "topology": "grid",
        "radio": PLAIN,
        "link": LINK,
        "protocol": Speakers(),
        "stop": {"virtual_time": "20.5 s"},
    }


def scenario(base: dict[str, Any], **changes: Any) -> Scenario:
    return Scenario.model_validate(merged(base, changes))


def run(base: dict[str, Any], **changes: Any) -> Run:
    return experiment.run(scenario(base, **changes), trace=True)


def lost(result: Run) -> float:
    return float(result.summary["messages"]["lost"].get("noise", 0) / result.summary["messages"]["sent"])


# Where devices are


def test_the_area_scales_the_places_of_the_topology(speakers: dict[str, Any]) -> None:
    for area, width, height in (("90 m", 90.0, 90.0), (["90 m", "30 m"], 90.0, 30.0)):
        found = lay_out(scenario(speakers, radio={**PLAIN, "area": area}))
        assert found.propagation is not None
        places, _ = found.propagation.motion.at(0.0)
        assert places[0].tolist() == pytest.approx([width / 6, height / 6, 0])
        assert places[5].tolist() == pytest.approx([5 * width / 6, height / 2, 0])


def test_positions_of_ones_own_take_their_place(speakers: dict[str, Any]) -> None:
    positions = [[f"{k} m", "0 m", "2 m"] for k in range(9)]
    found = lay_out(
        scenario(speakers, topology="ring", radio={"positions": positions, "area": None, "shadowing": "none"})
    )
    assert found.propagation is not None
    assert found.propagation.distance(2, 7, 0.0) == 5.0
    assert found.propagation.motion.at(0.0)[0][3].tolist() == [3.0, 0.0, 2.0]


def test_overrides_are_of_the_devices_they_name_and_later_ones_win(speakers: dict[str, Any]) -> None:
    override = [
        {"devices": "0-4", "power": "10 dBm", "noise_figure": "5 dB"},
        {"devices": "loud", "power": "20 dBm", "antenna_gain": "3 dBi"},
    ]
    table = {**speakers, "devices": {"count": 9, "group": {"loud": {"ids": [4, 8]}}}}
    plain, found = (lay_out(scenario(table, radio={"override": rules})).propagation for rules in ([], override))
    assert plain is not None
    assert found is not None
    gain = {k: found.power(k, 7, 0.0) - plain.power(k, 7, 0.0) for k in (0, 4, 8, 6)}
    assert gain == pytest.approx({0: 10, 4: 23, 8: 23, 6: 0})
    assert found.power(7, 4, 0.0) - plain.power(7, 4, 0.0) == pytest.approx(3)
    assert [found.noise(k) - plain.noise(k) for k in (0, 4, 8)] == pytest.approx([-5, -5, 0])


# What runs


def test_losses_follow_the_distance(speakers: dict[str, Any]) -> None:
    near, far, middle = (run(speakers, radio={"area": area}) for area in ("100 m", "1 km", "370 m"))
    assert (lost(near), lost(far)) == (0.0, 1.0)
    expected = lay_out(scenario(speakers, radio={"area": "370 m"})).propagation
    assert expected is not None
    size = int(trace_of(middle)["size_bytes"].iloc[0]) + 21
    rate = expected.link(0, 1).error_rate(0.0, size)
    n = middle.summary["messages"]["sent"]
    assert 0.1 < rate < 0.9
    assert lost(middle) == pytest.approx(rate, abs=5 * math.sqrt(rate * (1 - rate) / n))


def test_a_faded_link_loses_the_mean_over_fading(speakers: dict[str, Any]) -> None:
    fading = {"radio": {"area": "300 m", "fading": "rayleigh"}, "stop": {"virtual_time": "100.5 s"}}
    result = run(speakers, **fading)
    found = lay_out(scenario(speakers, **fading)).propagation
    assert found is not None
    size = int(trace_of(result)["size_bytes"].iloc[0]) + 21
    rate = found.mean_error(found.mean_snr(0, 1, 0.0), size)
    n = result.summary["messages"]["sent"]
    assert 0.1 < rate < 0.9
    assert lost(result) == pytest.approx(rate, abs=0.004 + 5 * math.sqrt(rate * (1 - rate) / n))


def test_the_same_seed_gives_the_same_run_and_another_another(speakers: dict[str, Any]) -> None:
    table = {"topology": "in-range", "mobility": {"kind": "random-waypoint", "speed": ["1 m/s", "9 m/s"]}}
    table["radio"] = {"area": "300 m", "fading": "rayleigh", "shadowing": "4 dB"}
    digests = [run(speakers, **table, seed=seed).summary["trace_digest"] for seed in (3, 3, 4)]
    assert digests[0] == digests[1]
    assert digests[0] != digests[2]


def test_another_device_changes_nothing_between_the_others(speakers: dict[str, Any]) -> None:
    places = [[f"{37 * k % 150} m", f"{59 * k % 150} m"] for k in range(10)]
    table: dict[str, Any] = {
        "topology": "complete",
        "radio": {"fading": "rayleigh", "shadowing": "4 dB", "asymmetry": {"tx": "2 dB"}},
    }
    fates = []
    for count in (9, 10):
        radio = {**table["radio"], "positions": places[:count], "area": None}
        trace = trace_of(run(speakers, **{**table, "radio": radio}, devices={"count": count}))
        old = trace[(trace.src < 9) & (trace.dst < 9)]
        fates.append(old[["sent_s", "src", "dst", "fate"]].sort_values(["sent_s", "src", "dst"]).values.tolist())
    assert fates[0] == fates[1]
    assert {"noise", "delivered"} <= {fate for *_, fate in fates[0]}


# Who is in range


def test_neighbors_in_range_are_those_within_the_link_budget(speakers: dict[str, Any]) -> None:
    radio = {
        "area": "300 m",
        "phy": {"kind": "threshold", "snr": "5 dB"},
        "path_loss": "free-space",
        "power": "-10 dBm",
    }
    found = lay_out(scenario(speakers, topology="in-range", radio=radio))
    assert found.propagation is not None
    # 5 dB = -10 dBm - loss - noise  =>  the distance at which free space loses that much
    loss = -10 - 5 - found.propagation.noise(0)
    radius = 10 ** (loss / 20) * 299_792_458 / (4 * math.pi * 2.44e9)
    places, _ = found.propagation.motion.at(0.0)
    near = {(j, k) for j in range(9) for k in range(9) if j != k and math.dist(places[j], places[k]) <= radius}
    assert set(found.graph.edges) == near
    assert 9 < len(near) < 72
    assert found.neighborhood is None


def test_a_louder_device_is_heard_by_more_than_it_hears(speakers: dict[str, Any]) -> None:
    radio = {"area": "1 km", "override": [{"devices": 0, "power": "20 dBm"}]}
    graph = lay_out(scenario(speakers, topology="in-range", radio=radio)).graph
    assert set(graph.pred[0]) < set(graph.succ[0])


@pytest.mark.parametrize("fading", ["none", "rayleigh"])
def test_the_loss_asked_for_is_the_mean_loss_at_the_border(speakers: dict[str, Any], fading: str) -> None:
    propagation = lay_out(scenario(speakers, radio={"fading": fading})).propagation
    assert propagation is not None
    for most in (0.02, 0.1, 0.5):
        snr = least_snr(propagation, most, 80)
        assert propagation.mean_error(snr, 80) == pytest.approx(most, abs=1e-6)


def test_more_loss_or_shorter_packets_reach_farther(speakers: dict[str, Any]) -> None:
    def links(**topology: Any) -> int:
        radio = {"area": "400 m"}
        return lay_out(
            scenario(speakers, topology={"kind": "in-range", **topology}, radio=radio)
        ).graph.number_of_edges()

    assert links(loss="0.0001 %") < links(loss="10 %") < links(loss="99.99 %")
    assert links(size="1 MB") < links(size="10 B")
    assert links() == links(loss="10 %", size="100 B")


def test_who_is_in_range_is_looked_at_once_in_an_update(speakers: dict[str, Any]) -> None:
    for update, times in (("1 s", range(60)), ("20 s", (0, 20, 40))):
        mobility = {"kind": "random-waypoint", "speed": ["5 m/s", "15 m/s"], "update": update}
        near = lay_out(scenario(speakers, topology="in-range", radio={"area": "500 m"}, mobility=mobility)).neighborhood
        assert isinstance(near, RadioNeighbors)
        seen = [near.table(0.5 * k).tolist() for k in range(120)]
        changed = {0.5 * k for k in range(1, 120) if seen[k] != seen[k - 1]}
        assert changed <= set(map(float, times))
        assert len(changed) > 1
        assert [t for t, _ in near.snapshots(60.0)] == list(map(float, times))


def test_links_come_and_go_with_hysteresis(speakers: dict[str, Any], tmp_path: Path) -> None:
    """One device walks away and comes back; the link ends 3 dB later than it begins."""
    (tmp_path / "walk.csv").write_text("t,node,x,y\n0,1,10,0\n100,1,410,0\n200,1,10,0\n")
    mobility = {"kind": "trace", "path": str(tmp_path / "walk.csv"), "update": "1 s"}
    radio = {"positions": [["0 m", "0 m"], ["10 m", "0 m"]], "area": None, "phy": {"kind": "threshold", "snr": "0 dB"}}
    topology = {"kind": "in-range", "hysteresis": "3 dB"}
    found = lay_out(scenario(speakers, devices={"count": 2}, topology=topology, radio=radio, mobility=mobility))
    near = found.neighborhood
    assert isinstance(near, RadioNeighbors)
    assert found.propagation is not None
    assert list(found.graph.edges) == [(0, 1), (1, 0)]  # every link that there ever is
    up = [near.outgoing(0, t + 0.5, 0) == (1,) for t in range(200)]
    left, back = up.index(False), up.index(True, up.index(False))
    budget = -found.propagation.noise(1)
    border = 10 ** ((budget - 40.2) / 30)
    late = 10 ** ((budget + 3 - 40.2) / 30)
    assert left == pytest.approx((late - 10) / 4, abs=2)
    assert back == pytest.approx(200 - (border - 10) / 4, abs=2)
    assert [near.incoming(1, t + 0.5, 0) == (0,) for t in range(200)] == up  # again, from the beginning


def test_devices_find_new_neighbors_as_they_move(speakers: dict[str, Any]) -> None:
    mobility = {"kind": "random-waypoint", "speed": ["5 m/s", "15 m/s"], "update": "2 s"}
    table = {"topology": "in-range", "radio": {"area": "500 m"}, "mobility": mobility}
    result = run(speakers, **table)
    degrees = result.metrics[result.metrics.metric == "out"]
    assert degrees.groupby("device").value.nunique().max() > 1
    # symmetric radios: whoever hears is heard, and everything sent goes to those in range at that time
    heard = result.metrics[result.metrics.metric == "in"]
    assert degrees.value.to_numpy().tolist() == heard.value.to_numpy().tolist()
    assert result.summary["messages"]["sent"] == degrees.value.sum()


def test_losses_follow_the_movement_within_fixed_neighbors(speakers: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "walk.csv").write_text("t,node,x,y\n0,1,10,0\n10,1,10,0\n10,1,900,0\n")  # a jump
    radio = {"positions": [["0 m", "0 m"], ["10 m", "0 m"]], "area": None}
    mobility = {"kind": "trace", "path": str(tmp_path / "walk.csv")}
    trace = trace_of(run(speakers, devices={"count": 2}, topology="ring", radio=radio, mobility=mobility))
    assert set(trace[trace.sent_s < 10].fate) == {"delivered"}
    assert set(trace[trace.sent_s >= 10].fate) == {"noise"}


def test_signals_travel_at_the_speed_of_light(speakers: dict[str, Any]) -> None:
    positions = [["0 m", "0 m"], ["30 km", "0 m"]]
    radio = {"positions": positions, "area": None, "phy": {"kind": "threshold", "snr": "-200 dB"}}
    for topology in ("ring", "in-range"):
        trace = trace_of(run(speakers, devices={"count": 2}, topology=topology, radio=radio))
        times = trace["arrival_s"] - trace["sent_s"] - (trace["size_bytes"] + 21) * 8 / 250e3
        assert np.allclose(times, 30e3 / 299_792_458, rtol=0, atol=1e-9)


# What is said about it


def test_the_budget_of_a_link_is_explained(speakers: dict[str, Any]) -> None:
    found = lay_out(scenario(speakers, radio={"area": "600 m", "fading": "rayleigh"})).propagation
    assert found is not None
    rows = dict(explain_radio(found, 0, 1, 100))
    assert rows["distance"] == "200 m"
    assert rows["received power"] == f"{-40.2 - 30 * math.log10(200):.1f} dBm"
    assert rows["noise"] == "-101.0 dBm"
    assert rows["mean SNR"] == f"{found.mean_snr(0, 1, 0.0):.1f} dB"
    assert rows["loss of 100 B"].endswith("%, mean over fading")


def test_radios_break_the_contract_of_a_protocol_that_needs_every_message(speakers: dict[str, Any]) -> None:
    table = {"protocol": "sgp", "data": {"dataset": "digits", "train_samples": 90}, "link": {"loss": "0 %"}}
    (warning,) = [text for text in build_world(scenario(speakers, **table)).warnings if "lose nothing" in text]
    assert "24 of 24 may not" in warning
    without = {key: value for key, value in merged(speakers, table).items() if key != "radio"}
    assert not [text for text in build_world(Scenario.model_validate(without)).warnings if "lose nothing" in text]


MOVING = {"kind": "random-waypoint", "speed": ["1 m/s", "2 m/s"]}


@pytest.mark.parametrize(
    ("changes", "path", "says"),
    [
        ({"topology": "ring"}, "radio", 'needs positions, which topology "ring" has not'),
        (
            {"link": {"latency": {"kind": "constant", "distance": "3 km"}}},
            "link.latency.distance",
            "the places say how far it is",
        ),
        ({"radio": {"area": None}}, "radio.area", 'makes meters of the places of topology "grid"'),
        (
            {"radio": {"positions": [["0 m", "0 m"]], "area": None}},
            "radio.positions",
            "has 1 places, and there are 9 devices",
        ),
        ({"radio": {"positions": [["0 m", "0 m"]] * 9}}, "radio.area", "has no effect beside positions"),
        ({"radio": {"override": [{"devices": 9, "power": "1 dBm"}]}}, "radio.override.0.devices", "no device 9"),
        ({"radio": {"override": [{"devices": 1}]}}, "radio.override.0", "changes nothing"),
        ({"radio": {"area": None}, "mobility": MOVING}, "radio.area", "devices roam through it"),
        (
            {"mobility": MOVING, "radio": {"positions": [["0 m", "0 m"]] * 9}},
            "radio.positions",
            '"random-waypoint" places the devices itself',
        ),
        ({"radio": None, "mobility": MOVING}, "mobility", "needs [radio]"),
        ({"radio": None, "topology": "in-range"}, "topology", "needs [radio]"),
    ],
)
def test_what_does_not_fit_is_said_when_it_is_checked(
    speakers: dict[str, Any], changes: Any, path: str, says: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        scenario(speakers, **changes)
    ((where, text),) = [(".".join(map(str, detail["loc"])), detail["msg"]) for detail in caught.value.errors()]
    assert where == path
    assert says in text


def test_a_trace_must_place_everybody_that_has_no_place(speakers: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "walk.csv").write_text("t,node,x,y\n0,1,10,0\n")
    mobility = {"kind": "trace", "path": str(tmp_path / "walk.csv")}
    with pytest.raises(ScenarioError, match="device 0 has no place: give"):
        lay_out(scenario(speakers, topology="ring", mobility=mobility))
    assert lay_out(scenario(speakers, mobility=mobility)).propagation is not None  # others stay where the grid is
    (tmp_path / "walk.csv").write_text("t,node,x,y\n0,9,10,0\n")
    with pytest.raises(ScenarioError, match="has a device 9; ids are 0 to 8"):
        lay_out(scenario(speakers, mobility=mobility))
