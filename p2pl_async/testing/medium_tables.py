"""Strategies for `[medium]` tables: every kind of medium, with each of its settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from p2pl_async.testing.draws import Table, Tables, seconds_of, some_of, table_of
from p2pl_async.testing.radio_tables import POWERS

_MILLISECOND = seconds_of(0.001, 0.001)
_QUEUES = st.one_of(
    some_of(always={"messages": st.integers(1, 10)}, drop=st.sampled_from(["tail", "head"])),
    table_of(lifetime=seconds_of(0.01, 3)),
)
_ACKS = table_of(size=st.just("11 B"), airtime=seconds_of(0.001, 0.002), delay=seconds_of(0, 0.001))
_EXPONENTS = {"min_exponent": st.integers(0, 3), "max_exponent": st.integers(3, 7)}

_OF_ALL: dict[str, Any] = {
    "queue": _QUEUES,
    "airtime": st.one_of(table_of("serial", preamble=seconds_of(0.001, 0.01)), table_of("ofdm"), table_of("lora")),
    "broadcast_rate": st.sampled_from(["1 Mbit/s", "50 kbit/s"]),
}
_OF_MOST: dict[str, Any] = {
    **_OF_ALL,
    "broadcast": st.sampled_from(["once", "one-by-one"]),
    "ack": _ACKS,
    "spacing": seconds_of(0, 0.005),
    "duty_cycle": st.one_of(
        table_of(share=st.sampled_from(["10 %", "1 %", "50 %"]), mode=st.just("per-frame")),
        table_of(share=st.sampled_from(["10 %", "20 %"]), window=st.just("60 s")),
    ),
}
_OWN = some_of(always={"count": st.integers(1, 4)}, own=st.sampled_from(["same", "by-id", "random"]))
_HOPPING = some_of(
    always={"count": st.just(4), "hopping": some_of(always={"dwell": seconds_of(0.01, 0.5)}, sequence=st.just([2, 0]))},
    own=st.sampled_from(["by-id", "random"]),
)
_CHANNELS = {"channels": st.one_of(_OWN, _HOPPING)}

KINDS: Mapping[str, Mapping[str, Any]] = {
    "half-duplex": _OF_MOST,
    "ideal": _OF_MOST,
    "csma-ca": {
        **_OF_MOST, **_CHANNELS, **_EXPONENTS, "max_backoffs": st.integers(0, 5), "slot": _MILLISECOND,
        "cca_time": _MILLISECOND, "turnaround": seconds_of(0, 0.001),
    },
    "dcf": {
        **_OF_MOST, "channels": _OWN, "slot": _MILLISECOND, "difs": _MILLISECOND, "eifs": seconds_of(0.001, 0.005),
        "aggregate": some_of(always={"frames": st.integers(2, 64)}, longest=seconds_of(0.005, 0.1)),
        "rts": some_of(over=st.sampled_from(["0 B", "200 B"])), "min_window": st.integers(0, 15),
        "max_window": st.integers(15, 1023),
    },
    "aloha": {**_OF_MOST, **_CHANNELS, "slot": seconds_of(0.01, 0.1), "backoff": seconds_of(0.01, 1)},
    "tdma": {**_OF_MOST, **_CHANNELS, "slots": st.integers(1, 6)},
    "tsch": {
        "queue": _QUEUES, "ack": st.one_of(st.just("none"), _ACKS), "slotframe": st.integers(1, 9), **_EXPONENTS,
        "cells": st.sampled_from(["minimal", "sender-based", "receiver-based"]), "tx_offset": seconds_of(0, 0.003),
        "rx_wait": seconds_of(0, 0.003), "sequence": st.just([2, 0, 1]), "broadcast": _OF_MOST["broadcast"],
        "channels": st.one_of(st.just("one"), some_of(always={"count": st.integers(3, 16)}, own=st.just("by-id"))),
    },
    "nr-mode2": {
        "queue": _QUEUES, "broadcast": _OF_MOST["broadcast"], "channels": st.integers(1, 5),
        "window": seconds_of(0.01, 0.015), "reservations": st.integers(1, 3), "keep": st.sampled_from(["40 %", "80 %"]),
        "counter": st.sampled_from([[1, 1], [2, 5]]), "unused": st.integers(1, 9),
        "least_free": st.sampled_from(["5 %", "50 %"]),
    },
    "ble-connections": {
        **_OF_ALL, "interval": st.sampled_from(["7.5 ms", "30 ms", "100 ms"]), "latency": st.integers(0, 3),
        "supervision": seconds_of(0.5, 5), "channels": st.integers(1, 37),
    },
    "ble-advertising": {
        **_OF_ALL, "interval": seconds_of(0.02, 0.2), "events": st.integers(1, 3), "window": seconds_of(0.01, 0.1),
        "scan_interval": seconds_of(0.1, 0.3), "channels": st.integers(1, 3), "spacing": seconds_of(0, 0.005),
    },
}  # fmt: skip
"""Kind of medium -> what it may have."""

_ALWAYS: Mapping[str, Mapping[str, Any]] = {"tdma": {"slot": seconds_of(0.04, 0.1)}, "tsch": {"slot": st.just("50 ms")}}
_UNSENSED = ("half-duplex", "tsch", "ble-connections", "ble-advertising", "nr-mode2")
_DISTURBED = ("csma-ca", "aloha", "tdma", "tsch", "ble-connections", "ble-advertising")
_SLOTTED = ("tdma", "tsch", "nr-mode2")
_SCHEDULED = ("ble-connections", "tsch", "nr-mode2")
_SEVERAL_RATES = ("lora", "wifi", "nr")


@st.composite
def media(draw: st.DrawFn, radio: Table | None, acknowledged: bool) -> Table:
    """Media that devices share: every kind, with some of its settings.

    Args:
        draw: given by Hypothesis.
        radio: what the devices send with, a `[radio]`; None: there is none.
        acknowledged: whether links have an ARQ.
    """
    kinds = [kind for kind in KINDS if not (kind == "ble-advertising" and acknowledged)]
    kind = draw(st.sampled_from(kinds))
    keys = dict(KINDS[kind])
    if radio is not None:
        if kind not in _UNSENSED:
            keys["sense"] = st.sampled_from(["-85 dBm", "-95 dBm"])
        if kind not in ("half-duplex", "ideal"):
            keys["collision"] = st.sampled_from(["overlap", "capture", "sinr"])
        if kind == "nr-mode2":
            keys["threshold"] = st.sampled_from(["-90 dBm", "-128 dBm"])
    table = draw(some_of(kind, always=_ALWAYS.get(kind, {}), **keys))
    if kind in _SLOTTED and table.get("airtime", {}).get("kind") == "lora":
        del table["airtime"]  # too slow for a slot
    if radio is None:
        return table
    if table.get("collision") == "sinr" and kind in _DISTURBED and draw(st.booleans()):
        table["interferer"] = draw(st.lists(_interferers(), min_size=1, max_size=2))
    phy = _kind_of_phy(radio)
    if phy in _SEVERAL_RATES and not (phy == "lora" and kind in _SLOTTED) and draw(st.booleans()):
        table["rates"] = draw(_rates())
        if phy == "lora":
            table["airtime"] = {"kind": "lora"}
        elif table.get("airtime", {}).get("kind") == "lora":
            del table["airtime"]
    return table


def fitted(link: Table, medium: Table) -> Table:
    """Return a `[link]` whose frames fit the slots of a medium, without what the medium can't follow."""
    kind, link = medium["kind"], dict(link)
    if kind in _SLOTTED or "rates" in medium:
        link |= {"mtu": "100 B", "rate": "10 Mbit/s" if kind == "nr-mode2" else "250 kbit/s"}
    if "rates" in medium:
        del link["rate"]
    if "arq" in link:
        unheard = ["backoff", "growth"] if kind in _SCHEDULED else []
        if kind in _SCHEDULED or "ack" in medium:
            unheard.append("turnaround")
        link["arq"] = {key: value for key, value in link["arq"].items() if key not in unheard}
    return link


