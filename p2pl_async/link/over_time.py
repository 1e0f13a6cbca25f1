"""Numbers of a scenario that change during a run: a schedule, or a recorded column.

    rate = { kind = "schedule", steps = [["0 s", "1 Mbit/s"], ["1 s", "500 kbit/s"]], end = "loop" }
    p = { kind = "trace", path = "loss.csv", time = "t", column = "loss", unit = "%" }

Both are step functions of virtual time. They are taken out of a table before it is checked: the
settings that a link works with are those of one instant, and loading a scenario checks the
settings of every step. One direction of a link gets its own numbers by a `[[link.override]]`
with `from` and `to`.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import (
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    PlainValidator,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from p2pl_async.basics.settings import OneOf, Settings, line, marker, mistake, mistakes, moved
from p2pl_async.basics.timeline import Steps
from p2pl_async.basics.tracefiles import IRELAND_TIME, TraceError, read_steps
from p2pl_async.basics.units import TIME, Seconds, show_seconds


class OverTime(Settings):
    """Base of numbers that change during a run."""

    def steps(self) -> Steps[Any]:
        """Return the values, as a scenario writes them.

        Raises:
            TraceError: if a file can't be used.
        """
        raise NotImplementedError


def _value(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise mistake('must be a value such as "500 kbit/s"')
    return value


class Schedule(OverTime):
    """Given values, each from a given instant on."""

    kind: Literal["schedule"] = "schedule"
    steps_at: tuple[tuple[Seconds, Annotated[Any, PlainValidator(_value)]], ...] = Field(
        alias="steps", description='[instant, value] pairs, ascending from "0 s"', min_length=1
    )
    end: Literal["hold", "loop"] = Field(
        default="hold",
        description='"loop": begin again after the end; the last value lasts as long as the one before it',
    )

    @model_validator(mode="after")
    def _check(self) -> Schedule:
        times = [time for time, _ in self.steps_at]
        if times[0] != 0:
            raise mistake(f'steps must begin at "0 s", not at {show_seconds(times[0])}')
        for before, after in pairwise(times):
            if after <= before:
                raise mistake(f"steps must ascend, but {show_seconds(after)} follows {show_seconds(before)}")
        if self.end == "loop" and len(times) < 2:
            raise mistake(
                'end="loop" needs at least two steps; repeat the value at the instant where a last one begins'
            )
        return self

    def steps(self) -> Steps[Any]:
        times = np.array([time for time, _ in self.steps_at])
        period = float(2 * times[-1] - times[-2]) if self.end == "loop" else None
        return Steps(times, [value for _, value in self.steps_at], period)


class Recorded(OverTime):
    """A column of a CSV file, measured at the instants in another column; its first row is at 0 s."""

    kind: Literal["trace"] = "trace"
    path: Path = Field(description="the file, with a header line")
    column: str = Field(description="the column that has the values")
    unit: str = Field(default="", description='the unit of its values, such as "kbit/s", "ms" or "%"')
    format: Literal["csv", "5g-ireland"] = Field(
        default="csv", description='"5g-ireland": the time is a date in the column Timestamp, as in that data set'
    )
    time: str | None = Field(default=None, description='the column that has the instants; "t" if not given')
    time_unit: Literal["s", "ms", "us", "µs", "ns", "min", "h"] = Field(
        default="s", description="the unit of its values"
    )
    gaps: Literal["error", "hold", "skip"] = Field(
        default="error", description='where a row has no value: "hold" the one before, or "skip" the row'
    )
    end: Literal["hold", "loop"] = Field(
        default="hold", description='"loop": begin again after the end; the last row lasts as long as the one before it'
    )

    @model_validator(mode="after")
    def _check(self) -> Recorded:
        if self.format != "csv" and (self.time is not None or self.time_unit != "s"):
            raise mistake(f'time and time_unit are known for format="{self.format}"; leave them out')
        return self

    def numbers(self) -> Steps[float]:
        """Return the step function in the units of the file."""
        loop = self.end == "loop"
        if self.format == "csv":
            return read_steps(self.path, self.column, self.time or "t", TIME[self.time_unit], self.gaps, loop)
        return read_steps(self.path, self.column, IRELAND_TIME[0], 1.0, self.gaps, loop, IRELAND_TIME[1])

    def steps(self) -> Steps[Any]:
        found = self.numbers()
        if not self.unit:
            return found
        return Steps(found.times, [f"{value!r} {self.unit}" for value in found.values], found.period)


class _Number(OneOf):
    """Annotates a number that a scenario can also give over time; what it validates is the number of one instant."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return handler(source)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        tables = [cls.model_json_schema() for cls in self.classes.values()]  # `handler` only knows numbers
        for table in tables:
            table["required"] = ["kind", *table.get("required", [])]
        return {"anyOf": [handler(schema), *tables]}


