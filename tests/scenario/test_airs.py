"""Several airs in one scenario: who reaches whom over which, and that they don't disturb each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.small_worlds import merged, trace_of
from helpers.speakers import Speakers
from pydantic import ValidationError
from typer.testing import CliRunner

from p2pl_async.cli.main import app
from p2pl_async.errors import ScenarioError
from p2pl_async.experiment import running as experiment
from p2pl_async.radio import RadioNeighbors
from p2pl_async.scenario.building.layout import lay_out
from p2pl_async.scenario.building.world import build_world
from p2pl_async.scenario.reading.load import dump, load_scenario
from p2pl_async.scenario.scenario import Scenario
from p2pl_async.testing.chatter import Chatter

# Sensors 0 to 2 and gateway 3 are on "main", people 4 to 6 and the gateway on "near"; 3 and 7 have a line.
GROUPS: dict[str, Any] = {
    "people": {"ids": "4-6", "airs": ["near"]},
    "gateway": {"ids": 3, "airs": ["main", "near", "line"]},
    "office": {"ids": 7, "airs": ["line"]},
}
ACK = {"size": "11 B", "airtime": "352 us", "delay": "192 us"}
BASE: dict[str, Any] = {
    "seed": 5,
    "devices": {"count": 8, "group": GROUPS},
    "topology": "complete",
    "link": {"rate": "250 kbit/s", "loss": "10 %"},
    "medium": {"kind": "csma-ca", "ack": ACK},
    "air": {
        "near": {"link": {"rate": "2 Mbit/s"}, "medium": {"kind": "aloha"}},
        "line": {"link": {"rate": "1 Mbit/s", "latency": "5 ms"}},
    },
    "protocol": Chatter(period="50 ms"),
    "stop": {"virtual_time": "10 s"},
}
PLACES = [["0 m", "0 m"], ["20 m", "0 m"], ["40 m", "0 m"], ["30 m", "10 m"]] * 2
RADIO = {"radio": {"positions": PLACES, "shadowing": "none"}}


def scenario(**changes: Any) -> Scenario:
    return Scenario.model_validate(merged(BASE, changes))


def trace(**changes: Any) -> pd.DataFrame:
    return trace_of(experiment.run(scenario(**changes), trace=True))


def among(found: pd.DataFrame, devices: list[int]) -> list[list[Any]]:
    """Return what happened between some devices."""
    rows = found[found.src.isin(devices) & found.dst.isin(devices)]
    return [list(row) for row in rows.drop(columns="number").astype(str).itertuples(index=False)]


def test_a_link_takes_the_last_air_that_both_its_ends_have_and_others_have_none() -> None:
    world = build_world(scenario(air={"near": {}, "line": {}}), learns=False)
    of = world.airs.of_devices
    assert [of.between(0, 3), of.between(3, 4), of.between(7, 3), of.between(0, 4)] == [0, 1, 2, None]
    assert of.between(3, 0) == 0
    assert (of.table == of.table.T).all()
    edges = {(src, dst) for src, dst in world.direct.graph.edges if src < dst}
    assert edges == {(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3), (3, 4), (3, 5), (3, 6), (4, 5), (4, 6), (5, 6),
                     (3, 7)}  # fmt: skip
    assert world.links.settings(0, 3).rate == 250e3
    assert world.links.settings(4, 3).rate == 2e6
    assert world.links.settings(7, 3).rate == 1e6


def test_traffic_on_one_air_disturbs_nothing_on_another() -> None:
    """Sensors among themselves fare the same whatever people do next to them; on one air they don't."""
    quiet = {"people": {"ids": "4-6", "airs": ["near"], "join": "9 s"}}
    apart = {**GROUPS, "gateway": {"ids": 3, "airs": ["line"]}}
    busy, still = (trace(devices={"group": groups}) for groups in (apart, {**apart, **quiet}))
    assert len(busy) > 1.2 * len(still)
    assert among(busy, [0, 1, 2]) == among(still, [0, 1, 2])
    together = {name: {**group, "airs": ["main"]} for name, group in {**GROUPS, **quiet}.items()}
    others = {**together, "people": {"ids": "4-6"}, "spare": {"ids": 7, "airs": ["main", "near", "line"]}}
    one, other = (trace(devices={"group": groups}) for groups in ({**together, "spare": others["spare"]}, others))
    assert among(one, [0, 1, 2]) != among(other, [0, 1, 2])


