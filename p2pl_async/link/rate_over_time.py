"""A rate that changes during a run, as a scenario gives it: a schedule, a recorded column, a Mahimahi trace.

    rate   ____                    A frame of b bits that starts at t0 ends at the least t1
               |_____      ____    with  integral from t0 to t1 of rate = b,  whatever steps
                     |____|        lie between.

A Mahimahi trace is a list of opportunities, at each of which 1500 bytes may leave. Here these
bytes leave within 10 µs, so that it is a rate like any other: what a frame leaves of an
opportunity serves the next one if that already waits, and unused bytes are lost.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, TypeAdapter, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from p2pl_async.basics.arrays import Floats
from p2pl_async.basics.randomness import stream
from p2pl_async.basics.settings import OneOf, Settings, line, mistake, mistakes, word
from p2pl_async.basics.timeline import Steps, Stretch
from p2pl_async.basics.tracefiles import TraceError, read_mahimahi
from p2pl_async.basics.units import RATE, BitsPerSecond, Seconds, parse
from p2pl_async.link.over_time import Recorded, Schedule

OPPORTUNITY_BITS = 8 * 1500  # what may leave at each line of a Mahimahi trace
_OPPORTUNITY_S = 1e-5  # within which it does


class StepRate:
    """A rate that is a step function of time; serves as the `RateProfile` of any number of links.

    Args:
        times: when steps begin, ascending, the first 0; shape (n,).
        rates: bits per second from then on, at least 0 and somewhere above; shape (n,).
        period: after which it begins again; None: the last rate, above 0, holds from its instant on.
        first: the instant at which all this begins; before it nothing is sent.
    """

    def __init__(self, times: Floats, rates: Floats, period: float | None, *, first: float = 0.0) -> None:
        widths = np.diff(times) if period is None else np.diff(times, append=period)
        self._times = times
        self._rates = rates
        self.period = period
        self._first = first
        self._steps = Steps(times, [1 / rate if rate else math.inf for rate in rates.tolist()], period)
        self._until = np.append(times[1:], math.inf if period is None else period)  # when each step ends
        self._bits = np.concatenate(([0.0], np.cumsum(rates[: len(widths)] * widths)))  # sent when each step begins
        self._keep_lists()

    def _keep_lists(self) -> None:
        self._times_list: list[float] = self._times.tolist()
        self._until_list: list[float] = self._until.tolist()
        self._rates_list: list[float] = self._rates.tolist()
        self._bits_list: list[float] = self._bits.tolist()
        self._total = self._bits_list[-1]  # in one period, where there is one
        # What rounding may add to a frame that exactly fills a step, and must not move beyond a pause after it.
        self._slack = 1e-6 + 1e-15 * self._total

    def begun(self, at: float) -> Self:
        """Return the same rate, of which all happens so many seconds later, or earlier if negative."""
        made = copy(self)  # shares the arrays, which are long
        made._first = self._first + at
        return made

    def end(self, start: float, bits: float) -> float:
        """Return the instant at which a frame of so many bits ends that starts at `start`."""
        if bits <= 0:
            return start
        begin, wanted = self._place(start)
        wanted += bits
        slack = min(self._slack, bits / 2)
        if self.period is not None:
            # The least instant lies in the period in which the last bit is sent, not in a pause after it.
            periods = math.ceil((wanted - slack) / self._total) - 1
            wanted, begin = wanted - periods * self._total, begin + periods * self.period
        index = bisect_left(self._bits_list, wanted - slack) - 1
        end = self._times_list[index] + (wanted - self._bits_list[index]) / self._rates_list[index]
        return max(begin + min(end, self._until_list[index]), start)

    def ends(self, start: float, bits: Floats) -> Floats:
        """Return when frames of so many bits would end that all start at `start`.

        Of frames sent one right after another, give the sums from the first on.

        Args:
            start: the instant.
            bits: of each frame, above 0, ascending; shape (n,).

        Returns:
            Instants, shape (n,).
        """
        first, sent = self._place(start)
        wanted, begin = sent + bits, np.full(bits.shape, first)
        slack = np.minimum(self._slack, bits / 2)
        if self.period is not None:
            periods = np.ceil((wanted - slack) / self._total) - 1
            wanted, begin = wanted - periods * self._total, begin + periods * self.period
        index = np.searchsorted(self._bits, wanted - slack, side="left") - 1
        in_step = self._times[index] + (wanted - self._bits[index]) / self._rates[index]
        ends: Floats = np.maximum(begin + np.minimum(in_step, self._until[index]), start)
        return ends

    def at(self, now: float) -> Stretch[float]:
        """Return the seconds per bit that hold at an instant (math.inf: nothing is sent), and until when."""
        if now < self._first:
            return Stretch(math.inf, self._first)
        seconds_per_bit, until = self._steps.at(now - self._first)
        return Stretch(seconds_per_bit, max(until + self._first, now))

    def _place(self, at: float) -> tuple[float, float]:
        """Return when the period around the instant `at` began, and the bits that could be sent in it until then."""
        since, begin = max(at - self._first, 0.0), self._first
        if self.period is not None:
            periods, since = divmod(since, self.period)
            begin += periods * self.period
        index = bisect_right(self._times_list, since) - 1
        return begin, self._bits_list[index] + self._rates_list[index] * (since - self._times_list[index])


class Opportunities(StepRate):
    """Chances to send 1500 bytes each, at given instants.

    Args:
        times: instants in seconds, ascending, several may be equal; shape (n,).
        period: after which they come again.
    """

    def __init__(self, times: Floats, period: float) -> None:
        # Periods begin just after an opportunity, so that none lies across the end of one.
        past = 2 * _OPPORTUNITY_S
        instants, counts = np.unique(np.mod(times - past, period), return_counts=True)
        begins = np.column_stack((instants, instants + _OPPORTUNITY_S)).ravel()
        rates = np.column_stack((counts * (OPPORTUNITY_BITS / _OPPORTUNITY_S), np.zeros(len(counts)))).ravel()
        super().__init__(np.concatenate(([0.0], begins)), np.concatenate(([0.0], rates)), period, first=past)
        self._bits = np.round(self._bits)
        self._keep_lists()

    def _place(self, at: float) -> tuple[float, float]:
        begin, sent = super()._place(at)
        return begin, round(sent)  # opportunities have whole bits; rounding must not add a part of one


class _Started(Settings):
    """Base of rates that need not begin at their beginning."""

    start: Annotated[Seconds | None, *word("random")] = Field(
        default=0.0, description='where in it the run begins; "random": each link at a place of its own'
    )

    def first(self, period: float | None, owner: tuple[int, int, int]) -> float:
        """Return the instant at which it began, 0 or before.

        Args:
            period: after which it begins again.
            owner: seed, source and destination of the link.
        """
        if self.start is not None:
            return -self.start
        assert period is not None
        seed, src, dst = owner
        return -period * float(stream(seed, "rate", src, dst).random())


class Mahimahi(_Started):
    """A Mahimahi trace: 1500 bytes may leave at each line's millisecond; it repeats after the last."""

    kind: Literal["mahimahi"] = "mahimahi"
    path: Path = Field(description="the trace, one whole number of milliseconds per line")

    @model_validator(mode="after")
    def _check(self) -> Mahimahi:
        try:
            read_mahimahi(self.path)
        except TraceError as error:
            raise mistake(str(error)) from error
        return self

    def profile(self, seed: int, src: int, dst: int) -> Opportunities:
        """Return the transmitter of one link."""
        return self.opportunities.begun(self.first(self.opportunities.period, (seed, src, dst)))

    @cached_property
    def opportunities(self) -> Opportunities:
        """What the trace allows, from its beginning on."""
        times = read_mahimahi(self.path) / 1000.0
        return Opportunities(times, float(times[-1]))

    @property
    def mean_bps(self) -> float:
        """The rate that it allows on average."""
        times = read_mahimahi(self.path)
        return len(times) * OPPORTUNITY_BITS / (float(times[-1]) / 1000)


