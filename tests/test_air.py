"""Devices on shared air: protocols run as over links of their own, and every message is accounted for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from p2pl_async import Device, Message, Protocol, load_scenario
from p2pl_async import run as run_scenario
from p2pl_async.errors import ScenarioError
from p2pl_async.testing import complete, emulate, ring

MEDIA: list[dict[str, Any]] = [
    {"kind": "half-duplex"},
    {"kind": "ideal"},
    {"kind": "csma-ca"},
    {"kind": "dcf", "ack": {"size": "14 B", "airtime": "28 us", "delay": "16 us"}},
    {"kind": "aloha", "backoff": "50 ms"},
]
LINK = {"rate": "250 kbit/s", "mtu": "133 B", "header": "17 B", "loss": "5 %", "arq": {"retries": 3}}


@dataclass(frozen=True, slots=True)
class Note(Message, tag="air-note"):
    text: str


class Chatter(Protocol):
    """Everybody tells everybody, and one neighbor once more."""

    kind: str = "chatter"

    async def run(self, device: Device) -> None:
        for _ in range(10):
            await device.sleep(float(device.random.exponential(0.05)))
            device.broadcast(Note("x" * 300))
            device.send(device.out_neighbors[0], Note("y" * 50))
        await device.sleep(60)
        heard = 0
        while device.receive_nowait(Note) is not None:
            heard += 1
        device.record("heard", heard)


@pytest.mark.parametrize("medium", MEDIA, ids=lambda medium: medium["kind"])
def test_every_message_is_accounted_for_and_only_the_seed_decides(medium) -> None:
    digests = []
    for seed in (1, 1, 2):
        heard: list[float] = []
        records: list[Any] = []
        emulation = emulate(
            Chatter(), complete(5), medium=medium, link=LINK, seed=seed,
            record=lambda device, metric, value, heard=heard: heard.append(value), sink=records.append,
        )  # fmt: skip
        trace = emulation.trace
        assert len(records) == trace.sent == 5 * 10 * (4 + 1)
        assert trace.undecided == 0
        assert trace.delivered + trace.counts.n_lost == trace.sent
        assert sum(heard) == trace.delivered
        assert trace.counts.air_seconds == pytest.approx(
            sum(radio.seconds for radio in emulation.transport.air.senders) - acks(emulation), rel=1e-6
        )
        digests.append(trace.digest())
    assert digests[0] == digests[1] != digests[2]


def acks(emulation: Any) -> float:
    """Return how long acknowledgments were on the air: all that no message was charged for."""
    ack = emulation.transport.air.settings.ack
    if ack is None:
        return 0.0
    charged = emulation.trace.counts.air_seconds
    used = sum(radio.seconds for radio in emulation.transport.air.senders)
    assert used > charged
    count = (used - charged) / ack.airtime
    assert count == pytest.approx(round(count), abs=1e-6)
    return used - charged


def test_a_broadcast_is_one_transmission_and_a_unicast_is_acknowledged() -> None:
    emulation = emulate(
        Chatter(), complete(5), medium={"kind": "ideal"}, link={"rate": "250 kbit/s", "arq": {"retries": 1}}
    )
    assert emulation.trace.counts.packets == 5 * 10 * (1 + 1)
    assert emulation.trace.counts.acknowledged == 5 * 10


def test_what_is_under_way_at_the_end_is_in_flight() -> None:
    emulation = emulate(Chatter(), ring(4), medium={"kind": "ideal"}, link={"rate": "2 kbit/s"}, until=2.0)
    trace = emulation.trace
    in_flight = emulation.transport.in_flight()
    assert in_flight
    assert trace.sent == trace.delivered + trace.counts.n_lost + len(in_flight)


def test_a_slow_shared_radio_is_busy_for_every_target() -> None:
    busy: list[bool] = []

    class Look(Protocol):
        kind: str = "look"

        async def run(self, device: Device) -> None:
            if device.id == 0:
                device.send(1, Note("x" * 1000))
                device.send(2, Note("x"))
                await device.sleep(0.5)
                busy.extend(device.is_sending(j) for j in (1, 2, 3))
                await device.sleep(60)
                busy.extend(device.is_sending(j) for j in (1, 2, 3))

    emulate(Look(), complete(4), medium={"kind": "half-duplex"}, link={"rate": "8 kbit/s"})
    assert busy == [True, True, False, False, False, False]


SCENARIO = """
seed = 3
[devices]
count = 4
[topology]
kind = "complete"
[link]
preset = "zigbee_154"
{more}
[data]
dataset = "digits"
[model]
kind = "softmax"
[protocol]
kind = "p2pl"
[stop]
rounds = 2
"""


@pytest.mark.parametrize(("more", "kind", "collisions"), [
    ("", "csma-ca", True), ('[medium]\nkind = "ideal"', "ideal", False), ('[medium]\nmin_exponent = 5', "csma-ca", True)
])  # fmt: skip
def test_a_preset_brings_its_medium_and_each_value_can_be_overridden(tmp_path, more, kind, collisions) -> None:
    path = tmp_path / "s.toml"
    path.write_text(SCENARIO.format(more=more))
    scenario = load_scenario(path)
    assert scenario.medium.kind == kind
    if "exponent" in more:
        assert scenario.medium.min_exponent == 5
        assert scenario.medium.ack is not None
    summary = run_scenario(scenario).summary
    lost = summary["messages"]["lost"]
    assert ("collision" in lost or "access" in lost) == collisions


SHARED = '[medium]\nkind = "ideal"\n[link]\nrate = "1 Mbit/s"\n'
LEAST = """
[devices]
count = 4
[topology]
kind = "complete"
[protocol]
kind = "p2pl"
[stop]
rounds = 1
"""


@pytest.mark.parametrize(("more", "path", "says"), [
    ('[medium]\nkind = "csma-ca"\nsense = "-85 dBm"\n[link]\nrate = "1 Mbit/s"', "medium.sense", "[radio]"),
    ('[medium]\nkind = "aloha"\ncollision = "sinr"\n[link]\nrate = "1 Mbit/s"', "medium.collision", "[radio]"),
    ('[medium]\nkind = "ideal"\n[link]\nrate = "1 Mbit/s"\nqueue = { messages = 4 }', "link.queue", "[medium] queue"),
    ('[medium]\nkind = "ideal"\n[link]\nrate = "1 Mbit/s"\nduplicate = 0.1', "link.duplicate", "dedicated"),
    (SHARED + 'arq = { retries = 3, kind = "go-back-n", window = 4 }', "link.arq", "[medium] ack"),
    (SHARED + "arq = { retries = 3, ack_loss = 0.1 }", "link.arq", "[medium] ack"),
    (SHARED + 'outage = { kind = "on-off", up = "1 s", down = "1 s", when_off = "hold" }', "link.outage", "drop"),
    (SHARED + "corrupt = 0.1\ndeliver_corrupted = true", "link.deliver_corrupted", "false"),
    (SHARED.replace("[link]", 'queue = { size = "9 kB", drop = "head" }\n[link]'), "medium.queue", "tail"),
    ('[medium]\nkind = "ideal"', "link", "1 Mbit/s"),
    ('[medium]\nkind = "csma-ca"\nmin_exponent = 6', "medium", "max_exponent"),
    ('[medium]\nkind = "dcf"\nmin_window = 2000', "medium", "max_window"),
    ('[medium]\nkind = "aloha"\nduty_cycle = { share = 0 }', "medium.duty_cycle", "above 0"),
    ('[medium]\nkind = "csma"', "medium", "csma-ca"),
])  # fmt: skip
def test_what_does_not_fit_is_said(tmp_path, more, path, says) -> None:
    file = tmp_path / "s.toml"
    file.write_text(LEAST + more)
    with pytest.raises(ScenarioError) as caught:
        load_scenario(file)
    (problem,) = caught.value.problems
    assert problem.path.startswith(path)
    assert says in problem.text


POSITIONED = """
seed = 2
[devices]
count = 3
[topology]
kind = "complete"
[link]
rate = "250 kbit/s"
mtu = "133 B"
header = "17 B"
[radio]
phy = "802.15.4"
positions = [["50 m", "0 m"], ["{left} m", "0 m"], ["{right} m", "0 m"]]
[medium]
kind = "csma-ca"
collision = "{collision}"
sense = "-85 dBm"
[protocol]
kind = "p2pl"
[stop]
rounds = 1
"""


@pytest.mark.parametrize(("left", "right", "hidden"), [(45, 55, False), (25, 75, True)])
def test_hidden_terminals_follow_from_positions(tmp_path, left, right, hidden) -> None:
    """Device 0 lies between two that hear each other only if they are near."""
    from p2pl_async.experiment.emulation import Emulation
    from p2pl_async.experiment.probing import probe_world

    class Shout(Protocol):
        kind: str = "shout"

        async def run(self, device: Device) -> None:
            for _ in range(100 if device.id else 0):
                await device.sleep(float(device.random.exponential(0.02)))
                device.send(0, Note("x" * 40))
            await device.sleep(5)

    path = tmp_path / "s.toml"
    path.write_text(POSITIONED.format(left=left, right=right, collision="sinr"))
    world = probe_world(load_scenario(path))
    emulation = Emulation(world.out_neighbors, world.make_link, 2, make_air=world.make_air)
    emulation.run(Shout())
    counts = emulation.trace.counts
    assert counts.lost["noise"] == 0
    assert (counts.lost["collision"] > 10) == hidden


def test_the_rule_of_collisions_is_the_scenarios(tmp_path) -> None:
    """The nearer of two overlapping senders captures the receiver, or nobody survives."""
    lost = {}
    for rule in ("overlap", "capture"):
        path = tmp_path / "s.toml"
        text = POSITIONED.format(left=46, right=75, collision=rule).replace("csma-ca", "aloha")
        path.write_text(text)
        from p2pl_async.experiment.emulation import Emulation
        from p2pl_async.experiment.probing import probe_world

        class Both(Protocol):
            kind: str = "both"

            async def run(self, device: Device) -> None:
                if device.id:
                    device.send(0, Note("x"))
                await device.sleep(1)

        world = probe_world(load_scenario(path))
        emulation = Emulation(world.out_neighbors, world.make_link, 2, make_air=world.make_air)
        emulation.run(Both())
        lost[rule] = emulation.trace.counts.lost["collision"]
    assert lost == {"overlap": 2, "capture": 1}


def test_explain_tells_who_set_the_medium(tmp_path) -> None:
    from typer.testing import CliRunner

    from p2pl_async.cli.main import app

    path = tmp_path / "s.toml"
    path.write_text(LEAST + '[link]\npreset = "zigbee_154"\n[medium]\nmax_backoffs = 7\n')
    result = CliRunner().invoke(app, ["probe", str(path), "--explain", "0", "1"])
    assert result.exit_code == 0, result.output
    rows = {line.split()[0]: line.split()[1:] for line in result.output.splitlines() if line.startswith(" medium.")}
    assert rows["medium.max_backoffs"] == ["7", "medium"]
    assert rows["medium.ack.airtime"][-2:] == ["preset", "zigbee_154"]
    assert rows["medium.min_exponent"] == ["3", "default"]


def test_list_names_media(tmp_path) -> None:
    from typer.testing import CliRunner

    from p2pl_async.cli.main import app

    output = CliRunner().invoke(app, ["list", "media"]).output
    assert all(kind in output for kind in ("dedicated", "half-duplex", "ideal", "csma-ca", "dcf", "aloha"))
