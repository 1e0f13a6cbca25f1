"""Strategies for the tables `[radio]` and `[mobility]`."""

from __future__ import annotations

from hypothesis import strategies as st

from p2pl_async.testing.draws import Tables, seconds_of, some_of, table_of

POWERS = st.sampled_from(["-10 dBm", "0 dBm", "14 dBm"])


def radios(*, places: bool = True) -> Tables:
    """Radios; those of an `[air.NAME]` have no `places` of their own."""
    return some_of(
        always={"area": st.sampled_from(["50 m", "200 m"])} if places else {},
        phy=st.one_of(
            st.sampled_from(["802.15.4", "ble", "lora", "wifi", "nr"]),
            table_of("threshold", snr=st.just("10 dB")),
            table_of("ble", rate=st.sampled_from(["1m", "2m", "coded"])),
            table_of("lora", sf=st.integers(7, 12)),
        ),
        power=POWERS,
        antenna_gain=st.just("3 dB"),
        noise_figure=st.just("9 dB"),
        path_loss=st.one_of(table_of("free-space"), table_of("log-distance")),
        shadowing=st.one_of(st.just("none"), table_of(sd=st.just("6 dB"), correlated=st.booleans())),
        fading=st.one_of(
            some_of("rayleigh", speed=st.just("2 m/s")),
            some_of("rician", coherence=seconds_of(0.01, 1), k=st.just("3 dB")),
            some_of("nakagami", coherence=seconds_of(0.01, 1), m=st.sampled_from([0.5, 3.0])),
        ),
        asymmetry=table_of(tx=st.just("2 dB"), rx=st.just("2 dB")),
    )


def mobilities() -> Tables:
    speeds = st.just(["1 m/s", "20 m/s"])
    return st.one_of(
        some_of("random-waypoint", always={"speed": speeds}, pause=seconds_of(0, 3), update=seconds_of(0.2, 2)),
        some_of("random-walk", always={"speed": speeds}, stretch=seconds_of(0.5, 5)),
        table_of("gauss-markov", speed=st.just("5 m/s"), speed_sd=st.just("2 m/s")),
    )
