"""Same scenario and seed, same run: in any process, however it is watched, with a digest that is pinned.

One random stream per purpose and owner: what changes in one place moves no draw anywhere else.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from helpers.small_worlds import small

from p2pl_async.device import Device
from p2pl_async.experiment import running as experiment
from p2pl_async.link import LinkSettings
from p2pl_async.messages import Message
from p2pl_async.protocols.base import Protocol
from p2pl_async.results.run import Run
from p2pl_async.scenario.reading.load import dump, load_scenario
from p2pl_async.scenario.scenario import Scenario
from p2pl_async.testing import complete, emulate, ring
from p2pl_async.trace import Record

CHATTER = '''
from dataclasses import dataclass

import trio

from p2pl_async import Message, Protocol


@dataclass(frozen=True, slots=True)
class Note(Message, tag="chatter-note"):
    text: str


class Chatter(Protocol):
    """Says something of random length at random times, whatever it hears."""

    kind: str = "chatter"
    trains = False

    async def run(self, device):
        while device.running:
            await trio.sleep(0.05 + 0.1 * float(device.random.random()))
            device.broadcast(Note("x" * int(device.random.integers(0, 900))))
            while device.receive_nowait() is not None:
                pass
            device.finish_round()
'''

NETWORK = """
name = "network"
seed = 11

[devices]
count = 6
start = {{ uniform = "1 s" }}

[topology]
kind = "exponential"

[link]
latency = {{ kind = "uniform", low = "5 ms", high = "80 ms" }}
rate = "40 kbit/s"
mtu = "256 B"
header = "24 B"
queue = {{ messages = 1 }}
duplicate = "10 %"
order = "free"
loss = {{ kind = "gilbert-elliott", good = "900 ms", bad = "200 ms" }}

[[link.override]]
from = 0
to = "*"
loss = {{ kind = "bernoulli", p = "20 %" }}
arq = {{ retries = 2 }}

[[link.override]]
from = "*"
to = 3
outage = {{ kind = "on-off", up = "3 s", down = "1 s" }}

[protocol]
kind = "{chatter}:Chatter"

[stop]
rounds = 60
"""


@pytest.fixture(name="chatter", scope="module")
def _chatter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("protocol") / "chatter.py"
    path.write_text(CHATTER)
    return path


@pytest.fixture(name="network")
def _network(tmp_path: Path, chatter: Path) -> Path:
    """Return the file of a scenario without learning: impaired links, and devices that talk at random."""
    path = tmp_path / "network.toml"
    path.write_text(NETWORK.format(chatter=chatter))
    return path


def digests(result: Run) -> tuple[str, str | None, float]:
    return result.summary["trace_digest"], result.summary["params_digest"], result.summary["virtual_seconds"]


# Processes

CHILD = """
import json, sys
from p2pl_async import load_scenario, run
found = {}
for path in sys.argv[1:]:
    summary = run(load_scenario(path)).summary
    found[path] = [summary["trace_digest"], summary["params_digest"], summary["virtual_seconds"]]
    found[path] += [summary["messages"]["lost"], (summary["energy"] or {}).get("joules")]