def test_a_broadcast_goes_out_once_on_each_air_and_over_each_line() -> None:
    """A gateway speaks 5 times, to 3 sensors, 3 people and an office."""
    mute = {"muted": {"ids": "0-2,4-7", "start": "9 s"}}
    found = trace_of(experiment.run(scenario(devices={"group": {**GROUPS, **mute}}, protocol=Speakers(),
                                        link={"loss": "0 %"}, stop={"virtual_time": "5.5 s"}), trace=True))  # fmt: skip
    each = found.groupby(["sent_s", "src"])
    assert (each.size() == 7).all()
    assert (each.packets.sum() == 3).all()  # charged once per air, and for the line
    line = found[found.dst == 7]
    assert np.allclose(line.arrival_s - line.sent_s, 0.005 + 8 * line.size_bytes / 1e6)
    assert found[found.dst.isin([4, 5, 6])].groupby("sent_s").arrival_s.nunique().max() == 1


def test_a_gateway_relays_between_airs() -> None:
    relay = {"kind": "shortest-path", "over": "complete"}
    found = trace(relay=relay, link={"loss": "0 %"}, protocol=Speakers(), medium={"kind": "ideal"})
    delivered = found[found.fate == "delivered"]
    ways = {way for way in delivered["path"] if way.startswith("0-") and way.endswith(("-4", "-7"))}
    assert ways == {"0-3-4", "0-3-7"}


def test_who_is_in_range_is_decided_by_the_radio_of_the_air() -> None:
    """A weak radio reaches people 14 m apart and not 40 m; on a line, distance is no matter, nor on main."""
    weak = {"phy": {"kind": "threshold", "snr": "0 dB"}, "power": "-25 dBm", "shadowing": "none"}
    air = {"near": {"radio": weak}}
    found = lay_out(scenario(topology="in-range", air=air, **RADIO))
    edges = {(src, dst) for src, dst in found.graph.edges if src < dst}
    waves = found.airs.built[1].propagation
    assert waves is not None
    near = {(a, b) for a, b in [(3, 4), (3, 5), (3, 6), (4, 5), (4, 6), (5, 6)] if waves.snr(a, b, 0.0) >= 0}
    assert {(3, 5), (3, 6)} <= near  # 14 m
    assert (4, 6) not in near  # 40 m
    assert edges == {(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3), (3, 7)} | near


def test_links_of_an_air_come_and_go_as_its_devices_move() -> None:
    weak = {"phy": {"kind": "threshold", "snr": "0 dB"}, "power": "-25 dBm", "shadowing": "none"}
    walk = {"kind": "random-waypoint", "speed": ["5 m/s", "9 m/s"], "update": "2 s"}
    area = {"x": ["0 m", "60 m"], "y": ["0 m", "60 m"]}
    people = {"ids": "4-6", "airs": ["near"], "mobility": walk, "area": area}
    devices = {"group": {**GROUPS, "people": people}}
    found = lay_out(scenario(topology="in-range", air={"near": {"radio": weak}}, devices=devices, **RADIO))
    near = found.neighborhood
    assert isinstance(near, RadioNeighbors)
    tables = [table for _, table in near.snapshots(60.0)]
    assert len(tables) == 30
    assert (np.array(tables)[:, 4:7, 3] != np.array(tables)[0, 4:7, 3]).any()
    assert not np.array(tables)[:, :3, 4:].any()
    assert all(table[0, 1] for table in tables)
    assert found.graph.has_edge(3, 4)
    assert not found.graph.has_edge(0, 4)


