"""Quantities with their unit in the text: `"20 ms"`, `"250 kbit/s"`, `"64 KiB"`, `"5 %"`.

A scenario carries the unit in the value; the program holds plain floats and ints in SI
units. Each annotated type below converts a text to a number when a scenario is read, and back to a
text that converts to exactly the same number.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema
from pydantic_core import PydanticCustomError

_DIGITS = r"[0-9]+(?:_[0-9]+)*"
_DECIMAL = rf"[-+]?(?:{_DIGITS}(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_NUMBER = re.compile(rf"\s*({_DECIMAL})\s*(.*?)\s*", re.DOTALL)

TIME = {"s": 1.0, "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "min": 60.0, "h": 3600.0, "d": 86400.0}
RATE = {
    "bit/s": 1.0, "kbit/s": 1e3, "Mbit/s": 1e6, "Gbit/s": 1e9,
    "bps": 1.0, "kbps": 1e3, "Mbps": 1e6, "Gbps": 1e9,
}  # fmt: skip
SIZE = {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 1024.0, "MiB": 1024.0**2, "GiB": 1024.0**3}
SHARE = {"%": 0.01}
DRIFT = {"ppm": 1.0, "ppb": 1e-3}
LENGTH = {"m": 1.0, "km": 1e3}
SPEED = {"m/s": 1.0, "km/h": 1 / 3.6}
FREQUENCY = {"Hz": 1.0, "kHz": 1e3, "MHz": 1e6, "GHz": 1e9}
GAIN = {"dB": 1.0, "dBi": 1.0}  # a ratio of powers; of an antenna, to one that radiates evenly
LEVEL = {"dBm": 1.0}  # a power, in dB above 1 mW
ANGLE = {"rad": 1.0, "deg": math.pi / 180}
VOLTAGE = {"V": 1.0, "mV": 1e-3}
CURRENT = {"A": 1.0, "mA": 1e-3, "uA": 1e-6, "µA": 1e-6, "nA": 1e-9}
ENERGY = {"J": 1.0, "uJ": 1e-6, "µJ": 1e-6, "mJ": 1e-3, "kJ": 1e3, "MJ": 1e6, "mWh": 3.6, "Wh": 3600.0}
CHARGE = {"C": 1.0, "mAh": 3.6, "Ah": 3600.0}
POWER = {"W": 1.0, "uW": 1e-6, "µW": 1e-6, "mW": 1e-3, "kW": 1e3}


def parse(text: object, units: Mapping[str, float], example: str) -> float:
    """Return the number in `text`, in the unit whose factor is 1.

    Args:
        text: number and unit, such as `"20 ms"`.
        units: unit -> factor.
        example: a correct text, for the error.

    Raises:
        PydanticCustomError: if the number, or its unit, is missing or unknown.
    """
    known = ", ".join(units)
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        raise PydanticCustomError("quantity", 'must be a quantity such as "{example}"', {"example": example})
    if not isinstance(text, str):
        usual = dict.fromkeys(
            (next(iter(units)), example.rpartition(" ")[2])
        )  # of 10, seconds are meant, or milliseconds
        options = " or ".join(f'"{text} {unit}"' for unit in usual)
        raise PydanticCustomError(
            "quantity", "needs its unit; write {options}  known units: {known}", {"options": options, "known": known}
        )
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise PydanticCustomError("quantity", 'must be a number and a unit, such as "{example}"', {"example": example})
    number, unit = match[1], match[2].replace("\u03bc", "\u00b5")  # Greek mu looks like the sign of micro
    if unit not in units:
        if decimals := re.match(r",\s*([0-9]+)\s*(.*)", unit):
            raise PydanticCustomError(
                "quantity", 'has a decimal comma; write a point, "{number}"',
                {"number": f"{number}.{decimals[1]} {decimals[2]}".rstrip()},
            )  # fmt: skip
        hint, bytes_ = _meant(unit, units), re.fullmatch("([kMG]?)B(/s|ps)", unit)
        text = f'write "{number} {hint}"' if hint else f'write it like "{example}"'
        if bytes_ and units is RATE:
            text = f'write it in bits, "{8 * float(number):g} {bytes_[1]}bit/s"'
        raise PydanticCustomError(
            "quantity", "{unit}; {text}  known units: {known}",
            {"unit": f'unknown unit "{unit}"' if unit else "has no unit", "text": text, "known": known},
        )  # fmt: skip
    rough = float(number.replace("_", ""))
    if rough == 0:
        return 0.0
    if math.isfinite(rough):
        rough = _exact(number, units[unit]) if abs(rough) < 1e300 else math.inf
    if not math.isfinite(rough):
        raise PydanticCustomError("quantity", "must be a finite quantity", {})
    return rough


@functools.lru_cache(maxsize=10_000)  # variants of a scenario have most of their texts in common
def _exact(number: str, factor: float) -> float:
    """Return the product, exact up to one rounding: "20 ms" == 0.02, and "1.005 MB" is a whole number of bytes."""
    ratio = Fraction(factor).limit_denominator(10**12)  # the one meant: 1/1000, not the float nearest to it
    return float(Fraction(number) * ratio)


def _meant(unit: str, units: Mapping[str, float]) -> str | None:
    """Return the known unit that an unknown one stands for: "hours", "sec", "Mb/s"; None if that isn't clear."""
    for known in units:
        if known.lower() == unit.lower():
            return known
    word = unit.lower().removesuffix("s")
    if word in _WORDS and _WORDS[word] in units:
        return _WORDS[word]
    bits = unit.replace("b/s", "bit/s")  # but "MB/s" are bytes
    return bits if bits in units else None


