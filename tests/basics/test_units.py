"""Quantities: number and unit in, exact SI number out, and the same number back from the text."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from p2pl_async.basics.units import (
    Amperes,
    BitsPerSecond,
    Bytes,
    DecibelMilliwatts,
    Decibels,
    Hertz,
    Joules,
    Meters,
    MetersPerSecond,
    PositiveBytes,
    PositiveJoules,
    PositiveMeters,
    PositiveMetersPerSecond,
    PositiveSeconds,
    Probability,
    Radians,
    Seconds,
    SpreadDecibels,
    Volts,
    Watts,
    show_bytes,
    show_seconds,
)

SECONDS: TypeAdapter[Any] = TypeAdapter(Seconds)
BYTES: TypeAdapter[Any] = TypeAdapter(Bytes)
PROBABILITY: TypeAdapter[Any] = TypeAdapter(Probability)


def text_of(kind: Any, value: object) -> str:
    """Return the message of the one error that `value` gives."""
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(kind).validate_python(value)
    (detail,) = caught.value.errors()
    return detail["msg"]


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Seconds, "20 ms", 0.02),
        (Seconds, "20ms", 0.02),
        (Seconds, " 1.5 min ", 90.0),
        (Seconds, "3 us", 3e-6),
        (Seconds, "3 µs", 3e-6),
        (Seconds, "1_000 ns", 1e-6),
        (Seconds, "2 h", 7200.0),
        (Seconds, "1 d", 86400.0),
        (Seconds, "0 s", 0.0),
        (Seconds, "1e-3 s", 0.001),
        (BitsPerSecond, "250 kbit/s", 250_000.0),
        (BitsPerSecond, "2 Mbps", 2e6),
        (Bytes, "64 KiB", 65_536),
        (Bytes, "1.005 MB", 1_005_000),
        (Meters, "1.2 km", 1200.0),
        (MetersPerSecond, "36 km/h", 10.0),
        (MetersPerSecond, "1 km/h", 5 / 18),
        (Hertz, "2.405 GHz", 2_405_000_000.0),
        (Hertz, "125 kHz", 125_000.0),
        (Decibels, "-3.5 dB", -3.5),
        (Decibels, "2 dBi", 2.0),
        (SpreadDecibels, "4 dB", 4.0),
        (DecibelMilliwatts, "-95 dBm", -95.0),
        (Radians, "180 deg", math.pi),
        (Radians, "2 rad", 2.0),
        (Volts, "3300 mV", 3.3),
        (Amperes, "17.4 mA", 0.0174),
        (Amperes, "1.5 uA", 1.5e-6),
        (Amperes, "0 A", 0.0),
        (Joules, "105 mJ", 0.105),
        (Joules, "2 Wh", 7200.0),
        (Joules, "1 mWh", 3.6),
        (Watts, "13 mW", 0.013),
        (Probability, "5 %", 0.05),
        (Probability, "0.1 %", 0.001),
        (Probability, "100 %", 1.0),
        (Probability, 0.25, 0.25),
        (Probability, 1, 1.0),
    ],
)
def test_a_quantity_is_the_number_nearest_to_what_is_written(kind: Any, text: object, value: float) -> None:
    assert TypeAdapter(kind).validate_python(text) == value


@pytest.mark.parametrize(
    ("kind", "value", "says"),
    [
        (Seconds, 5, 'needs its unit; write "5 s"'),
        (Seconds, "5", "has no unit"),
        (Seconds, "5 parsec", 'unknown unit "parsec"'),
        (Seconds, "5 MS", 'write "5 ms"'),
        (Seconds, "soon", "must be a number and a unit"),
        (Seconds, "٣ s", "must be a number and a unit"),
        (Seconds, True, "must be a quantity"),
        (Seconds, [1], "must be a quantity"),
        (Seconds, "-1 s", "must be at least 0 s"),
        (Seconds, "1e400 s", "must be a finite quantity"),
        (Seconds, "1e308 d", "must be a finite quantity"),
        (Seconds, "nan s", "must be a number and a unit"),
        (PositiveSeconds, "0 s", "must be above 0 s"),
        (BitsPerSecond, "0 bit/s", "must be above 0 bit/s"),
        (Bytes, "1.5 B", "must be a whole number of B"),
        (PositiveBytes, "0.4 B", "must be a whole number of B"),
        (PositiveBytes, "0 B", "must be above 0 B"),
        (PositiveMeters, "0 m", "must be above 0 m"),
        (PositiveMetersPerSecond, "0 m/s", "must be above 0 m/s"),
        (Hertz, "0 Hz", "must be above 0 Hz"),
        (Hertz, "2.4 Ghz", 'write "2.4 GHz"'),
        (Decibels, "3 dBm", 'unknown unit "dBm"'),
        (SpreadDecibels, "-1 dB", "must be at least 0 dB"),
        (DecibelMilliwatts, "-95 dB", 'unknown unit "dB"'),
        (DecibelMilliwatts, -95, 'write "-95 dBm"'),
        (Volts, "0 V", "must be above 0 V"),
        (Amperes, "-1 mA", "must be at least 0 A"),
        (PositiveJoules, "0 J", "must be above 0 J"),
        (Watts, "1 J", 'unknown unit "J"'),
        (Probability, 1.5, 'for 1.5 percent write "1.5 %"'),
        (Probability, -0.1, "must be a probability between 0 and 1"),
        (Probability, "120 %", 'from "0 %" to "100 %"'),
        (Probability, "0.5", "has no unit"),
        (Probability, True, "must be a quantity"),
    ],
)
def test_a_wrong_quantity_says_what_to_write(kind: Any, value: object, says: str) -> None:
    assert says in text_of(kind, value)


@given(st.floats(0, 1e15))
def test_seconds_are_written_so_that_they_read_back_exactly(value: float) -> None:
    text = SECONDS.dump_python(value)
    assert SECONDS.validate_python(text) == value
    assert re.search(SECONDS.json_schema()["pattern"], text)


@given(st.floats(-1e15, 1e15))
def test_levels_below_zero_are_written_so_that_they_read_back_exactly(value: float) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(DecibelMilliwatts)
    assert adapter.validate_python(adapter.dump_python(value)) == value


@given(st.integers(0, 2**60))
def test_bytes_are_written_so_that_they_read_back_exactly(value: int) -> None:
    assert BYTES.validate_python(BYTES.dump_python(value)) in (value, int(float(value)))


@given(st.floats(0, 1))
def test_probabilities_are_written_so_that_they_read_back_exactly(value: float) -> None:
    assert PROBABILITY.validate_python(json.loads(PROBABILITY.dump_json(value))) == value


@given(st.integers(0, 10**6), st.sampled_from([("ms", 1000), ("us", 10**6), ("ns", 10**9)]))
def test_small_units_give_the_correctly_rounded_quotient(number: int, unit: tuple[str, int]) -> None:
    assert SECONDS.validate_python(f"{number} {unit[0]}") == number / unit[1]


@given(st.one_of(st.text(), st.floats(), st.integers(), st.booleans(), st.none(), st.lists(st.integers())))
def test_nothing_but_a_validation_error_comes_of_any_value(value: object) -> None:
    for adapter in (SECONDS, BYTES, PROBABILITY):
        try:
            number = adapter.validate_python(value)
        except ValidationError:
            continue
        assert number >= 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.0123, "12.3 ms"),
        (4e-6, "4 µs"),
        (59.99, "60 s"),
        (999.9, "16.7 min"),
        (7200, "2 h"),
        (4e6, "1,111 h"),
    ],
)
def test_times_for_people(seconds: float, text: str) -> None:
    assert show_seconds(seconds) == text


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (797_000, "797 kB"), (999_999, "1,000 kB"), (1.2e9, "1.2 GB")])
def test_sizes_for_people(size: float, text: str) -> None:
    assert show_bytes(size) == text


def test_greek_mu_is_the_sign_of_micro() -> None:
    from p2pl_async.basics.units import TIME, parse

    assert parse("3 \u03bcs", TIME, "20 ms") == parse("3 \u00b5s", TIME, "20 ms") == 3e-6
