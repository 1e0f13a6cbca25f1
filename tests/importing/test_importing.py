"""Parts of scenarios from other people's files."""

import gzip
import os
import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.measured import K7
from typer.testing import CliRunner

from p2pl_async.basics.randomness import stream
from p2pl_async.cli.main import app
from p2pl_async.errors import ScenarioError
from p2pl_async.importing import FORMATS, import_file
from p2pl_async.link import Link, LinkSettings
from p2pl_async.scenario.building.link_table import LinkTable
from p2pl_async.scenario.building.world import build_world
from p2pl_async.scenario.reading.load import load_scenario
from p2pl_async.scenario.scenario import Scenario

REST = 'protocol.kind = "p2pl"\nstop.rounds = 1\n'


def imported(folder: Path, name: str, text: str, rest: str = REST) -> tuple[Scenario, list[str], dict[str, Any]]:
    """Import a file, extend it; return the scenario, the warnings and the part as a table."""
    (folder / "source").write_text(text, encoding="utf-8")
    warnings = import_file(name, folder / "source", folder / "parts" / "part.toml", force=True)
    (folder / "s.toml").write_text(f'extends = "parts/part.toml"\n{rest}')
    part = tomllib.loads((folder / "parts" / "part.toml").read_text())
    return load_scenario(folder / "s.toml"), warnings, part


def netem(folder: Path, options: str) -> tuple[LinkSettings, list[str]]:
    line = f"tc qdisc add dev eth0 root netem {options}\n"
    found, warnings, part = imported(folder, "netem", line, "devices.count = 3\n" + REST)
    assert set(part) == {"link"}
    return link_of(found), warnings


def link_of(scenario: Scenario) -> LinkSettings:
    return LinkSettings.model_validate(scenario.link.model_dump(exclude={"override"}, mode="json"))


# --- netem


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("delay 100ms", {"latency": "100 ms", "order": "free"}),
        ("delay 1500", {"latency": "1.5 ms", "order": "free"}),  # without a unit: microseconds
        ("latency 0.1s", {"latency": "100 ms", "order": "free"}),
        (
            "delay 100ms 20ms",
            {"latency": {"kind": "uniform", "low": "80 ms", "high": "120 ms"}, "order": "free"},
        ),
        (
            "delay 100ms 20ms distribution normal",
            {"latency": {"kind": "normal", "mean": "100 ms", "sd": "20 ms"}, "order": "free"},
        ),
        ("loss 5%", {"loss": "5 %", "order": "free"}),
        ("loss random 5", {"loss": "5 %", "order": "free"}),
        (
            "loss state 1%",
            {"loss": {"kind": "four-state", "p13": "1 %", "p31": "99 %"}, "order": "free"},
        ),
        (
            "loss state 1% 20% 5% 60% 0.5%",
            {
                "loss": {
                    "kind": "four-state",
                    "p13": "1 %",
                    "p31": "20 %",
                    "p32": "5 %",
                    "p23": "60 %",
                    "p14": "0.5 %",
                },
                "order": "free",
            },
        ),
        ("loss gemodel 1%", {"loss": {"kind": "gilbert-packets", "p": "1 %", "r": "99 %"}, "order": "free"}),
        (
            "loss gemodel 1% 10% 70% 0.1%",
            {"loss": {"kind": "gilbert-packets", "p": "1 %", "r": "10 %", "h": "30 %", "k": "99.9 %"}, "order": "free"},
        ),
        ("rate 1mbit", {"rate": "1 Mbit/s"}),
        ("rate 1mbps", {"rate": "8 Mbit/s"}),  # bytes per second
        ("rate 256kibit 20", {"rate": "262144 bit/s", "header": "20 B"}),
        ("rate 5000", {"rate": "5 kbit/s"}),
    ],
)
def test_what_netem_means_as_we_do_comes_over_without_a_warning(
    tmp_path: Path, options: str, expected: dict[str, Any]
) -> None:
    link, warnings = netem(tmp_path, options)
    assert warnings == []
    assert link == LinkSettings.model_validate(expected)