_WORDS = {
    "sec": "s", "second": "s", "minute": "min", "min": "min", "hour": "h", "hr": "h", "day": "d",
    "msec": "ms", "millisecond": "ms", "usec": "us", "microsecond": "us", "byte": "B", "meter": "m", "metre": "m",
    "percent": "%", "joule": "J", "volt": "V", "watt": "W",
}  # fmt: skip


def _quantity(
    units: Mapping[str, float],
    example: str,
    *,
    least: float = 0.0,
    above: bool = False,
    whole: bool = False,
    also: Mapping[str, float] = {},
) -> Any:
    """Return the pydantic metadata of one kind of quantity: reading, writing, JSON Schema.

    `also`: units of another kind, which the table converts before the quantity is read.
    """
    unit = next(iter(units))

    def read(value: object) -> float | int:
        bare = isinstance(value, int | float) and not isinstance(value, bool)
        # A bare number that no unit would make right isn't told to take one.
        number = float(value) if bare and value <= least else parse(value, units, example)  # type: ignore[operator, arg-type]
        if number < least or (above and number == least):
            raise PydanticCustomError(
                "quantity", "must be {bound} {least} {unit}{example}",
                {
                    "bound": "above" if above else "at least", "least": f"{least:g}", "unit": unit,
                    "example": f', such as "{example}"' if bare else "",
                },
            )  # fmt: skip
        if bare:
            parse(value, units, example)
        if whole and not number.is_integer():
            raise PydanticCustomError("quantity", "must be a whole number of {unit}", {"unit": unit})
        return int(number) if whole else number

    def write(number: float) -> str:
        text = repr(number) if isinstance(number, int) else repr(float(number)).removesuffix(".0")
        return f"{text} {unit}"

    pattern = rf"^\s*{_DECIMAL}\s*({'|'.join([*units, *also])})\s*$"  # no unit needs escaping in a pattern
    schema = {"type": "string", "pattern": pattern, "examples": [example]}
    return (
        BeforeValidator(read),
        PlainSerializer(write, return_type=str),
        WithJsonSchema(schema),
    )


