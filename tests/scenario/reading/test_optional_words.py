"""Optional values are written with their own word, and a file may write it wherever a value may stand."""

from __future__ import annotations

import pytest

from p2pl_async import load_scenario
from p2pl_async.basics.settings import Settings, word_of
from p2pl_async.scenario.reading.load import dump

LEAST = """
[devices]
count = 4
[protocol]
kind = "p2pl"
[stop]
rounds = 1
"""
MEDIUM = '[link]\nrate = "1 Mbit/s"\n[medium]\nkind = "{}"\n'
WRITTEN = {  # class -> key -> a scenario that writes it
    "TrainSettings": {"autocast": '[train]\nautocast = "none"'},
    "Evaluate": {"every": '[evaluate]\nevery = "auto"'},
    "LinkSettings": {
        "queue": '[link]\nqueue = "unlimited"',
        "mtu": '[link]\nmtu = "unlimited"',
        "arq": '[link]\narq = "none"',
        "fec": '[link]\nfec = "none"',
    },
    "Arq": {"retries": '[link]\nrate = "1 Mbit/s"\narq = { retries = "unlimited" }'},
    "DutyCycle": {
        "phase": '[link]\noutage = { kind = "duty-cycle", awake = "1 s", period = "2 s", phase = "random" }'
    },
    "_Started": {
        "start": '[link.rate]\nkind = "schedule"\nend = "loop"\nstart = "random"\n'
        'steps = [["0 s", "1 Mbit/s"], ["1 s", "2 Mbit/s"]]'
    },
    "_Changing": {"every": '[topology]\nkind = "one-peer-exponential"\nevery = "round"'},
    "SharedMedium": {
        key: f'[link]\nrate = "1 Mbit/s"\n[medium]\nkind = "ideal"\n{key} = "{text}"'
        for key, text in (
            ("queue", "unlimited"), ("ack", "none"), ("duty_cycle", "none"), ("rates", "none"),
            ("broadcast_rate", "slowest"),
        )
    },
    "Dcf": {
        key: f'[link]\nrate = "1 Mbit/s"\n[medium]\nkind = "dcf"\n{key} = "{text}"'
        for key, text in (("eifs", "auto"), ("aggregate", "none"), ("rts", "none"))
    },
    "Tdma": {"slots": '[link]\nrate = "1 Mbit/s"\n[medium]\nkind = "tdma"\nslot = "5 ms"\nslots = "devices"'},
    "Contended": {"channels": MEDIUM.format("csma-ca") + 'channels = "one"'},
    "Channels": {"hopping": MEDIUM.format("csma-ca") + 'channels = { count = 4, hopping = "none" }'},
    "Hopping": {
        "sequence": MEDIUM.format("csma-ca")
        + 'channels = { count = 4, hopping = { dwell = "10 ms", sequence = "ascending" } }'
    },
    "_Echoes": {
        "coherent_channels": '[topology]\nkind = "grid"\n[radio]\narea = "10 m"\n'
        'fading = { kind = "rayleigh", coherent_channels = "all" }'
    },
    "Interferer": {
        "channels": MEDIUM.format("aloha") + 'channels = 2\ncollision = "sinr"\n[[medium.interferer]]\n'
        'position = ["0 m", "0 m"]\npower = "0 dBm"\nactivity = { kind = "bursts", on = "1 s", off = "1 s" }\n'
        'channels = "all"\n[topology]\nkind = "grid"\n[radio]\narea = "10 m"'
    },
    "Tsch": {
        key: MEDIUM.format("tsch") + f'{key} = "{text}"'
        for key, text in (("sequence", "ascending"), ("ack", "none"), ("channels", "one"))
    },
    "BleConnections": {"channels": MEDIUM.format("ble-connections") + 'channels = "one"'},
    "BleAdvertising": {
        key: MEDIUM.format("ble-advertising") + f'{key} = "{text}"'
        for key, text in (("window", "scan_interval"), ("channels", "one"))
    },
    "NrMode2": {
        key: MEDIUM.format("nr-mode2") + f'{key} = "{text}"'
        for key, text in (("window", "longest"), ("counter", "auto"), ("channels", "one"))
    },
    "RadioModel": {
        "shadowing": '[topology]\nkind = "grid"\n[radio]\narea = "10 m"\nshadowing = "none"'
    },
}  # fmt: skip


def with_words(cls: type[Settings]) -> set[tuple[str, str]]:
    own = {
        (cls.__name__, key) for key in cls.__annotations__ if key in cls.model_fields and word_of(cls.model_fields[key])
    }
    below = [one for one in cls.__subclasses__() if one.__module__.startswith("p2pl_async")]  # not those of other tests
    return own.union(*map(with_words, below))


def test_every_word_is_tried_here() -> None:
    assert with_words(Settings) == {(cls, key) for cls, keys in WRITTEN.items() for key in keys}


@pytest.mark.parametrize("text", [text for keys in WRITTEN.values() for text in keys.values()])
def test_a_word_is_read_as_it_is_written(tmp_path, text) -> None:
    path = tmp_path / "words.toml"
    path.write_text(LEAST + text + "\n")
    scenario = load_scenario(path)
    path.write_text(dump(scenario))
    assert load_scenario(path) == scenario


def test_no_shadowing_is_none(tmp_path) -> None:
    path = tmp_path / "words.toml"
    path.write_text(LEAST + WRITTEN["RadioModel"]["shadowing"])
    radio = load_scenario(path).radio
    assert radio is not None
    assert radio.shadowing is None