def test_devices_whose_airs_have_no_radio_need_no_place() -> None:
    groups = {
        **GROUPS,
        "sensors": {"ids": "0-2", "positions": PLACES[:3]},
        "gateway": {**GROUPS["gateway"], "positions": PLACES[:1]},
    }
    found = lay_out(scenario(devices={"group": groups}, radio={"shadowing": {"sd": "4 dB", "correlated": True}}))
    propagation = found.propagation
    assert propagation is not None
    assert np.isnan(propagation.motion.at(0.0)[0][4:]).all()
    assert not propagation.motion.moves
    assert np.isfinite(propagation.powers(0, 0.0)[1:4]).all()


def test_a_hidden_sender_is_one_that_the_air_has_too() -> None:
    """With carrier sense by power, those without the radio notice nothing, however near."""
    medium = {"kind": "csma-ca", "sense": "-95 dBm"}
    world = build_world(scenario(medium=medium, **RADIO), learns=False)
    from p2pl_async.clock import VirtualClock

    air = world.make_air(VirtualClock(), lambda device: 0, world.make_link)
    assert [sender.device for sender in air.senders] == [*range(8), *range(8)]
    main = air._airs[0]  # type: ignore[union-attr]
    assert main is not None
    assert [listener for listener in range(8) if main.on_air.hears(listener, 0)] == [1, 2, 3]


def test_a_gateway_draws_what_sending_draws_while_any_of_its_radios_sends() -> None:
    energy = {"voltage": "1 V", "tx": "1 A", "rx": "0 A", "idle": "0 A"}
    both = experiment.run(scenario(energy=energy), trace=True)
    joules = dict(zip(both.devices.device, both.devices.energy_j, strict=True))
    sent = trace_of(both)
    on_air = sent[sent.src == 3].groupby(sent.dst >= 4).air_s.sum()
    assert 1.01 * max(on_air) < joules[3] < 0.99 * sum(on_air)


def test_radios_that_are_billed_apart_draw_what_each_draws() -> None:
    """A gateway's energy is a sum over its radios; each is in some state all the time."""
    amperes = {"main": 1.0, "near": 10.0, "line": 100.0}
    radios = {name: {"tx": f"{tx} A", "rx": "1 mA", "idle": "2 mA"} for name, tx in amperes.items()}
    run = experiment.run(scenario(energy={"voltage": "1 V", **radios["main"], "radio": radios}), trace=True)
    sent, gateway = trace_of(run), run.devices.query("device == 3").iloc[0]
    air = pd.cut(sent[sent.src == 3].dst, [-1, 3, 6, 7], labels=list(amperes))
    on_air = sent[sent.src == 3].groupby(air, observed=True).air_s.sum()
    assert len(on_air) == 3
    assert gateway.tx_s == pytest.approx(on_air.sum(), rel=1e-3)
    assert gateway.tx_j == pytest.approx(sum(on_air[name] * tx for name, tx in amperes.items()), rel=1e-3)
    assert gateway.off_s + gateway.tx_s + gateway.rx_s + gateway.idle_s == pytest.approx(3 * 10)
    assert gateway.energy_j == pytest.approx(gateway.tx_j + 1e-3 * gateway.rx_s + 2e-3 * gateway.idle_s)
    assert run.summary["energy"]["joules"] == pytest.approx(run.devices.energy_j.sum())


