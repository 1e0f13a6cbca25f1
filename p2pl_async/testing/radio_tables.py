"""Strategies for the tables `[medium]`, `[radio]` and `[mobility]`."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from p2pl_async.testing.draws import Tables, seconds_of, some_of, table_of


def media(radio: bool, acknowledged: bool) -> Tables:
    """Media with devices that share the air, where there are radios, and for links whose packets are acknowledged."""
    each: dict[str, Any] = {
        "broadcast": st.sampled_from(["once", "one-by-one"]),
        "queue": table_of(messages=st.integers(1, 10), drop=st.sampled_from(["tail", "head"])),
        "ack": table_of(size=st.just("11 B"), airtime=seconds_of(0.001, 0.002), delay=seconds_of(0, 0.001)),
        "spacing": seconds_of(0, 0.005),
        "duty_cycle": st.one_of(
            table_of(share=st.sampled_from(["10 %", "1 %", "50 %"]), mode=st.just("per-frame")),
            table_of(share=st.sampled_from(["10 %", "20 %"]), window=st.just("60 s")),
        ),
        "airtime": st.one_of(table_of("serial", preamble=seconds_of(0.001, 0.01)), table_of("ofdm"), table_of("lora")),
    }
    sensed = dict(each)
    hops = table_of(count=st.just(4), own=st.just("by-id"), hopping=table_of(dwell=seconds_of(0.01, 0.5)))
    contended = {**each, "channels": st.one_of(table_of(count=st.integers(1, 4), own=st.just("random")), hops)}
    watched = {**each, "channels": table_of(count=st.integers(1, 4), own=st.sampled_from(["same", "by-id"]))}
    if radio:
        sensed["sense"] = contended["sense"] = watched["sense"] = st.sampled_from(["-85 dBm", "-95 dBm"])
        contended["collision"] = watched["collision"] = st.sampled_from(["overlap", "capture", "sinr"])
    advertising = some_of(
        "ble-advertising", queue=each["queue"], interval=seconds_of(0.02, 0.2), events=st.integers(1, 3),
        window=seconds_of(0.01, 0.1), scan_interval=seconds_of(0.1, 0.3), channels=st.integers(1, 3),
    )  # fmt: skip
    return st.one_of(
        *([] if acknowledged else [advertising]),
        some_of(
            "ble-connections",
            queue=each["queue"],
            interval=st.sampled_from(["7.5 ms", "30 ms", "100 ms"]),
            latency=st.integers(0, 3),
            supervision=seconds_of(0.5, 5),
            channels=st.integers(1, 37),
        ),
        some_of("half-duplex", **each),
        some_of("ideal", **sensed),
        some_of("csma-ca", **contended, max_backoffs=st.integers(0, 5)),
        some_of("dcf", **watched),
        some_of("aloha", **contended, slot=seconds_of(0.01, 0.1), backoff=seconds_of(0.01, 1)),
    )


def radios() -> Tables:
    return some_of(
        always={"area": st.sampled_from(["50 m", "200 m"])},
        phy=st.sampled_from(["802.15.4", "ble", "lora", "wifi"]),
        power=st.sampled_from(["-10 dBm", "0 dBm", "14 dBm"]),
        path_loss=st.one_of(table_of("free-space"), table_of("log-distance")),
        shadowing=st.one_of(st.just("none"), table_of(sd=st.just("6 dB"), correlated=st.booleans())),
        fading=st.one_of(table_of("rayleigh"), table_of("rayleigh", speed=st.just("2 m/s"))),
        asymmetry=table_of(tx=st.just("2 dB"), rx=st.just("2 dB")),
    )


def mobilities() -> Tables:
    speeds = st.just(["1 m/s", "20 m/s"])
    return st.one_of(
        some_of("random-waypoint", always={"speed": speeds}, pause=seconds_of(0, 3), update=seconds_of(0.2, 2)),
        some_of("random-walk", always={"speed": speeds}, stretch=seconds_of(0.5, 5)),
        table_of("gauss-markov", speed=st.just("5 m/s"), speed_sd=st.just("2 m/s")),
    )