assert "hypothesis" not in sys.modules
print(json.dumps([hash("hash seed"), found]))
"""

MEDIA = {
    medium: small(
        devices={"count": 8},
        topology="complete",
        link={"latency": "20 ms", "rate": "10 Mbit/s", "mtu": "1500 B"},  # so that arrivals tie
        medium={"kind": medium},
        stop={"rounds": 3, "virtual_time": "10 s"},
    )
    for medium in ("dedicated", "ideal", "csma-ca", "dcf", "aloha")
}
HARDWARE = small(
    churn={"up": "3 s", "down": "400 ms", "on_crash": "keep_state"},
    clocks={"walk": "100 ppm", "drift": {"kind": "normal", "sd": "2000 ppm", "limit": "5000 ppm"}},
    energy={"preset": "cc2420", "battery": "400 mJ", "cpu": "10 mW"},
    link={"rate": "100 kbit/s"},
    protocol={"mode": {"kind": "barrier", "timeout": "2 s"}},
    stop={"rounds": 8, "virtual_time": "30 s"},
    event=[
        {"at": "1 s", "kind": "crash", "devices": [1, 3]},
        {"at": "2 s", "kind": "restart", "devices": [1, 3]},
        {"at": "1500 ms", "kind": "partition", "groups": [[0, 1, 2]]},
        {"at": "3 s", "kind": "heal"},
        {"at": "2 s", "kind": "ramp", "over": "2 s", "link": {"loss": "40 %"}},
    ],
)
IN_FRESH_PROCESSES = {**MEDIA, "churn, clocks, energy and events": HARDWARE}


@pytest.fixture(name="fresh_processes", scope="module")
def _fresh_processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, list[Any]]]:
    """Run every scenario of `IN_FRESH_PROCESSES` in two processes with different hash seeds; return what each found.

    Hypothesis is not imported there: it seeds trio's dice, which would hide a dependence on the order of tasks.
    """
    folder = tmp_path_factory.mktemp("scenarios")
    paths = {name: str(folder / f"{number}.toml") for number, name in enumerate(IN_FRESH_PROCESSES)}
    for name, path in paths.items():
        Path(path).write_text(dump(IN_FRESH_PROCESSES[name]))
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, *paths.values()],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(Path(__file__).parents[1])},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for hash_seed in ("1", "4242")
    ]
    hashes, seen = [], []
    for child in children:
        out, error = child.communicate()
        assert child.returncode == 0, error
        value, found = json.loads(out)
        hashes.append(value)
        seen.append({name: found[path] for name, path in paths.items()})
    assert hashes[0] != hashes[1]
    return seen


@pytest.mark.parametrize("name", IN_FRESH_PROCESSES)
def test_fresh_processes_with_different_hash_seeds_give_the_same_run(name, fresh_processes) -> None:
    here = experiment.run(IN_FRESH_PROCESSES[name])
    lost, energy = here.summary["messages"]["lost"], here.summary["energy"]
    expected = [*digests(here), lost, energy["joules"] if energy else None]
    assert fresh_processes[0][name] == fresh_processes[1][name] == expected
    if IN_FRESH_PROCESSES[name] is HARDWARE:
        assert "crashed" in lost


# The golden run


GOLDEN = {
    "virtual_seconds": 6.748416884681428,
    "messages": {
        "sent": 1080,
        "delivered": 490,
        "partial": 0,
        "corrupted": 0,
        "in_flight": 11,
        "lost": {"burst": 130, "outage": 20, "queue": 424, "retries": 5},
        "duplicates": 37,
        "malformed": 0,
        "packets": 1669,
        "packets_lost": 356,
        "payload_bytes": 500625,
        "by_kind": {"chatter-note": {"messages": 1080, "payload_bytes": 500625}},
        "bytes_on_air": 349910,
        "seconds_on_air": 69.982,
        "acknowledged": 99,
    },
    "trace_digest": "6917b75cef8ed677cd0445d9764d489402e2a67011e9fb5ee7bb3ba386d1c041",
    "sum_of_arrivals": 1858.221906151481,
}


def test_the_network_of_a_run_is_what_it_has_always_been(network) -> None:
    """Counters and times match exactly; if this fails on purpose, results of older runs can't be repeated any more."""
    result = experiment.run(load_scenario(network), trace=True)
    assert result.trace is not None
    found = {key: result.summary[key] for key in ("virtual_seconds", "messages", "trace_digest")}
    found["sum_of_arrivals"] = math.fsum(result.trace["arrival_s"].dropna())
    assert found == GOLDEN


# Watching changes nothing


@pytest.mark.parametrize(
    "watch",
    [
        {"trace": True},
        {"progress": lambda snapshot: None},
        {"evaluate": {"every": "50 ms"}},
        {"evaluate": {"every": "1000 s", "samples": 0}},
        {"baselines": {"local": True, "central": True}},
        {"out": "folder"},
    ],
    ids=["trace", "progress", "evaluate often", "evaluate never", "baselines", "folder"],
)
def test_watching_a_run_does_not_change_it(watch, tmp_path) -> None:
    tables = {key: value for key, value in watch.items() if key in Scenario.model_fields}
    how = {key: tmp_path / value if key == "out" else value for key, value in watch.items() if key not in tables}
    assert digests(experiment.run(small(**tables), **how)) == digests(experiment.run(small()))


def test_the_seed_changes_the_run() -> None:
    assert digests(experiment.run(small(seed=6))) != digests(experiment.run(small(seed=5)))


def test_the_resolved_scenario_repeats_the_run(tmp_path, network) -> None:
    for scenario in (small(), load_scenario(network)):
        result = experiment.run(scenario, out=tmp_path / scenario.name)
        again = experiment.run(load_scenario(tmp_path / scenario.name / "scenario.toml"))
        assert digests(again) == digests(result)


# Links are independent of each other


def fates(scenario: Scenario) -> tuple[dict[tuple[int, int], list[tuple[Any, ...]]], int]:
    """Return what happened on each link, in order, and how many messages arrived twice."""
    result = experiment.run(scenario, trace=True)
    assert result.trace is not None
    links: dict[tuple[int, int], list[tuple[Any, ...]]] = {}
    trace = result.trace.fillna({"arrival_s": -1.0, "copy_s": -1.0})
    trace["fate"] = trace["fate"].astype(str).replace("in flight", "delivered")  # as it will be, if a run ends later
    row: Any
    for row in trace.itertuples(index=False):
        links.setdefault((row.src, row.dst), []).append(tuple(row))
    return links, result.summary["messages"]["duplicates"]


