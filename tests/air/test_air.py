"""Shared air: closed forms and ns-3 for each way to share it, broadcasts, and protocols that run over it.

Half duplex, turns, CSMA/CA, DCF, ALOHA, collisions and capture; every message is accounted for.
"""

from __future__ import annotations

import gc
import math
from dataclasses import dataclass
from itertools import pairwise
from math import comb
from typing import Any

import numpy as np
import pytest
from helpers.powers import FixedPowers

from p2pl_async import Device, Message, Protocol, load_scenario
from p2pl_async import run as run_scenario
from p2pl_async.air.hearing import PowerHearing
from p2pl_async.air.outgoing import Outgoing
from p2pl_async.air.settings import CsmaCa
from p2pl_async.air.transmission import Transmission
from p2pl_async.errors import ScenarioError
from p2pl_async.link import LinkSettings
from p2pl_async.testing import Cell, complete, emulate, ring

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

        def record(device: int, metric: str, value: float, heard: list[float] = heard) -> None:
            heard.append(value)

        emulation = emulate(
            Chatter(), complete(5), medium=medium, link=LINK, seed=seed, record=record, sink=records.append
        )
        assert emulation.transport.air is not None
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
        assert isinstance(scenario.medium, CsmaCa)
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
    (SHARED + "corrupt = 0.1\ndeliver_corrupted = true", "link.deliver_corrupted", "false"),
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


ZIGBEE = {"mtu": "133 B", "header": "17 B", "rate": "250 kbit/s"}  # 80 B of content are 97 B, 3.104 ms on the air
FRAME = 97 * 32e-6

# ns-3 3.37, 802.15.4 unslotted CSMA/CA, one sink, 500 frames of 80 B per sender, Poisson, mean of two runs:
# senders, mean gap of one sender in s -> delivery ratio, mean delay in ms. "hidden": two halves that don't
# hear each other, only the sink hears all.
NS3_CLIQUE = {(2, 0.05): (0.9935, 5.163), (4, 0.05): (0.98225, 6.066), (8, 0.2): (0.99038, 5.158),
              (8, 0.1): (0.97763, 6.054), (8, 0.05): (0.91663, 8.331)}  # fmt: skip
NS3_HIDDEN = {(2, 0.05): (0.928, 4.847), (4, 0.05): (0.877, 5.166), (8, 0.2): (0.93263, 4.830),
              (8, 0.1): (0.87075, 5.164), (8, 0.05): (0.75813, 6.094)}  # fmt: skip


def test_unloaded_csma_ca_waits_backoff_assessment_and_turnaround() -> None:
    cell = Cell({"kind": "csma-ca"}, 2, link=ZIGBEE)
    for k in range(4000):
        cell.offer(0.1 * k, 0, [1], 80)
    delays = cell.run().delays()
    slots = np.unique(np.round((delays - FRAME - 320e-6) / 320e-6, 6))
    assert slots.tolist() == list(range(8))
    assert delays.mean() == pytest.approx(4.544e-3, abs=5 * delays.std() / math.sqrt(len(delays)))