@pytest.mark.parametrize(
    ("options", "changed", "says"),
    [
        ("delay 100ms 20ms 25%", {}, 'a correlation of 25 % netem mixes .* correlation = "500 ms"'),
        ("loss 10% 25%", {"loss": "10 %"}, "doesn't lose 10 % .* burst = 3"),
        ("duplicate 1%", {"duplicate": 0.01}, "repeats packets before it delays them"),
        ("duplicate 1% 50%", {"duplicate": 0.01}, "its correlation is left out"),
        ("corrupt 2% 10%", {"corrupt": 0.02}, "flips a bit of a packet, .* here the packet is lost"),
        ("delay 10ms reorder 25% 50% gap 5", {}, "reorder: netem sends some packets at once"),
        ("delay 9ms 2ms reorder 2%", {"order": "free"}, 'if their latencies differ .order = "free".'),
        ("delay 9ms 2ms reorder 2% rate 1Mbit", {"order": "fifo"}, 'behind a rate .order = "fifo".'),
        ("delay 10ms limit 50", {}, "limit: left out, as without a rate no message waits"),
        ("rate 1mbit limit 50", {"queue": {"messages": 50}}, "limit: netem drops when it holds 50 packets"),
        ("rate 1mbit 0 48 5", {}, "cellsize is left out"),
        ("rate 1mbit -20", {}, "negative packet overhead is left out"),
        ("delay 10ms 20ms", {}, "sends packets with a delay below 0 s at once"),
        ("delay 10ms 20ms distribution normal", {}, "cut off at 0 s, which raises its mean"),
        ("delay 10ms slot 5ms 10ms packets 3", {}, "slot: left out"),
        ("delay 10ms ecn", {}, "ecn: left out"),
        ("delay 10ms seed 5", {}, "seed: left out"),
    ],
)
def test_what_netem_means_otherwise_is_a_warning_that_says_how(
    tmp_path: Path, options: str, changed: dict[str, Any], says: str
) -> None:
    link, warnings = netem(tmp_path, options)
    assert any(re.search(says, text) for text in warnings), warnings
    for key, value in changed.items():
        assert getattr(link, key) == getattr(LinkSettings.model_validate({"rate": "1 Mbit/s", key: value}), key)
    text = (tmp_path / "parts" / "part.toml").read_text()
    assert "# Warning: " in text


@pytest.mark.parametrize(("shape", "mean", "sd"), [("pareto", -0.03, 0.82), ("paretonormal", -0.025, 0.834)])
def test_netems_own_tables_come_over_as_they_are(tmp_path: Path, shape: str, mean: float, sd: float) -> None:
    """With the mean and deviation that they have, not those that they should have."""
    link, warnings = netem(tmp_path, f"delay 100ms 10ms distribution {shape}")
    assert warnings == []
    draw = link.latency.process(stream(1, "latency"))
    values = (np.array([draw(0.0) for _ in range(40_000)]) - 0.1) / 0.01
    assert values.mean() == pytest.approx(mean, abs=5 * sd / 200 + 0.005)
    assert values.std() == pytest.approx(sd, abs=0.02)
    assert values.max() < 4.0001
    near, _ = netem(tmp_path, f"delay 1ms 10ms distribution {shape}")
    draw = near.latency.process(stream(1, "latency"))
    assert np.mean([draw(0.0) == 0 for _ in range(2000)]) > 0.2  # what would be negative is sent at once


