"""Parts of scenarios by name: tasks for `extends = "mnist_2nn"`, radios for `preset = "zigbee_154"` in `[link]`.

A preset is ordinary tables under everything else that the scenario says, so each value can be
overridden. A radio is one hop with good signal; what it shares with others (the medium, a duty
cycle) is not in it.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class LinkPreset(NamedTuple):
    """A table for `[link]`, what it is, and where its numbers come from."""

    line: str
    table: dict[str, Any]
    source: str


class ScenarioPreset(NamedTuple):
    """Tables that a scenario can extend by name, and what they are."""

    line: str
    table: dict[str, Any]


SCENARIO_PRESETS: dict[str, ScenarioPreset] = {
    "mnist_2nn": ScenarioPreset(
        "MNIST with the network 784-200-200-10, batches of 10: what most of the literature trains.",
        {
            "data": {"dataset": "mnist", "partition": "iid"},
            "model": {"kind": "mlp", "hidden": [200, 200]},
            "train": {"learning_rate": 0.05, "batch_size": 10, "momentum": 0.5},
        },
    ),
    "digits_mlp": ScenarioPreset(
        "Small and offline: digits of 8 x 8 pixels with the network 64-64-10.",
        {
            "data": {"dataset": "digits", "partition": "iid"},
            "model": {"kind": "mlp", "hidden": [64]},
            "train": {"learning_rate": 0.05, "batch_size": 10, "momentum": 0.5},
        },
    ),
}

LINK_PRESETS: dict[str, LinkPreset] = {
    "wifi_n_adhoc": LinkPreset(
        "802.11n without access point: 26 Mbit/s, a few ms, 5 % frame loss, 7 retries.",
        {
            "rate": "26 Mbit/s",
            "mtu": "1536 B",
            "header": "36 B",
            "latency": {"kind": "lognormal", "mean": "1 ms", "sd": "1 ms"},
            "loss": {"kind": "bernoulli", "p": "5 %"},
            "arq": {"retries": 7},
        },
        "IEEE 802.11n, MCS3; 36 B of MAC, LLC and FCS per frame of 1500 B; retries as commonly configured",
    ),
    "ble5_2m": LinkPreset(
        "Bluetooth LE 5 at 2 Mbit/s: waits for its 30 ms connection interval, 1 % loss, resends.",
        {
            "rate": "2 Mbit/s",
            "mtu": "262 B",
            "header": "18 B",
            "latency": {"kind": "uniform", "low": "0 s", "high": "30 ms"},
            "loss": {"kind": "bernoulli", "p": "1 %"},
            "arq": {"retries": 15},
        },
        "Bluetooth Core 5, LE 2M: 11 + 7 B of headers per 244 B; many retries, as the radio never gives up",
    ),
    "zigbee_154": LinkPreset(
        "802.15.4 at 250 kbit/s: 102 B in a frame, 2 % loss, 3 retries.",
        {
            "rate": "250 kbit/s",
            "mtu": "133 B",
            "header": "31 B",
            "latency": "1.4 ms",
            "loss": {"kind": "bernoulli", "p": "2 %"},
            "arq": {"retries": 3},
        },
        "IEEE 802.15.4: 6 B of PHY and 25 B of MAC per frame; unslotted CSMA/CA waits 1.4 ms on average",
    ),
    "lte_m": LinkPreset(
        "LTE-M through a base station: 375 kbit/s up, 60 ms, 0.1 % loss.",
        {
            "rate": "375 kbit/s",
            "mtu": "1360 B",
            "latency": {"kind": "lognormal", "mean": "60 ms", "sd": "30 ms"},
            "loss": {"kind": "bernoulli", "p": "0.1 %"},
        },
        "3GPP Cat-M1, half duplex, the uplink as bottleneck; latency assumed",
    ),
    "nb_iot": LinkPreset(
        "NB-IoT through a base station: 26 kbit/s down, 1.6 to 10 s, 0.1 % loss.",
        {
            "rate": "26 kbit/s",
            "mtu": "1360 B",
            "latency": {"kind": "uniform", "low": "1.6 s", "high": "10 s"},
            "loss": {"kind": "bernoulli", "p": "0.1 %"},
        },
        "3GPP Cat-NB1, the downlink as bottleneck; latency up to the 10 s of its requirement",
    ),
    "lossy_mesh": LinkPreset(
        "A bad 802.15.4 mesh: bursts of 90 % loss for 0.5 s every 2.5 s, outages of 30 s.",
        {
            "rate": "250 kbit/s",
            "mtu": "133 B",
            "header": "31 B",
            "latency": {"kind": "lognormal", "mean": "40 ms", "sd": "30 ms"},
            "loss": {"kind": "gilbert-elliott", "good": "2 s", "bad": "500 ms", "loss_good": "2 %", "loss_bad": "90 %"},
            "outage": {"kind": "on-off", "up": "120 s", "down": "30 s"},
        },
        "an engineering choice, in the range of measured low-power meshes",
    ),
}
