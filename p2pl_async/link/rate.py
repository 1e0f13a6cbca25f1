"""The rate of a link: a number, or one that changes in time and is integrated over each frame.

    rate   ____                    A frame of b bits that starts at t0 ends at the least t1
               |_____      ____    with  integral from t0 to t1 of rate = b,  whatever steps
                     |____|        lie between.

A Mahimahi trace is no rate but a list of opportunities, at each of which 1500 bytes may leave.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from p2pl_async.link.varying import Schedule, Trace
from p2pl_async.settings import OneOf, Settings, line, mistake, mistakes
from p2pl_async.tracefiles import TraceError, read_mahimahi
from p2pl_async.units import RATE, BitsPerSecond, parse

Floats = NDArray[np.float64]

OPPORTUNITY_BITS = 8 * 1500  # what may leave at each line of a Mahimahi trace


class RateProfile(Protocol):
    """One link's transmitter where the rate changes in time; instants never decrease from one `send` to the next."""

    def send(self, start: float, bits: float) -> float:
        """Return the instant at which a frame of so many bits ends if it starts at `start`; counts as sending it."""

    def ends(self, start: float, bits: Floats) -> Floats:
        """Return when frames would end that are sent one right after the other, the first at `start`.

        Only looks ahead; `send(start, sum of bits)` then sends them.

        Args:
            start: the instant.
            bits: of each frame, shape (n,).

        Returns:
            Instants, shape (n,).
        """


