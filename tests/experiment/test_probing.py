"""`p2pl probe` as a ping: what it measures is what the link was told to do."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from typer.testing import CliRunner

from p2pl_async import load_scenario
from p2pl_async.cli.main import app
from p2pl_async.experiment.probing import Probed, probe_link, probe_world

SCENARIO = """# How good is a link?
name = "probed"
[devices]
count = 4
[topology]
kind = "directed-ring"
[link]
latency = "30 ms"
rate = "1 Mbit/s"
mtu = "540 B"
header = "40 B"
{link}
[medium]
kind = "{medium}"
[protocol]
kind = "p2pl"
[stop]
rounds = 1
"""


def write(folder: Path, link: str = "", medium: str = "dedicated") -> Path:
    path = folder / "probed.toml"
    path.write_text(SCENARIO.format(link=link, medium=medium))
    return path


def probe(folder: Path, link: str = "", medium: str = "dedicated", **how) -> Probed:
    world = probe_world(load_scenario(write(folder, link, medium)))
    return probe_link(world, 1, 2, **{"size": 1000, "count": 200, **how})


@pytest.mark.parametrize("medium", ["dedicated", "half-duplex", "ideal"])
def test_a_perfect_link_takes_air_time_and_latency(tmp_path, medium) -> None:
    found = probe(tmp_path, medium=medium)
    airtime = 8 * (found.size + 2 * 40) / 1e6  # two packets
    assert found.size == pytest.approx(1000, abs=8)
    assert found.loss == 0
    assert found.percentile(50) == pytest.approx(airtime + 0.03, rel=1e-3)
    assert found.air_seconds == pytest.approx(200 * airtime, rel=2e-3)  # a number has one byte or two
    assert found.packets.tolist() == [2] * 200
    assert found.goodput == pytest.approx(8 * found.size / airtime, rel=0.05)


@pytest.mark.parametrize("medium", ["dedicated", "half-duplex", "ideal", "csma-ca"])
def test_loss_and_retries_are_those_of_the_link(tmp_path, medium) -> None:
    count = 1000 if medium == "dedicated" else 400  # the law of losses is the link's, whatever the medium
    lossy = probe(tmp_path, 'loss = "20 %"', medium, size=400, count=count)
    assert lossy.loss == pytest.approx(0.2, abs=5 * math.sqrt(0.16 / count))
    assert lossy.causes == {"loss": count - len(lossy.delays)}
    retried = probe(tmp_path, 'loss = "20 %"\narq = { retries = 4 }', medium, size=400, count=count)
    assert retried.packets.mean() == pytest.approx((1 - 0.2**5) / 0.8, abs=0.1)
    assert retried.acknowledged == len(retried.delays) > 0.98 * count


def test_an_interval_paces_the_messages(tmp_path) -> None:
    found = probe(tmp_path, count=11, interval=2.0)
    assert found.seconds == pytest.approx(20 + found.percentile(100))


def test_the_command_prints_and_draws(tmp_path) -> None:
    path = write(tmp_path, 'loss = "20 %"')
    one = CliRunner().invoke(
        app, ["probe", str(path), "--from", "1", "--to", "2", "--size", "2 kB", "--count", "50", "--out", str(tmp_path)]
    )
    assert one.exit_code == 0, one.output
    assert "50 of 2 kB" in one.output
    assert (tmp_path / "delay-1-2.png").stat().st_size > 5000
    every = CliRunner().invoke(app, ["probe", str(path), "--all", "--count", "20", "--out", str(tmp_path)])
    assert every.exit_code == 0, every.output
    assert all(f"{k} -> {(k + 1) % 4}" in every.output for k in range(4))
    assert (tmp_path / "loss.png").exists()


@pytest.mark.parametrize(("arguments", "says"), [
    (["--from", "1"], "--to"),
    (["--from", "1", "--to", "0"], "1's links go to 2"),
    (["--from", "9", "--to", "0"], "no such link"),
    (["--from", "1", "--to", "2", "--size", "2"], "--size"),
    (["--from", "1", "--to", "2", "--interval", "2 apples"], "--interval"),
])  # fmt: skip
def test_what_cannot_be_probed_is_said(tmp_path, arguments, says) -> None:
    result = CliRunner().invoke(app, ["probe", str(write(tmp_path)), *arguments])
    assert result.exit_code == 2
    assert says in result.output


def extended(folder: Path, more: str, **how) -> Probed:
    path = write(folder)
    path.write_text(path.read_text().replace('"directed-ring"', how.pop("topology", '"ring"')) + more)
    return probe_link(probe_world(load_scenario(path)), 1, 2, **{"size": 100, "count": 40, "interval": 1.0, **how})


def test_a_receiver_that_is_down_hears_nothing_and_a_sender_says_nothing(tmp_path) -> None:
    down = '[devices.group.two]\nids = {}\nchurn = {{ times = [["9500 ms", "19500 ms"]] }}\n'
    found = extended(tmp_path, down.format(2))
    assert found.causes == {"crashed": 10}
    found = extended(tmp_path, down.format(1))
    assert (found.count, found.loss) == (40, 0)
    assert found.seconds == pytest.approx(39 + 10, abs=1.1)


def test_messages_go_in_the_turns_of_their_link(tmp_path) -> None:
    found = extended(tmp_path, "", topology='"one-peer-exponential"', interval=0.001)
    assert (found.count, found.loss) == (40, 0)


def test_a_link_of_a_recorded_topology_is_down_when_its_file_says_so(tmp_path) -> None:
    (tmp_path / "links.csv").write_text("t,src,dst,change\n10,1,2,up\n30,1,2,down\n0,2,3,up\n")
    kind = '"trace"\npath = "links.csv"'
    assert extended(tmp_path, "", topology=kind).causes == {"outage": 20}