@pytest.mark.parametrize(
    "change",
    ['loss = "90 %"', 'latency = "2 s"', 'rate = "1 kbit/s"', "duplicate = 1.0", 'outage = "none"', 'mtu = "60 B"'],
)
def test_changing_one_link_changes_no_record_of_another(network, change) -> None:
    before, copies = fates(load_scenario(network))
    text = network.read_text()
    network.write_text(text.replace("[protocol]", f"[[link.override]]\nfrom = 2\nto = 3\n{change}\n\n[protocol]"))
    after, more_copies = fates(load_scenario(network))
    assert (before.pop((2, 3)), copies) != (after.pop((2, 3)), more_copies)
    assert before == after
    assert len(before) == 17


def test_a_device_that_nobody_hears_changes_nothing(network) -> None:
    links = network.with_name("links.txt")
    links.write_text("\n".join(f"{k} {(k + step) % 6}" for k in range(6) for step in (1, 2, 4)))
    topology = f'[topology]\nkind = "file"\npath = "{links}"\ndirected = true'
    network.write_text(network.read_text().replace('[topology]\nkind = "exponential"', topology))
    six, seven = (fates(load_scenario(network, [f"devices.count={n}"]))[0] for n in (6, 7))
    assert six == seven


SENDS = 40

EVERYTHING: dict[str, Any] = {
    "latency": {"kind": "gamma", "mean": "20 ms", "sd": "10 ms", "correlation": "300 ms"},
    "loss": {"kind": "gilbert-elliott", "good": "2 s", "bad": "500 ms", "loss_good": "5 %"},
    "rate": "1 Mbit/s",
    "mtu": "200 B",
    "arq": {"retries": 1},
    "outage": {"kind": "on-off", "up": "3 s", "down": "500 ms"},
    "duplicate": "10 %",
    "order": "free",
}
CHANGES: list[dict[str, Any]] = [
    {"latency": "5 ms"},
    {"latency": {"kind": "empirical", "samples": ["5 ms", "9 ms", "50 ms"]}},
    {"loss": "none"},
    {"loss": "90 %"},
    {"loss": {"kind": "gilbert-packets", "loss": "20 %", "burst": 3}},
    {"loss": {"kind": "four-state", "p13": "5 %", "p31": "30 %", "p14": "1 %"}},
    {"loss": {"kind": "burst-error", "rate": "10 %"}},
    {"rate": {"kind": "schedule", "steps": [["0 s", "1 Mbit/s"], ["2 s", "100 kbit/s"]]}},
    {"arq": "none", "mtu": "unlimited"},
    {"outage": "none"},
    {"outage": {"kind": "on-off", "up": {"kind": "weibull", "mean": "3 s", "shape": 0.5}, "down": "1 s"}},
    {"outage": {"kind": "duty-cycle", "awake": "200 ms", "period": "1 s", "when_off": "hold"}},
    {"duplicate": "0 %"},
]


@dataclass(frozen=True, slots=True)
class Words(Message, tag="words-of-streams"):
    """Something to say."""

    text: str


class Talk(Protocol):
    """Says something at fixed instants, short and long in turn, and listens to nothing."""

    kind: str = "talk"
    trains = False

    async def run(self, device: Device) -> None:
        for i in range(SENDS):
            device.broadcast(Words("x" * (40 if i % 2 else 900)))
            await device.sleep(0.37)


def records(
    n: int, neighbors: Any = ring, link: Callable[[int, int], LinkSettings] | None = None
) -> dict[Any, list[Record]]:
    """Return (src, dst) -> the records of its messages."""
    found: list[Record] = []
    usual = LinkSettings.model_validate(EVERYTHING)
    emulate(Talk(), neighbors(n), link=link or (lambda src, dst: usual), seed=7, until=60, sink=found.append)
    links = defaultdict(list)
    for record in found:
        links[record.src, record.dst].append(record)
    return links


def test_a_run_has_every_kind_of_fate() -> None:
    """Else the tests below would prove nothing."""
    fates = [record for link in records(5).values() for record in link]
    assert len(fates) == 10 * SENDS
    assert {record.verdict.cause for record in fates} >= {"", "retries"}
    assert any(record.verdict.copy < float("inf") for record in fates)
    assert len({record.verdict.arrival - record.sent for record in fates if not record.verdict.cause}) > SENDS


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_another_model_on_one_link_changes_no_other_link(change: dict[str, Any]) -> None:
    usual, other = (LinkSettings.model_validate(table) for table in (EVERYTHING, {**EVERYTHING, **change}))
    before = records(5)
    after = records(5, link=lambda src, dst: other if (src, dst) == (1, 2) else usual)
    assert after.keys() == before.keys()
    for link in before:
        assert (after[link] == before[link]) == (link != (1, 2))


def test_more_devices_change_no_link_that_was_there() -> None:
    before, after = records(4, complete), records(6, complete)
    assert len(after) == 30
    assert len(before) == 12
    assert all(after[link] == before[link] for link in before)


def test_more_links_change_no_link_that_was_there() -> None:
    before, after = records(6, ring), records(6, complete)
    assert len(after) > len(before)
    assert all(after[link] == before[link] for link in before)