def test_one_radio_sleeps_between_its_events_while_another_listens() -> None:
    """Beside its connections, which cost as much as those of any other, a gateway's other radio listens for 10 s."""
    draws = {"voltage": "1 V", "tx": "1 A", "rx": "1 A", "idle": "1 A"}
    found = experiment.run(
        Scenario.model_validate(
            {
                **BASE,
                "devices": {"count": 4, "group": {"gates": {"ids": "0-1", "airs": ["main", "ble"]},
                                                  "others": {"ids": "2-3", "airs": ["ble"]}}},
                "air": {"ble": {"link": {"rate": "2 Mbit/s"}, "medium": {"kind": "ble-connections"}}},
                "energy": {**draws, "idle": "2 A", "radio": {"ble": {**draws, "sleep": "10 mA"}}},
                "protocol": Chatter(period="1 h"),
            }
        )
    )  # fmt: skip
    joules = found.devices.energy_j
    assert joules[2] == joules[3]
    assert 0.2 < joules[2] < 0.5  # 10 mA while asleep, and short events
    assert joules[:2].to_numpy() == pytest.approx(joules[2] + 2 * 10)


def test_a_battery_feeds_all_radios_of_its_device() -> None:
    """Two radios that listen at 1 W empty a battery of 4 J in 2 s; one alone does in 4 s."""
    radios = {name: {"tx": "1 W", "rx": "1 W", "idle": "1 W"} for name in ("main", "near")}
    energy = {"voltage": "2 V", **radios["main"], "radio": radios, "battery": "4 J"}
    group = {name: {**one, "airs": [air for air in one["airs"] if air != "line"]} for name, one in GROUPS.items()}
    group["office"] = {"ids": 7, "airs": ["main"]}
    air = {"near": BASE["air"]["near"]}
    found = experiment.run(
        Scenario.model_validate({**BASE, "devices": {"count": 8, "group": group}, "air": air, "energy": energy})
    )
    assert found.devices.battery_empty_s.to_numpy() == pytest.approx([4, 4, 4, 2, 4, 4, 4, 4])


def test_a_group_has_a_channel_on_each_of_its_airs() -> None:
    people = {"channel": {"near": 3}}
    gateway = {"channel": {"near": 2, "main": 1}}
    channels = {"channels": {"count": 4}}
    air = {"near": {"medium": channels}}
    sent = trace(devices={"group": {"people": people, "gateway": gateway}}, medium=channels, air=air)
    sent = sent[sent.channel >= 0]
    assert set(sent[sent.dst.isin([4, 5, 6])].channel) == {3}
    assert set(sent[(sent.dst == 3) & (sent.src > 3)].channel) == {2}
    assert set(sent[(sent.dst == 3) & (sent.src < 3)].channel) == {1}
    assert set(sent[sent.dst < 3].channel) == {0}


TOML = """
[devices]
count = 4
[devices.group.people]
ids = "2-3"
airs = ["ble"]
[devices.group.gate]
ids = 1
airs = ["main", "ble"]
[link]
preset = "zigbee_154"
[air.ble.link]
preset = "ble5_2m"
mtu = "100 B"
[air.ble.medium]
broadcast = "one-by-one"
[protocol]
kind = "p2pl"
[stop]
rounds = 1
"""


def test_a_preset_brings_the_medium_of_its_air_and_a_file_that_is_dumped_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "mixed.toml"
    path.write_text(TOML)
    found = load_scenario(path, ["air.ble.link.loss=0.5"])
    near = found.air["ble"]
    assert (near.medium.kind, near.link.rate, near.link.mtu) == ("ideal", 2e6, 100)
    assert near.link.loss.p == 0.5  # type: ignore[attr-defined]
    assert near.medium.broadcast == "one-by-one"  # type: ignore[attr-defined]
    assert found.medium.kind == "csma-ca"
    path.write_text(dump(found))
    assert load_scenario(path) == found


def test_probe_explains_the_air_of_a_link(tmp_path: Path) -> None:
    path = tmp_path / "mixed.toml"
    path.write_text(TOML.replace("[link]\n", '[topology]\nkind = "complete"\n[link]\n'))
    shown = CliRunner().invoke(app, ["probe", str(path), "--explain", "1", "2"]).stdout
    assert "air.ble.medium.kind" in shown
    assert "preset ble5_2m" in shown
    assert "zigbee" not in shown
    assert "none in common" in CliRunner().invoke(app, ["probe", str(path), "--explain", "0", "2"]).stdout
    probed = CliRunner().invoke(app, ["probe", str(path), "--from", "1", "--to", "2", "--count", "5"])
    assert probed.exit_code == 0, probed.output


