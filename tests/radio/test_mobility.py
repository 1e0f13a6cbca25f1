"""Movement: closed forms of each model, positions in any order, and files of positions."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from scipy import stats

from p2pl_async import load_run, load_scenario, run
from p2pl_async.radio import AnyMobility, Mobility, Motion, Static, Track
from p2pl_async.radio.mobility import _reflected, mean_distance
from p2pl_async.radio.phy import noise_power
from p2pl_async.radio.recorded import csv_of, read_movement
from p2pl_async.scenario.building.layout import lay_out
from p2pl_async.scenario.scenario import Scenario

ANY: TypeAdapter[Mobility] = TypeAdapter(AnyMobility)
WAYPOINT = {"kind": "random-waypoint", "speed": ["0.5 m/s", "2 m/s"]}
WALK = {"kind": "random-walk", "speed": ["0.5 m/s", "2 m/s"], "stretch": "20 s"}
DRIFT = {"kind": "gauss-markov", "speed": "2 m/s", "speed_sd": "0.5 m/s", "heading_sd": "20 deg"}
ROAMING = [WAYPOINT, {**WAYPOINT, "pause": "30 s"}, WALK, DRIFT]


def tracks(table: Any, n: int, sides: tuple[float, float] = (100.0, 100.0), seed: int = 1) -> list[Track]:
    made = ANY.validate_python(table).tracks(n, sides, seed)
    return [made[k] for k in sorted(made)]


def speeds(track: Track, times: NDArray[np.float64], dt: float = 1e-3) -> NDArray[np.float64]:
    """Return the speed at each instant, from the path lengths around it."""
    return (track.along(times + dt)[1] - track.along(times)[1]) / dt


# Random waypoint


def test_waypoint_speed_is_that_of_the_steady_state_from_the_start_on() -> None:
    """Time-averaged speed (v1 - v0) / ln(v1 / v0) = 1.082 m/s for 0.5 to 2 m/s, at 0 s as well as later."""
    n = 1500
    made = tracks(WAYPOINT, n)
    for instant in (0.0, 200.0):
        found = np.array([speeds(track, np.array([instant]))[0] for track in made])
        expected = 1.5 / math.log(4)
        assert expected == pytest.approx(1.082, abs=1e-3)
        assert np.mean(found) == pytest.approx(expected, abs=5 * np.std(found) / math.sqrt(n))
        assert found.min() > 0.5 - 1e-6
        assert found.max() < 2 + 1e-6


def test_waypoint_time_average_of_one_device() -> None:
    (track,) = tracks(WAYPOINT, 1)
    end = 400_000.0
    mean = track.along(np.array([end]))[1][0] / end
    ways = end * mean / 52.14
    # One way takes L / v: relative spread of the mean over so many ways is below 1.
    assert mean == pytest.approx(1.082, abs=5 * 1.082 / math.sqrt(ways))


@pytest.mark.parametrize(("sides", "mean"), [((1.0, 1.0), 0.5214), ((300.0, 100.0), None)])
def test_mean_way_between_waypoints(sides: tuple[float, float], mean: float | None) -> None:
    (track,) = tracks({**WAYPOINT, "speed": ["1 m/s", "1 m/s"]}, 1, sides)
    places = np.array([corner[1:3] for corner in track.corners_until(5000 * max(sides))])
    ways = np.linalg.norm(np.diff(places, axis=0), axis=1)
    ways = ways[ways > 0][1:-1]  # the first one was under way, the last one is cut off
    assert mean is None or mean_distance(*sides) == pytest.approx(mean, abs=5e-5)
    assert np.mean(ways) == pytest.approx(mean_distance(*sides), abs=5 * np.std(ways) / math.sqrt(len(ways)))


def test_waypoint_pauses_take_their_share_from_the_start_on() -> None:
    n, pause = 2000, 60.0
    way = 52.14 * math.log(4) / 1.5
    share = pause / (pause + way)
    made = tracks({**WAYPOINT, "pause": "60 s"}, n)
    for instant in (0.0, 300.0):
        resting = np.mean([speeds(track, np.array([instant]))[0] < 1e-9 for track in made])
        assert resting == pytest.approx(share, abs=5 * math.sqrt(share * (1 - share) / n))


@pytest.mark.parametrize("table", ROAMING)
def test_every_model_starts_in_its_steady_state(table: Any) -> None:
    """Places at the start and much later have one distribution, and the same in x and y."""
    made = tracks(table, 600, (50.0, 50.0))
    start, later = (np.array([track.along(np.array([t]))[0][0] for track in made]) for t in (0.0, 200.0))
    for axis in (0, 1):
        assert stats.ks_2samp(start[:, axis], later[:, axis]).pvalue > 1e-4
    assert stats.ks_2samp(start[:, 0], start[:, 1]).pvalue > 1e-4


def test_waypoint_devices_are_found_in_the_middle() -> None:
    """The density of x while moving is 6 x (1 - x): sections of the Beta(2, 2) law in each coordinate, closely."""
    made = tracks(WAYPOINT, 2000, (1.0, 1.0))
    x = np.array([track.along(np.array([0.0]))[0][0, 0] for track in made])
    assert np.var(x) < 0.75 / 12  # well below that of the uniform
    assert np.var(x) == pytest.approx(1 / 20, rel=0.15)


# Random walk


@pytest.mark.parametrize("sides", [(100.0, 100.0), (30.0, 200.0)])
def test_walkers_are_everywhere_alike(sides: tuple[float, float]) -> None:
    n = 1000
    made = tracks(WALK, n, sides)
    for instant in (0.0, 333.0):
        places = np.array([track.along(np.array([instant]))[0][0] for track in made])
        for axis, side in enumerate(sides):
            assert stats.kstest(places[:, axis] / side, "uniform").statistic < 1.63 / math.sqrt(n)


def test_a_walker_keeps_its_speed_for_a_stretch_and_turns_at_walls() -> None:
    (track,) = tracks(WALK, 1, (20.0, 20.0))
    first = float(track.corners_until(100.0)[1][0])
    found = speeds(track, np.linspace(0, 400, 4001))
    assert np.all((found > 0.3) & (found < 2.01))  # a step across a wall looks shorter, by a fraction of 1 ms
    assert len({round(speed, 6) for speed in found if speed > 0.5}) == pytest.approx(21, abs=6)
    assert first < 20


@given(
    st.tuples(st.floats(0, 1), st.floats(0, 1)),
    st.tuples(st.floats(-500, 500), st.floats(-500, 500)),
    st.tuples(st.floats(1, 100), st.floats(1, 100)),
)
def test_reflection_keeps_the_length_of_a_step_and_stays_inside(
    start: tuple[float, float], step: tuple[float, float], sides: tuple[float, float]
) -> None:
    here = start[0] * sides[0], start[1] * sides[1]
    length, last = 0.0, here
    for _, place, _ in _reflected(here, step, sides):
        length += math.dist(last, place)
        last = place
        assert -1e-9 <= place[0] <= sides[0] + 1e-9
        assert -1e-9 <= place[1] <= sides[1] + 1e-9
    assert length == pytest.approx(math.hypot(*step), rel=1e-6, abs=1e-6)


# Gauss-Markov


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.9])
def test_speed_and_heading_forget_by_the_power_of_the_memory(memory: float) -> None:
    """Autocorrelation a^k, standard deviation as asked, in an area without walls."""
    n = 20_000
    table = {"kind": "gauss-markov", "speed": "100 m/s", "speed_sd": "5 m/s", "heading_sd": "0.2 rad", "memory": memory}
    (track,) = tracks(table, 1, (1e9, 1e9))
    corners = np.array(track.corners_until(n))[1:-1]
    steps = np.diff(corners[:, 1:3], axis=0)
    speed, heading = np.linalg.norm(steps, axis=1), np.unwrap(np.arctan2(steps[:, 1], steps[:, 0]))
    effective = n * (1 - memory) / (1 + memory)  # so many independent values tell as much
    assert np.mean(speed) == pytest.approx(100, abs=5 * 5 / math.sqrt(effective))
    for values, sd in ((speed, 5.0), (heading, 0.2)):
        assert np.std(values) == pytest.approx(sd, rel=5 / math.sqrt(2 * effective))
        for lag in (1, 2, 5):
            found = np.corrcoef(values[lag:], values[:-lag])[0, 1]
            assert found == pytest.approx(memory**lag, abs=5 / math.sqrt(effective))


def test_a_drifting_device_changes_once_in_a_step() -> None:
    (track,) = tracks({**DRIFT, "step": "4 s"}, 1, (1e6, 1e6))
    times = [corner[0] for corner in track.corners_until(401.0)][1:-1]
    assert np.diff(times) == pytest.approx(4.0)
    assert times[0] <= 4.0


def test_walls_turn_the_mean_heading_too() -> None:
    straight = {"kind": "gauss-markov", "speed": "3 m/s", "speed_sd": "0 m/s", "heading_sd": "0 deg"}
    (track,) = tracks(straight, 1, (100.0, 100.0))
    assert speeds(track, np.linspace(0.5, 5000, 500)) == pytest.approx(3, abs=0.05 * 3)
    (corners,) = [np.array(track.corners_until(2000.0))]
    headings = np.arctan2(np.diff(corners[:, 2]), np.diff(corners[:, 1]))
    assert len({round(abs(math.sin(heading)), 6) for heading in headings}) == 1  # as light between mirrors


# Any model


@pytest.mark.parametrize("table", ROAMING)
def test_nobody_leaves_the_area(table: Any) -> None:
    for track in tracks(table, 5, (30.0, 70.0)):
        places, gone = track.along(np.linspace(0, 3000, 5001))
        assert np.all(places[:, :2] >= -1e-9)
        assert np.all(places[:, :2] <= [30 + 1e-9, 70 + 1e-9])
        assert np.all(np.diff(gone) >= 0)
        straight = np.linalg.norm(np.diff(places, axis=0), axis=1)
        assert np.all(straight <= np.diff(gone) + 1e-9)


@pytest.mark.parametrize("table", ROAMING)
def test_another_device_moves_nobody_else(table: Any) -> None:
    few, many = tracks(table, 3), tracks(table, 4)
    times = np.linspace(0, 1000, 77)
    for track, same in zip(few, many, strict=False):
        assert np.array_equal(track.along(times)[0], same.along(times)[0])
    assert not np.array_equal(few[0].along(times)[0], few[1].along(times)[0])
    assert not np.array_equal(few[0].along(times)[0], tracks(table, 3, seed=2)[0].along(times)[0])


@pytest.mark.parametrize("table", ROAMING)
@settings(max_examples=20)
@given(times=st.lists(st.floats(0, 2000), min_size=1, max_size=8))
def test_positions_are_a_function_of_time_in_any_order(table: Any, times: list[float]) -> None:
    one, other = tracks(table, 2), Motion(tracks(table, 2))
    together = one[0].along(np.array(times))
    for index, instant in sorted(enumerate(times), key=lambda item: -item[1]):
        places, gone = other.at(instant)
        assert places[0] == pytest.approx(together[0][index], abs=1e-9)
        assert gone[0] == pytest.approx(together[1][index], abs=1e-6)


def test_a_device_rests_before_and_after_its_trace_and_jumps_within() -> None:
    track = Track([(1.0, 0.0, 0.0, 0.0), (3.0, 4.0, 0.0, 2.0), (3.0, 9.0, 0.0, 2.0), (4.0, 9.0, 1.0, 2.0)])
    places, gone = track.along(np.array([0.0, 1.0, 2.0, 2.999999999, 3.0, 3.5, 4.0, 99.0]))
    assert places[:, 0].tolist() == pytest.approx([0, 0, 2, 4, 9, 9, 9, 9], abs=1e-6)
    assert places[:, 1].tolist() == pytest.approx([0, 0, 0, 0, 0, 0.5, 1, 1], abs=1e-6)
    assert places[-1, 2] == 2.0
    assert gone[-1] == pytest.approx(math.hypot(4, 2) + 5 + 1)
    motion = Motion([track, Track.still((7, 7))])
    assert motion.moves
    for instant in (0.0, 2.0, 3.0, 3.5, 99.0):
        assert motion.at(instant)[0][0] == pytest.approx(track.along(np.array([instant]))[0][0])
        assert motion.at(instant)[0][1].tolist() == [7, 7, 0]
    assert not Motion([Track.still((1, 2)), Track([(0.0, 1.0, 1.0, 0.0), (9.0, 1.0, 1.0, 0.0)])]).moves


def test_devices_are_displaced_by_script_and_rest_there() -> None:
    plain = Motion(tracks(WAYPOINT, 2))
    moved = plain.displaced([(20.0, 0, (5.0, 6.0)), (10.0, 0, (1.0, 2.0, 3.0))])
    before = plain.at(9.9)[0].tolist()
    assert moved.at(9.9)[0] == pytest.approx(np.array(before))
    assert moved.at(10.0)[0][0].tolist() == [1, 2, 3]
    assert moved.at(19.9)[0][0].tolist() == [1, 2, 3]
    assert moved.at(5000.0)[0][0].tolist() == [5, 6, 3]  # without a height it keeps its own
    assert moved.at(777.0)[0][1] == pytest.approx(plain.at(777.0)[0][1])
    assert moved.at(20.0)[1][0] == pytest.approx(
        plain.at(10.0)[1][0] + math.dist(plain.at(10.0)[0][0], (1, 2, 3)) + math.hypot(4, 4)
    )


# Uniform places


def disks(n: int, radius: float, seed: int) -> Any:
    """Return who is in range among uniform places in the unit square, by a link budget that reaches `radius`."""
    budget = 20 * math.log10(4 * math.pi * 1000 * radius * 2.44e9 / 299_792_458) + noise_power(2e6, 10)
    radio = {
        "area": "1 km",
        "path_loss": "free-space",
        "shadowing": "none",
        "phy": {"kind": "threshold", "snr": "0 dB"},
        "power": f"{float(budget)} dBm",
    }
    table = {"devices": {"count": n}, "topology": "in-range", "radio": radio, "seed": seed}
    return lay_out(Scenario.model_validate({**table, "protocol": "p2pl", "stop": {"rounds": 1}})).graph


@pytest.mark.parametrize("radius", [0.25, 0.6, 1.0])
def test_uniform_places_have_the_links_of_theory(radius: float) -> None:
    """P(link) = pi R^2 - 8 R^3 / 3 + R^4 / 2; 0.1566 for R = 0.25."""
    p = math.pi * radius**2 - 8 * radius**3 / 3 + radius**4 / 2
    found = [disks(40, radius, seed).number_of_edges() / (40 * 39) for seed in range(30)]
    assert np.mean(found) == pytest.approx(p, abs=5 * np.std(found) / math.sqrt(30))
    assert radius != 0.25 or p == pytest.approx(0.1566, abs=5e-5)


def test_uniform_places_connect_about_when_theory_says() -> None:
    n = 80
    critical = math.sqrt(math.log(n) / (math.pi * n))
    connected = [
        sum(nx.is_strongly_connected(disks(n, factor * critical, seed)) for seed in range(10)) for factor in (0.7, 1.6)
    ]
    assert connected[0] <= 1
    assert connected[1] >= 9


# Settings


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({**WAYPOINT, "speed": ["0 m/s", "2 m/s"]}, "above 0 m/s"),
        ({**WAYPOINT, "speed": ["3 m/s", "2 m/s"]}, "slowest speed, then the fastest"),
        ({**WALK, "speed": ["3 m/s", "2 m/s"]}, "slowest speed, then the fastest"),
        ({**WALK, "stretch": "0 s"}, "above 0 s"),
        ({**DRIFT, "memory": 1.0}, "less than 1"),
        ({**DRIFT, "speed": "0 m/s", "speed_sd": "0 m/s"}, "no device moves"),
        ({**WAYPOINT, "update": "0 s"}, "above 0 s"),
        ("random-waypiont", 'did you mean "random-waypoint"'),
    ],
)
def test_impossible_movements_are_refused(table: Any, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        ANY.validate_python(table)


# Files


def read(path: Path, text: str, format: str) -> Any:
    path.write_text(text, encoding="utf-8")
    return read_movement(path, format)


def test_csv_has_rows_in_any_order_and_an_optional_height(tmp_path: Path) -> None:
    assert read(tmp_path / "a.csv", "t,node,x,y\n5,0,1,2\n0, 1 ,7,8\n\n0,0,0,0\n", "csv") == {
        0: [(0.0, 0.0, 0.0, 0.0), (5.0, 1.0, 2.0, 0.0)],
        1: [(0.0, 7.0, 8.0, 0.0)],
    }
    assert read(tmp_path / "a.csv", "T,Node,X,Y,Z\n1,3,1,2,-4\n", "csv") == {3: [(1.0, 1.0, 2.0, -4.0)]}


@settings(max_examples=30)
@given(
    st.dictionaries(
        st.integers(0, 9),
        st.lists(st.tuples(*[st.floats(0, 1e6)] * 4), min_size=1).map(lambda rows: sorted(rows, key=lambda r: r[0])),
        min_size=1,
    )
)
def test_what_is_written_as_csv_reads_back_exactly(tmp_path_factory: pytest.TempPathFactory, found: Any) -> None:
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    path.write_text(csv_of(found), encoding="utf-8")
    assert read_movement(path, "csv") == found


SETDEST = """# nodes: 2, pause: 2.00
$node_(0) set X_ 10.0
$node_(0) set Y_ 0.0
$node_(0) set Z_ 1.5
$node_(1) set X_ 3.0
$node_(1) set Y_ 4.0
$god_ set-dist 0 1 2
$ns_ at 2.0 "$node_(0) setdest 30.0 0.0 2.0"
$ns_ at 7.0 "$node_(0) setdest 20.0 5.0 1.0"
$ns_ at 8.0 "$node_(0) setdest 20.0 5.0 0.0"
$ns_ at 3.0 "$node_(1) set X_ 50.0"
$ns_ at 3.0 "$god_ set-dist 0 1 1"
"""


def test_setdest_orders_are_followed_from_wherever_a_node_is(tmp_path: Path) -> None:
    found = read(tmp_path / "a.ns_movements", SETDEST, "ns2")
    assert found[0] == [
        (0.0, 10.0, 0.0, 1.5),
        (2.0, 10.0, 0.0, 1.5),
        (7.0, 20.0, 0.0, 1.5),  # half way to 30, and there it turns
        (8.0, 20.0, 1.0, 1.5),  # speed 0: it stops
    ]
    assert Track(found[0]).along(np.array([99.0]))[0][0].tolist() == [20.0, 1.0, 1.5]
    assert found[1] == [(0.0, 3.0, 4.0, 0.0), (3.0, 3.0, 4.0, 0.0), (3.0, 50.0, 4.0, 0.0)]
    reached = read(tmp_path / "b", SETDEST.replace("7.0", "17.0").replace("8.0", "18.0"), "ns2")[0]
    assert reached[2:4] == [(12.0, 30.0, 0.0, 1.5), (17.0, 30.0, 0.0, 1.5)]


def test_bonnmotion_has_a_line_per_node(tmp_path: Path) -> None:
    text = "# made\n0 1 2 10 3 4\n0.0 5.0 6.0\n"
    flat = {0: [(0.0, 1.0, 2.0, 0.0), (10.0, 3.0, 4.0, 0.0)], 1: [(0.0, 5.0, 6.0, 0.0)]}
    assert read(tmp_path / "a", text, "bonnmotion") == flat
    (tmp_path / "a.gz").write_bytes(gzip.compress(text.encode()))
    assert read_movement(tmp_path / "a.gz", "bonnmotion") == flat
    assert read(tmp_path / "b", "0 1 2 3 10 4 5 6\n", "bonnmotion-3d") == {
        0: [(0.0, 1.0, 2.0, 3.0), (10.0, 4.0, 5.0, 6.0)]
    }


@pytest.mark.parametrize(
    ("format", "text", "says"),
    [
        ("csv", "0,1,2,3\n", "line 1: must be the header t,node,x,y"),
        ("csv", "", "line 1: must be the header"),
        ("csv", "t,node,x,y\n", "has no positions"),
        ("csv", "t,node,x,y\n1,2,3\n", "line 2: has 3 values, and the header 4"),
        ("csv", "t,node,x,y\n1,2,3,far\n", 'line 2: "far" must be a number'),
        ("csv", "t,node,x,y\n1,2,3,nan\n", 'line 2: "nan" must be a number'),
        ("csv", "t,node,x,y\n-1,2,3,4\n", "line 2: t = -1 s must be at least 0"),
        ("csv", "t,node,x,y\n1,a,3,4\n", 'line 2: node "a" must be a device id'),
        ("ns2", "$node_(0) set X_ 1\n", "node 0 has no start; it needs .* set X_ and set Y_"),
        ("ns2", "$node_(0) setdest 1 2 3\n", "line 1: a setdest needs its instant"),
        ("ns2", '$ns_ at 1 "$node_(0) setdest 1 2"\n', "line 1: must be like"),
        ("ns2", '$ns_ at 1 "$node_(0) setdest 1 2 -3"\n', "line 1: speed -3 must be at least 0"),
        ("bonnmotion", "0 1 2 3\n", "line 1: has 4 values, which must be t x y again and again"),
        ("bonnmotion", "5 1 2 3 1 2\n", "line 1: time goes back, from 5 to 3 s"),
        ("bonnmotion-3d", "0 1 2\n", "which must be t x y z again"),
    ],
)
def test_a_file_that_cannot_be_used_says_where(tmp_path: Path, format: str, text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        read(tmp_path / "trace", text, format)
    assert str(tmp_path / "trace") in str(caught.value)


def test_a_file_that_is_missing_or_no_text_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"can't read .*: No such file"):
        read_movement(tmp_path / "missing", "csv")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="is no text"):
        read_movement(tmp_path / "binary", "csv")


def test_a_trace_moves_the_devices_that_it_names(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("0 1 2 10 3 4\n", encoding="utf-8")
    made = ANY.validate_python({"kind": "trace", "path": str(tmp_path / "a"), "format": "bonnmotion"}).tracks(
        3, None, 1
    )
    assert list(made) == [0]
    assert made[0].along(np.array([5.0]))[0][0].tolist() == [2, 3, 0]


# In results


def test_results_tell_where_devices_are_over_time_and_in_which_unit(tmp_path: Path) -> None:
    """Two walk; the third stays where the topology has put it."""
    (tmp_path / "m.csv").write_text("t,node,x,y\n0,0,10,10\n4,0,50,10\n0,1,20,20\n2,1,20,40\n")
    (tmp_path / "s.toml").write_text(
        'name = "s"\ndevices.count = 3\ntopology = { kind = "random-geometric", radius = 1.0 }\n'
        'radio = { area = "100 m" }\nmobility = { kind = "trace", path = "m.csv", update = "1 s" }\n'
        'protocol = { kind = "p2pl_async.testing.chatter:Chatter" }\nstop.virtual_time = "6 s"\n'
    )
    run(tmp_path / "s.toml", out=tmp_path / "moving")
    found = load_run(tmp_path / "moving")
    assert found.positions is not None
    assert found.positions.query("device == 0").time_s.tolist() == [0, 1, 2, 3, 4, 5]
    assert found.positions.query("device == 0").x.tolist() == [10, 20, 30, 40, 50, 50]
    assert found.positions.query("device == 1").y.tolist() == [20, 30, 40, 40, 40, 40]
    assert sorted(set(found.positions.device)) == [0, 1]
    assert found.devices.x.tolist()[:2] == [10, 20]  # where they begin
    still = found.devices.x.tolist()[2], found.devices.y.tolist()[2]

    scenario = load_scenario(tmp_path / "s.toml")
    quiet = scenario.model_copy(update={"radio": None, "mobility": Static()})
    plain = run(quiet, out=tmp_path / "still")
    assert plain.positions is None
    assert load_run(tmp_path / "still").positions is None
    assert still == (100 * plain.devices.x[2], 100 * plain.devices.y[2])
    units = [
        pq.read_schema(tmp_path / name / "devices.parquet").field("x").metadata[b"unit"] for name in ("moving", "still")
    ]
    assert units == [b"m", b"side of the square"]
    assert pq.read_schema(tmp_path / "moving" / "positions.parquet").field("z").metadata == {b"unit": b"m"}