VARIES = _Number("number over time", Schedule, Recorded)
"""Annotates a number of a `Varying` table that can change in time."""


class Varying(Settings):
    """A table whose numbers can change in time; its fields are those of the first instant."""

    _over_time: dict[str, OverTime] = PrivateAttr(default_factory=dict)  # key -> as the scenario gives it
    _versions: tuple[Any, ...] = PrivateAttr(default=())  # the settings that it ever has, each once
    _numbers: Steps[int] | None = PrivateAttr(default=None)  # which of them hold when

    @model_validator(mode="wrap")
    @classmethod
    def _take_numbers_out(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(value, Mapping):
            return handler(value)
        over_time, found = {}, []
        for key, item in value.items():
            kinds = marker(cls.model_fields[key]) if key in cls.model_fields else None
            if isinstance(kinds, _Number) and isinstance(item, Mapping):
                try:
                    over_time[key] = kinds.validate(item)
                except ValidationError as error:
                    found += [moved(detail, [key, *detail["loc"]]) for detail in error.errors()]
        if found:
            raise mistakes(cls.__name__, found)
        if not over_time:
            return handler(value)
        tables = _tables_of(cls, dict(value), over_time)
        versions = []
        for at, table in zip(tables.times.tolist(), tables.values, strict=True):
            try:
                versions.append(cls.model_validate(table))
            except ValidationError as error:
                for detail in error.errors():
                    key = detail["loc"][0] if detail["loc"] else None
                    where = detail["loc"] if key in over_time else [next(iter(over_time))]
                    given = f"at {show_seconds(at)}: " if key is None or key in over_time else ""
                    found.append(line(list(where), f"{given}{detail['msg']}", detail["input"]))
                raise mistakes(cls.__name__, found) from error
        made = handler(tables.values[0])
        distinct: dict[Any, int] = {}
        numbers = [distinct.setdefault(version, len(distinct)) for version in versions]
        made._over_time, made._versions = over_time, tuple(distinct)
        made._numbers = Steps(tables.times, numbers, tables.period)
        return made

    @model_serializer(mode="wrap")
    def _put_numbers_back(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        table: dict[str, Any] = handler(self)
        tables = {key: each.model_dump(mode="json", by_alias=True) for key, each in self._over_time.items()}
        return {**table, **{key: tables[key] for key in table if key in tables}}

    def __eq__(self, other: object) -> bool:
        """Compare also how numbers change: a link goes on with the same process where its settings stay equal."""
        return isinstance(other, Varying) and super().__eq__(other) and self._over_time == other._over_time

    def versions(self) -> tuple[Steps[int], tuple[Self, ...]] | None:
        """Return the number of the settings that hold over time, and the settings; None if they never change."""
        # By `self._numbers` pydantic finds it too, in ten times the time: a third of what a link took to open.
        private = self.__pydantic_private__
        return None if not private or private["_numbers"] is None else (private["_numbers"], private["_versions"])


def _tables_of(cls: type[Settings], table: dict[str, Any], over_time: Mapping[str, OverTime]) -> Steps[dict[str, Any]]:
    """Return the plain tables of the steps of a table with numbers over time."""
    steps = {}
    for key, number in over_time.items():
        try:
            steps[key] = number.steps()
        except TraceError as error:
            raise mistakes(cls.__name__, [line([key], str(error))]) from error
    periods = list(dict.fromkeys(each.period for each in steps.values()))
    if len(periods) > 1:
        shown = ", ".join("none" if period is None else show_seconds(period) for period in periods)
        text = f"all numbers of a table that change in time need one period, not {shown}"
        raise mistakes(cls.__name__, [line([next(iter(steps))], text)])
    instants = np.unique(np.concatenate([each.times for each in steps.values()]))
    tables = [dict(table) for _ in instants]
    for key, each in steps.items():
        for version, index in zip(tables, np.searchsorted(each.times, instants, side="right") - 1, strict=True):
            version[key] = each.values[index]
    return Steps(instants, tables, periods[0])