@st.composite
def tuned(draw: st.DrawFn, radio: Table, medium: Table) -> Table:
    """Return a `[radio]` whose channels may fade apart, where a medium has several."""
    fading, kind = radio.get("fading"), medium["kind"]
    several = medium.get("channels", "one" if kind in ("csma-ca", "dcf", "aloha", "tdma") else 1) != "one"
    if fading is None or not several or kind in ("half-duplex", "ideal") or not draw(st.booleans()):
        return radio
    return {**radio, "fading": {**fading, "coherent_channels": draw(st.integers(1, 2))}}


def _kind_of_phy(radio: Table) -> str:
    phy = radio.get("phy", "802.15.4")
    return str(phy if isinstance(phy, str) else phy["kind"])


def _rates() -> Tables:
    return st.one_of(
        some_of("ideal", most_loss=st.sampled_from(["1 %", "50 %"]), margin=st.just("10 dB")),
        some_of("minstrel", sample=st.sampled_from(["0 %", "50 %"]), every=seconds_of(0.05, 1)),
    )


def _interferers() -> Tables:
    stays = seconds_of(0.001, 0.5)
    return table_of(
        position=st.just(["10 m", "10 m"]),
        power=POWERS,
        activity=table_of("bursts", on=stays, off=st.one_of(stays, table_of("constant", mean=stays))),
    )
