"""Every key of each variant in `[train]`, `[link]`, `[radio]` and `[energy]` changes a run, or is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from helpers.scenario_worlds import world_run
from pydantic import ValidationError

from p2pl_async import Device, Message, Protocol
from p2pl_async.basics.settings import OneOf, Settings, marker
from p2pl_async.experiment import running as experiment
from p2pl_async.hardware.energy import Energy
from p2pl_async.learning.settings import Constant, Cosine, Inverse, Step, TrainSettings
from p2pl_async.link import LinkSettings
from p2pl_async.link.arq import Arq
from p2pl_async.link.fec import Fec
from p2pl_async.link.queue import Queue
from p2pl_async.radio.phy import Ble, Lora, Nr, Oqpsk, Threshold, Wifi
from p2pl_async.radio.settings import (
    Asymmetry,
    FreeSpace,
    LogDistance,
    Nakagami,
    RadioSettings,
    Rayleigh,
    Rician,
    Shadowing,
)
from p2pl_async.scenario.scenario import Scenario

Table = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Word(Message, tag="key-word"):
    text: str


class Talk(Protocol):
    """Everyone sends to all at random instants: long messages of several packets, and short ones."""

    kind: str = "talk"

    async def run(self, device: Device) -> None:
        for _ in range(12):
            await device.sleep(0.05 + float(device.random.exponential(0.2)))
            device.broadcast(Word("x" * 300))
            device.send(device.out_neighbors[0], Word("y" * 20))


# What tables of files can name.
FILES = {
    "delays.csv": "t,late,ms,other\n0,0,40,90\n0.5,1,140,20\n1.5,2,70,30\n",
    "lost.csv": "lost,other\n" + "".join(f"{int(k % 3 == 0)},{int(k % 4 == 0)}\n" for k in range(50)),
    "rates.csv": "t,late,kbit,other\n0,0,250,100\n1,2,60,250\n3,5,120,90\n",
    "gaps.csv": "t,ms,kbit\n0,40,250\n1,,\n3,70,90\n",
    "up.csv": "start,end\n0,1\n2,3\n",
    "other.csv": "t,ms,kbit,lost,start,end\n0,20,90,1,0.5,1.5\n1,10,80,0,2,2.5\n",
    "rates.mahi": "".join(f"{at}\n" for at in range(5, 4000, 30)),
    "other.mahi": "".join(f"{at}\n" for at in range(5, 4000, 70)),
}

MOMENTS: Table = {"mean": "90 ms", "sd": "60 ms"}
JITTER: Table = {"base": "10 ms", "distance": "40 ms", "correlation": 0.8}
TIMES: Table = {"unit": "ms", "time": "t", "end": "loop"}
STEPS = [["0 s", "250 kbit/s"], ["1 s", "60 kbit/s"], ["2 s", "120 kbit/s"]]
VARIANTS: dict[str, dict[str, list[tuple[Table, Table]]]] = {
    "latency": {
        "constant": [({"base": "30 ms"}, {"base": "50 ms", "distance": "40 ms", "mean": "90 ms"})],
        "uniform": [({"low": "10 ms", "high": "90 ms"}, {"low": "20 ms", "high": "120 ms", **JITTER})],
        "normal": [(MOMENTS, {"mean": "120 ms", "sd": "20 ms", "least": "60 ms", **JITTER})],
        "lognormal": [(MOMENTS, {"mean": "120 ms", "sd": "20 ms", **JITTER})],
        "gamma": [(MOMENTS, {"mean": "120 ms", "sd": "20 ms", **JITTER})],
        "pareto": [
            (
                {"least": "20 ms", "alpha": 1.5, "most": "3 s"},
                {"least": "40 ms", "alpha": 3.0, "most": "90 ms", **JITTER},
            )
        ],
        "empirical": [
            ({"samples": ["20 ms", "50 ms"]}, {"samples": ["20 ms", "70 ms"], **JITTER}),
            (
                {"quantiles_at": [["0 %", "20 ms"], ["100 %", "90 ms"]]},
                {"quantiles_at": [["0 %", "5 ms"], ["100 %", "1 s"]]},
            ),
            (
                {"path": "delays.csv", "column": "ms", "unit": "ms"},
                {"path": "other.csv", "column": "other", "unit": "s"},
            ),
        ],
        "trace": [
            (
                {"path": "delays.csv", "column": "ms", **TIMES},
                {"path": "other.csv", "column": "other", "unit": "s", "end": "hold", "time_unit": "ms", "time": "late"}
                | {"base": "10 ms", "distance": "40 ms", "format": "ireland-5g", "gaps": "hold"},
            ),
            ({"path": "gaps.csv", "column": "ms", **TIMES, "gaps": "hold"}, {"gaps": "error"}),
        ],
    },
    "loss": {
        "bernoulli": [({"p": "20 %"}, {"p": "40 %"})],
        "gilbert-elliott": [
            (
                {"good": "1 s", "bad": "300 ms"},
                {"good": "300 ms", "bad": "1 s", "loss_good": "30 %", "loss_bad": "50 %"},
            )
        ],
        "gilbert-packets": [
            ({"p": "20 %", "r": "40 %"}, {"p": "60 %", "r": "90 %", "h": "50 %", "k": "60 %"}),
            ({"loss": "20 %", "burst": 2.0}, {"loss": "50 %", "burst": 5.0}),
        ],
        "four-state": [
            (
                {"p13": "20 %", "p31": "40 %", "p32": "30 %", "p23": "50 %"},
                {"p13": "60 %", "p31": "60 %", "p32": "60 %", "p23": "10 %", "p14": "30 %"},
            )
        ],
        "burst-error": [({"rate": 0.2}, {"rate": 0.5, "least": 3, "most": 9})],
        "trace": [({"path": "lost.csv"}, {"path": "other.csv", "column": "other"})],
    },
    "rate": {
        "schedule": [({"steps": STEPS, "end": "loop"}, {"steps": STEPS[:2], "end": "hold", "start": "1 s"})],
        "trace": [
            (
                {"path": "rates.csv", "column": "kbit", **TIMES, "unit": "kbit/s"},
                {"path": "other.csv", "column": "other", "unit": "Mbit/s", "end": "hold", "time_unit": "ms"}
                | {"time": "late", "start": "1 s", "format": "ireland-5g"},
            ),
            ({"path": "gaps.csv", "column": "kbit", **TIMES, "unit": "kbit/s", "gaps": "hold"}, {"gaps": "error"}),
        ],
        "mahimahi": [({"path": "rates.mahi"}, {"path": "other.mahi", "start": "1 s"})],
    },
    "outage": {
        "on-off": [
            (
                {"up": "500 ms", "down": "300 ms"},
                {"up": "200 ms", "down": "1 s", "when_off": "hold", "of": "weather"},
            )
        ],
        "slotted": [
            ({"p": "40 %", "slot": "200 ms"}, {"p": "80 %", "slot": "50 ms", "when_off": "hold", "of": "weather"})
        ],
        "duty-cycle": [
            (
                {"awake": "100 ms", "period": "400 ms"},
                {"awake": "300 ms", "period": "1 s", "when_off": "hold", "of": "sender", "phase": "90 ms"},
            )
        ],
        "contacts": [
            (
                {"up": [["0 s", "0.5 s"], ["1 s", "1.4 s"]]},
                {"up": [["0.5 s", "2 s"]], "when_off": "hold", "period": "2 s"},
            ),
            ({"path": "up.csv"}, {"path": "other.csv", "unit": "ms"}),
        ],
    },
}
"""For each variant, bases and other values of keys; a key that only some bases can have is tried with those."""

PARTS: dict[str, tuple[type[Settings], list[tuple[Table, Table]]]] = {
    "queue": (
        Queue,
        [
            ({"messages": 3}, {"messages": 1, "drop": "head", "lifetime": "5 ms"}),
            ({"packets": 3}, {"packets": 6}),
            ({"size": "500 B"}, {"size": "1000 B"}),
        ],
    ),
    "arq": (
        Arq,
        [
            (
                {"retries": 2, "backoff": "2 ms"},
                {"retries": 0, "backoff": "4 ms", "turnaround": "3 ms", "growth": 3.0, "ack_loss": "30 %"}
                | {"timeout": "40 ms"},
            ),
            ({"retries": 2, "kind": "go-back-n", "window": 3}, {"window": 2, "kind": "selective-repeat"}),
        ],
    ),
    "fec": (Fec, [({"data": 2, "parity": 1}, {"data": 3, "parity": 2})]),
}

LINK: Table = {
    "rate": "250 kbit/s",
    "mtu": "133 B",
    "header": "5 B",
    "latency": "20 ms",
    "loss": "5 %",
    "order": "free",
}


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        Path(name).write_text(text)


def spoken(tables: Table) -> str:
    """Return the digest of what devices say on the links of a scenario."""
    return world_run({"devices": {"count": 3}, "topology": {"kind": "ring"}, **tables}, Talk(), until=12).trace.digest()


def without_effect(keys: set[str], ways: Sequence[tuple[Table, Table]], outcome: Callable[[Table], object]) -> set[str]:
    """Return the keys that change nothing, wherever another value of them is tried, and are never refused by name."""
    idle = set(keys)
    for base, changes in ways:
        before = outcome(base)
        for key in sorted(idle & changes.keys()):
            try:
                if outcome({**base, key: changes[key]}) != before:
                    idle.remove(key)
            except ValidationError as error:
                idle -= {key} if key in str(error) else set()
    return idle


def names_of(cls: type[Settings]) -> set[str]:
    return {field.alias or name for name, field in cls.model_fields.items()} - {"kind"}


def kinds_of(table: type[Settings], key: str) -> dict[str, type[Settings]]:
    found = marker(table.model_fields[key])
    assert isinstance(found, OneOf)
    return {kind: cls for kind, cls in found.classes.items() if isinstance(cls, type)}


LINK_CASES = [pytest.param(key, kind, id=f"{key}-{kind}") for key, variants in VARIANTS.items() for kind in variants]


@pytest.mark.parametrize(("key", "kind"), LINK_CASES)
def test_each_key_of_a_variant_of_a_link_matters(key: str, kind: str) -> None:
    def outcome(table: Table) -> str:
        return spoken({"link": {**LINK, key: {"kind": kind, **table}}})

    assert without_effect(names_of(kinds_of(LinkSettings, key)[kind]), VARIANTS[key][kind], outcome) == set()


def test_every_variant_of_a_link_is_tried() -> None:
    for key in ("latency", "loss", "rate", "outage"):
        assert kinds_of(LinkSettings, key).keys() - {"none"} == VARIANTS[key].keys()


@pytest.mark.parametrize("part", PARTS)
def test_each_key_of_a_part_of_a_link_matters(part: str) -> None:
    cls, ways = PARTS[part]
    slow = {**LINK, "loss": "20 %", "rate": "20 kbit/s", "arq": "none"}
    names = {field.alias or name for name, field in cls.model_fields.items()}
    assert without_effect(names, ways, lambda table: spoken({"link": {**slow, part: table}})) == set()


# Radios

RADIO: Table = {"power": "0 dBm", "positions": [["0 m", "0 m"], ["40 m", "0 m"], ["0 m", "45 m"]], "shadowing": "4 dB"}
AREA: Table = {"power": "0 dBm", "area": "80 m", "shadowing": "4 dB"}
FADES: Table = {"coherence": "500 ms", "speed": "3 m/s", "coherent_channels": 1}
RADIOS: dict[str, tuple[type[Settings], Table, Table]] = {
    "radio": (
        RadioSettings,
        RADIO,
        {
            "phy": "ble",
            "frequency": "868 MHz",
            "bandwidth": "4 MHz",
            "power": "-6 dBm",
            "noise_figure": "20 dB",
            "antenna_gain": "-4 dB",
            "path_loss": "free-space",
            "shadowing": "none",
            "fading": "rayleigh",
            "asymmetry": {"tx": "6 dB"},
            "positions": [["0 m", "0 m"], ["60 m", "0 m"], ["0 m", "65 m"]],
        },
    ),
    "asymmetry": (Asymmetry, {"tx": "1 dB"}, {"tx": "8 dB", "rx": "20 dB"}),
    "shadowing": (Shadowing, {"sd": "4 dB"}, {"sd": "9 dB", "decorrelation": "1 m", "correlated": True}),
    "path_loss-log-distance": (
        LogDistance,
        {},
        {"exponent": 3.4, "reference_distance": "3 m", "reference_loss": "35 dB"},
    ),
    "path_loss-free-space": (FreeSpace, {}, {}),
    "fading-rayleigh": (Rayleigh, {}, FADES),
    "fading-rician": (Rician, {}, {**FADES, "k": "0 dB"}),
    "fading-nakagami": (Nakagami, {}, {**FADES, "m": 0.6}),
    "phy-802.15.4": (Oqpsk, {}, {}),
    "phy-ble": (Ble, {}, {"rate": "125k", "sensitivity": "-60 dBm"}),
    "phy-lora": (Lora, {}, {"sf": 12, "bandwidth": "500 kHz", "sensitivity": "-60 dBm"}),
    "phy-wifi": (Wifi, {}, {"mcs": 4, "shift": "6 dB"}),
    "phy-nr": (Nr, {}, {"mcs": 12, "bandwidth": "10 MHz"}),
    "phy-threshold": (Threshold, {"snr": "5 dB"}, {"snr": "12 dB"}),
}
POWERS = {"phy-lora": "-44 dBm", "phy-wifi": "16 dBm", "phy-nr": "16 dBm", "phy-ble": "6 dBm"}


@pytest.mark.parametrize("part", RADIOS)
def test_each_key_of_a_radio_matters(part: str) -> None:
    cls, base, changes = RADIOS[part]
    key, _, kind = part.partition("-")
    walk = {"mobility": {"kind": "random-walk", "speed": ["3 m/s", "9 m/s"]}}

    def outcome(table: Table) -> str:
        around = AREA if key == "shadowing" else RADIO
        own = table if part == "radio" else {**around, key: {"kind": kind, **table} if kind else table}
        roams = {} if "positions" in own else walk
        return spoken({"link": LINK, "radio": {**own, "power": POWERS.get(part, own["power"])}, **roams})

    ways = [(base, changes), *([(AREA, {"area": "120 m"})] if part == "radio" else [])]
    assert without_effect(names_of(cls), ways, outcome) == set()


def test_every_variant_of_a_radio_is_tried() -> None:
    for key in ("phy", "path_loss", "fading"):
        assert {f"{key}-{kind}" for kind in kinds_of(RadioSettings, key)} - {"fading-none"} <= RADIOS.keys()


# Training and energy

WORLD: Table = {
    "devices": {"count": 2},
    "topology": "complete",
    "link": {"latency": "20 ms", "rate": "1 Mbit/s"},
    "data": {"dataset": "digits", "train_samples": 60, "test_samples": 20},
    "model": {"kind": "mlp", "hidden": [4]},
    "protocol": {"kind": "dgd"},
    "stop": {"rounds": 5},
}
TRAINING: list[tuple[Table, Table]] = [
    (
        {"momentum": 0.5},
        {
            "learning_rate": 0.2,
            "loss": "squared",
            "batch_size": 7,
            "momentum": 0.9,
            "nesterov": True,
            "weight_decay": 0.1,
            "clip": 0.1,
            "schedule": {"kind": "inverse", "decay": 5},
            "momentum_across_rounds": "reset",
            "precision": "float64",
            "autocast": "bfloat16",
        },
    )
]
COMPUTED = {"accelerator", "workers", "on", "matmul"}
"""Keys that say where and how it is computed; on a machine as this they may change nothing."""
SCHEDULES: dict[str, tuple[type[Settings], Table, Table]] = {
    "constant": (Constant, {}, {}),
    "step": (Step, {"every": 1}, {"every": 2, "by": 0.5}),
    "cosine": (Cosine, {"epochs": 3}, {"epochs": 2, "final": 0.5}),
    "inverse": (Inverse, {"decay": 1.0}, {"decay": 3.0}),
}
ENERGY: Table = {"voltage": "3 V", "tx": "20 mA", "rx": "10 mA", "idle": "5 mA"}
ENERGIES: list[tuple[Table, Table]] = [
    (
        ENERGY,
        {"voltage": "2 V", "tx": "30 mA", "rx": "15 mA", "idle": "1 mA", "cpu": "500 mW", "battery": "20 mJ"}
        | {"sleep": "3 mA", "preset": "cc2420"},
    ),
    ({"preset": "cc2420"}, {"preset": "nrf52840", "radio": {"main": {"preset": "nrf52840"}}}),
]


def learned(tables: Table) -> str:
    """Return the digest of the models that a run ends with."""
    return str(experiment.run(Scenario.model_validate({**WORLD, **tables})).summary["params_digest"])


def used(table: Table) -> str:
    """Return what a run says of the energy that its devices have used; they sleep a part of the time."""
    link = {
        **WORLD["link"],
        "outage": {"kind": "duty-cycle", "awake": "300 ms", "period": "500 ms", "when_off": "hold"},
    }
    summary = experiment.run(Scenario.model_validate({**WORLD, "link": link, "energy": table})).summary
    return json.dumps([summary["energy"], summary["virtual_seconds"]])


def test_each_key_of_training_matters() -> None:
    assert (
        without_effect(names_of(TrainSettings) - COMPUTED, TRAINING, lambda table: learned({"train": table})) == set()
    )


@pytest.mark.parametrize("kind", SCHEDULES)
def test_each_key_of_a_schedule_matters(kind: str) -> None:
    cls, base, changes = SCHEDULES[kind]
    train = {"learning_rate": 0.1, "batch_size": "all"}  # so that each round is an epoch

    def outcome(table: Table) -> str:
        return learned({"train": {**train, "schedule": {"kind": kind, **table}}})

    assert without_effect(names_of(cls), [(base, changes)], outcome) == set()
    assert SCHEDULES.keys() == kinds_of(TrainSettings, "schedule").keys()


def test_each_key_of_energy_matters() -> None:
    assert without_effect(names_of(Energy), ENERGIES, used) == set()