class StepRate:
    """A `RateProfile` whose rate is a step function.

    Args:
        times: instants at which steps begin, ascending, the first 0; shape (n,).
        rates: bits per second from then on, at least 0 and somewhere above; shape (n,).
        period: after which it begins again; None: the last rate holds for ever, and is above 0.
    """

    __slots__ = ("_bits", "_bits_list", "_period", "_rates", "_rates_list", "_times", "_times_list", "_total")

    def __init__(self, times: Floats, rates: Floats, period: float | None) -> None:
        ends = np.append(times[1:], times[-1] if period is None else period)
        self._times = times
        self._rates = rates
        self._period = period
        self._bits = np.concatenate(([0.0], np.cumsum(rates * (ends - times))[: len(times) - (period is None)]))
        self._total = float(self._bits[-1])  # in one period, where there is one
        self._times_list: list[float] = times.tolist()
        self._rates_list: list[float] = rates.tolist()
        self._bits_list: list[float] = self._bits.tolist()

    def send(self, start: float, bits: float) -> float:
        wanted, before = self._sent(start) + bits, 0.0
        if self._period is not None:
            # The least instant lies in the period in which the last bit is sent, not in what is silent after it.
            periods = -(-wanted // self._total) - 1
            wanted, before = wanted - periods * self._total, periods * self._period
        index = max(bisect_left(self._bits_list, wanted) - 1, 0)
        rate = self._rates_list[index]
        if bits <= 0 or rate <= 0:
            return start
        end = before + self._times_list[index] + (wanted - self._bits_list[index]) / rate
        return end if end > start else start

    def ends(self, start: float, bits: Floats) -> Floats:
        wanted = self._sent(start) + np.cumsum(bits)
        before: Floats = np.zeros(wanted.shape)
        if self._period is not None:
            periods = np.ceil(wanted / self._total) - 1
            wanted, before = wanted - periods * self._total, periods * self._period
        index = np.maximum(np.searchsorted(self._bits, wanted, side="left") - 1, 0)
        rate = self._rates[index]
        rest = np.divide(wanted - self._bits[index], rate, out=np.zeros(rate.shape), where=rate > 0)
        return np.maximum(before + self._times[index] + rest, start)

    def _sent(self, at: float) -> float:
        """Return how many bits could have been sent by the instant `at`."""
        periods = 0.0
        if self._period is not None:
            periods, at = divmod(at, self._period)
        index = bisect_right(self._times_list, at) - 1
        inside = self._bits_list[index] + self._rates_list[index] * (at - self._times_list[index])
        return periods * self._total + inside if self._period is not None else inside


class Opportunities:
    """A `RateProfile` that may send 1500 bytes at given instants.

    What a frame leaves of an opportunity serves the next one if that already waits; an
    opportunity at which nothing waits is lost.

    Args:
        times: instants in seconds, ascending; shape (n,).
        period: after which they come again.
    """

    __slots__ = ("_period", "_times", "_times_list", "_until", "_used")

    def __init__(self, times: Floats, period: float) -> None:
        self._times = times
        self._times_list: list[float] = times.tolist()
        self._period = period
        self._used = 0.0  # bits of all opportunities so far that are used or lost
        self._until = -1.0  # instant at which the last frame ended

    def send(self, start: float, bits: float) -> float:
        self._used = self._begin(start) + bits
        self._until = self._instant(self._used) if bits > 0 else start
        return self._until

    def ends(self, start: float, bits: Floats) -> Floats:
        periods, index = np.divmod(
            np.ceil((self._begin(start) + np.cumsum(bits)) / OPPORTUNITY_BITS) - 1, len(self._times)
        )
        ends: Floats = periods * self._period + self._times[index.astype(np.intp)]
        return ends

    def _begin(self, start: float) -> float:
        """Return the bits used or lost before a frame that starts at `start` gets any."""
        if start == self._until:  # it waited, and goes on with what is left of the opportunity
            return self._used
        periods, inside = divmod(start, self._period)
        missed = int(periods) * len(self._times_list) + bisect_left(self._times_list, inside)
        if inside == 0 and periods and self._times_list[-1] == self._period:  # the last of the period before is now
            missed -= len(self._times_list) - bisect_left(self._times_list, self._period)
        return max(self._used, float(missed * OPPORTUNITY_BITS))

    def _instant(self, used: float) -> float:
        periods, index = divmod(int(-(-used // OPPORTUNITY_BITS)) - 1, len(self._times_list))
        return periods * self._period + self._times_list[index]


class Mahimahi(Settings):
    """A Mahimahi trace: 1500 bytes may leave at each line's millisecond; it repeats for ever."""

    kind: Literal["mahimahi"] = "mahimahi"
    file: Path = Field(description="the trace, one whole number of milliseconds per line")

    @model_validator(mode="after")
    def _check(self) -> Mahimahi:
        try:
            read_mahimahi(self.file)
        except TraceError as error:
            raise mistake(str(error)) from error
        return self

    def profile(self) -> Opportunities:
        """Return the transmitter of one link."""
        times = read_mahimahi(self.file) / 1000.0
        return Opportunities(times, float(times[-1]))

    @property
    def mean_bps(self) -> float:
        """The rate that it allows on average."""
        times = read_mahimahi(self.file)
        return len(times) * OPPORTUNITY_BITS / (float(times[-1]) / 1000)


class _Stepwise(Settings):
    """What a schedule and a trace of rates have in common."""

    def profile(self) -> StepRate:
        """Return the transmitter of one link."""
        return StepRate(*self._rates())

    @property
    def mean_bps(self) -> float:
        """The rate that it allows on average; the one in the end if that holds for ever."""
        times, rates, period = self._rates()
        if period is None:
            return float(rates[-1])
        return float(np.sum(rates * np.diff(times, append=period)) / period)

    def _rates(self) -> tuple[Floats, Floats, float | None]:
        raise NotImplementedError

    @model_validator(mode="after")
    def _check_rates(self) -> _Stepwise:
        try:
            _, rates, period = self._rates()
        except TraceError as error:
            raise mistake(str(error)) from error
        if rates.min() < 0:
            raise mistake(f"the rate must not be negative, but somewhere is {rates.min():g} bit/s")
        if rates.max() == 0 or (period is None and rates[-1] == 0):
            raise mistake('the last rate holds for ever and must be above 0; end = "loop" begins again instead')
        return self


class RateSchedule(Schedule, _Stepwise):
    """Given rates, each from a given instant on."""

    def _rates(self) -> tuple[Floats, Floats, float | None]:
        times, values, period = self.steps()
        rates = []
        for i, value in enumerate(values):
            try:
                rates.append(parse(value, RATE, "250 kbit/s"))
            except PydanticCustomError as error:
                raise mistakes("rate", [line(["steps", i], error.message(), value)]) from error
        return times, np.array(rates), period


class RateTrace(Trace, _Stepwise):
    """A column of a CSV file, measured at the instants in another column; its first row is at 0 s."""

    def _rates(self) -> tuple[Floats, Floats, float | None]:
        try:
            factor = parse(f"1 {self.unit}", RATE, "1 kbit/s")
        except PydanticCustomError:
            known = ", ".join(RATE)
            raise mistake(f'unit="{self.unit}" must be one of a rate: {known}') from None
        times, values, period = self.numbers()
        return times, values * factor, period


AnyRate = RateSchedule | RateTrace | Mahimahi


class _Rate(OneOf):
    """Annotates a rate: a number with its unit, "unlimited" for None, or a table of one that changes in time."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def read(value: Any, number: core_schema.ValidatorFunctionWrapHandler) -> Any:
            if value is None or value == "unlimited":
                return None
            return self.validate(value) if isinstance(value, Mapping | Settings) else number(value)

        def write(value: Any, number: core_schema.SerializerFunctionWrapHandler) -> Any:
            if value is None:
                return "unlimited"
            return value.model_dump(mode="json", by_alias=True) if isinstance(value, Settings) else number(value)

        number = handler.generate_schema(BitsPerSecond)
        serialization = core_schema.wrap_serializer_function_ser_schema(write, schema=number)
        return core_schema.no_info_wrap_validator_function(read, number, serialization=serialization)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        options = OneOf.__get_pydantic_json_schema__(self, schema, handler)["anyOf"]
        return {"anyOf": [{"const": "unlimited"}, handler(schema["schema"]), *options[1:]]}


Rate = Annotated[float | AnyRate | None, _Rate("rate", RateSchedule, RateTrace, Mahimahi)]
"""Bits per second; None: unlimited."""