@pytest.mark.parametrize(
    ("changes", "path", "says"),
    [
        ({"devices": {"group": {"people": {"airs": ["nera"]}}}}, "devices.group.people.airs", 'did you mean "near"?'),
        ({"devices": {"group": {"people": {"airs": ["near"] * 2}}}}, "devices.group.people.airs", "an air twice"),
        ({"air": {"spare": {}}}, "air.spare", 'is on no device: write airs = ["spare"]'),
        ({"air": {"near": {"medium": {"sense": "-90 dBm"}}}}, "air.near.medium", "sense"),
        ({"air": {"near": {"medium": {"collision": "sinr"}}}}, "air.near.medium.collision", "needs received powers"),
        ({"air": {"near": {"link": {"rate": None}}}}, "air.near.link.rate", "required on a shared medium"),
        ({"air": {"near": {"radio": {"phy": "ble"}}}}, "air.near.radio", "needs [radio], which says where"),
        ({"devices": {"group": {"people": {"channel": 1}}}}, "devices.group.people.channel", "channel = { near = 1 }"),
        ({"devices": {"group": {"people": {"channel": "1"}}}}, "devices.group.people.channel", "one for each air"),
        ({"devices": {"group": {"people": {"channel": {"o": 1}}}}}, "devices.group.people.channel.o", "known: main"),
        ({"devices": {"group": {"people": {"channel": {"near": 1}}}}}, "devices.group.people.channel.near",
         "write [air.near.medium] channels"),
        ({"devices": {"group": {"people": {"channel": {"near": 5}}}}, "air": {"near": {"medium": {"channels": 2}}}},
         "devices.group.people.channel.near", "must be below air.near.medium.channels.count, 2"),
        ({"energy": {"preset": "cc2420", "radio": {"nera": {"preset": "nrf52840"}}}}, "energy.radio.nera",
         'did you mean "near"?'),
        ({"link": {"override": [{"from": "people", "duplicate": 0.1}]}}, "link.override.0.duplicate", "dedicated"),
        ({"event": [{"kind": "set", "at": "1 s", "from": 4, "link": {"duplicate": 0.1}}]}, "event.0.link", "dedicated"),
    ],
)  # fmt: skip
def test_airs_that_do_not_fit_are_refused(changes: dict[str, Any], path: str, says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        scenario(**changes)
    found = [(".".join(map(str, detail["loc"])), detail["msg"]) for detail in caught.value.errors()]
    assert any(where.startswith(path) and says in text + where for where, text in found), found


def test_a_change_that_only_a_line_can_follow_is_taken_there() -> None:
    change = {"link": {"override": [{"from": "office", "both": True, "duplicate": "50 %"}]}}
    assert build_world(scenario(**change), learns=False).links.settings(3, 7).duplicate == 0.5


@pytest.mark.parametrize("kind", ["nr-mode2", "ble-connections", "ble-advertising"])
def test_a_group_has_no_channel_where_the_medium_tunes_its_radios(kind: str) -> None:
    people = {**GROUPS["people"], "airs": ["main"], "channel": 0}
    medium = {"kind": kind, "ack": None} if kind == "nr-mode2" else {"kind": kind}
    with pytest.raises(ValidationError, match="says itself which channel a radio is on"):
        Scenario.model_validate(
            {**BASE, "devices": {"count": 8, "group": {**GROUPS, "people": people}}, "medium": medium}
        )


def test_an_air_named_main_is_refused() -> None:
    with pytest.raises(ValidationError, match='not "main"'):
        scenario(air={"main": {}})


def test_links_in_turn_between_devices_without_an_air_in_common_are_refused() -> None:
    with pytest.raises(ScenarioError, match="have no air in common; take one whose links stay"):
        build_world(scenario(topology="random-matchings"), learns=False)