@pytest.mark.parametrize(("hidden", "setting"), [
    *((False, setting) for setting in NS3_CLIQUE), *((True, setting) for setting in NS3_HIDDEN)
])  # fmt: skip
def test_contention_is_that_of_ns3(hidden, setting) -> None:
    senders, gap = setting
    ratio, delay_ms = (NS3_HIDDEN if hidden else NS3_CLIQUE)[setting]
    powers = np.full((senders + 1, senders + 1), -60.0)
    if hidden:
        half = np.arange(senders + 1) % 2
        apart = (half[:, None] != half) & (np.arange(senders + 1)[:, None] > 0) & (np.arange(senders + 1) > 0)
        powers[apart] = -200.0
    waves = FixedPowers(powers)
    medium = {"kind": "csma-ca", "collision": "sinr"}
    cell = Cell(medium, senders + 1, link=ZIGBEE, hearing=PowerHearing(waves, -85.0), propagation=waves, seed=5)
    for sender in range(1, senders + 1):
        cell.poisson(1 / gap, sender, [0], 80, 4000 // senders)
    cell.run()
    assert cell.share() == pytest.approx(ratio, abs=0.015)
    assert 1e3 * cell.delays().mean() == pytest.approx(delay_ms, abs=0.4)


def test_csma_ca_gives_up_a_frame_after_too_many_busy_looks() -> None:
    cell = Cell({"kind": "csma-ca", "max_backoffs": 1}, 3, link={"rate": "8 kbit/s"})
    cell.offer(0.0, 0, [1], 1000)  # occupies the channel for a second
    cell.offer(0.1, 2, [1], 10)
    cell.run()
    assert {outcome.src: outcome.verdict.cause for outcome in cell.outcomes} == {0: "", 2: "access"}
    assert [outcome.verdict.packets for outcome in cell.outcomes if outcome.src == 2] == [0]


@pytest.mark.parametrize(("n", "p"), [(2, 0.1046), (5, 0.2715), (10, 0.3844)])
def test_saturated_dcf_collides_as_bianchi_says(n, p) -> None:
    """And its throughput is that of the renewal argument (Bianchi, JSAC 2000)."""
    slot, difs, sifs, ack, airtime = 9e-6, 34e-6, 16e-6, 44e-6, 8000 / 6e6
    medium = {"kind": "dcf", "ack": {"size": "14 B", "airtime": "44 us", "delay": "16 us"}}
    link = {"rate": "6 Mbit/s", "arq": {"retries": 100}}
    cell = Cell(medium, n + 1, link=link, seed=2)
    for sender in range(1, n + 1):
        for _ in range(6000 // n):
            cell.offer(0.0, sender, [0], 1000)
    until = 5.0
    cell.run(until)
    sent = [(start, end) for start, end, device in cell.on_air if device != 0]
    starts = np.array([start for start, _ in sent])
    _, counts = np.unique(np.round(starts, 8), return_counts=True)
    share = counts[counts > 1].sum() / len(starts)
    # Bianchi counts a busy period as one slot for all; after one, the standard leaves slot 0 to who has just sent.
    assert share == pytest.approx(p, abs=0.03)

    tau = 2 * (1 - 2 * p) / ((1 - 2 * p) * 17 + p * 16 * (1 - (2 * p) ** 6))
    some, one = 1 - (1 - tau) ** n, n * tau * (1 - tau) ** (n - 1)
    cycle = airtime + sifs + ack + difs
    rate = one / ((1 - some) * slot + some * cycle)  # successes per second; a collision waits for its ACK as long
    delivered = sum(not outcome.verdict.cause for outcome in cell.outcomes)
    assert delivered / until == pytest.approx(rate, rel=0.03)


def test_dcf_never_starts_within_difs_of_what_it_hears() -> None:
    cell = Cell({"kind": "dcf"}, 4, link={"rate": "6 Mbit/s"})
    for sender in range(1, 4):
        cell.poisson(500, sender, [0], 500, 200)
    cell.run()
    stretches = sorted(cell.on_air)
    gaps = [start - before for (_, before, _), (start, _, _) in pairwise(stretches) if start > before]
    assert min(gaps) >= 34e-6 - 1e-9


@pytest.mark.parametrize(("slot", "load", "success"), [
    (None, 0.5, math.exp(-1.0)),
    (None, 0.2, math.exp(-0.4)),
    ("8 ms", 0.5, math.exp(-0.5)),
    ("8 ms", 1.0, math.exp(-1.0)),
])  # fmt: skip
def test_aloha(slot, load, success) -> None:
    """exp(-2G), slotted exp(-G): an infinite population, here 200 devices that each send rarely."""
    n, frames, airtime = 200, 40, 8e-3
    cell = Cell(
        {"kind": "aloha", "slot": slot} if slot else {"kind": "aloha"}, n + 1, link={"rate": "1 Mbit/s"}, seed=4
    )
    for sender in range(1, n + 1):
        cell.poisson(load / airtime / n, sender, [0], 1000, frames)
    until = 0.8 * frames * n * airtime / load  # before the first device has sent all
    cell.run(until)
    # Collisions come in groups: 5 standard errors, doubled.
    assert cell.share() == pytest.approx(success, abs=10 * math.sqrt(success * (1 - success) / len(cell.outcomes)))


def test_a_hidden_terminal_kills_with_its_load() -> None:
    """Success exp(-2 l T) under a Poisson load l from devices that the sender doesn't hear: here a hundred, rarely."""
    hidden, rate, airtime, frames = 100, 30.0, 8e-3, 3000
    star = [list(range(1, hidden + 2)), *[[0]] * (hidden + 1)]
    cell = Cell({"kind": "csma-ca"}, hidden + 2, link={"rate": "1 Mbit/s"}, out_neighbors=star, seed=3)
    cell.poisson(5.0, 1, [0], 1000, frames)
    for sender in range(2, hidden + 2):
        cell.poisson(rate / hidden, sender, [0], 1000, 180)
    cell.run(500.0)
    heard = [not outcome.verdict.cause for outcome in cell.outcomes if outcome.src == 1]
    expected = math.exp(-2 * rate * airtime)
    assert len(heard) > 2000
    assert np.mean(heard) == pytest.approx(expected, abs=5 * math.sqrt(expected * (1 - expected) / len(heard)))


def test_an_exposed_terminal_waits_for_nothing() -> None:
    """0 <- 1   2 -> 3: 2 hears 1 and holds its tongue, though nobody near 3 would be disturbed."""
    cell = Cell({"kind": "csma-ca"}, 4, link={"rate": "1 Mbit/s"}, out_neighbors=[[1], [0, 2], [1, 3], [2]])
    cell.offer(0.0, 1, [0], 10_000)  # 80 ms
    cell.offer(0.01, 2, [3], 10)
    cell.run()
    (late,) = [outcome for outcome in cell.outcomes if outcome.src == 2]
    assert late.verdict.cause == "access"


@pytest.mark.parametrize("medium", [{"kind": "csma-ca"}, {"kind": "aloha", "collision": "overlap"}, MEDIA[3]])
def test_what_has_been_sent_is_freed_at_once(medium: dict[str, Any]) -> None:
    """Python's search for circles of objects would take a tenth of a run."""
    cell = Cell(medium, 4, link={"rate": "1 Mbit/s"})
    for k in range(80):
        cell.offer(0.1 * (k // 2), k % 4, [j for j in range(4) if j != k % 4], 50)  # two at a time
    gc.collect()
    gc.disable()
    try:
        cell.run()
        left = [one for one in gc.get_objects() if isinstance(one, Outgoing | Transmission)]
    finally:
        gc.enable()
    assert len(cell.outcomes) == 240
    assert len(left) <= 4  # the two latest


def test_who_transmits_does_not_hear() -> None:
    cell = Cell({"kind": "half-duplex"}, 3, link={"rate": "8 kbit/s"})
    cell.offer(0.0, 0, [1, 2], 1000)  # 0 s to 1 s
    cell.offer(0.5, 1, [0, 2], 1000)  # 0.5 s to 1.5 s
    cell.run()
    fates = {(o.src, o.dst): (o.verdict.cause, o.verdict.arrival) for o in cell.outcomes}
    deaf = ("half-duplex", math.inf)
    assert fates == {(0, 1): deaf, (0, 2): ("", 1.0), (1, 0): deaf, (1, 2): ("", 1.5)}


def test_half_duplex_loses_only_the_fragments_that_overlap() -> None:
    cell = Cell({"kind": "half-duplex"}, 2, link={"rate": "8 kbit/s", "mtu": "100 B"})
    cell.offer(0.0, 0, [1], 1000)  # ten frames of 0.1 s
    cell.offer(0.45, 1, [0], 100)  # 0.45 s to 0.55 s: over the fifth and the sixth
    cell.run()
    lost = {o.src: o.verdict.packets_lost for o in cell.outcomes}
    assert lost == {0: 2, 1: 1}


def test_ideal_air_is_one_queue() -> None:
    """M/D/1 over all devices in range: mean wait rho T / (2 (1 - rho)), nothing lost."""
    n, airtime, rho = 10, 8e-3, 0.7
    cell = Cell({"kind": "ideal"}, n, link={"rate": "1 Mbit/s"}, seed=6)
    for sender in range(n):
        cell.poisson(rho / airtime / n, sender, [(sender + 1) % n], 1000, 2000)
    cell.run()
    assert cell.share() == 1
    waits = cell.delays() - airtime
    assert waits.mean() == pytest.approx(rho * airtime / (2 * (1 - rho)), rel=0.06)
    stretches = sorted(cell.on_air)
    assert all(start >= before - 1e-12 for (_, before, _), (start, _, _) in pairwise(stretches))


def test_ideal_air_serves_in_order_of_request_and_lets_distant_devices_talk_at_once() -> None:
    path = [[1], [0, 2], [1, 3], [2, 4], [3]]
    cell = Cell({"kind": "ideal"}, 5, link={"rate": "8 kbit/s"}, out_neighbors=path)
    cell.offer(0.0, 0, [1], 1000)
    cell.offer(0.1, 1, [2], 1000)  # hears 0: waits until 1 s
    cell.offer(0.2, 2, [1], 1000)  # hears 1, who was first
    cell.offer(0.3, 4, [3], 1000)  # hears neither
    cell.run()
    starts = {device: start for start, _, device in cell.on_air}
    assert starts == {0: 0.0, 1: 1.0, 2: 2.0, 4: 0.3}


def powers(stronger: float) -> np.ndarray:
    """Device 0 receives 1 at -60 dBm and 2 `stronger` above that."""
    table = np.full((3, 3), -60.0)
    table[2, 0] += stronger
    return table


@pytest.mark.parametrize(("stronger", "limit", "survivors"), [
    (5.9, "6 dB", set()), (6.0, "6 dB", {2}), (3.0, "3 dB", {2}), (-6.0, "6 dB", {1})
])  # fmt: skip
def test_capture(stronger, limit, survivors) -> None:
    waves = FixedPowers(powers(stronger))
    medium = {"kind": "aloha", "collision": "capture", "capture": limit}
    cell = Cell(medium, 3, link={"rate": "8 kbit/s"}, propagation=waves)
    cell.offer(0.0, 1, [0], 1000)
    cell.offer(0.5, 2, [0], 1000)
    cell.run()
    assert {outcome.src for outcome in cell.outcomes if not outcome.verdict.cause} == survivors
    assert {outcome.verdict.cause for outcome in cell.outcomes} <= {"", "collision"}


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.75])
def test_sinr_is_averaged_over_the_parts_of_a_frame(overlap) -> None:
    """Only the bits under interference suffer: PER = 1 - (1 - BER)^(8 L overlap), at 0 dB."""
    waves = FixedPowers(powers(-1.0), noise=-120.0)
    frames = 3000
    medium = {"kind": "aloha", "collision": "sinr"}
    cell = Cell(medium, 3, link={"rate": "8 kbit/s"}, propagation=waves, seed=8)
    for k in range(frames):
        cell.offer(10.0 * k, 1, [0], 127)
        cell.offer(10.0 * k + (1 - overlap) * 0.127 + 1e-12, 2, [0], 127)
    cell.run()
    share = float(np.mean([outcome.verdict.cause == "collision" for outcome in cell.outcomes if outcome.src == 1]))
    whole = float(waves.phy.error(1.0 - 10 * math.log10(1 + 10 ** (-5.9)), 127))
    expected = 1 - (1 - whole) ** overlap
    assert whole > 0.01
    assert share == pytest.approx(expected, abs=5 * math.sqrt(max(expected, 1e-9) * (1 - expected) / frames))
    late = {outcome.verdict.cause for outcome in cell.outcomes if outcome.src == 2}
    assert late == ({"collision"} if overlap else {""})  # the receiver was busy with the first


@pytest.mark.parametrize("medium", [
    {"kind": "half-duplex"}, {"kind": "ideal"}, {"kind": "csma-ca"}, {"kind": "dcf"}, {"kind": "aloha"}
])  # fmt: skip
def test_no_device_transmits_twice_at_once_and_every_message_has_one_fate(medium) -> None:
    medium = {**medium, "ack": {"size": "10 B", "airtime": "80 us", "delay": "50 us"}, "queue": {"messages": 3}}
    link = {"rate": "1 Mbit/s", "mtu": "300 B", "loss": "10 %", "arq": {"retries": 2}}
    cell = Cell(medium, 5, link=link, seed=9)
    for sender in range(5):
        others = [other for other in range(5) if other != sender]
        cell.poisson(100, sender, others[:1], 1000, 60)
        cell.poisson(30, sender, others, 500, 30)
    cell.run()
    assert len(cell.outcomes) == 5 * (60 + 4 * 30)
    assert cell.air.undecided == 0
    for device in range(5):
        own = sorted((start, end) for start, end, k in cell.on_air if k == device)
        assert all(start >= before for (_, before), (start, _) in pairwise(own))
        assert sum(end - start for start, end in own) == pytest.approx(cell.air.senders[device].seconds)
    arrived = [outcome for outcome in cell.outcomes if not outcome.verdict.cause]
    assert all(outcome.verdict.arrival >= outcome.sent + 8 * 500 / 1e6 for outcome in arrived)
    assert {"", "queue"} <= {outcome.verdict.cause for outcome in cell.outcomes}


# Unicast over a shared medium


def test_acknowledged_unicast_repeats_what_is_lost() -> None:
    """Attempts (1 - p^(m+1)) / (1 - p), residual loss p^(m+1) (ACKs are never lost here)."""
    p, tries, count = 0.3, 4, 4000
    cell = Cell({"kind": "half-duplex"}, 2, link={"rate": "1 Mbit/s", "loss": p, "arq": {"retries": tries - 1}})
    for k in range(count):
        cell.offer(1.0 * k, 0, [1], 100)
    cell.run()
    packets = np.array([outcome.verdict.packets for outcome in cell.outcomes])
    assert packets.mean() == pytest.approx((1 - p**tries) / (1 - p), abs=5 * packets.std() / math.sqrt(count))
    assert cell.share("retries") == pytest.approx(p**tries, abs=5 * math.sqrt(p**tries / count))
    assert all(outcome.verdict.acknowledged == (not outcome.verdict.cause) for outcome in cell.outcomes)


def test_a_lost_acknowledgment_makes_the_sender_repeat_and_doubt() -> None:
    """p = 1 - (1 - p_data)(1 - p_ack); delivered without the sender knowing is told apart."""
    p, count = 0.2, 4000
    medium = {"kind": "half-duplex", "ack": {"size": "10 B", "airtime": "80 us", "delay": "50 us"}}
    cell = Cell(medium, 2, link={"rate": "1 Mbit/s", "loss": p, "arq": {"retries": 1}}, seed=7)
    for k in range(count):
        cell.offer(1.0 * k, 0, [1], 100)
    cell.run()
    once = (1 - p) ** 2
    known = np.mean([outcome.verdict.acknowledged for outcome in cell.outcomes])
    assert known == pytest.approx(1 - (1 - once) ** 2, abs=5 * math.sqrt(0.13 / count))
    assert cell.share() == pytest.approx(1 - p**2, abs=5 * math.sqrt(0.04 / count))
    assert not any(outcome.verdict.cause and outcome.verdict.acknowledged for outcome in cell.outcomes)


def test_spacing_and_queue_limits() -> None:
    medium = {"kind": "half-duplex", "spacing": "250 ms", "queue": {"messages": 2}}
    cell = Cell(medium, 2, link={"rate": "8 kbit/s"})
    for _ in range(3):
        cell.offer(0.0, 0, [1], 1000)
    cell.run()
    assert [(o.verdict.cause, o.verdict.arrival) for o in sorted(cell.outcomes, key=lambda o: o.verdict.arrival)] == [
        ("", 1.0), ("", 2.25), ("queue", math.inf)
    ]  # fmt: skip


@pytest.mark.parametrize("mode", ["window", "per-frame"])
def test_the_duty_cycle_holds_in_every_window(mode) -> None:
    limit = {"share": "10 %", "mode": mode, "window": "10 s"}
    cell = Cell({"kind": "aloha", "duty_cycle": limit}, 2, link={"rate": "80 kbit/s"}, seed=3)
    cell.poisson(5, 0, [1], 1000, 300)  # 0.1 s each: half of the time, if they could
    cell.run()
    stretches = np.array([(start, end) for start, end, _ in cell.on_air])
    for begin in np.concatenate([stretches[:, 0], stretches[:, 1] - 10.0]):
        inside = np.minimum(stretches[:, 1], begin + 10.0) - np.maximum(stretches[:, 0], begin)
        assert inside.clip(0).sum() <= 1.0 + 1e-6
    span = stretches[-1, 1] - stretches[0, 0]
    assert (stretches[:, 1] - stretches[:, 0]).sum() / span == pytest.approx(0.1, rel=0.05)  # and all of it is used


# Fragments over a shared medium


@pytest.mark.parametrize(("medium", "frames"), [("half-duplex", 1), ("csma-ca", 10)])
def test_parity_makes_up_for_lost_packets(medium, frames) -> None:
    """Any 8 of 10: P(Bin(10, 1 - p) >= 8)."""
    p, count = 0.15, 3000
    link = {"rate": "1 Mbit/s", "mtu": "100 B", "loss": p, "fec": {"data": 8, "parity": 2}}
    cell = Cell({"kind": medium}, 2, link=link, seed=11)
    for k in range(count):
        cell.offer(1.0 * k, 0, [1], 750)
    cell.run()
    expected = sum(math.comb(10, k) * (1 - p) ** k * p ** (10 - k) for k in (8, 9, 10))
    assert cell.share() == pytest.approx(expected, abs=5 * math.sqrt(expected * (1 - expected) / count))
    verdicts = [outcome.verdict for outcome in cell.outcomes]
    assert {verdict.packets for verdict in verdicts} == {10}
    assert {verdict.air_bytes for verdict in verdicts} == {950}  # nine full ones and the last, 50 B
    assert len(cell.on_air) == count * frames


@pytest.mark.parametrize("medium", ["half-duplex", "csma-ca"])
@pytest.mark.parametrize("retries", [None, 0])
def test_a_part_of_a_message_may_arrive(medium, retries) -> None:
    link = {"rate": "1 Mbit/s", "mtu": "100 B", "loss": 0.3}
    if retries is not None:
        link["arq"] = {"retries": retries}
    cell = Cell({"kind": medium}, 2, link=link, seed=12)
    for k in range(500):
        cell.offer(1.0 * k, 0, [1], 1000, needed=150)
    cell.run()
    parts = [outcome.verdict for outcome in cell.outcomes if outcome.verdict.cause == "partial"]
    lost = [outcome.verdict for outcome in cell.outcomes if outcome.verdict.cause not in ("", "partial")]
    whole = 0.7**10
    first_two = 0.7**2  # with the 150 bytes that are needed
    assert len(parts) / 500 == pytest.approx(first_two - whole, abs=5 * math.sqrt(0.25 / 500))
    assert all(verdict.arrival < math.inf and not verdict.acknowledged for verdict in parts)
    assert all(verdict.missing[0][0] >= 200 and verdict.missing[-1][1] <= 1000 for verdict in parts)
    missing = np.mean([sum(end - start for start, end in verdict.missing) for verdict in parts])
    assert missing == pytest.approx(0.3 * 800 / (1 - 0.7**8), rel=0.1)
    assert all(verdict.arrival == math.inf and not verdict.missing for verdict in lost)


@pytest.mark.parametrize(("queue", "fates"), [
    ({"messages": 2}, ["", "", "queue", "queue"]),
    ({"packets": 25}, ["", "", "queue", "queue"]),
    ({"size": "3.5 kB"}, ["", "", "", "queue"]),
    ({"lifetime": "1.5 s"}, ["", "", "expired", "expired"]),
])  # fmt: skip
def test_the_queue_of_a_device_has_limits(queue, fates) -> None:
    cell = Cell({"kind": "half-duplex", "queue": queue}, 2, link={"rate": "8 kbit/s", "mtu": "100 B"})
    for _ in range(4):
        cell.offer(0.0, 0, [1], 1000)  # ten frames, 1 s
    cell.run()
    assert sorted(outcome.verdict.cause for outcome in cell.outcomes) == sorted(fates)


@pytest.mark.parametrize("drop", ["tail", "head"])
def test_a_full_queue_drops_the_new_message_or_the_oldest_that_waits(drop: str) -> None:
    """Against a queue of three written down: the one being sent, which takes 1 s, and two that wait."""
    cell = Cell({"kind": "half-duplex", "queue": {"messages": 3, "drop": drop}}, 2, link={"rate": "8 kbit/s"})
    cell.poisson(2.0, 0, [1], 1000, 200)
    cell.run()
    waiting: list[float] = []
    kept, free = [], 0.0
    for at in sorted(outcome.sent for outcome in cell.outcomes):
        while waiting and free <= at:
            free = max(free, waiting[0]) + 1.0
            kept.append(waiting.pop(0))
        if len(waiting) + (free > at) == 3:
            if drop == "tail":
                continue
            waiting.pop(0)
        waiting.append(at)
    assert sorted(outcome.sent for outcome in cell.outcomes if not outcome.verdict.cause) == kept + waiting
    assert cell.share("queue") > 0.3


def sent(k: int, p: float, count: int, **medium) -> Cell:
    cell = Cell({"kind": "half-duplex", **medium}, k + 1, link={"rate": "1 Mbit/s", "loss": p, "arq": {"retries": 3}})
    for number in range(count):
        cell.offer(10.0 * number, 0, list(range(1, k + 1)), 1000)
    return cell.run()


@pytest.mark.parametrize(("k", "p"), [(4, 0.1), (10, 0.1), (8, 0.3)])
def test_receivers_lose_independently(k, p) -> None:
    """P(all) = (1 - p)^k; rounds until all have it sum_j (-1)^(j+1) C(k, j) / (1 - p^j)."""
    count = 6000
    cell = sent(k, p, count)
    heard = np.array([not outcome.verdict.cause for outcome in cell.outcomes]).reshape(count, k)
    everybody = (1 - p) ** k
    assert heard.all(axis=1).mean() == pytest.approx(everybody, abs=5 * math.sqrt(everybody * (1 - everybody) / count))

    rounds, missing, waited = [], np.ones(k, bool), 0
    for row in heard:
        waited += 1
        missing &= ~row
        if not missing.any():
            rounds.append(waited)
            missing, waited = np.ones(k, bool), 0
    expected = sum((-1) ** (j + 1) * comb(k, j) / (1 - p**j) for j in range(1, k + 1))
    assert expected == pytest.approx({(4, 0.1): 1.388, (10, 0.1): 1.758, (8, 0.3): 2.759}[k, p], abs=5e-4)
    assert np.mean(rounds) == pytest.approx(expected, abs=5 * float(np.std(rounds)) / math.sqrt(len(rounds)))


def test_it_is_on_the_air_once_unacknowledged_and_charged_once() -> None:
    cell = sent(5, 0.2, 100)
    assert len(cell.on_air) == 100
    assert not any(outcome.verdict.acknowledged for outcome in cell.outcomes)
    assert sum(outcome.verdict.packets for outcome in cell.outcomes) == 100
    assert sum(outcome.verdict.air_seconds for outcome in cell.outcomes) == pytest.approx(100 * 8e-3)


def test_it_goes_at_the_basic_rate() -> None:
    cell = sent(5, 0.0, 1, broadcast_rate="100 kbit/s")
    cell.offer(20.0, 0, [1], 1000)
    cell.run()
    assert [end - start for start, end, _ in cell.on_air] == pytest.approx([80e-3, 8e-3])


def test_one_by_one_each_copy_is_acknowledged_and_repeated() -> None:
    cell = sent(3, 0.3, 1000, broadcast="one-by-one", broadcast_rate="1 kbit/s")
    assert [outcome.dst for outcome in cell.outcomes[:3]] == [1, 2, 3]
    delivered = np.mean([not outcome.verdict.cause for outcome in cell.outcomes])
    assert delivered == pytest.approx(1 - 0.3**4, abs=5 * math.sqrt(0.0081 / 3000))
    packets = [outcome.verdict.packets for outcome in cell.outcomes]
    assert np.mean(packets) == pytest.approx((1 - 0.3**4) / 0.7, abs=0.1)
    assert len(cell.on_air) == sum(packets)


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1), (2, 3, 1)])
def test_a_broadcast_is_cut_and_protected_for_all_of_its_links_whatever_their_ids(order) -> None:
    """Packets of at most 100 B with headers of 20 B carry 80 B each; 2 packets of parity in 5 are more than 1 in 4."""
    settings: list[dict[str, Any]] = [
        {"mtu": "100 B", "header": "5 B"},
        {"mtu": "150 B", "header": "20 B", "fec": {"data": 4, "parity": 1}},
        {"mtu": "110 B", "header": "10 B", "fec": {"data": 5, "parity": 2}},
    ]
    of = {
        device: LinkSettings.model_validate({"rate": "8 kbit/s", **one})
        for device, one in zip(order, settings, strict=True)
    }
    records: list[Any] = []

    class Once(Protocol):
        kind: str = "once"

        async def run(self, device: Device) -> None:
            if device.id == 0:
                device.broadcast(Note("x" * 700))
            await device.sleep(60)

    emulate(
        Once(), [[1, 2, 3], [0], [0], [0]], medium={"kind": "aloha"}, link=lambda src, dst: of[max(src, dst)],
        sink=records.append,
    )  # fmt: skip
    size = records[0].size
    fragments = math.ceil(size / 80)
    groups = math.ceil(fragments / 5)
    assert sum(record.verdict.packets for record in records) == fragments + 2 * groups
    assert sum(record.verdict.air_bytes for record in records) == size + 20 * fragments + 100 * 2 * groups