def test_what_tc_prints_is_read_like_what_one_types(tmp_path: Path) -> None:
    line = (
        "qdisc netem 8001: dev eth0 root refcnt 2 limit 1000 delay 100ms  10ms loss gemodel p 1% r 10% 1-h 70% 1-k 0% "
        "rate 1Mbit packetoverhead 20 cellsize 0\n"
    )
    found, warnings, _ = imported(tmp_path, "netem", line, "devices.count = 3\n" + REST)
    expected = {
        "latency": {"kind": "uniform", "low": "90 ms", "high": "110 ms"},
        "loss": {"kind": "gilbert-packets", "p": "1 %", "r": "10 %", "h": "30 %"},
        "rate": "1 Mbit/s",
        "header": "20 B",
        "queue": {"messages": 1000},
    }
    assert link_of(found) == LinkSettings.model_validate(expected)
    assert len(warnings) == 1


def test_a_line_may_go_on_and_have_comments(tmp_path: Path) -> None:
    text = "# home\ntc qdisc add dev eth0 root netem \\\n  delay 100ms # slow\n"
    assert imported(tmp_path, "netem", text, "devices.count = 3\n" + REST)[0].link.latency.mean == 0.1  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tc qdisc add dev eth0 root fq\n", "has no line with netem, such as"),
        ("netem delay 1ms\nnetem loss 1%\n", "has 2 lines with netem; keep one"),
        ("netem\n", "netem has no options"),
        ("netem delya 1ms\n", 'no option "delya"; known: limit, delay'),
        ("netem delay 1week\n", '"1week" must be a time such as 100ms'),
        ("netem delay\n", "the line ends before a time"),
        ("netem loss 120%\n", "must be a share from 0% to 100%"),
        ("netem rate fast\n", 'rate "fast" must be like 1mbit'),
        ("netem rate 0\n", "must be above 0"),
        ("netem delay 10ms 1ms distribution mine\n", 'distribution "mine" is not one of netem.s own tables'),
        ("netem limit 1.5\n", "must be a whole number"),
    ],
)
def test_what_netem_can_not_say_is_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "x").write_text(text)
    with pytest.raises(ScenarioError, match=says):
        import_file("netem", tmp_path / "x", tmp_path / "part.toml")
    assert not (tmp_path / "part.toml").exists()


# --- Measured and moving


def test_a_mahimahi_trace_becomes_a_rate(tmp_path: Path) -> None:
    found, warnings, part = imported(tmp_path, "mahimahi", "1\n", "devices.count = 3\n" + REST)
    assert part["link"]["rate"] == {"kind": "mahimahi", "path": "../source"}
    made = Link(0, 1, link_of(found), 1)
    assert made.judge(1_500_000, 0.0).arrival == pytest.approx(1.0, abs=1e-3)  # 12 Mbit/s
    assert warnings == []


def test_a_mesh_becomes_a_topology_and_losses(tmp_path: Path) -> None:
    (tmp_path / "m.k7.gz").write_bytes(gzip.compress(K7.encode()))
    warnings = import_file("k7", tmp_path / "m.k7.gz", tmp_path / "mesh.toml")
    assert (tmp_path / "mesh.edges.txt").read_text() == "0 1\n1 0\n"
    (tmp_path / "s.toml").write_text(f'extends = "mesh.toml"\n{REST}')
    found = load_scenario(tmp_path / "s.toml")
    assert found.devices.count == 3
    losses = {
        (each.src, each.dst): each.table for each in found.link.override
    }  # a link of PDR 1, too: of no other loss
    assert losses == {
        (src, dst): {"loss": {"kind": "bernoulli", "p": p}} for src, dst, p in ((0, 1, "0 %"), (1, 0, "50 %"))
    }
    assert found.topology.build(3, None).number_of_edges() == 2  # type: ignore[arg-type]
    assert any("numbered in the order of their ids in the file: 0, 4, 7" in text for text in warnings)
    assert any("1 of 3 measured links never delivered" in text for text in warnings)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "ns2",
            "$node_(0) set X_ 1.0\n$node_(0) set Y_ 2.0\n$node_(0) set Z_ 0\n"
            '$ns_ at 1.0 "$node_(0) setdest 11.0 2.0 5.0"\n',
        ),
        ("bonnmotion", "0 1 2 1 1 2 3 11 2\n"),
    ],
)
def test_movement_becomes_a_mobility_table_and_a_csv(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "source").write_text(text)
    import_file(name, tmp_path / "source", tmp_path / "move.toml")
    part = tomllib.loads((tmp_path / "move.toml").read_text())
    assert part == {"devices": {"count": 1}, "mobility": {"kind": "trace", "path": "move.positions.csv"}}
    assert (tmp_path / "move.positions.csv").read_text().splitlines() == [
        "t,node,x,y,z",
        "0.0,0,1.0,2.0,0.0",
        "1.0,0,1.0,2.0,0.0",
        "3.0,0,11.0,2.0,0.0",
    ]