class _Stepwise(_Started):
    """What a schedule and a trace of rates have in common."""

    def profile(self, seed: int, src: int, dst: int) -> StepRate:
        """Return the transmitter of one link."""
        return self.steps_of_rate.begun(self.first(self.steps_of_rate.period, (seed, src, dst)))

    @cached_property
    def steps_of_rate(self) -> StepRate:
        """The rate from its beginning on."""
        return StepRate(*self._rates())

    @property
    def mean_bps(self) -> float:
        """The rate that it allows on average; the last one if it never begins again."""
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
            raise mistake('the last rate holds to the end and must be above 0; end = "loop" begins again instead')
        if period is None and self.start is None:
            raise mistake('start="random" needs a rate that begins again; add end = "loop"')
        return self


class RateSchedule(_Stepwise, Schedule):
    """Given rates, each from a given instant on."""

    def _rates(self) -> tuple[Floats, Floats, float | None]:
        given = self.steps()
        rates = []
        for i, value in enumerate(given.values):
            try:
                rates.append(parse(value, RATE, "250 kbit/s"))
            except PydanticCustomError as error:
                raise mistakes("rate", [line(["steps", i], error.message(), value)]) from error
        return given.times, np.array(rates), given.period


class RecordedRate(_Stepwise, Recorded):
    """A column of a CSV file, measured at the instants in another column; its first row is at 0 s."""

    def _rates(self) -> tuple[Floats, Floats, float | None]:
        try:
            factor = parse(f"1 {self.unit}", RATE, "1 kbit/s")
        except PydanticCustomError:
            known = ", ".join(RATE)
            raise mistake(f'unit="{self.unit}" must be one of a rate: {known}') from None
        found = self.numbers()
        return found.times, np.array(found.values) * factor, found.period


AnyRate = RateSchedule | RecordedRate | Mahimahi


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
        return {"anyOf": [{"const": "unlimited"}, TypeAdapter(BitsPerSecond).json_schema(), *options[1:]]}


Rate = Annotated[float | AnyRate | None, _Rate("rate", RateSchedule, RecordedRate, Mahimahi)]
"""Bits per second; None: unlimited."""