def _read_probability(value: object) -> float:
    """Return a probability from `"5 %"` or a bare number between 0 and 1."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value)
        if not 0 <= number <= 1:
            meant = f'; for {number:g} percent write "{number:g} %"' if 1 < number <= 100 else ""
            raise PydanticCustomError("quantity", "must be a probability between 0 and 1{meant}", {"meant": meant})
        return number
    number = parse(value, SHARE, "5 %")
    if not 0 <= number <= 1:
        raise PydanticCustomError("quantity", 'must be a probability from "0 %" to "100 %"', {})
    return number


_PROBABILITY = (
    BeforeValidator(_read_probability),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0, "maximum": 1},
                {"type": "string", "pattern": rf"^\s*{_DECIMAL}\s*%\s*$", "examples": ["5 %"]},
            ]
        }
    ),
)

Seconds = Annotated[float, *_quantity(TIME, "20 ms")]
PositiveSeconds = Annotated[float, *_quantity(TIME, "20 ms", above=True)]
BitsPerSecond = Annotated[float, *_quantity(RATE, "250 kbit/s", above=True)]
Bytes = Annotated[int, *_quantity(SIZE, "64 KiB", whole=True)]
PositiveBytes = Annotated[int, *_quantity(SIZE, "64 KiB", above=True, whole=True)]
Meters = Annotated[float, *_quantity(LENGTH, "20 m")]
Ppm = Annotated[float, *_quantity(DRIFT, "20 ppm", least=-1e5)]
PositivePpm = Annotated[float, *_quantity(DRIFT, "20 ppm", above=True)]
PositiveMeters = Annotated[float, *_quantity(LENGTH, "20 m", above=True)]
MetersPerSecond = Annotated[float, *_quantity(SPEED, "1.5 m/s")]
PositiveMetersPerSecond = Annotated[float, *_quantity(SPEED, "1.5 m/s", above=True)]
Hertz = Annotated[float, *_quantity(FREQUENCY, "2.4 GHz", above=True)]
Decibels = Annotated[float, *_quantity(GAIN, "3 dB", least=-math.inf)]
SpreadDecibels = Annotated[float, *_quantity(GAIN, "4 dB")]  # a standard deviation, or a distance
DecibelMilliwatts = Annotated[float, *_quantity(LEVEL, "-95 dBm", least=-math.inf)]
Radians = Annotated[float, *_quantity(ANGLE, "30 deg")]
Volts = Annotated[float, *_quantity(VOLTAGE, "3.3 V", above=True)]
Amperes = Annotated[float, *_quantity(CURRENT, "17.4 mA", also=POWER)]  # where a voltage is known
Joules = Annotated[float, *_quantity(ENERGY, "20 kJ")]
PositiveJoules = Annotated[float, *_quantity(ENERGY, "20 kJ", above=True, also=CHARGE)]  # where a voltage is known
Watts = Annotated[float, *_quantity(POWER, "200 mW")]
Probability = Annotated[float, *_PROBABILITY]


def _short(value: float, steps: list[tuple[float, str]]) -> str:
    factor, unit = next(((f, u) for f, u in steps if abs(value) >= f), steps[-1])
    number = value / factor
    return f"{number:.3g} {unit}" if abs(number) < 999.5 else f"{number:,.0f} {unit}"


def show_seconds(value: float) -> str:
    """Return a time for people: `"12.3 ms"`, `"4.2 min"`."""
    return _short(value, [(3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms"), (1e-6, "µs")]) if value else "0 s"


def show_rate(value: float) -> str:
    """Return a rate for people: `"1.25 Mbit/s"`."""
    return _short(value, [(1e9, "Gbit/s"), (1e6, "Mbit/s"), (1e3, "kbit/s"), (1, "bit/s")]) if value else "0 bit/s"


def show_joules(value: float) -> str:
    """Return an energy for people: `"12.3 mJ"`, `"4.2 kJ"`."""
    return _short(value, [(1e6, "MJ"), (1e3, "kJ"), (1, "J"), (1e-3, "mJ"), (1e-6, "µJ")]) if value else "0 J"


def show_bytes(value: float) -> str:
    """Return a size for people: `"797 kB"`, `"1.2 GB"`."""
    return _short(value, [(1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B")]) if value else "0 B"
