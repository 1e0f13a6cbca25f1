"""Parts of scenarios by name: tasks for `extends = "mnist_2nn"`, radios for `preset = "zigbee_154"` in `[link]`.

A preset is ordinary tables under everything else that the scenario says, so each value can be
overridden. A radio is one hop with good signal, and the medium that such radios share.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class LinkPreset(NamedTuple):
    """A radio: what it is, its tables for `[link]` and `[medium]`, and where its numbers come from."""

    line: str
    link: dict[str, Any]
    medium: dict[str, Any]
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

_CSMA_154: dict[str, Any] = {
    "kind": "csma-ca",
    "ack": {"size": "11 B", "airtime": "352 us", "delay": "192 us"},
    "spacing": "640 us",
}

LINK_PRESETS: dict[str, LinkPreset] = {
    "wifi_n_adhoc": LinkPreset(
        "802.11n without access point: 26 Mbit/s, broadcast 6; 5 % frame loss, 7 retries.",
        {
            "rate": "26 Mbit/s",
            "mtu": "1536 B",
            "header": "36 B",
            "latency": {"kind": "lognormal", "mean": "1 ms", "sd": "1 ms"},
            "loss": {"kind": "bernoulli", "p": "5 %"},
            "arq": {"retries": 7},
        },
        {
            "kind": "dcf",
            "airtime": {"kind": "ofdm", "preamble": "36 us"},
            "broadcast_rate": "6 Mbit/s",
            "ack": {"size": "14 B", "airtime": "28 us", "delay": "16 us"},
        },
        "IEEE 802.11n, MCS 3 at 20 MHz; 36 B of MAC, LLC and FCS per frame; 4 to 12 retries: A. Stephens, 2015",
    ),
    "ble5_2m": LinkPreset(
        "Bluetooth LE 5 at 2 Mbit/s, in brief (event by event: ble_connections), 1 % loss.",
        {
            "rate": "2 Mbit/s",
            "mtu": "262 B",
            "header": "18 B",
            "latency": {"kind": "uniform", "low": "0 s", "high": "30 ms"},
            "loss": {"kind": "bernoulli", "p": "1 %"},
            "arq": {"retries": 15},
        },
        {
            "kind": "ideal",
            "ack": {"size": "11 B", "airtime": "44 us", "delay": "150 us"},
            "spacing": "150 us",
        },
        "Bluetooth Core 5, LE 2M: 11 + 7 B of headers per 244 B, empty PDU as answer; connection events never collide",
    ),
    "ble_connections": LinkPreset(
        "Bluetooth LE 5 at 2 Mbit/s, event by event (faster to run: ble5_2m), 1 % loss.",
        {
            "rate": "2 Mbit/s",
            "mtu": "262 B",
            "header": "18 B",
            "loss": {"kind": "bernoulli", "p": "1 %"},
            "arq": {"retries": "unlimited"},
        },
        {
            "kind": "ble-connections",
            "ack": {"size": "11 B", "airtime": "44 us", "delay": "150 us"},
        },
        "Bluetooth Core 5.4, vol. 6, part B, 4.5: LE 2M, 11 + 7 B of headers per 244 B, T_IFS, supervision of 4 s",
    ),
    "ble_advertising": LinkPreset(
        "Bluetooth LE advertising at 1 Mbit/s: 31 B on 3 channels in 3 events, 1 % loss.",
        {"rate": "1 Mbit/s", "mtu": "47 B", "header": "16 B", "loss": {"kind": "bernoulli", "p": "1 %"}},
        {"kind": "ble-advertising", "interval": "100 ms", "events": 3, "spacing": "150 us"},
        "Bluetooth Core 5.4, vol. 6, part B, 4.4: LE 1M, 16 B of headers and CRC per 31 B; number of events assumed",
    ),
    "zigbee_154": LinkPreset(
        "802.15.4 at 250 kbit/s: 102 B in a frame, 2 % loss, 3 retries, CSMA/CA.",
        {
            "rate": "250 kbit/s",
            "mtu": "133 B",
            "header": "31 B",
            "loss": {"kind": "bernoulli", "p": "2 %"},
            "arq": {"retries": 3},
        },
        _CSMA_154,
        "IEEE 802.15.4-2020: 6 B of PHY and 25 B of MAC per frame, unslotted CSMA/CA, ACK after 192 us, LIFS 640 us",
    ),
    "lora_sf7": LinkPreset(
        "LoRa SF7 at 125 kHz: 222 B in 0.37 s, 1 % duty cycle, 2 % loss, ALOHA.",
        {"rate": "5.47 kbit/s", "mtu": "235 B", "header": "13 B", "loss": {"kind": "bernoulli", "p": "2 %"}},
        {
            "kind": "aloha",
            "airtime": {"kind": "lora", "sf": 7},
            "duty_cycle": {"share": "1 %"},
        },
        "Semtech SX1272 datasheet; EU868 sub-band of 1 %; LoRaWAN payload of DR5; loss assumed",
    ),
    "lora_sf12": LinkPreset(
        "LoRa SF12 at 125 kHz: 51 B in 2.8 s, 1 % duty cycle, 2 % loss, ALOHA.",
        {"rate": "293 bit/s", "mtu": "64 B", "header": "13 B", "loss": {"kind": "bernoulli", "p": "2 %"}},
        {
            "kind": "aloha",
            "airtime": {"kind": "lora", "sf": 12},
            "duty_cycle": {"share": "1 %"},
        },
        "Semtech SX1272 datasheet; EU868 sub-band of 1 %; LoRaWAN payload of DR0; loss assumed",
    ),
    "lte_m": LinkPreset(
        "LTE-M through a base station: 375 kbit/s up, 60 ms, 0.1 % loss.",
        {
            "rate": "375 kbit/s",
            "mtu": "1360 B",
            "latency": {"kind": "lognormal", "mean": "60 ms", "sd": "30 ms"},
            "loss": {"kind": "bernoulli", "p": "0.1 %"},
        },
        {"kind": "dedicated"},
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
        {"kind": "dedicated"},
        "3GPP Cat-NB1, the downlink as bottleneck; latency up to the 10 s of its requirement",
    ),
    "nr_sidelink": LinkPreset(
        "5G NR sidelink, mode 2: 10 Mbit/s, 2 to 20 ms, 3 % loss, one repetition.",
        {
            "rate": "10 Mbit/s",
            "mtu": "1400 B",
            "latency": {"kind": "uniform", "low": "2 ms", "high": "20 ms"},
            "loss": {"kind": "bernoulli", "p": "3 %"},
            "arq": {"retries": 1},
        },
        {"kind": "ideal"},
        "3GPP release 16, after Garcia et al., COMST 2021; sensing-based reservation taken as perfect; rate assumed",
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
            "arq": {"retries": 3},
        },
        _CSMA_154,
        "an engineering choice, in the range of measured low-power meshes",
    ),
}
