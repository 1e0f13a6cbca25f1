"""Every column of a run's tables: its unit and meaning."""

from __future__ import annotations

_DEVICES = {
    "device": ("", "its id"),
    "group": ("", "its groups in the scenario, joined by commas; empty if it is in none"),
    "x": ("m", "first place; without `[radio]` in the unit square, as the column's metadata says"),
    "y": ("m", "the same"),
    "n_samples": ("", "training samples"),
    "class_*": ("", "training samples of each class: class_0, ..."),
    "rounds": ("", "rounds finished"),
    "accuracy": ("", "accuracy of its model on all test data; empty where another score is measured"),
    "sample_weight": ("", "how much each of its samples counts, where models are averaged or pushed: 1 on average"),
    "*": ("", "each other score that `evaluate.metrics` asks for, on all test data"),
}

_ENERGY = {
    "off_s": ("s", "time switched off"),
    "tx_s": ("s", "time sending"),
    "sleep_s": ("s", "time with the radio asleep"),
    "rx_s": ("s", "time receiving"),
    "idle_s": ("s", "time listening to a quiet channel"),
    "training_s": ("s", "time training, beside any of these"),
    "tx_j": ("J", "energy for sending"),
    "sleep_j": ("J", "energy asleep"),
    "rx_j": ("J", "energy for receiving"),
    "idle_j": ("J", "energy for listening"),
    "training_j": ("J", "energy for training"),
    "energy_j": ("J", "energy in all"),
    "battery_empty_s": ("s", "when the battery was empty"),
}

_RHYTHM = {
    "awake_from_s": ("s", "when its radio first wakes; empty if it never sleeps, or in several rhythms"),
    "awake_s": ("s", "for how long it is awake"),
    "awake_every_s": ("s", "from one waking to the next"),
}

_LINKS = {
    "src": ("", "the sender"),
    "dst": ("", "the receiver"),
    "sent": ("", "messages sent"),
    "delivered": ("", "messages that arrived whole"),
    "lost": ("", "messages lost"),
    "partial": ("", "messages of which a part arrived"),
    "acknowledged": ("", "messages whose acknowledgment came back"),
    "air_s": ("s", "length of all transmissions"),
    "mean_delay_s": ("s", "mean delay of delivered messages"),
    "first_delivery_s": ("s", "virtual time of the first delivery; empty if there was none"),
    "last_delivery_s": ("s", "virtual time of the last delivery"),
    "lost_*": ("", "messages lost, for each cause: lost_loss, lost_collision, ..."),
    "weight_in_mixes": (
        "",
        "mean weight of the sender's model in the receiver's mixes; where models are averaged or pushed",
    ),
}

_METRICS = {
    "time_s": ("s", "virtual time"),
    "device": ("", "whose it is; -1: of the whole run"),
    "metric": ("", "its name, as above"),
    "value": ("", "its value, in the unit above"),
}

_TRACE = {
    "sent_s": ("s", "virtual time of sending"),
    "src": ("", "the sender"),
    "dst": ("", "the receiver"),
    "number": ("", "the sender's count of its messages; copies of a broadcast share it"),
    "kind": ("", "tag of the message"),
    "size_bytes": ("B", "the message, as encoded"),
    "packets": ("", "packets sent, retries included"),
    "packets_lost": ("", "packets lost"),
    "air_bytes": ("B", "bytes on air, headers and retries included"),
    "air_s": ("s", "length of its transmissions"),
    "acknowledged": ("", "whether its acknowledgment came back"),
    "arrival_s": ("s", "virtual time of arrival; empty if it was lost"),
    "fate": ("", "delivered, partial, in flight, or the cause of its loss"),
    "copy_s": ("s", "arrival of a second copy; empty if there is none"),
}

_SIGNAL = {
    "rssi_dbm": ("dBm", "power of its last frame at the receiver"),
    "sinr_db": ("dB", "signal to noise and interference of that frame"),
    "distance_m": ("m", "distance of sender and receiver then"),
    "rate_bps": ("bit/s", "rate of that frame"),
    "tries": ("", "transmissions of the frame that took most"),
}

_CHANNEL = {"channel": ("", "channel of its last frame; -1 if it never got on the air")}

_WAY = {
    "hops": ("", "hops of the message"),
    "path": ("", 'devices that it was at, "0-3-7"; of a lost one the last missed it'),
}

_PAYLOAD = {"payload": ("", "the first bytes of the message, as encoded in MessagePack")}

_MIXES = {
    "time_s": ("s", "virtual time at which it entered the model; a copy that is mixed again has another row"),
    "device": ("", "whose model it entered"),
    "src": ("", "the sender"),
    "number": ("", "the sender's count of its messages, as in the trace"),
}

_POSITIONS = {
    "time_s": ("s", "virtual time"),
    "device": ("", "its id"),
    "x": ("m", "place"),
    "y": ("m", "the same"),
    "z": ("m", "height"),
}

COLUMNS: dict[str, dict[str, tuple[str, str]]] = {
    "metrics": _METRICS,
    "devices": _DEVICES,
    "devices, with energy": _ENERGY,
    "devices, with sleep": _RHYTHM,
    "links": _LINKS,
    "trace": _TRACE,
    "trace, with radios": _SIGNAL,
    "trace, with channels": _CHANNEL,
    "trace, with relays": _WAY,
    "trace, with payloads": _PAYLOAD,
    "mixes": _MIXES,
    "positions": _POSITIONS,
}
"""Table, and when it has them -> column -> unit and meaning. A name with a star stands for several."""