def test_a_real_mesh_becomes_a_scenario(tmp_path: Path) -> None:
    path = Path(os.environ.get("P2PL_DATA", "nowhere"), "traces", "802154-grenoble", "grenoble_44nodes.k7.gz")
    if not path.is_file():
        pytest.skip("needs real traces in $P2PL_DATA/traces")
    import_file("k7", path, tmp_path / "mesh.toml")
    (tmp_path / "s.toml").write_text(f'extends = "mesh.toml"\n{REST}')
    found = load_scenario(tmp_path / "s.toml")
    graph = found.topology.build(44, stream(1, "topology"))
    assert (found.devices.count, graph.number_of_edges()) == (44, 356)
    table = LinkTable(found)
    arriving = [1 - getattr(table.settings(*link).loss, "p", 0.0) for link in graph.edges]
    assert sum(share > 0.9 for share in arriving) == 155
    assert sum(share < 0.1 for share in arriving) == 46


# --- The command


def test_the_command_writes_the_part_and_prints_warnings(tmp_path: Path) -> None:
    (tmp_path / "n").write_text("netem loss 10% 25%\n")
    result = CliRunner().invoke(app, ["import", "netem", str(tmp_path / "n"), "-o", str(tmp_path / "part.toml")])
    assert result.exit_code == 0
    assert 'a scenario begins with: extends = "part.toml"' in result.stdout
    assert "warning: loss: with a correlation of 25 %" in result.stderr
    again = CliRunner().invoke(app, ["import", "netem", str(tmp_path / "n"), "-o", str(tmp_path / "part.toml")])
    assert again.exit_code == 2
    assert "exists already; add --force" in again.stderr
    forced = ["import", "netem", str(tmp_path / "n"), "-o", str(tmp_path / "part.toml"), "--force"]
    assert CliRunner().invoke(app, forced).exit_code == 0


def test_an_unknown_format_is_named_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match='did you mean "mahimahi"'):
        import_file("mahimhi", tmp_path / "x", tmp_path / "part.toml")


@pytest.mark.parametrize("name", FORMATS)
def test_a_missing_file_is_an_error_not_a_crash(tmp_path: Path, name: str) -> None:
    with pytest.raises(ScenarioError, match=r"(?i)no such file"):
        import_file(name, tmp_path / "nothing", tmp_path / "part.toml")


def test_an_ns2_file_numbered_from_1_makes_a_part_that_runs(tmp_path: Path) -> None:
    (tmp_path / "walk.ns2").write_text(
        "".join(f"$node_({k}) set X_ {k}.0\n$node_({k}) set Y_ 0.0\n" for k in (1, 2, 4))
        + '$ns_ at 1.0 "$node_(4) setdest 9.0 0.0 1.0"\n'
    )
    warnings = import_file("ns2", tmp_path / "walk.ns2", tmp_path / "walk.toml")
    assert warnings == ["devices are numbered in the order of their ids in the file: 1, 2, 4"]
    (tmp_path / "s.toml").write_text(f'extends = "walk.toml"\n{REST}\n[topology]\nkind = "complete"\n[radio]\n')
    propagation = build_world(load_scenario(tmp_path / "s.toml"), learns=False).propagation
    assert propagation is not None
    assert propagation.motion.at(3.0)[0][:, 0].tolist() == [1.0, 2.0, 6.0]
